"""The folder of a computation that goes on after an interruption: who is kept, found step by step.

    plan.json           what is computed of what (sealed)
    cells.arrow         as of `raysal.curation.near.folder`
    found/00000.arrow   columns of one step
    commits/00000.json  the bytes and sha256 of the file (sealed)

Each step depends on the plan and on the steps before it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import array_of, numbers_of
from raysal.commits import Parts, Staged, stage_file
from raysal.curation.near.cells import Cells
from raysal.curation.near.folder import COMMITS, FIX, PLAN, read_batch, read_cells, write_batch, write_cells
from raysal.errors import Damaged
from raysal.pool import Pool
from raysal.store import read_sealed, write_sealed
from raysal.types import Metric

FOUND = "found"
VERSION, CLUSTERS_VERSION = 1, 3
"""Of what is computed where all items are compared, and where those that share a cell are. Another one for all that
changes which steps there are: a folder knows them by their numbers."""


@dataclass(frozen=True, kw_only=True)
class KeepingPlan:
    """What a folder holds."""

    vector_space: str
    metric: Metric
    threshold: float
    """a cosine, or minus a squared distance"""
    pool: str
    """fingerprint of the generation"""
    items: str
    """sha256 of the ids of the items, in the order of keeping"""
    few: int
    """cells that each item lies in, where only items that share one are compared; 0 where all are"""
    cells: int
    """how many cells there are then, at most"""
    rows: int
    """of a unit, at most"""
    version: int

    @classmethod
    def of(
        cls, pool: Pool, threshold: float, items: NDArray[np.int64], rows: int, *, few: int = 0, cells: int = 0
    ) -> Self:
        """Say what is computed.

        Args:
            pool: the items.
            threshold: a cosine, or minus a squared distance.
            items: ids of those that are looked at, in the order of keeping.
            rows: of a unit.
            few: cells that each item lies in; 0 where all are compared.
            cells: how many there are then.

        Returns:
            The plan.
        """
        return cls(
            vector_space=pool.vector_space,
            metric=pool.metric,
            threshold=threshold,
            pool=pool.fingerprint,
            items=sha256(np.ascontiguousarray(items, np.int64).tobytes()).hexdigest(),
            few=few,
            cells=cells,
            rows=rows,
            version=CLUSTERS_VERSION if few else VERSION,
        )


def begun(folder: Path, plan: KeepingPlan, cells: Callable[[], Cells]) -> Cells:
    """Begin a computation, or go on with it where the folder is of the same one; anything else of it is replaced.

    Args:
        folder: the folder; it exists.
        plan: what is computed of what.
        cells: makes the cells, for a new folder.

    Returns:
        The cells of the folder.

    Raises:
        Damaged: a file is not as it was written.
    """
    path, wanted = folder / PLAN, asdict(plan)
    record = read_sealed(path, FIX.format(folder)) if path.exists() else {}
    if {name: record.get(name) for name in wanted} != wanted:
        path.unlink(missing_ok=True)
        parts_of(folder).delete()
        record = {**wanted, "cells_sha256": write_cells(folder, cells())}
        write_sealed(path, record)
    parts_of(folder).begin()
    return read_cells(folder, str(record["cells_sha256"]))


def parts_of(folder: Path) -> Parts:
    """The parts of a folder: one for each step."""
    return Parts(folder, (f"{FOUND}/{{:05d}}.arrow",), f"{COMMITS}/{{:05d}}.json", FIX.format(folder))


def stage(folder: Path, number: int, columns: Mapping[str, NDArray[Any]]) -> Staged:
    """Write what a step found under a temporary name. Any process may do so.

    Args:
        folder: the folder.
        number: of the step.
        columns: numbers, all of one length.

    Returns:
        What the driver needs to commit the file.
    """
    arrays = {name: array_of(values, pa.from_numpy_dtype(values.dtype)) for name, values in columns.items()}
    file = stage_file(folder, f"{FOUND}/{number:05d}.arrow", lambda temporary: write_batch(temporary, arrays))
    return Staged(number, len(next(iter(columns.values()))), (file,))


def read(folder: Path, number: int, *names: str) -> list[NDArray[Any]]:
    """Read columns of what a step found, after the file was compared with its record.

    Args:
        folder: the folder.
        number: of the step.
        names: of the columns.

    Returns:
        The columns.

    Raises:
        Damaged: the file is not as it was written, or lacks a column.
    """
    parts_of(folder).check(number)
    path = folder / f"{FOUND}/{number:05d}.arrow"
    batch = read_batch(path)
    try:
        return [numbers_of(batch.column(name)) for name in names]
    except KeyError as error:
        raise Damaged(path, f"not what was found by a step ({error})", FIX.format(folder)) from None
