"""Items that are in memory already. Python code passes them in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from reprlib import repr as _short
from typing import Any

import numpy as np
import pyarrow as pa

from raysal.arrays import Column, column_of, columns_of, is_missing, not_numbers
from raysal.arrow_values import Texts, array_of
from raysal.errors import ConfigError, SourceError
from raysal.real_numbers import as_array
from raysal.sources.base import AS_BEGUN
from raysal.sources.listing import bad_item, check_carry, digest, text_key, wanted_positions
from raysal.sources.named_images import NamedImages
from raysal.sources.payloads import as_vector, image_in, vector_length
from raysal.sources.vectors import batch_rows, columns_of_matrix, columns_of_rows, vector_or_bad
from raysal.types import Columns, Item, Modality, Stamp, Unit

_PRINTED_ROWS = 4096
"""Rows that a fingerprint takes at a time. The fingerprint depends on it."""
_NOT_CONFIG = {"record": False}
"""Metadata of fields that hold data: they are no part of the config that a pool records."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """Vectors, images or texts in memory, with their keys.

    Every argument is read by position: the nth key has the nth payload and the nth carried values, whatever the index
    of a Series or frame says. It may be a list, an array or masked array of NumPy, a Series or index of pandas, a
    Series of Polars, an array of Arrow, or a tensor of torch. Vectors may also be a frame with one column for each
    dimension, or a sparse matrix, whose rows become dense one by one.

    A missing value (a mask, pd.NA, a null) is never replaced. An item that lacks its payload, or one value of its
    vector, is quarantined; a missing key is an error. Integers, booleans, bfloat16 and the like become floats.

    A unit's locator holds the payloads of its items. A pickled copy has no payloads: it can read units, which is all
    that a worker does, but cannot list them.

    Args:
        keys: the items' keys [n].
        vectors: numbers [n, d], or n rows of the same length.
        images: n images: encoded bytes, or uint8 [h, w], [h, w, 1] or [h, w, 3].
        texts: n strings. Exactly one of vectors, images and texts is given.
        carry: {column: values [n]} to keep in the pool, or a frame of them.
    """

    keys: Any = field(default=(), repr=False, metadata=_NOT_CONFIG)
    vectors: Any = field(default=None, repr=False, metadata=_NOT_CONFIG)
    images: Any = field(default=None, repr=False, metadata=_NOT_CONFIG)
    texts: Any = field(default=None, repr=False, metadata=_NOT_CONFIG)
    carry: Any = field(default_factory=dict, repr=False, metadata=_NOT_CONFIG)
    hashed: int = field(default=2, repr=False, metadata={AS_BEGUN: 1})
    """How the fingerprint is computed. It is not to be chosen: a pool that was begun in one way goes on in it."""

    def __post_init__(self) -> None:
        given = [name for name in ("vectors", "images", "texts") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError("memory", f"needs one of vectors, images, texts; got {', '.join(given) or 'none'}")
        check_carry(tuple(self._carried))
        count = len(self._payloads)
        for column in (self._keys, *self._carried.values()):
            if len(column) != count:
                raise ConfigError(column.name, f"{len(column)} values for {count} {given[0]}")
        for column in (self._keys, *([self._payloads] if self.texts is not None else [])):
            if len(column.shape) != 1:
                raise ConfigError(column.name, f"shape {column.shape}, expected [n]", "pass one column")
        if self.vectors is not None:
            _check_vectors(self._payloads)
        elif self.images is not None and getattr(self._payloads.rows(0, 0), "dtype", np.dtype(object)).kind == "S":
            problem = "an array of byte strings, which NumPy cuts where they end in zeros"
            raise ConfigError("memory.images", problem, "pass a list of bytes")

    def __getstate__(self) -> dict[str, Any]:
        hollow = {name: () for name in ("vectors", "images", "texts") if getattr(self, name) is not None}
        return {
            "keys": (),
            "vectors": None,
            "images": None,
            "texts": None,
            "carry": dict.fromkeys(self._carried, ()),
            **hollow,
        }

    @property
    def modality(self) -> Modality:
        """The kind of payload that was given."""
        if self.vectors is not None:
            return "vector"
        return "image" if self.images is not None else "text"

    @cached_property
    def _keys(self) -> Column:
        return column_of("memory.keys", self.keys)

    @cached_property
    def _payloads(self) -> Column:
        """The payloads that were given."""
        name = f"{self.modality}s"
        return column_of(f"memory.{name}", getattr(self, name), frames=self.vectors is not None)

    @cached_property
    def _carried(self) -> dict[str, Column]:
        columns = columns_of("memory.carry", self.carry)
        if columns is None:
            raise ConfigError("memory.carry", "no columns with names", "pass {column: values}, or a frame")
        return columns

    def vector_dim(self) -> int:
        """Length of a vector: that of a row of a matrix, or of most among the first rows; 0 if there is none."""
        if self.vectors is None:
            return 0
        if len(self._payloads.shape) > 1:
            return self._payloads.shape[-1]
        return vector_length(self._payloads)

    def fingerprint(self) -> str:
        """Hex sha256 over keys, payloads and carried values, at about 2 GB/s; the same for any containers of them."""
        columns = [(name, [_bare(value) for value in values]) for name, values in self._carried.items()]
        if self.hashed == 1:
            parts = (sha256(b"".join(_content(payload))).digest() for payload in self._payloads)
            return digest([self.modality, *zip(map(str, self._keys), parts, strict=True), columns])
        keys, payloads = sha256(), _Stream()
        for start in range(0, len(self._payloads), _PRINTED_ROWS):
            keys.update(ascii([*map(str, self._keys.rows(start, start + _PRINTED_ROWS))]).encode())
            payloads.add(self._payloads.rows(start, start + _PRINTED_ROWS))
        return digest([self.modality, keys.hexdigest(), payloads.digest(), columns])

    def stamp(self) -> Stamp:
        """The fingerprint, which covers the contents."""
        return Stamp(digest=self.fingerprint(), by_content=True)

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        """List all items; see `Source.units`."""
        total = len(self._payloads)
        if total == 0:
            raise SourceError("memory", "no items", "a pickled copy cannot be listed; pass at least one item")
        for index, start in enumerate(range(0, total, chunk_rows)):
            stop = min(start + chunk_rows, total)
            keys = _text_keys(self._keys.rows(start, stop), start)
            carried = {name: list(values.rows(start, stop)) for name, values in self._carried.items()}
            yield Unit(index=index, first_id=start, keys=keys, locator=(self._payloads.rows(start, stop), carried))

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """Read a chunk; see `Source.read`. The payloads come with the unit."""
        payloads, carried = unit.locator
        for place in wanted_positions(unit, only):
            key, values = unit.keys[place], {name: column[place] for name, column in carried.items()}
            try:
                payload = self._payload(payloads[place])
            except ValueError as error:
                yield bad_item(key, str(error), carried=values)
            else:
                yield Item(key=key, payload=payload, carried=values)

    def columns(self, unit: Unit, dim: int) -> Iterator[Columns]:
        """Read a chunk of vectors as columns; see `ColumnSource`."""
        payloads, carried = unit.locator
        step = batch_rows(dim)
        for start in range(0, len(unit.keys), step):
            stop = min(start + step, len(unit.keys))
            keys = unit.keys[start:stop]
            rows = (
                payloads[start:stop]
                if isinstance(payloads, np.ndarray)
                else [payloads[at] for at in range(start, stop)]
            )
            values = {name: column[start:stop] for name, column in carried.items()}
            shapes = (len(keys), dim), (len(keys), 1, dim)
            if type(rows) is np.ndarray and rows.dtype.kind in "biuf" and rows.shape in shapes:
                yield from columns_of_matrix(keys, rows.reshape(len(keys), dim), values)
            else:
                yield from columns_of_rows(keys, [*map(vector_or_bad, rows, keys)], values, dim)

    def _payload(self, value: Any) -> Any:
        """A payload as items have it. Raises ValueError, which says why it is none."""
        if self.vectors is not None:
            return as_vector(value)
        if is_missing(value):
            raise ValueError(f"no {self.modality}")
        return value if self.texts is not None else image_in(value, NamedImages(Path()))


def _check_vectors(column: Column) -> None:
    """Refuse what holds no vectors as a whole; a row that is wrong by itself is quarantined later."""
    kind, shape = getattr(column.rows(0, 0), "dtype", None), column.shape
    if kind is not None and (problem := not_numbers(kind)):
        fix = "pass real and imaginary parts side by side" if kind.kind == "c" else "pass numbers [n, d]"
        raise ConfigError(column.name, problem, fix)
    if not (len(shape) == 2 or (len(shape) == 3 and shape[1] == 1) or (len(shape) == 1 and kind is None)):
        raise ConfigError(column.name, f"shape {shape}, expected [n, d]")
    if len(shape) == 1:
        for row in column.rows(0, 1):  # the first row stands for all
            if not is_missing(row) and (np.isscalar(row) or isinstance(row, dict)):
                raise ConfigError(column.name, f"{_short(row)} is no vector", "pass numbers [n, d]")


def _bare(value: Any) -> Any:
    """A value without its NumPy type, so that the same values in another container look the same."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _text_keys(rows: Any, start: int) -> Sequence[str]:
    """Keys as text. Of texts and of whole numbers Arrow makes them at once; `start` is the place of the first."""
    with suppress(UnicodeEncodeError):
        if isinstance(rows, np.ndarray) and rows.dtype.kind in "iu":
            return Texts(array_of(rows, pa.from_numpy_dtype(rows.dtype)).cast("string"))
        if isinstance(rows, list) and {*map(type, rows)} == {str} and "" not in rows:
            return Texts(array_of(rows, pa.string()))
    return tuple(text_key(key, "memory", f"item {place}") for place, key in enumerate(rows, start))


