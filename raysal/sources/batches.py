"""Items that Python code makes, batch by batch: an iterable, a callable that gives one, or a dataset of Ray Data.

A stream can be read neither by position nor again by key. So `raysal.embed` writes it down in the pool's own folder
(`raysal.sources.spilled`), and embeds that as any other folder of tables. No batch is held longer than a file takes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from reprlib import repr as _short
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import text_array
from raysal.errors import BadItem, ConfigError, SourceError
from raysal.sources.listing import check_carry
from raysal.types import Item

WHERE = "items"
"""What errors call a stream."""
PROBLEM = "raysal.problem"
"""The column that says why an item that came by itself cannot be read; null, or not there, where it can."""
_ROWS = 1024
"""Items that are gathered into one batch, where they come one by one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batches:
    """A stream of items, for `raysal.embed`.

    A batch is a table or record batch of Arrow, or a mapping {column: values}. Items may also come one by one, as a
    mapping {column: value} or as `raysal.types.Item`. A dataset of Ray Data gives its own batches, with what it does to
    them on the cluster; `raysal` needs no import of Ray for that.

    Args:
        items: an iterable, a callable without arguments that gives one, or a dataset of Ray Data. It is run through
            once in each job; a job goes on after a stop if it gives the same items again when it is asked again.
        key_column: the column of the items' keys.
        image_column: a column of images: encoded, or uint8 of one size [h, w] or [h, w, 3].
        text_column: a column of texts.
        vector_column: a column of vectors. Name at most one of the three; without, it is found as in a table.
        carry: columns to keep in the pool.
    """

    items: Any = field(repr=False)
    key_column: str = "key"
    image_column: str | None = None
    text_column: str | None = None
    vector_column: str | None = None
    carry: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_carry(self.carry)
        if not (callable(self.items) or hasattr(self.items, "iter_batches") or isinstance(self.items, Iterable)):
            problem = f"{_short(self.items)} is no stream of items"
            raise ConfigError("items", problem, "pass an iterable, a callable that gives one, or a ray.data.Dataset")
        if isinstance(self.items, Mapping | str | bytes):
            raise ConfigError("items", f"one {type(self.items).__name__}, expected many batches", "pass a list of it")

    @property
    def columns(self) -> dict[str, Any]:
        """The fields that say how the columns are read, as a table takes them."""
        names = ("key_column", "image_column", "text_column", "vector_column", "carry")
        return {name: getattr(self, name) for name in names}

    def _named(self, table: pa.Table) -> list[str]:
        """The columns that a batch must have, beside the keys; where no item can be read, none has contents."""
        content = (self.image_column, self.text_column, self.vector_column)
        unread = PROBLEM in table.column_names and not table[PROBLEM].null_count
        return [*(name for name in content if name is not None and not unread), *self.carry]

    def tables(self) -> Iterator[pa.Table]:
        """Run through the stream once.

        Yields:
            Tables of Arrow, each with the column of keys, in the order of the stream.

        Raises:
            SourceError: it gives something else, or a batch without keys or a column that is named.
        """
        if hasattr(self.items, "iter_batches"):
            stream = self.items.iter_batches(batch_format="pyarrow")
        else:
            stream = self.items() if callable(self.items) else self.items
        for number, batch in enumerate(self._batches(iter(stream))):
            table = _table_of(batch, number)
            if table.column_names.count(self.key_column) != 1:
                problem = f"batch {number} has not one column {self.key_column!r}; its columns: {table.column_names}"
                raise SourceError(WHERE, problem, "name the column of the keys: key_column")
            if lacking := [name for name in self._named(table) if name not in table.column_names]:
                problem = f"batch {number} has no column {lacking[0]!r}; its columns: {table.column_names}"
                raise SourceError(WHERE, problem, "give each batch all columns that are named")
            if table.num_rows:
                yield pa.table([_plain(column) for column in table.itercolumns()], names=table.column_names)

    def _batches(self, stream: Iterator[Any]) -> Iterator[Any]:
        """The batches; of items that come one by one, some hundred are one."""
        for first in stream:
            if self._is_one(first):
                run = [first, *islice(stream, _ROWS - 1)]
                for place, one in enumerate(run):
                    if not self._is_one(one):
                        problem = f"{_short(one)}, behind {place} single items, has no key of its own"
                        fix = f"give each item one text or whole number as {self.key_column!r}, or give batches alone"
                        raise SourceError(WHERE, problem, fix)
                yield _rows(run, self.key_column, self.carry)
            else:
                yield first

    def _is_one(self, batch: object) -> bool:
        """Whether a part of the stream is one item."""
        if isinstance(batch, Item):
            return True
        key = batch.get(self.key_column) if isinstance(batch, Mapping) else ()
        return isinstance(key, str | int | np.integer)


