"""Sources: where items come from. `base` says what a source is, and `registry` lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from raysal.buckets import is_url, local_or_url
from raysal.config import Choice
from raysal.errors import ConfigError, SourceError
from raysal.paths import path_or_url, with_home
from raysal.sources.base import Source
from raysal.sources.batches import Batches
from raysal.sources.files import Files
from raysal.sources.keys import check_keys
from raysal.sources.kinds import (
    FITS,
    HDF5,
    IMAGES,
    NPY,
    PACKED_SHARDS,
    SHARD,
    SOUNDS,
    TABLES,
    TEXT_LISTS,
    TEXTS,
    ZARR,
    suffix_of,
)
from raysal.sources.lance_fragments import is_lance
from raysal.sources.memory import Memory
from raysal.sources.npy_images import holds_images
from raysal.sources.places import PathOrUrl, as_source_errors, is_saved, place_of
from raysal.sources.registry import SOURCES
from raysal.sources.zarr_store import is_store

_NAMED = ("digits", "fashion_mnist")
"""Sources that need no path, so that a caller may give their name in its place."""

__all__ = ["SOURCES", "Batches", "Memory", "Source", "check_apart", "check_keys", "detect_source"]


def detect_source(path: str | Path | Sequence[str | Path], **options: Any) -> Source:
    """Choose the source that can read a path, or several.

    Args:
        path: a file, a folder or a pattern as `data/*.parquet`, all of them with `~` for the home directory, or in a
            bucket as `s3://bucket/data/*.parquet`; or the name "fashion_mnist" or "digits". Or several paths.
        options: fields of the source. An option that is None or empty counts as not given.

    Returns:
        A source for this path.

    Raises:
        SourceError: there is nothing at the path, no source can read it, or the bucket cannot be listed.
        ConfigError: the source has no such option, no path is given, or several ones of which a source takes one.
    """
    first, *others = [path] if isinstance(path, str | Path) else path or _refuse_none()
    if others:
        return _of_several([first, *others], options)
    path = first
    given = {name: value for name, value in options.items() if value is not None and value != () and value != []}
    if str(path) in _NAMED:
        return Choice(name=str(path), **given).build("source", SOURCES)
    with as_source_errors():
        place = path_or_url(path)
    kind = "fits" if "hdu" in given else "boxes" if "boxes" in given else _kind(place)
    return Choice(name=kind, path=place, **given).build("source", SOURCES)


def _of_several(paths: Sequence[str | Path], options: dict[str, Any]) -> Source:
    """The source of several paths."""
    found = [detect_source(path, **options) for path in paths]
    kinds = {SOURCES.name_of(one): place for one, place in zip(found, paths, strict=True)}
    if len(kinds) > 1:
        said = ", ".join(f"{place} is read as {kind}" for kind, place in kinds.items())
        raise ConfigError("source", f"the paths are of several kinds: {said}", "make a pool of each kind")
    (kind,) = kinds
    if not any(one.name == "also" for one in fields(found[0])):  # type: ignore[arg-type]
        problem = f"{len(paths)} paths, and the source {kind!r} takes one"
        raise ConfigError("source", problem, "name a folder that holds all, or a pattern")
    places = [one.path for one in found]  # type: ignore[attr-defined]
    several: Source = replace(found[0], path=places[0], also=tuple(places[1:]))  # type: ignore[type-var]
    return several


def _refuse_none() -> NoReturn:
    raise ConfigError("source", "no path is given", "name a folder, a file or a pattern")


def check_apart(source: str | Path | Sequence[str | Path], out: str | Path) -> None:
    """Refuse a pool inside the folder that it is made of: the next look would take the pool's tables for items.

    Args:
        source: what `detect_source` got.
        out: the pool directory, or its URL.

    Raises:
        ConfigError: it lies in the folder. A pattern that does not match its files is another matter.
    """
    if not isinstance(source, str | Path):
        for one in source:
            check_apart(one, out)
        return
    if is_url(source) or is_url(out):
        places = [str(local_or_url(place)) if is_url(place) else "" for place in (source, out)]
        if places[0] and places[1].startswith(f"{places[0]}/"):
            raise ConfigError("out", f"{out} lies in the source {source}", "name a folder outside of it")
        return
    folder = with_home(source)
    if str(source) not in _NAMED and folder.is_dir() and with_home(out).resolve().is_relative_to(folder.resolve()):
        fix = "name a directory outside of it, as ../pool; a pool may be moved there"
        raise ConfigError("out", f"{out} lies in the source {source}", fix)


def _kind(path: PathOrUrl) -> str:
    """The name of the source that can read a path or URL: a file, a folder or a pattern."""
    place = place_of(path, (ZARR,))
    if isinstance(path, Path) and is_store(path):
        return "array"
    if place.file:
        name = place.file.lower()
        suffix = PurePosixPath(name).suffix
        if suffix in HDF5 or suffix == ZARR:
            return "array"
        if name.endswith(FITS):
            return "fits"
        if suffix in TABLES:
            return "table"
        if suffix in TEXTS:
            return "text"
        if suffix == NPY:
            return "array" if isinstance(path, Path) and holds_images(path) else "npy"
        if name.endswith((SHARD, *PACKED_SHARDS)):
            return "webdataset"
        known = ", ".join((*TABLES, NPY, *HDF5, ZARR, *TEXTS, SHARD))
        raise SourceError(
            path, f"a file of unknown kind {suffix!r}", f"pass a folder of images or sounds, or one of {known}"
        )
    if is_saved(place):
        return "hf"
    if is_lance(place):
        return "lance"
    first: dict[str, str] = {}
    texts = TEXTS if place.pattern else TEXT_LISTS
    takes = (*IMAGES, *TABLES, NPY, *HDF5, *texts, SHARD, *PACKED_SHARDS, *SOUNDS)
    for name in Files(path=path, takes=takes, stores=(ZARR,), by_parts=False).names():
        kind = _kind_of_file(name)
        if kind != "table" or place.pattern or not f"/{name}".count("/_"):
            first.setdefault(kind, name)
        for one, other in _APART:
            if one in first and other in first:
                both = f"holds both {_HOLDS[one]} and {_HOLDS[other]} ({first[one]}, {first[other]})"
                ending = f"*{suffix_of(first[other])}"
                fix = f"keep them in separate directories, or name one kind by a pattern, as '{path}/**/{ending}'"
                raise SourceError(path, both, fix)
    if place.pattern and not first:
        raise SourceError(path, "no file that raysal reads matches this pattern", "check the path")
    kind = next((kind for kind in _ORDER if kind in first), "folder")
    if kind == "npy" and str(path).lower().endswith(NPY) and isinstance(path, Path):
        return "array" if holds_images(Files(path=path, takes=(NPY,)).path_of(first["npy"])) else "npy"
    return "webdataset" if kind == "packed" else kind


_APART = (("table", "folder"), ("table", "webdataset"), ("text", "webdataset"))
"""Kinds of files in one folder of which raysal does not guess which are meant. Beside images, an archive is a copy."""
_HOLDS = {"table": "tables", "folder": "images", "webdataset": "shards", "text": "texts"}
_ORDER = ("table", "folder", "webdataset", "text", "npy", "array", "packed", "sounds")
"""Which kind of files is meant, if a folder holds several. Sounds beside vectors or texts are what these are of."""


def _kind_of_file(name: str) -> str:
    """The name of the source that takes a file."""
    suffix = suffix_of(name)
    if suffix == SHARD or suffix in PACKED_SHARDS:
        return "webdataset" if suffix == SHARD else "packed"
    if suffix in HDF5 or suffix == ZARR:
        return "array"
    if suffix in SOUNDS:
        return "sounds"
    return "folder" if suffix in IMAGES else "table" if suffix in TABLES else "npy" if suffix == NPY else "text"
