"""The pages of a TIFF file, each as a TIFF file of its own. No pixel is decoded.

A page becomes a file with the same tags and the same strips or tiles. So it means what the first page of a file means
(`raysal.embedding.tiff`), and costs as much memory as the page, however long the file is.
"""

from __future__ import annotations

import re
import struct
from typing import BinaryIO, NamedTuple

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""{type of a field: bytes of one value}"""
_CODES = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_DESCRIPTION, _STRIPS, _STRIP_SIZES, _TILES, _TILE_SIZES = 270, 273, 279, 324, 325
_LINKS = frozenset({288, 289, 330, 400, 34665, 34853, 40965})
"""Tags that lead to other parts of the file: free space, other images, EXIF. None of them says what the pixels are."""
_OLD_JPEG = frozenset({512, 513, 519, 520, 521})
_LONG, _LONG8 = 4, 16


class _Form(NamedTuple):
    """How the numbers of a file are stored."""

    order: str
    word: str
    """Of an offset."""
    fields: str
    """Of the number of fields."""
    field: int
    """Bytes of a field."""
    inline: int
    """Bytes of values that a field itself holds."""
    head: int
    """Bytes of the file's head; the offset of the first page is at its end."""


class _Field(NamedTuple):
    tag: int
    kind: int
    number: int
    """Of values."""
    values: bytes


def page_places(file: BinaryIO) -> list[int]:
    """Where the pages of a TIFF file are described.

    Args:
        file: open for reading.

    Returns:
        The offset of each page, in order.

    Raises:
        ValueError: it is no TIFF file, or the chain of its pages is broken. The message says how.
    """
    form, size = _form(file), file.seek(0, 2)
    file.seek(form.head - form.inline)
    (place,) = struct.unpack(form.order + form.word, _read(file, form.inline))
    places: list[int] = []
    seen: set[int] = set()
    while place:
        if place in seen or place >= size:
            raise ValueError(f"page {len(places)} is described {'twice' if place in seen else 'beyond its end'}")
        seen.add(place)
        places.append(place)
        file.seek(place)
        (count,) = struct.unpack(form.order + form.fields, _read(file, struct.calcsize("=" + form.fields)))
        file.seek(count * form.field, 1)
        (place,) = struct.unpack(form.order + form.word, _read(file, form.inline))
    if not places:
        raise ValueError("it has no pages")
    return places


def page_alone(file: BinaryIO, place: int, pages: int) -> bytes:
    """One page as a TIFF file.

    Args:
        file: open for reading.
        place: one of `page_places`.
        pages: how many there are.

    Returns:
        The file.

    Raises:
        ValueError: it is cut short, or its strips and tiles are stored in a way that cannot be copied.
    """
    form, size = _form(file), file.seek(0, 2)
    fields = _fields(file, form, place, size)
    tags = {field.tag: field for field in fields}
    description = tags[_DESCRIPTION].values if _DESCRIPTION in tags else b""
    said = re.match(rb"ImageJ=.*?^images=(\d+)", description, re.DOTALL | re.MULTILINE)
    if said and pages == 1 and int(said[1]) > 1:
        raise ValueError(f"a stack of ImageJ, of whose {int(said[1])} images only the first is a page; save it anew")
    if _OLD_JPEG & set(tags):
        raise ValueError("JPEG of the old kind (compression 6) cannot be taken out of its file; save it anew")
    where, lengths = (_TILES, _TILE_SIZES) if _TILES in tags else (_STRIPS, _STRIP_SIZES)
    if where not in tags or lengths not in tags:
        raise ValueError("it does not say where its strips or tiles are, and how long")
    starts, sizes = (_numbers(form, tags[tag]) for tag in (where, lengths))
    if len(starts) != len(sizes) or sum(sizes) > size:
        raise ValueError(f"{len(starts)} strips or tiles, {len(sizes)} lengths of {sum(sizes):,} bytes in all")
    parts = []
    for start, length in zip(starts, sizes, strict=True):
        file.seek(start)
        parts.append(_read(file, length))
    kept = [field for field in fields if field.tag not in _LINKS]
    return _file(form, kept, where, parts)


