"""Datasets of array files (HDF5, Zarr): what each one holds, and how rows of it are read."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from raysal.arrays import not_numbers
from raysal.arrow_values import array_of
from raysal.errors import SourceError

ROOT = "/"
"""The name of an array that is no member of a group: the store is the array."""
_NAME_ATTRIBUTES = ("channel_names", "band_names", "channels", "bands")
_KINDS = {"i": "whole numbers", "u": "whole numbers", "b": "truth values", "f": "real numbers"}


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One array of a file: its first axis is that of the items."""

    name: str
    """Its path in the file, without a slash before it."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    holds: Literal["numbers", "texts", "bytes"] = "numbers"
    """`bytes` are of any length, such as encoded images."""
    step: int = 1
    """Rows that are stored together: to read one of them is to read all."""
    problem: str = ""
    """Why it cannot be read, and after a semicolon what to do."""
    alias: bool = False
    """Whether it is another name of a dataset of this file."""
    axes: tuple[str, ...] = ()
    """Names of the axes, where the file has them."""
    channels: tuple[str, ...] = ()
    """Names of the channels, where the file has them."""
    scale: tuple[float, float] = (1.0, 0.0)
    """What a stored number is multiplied by, and what is then added (the attributes scale_factor and add_offset)."""
    missing: tuple[float, ...] = ()
    """Stored numbers that stand for a missing one (the attributes _FillValue and missing_value)."""
    classes: Mapping[int, str] = field(default_factory=dict)
    """Names of the numbers, where the file has them (an enumeration of HDF5)."""
    stated: tuple[float, float] | None = None
    """Black and white as the file says (the attributes valid_range, valid_min and valid_max, IMAGE_MINMAXRANGE)."""

    def __str__(self) -> str:
        kind = {"texts": "texts", "bytes": "bytes of any length"}.get(self.holds, str(self.dtype))
        return f"{self.name} ({self.problem.partition(';')[0]})" if self.problem else f"{self.name} {kind} {self.shape}"

    @property
    def row_bytes(self) -> int:
        """Bytes of the numbers of one row."""
        return max(1, self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64)))

    @property
    def is_number(self) -> bool:
        """Whether it holds real numbers."""
        return self.holds == "numbers" and not_numbers(self.dtype) is None and self.dtype.kind in _KINDS

    @property
    def modality(self) -> Literal["vector", "image"] | None:
        """What its rows are: vectors [n, d] or [n, 1, d], or images; None where they are neither."""
        if self.problem or (self.holds == "numbers" and not self.is_number):
            return None
        if self.holds == "bytes":
            return "image" if len(self.shape) == 1 else None
        if len(self.shape) == 2 or (len(self.shape) == 3 and self.shape[1] == 1):
            return "vector"
        return "image" if len(self.shape) in (3, 4) else None

    @property
    def is_column(self) -> bool:
        """Whether each row is one value that a pool can keep."""
        return not self.problem and len(self.shape) == 1 and (self.holds == "texts" or self.is_number)

    @property
    def is_keys(self) -> bool:
        """Whether each row is a text or a whole number."""
        return self.is_column and (self.holds == "texts" or self.dtype.kind in "iu")


class Block(NamedTuple):
    """Some consecutive rows of a dataset."""

    values: Any
    """[m, ...]: an array of numbers, or a list of texts (`str` or `bytes`) or bytes."""
    bad: dict[int, str]
    """{row of the block: why it could not be read; after a semicolon what to do}"""
    missing: tuple[int, ...] = ()
    """Rows in which a number is missing, as the file says: there is no value for them."""

    @property
    def unusable(self) -> dict[int, str]:
        """Both of them, with the reason."""
        return dict.fromkeys(self.missing, "a number of it is missing (_FillValue)") | self.bad


class ArrayFile(Protocol):
    """An open file of datasets."""

    @property
    def path(self) -> Path | str:
        """Where it is, for errors."""
        ...

    def datasets(self) -> dict[str, Dataset]:
        """All datasets by name, in order of their names."""
        ...

    def lacking(self, dataset: Dataset, start: int, stop: int) -> dict[int, str]:
        """{row from `start`: why it was never written} of some rows; a reader would give fill values for them."""
        ...

    def slice(self, dataset: Dataset, start: int, stop: int) -> Any:
        """Some rows as they are stored; see `Block.values`. Raises whatever the library raises."""
        ...

    def __enter__(self) -> ArrayFile: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def read_block(file: ArrayFile, dataset: Dataset, start: int, stop: int) -> Block:
    """Read some rows. Where they cannot be read, it says so of those whose part of the file is at fault, and no others.

    Args:
        file: the file.
        dataset: one of its datasets, without a problem.
        start: first row.
        stop: row after the last one.

    Returns:
        The rows, as what the attributes say of them.

    Raises:
        SourceError: what lies in a bucket is gone, was changed, or cannot be read.
    """
    bad = file.lacking(dataset, start, stop)
    try:
        values = file.slice(dataset, start, stop)
    except SourceError:  # of a bucket: it may be about all
        raise
    except Exception:  # whatever a library or a codec raises on bad bytes
        values, unread = _in_parts(file, dataset, start, stop)
        bad = unread | bad
    if dataset.holds != "numbers":
        return Block(values, bad)
    values = np.asarray(values)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    missing = (
        np.flatnonzero(np.isin(values.reshape(len(values), -1), dataset.missing).any(1)) if dataset.missing else ()
    )
    if dataset.scale != (1.0, 0.0):
        values = values * np.float64(dataset.scale[0]) + dataset.scale[1]
    return Block(values, bad, tuple(map(int, missing)))


def _in_parts(file: ArrayFile, dataset: Dataset, start: int, stop: int) -> tuple[Any, dict[int, str]]:
    """As `read_block`, one stored part after the other."""
    parts: list[Any] = []
    bad: dict[int, str] = {}
    for low, high in blocks(start, stop, dataset.step, 1):
        try:
            parts.append(file.slice(dataset, low, high))
        except SourceError:
            raise
        except Exception as error:
            why = f"its part of the file cannot be read ({type(error).__name__}: {error})"
            bad.update(dict.fromkeys(range(low - start, high - start), why))
            nothing = np.zeros((high - low, *dataset.shape[1:]), dataset.dtype)
            parts.append(nothing if dataset.holds == "numbers" else [b""] * (high - low))
    if dataset.holds == "numbers":
        return np.concatenate(parts), bad
    return [value for part in parts for value in part], bad


def blocks(start: int, stop: int, step: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut rows where the file is cut, so that no part of it is read twice.

    Args:
        start: first row.
        stop: row after the last one.
        step: rows that are stored together.
        most: rows of a block, unless `step` is more.

    Yields:
        First row of each block, and the row after its last one.
    """
    size = max(step, most // step * step)
    while start < stop:
        end = min(stop, (start // size + 1) * size)
        yield start, end
        start = end


def said_by(attributes: Mapping[str, Any], dtype: np.dtype[Any]) -> dict[str, Any]:
    """What the attributes of a dataset say, as fields of `Dataset`. Those that say nothing clear are passed over.

    Args:
        attributes: of the dataset.
        dtype: of its numbers.

    Returns:
        {field: value} of `channels`, `scale`, `missing` and `stated`.
    """

    def numbers(name: str) -> list[float]:
        try:
            value = attributes.get(name, ())
            if isinstance(value, str):  # as xarray writes it into Zarr
                return list(struct.unpack("<d", base64.b64decode(value)))
            return [float(one) for one in np.ravel(value)]
        except (TypeError, ValueError, struct.error):
            return []

    scale, offset = numbers("scale_factor"), numbers("add_offset")
    ends = numbers("valid_range") or numbers("valid_min") + numbers("valid_max") or numbers("IMAGE_MINMAXRANGE")
    factor = (scale[0] if scale else 1.0, offset[0] if offset else 0.0)
    found: dict[str, Any] = {"scale": factor}
    if dtype.kind in "iuf":
        found["missing"] = tuple(n for n in numbers("_FillValue") + numbers("missing_value") if n == n)
    if len(ends) == 2:
        found["stated"] = (ends[0] * factor[0] + factor[1], ends[1] * factor[0] + factor[1])
    for name in _NAME_ATTRIBUTES:
        texts = attributes.get(name)
        if isinstance(texts, list | tuple | np.ndarray) and len(texts):
            found["channels"] = tuple(one.decode() if isinstance(one, bytes) else str(one) for one in texts)
            break
    return found


def texts_of(values: Sequence[Any]) -> pa.Array:
    """Texts as they are stored, for `keys_in` and `carried_in`: as strings, or as binaries where some are bytes."""
    if all(isinstance(value, str) for value in values):
        return array_of([str(value) for value in values], pa.string())
    return pa.array([value if isinstance(value, bytes) else str(value).encode() for value in values], pa.binary())
