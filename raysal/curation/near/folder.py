"""The files of the near pairs of a pool, which later calls read again: for another threshold, and of a pool that grew.

    plan.json           which pairs they are, and where units end (sealed)
    cells.arrow         the origin, the axes and the centroids of the cells
    pairs/00000.arrow   the near pairs of two units, and the items that have the vector of an earlier one
    commits/00000.json  the number of pairs, and the bytes and sha256 of the file (sealed)

Units are ranges of ids. Those of a pool that grew are added at the end, so pairs of older units are never looked for
again. The units u <= v have the files of the number v (v + 1) / 2 + u.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import array_of, numbers_of
from raysal.commits import Parts, Staged, stage_file
from raysal.curation.near.cells import Cells
from raysal.curation.near.pairs import Pairs, at_least
from raysal.errors import Damaged
from raysal.store import check_bytes, read_sealed, sha256_of, write_file, write_sealed
from raysal.types import Metric

VERSION = 1
PLAN, CELLS, PAIRS, COMMITS = "plan.json", "cells.arrow", "pairs", "commits"
FIX = "delete {}, and run the same command again"


@dataclass(frozen=True, kw_only=True)
class NearPlan:
    """Which pairs a folder holds."""

    vector_space: str
    """of the pool: pairs of another encoder are no pairs"""
    metric: Metric
    threshold: float
    """the least similarity: a cosine, or minus a squared distance"""
    pool: str
    """fingerprint of the generation whose items the units hold"""
    cuts: tuple[int, ...]
    """ids at which units begin, and the id after the last one"""
    cells: str
    """sha256 of the file of the cells"""
    too_many: bool = False
    """whether more pairs are near than are listed; then there are none. Recorded only where it is so"""
    version: int = VERSION

    @property
    def units(self) -> int:
        """How many there are."""
        return len(self.cuts) - 1

    @property
    def parts(self) -> int:
        """How many pairs of units there are, each with itself included."""
        return self.units * (self.units + 1) // 2

    @classmethod
    def read(cls, folder: Path) -> NearPlan | None:
        """Read the plan of a folder.

        Args:
            folder: the folder; it need not exist.

        Returns:
            The plan; None where nothing was begun, or an older version of raysal began it.

        Raises:
            Damaged: the file was altered.
        """
        path = folder / PLAN
        if not path.exists():
            return None
        record = read_sealed(path, FIX.format(folder))
        if record.get("version") != VERSION:
            return None
        try:
            return cls(**{**record, "cuts": tuple(record["cuts"])})
        except (TypeError, KeyError) as error:
            raise Damaged(path, f"not a plan of near pairs ({error})", FIX.format(folder)) from None

    def write(self, folder: Path) -> None:
        """Write the plan.

        Args:
            folder: its folder.
        """
        record = asdict(self)
        if not self.too_many:
            del record["too_many"]
        write_sealed(folder / PLAN, record)


class UnitPair(NamedTuple):
    """Two units whose rows are compared, u <= v."""

    u: int
    v: int

    @property
    def number(self) -> int:
        """The number of its files."""
        return self.v * (self.v + 1) // 2 + self.u


def unit_pairs(units: int, block: int) -> list[UnitPair]:
    """All pairs of units, in an order in which few units are needed at a time.

    Args:
        units: how many there are.
        block: how many consecutive ones are compared with as many others, before the next are taken.

    Returns:
        The pairs.
    """
    every = [UnitPair(u, v) for v in range(units) for u in range(v + 1)]
    return sorted(every, key=lambda pair: (pair.v // block, pair.u // block, pair.v, pair.u))


def parts_of(folder: Path) -> Parts:
    """The parts of a folder: one for each pair of units.

    Args:
        folder: the folder.

    Returns:
        The parts.
    """
    return Parts(folder, (f"{PAIRS}/{{:05d}}.arrow",), f"{COMMITS}/{{:05d}}.json", FIX.format(folder))


def write_cells(folder: Path, cells: Cells) -> str:
    """Write the cells of a folder.

    Args:
        folder: the folder.
        cells: what all of its units share.

    Returns:
        The sha256 of the file.
    """
    rows = np.concatenate([cells.origin[None], cells.axes, cells.centroids])
    column = pa.FixedSizeListArray.from_arrays(array_of(rows.ravel(), pa.float32()), rows.shape[1])
    leading = array_of(np.full(len(rows), cells.leading, np.int64), pa.int64())
    write_file(folder / CELLS, lambda temporary: write_batch(temporary, {"row": column, "leading": leading}))
    return sha256_of(folder / CELLS)


def read_cells(folder: Path, sha256: str) -> Cells:
    """Read the cells of a folder.

    Args:
        folder: the folder.
        sha256: of the file, as the plan says.

    Returns:
        The cells.

    Raises:
        Damaged: the file is not as it was written.
    """
    check_bytes(folder / CELLS, sha256, FIX.format(folder))
    batch = read_batch(folder / CELLS)
    values: NDArray[np.float32] = numbers_of(batch.column("row").values)
    rows = np.array(values.reshape(batch.num_rows, -1))
    dim = rows.shape[1]
    return Cells(rows[dim + 1 :], rows[0], rows[1 : dim + 1], int(numbers_of(batch.column("leading"))[0]))


def stage_pairs(folder: Path, number: int, pairs: Pairs, copies: NDArray[np.int64]) -> Staged:
    """Write the pairs of two units under a temporary name. Any process may do so.

    Args:
        folder: the folder.
        number: of the pair of units.
        pairs: what is near.
        copies: ids [m, 2] of items that have the vector of another one, and of these.

    Returns:
        What the driver needs to commit the file.
    """
    columns = {
        "first": array_of(np.concatenate([pairs.first, copies[:, 1]]), pa.int64()),
        "second": array_of(np.concatenate([pairs.second, copies[:, 0]]), pa.int64()),
        "similarity": array_of(np.concatenate([pairs.similarity, np.ones(len(copies))]), pa.float64()),
        "copy": array_of(np.repeat(np.array([0, 1], np.int8), [len(pairs.first), len(copies)]), pa.int8()),
    }
    file = stage_file(folder, f"{PAIRS}/{number:05d}.arrow", lambda temporary: write_batch(temporary, columns))
    return Staged(number, len(pairs.first), (file,))


def read_pairs(folder: Path, plan: NearPlan, threshold: float) -> Iterator[tuple[Pairs, NDArray[np.int64]]]:
    """Read the near pairs of a finished folder. Each file is compared with its record first.

    Args:
        folder: the folder.
        plan: its plan.
        threshold: the least similarity; at least that of the plan.

    Yields:
        Of one pair of units after the other the pairs, and the copies [m, 2] of `stage_pairs`.

    Raises:
        Damaged: a file is not as it was written, or is missing.
    """
    parts = parts_of(folder)
    for number in range(plan.parts):
        parts.check(number)
        batch = read_batch(folder / f"{PAIRS}/{number:05d}.arrow")
        first, second, similarity, copy = (numbers_of(batch.column(name)) for name in batch.schema.names)
        near = (copy == 0) & at_least(similarity, threshold)
        copied = copy == 1
        yield (
            Pairs(first[near], second[near], similarity[near]),
            np.stack([second[copied], first[copied]], axis=1),
        )


def write_batch(path: Path, columns: dict[str, pa.Array]) -> None:
    """Write columns as one record batch of Arrow IPC."""
    batch = pa.record_batch(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def read_batch(path: Path) -> pa.RecordBatch:
    """Read a file that `write_batch` wrote."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).get_batch(0)
