"""What is exported of an item, and what a form does with it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from raysal.arrow_values import array_of
from raysal.embedding.decode import decode_image
from raysal.errors import BadItem
from raysal.exporting.names import suffix_for
from raysal.types import Cut, Item, Pixels

INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("id", pa.int64()),
        ("label", pa.string()),
        ("uri", pa.string()),
        ("shard", pa.string()),
        ("member", pa.string()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("lost", pa.string()),
    ]
)
"""What is noted of every item, also of one that is lost. Width and height are of coco alone."""


class Media(NamedTuple):
    """What an item is made of, as a file."""

    content: bytes
    suffix: str
    """in small letters, with its dot"""
    place: str | None = None
    """where the source has this very file; None where it is no file of its own"""

    @property
    def sha256(self) -> str:
        """Hex digest of the content."""
        return sha256(self.content).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An item as it is exported."""

    id: int
    key: str
    uri: str | None
    said: Mapping[str, Any] = field(default_factory=dict)
    """{column: value} of what a run or a ranking says of it: its label, or its rank and score"""
    carried: Mapping[str, Any] = field(default_factory=dict)
    """{column: value} that the pool carries, under the names that they have in the export"""
    media: Media | None = None
    """None where the form holds no media"""
    vector: NDArray[np.floating[Any]] | None = None

    @property
    def label(self) -> str | None:
        """What people said, where a run was named."""
        return self.said.get("label")

    def facts(self) -> dict[str, Any]:
        """All that is known beside media and vector."""
        return {"key": self.key, "id": self.id, "uri": self.uri, **self.said, **self.carried}


class Noted(NamedTuple):
    """What a form notes of an item that it wrote."""

    member: str | None
    """its name in the shard, or its path below the folder of data; None for a row of a table"""
    width: int | None = None
    height: int | None = None


class Shard(Protocol):
    """A shard that is being written."""

    def add(self, entry: Entry) -> Noted:
        """Write an item. Items come in the order of their ids.

        Raises:
            BadItem: the form cannot hold it; nothing of it is written.
        """
        ...

    def close(self) -> None:
        """Write what is still in memory."""
        ...


def index_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """What is noted of some items, as a table of `INDEX_SCHEMA`."""
    columns = []
    for name, kind in zip(INDEX_SCHEMA.names, INDEX_SCHEMA.types, strict=True):
        values = [row[name] for row in rows]
        if kind == pa.int64():  # `pa.array` would import pandas for numbers with gaps
            there = np.packbits([value is not None for value in values], bitorder="little")
            data = np.array([value or 0 for value in values], np.int64)
            columns.append(pa.Array.from_buffers(kind, len(values), [pa.py_buffer(there), pa.py_buffer(data)]))
        else:
            columns.append(array_of(values, kind))
    return pa.Table.from_arrays(columns, schema=INDEX_SCHEMA)


def media_of(item: Item, place: str | None = None) -> Media:
    """The media of an item as a file: bytes as they are, pixels and cuts as PNG, numbers as .npy, a text as UTF-8.

    Args:
        item: as the source gives it.
        place: its own file, where it has one.

    Returns:
        The file.

    Raises:
        BadItem: the item could not be read, or is none of these.
    """
    payload = item.payload
    if isinstance(payload, BadItem):
        raise payload
    if isinstance(payload, Cut):
        payload = np.asarray(decode_image(item.key, payload))
    if isinstance(payload, Pixels):
        payload = payload.values
    if isinstance(payload, bytes | bytearray | memoryview):
        content = bytes(payload)
        return Media(content, suffix_for(item.key, content), place)
    if isinstance(payload, str):
        try:
            return Media(payload.encode(), ".txt")
        except UnicodeEncodeError:
            raise BadItem(item.key, "the text holds half a letter, which UTF-8 cannot say", "mend it") from None
    if not isinstance(payload, np.ndarray) or payload.dtype.hasobject:
        raise BadItem(item.key, f"a {type(payload).__name__} is no media", "leave it out")
    packed = io.BytesIO()
    if payload.dtype == np.uint8 and (payload.ndim == 2 or (payload.ndim == 3 and payload.shape[2] in (1, 3))):
        Image.fromarray(payload[..., 0] if payload.shape[2:] == (1,) else payload).save(packed, "PNG")
        return Media(packed.getvalue(), ".png")
    np.save(packed, payload, allow_pickle=False)
    return Media(packed.getvalue(), ".npy")
