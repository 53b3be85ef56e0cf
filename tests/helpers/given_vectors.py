"""Vectors of every magnitude, offset and type, the containers that give them, and what a pool holds of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from raysal.pool import Pool
from raysal.sources.memory import Memory
from raysal.sources.table import Table

Given = NDArray[np.floating[Any]]
MAGNITUDES = {
    "int8": (1.0, 30.0),
    "float16": (1e-6, 1e-3, 1.0, 1e3),
    "float32": (1e-44, 1e-40, 1e-37, 1e-30, 1e-17, 1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 1.0, 1e3, 1e5, 1e9, 1e20, 1e36),
    "float64": (1e-140, 1e-50, 1e-17, 1e-7, 1.0, 1e5, 1e50, 1e140),
}
OFFSETS = (0.0, 1.0, 1e2, 1e4)
GIVEN = [(dtype, magnitude, offset) for dtype, sizes in MAGNITUDES.items() for magnitude in sizes for offset in OFFSETS]


def gaussians(n: int, dim: int, dtype: str, magnitude: float, offset: float, seed: int = 0) -> Given:
    """Normal numbers about an offset, times a magnitude, rounded to a type.

    Those beyond the type become infinite, or of an integer the largest.
    """
    values = (np.random.default_rng(seed).normal(size=(n, dim)) + offset) * magnitude
    if dtype == "int8":
        values = np.clip(np.rint(values), -128, 127)
    with np.errstate(over="ignore"):
        return np.asarray(values.astype(dtype))


def keys_of(n: int) -> list[str]:
    return [f"k{i}" for i in range(n)]


def in_memory(x: Given, folder: Path) -> Memory:
    del folder
    return Memory(keys=keys_of(len(x)), vectors=x)


def in_lists(x: Given, folder: Path) -> Memory:
    del folder
    return Memory(keys=keys_of(len(x)), vectors=x.tolist())


def in_a_tensor(x: Given, folder: Path) -> Memory:
    del folder
    return Memory(keys=keys_of(len(x)), vectors=torch.from_numpy(x))


def columns_of(x: Given, fixed: bool) -> pa.Table:
    flat = pa.array(x.reshape(-1))
    rows = (
        pa.FixedSizeListArray.from_arrays(flat, x.shape[1])
        if fixed
        else pa.ListArray.from_arrays(np.arange(len(x) + 1, dtype=np.int32) * x.shape[1], flat)
    )
    return pa.table({"key": keys_of(len(x)), "vector": rows})


def in_parquet(x: Given, folder: Path) -> Table:
    path = folder / "given.parquet"
    pq.write_table(columns_of(x, fixed=False), path, row_group_size=50)
    return Table(path=path)


def in_arrow(x: Given, folder: Path) -> Table:
    path, table = folder / "given.arrow", columns_of(x, fixed=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return Table(path=path)


CONTAINERS: dict[str, Callable[[Given, Path], Any]] = {
    "memory": in_memory,
    "lists": in_lists,
    "tensor": in_a_tensor,
    "parquet": in_parquet,
    "arrow": in_arrow,
}


def stored(pool: Pool) -> NDArray[np.float16]:
    """The vectors as the pool holds them [n, d]."""
    return np.concatenate([chunk.vectors() for chunk in pool.chunks])


def exported(pool: Pool, file: Path) -> tuple[NDArray[np.int64], Given]:
    """Ids [n] and vectors [n, d] of an export."""
    pool.export(file)
    table = pq.read_table(file)
    values = table["vector"].combine_chunks()
    return table["id"].to_numpy(), values.flatten().to_numpy(zero_copy_only=False).reshape(-1, pool.dim)


def cosines_of(a: Given, b: Given) -> NDArray[np.float64]:
    """Cosines of rows, one by one, at any magnitude; of two zero vectors 1."""
    found = []
    for x, y in zip(a.astype(np.float64), b.astype(np.float64), strict=True):
        tops = np.abs(x).max(), np.abs(y).max()
        if 0 in tops:
            found.append(float(tops[0] == tops[1]))
            continue
        x, y = x / tops[0], y / tops[1]
        found.append(float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)))
    return np.array(found)


def nearest(x: Given, k: int = 10) -> NDArray[np.int64]:
    """The k nearest others of each row by the Euclidean distance, by differences in float64 [n, k]."""
    wide = x.astype(np.float64)
    wide /= np.abs(wide).max() or 1.0
    gaps = np.stack([((wide - row) ** 2).sum(1) for row in wide])
    np.fill_diagonal(gaps, np.inf)
    return np.argsort(gaps, 1, kind="stable")[:, :k]
