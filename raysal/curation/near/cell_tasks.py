"""What a partition does for some cells: it reads their rows once, and compares those of each cell in one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.commits import Staged
from raysal.curation.near.cells import Cells
from raysal.curation.near.going import stage
from raysal.curation.near.nearest import Nearest, nearest_of
from raysal.curation.near.pairs import near_pairs_of
from raysal.curation.near.placing import Places
from raysal.curation.near.reading import open_once, rows_at
from raysal.curation.near.settling import settle
from raysal.curation.near.unit import Unit, compared_rows, radius_of
from raysal.fleet import Partition
from raysal.numerics import shared_out, slices
from raysal.pool import Pool
from raysal.types import Metric


class Listed(NamedTuple):
    """Items cell by cell."""

    ids: NDArray[np.int64]
    """those of one cell after those of another, each in the order of keeping"""
    starts: NDArray[np.int64]
    """where those of each cell begin, [c + 1]"""

    @classmethod
    def one(cls, ids: NDArray[np.int64]) -> Self:
        """All in one."""
        return cls(ids, np.array([0, len(ids)]))

    @property
    def counts(self) -> NDArray[np.int64]:
        """Of each cell [c]."""
        return np.diff(self.starts)

    def of(self, cell: int) -> NDArray[np.int64]:
        """Those of one cell."""
        return self.ids[self.starts[cell] : self.starts[cell + 1]]

    def only(self, cells: NDArray[np.bool_]) -> Listed:
        """Some cells [c], numbered anew."""
        counts = self.counts
        return Listed(self.ids[np.repeat(cells, counts)], np.concatenate([[0], np.cumsum(counts[cells])]))

    def run(self, first: int, last: int) -> Listed:
        """The cells from the first to the one before the last."""
        low, high = self.starts[first], self.starts[last]
        return Listed(self.ids[low:high], self.starts[first : last + 1] - low)


class Task(NamedTuple):
    """What is done for some cells."""

    stage: str
    """`place`, `lead`, `link` or `nearest`"""
    left: Listed
    right: Listed
    """of the same cells"""
    number: int = 0
    """of the step"""


class ClusterJob(NamedTuple):
    """What travels to the partitions."""

    folder: str
    metric: Metric
    threshold: float
    cells: Cells
    few: int
    """cells that each row lies in"""
    rows: int
    """that are compared as one, at most"""


def stage_task(partition: Partition, job: ClusterJob, turn: tuple[Task | None, ...]) -> Staged | None:
    """Do a task, and write what was found.

    Args:
        partition: a worker. What rows it has does not matter.
        job: of the pool that the partition is of.
        turn: the task of each partition, or None.

    Returns:
        What was written; None where there was nothing to do.
    """
    task = turn[partition.index]
    if task is None:
        return None
    pool, threads = open_once(partition), partition.spec.threads or torch.get_num_threads()
    if task.stage == "place":
        rows = compared_rows(rows_at(pool, task.left.ids)[1], job.metric)
        cells = Places(job.cells).of(rows, job.few, threads=threads)
        return stage(Path(job.folder), task.number, {f"cell_{at}": cells[:, at] for at in range(cells.shape[1])})
    compared = _Compared(pool, job, task)
    count = len(task.left.counts)
    compared.threads = threads if count == 1 else 1
    found = shared_out(compared.of_cell, range(count), threads if count > 1 else 1)
    every = [np.concatenate([one[side] for one in found]) for side in range(3)]
    return stage(Path(job.folder), task.number, dict(zip(("id", "other", "similarity"), every, strict=True)))


class _Compared:
    """Compares the rows of each cell of a task."""

    def __init__(self, pool: Pool, job: ClusterJob, task: Task) -> None:
        self.pool, self.job, self.task, self.threads = pool, job, task, 1
        self.ids, self.vectors = np.empty(0, np.int64), np.empty((0, pool.dim), np.float16)
        if len(task.left.counts) > 1:  # a large cell is read piece by piece
            self.ids, self.vectors = rows_at(pool, np.union1d(task.left.ids, task.right.ids))

    def of_cell(self, cell: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """What was found of a cell: ids [m], ids of others [m], and their similarity [m]."""
        left, right = self.task.left.of(cell), self.task.right.of(cell)
        if self.task.stage == "lead":
            return self._leaders(left)
        same = np.array_equal(left, right)
        found: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = [Nearest.joined([])]
        for own in slices(len(left), self.job.rows):
            a = self._unit(left[own])
            for others in slices(len(right), self.job.rows):
                b = a if same and own == others else self._unit(right[others])
                if self.task.stage == "nearest":
                    found.append(nearest_of(a, b, self.job.threshold, self.job.metric, threads=self.threads))
                    continue
                pairs = near_pairs_of(
                    a, b, self.job.threshold, self.job.metric, threads=self.threads, most=len(a) * len(b)
                )
                unlike = pairs.first != pairs.second
                found.append((pairs.first[unlike], pairs.second[unlike], pairs.similarity[unlike]))
        first, second, similarity = (np.concatenate([one[side] for one in found]) for side in range(3))
        return first, second, similarity

    def _leaders(self, ids: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Who leads among items in the order of keeping [m], and of each other one a leader before it."""
        leaders, dropped = ids[:0], [Nearest.joined([])]
        for piece in slices(len(ids), self.job.rows):
            unit = self._unit(ids[piece])
            place = np.searchsorted(unit.ids, ids[piece])
            for some in slices(len(leaders), self.job.rows):
                right = self._unit(leaders[some])
                near = nearest_of(unit, right, self.job.threshold, self.job.metric, threads=self.threads)
                dropped.append(near)
                place = place[~np.isin(unit.ids[place], near.ids)]
            settled = settle(unit, place, self.job.threshold, self.job.metric, threads=self.threads)
            leaders = np.concatenate([leaders, settled.kept])
            dropped.append(settled.dropped)
        by = Nearest.joined(dropped)
        similarity = np.concatenate([np.ones(len(leaders)), by.similarity])
        return np.concatenate([leaders, by.ids]), np.concatenate([leaders, by.nearest]), similarity

    def _unit(self, ids: NDArray[np.int64]) -> Unit:
        wanted = np.sort(ids)
        if len(self.ids):
            vectors = self.vectors[np.searchsorted(self.ids, wanted)]
        else:
            wanted, vectors = rows_at(self.pool, wanted)
        radius = radius_of(self.job.threshold, self.job.metric)
        return Unit.together(wanted, vectors, self.job.metric, self.job.cells, radius)
