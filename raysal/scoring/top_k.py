"""The best few of many items: those of largest value, ties by `raysal.rng.item_order`.

The result does not depend on how the items are cut into parts, or on the order of the parts. So partitions send the
best of their own, and the driver takes the best of those.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.numerics import ALIGN, slices
from raysal.rng import item_order, item_uniform

HASHED_IDS = 2**18
"""Ids that are hashed at once: hashes of all take 40 bytes an item on the way."""

BestItems = tuple[NDArray[np.int64], NDArray[np.floating]]
"""(ids, values), best first"""


def best_of(ids: NDArray[np.int64], values: NDArray[np.floating], m: int, *, ties: int | None) -> BestItems:
    """The items of largest value. O(n), and a sort of about m items.

    Args:
        ids: int64 [n], in any order.
        values: float [n].
        m: how many; all where there are fewer.
        ties: key of the hash that orders items of equal value; None for the lower id (`raysal.rng.item_order`).

    Returns:
        Their ids and values, best first.
    """
    if len(values) > 4 * m > 0:  # only the few that can be among the best are sorted
        floor = np.partition(values, len(values) - m)[len(values) - m]
        above, level = np.flatnonzero(values > floor), np.flatnonzero(values == floor)
        few = m - len(above)
        if few < len(level):  # with a constant score these are all items
            level = level[np.argpartition(item_order(ties, ids[level]), few)[:few]]
        able = np.concatenate([above, level])
        ids, values = ids[able], values[able]
    order = np.lexsort((item_order(ties, ids), -values))[:m]
    return ids[order], values[order]


def best_of_parts(parts: Sequence[BestItems], m: int, *, ties: int | None) -> BestItems:
    """The best items of all parts, each of which has at least its own m best.

    Args:
        parts: at least one, in any order.
        m: how many; all where there are fewer.
        ties: as of `best_of`, and as the parts were made with.

    Returns:
        Their ids and values, best first.
    """
    ids, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    return best_of(ids, values, m, ties=ties)


def lowest_hashes(ids: NDArray[np.int64], key: int, m: int, among: NDArray[np.bool_] | None = None) -> BestItems:
    """The items of lowest hash: a uniform sample without replacement. Memory O(m), and that of a piece.

    Args:
        ids: int64 [n], in any order.
        key: key of `raysal.rng`.
        m: how many; all where there are fewer.
        among: bool [n], those that may be taken; None for all.

    Returns:
        Their ids and values, best first; a value is 1 - hash, in (0, 1).
    """
    best: BestItems = np.empty(0, np.int64), np.empty(0)
    for some in slices(len(ids), max(HASHED_IDS, 8 * m)):
        own = ids[some] if among is None else ids[some][among[some]]
        best = best_of_parts([best, best_of(own, 1 - item_uniform(key, own), m, ties=key)], m, ties=key)
    return best


class RunningBest:
    """The m best items of each of several streams (`lanes`). Memory O(lanes * m).

    A value below a lane's m-th best so far is dropped, and so is an equal one that comes after it in the order of ties.
    Once the lanes are full few values pass, so that the upkeep costs little beside the product that made the values.
    """

    def __init__(self, lanes: int, m: int, device: torch.device, *, ties: int | None) -> None:
        self.m, self._ties = m, ties
        self.floor = torch.full((1, lanes), -torch.inf, device=device)
        """[1, lanes], just below the m-th best so far; a value that is not above it is dropped"""
        self._least = np.full(lanes, -np.inf, np.float32)
        """[lanes] the m-th best"""
        self._last = np.zeros(lanes, np.int64)
        """[lanes] its number in the order of ties"""
        self._values: list[NDArray[np.floating]] = [np.empty(0, np.float32) for _ in range(lanes)]
        self._ids: list[NDArray[np.int64]] = [np.empty(0, np.int64) for _ in range(lanes)]
        self._waiting: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.floating]]] = []
        self._waiting_count = 0

    def add(self, values: torch.Tensor, ids: NDArray[np.int64]) -> None:
        """Take the next items of every lane.

        Args:
            values: float32 [n, lanes] on the device; -inf is never kept.
            ids: int64 [n], none of them in an earlier call.
        """
        lanes = self.floor.shape[1]
        if self.m == 0 or lanes == 0:
            return
        place = true_positions(values > self.floor)
        if len(place) == 0:
            return
        row, lane = place // lanes, place % lanes
        lane_of, id_of, value_of = lane.cpu().numpy(), ids[row.cpu().numpy()], values[row, lane].cpu().numpy()
        late = value_of == self._least[lane_of]
        late[late] = item_order(self._ties, id_of[late]) > self._last[lane_of[late]]
        self._waiting.append((lane_of[~late], id_of[~late], value_of[~late]))
        self._waiting_count += len(place) - int(late.sum())
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
            best = best_of_parts([(self._ids[i], self._values[i]), (ids[some], values[some])], self.m, ties=self._ties)
            self._ids[i], self._values[i] = best
            if len(self._values[i]) == self.m:
                self._least[i] = self._values[i][-1]
                self._last[i] = item_order(self._ties, self._ids[i][-1:])[0]
                self.floor[0, i] = float(np.nextafter(self._least[i], np.float32(-np.inf)))
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


def smallest(values: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the smallest numbers of each row. They lie in the runs of the smallest minima, so few numbers are sorted.

    Args:
        values: [m, n], n a multiple of ALIGN.
        count: How many, at most n.

    Returns:
        (their places, they themselves) in ascending order, [m, count] both.
    """
    runs = values.reshape(len(values), -1, ALIGN)
    if runs.shape[1] <= count:
        lowest, places = values.topk(count, 1, largest=False)
        return places, lowest
    low = runs.amin(2).topk(count, 1, largest=False).indices
    some = (low[:, :, None] * ALIGN + torch.arange(ALIGN)).flatten(1)
    lowest, places = values.gather(1, some).topk(count, 1, largest=False)
    return some.gather(1, places), lowest
