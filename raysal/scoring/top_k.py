"""The best few of many items: those of largest value, ties to the lower id.

The result does not depend on how the items are cut into parts, or on the order of the parts. So partitions send the
best of their own, and the driver takes the best of those.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.rng import item_uniform

BestItems = tuple[NDArray[np.int64], NDArray[np.floating]]
"""(ids, values), best first, ties to the lower id"""


def best_of(ids: NDArray[np.int64], values: NDArray[np.floating], m: int) -> BestItems:
    """The items of largest value, ties to the lower id. O(n), and a sort of about m items.

    Args:
        ids: int64 [n], in any order.
        values: float [n].
        m: how many; all where there are fewer.

    Returns:
        Their ids and values, best first.
    """
    if len(values) > 4 * m > 0:  # only the few that can be among the best are sorted
        able = values >= np.partition(values, len(values) - m)[len(values) - m]
        ids, values = ids[able], values[able]
    order = np.lexsort((ids, -values))[:m]
    return ids[order], values[order]


def best_of_parts(parts: Sequence[BestItems], m: int) -> BestItems:
    """The best items of all parts, each of which has at least its own m best.

    Args:
        parts: at least one, in any order.
        m: how many; all where there are fewer.

    Returns:
        Their ids and values, best first, ties to the lower id.
    """
    ids, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    return best_of(ids, values, m)


def lowest_hashes(ids: NDArray[np.int64], key: int, m: int) -> BestItems:
    """The items of lowest hash: a uniform sample without replacement.

    Args:
        ids: int64 [n], in any order.
        key: key of `raysal.rng`.
        m: how many; all where there are fewer.

    Returns:
        Their ids and values, best first; a value is 1 - hash, in (0, 1).
    """
    return best_of(ids, 1 - item_uniform(key, ids), m)


class RunningBest:
    """The m best items of each of several streams (`lanes`). Memory O(lanes * m).

    A value that is not above a lane's m-th best so far is dropped. Once the lanes are full few values pass, so that the
    upkeep costs little beside the product that made the values. Ids must come in ascending order over the calls.
    """

    def __init__(self, lanes: int, m: int, device: torch.device) -> None:
        self.m = m
        self.floor = torch.full((1, lanes), -torch.inf, device=device)
        """[1, lanes]; a value that is not above it is dropped"""
        self._values: list[NDArray[np.floating]] = [np.empty(0, np.float32) for _ in range(lanes)]
        self._ids: list[NDArray[np.int64]] = [np.empty(0, np.int64) for _ in range(lanes)]
        self._waiting: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.floating]]] = []
        self._waiting_count = 0

    def add(self, values: torch.Tensor, ids: NDArray[np.int64]) -> None:
        """Take the next items of every lane. One whose value equals a lane's m-th best is dropped: its id is higher.

        Args:
            values: float32 [n, lanes] on the device; -inf is never kept.
            ids: int64 [n], ascending, above those of earlier calls.
        """
        lanes = self.floor.shape[1]
        if self.m == 0 or lanes == 0:
            return
        place = true_positions(values > self.floor)
        if len(place) == 0:
            return
        row, lane = place // lanes, place % lanes
        self._waiting.append((lane.cpu().numpy(), ids[row.cpu().numpy()], values[row, lane].cpu().numpy()))
        self._waiting_count += len(place)
        if self._waiting_count >= 2 * self.m * lanes:
            self._merge_waiting()

    def _merge_waiting(self) -> None:
        """Merge what passed into the best so far, lane by lane, and raise the floors."""
        lane, ids, values = (np.concatenate(column) for column in zip(*self._waiting, strict=True))
        order = np.argsort(lane, kind="stable")
        cuts = np.searchsorted(lane[order], np.arange(len(self._values) + 1))
        for i, (low, high) in enumerate(itertools.pairwise(cuts)):
            if low == high:
                continue
            some = order[low:high]
            best = best_of_parts([(self._ids[i], self._values[i]), (ids[some], values[some])], self.m)
            self._ids[i], self._values[i] = best
            if len(self._values[i]) == self.m:
                self.floor[0, i] = float(self._values[i][-1])
        self._waiting, self._waiting_count = [], 0

    def result(self) -> list[BestItems]:
        """The best items of each lane so far."""
        if self._waiting:
            self._merge_waiting()
        return list(zip(self._ids, self._values, strict=True))


def true_positions(mask: torch.Tensor) -> torch.Tensor:
    """Flat positions of the true elements of a mask.

    Few elements are true. They are looked for eight at a time where the size of the mask allows it: `nonzero` over
    single bytes took a tenth of the sweep.

    Args:
        mask: bool of any shape.

    Returns:
        int64, ascending.
    """
    flat = mask.reshape(-1)
    if len(flat) % 8:
        return flat.nonzero()[:, 0]
    words = flat.view(torch.int64).nonzero()
    near = (words * 8 + torch.arange(8, device=mask.device)).reshape(-1)
    return near[flat[near]]
