"""What a column of Arrow holds, whatever layout its writer chose: vectors, images, texts, or values to keep.

The same content comes as `string`, `large_string`, `string_view` or a dictionary of them; as lists of three layouts, a
list of fixed size, or a tensor; and Hugging Face's files say in the schema's metadata what their columns mean. Here all
of that becomes plain values. A missing value is None, and never a number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa

HOLDS = {
    "vector": "a list of numbers, or a tensor with one dimension",
    "image": "binary, struct<bytes, path>, a tensor of uint8 [h, w], [h, w, 1] or [h, w, 3], or a string (path or URL)",
    "text": "string, or a dictionary of strings",
}
"""{modality: the columns that can hold it}, for messages."""


@dataclass(frozen=True)
class ColumnKind:
    """How the values of one column are read."""

    type: pa.DataType
    """Without extension, dictionary and run-end encoding."""
    shape: tuple[int | None, ...] | None = None
    """Shape of a row, if rows are tensors; None in it is a length that differs from row to row."""
    order: tuple[int, ...] | None = None
    """Axes of the stored tensor in their logical order, where that is another one."""
    feature: Any = None
    """What Hugging Face's metadata say of the column."""

    @classmethod
    def of(cls, field: pa.Field, schema_metadata: Mapping[bytes, bytes] | None = None) -> ColumnKind:
        """The kind of a column.

        Args:
            field: the column's name, type and metadata.
            schema_metadata: the metadata of the schema that the column is in.

        Returns:
            Its kind.
        """
        kind = plain_type(field.type)
        feature = _features(schema_metadata).get(field.name)
        if hasattr(field.type, "permutation") and hasattr(field.type, "shape"):  # arrow.fixed_shape_tensor
            order = field.type.permutation
            shape = tuple(field.type.shape)
            if order is not None and list(order) != list(range(len(shape))):
                return cls(kind, tuple(shape[axis] for axis in order), tuple(order), feature)
            return cls(kind, shape, None, feature)
        return cls(kind, _tensor_shape(field, kind, feature), None, feature)

    @property
    def is_vector(self) -> bool:
        """Whether the rows are vectors of numbers: lists, or tensors with at most one dimension above 1."""
        if self.shape is not None:
            long = [size for size in self.shape if size != 1]
            return _is_number(_innermost(self.type)) and len(long) <= 1 and None not in long
        return is_list(self.type) and _is_number(plain_type(self.type.value_type))

    @property
    def is_number(self) -> bool:
        """Whether the rows are single numbers, of a type that NumPy has."""
        return _is_number(self.type) and not pa.types.is_decimal(self.type)

    @property
    def is_float_vector(self) -> bool:
        """Whether the rows are vectors of floating point numbers."""
        return self.is_vector and pa.types.is_floating(_innermost(self.type))

    @property
    def is_encoded_image(self) -> bool:
        """Whether the rows can be the bytes of images, or structs of bytes and a path as Hugging Face writes them."""
        if pa.types.is_struct(self.type):
            names = [field.name for field in self.type]
            return names.count("bytes") == 1 and _is_binary(plain_type(self.type.field("bytes").type))
        return _is_binary(self.type)

    @property
    def is_image(self) -> bool:
        """Whether the rows can be images: encoded ones, or pixels."""
        pixels = self.shape is not None and (len(self.shape) == 2 or (len(self.shape) == 3 and self.shape[2] in (1, 3)))
        return self.is_encoded_image or (pixels and _innermost(self.type) == pa.uint8())

    @property
    def is_text(self) -> bool:
        """Whether the rows are texts."""
        return bool(
            pa.types.is_string(self.type) or pa.types.is_large_string(self.type) or pa.types.is_string_view(self.type)
        )

    @property
    def length(self) -> int | None:
        """Length of every vector, if the column's type says it."""
        if self.shape is not None:
            return None if None in self.shape else prod(size for size in self.shape if size is not None)
        return int(self.type.list_size) if pa.types.is_fixed_size_list(self.type) else None

    def fits(self, modality: str) -> bool:
        """Whether the column can hold payloads of a modality. Texts may be the paths of images."""
        return {"vector": self.is_vector, "image": self.is_image or self.is_text, "text": self.is_text}[modality]

    @property
    def is_as_stored(self) -> bool:
        """Whether values mean what is stored: no metadata name classes."""
        return _namer(self.feature) is None

    def values(self, column: pa.Array) -> list[Any]:
        """The values of a column as people mean them.

        Args:
            column: some rows of the column.

        Returns:
            Python values; None where there is none. Where Hugging Face's metadata name the classes of a column of
            numbers, the names; a number without a name is an `Unnamed`.
        """
        values: list[Any] = column.to_pylist()
        name = str if getattr(column.type, "extension_name", "") == "arrow.uuid" else _namer(self.feature)
        return values if name is None else [None if value is None else name(value) for value in values]

    def arrays(self, column: pa.Array) -> Iterator[Any]:
        """The rows of lists or tensors.

        Args:
            column: some rows of the column.

        Yields:
            An array of the row's shape; None for a null row; a list with None in it for a row that lacks a value.
        """
        column = plain_array(column)
        if self.shape is None or (is_list(column.type) and not is_list(plain_type(column.type.value_type))):
            rows: Iterator[Any] = rows_of_lists(column)
        else:
            rows = (_nested(row) for row in column)
        for row in rows:
            yield self._shaped(row) if self.shape is not None and isinstance(row, np.ndarray) else row

    def _shaped(self, row: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """A row in the shape of its tensor; a vector loses its dimensions of 1."""
        shape = self.shape or ()
        if None not in shape and row.ndim == 1 and row.size == self.length:
            sizes = tuple(size for size in shape if size is not None)
            if self.order is not None:
                stored = np.empty(len(sizes), int)
                stored[list(self.order)] = sizes
                row = row.reshape(tuple(stored)).transpose(self.order)
            row = row.reshape(sizes)
        return row.reshape(-1) if self.is_vector and row.ndim > 1 else row


@dataclass(frozen=True)
class Unnamed:
    """A number that stands for a class, where the metadata give it no name."""

    value: Any
    names: int
    """How many names there are."""

    def __str__(self) -> str:
        return f"label {self.value} is not one of the {self.names} classes that the file names"


def plain_type(kind: pa.DataType) -> pa.DataType:
    """A type without extension, dictionary and run-end encoding."""
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
            kind = kind.value_type
        else:
            return kind


def plain_array(column: pa.Array) -> pa.Array:
    """A column of the same values in the type that `plain_type` gives."""
    while isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if pa.types.is_dictionary(column.type) and not _is_view(column.type.value_type):
        column = column.dictionary_decode()
    kind = plain_type(column.type)
    # Arrow does not decode a dictionary of views, so the values go through Python.
    return column if kind == column.type else pa.array(column.to_pylist(), kind)


def rows_of_lists(column: pa.Array) -> Iterator[Any]:
    """The rows of a column of lists of numbers.

    Args:
        column: lists of any layout, without extension or dictionary.

    Yields:
        An array [d], of the column's own type (float64 for decimals); None for a null row; a list for a row with a
        null in it.
    """
    flat = _numbers(plain_array(column.flatten()))
    if flat is None:
        yield from (_nested(row) for row in column)
        return
    fixed = column.type.list_size if pa.types.is_fixed_size_list(column.type) else None
    lengths = [fixed] * len(column) if fixed is not None else column.value_lengths().to_pylist()
    place = 0
    for present, length in zip(column.is_valid().to_pylist(), lengths, strict=True):
        if present:
            yield flat[place : place + length]
            place += length
        else:
            yield None


def _numbers(flat: pa.Array) -> np.ndarray[Any, Any] | None:
    """Numbers as an array; None if one is missing."""
    if flat.null_count:
        return None
    if pa.types.is_decimal(flat.type):
        flat = flat.cast(pa.float64())
    numbers: np.ndarray[Any, Any] = flat.to_numpy(zero_copy_only=False)
    return numbers


def _nested(row: pa.Scalar) -> Any:
    """One row of nested lists as an array; None if it is null, and a list if a value in it is missing or ragged."""
    if not row.is_valid:
        return None
    flat, shape = row.values, []
    while True:
        flat = plain_array(flat)
        shape.append(len(flat))
        if not is_list(flat.type) or flat.null_count:
            break
        lengths = set(flat.value_lengths().to_pylist()) if not pa.types.is_fixed_size_list(flat.type) else {0}
        if len(lengths) > 1:
            return row.as_py()
        flat = flat.flatten()
    numbers = None if is_list(flat.type) else _numbers(flat)
    if numbers is None:
        return row.as_py()
    sizes = [size // max(before, 1) for before, size in zip([1, *shape], shape, strict=False)]
    return numbers.reshape(sizes)


def _features(metadata: Mapping[bytes, bytes] | None) -> Mapping[str, Any]:
    """What Hugging Face's metadata say of each column; nothing where they are absent or unreadable."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def _tensor_shape(field: pa.Field, kind: pa.DataType, feature: Any) -> tuple[int | None, ...] | None:
    """Shape of the tensors in a column, by Hugging Face's metadata or by lists of fixed size within each other."""
    shape = None
    if isinstance(feature, dict) and str(feature.get("_type", "")).startswith("Array"):
        shape = feature.get("shape")
    elif getattr(field.type, "extension_name", "").startswith("datasets.features"):  # this process imported `datasets`
        shape = list(getattr(field.type, "shape", ()))
    elif (field.metadata or {}).get(b"ARROW:extension:name", b"").startswith(b"datasets.features"):
        try:
            shape = json.loads(field.metadata[b"ARROW:extension:metadata"])[0]
        except (KeyError, TypeError, ValueError, IndexError):
            return None
    if isinstance(shape, list) and all(size is None or isinstance(size, int) for size in shape):
        return tuple(shape) if _depth(kind) == len(shape) else None
    sizes: list[int] = []
    while pa.types.is_fixed_size_list(kind):
        sizes.append(kind.list_size)
        kind = plain_type(kind.value_type)
    return tuple(sizes) if len(sizes) > 1 and not is_list(kind) else None


def _namer(feature: Any) -> Callable[[Any], Any] | None:
    """What turns a value of a column into what people mean by it; None if it is that already."""
    if isinstance(feature, list) and len(feature) == 1:
        feature = {"feature": feature[0]}
    if isinstance(feature, dict):
        names = feature.get("names")
        if feature.get("_type") == "ClassLabel" and isinstance(names, list):
            return lambda value: _named(value, names)
        if (inner := _namer(feature.get("feature"))) is not None:
            return lambda value: [inner(one) for one in value] if isinstance(value, list) else inner(value)
    return None


def _named(value: Any, names: list[Any]) -> Any:
    """The name of a class; None for no value, and for -1, by which Hugging Face's files say that no label is known."""
    if value is None or value == -1:  # within a list there can be None
        return None
    return str(names[value]) if isinstance(value, int) and 0 <= value < len(names) else Unnamed(value, len(names))


def is_list(kind: pa.DataType) -> bool:
    """Whether a type is one of lists, of whatever layout."""
    types = pa.types
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def _is_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind) or types.is_decimal(kind))


def _is_binary(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _innermost(kind: pa.DataType) -> pa.DataType:
    while is_list(kind := plain_type(kind)):
        kind = kind.value_type
    return kind


def _depth(kind: pa.DataType) -> int:
    """How many lists are within each other."""
    depth = 0
    while is_list(kind := plain_type(kind)):
        kind, depth = kind.value_type, depth + 1
    return depth
