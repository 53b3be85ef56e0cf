"""The formats of label files by name. To add one, write its class as `base` says and add a line here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from raysal.errors import LabelError, UnknownName
from raysal.registry import Meaning, Registry

if TYPE_CHECKING:
    from raysal.labels.formats.base import Format

FORMATS: Registry[type[Format]] = Registry(
    {
        "argilla": "raysal.labels.formats.argilla:Argilla",
        "coco": "raysal.labels.formats.coco:Coco",
        "cvat": "raysal.labels.formats.cvat:Cvat",
        "doccano": "raysal.labels.formats.doccano:Doccano",
        "embedding_atlas": "raysal.labels.formats.embedding_atlas:EmbeddingAtlas",
        "fiftyone": "raysal.labels.formats.fiftyone:FiftyOne",
        "label_studio": "raysal.labels.formats.label_studio:LabelStudio",
        "prodigy": "raysal.labels.formats.prodigy:Prodigy",
        "table": "raysal.labels.formats.table:Table",
    },
    {"csv": Meaning("table", {})},
)


def format_of(name: str, *, written: bool = False) -> Format:
    """The format of a name; a dash may stand for an underscore.

    Args:
        name: of `FORMATS`, or `csv`.
        written: whether a file is to be written in it; otherwise one is to be read. The error names those that can be.

    Returns:
        The format.

    Raises:
        UnknownName: there is no such format.
    """
    plain = name.replace("-", "_")
    part = FORMATS.short[plain].part if plain in FORMATS.short else plain
    if part not in FORMATS:
        raise UnknownName("format", name, names_of(written))
    return FORMATS[part]()


def names_of(written: bool) -> list[str]:
    """What people call the formats that files are written in, or read in: as the documentation does."""
    kept = [name for name in FORMATS if (FORMATS[name].suffixes if written else FORMATS[name].reads)]
    return sorted("csv" if name == "table" else name.replace("_", "-") for name in kept)


def name_of(form: Format) -> str:
    """The name of a format in the registry."""
    return FORMATS.name_of(form) or form.title


@cache
def all_formats() -> tuple[Format, ...]:
    """Every format; the plain table, which claims everything, is the last."""
    names = sorted(FORMATS, key=lambda name: name == "table")
    return tuple(FORMATS[name]() for name in names)


def claiming(record: Mapping[str, Any]) -> Format:
    """The format that a record of a file is of.

    Args:
        record: of a file.

    Returns:
        The one that claims it.
    """
    return next(form for form in all_formats() if form.claims(record))


def writer_of(name: str, suffix: str) -> Format:
    """The format that a file is to be written in.

    Args:
        name: as for `format_of`.
        suffix: the extension of the file.

    Returns:
        The format.

    Raises:
        UnknownName: there is no such format.
        LabelError: it is only read, or its files have other extensions.
    """
    form = format_of(name, written=True)
    if not form.suffixes:
        fix = f"use one of: {', '.join(names_of(written=True))}"
        raise LabelError(f"format {name}", f"files of {form.title} are read, and not written", fix)
    if suffix.lower() not in form.suffixes:
        raise LabelError(f"format {name}", f"its files do not end in {suffix!r}", f"use {' or '.join(form.suffixes)}")
    return form
