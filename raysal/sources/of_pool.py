"""The source of a finished pool, made again from its manifest, and single items read from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from raysal.config import Choice
from raysal.errors import SourceError
from raysal.pool import Pool
from raysal.pool.taken_files import file_names_of
from raysal.sources.base import OfFiles, Source
from raysal.sources.registry import SOURCES
from raysal.sources.spilled import FOLDER, Spilled
from raysal.types import Item, Unit


def source_of(pool: Pool) -> Source:
    """Build the source of a pool again, from its manifest.

    Args:
        pool: the pool.

    Returns:
        The source.

    Raises:
        SourceError: the source was in memory, or the manifest does not say how to build it.
        UnknownName: this raysal has no such source.
        ConfigError: the source takes other fields now.
    """
    record = pool.manifest.source
    if record["name"] == "memory":
        raise SourceError("memory", "the items were in memory and were not kept")
    if record["name"] == Spilled.__name__:
        return Spilled(path=pool.path / FOLDER, **_with_tuples(record["config"]))
    if "config" not in record:
        raise SourceError(pool.path, "its manifest does not say how its source was configured")
    return Choice(name=record["name"], **record["config"]).build("source", SOURCES)


def _with_tuples(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a source, as they were before they were JSON."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}


def read_items(pool: Pool, source: Source, wanted: Mapping[int, str]) -> Iterator[tuple[int, Item]]:
    """Read some items of a pool from its source.

    Where the pool knows which files they came from, and they are there, only these are listed; otherwise the whole
    source is, up to the last of them.

    Args:
        pool: the pool.
        source: its source.
        wanted: the keys of the items, by id.

    Yields:
        (id, item) of each that the source has now, under the key that it has there.
    """
    left = dict(wanted)
    if isinstance(source, OfFiles) and pool.generation:
        by_file: dict[str, dict[str, int]] = {}
        for id, name in file_names_of(pool.path, pool.generation, list(left)).items():
            by_file.setdefault(name, {})[left[id]] = id
        for name, ids in by_file.items():
            for id, item in _of_file(source, name, ids, pool.manifest.chunk_rows):
                if left.pop(id, None) is not None:
                    yield id, item
    ids_by_key = {key: id for id, key in left.items()}
    for unit in source.units(pool.manifest.chunk_rows) if left else ():
        if pool.generation:  # what is where in the listing has changed
            here = {unit.first_id + place: ids_by_key[key] for place, key in enumerate(unit.keys) if key in ids_by_key}
        else:
            here = {id: id for id in left if unit.first_id <= id < unit.first_id + len(unit.keys)}
        if here:
            left = {id: key for id, key in left.items() if id not in here.values()}
            yield from zip((here[id] for id in sorted(here)), source.read(unit, only=frozenset(here)), strict=True)
        if not left:
            return


def _of_file(source: Any, name: str, ids: dict[str, int], chunk_rows: int) -> Iterator[tuple[int, Item]]:
    """Items of one file by key, which another version of the file may have elsewhere, or not at all."""
    for unit in units_of_file(source, name, chunk_rows):
        places = frozenset(unit.first_id + place for place, key in enumerate(unit.keys) if key in ids)
        if places:
            yield from ((ids[item.key], item) for item in source.read(unit, only=places))


def units_of_file(source: Any, name: str, chunk_rows: int) -> Iterator[Unit]:
    """The units of one file of a source; none if it cannot be listed, as it was renamed or is gone."""
    with suppress(SourceError):
        yield from source.units_in([name], chunk_rows)
