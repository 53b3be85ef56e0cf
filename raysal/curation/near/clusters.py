"""Which items are kept where only rows of one cell are compared: approximate, and nearly linear in the items.

    items ──▶ place: the few cells of each ──▶ lead: of the open items of each cell those that are kept, seen from there
                                                  │
          open: no kept item before it is ◀─── cover ◀─── link: near pairs of leaders; of these, who is kept

An item is near to another one here if they share a cell, and are as similar as the threshold, which is decided exactly.
What is kept is the first independent set of these pairs. They are not listed: most of them lie in groups of which one
item is kept. Only pairs of leaders are. An item leads if it was kept among the open ones of its first cell, in the
order of keeping. The first independent set of the leaders is that of all items, once each other item is near to a
kept leader before it; where that one is not kept in the end, the item is open again, and new ones lead.

By induction in the order of keeping: a leader is kept if it is near to no kept one before it, as only leaders are kept;
any other item is near to a kept one before it. So what is kept depends on the pairs and the order alone.

More items may lead than need be: that costs pairs, and changes nothing. Where each item is near to the next one alone,
as on a grid, a kept one that another cell undoes would undo its cell two items a round. So after some rounds, further
items of the cells that have open ones lead, too, twice as many each round (`_Search.more`). Once that is a whole cell,
each round leaves one more cell without any that can be open again: there are at most `PATIENT` + log2 of the items of a
cell + the number of cells.

The folder is one of `raysal.curation.near.going`; a step is some cells in one of the stages.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.curation.near.cell_tasks import ClusterJob, Listed, Task, stage_task
from raysal.curation.near.going import KeepingPlan, begun, parts_of, read
from raysal.curation.near.independent_set import first_independent_set
from raysal.curation.near.job import shared_among
from raysal.curation.near.keeping import Kept
from raysal.curation.near.nearest import Nearest
from raysal.curation.near.placing import FEW, cells_for, cells_over
from raysal.curation.near.reading import rows_of_unit
from raysal.fleet import Fleet
from raysal.fleet.chunks import in_turns
from raysal.numerics import slices
from raysal.pool import Pool
from raysal.store import locked, remove_temporaries
from raysal.types import Report, no_report

UNITS_TOGETHER = 2
"""Rows of a task in units: what is read together, 134 MB."""
PATIENT = 4
"""Rounds that are gone through first. Frames of a film, each near to a few before and after it, took 6 in all."""
MORE = 64
"""Items of a cell that lead then, beside those that must."""


def kept_in_clusters(
    pool: Pool,
    fleet: Fleet,
    folder: Path,
    threshold: float,
    items: NDArray[np.int64],
    *,
    unit_rows: int | None = None,
    report: Report | None = None,
) -> Kept:
    """Choose who is kept, comparing items that share a cell alone.

    Cost: to place items O(n c d) for c cells, one for 4,096 items; to compare them O(n m d) at most for the m items of
    a cell, 8,192 on average, of which most are compared with leaders alone. Driver memory 100 bytes an item, and 30 for
    each near pair of leaders. Kept step by step: after an interruption it goes on.

    Args:
        pool: the items.
        fleet: is over that pool.
        folder: of this computation; what is there of the same one is read, anything else of it is replaced.
        threshold: a cosine, or minus the squared distance of what the pool holds.
        items: ids [n] of those that are looked at, in the order of keeping.
        unit_rows: rows that are compared as one, at most; for tests.
        report: called with the stage, what of it is done, and its total.

    Returns:
        What became of each of the items, in order of id.

    Raises:
        RunError: another process is at work on the folder.
        Damaged: a file is not as it was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = unit_rows or rows_of_unit(pool)
    plan = KeepingPlan.of(pool, threshold, items, rows, few=FEW, cells=cells_for(len(items)))
    with locked(folder, "comparison"):
        remove_temporaries(folder)
        cells = begun(folder, plan, lambda: cells_over(pool, items, threshold))
        job = ClusterJob(str(folder.absolute()), plan.metric, threshold, cells, plan.few, rows)
        search = _Search(fleet, folder, job, items, report or no_report)
        try:
            search.place()
            while search.open.any():
                search.lead()
                search.link()
                search.cover()
            found = search.nearest()
        finally:
            parts_of(folder).remove_leftovers()
    return search.result(found, 1.0 if pool.metric == "cosine" else 0.0)


