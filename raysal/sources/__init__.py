"""Sources: where items come from. `base` says what a source is, and `registry` lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raysal.config import Choice
from raysal.errors import ConfigError, SourceError
from raysal.paths import with_home
from raysal.sources.base import Source
from raysal.sources.files import Files, place_of
from raysal.sources.keys import check_keys
from raysal.sources.kinds import FITS, HDF5, IMAGES, NPY, TABLES, TEXT_LISTS, TEXTS, ZARR, suffix_of
from raysal.sources.memory import Memory
from raysal.sources.registry import SOURCES
from raysal.sources.zarr_store import is_store

_NAMED = ("digits", "fashion_mnist")
"""Sources that need no path, so that a caller may give their name in its place."""

__all__ = ["SOURCES", "Memory", "Source", "check_apart", "check_keys", "detect_source"]


def detect_source(path: str | Path, **options: Any) -> Source:
    """Choose the source that can read a path.

    Args:
        path: a file, a folder or a pattern as `data/*.parquet`, all of them with `~` for the home directory; or the
            name "fashion_mnist" or "digits".
        options: fields of the source. An option that is None or empty counts as not given.

    Returns:
        A source for this path.

    Raises:
        SourceError: there is nothing at the path, no source can read it, or it is not a local path.
        ConfigError: the source has no such option.
    """
    given = {name: value for name, value in options.items() if value is not None and value != () and value != []}
    if str(path) in _NAMED:
        return Choice(name=str(path), **given).build("source", SOURCES)
    if "://" in str(path):
        raise SourceError(path, "only local paths can be read for now", "copy the data to a local or shared disk")
    path = with_home(path)
    return Choice(name="fits" if "hdu" in given else _kind(path), path=path, **given).build("source", SOURCES)


def check_apart(source: str | Path, out: Path) -> None:
    """Refuse a pool inside the folder that it is made of: the next look would take the pool's tables for items.

    Args:
        source: what `detect_source` got.
        out: the pool directory.

    Raises:
        ConfigError: it lies in the folder. A pattern that does not match its files is another matter.
    """
    folder = with_home(source)
    if str(source) not in _NAMED and folder.is_dir() and with_home(out).resolve().is_relative_to(folder.resolve()):
        fix = "name a directory outside of it, as ../pool; a pool may be moved there"
        raise ConfigError("out", f"{out} lies in the source {source}", fix)


def _kind(path: Path) -> str:
    """The name of the source that can read a path: a file, a folder or a pattern."""
    place = place_of(path, (ZARR,))
    if is_store(path):
        return "array"
    if place.file:
        suffix = path.suffix.lower()
        if suffix in HDF5:
            return "array"
        if path.name.lower().endswith(FITS):
            return "fits"
        if suffix in TABLES:
            return "table"
        if suffix in TEXTS:
            return "text"
        if suffix == NPY:
            return "npy"
        known = ", ".join((*TABLES, NPY, *HDF5, ZARR, *TEXTS))
        raise SourceError(path, f"a file of unknown kind {suffix!r}", f"pass a folder of images, or one of {known}")
    first: dict[str, str] = {}
    texts = TEXTS if place.pattern else TEXT_LISTS
    kinds = {**dict.fromkeys(IMAGES, "folder"), **dict.fromkeys(TABLES, "table"), NPY: "npy"}
    kinds |= dict.fromkeys((*HDF5, ZARR), "array")
    for name in Files(path=path, takes=(*IMAGES, *TABLES, NPY, *HDF5, *texts), stores=(ZARR,)).names():
        kind = kinds.get(suffix_of(name), "text")
        if kind != "table" or place.pattern or not f"/{name}".count("/_"):
            first.setdefault(kind, name)
        if "folder" in first and "table" in first:
            both = f"holds both tables and images ({first['table']}, {first['folder']})"
            fix = f"keep them in separate directories, or name one kind by a pattern, as '{path}/**/*.jpg'"
            raise SourceError(path, both, fix)
    if place.pattern and not first:
        raise SourceError(path, "no file that raysal reads matches this pattern", "check the path")
    return next((kind for kind in ("table", "folder", "text", "npy", "array") if kind in first), "folder")
