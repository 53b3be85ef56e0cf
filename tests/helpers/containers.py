"""The containers in which people pass columns and matrices: the same values in each of them.

A missing value is None in `values` and a True of `mask`. Below it lies `BELOW`, a number that nobody may ever see.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import scipy.sparse
import torch
from numpy.typing import NDArray

BELOW = -999
"""What lies below a mask."""
Values = Sequence[Any]


def chunked(values: Values, kind: pa.DataType | None = None) -> pa.ChunkedArray:
    """Several chunks, and the second one with an offset."""
    whole = pa.array([*values[:1], *values], kind, from_pandas=False)
    return pa.chunked_array([whole[1:2], whole[2:]])


def masked(values: Values) -> np.ma.MaskedArray[Any, Any]:
    lacking = [value is None for value in values]
    kind = type(next(value for value in values if value is not None))
    return np.ma.array([kind(BELOW) if value is None else value for value in values], mask=lacking)


def objects(values: Values) -> NDArray[Any]:
    found = np.empty(len(values), object)
    found[:] = values
    return found


class ByPosition:
    """A column that is read value by value, as those of data sets are that decode when they are asked."""

    def __init__(self, values: Values) -> None:
        self._values = list(values)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, place: int) -> Any:
        return self._values[place.__index__()]


COLUMNS: dict[str, Callable[[Values], Any]] = {
    "list": list,
    "tuple": tuple,
    "deque": deque,
    "by position": ByPosition,
    "values of a dict": lambda values: dict(enumerate(values)).values(),
    "numpy objects": objects,
    "masked": masked,
    "pandas": lambda values: pd.Series(values, index=range(len(values), 0, -1)),
    "pandas, one index": lambda values: pd.Series(values, index=["same"] * len(values)),
    "pandas objects": lambda values: pd.Series(objects(values), index=[len(values), *range(len(values) - 1)]),
    "pandas index": lambda values: pd.Index(objects(values)),
    "pandas array": lambda values: pd.array(objects(values)),
    "pandas categories": lambda values: pd.Series(pd.Categorical(values), index=range(len(values), 0, -1)),
    "pandas on arrow": lambda values: pd.Series(values, dtype=pd.ArrowDtype(pa.array(values).type)),
    "pandas NA in a list": lambda values: [pd.NA if value is None else value for value in values],
    "polars": pl.Series,
    "polars objects": lambda values: pl.Series(values, dtype=pl.Object),
    "arrow": pa.array,
    "arrow chunks": chunked,
    "arrow dictionary": lambda values: pa.array(values).dictionary_encode(),
    "arrow scalars": lambda values: list(pa.array(values)),
}
"""{name: a column of texts or numbers, of which some may be missing}."""
OF_TEXTS: dict[str, Callable[[Values], Any]] = {
    "pandas string": lambda values: pd.Series(values, dtype="string"),
    "pandas string on arrow": lambda values: pd.Series(values, dtype="string[pyarrow]"),
    "polars categories": lambda values: pl.Series(values, dtype=pl.Categorical),
    "polars enum": lambda values: pl.Series(values, dtype=pl.Enum(sorted({v for v in values if v is not None}))),
    "arrow large": lambda values: pa.array(values, pa.large_string()),
    "arrow view": lambda values: pa.array(values, pa.string_view()),
    "arrow dictionary of views": lambda values: pa.chunked_array(pl.Series(values, dtype=pl.Categorical)),
}
OF_NUMBERS: dict[str, Callable[[Values], Any]] = {
    "pandas nullable": lambda values: pd.Series(values, dtype="Int64"),
    "pandas nullable array": lambda values: pd.array(values, dtype="Int64"),
}
WHOLE: dict[str, Callable[[Values], Any]] = {
    "numpy": np.array,
    "masked nowhere": np.ma.array,
}
"""Containers without a mark for what is missing."""


def frame_of(values: NDArray[Any]) -> pd.DataFrame:
    return pd.DataFrame(values, index=range(len(values), 0, -1), columns=[f"x{i}" for i in range(values.shape[1])])


def lists(values: NDArray[Any], kind: Any = None) -> pa.Array:
    return pa.array(values.tolist(), kind or pa.list_(pa.from_numpy_dtype(values.dtype)))


def tensor(values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


def series_of_rows(values: NDArray[Any]) -> pd.Series:
    return pd.Series(list(values), index=range(len(values), 0, -1))


SPARSE = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
MATRICES: dict[str, Callable[[NDArray[Any]], Any]] = {
    "numpy": lambda x: x,
    "numpy by columns": np.asfortranarray,
    "numpy [n, 1, d]": lambda x: x[:, None, :],
    "numpy matrix": lambda x: x.view(np.matrix),
    "masked nowhere": np.ma.array,
    "rows": list,
    "tuples": lambda x: tuple(map(tuple, x)),
    "rows [1, d]": lambda x: [row[None] for row in x],
    "pandas": frame_of,
    "pandas rows": series_of_rows,
    "polars": lambda x: pl.DataFrame(x, schema=[f"x{i}" for i in range(x.shape[1])]),
    "polars lists": lambda x: pl.Series(x.tolist(), dtype=pl.List(pl.Series(x[0]).dtype)),
    "polars arrays": lambda x: pl.Series(x.tolist(), dtype=pl.Array(pl.Series(x[0]).dtype, x.shape[1])),
    "arrow table": lambda x: pa.table({f"x{i}": x[:, i] for i in range(x.shape[1])}),
    "arrow lists": lists,
    "arrow lists of fixed size": lambda x: lists(x, pa.list_(pa.from_numpy_dtype(x.dtype), x.shape[1])),
    "arrow large lists": lambda x: lists(x, pa.large_list(pa.from_numpy_dtype(x.dtype))),
    "arrow list views": lambda x: lists(x, pa.list_view(pa.from_numpy_dtype(x.dtype))),
    "arrow large list views": lambda x: lists(x, pa.large_list_view(pa.from_numpy_dtype(x.dtype))),
    "arrow chunks": lambda x: chunked(x.tolist(), pa.list_(pa.from_numpy_dtype(x.dtype))),
    "arrow tensors": pa.FixedShapeTensorArray.from_numpy_ndarray,
    "arrow tensors [1, d]": lambda x: pa.FixedShapeTensorArray.from_numpy_ndarray(x[:, None, :]),
    "torch": tensor,
    "torch rows": lambda x: list(tensor(x)),
    "torch sparse": lambda x: tensor(x).to_sparse(),
    **{
        f"scipy {kind}": getattr(scipy.sparse, f"{kind}_array")
        for kind in ["bsr", "coo", "csc", "csr", "dia", "dok", "lil"]
    },
    "scipy matrix": scipy.sparse.csr_matrix,
    "scipy rows": lambda x: [scipy.sparse.csr_array(row[None]) for row in x],
}
"""{name: a matrix [n, d], of the type of the array}."""


def lacking(x: NDArray[Any], mask: NDArray[np.bool_]) -> list[list[Any]]:
    return [
        [None if off else value for value, off in zip(*row, strict=True)] for row in zip(x.tolist(), mask, strict=True)
    ]


LACKING: dict[str, Callable[[NDArray[Any], NDArray[np.bool_]], Any]] = {
    "lists": lacking,
    "masked": lambda x, mask: np.ma.array(np.where(mask, BELOW, x), mask=mask),
    "masked rows": lambda x, mask: list(np.ma.array(np.where(mask, BELOW, x), mask=mask)),
    "numpy objects": lambda x, mask: np.array(lacking(x, mask), object),
    "pandas": lambda x, mask: frame_of(x).mask(pd.DataFrame(mask, *frame_of(x).axes)),
    "pandas nullable": lambda x, mask: pd.DataFrame(
        {i: pd.array(column, "Float64") for i, column in enumerate(zip(*lacking(x, mask), strict=True))}
    ),
    "pandas on arrow": lambda x, mask: pd.Series(lacking(x, mask), dtype=pd.ArrowDtype(pa.list_(pa.float64()))),
    "polars": lambda x, mask: pl.DataFrame(lacking(x, mask), orient="row", schema=[f"x{i}" for i in range(x.shape[1])]),
    "polars lists": lambda x, mask: pl.Series(lacking(x, mask)),
    "polars arrays": lambda x, mask: pl.Series(lacking(x, mask), dtype=pl.Array(pl.Float64, x.shape[1])),
    "arrow lists": lambda x, mask: pa.array(lacking(x, mask)),
    "arrow lists of fixed size": lambda x, mask: pa.array(lacking(x, mask), pa.list_(pa.float64(), x.shape[1])),
    "arrow tensors": lambda x, mask: pa.FixedShapeTensorArray.from_numpy_ndarray(
        np.ma.array(np.where(mask, BELOW, x), mask=mask)
    ),
    "arrow table": lambda x, mask: pa.table(
        {f"x{i}": list(c) for i, c in enumerate(zip(*lacking(x, mask), strict=True))}
    ),
    "arrow rows": lambda x, mask: [pa.array(row) for row in lacking(x, mask)],
    "polars rows": lambda x, mask: [pl.Series(row, dtype=pl.Float64) for row in lacking(x, mask)],
}
"""{name: a float64 matrix [n, d] that lacks the values where `mask` is true}."""