class _Search:
    """What is known of each item so far, by its place among the ids."""

    def __init__(self, fleet: Fleet, folder: Path, job: ClusterJob, items: NDArray[np.int64], report: Report) -> None:
        self.fleet, self.folder, self.job, self.report = fleet, folder, job, report
        self.done = 0
        """steps"""
        self.rounds = 0
        n, order = len(items), np.argsort(items)
        self.ids = items[order]
        self.in_order = np.empty(n, np.int64)
        """places in the order of keeping"""
        self.in_order[order] = np.arange(n)
        self.rank = order
        self.cells = np.empty((n, 0), np.int32)
        self.open = np.ones(n, bool)
        self.leads, self.kept = np.zeros(n, bool), np.zeros(n, bool)
        self.new = np.zeros(n, bool)
        """leads, and is not linked yet"""
        self.by = np.full(n, -1)
        """of an item that does not lead, the place of a near leader before it"""
        self.links: list[NDArray[np.int32]] = [np.empty((2, 0), np.int32)]

    def place(self) -> None:
        """Find the cells of each item."""
        pieces = [*slices(len(self.ids), self.job.rows)]
        tasks = [Task("place", Listed.one(self.ids[own]), Listed.one(self.ids[:0])) for own in pieces]
        names = [f"cell_{number}" for number in range(min(self.job.few, len(self.job.cells)))]
        found = self._each("place items in cells", tasks, *names)
        self.cells = np.concatenate([np.empty((0, len(names)), np.int32), *(np.stack(one, 1) for one in found)])

    def lead(self) -> None:
        """Let those of the open items lead that are kept among those of their first cell."""
        open_ = self._listed(self.open, 1)
        self.new = np.zeros(len(self.ids), bool)
        for ids, others in self._each("compare within cells", self._tasks("lead", open_, open_), "id", "other"):
            own, by = self._places(ids), self._places(others)
            self.new[own[own == by]] = True
            self.by[own] = by
        self.rounds += 1
        if self.rounds > PATIENT:
            self.new[self.more(MORE << min(self.rounds - PATIENT - 1, 30))] = True
        self.leads |= self.new

    def more(self, most: int) -> NDArray[np.int64]:
        """Some items of each cell with an open one that do not lead: of its first open one on, then from the start."""
        first, count = self.cells[:, 0], len(self.job.cells)
        begin = np.full(count, len(self.ids))
        np.minimum.at(begin, first[self.open], self.rank[self.open])
        rows = self.in_order[~(self.leads | self.new)[self.in_order]]
        rows = rows[begin[first[rows]] < len(self.ids)]
        rows = rows[np.argsort(first[rows], kind="stable")]
        cell, sizes = first[rows], np.bincount(first[rows], minlength=count)
        passed = np.bincount(cell[self.rank[rows] < begin[cell]], minlength=count)
        place = np.arange(len(rows)) - (np.cumsum(sizes) - sizes)[cell]
        return rows[(place - passed[cell]) % sizes[cell] < most]

    def link(self) -> None:
        """Find near pairs of leaders, and who is kept of them."""
        tasks = self._tasks("link", self._listed(self.new), self._listed(self.leads))
        for ids, others in self._each("compare what leads", tasks, "id", "other"):
            self.links.append(np.stack([self._places(ids), self._places(others)]).astype(np.int32))
        leaders = self.in_order[self.leads[self.in_order]]
        place = np.empty(len(self.ids), np.int32)
        place[leaders] = np.arange(len(leaders))
        self.links = [np.concatenate(self.links, axis=1)]
        links = self.links[0]
        self.kept[leaders] = first_independent_set(len(leaders), place[links[0]], place[links[1]])

    def cover(self) -> None:
        """Open the items that are near to no kept one before them."""
        self.open = ~self.leads & ~self.kept[self.by]
        tasks = self._tasks("link", self._listed(self.open), self._listed(self.kept))
        for ids, others in self._each("look for kept ones", tasks, "id", "other"):
            own, by = self._places(ids), self._places(others)
            own, by = (np.concatenate(ends) for ends in ((own, by), (by, own)))
            before = self.open[own] & self.kept[by] & (self.rank[by] < self.rank[own])
            own, by = own[before], by[before]
            last = np.argsort(-self.rank[by], kind="stable")  # the first of those before it is the likeliest to stay
            self.by[own[last]] = by[last]
        self.open &= ~self.kept[self.by]

    def nearest(self) -> Nearest:
        """Find the most similar kept item of each other one."""
        tasks = self._tasks("nearest", self._listed(~self.kept), self._listed(self.kept))
        found = self._each("find the nearest kept", tasks, "id", "other", "similarity")
        return Nearest.joined([Nearest(*one) for one in found])

    def result(self, found: Nearest, same: float) -> Kept:
        nearest, value, own = self.ids.copy(), np.full(len(self.ids), same), self._places(found.ids)
        nearest[own], value[own] = found.nearest, found.similarity
        return Kept(self.ids, self.kept, nearest, value)

    def _places(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self.ids, ids)

    def _listed(self, some: NDArray[np.bool_], few: int | None = None) -> Listed:
        """Ids of some items cell by cell, within a cell in the order of keeping; in the first `few` of their cells."""
        rows = self.in_order[some[self.in_order]]
        cells = self.cells[rows, :few]
        order = np.argsort(cells.ravel(), kind="stable")
        counts = np.bincount(cells.ravel(), minlength=len(self.job.cells))
        return Listed(self.ids[rows[order // max(cells.shape[1], 1)]], np.concatenate([[0], np.cumsum(counts)]))

    def _tasks(self, stage: str, left: Listed, right: Listed) -> list[Task]:
        """Cells that have items on both sides, a run of them for each task."""
        both = (left.counts > 0) & (right.counts > 0)
        left, right = left.only(both), right.only(both)
        ends, most = np.cumsum(left.counts + right.counts), UNITS_TOGETHER * self.job.rows
        tasks, first = [], 0
        while first < len(ends):
            before = ends[first - 1] if first else 0
            last = max(int(np.searchsorted(ends, before + most, side="right")), first + 1)
            tasks.append(Task(stage, left.run(first, last), right.run(first, last)))
            first = last
        return tasks

    def _each(self, what: str, tasks: list[Task], *names: str) -> Iterator[list[NDArray[Any]]]:
        """Do tasks that are not done yet, and read what all have found."""
        parts, first = parts_of(self.folder), self.done
        numbered = [task._replace(number=first + at) for at, task in enumerate(tasks)]
        work = [task for task in numbered if not parts.record_of(task.number).exists()]
        ready = len(tasks) - len(work)
        self.report(what, ready, len(tasks))
        for turn in in_turns(shared_among(work, self.fleet.size)):
            self.fleet.reset()  # a worker that died makes up for one call
            for staged in self.fleet.each(stage_task, self.job, turn):
                if staged is not None:
                    parts.commit(staged)
                    ready += 1
            self.report(what, ready, len(tasks))
        self.done += len(tasks)
        return (read(self.folder, number, *names) for number in range(first, self.done))