class _Stream:
    """A digest of values one after the other: of their bytes, and of how many there are of each kind."""

    def __init__(self) -> None:
        self.state = sha256()
        self.kinds: list[list[Any]] = []

    def add(self, rows: Any) -> None:
        """Add payloads: at once, if they are an array of numbers."""
        if type(rows) is np.ndarray and not rows.dtype.hasobject and rows.ndim > 1:
            self._add(_kind_of_array(rows.dtype, rows.shape[1:]), len(rows), np.ascontiguousarray(rows))
            return
        for row in rows:
            kind, content = _content(row)
            what = "bytes" if isinstance(row, bytes | bytearray) else "text" if isinstance(row, str) else "other"
            self._add(kind or f"{what} {len(content)}".encode(), 1, content)

    def _add(self, kind: bytes, count: int, content: Any) -> None:
        self.state.update(content)
        if self.kinds and self.kinds[-1][0] == kind:
            self.kinds[-1][1] += count
        else:
            self.kinds.append([kind, count])

    def digest(self) -> str:
        """Of all that was added."""
        return digest([self.state.hexdigest(), *self.kinds])


def _content(payload: Any) -> tuple[bytes, bytes]:
    """What a payload is, if it is an array, and its bytes."""
    if isinstance(payload, bytes | bytearray):
        return b"", bytes(payload)
    if isinstance(payload, str):
        return b"", payload.encode("utf-8", "surrogatepass")
    try:
        array = payload if type(payload) is np.ndarray else as_array(payload)
    except ValueError:
        array = np.empty((), object)
    if array.dtype == object:  # its bytes would be addresses
        return b"", repr(payload).encode("utf-8", "surrogatepass")
    return _kind_of_array(array.dtype, array.shape), array.tobytes()


@lru_cache(maxsize=256)
def _kind_of_array(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The type and shape of an array; to write them takes longer than to hash a short vector."""
    return f"{dtype}{shape}".encode()
