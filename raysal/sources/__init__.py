"""Sources: where items come from. `base` says what a source is, and `registry` lists them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raysal.config import Choice
from raysal.errors import SourceError
from raysal.sources.base import Source
from raysal.sources.columns import SUFFIXES as TABLES
from raysal.sources.folder import Folder
from raysal.sources.keys import check_keys
from raysal.sources.memory import Memory
from raysal.sources.registry import SOURCES
from raysal.sources.text import SUFFIXES as TEXTS

_NAMED = ("digits", "fashion_mnist")
"""Sources that need no path, so that a caller may give their name in its place."""

__all__ = ["SOURCES", "Memory", "Source", "check_keys", "detect_source"]


def detect_source(path: str | Path, **options: Any) -> Source:
    """Choose the source that can read a path.

    Args:
        path: a file or a folder, or the name "fashion_mnist" or "digits".
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
    return Choice(name=_kind(Path(path)), path=Path(path), **given).build("source", SOURCES)


def _kind(path: Path) -> str:
    """The name of the source that can read a path."""
    suffix = path.suffix.lower()
    if path.is_dir():
        tables = any(
            entry.suffix.lower() in TABLES and not entry.name.startswith((".", "_")) for entry in path.iterdir()
        )
        if not tables:
            return "folder"
        images: Iterator[str] = Folder(path=path).keys()
        if next(images, None) is not None:
            raise SourceError(path, "holds both tables and images", "keep them in separate directories")
        return "table"
    if not path.exists():
        raise SourceError(path, "no such file or directory", f"check the path, or use {' or '.join(_NAMED)}")
    if suffix in TABLES:
        return "table"
    if suffix in TEXTS:
        return "text"
    known = ", ".join((*TABLES, *TEXTS))
    raise SourceError(path, f"a file of unknown kind {suffix!r}", f"pass a folder of images, or one of {known}")