def _rows(run: list[Any], key_column: str, carry: Sequence[str]) -> dict[str, list[Any]]:
    """Single items as columns; a carried one may be in none of them."""
    rows = [_row(one, key_column) if isinstance(one, Item) else dict(one) for one in run]
    names = dict.fromkeys(chain(chain.from_iterable(rows), carry))
    return {name: [row.get(name) for row in rows] for name in names}


def _row(item: Item, key_column: str) -> dict[str, Any]:
    """An item as columns; its payload is in `image`, `text` or `vector`, or `PROBLEM` says why it has none."""
    name, payload = "text", item.payload
    if isinstance(payload, bytes | bytearray):
        name = "image"
    elif not isinstance(payload, str | BadItem):
        name, payload = "vector", _numbers_or_bad(item.key, payload)
        if isinstance(payload, np.ndarray) and payload.ndim > 1:
            name, payload = "image", _png_or_bad(item.key, payload)
    if isinstance(payload, BadItem):
        name, payload = PROBLEM, payload.problem
    return {key_column: item.key, name: payload, **item.carried}


def _numbers_or_bad(key: str, payload: Any) -> NDArray[Any] | BadItem:
    """A payload as an array of numbers, or what is wrong with it."""
    try:
        numbers = np.asarray(payload)
    except (TypeError, ValueError) as error:
        return BadItem(key, f"{_short(payload)}: {error}")
    if numbers.dtype.kind not in "biuf" or not numbers.ndim:
        return BadItem(key, f"{_short(payload)} is no vector, picture or text")
    return numbers


def _png_or_bad(key: str, pixels: NDArray[Any]) -> bytes | BadItem:
    """The bytes of a picture that has these pixels, or what is wrong with them."""
    from PIL import Image

    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        problem = (
            f"{pixels.dtype} {list(pixels.shape)} is no picture, which is encoded bytes, or uint8 [h, w] or [h, w, 3]"
        )
        return BadItem(key, problem)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _table_of(batch: Any, number: int) -> pa.Table:
    """A batch as a table."""
    if isinstance(batch, pa.RecordBatch):
        return pa.Table.from_batches([batch])
    if isinstance(batch, pa.Table):
        return batch
    if not isinstance(batch, Mapping):
        problem = f"batch {number} is a {type(batch).__name__}"
        raise SourceError(WHERE, problem, "give tables of Arrow, mappings {column: values}, or items")
    columns = {}
    for name, values in batch.items():
        try:
            columns[str(name)] = _column(values)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise SourceError(
                WHERE, f"batch {number}, column {name!r}: {error}", "give it values of one type"
            ) from None
    try:
        return pa.table(columns)
    except (pa.ArrowException, ValueError) as error:
        raise SourceError(WHERE, f"batch {number}: {error}", "give columns of one length") from None


def _column(values: Any) -> Any:
    """A column of Arrow; an array of NumPy of several axes becomes one of tensors."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if isinstance(values, np.ndarray) and values.ndim > 1:
        return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))
    if isinstance(values, list | tuple) and values and isinstance(values[0], np.ndarray):
        return pa.array([None if value is None else value.tolist() for value in values], _list_type(values[0]))
    if isinstance(values, list | tuple) and values and isinstance(values[0], str):
        return text_array(values) if all(isinstance(value, str) for value in values) else pa.array(values)
    return pa.array(values)


def _list_type(first: Any) -> pa.DataType:
    kind = pa.from_numpy_dtype(first.dtype)
    for _ in range(first.ndim):
        kind = pa.list_(kind)
    return kind


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece, without the types of other libraries: Ray's tensors become those of Arrow."""
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # a column without rows
        whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], whole.type)
    if not isinstance(whole.type, pa.BaseExtensionType) or isinstance(whole.type, pa.FixedShapeTensorType):
        return whole
    shape = tuple(getattr(whole.type, "shape", None) or ())
    storage = whole.storage
    if len(shape) < 2 or not hasattr(storage, "flatten") or storage.null_count:
        return storage
    tensor = pa.fixed_shape_tensor(storage.type.value_type, shape)
    flat = pa.FixedSizeListArray.from_arrays(storage.flatten(), int(np.prod(shape)))
    return pa.ExtensionArray.from_storage(tensor, flat)
