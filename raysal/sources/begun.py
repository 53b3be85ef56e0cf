"""The fields by which a source lists what a begun pool holds, although its defaults are others now."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysal.pool.layout import MANIFEST, Manifest
from raysal.sources.base import AS_BEGUN, Source
from raysal.sources.registry import SOURCES


def as_begun(source: Source, recorded: Mapping[str, Any]) -> Source:
    """A source as the pool was begun with, where the caller left the choice to raysal.

    Suffixes that a newer raysal takes would be new items in an old pool, and shift the ids of all others.

    Args:
        source: as the caller names it now.
        recorded: the config of the source in the pool's manifest.

    Returns:
        The source with the recorded value of every field that decides what is listed and has its default.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(source):  # type: ignore[arg-type]
        if AS_BEGUN in field.metadata and getattr(source, field.name) == field.default:
            value = recorded.get(field.name, field.metadata[AS_BEGUN])
            values[field.name] = tuple(value) if isinstance(field.default, tuple) else value
    if not values:
        return source
    listed: Source = dataclasses.replace(source, **values)  # type: ignore[type-var]
    return listed


def listed_for(pool: Path, source: Source) -> Source:
    """A source as the pool in a directory was begun with; as it is where there is no pool, or one of another source.

    Args:
        pool: the directory, there or not.
        source: as the caller names it now.

    Returns:
        The source to list.

    Raises:
        PoolError: the pool is of another version.
        Damaged: its manifest was altered.
    """
    if not (pool / MANIFEST).exists():
        return source
    begun = Manifest.read(pool).source
    return as_begun(source, begun.get("config", {})) if begun["name"] == SOURCES.name_of(source) else source