def _file(form: _Form, fields: list[_Field], where: int, parts: list[bytes]) -> bytes:
    """A TIFF file of fields and strips."""
    kind = _LONG if form.inline == 4 else _LONG8
    values = form.head + struct.calcsize("=" + form.fields) + len(fields) * form.field + form.inline
    outside = [form.inline < (len(parts) * form.inline if f.tag == where else len(f.values)) for f in fields]
    lengths = [len(parts) * form.inline if field.tag == where else len(field.values) for field in fields]
    data = values + sum(length + length % 2 for length, out in zip(lengths, outside, strict=True) if out)
    places, at = [], data
    for part in parts:
        places.append(at if part else 0)
        at += len(part)
    if kind == _LONG and at >= 1 << 32:
        raise ValueError("a page of 4 GiB or more is not read")
    table, blob = b"", b""
    for field, out in zip(fields, outside, strict=True):
        tag, code, count, content = field
        if tag == where:
            content = struct.pack(f"{form.order}{len(places)}{form.word}", *places)
            code, count = kind, len(places)
        table += struct.pack(f"{form.order}HH{form.word}", tag, code, count)
        if out:
            table += struct.pack(form.order + form.word, values + len(blob))
            blob += content + b"\0" * (len(content) % 2)
        else:
            table += content.ljust(form.inline, b"\0")
    big = struct.pack(form.order + "HHH", 43, 8, 0) if kind == _LONG8 else struct.pack(form.order + "H", 42)
    head = (b"II" if form.order == "<" else b"MM") + big + struct.pack(form.order + form.word, form.head)
    count_of = struct.pack(form.order + form.fields, len(fields))
    return b"".join([head, count_of, table, b"\0" * form.inline, blob, *parts])


def _form(file: BinaryIO) -> _Form:
    file.seek(0)
    head = file.read(8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise ValueError("not a TIFF file")
    (magic,) = struct.unpack(order + "H", head[2:4])
    if magic == 42:
        return _Form(order, "I", "H", 12, 4, 8)
    if magic == 43:
        return _Form(order, "Q", "Q", 20, 8, 16)
    raise ValueError("not a TIFF file")


def _fields(file: BinaryIO, form: _Form, place: int, size: int) -> list[_Field]:
    """The fields of a page, each with the bytes of its values."""
    file.seek(place)
    (count,) = struct.unpack(form.order + form.fields, _read(file, struct.calcsize("=" + form.fields)))
    if count * form.field > size:
        raise ValueError(f"{count:,} fields, which is more than the file can hold")
    table = _read(file, count * form.field)
    fields = []
    for start in range(0, len(table), form.field):
        tag, kind, number = struct.unpack_from(f"{form.order}HH{form.word}", table, start)
        if kind not in _SIZES:
            continue  # readers pass over fields of types that they do not know
        length = number * _SIZES[kind]
        values = table[start + form.field - form.inline : start + form.field]
        if length > form.inline:
            if length > size:
                raise ValueError(f"tag {tag} has {length:,} bytes, which is more than the file can hold")
            file.seek(struct.unpack(form.order + form.word, values)[0])
            values = _read(file, length)
        fields.append(_Field(tag, kind, number, values[:length]))
    return fields


def _numbers(form: _Form, field: _Field) -> tuple[int, ...]:
    if field.kind not in _CODES:
        raise ValueError(f"tag {field.tag} is of type {field.kind}")
    return struct.unpack(f"{form.order}{field.number}{_CODES[field.kind]}", field.values)


def _read(file: BinaryIO, length: int) -> bytes:
    found = file.read(length)
    if len(found) < length:
        raise ValueError("truncated: the file ends before the page does")
    return found
