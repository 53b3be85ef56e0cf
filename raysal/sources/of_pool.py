"""The source of a finished pool, made again from its manifest, and single items read from it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from raysal.config import Choice
from raysal.errors import SourceError
from raysal.pool import Pool
from raysal.sources.base import Source
from raysal.sources.registry import SOURCES
from raysal.types import Item


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
    if "config" not in record:
        raise SourceError(pool.path, "its manifest does not say how its source was configured")
    return Choice(name=record["name"], **record["config"]).build("source", SOURCES)


def read_items(source: Source, ids: Collection[int], chunk_rows: int) -> Iterator[tuple[int, Item]]:
    """Read some items of a source. Lists the source up to the last of them.

    Args:
        source: where they come from.
        ids: the items wanted.
        chunk_rows: items of a chunk of the pool.

    Yields:
        (id, item) of each id that the source lists, in order of ids.
    """
    left = sorted(ids)
    for unit in source.units(chunk_rows):
        end = unit.first_id + len(unit.keys)
        here = [id for id in left if id < end]
        if here:
            left = left[len(here) :]
            yield from zip(here, source.read(unit, only=frozenset(here)), strict=True)
        if not left:
            return
