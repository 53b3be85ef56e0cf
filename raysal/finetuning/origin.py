"""Where the pictures of a pool are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysal.config import Choice
from raysal.embedding.changes import check_taken_in
from raysal.embedding.origin import check_contents, stamp_of, what_changed
from raysal.embedding.recorded import places_of, source_fields
from raysal.errors import RaysalError, SourceChanged, SourceError
from raysal.pool import Pool
from raysal.pool.layout import read_records
from raysal.sources import SOURCES, detect_source
from raysal.sources.base import Source
from raysal.sources.of_pool import source_of

NAME_IT = "name where the pictures are: --source PATH (Python: source=)"


def pictures_of(pool: Pool, source: Source | None) -> Source:
    """The source of a pool's pictures.

    Args:
        pool: the pool.
        source: where the caller says they are; its items are found by key, whatever its listing. By default the source
            that the pool was made of; it must be what it was.

    Returns:
        The source.

    Raises:
        SourceError: it holds no pictures, or the pool does not say where they are.
        SourceChanged: the pool's own source is not what it was when the pool was made.
    """
    if source is not None:
        return _with_pictures(source)
    recorded = pool.manifest.source
    found = _with_pictures(_built(pool))
    if pool.generation:
        check_taken_in(pool, found, NAME_IT)
        return found
    fingerprint = found.fingerprint()
    if fingerprint != recorded["fingerprint"]:
        raise SourceChanged(pool.path, what_changed(pool.path, pool.manifest, found, fingerprint), NAME_IT)
    records = read_records(pool.path, pool.manifest)
    check_contents(pool.path, pool.manifest, records, found, stamp_of(found), fix=NAME_IT)
    return found


def moved_source(path: str | Path, recorded: Mapping[str, Any]) -> Source:
    """The source at a path, read as the pool's own was if it is of the same kind.

    Args:
        path: where the pictures are now.
        recorded: the source in the pool's manifest.

    Returns:
        The source.

    Raises:
        SourceError: nothing that can be read is there.
    """
    found = detect_source(path)
    name, fields = source_fields(found)
    if name != recorded["name"]:
        return found
    places = {field: fields[field] for field in places_of(found) if field in fields}
    rest = {field: value for field, value in recorded.get("config", {}).items() if field != "also"}
    return Choice(name=name, **{**rest, **places}).build("source", SOURCES)


def _built(pool: Pool) -> Source:
    """The source that a pool's manifest names."""
    try:
        return source_of(pool)
    except RaysalError as error:
        problem = f"the pool was made of {pool.manifest.source['name']}, which cannot be read again ({error})"
        raise SourceError("source", problem, NAME_IT) from None


def _with_pictures(source: Source) -> Source:
    if source.modality != "image":
        raise SourceError("source", f"gives {source.modality}s, and pictures are trained on", NAME_IT)
    return source
