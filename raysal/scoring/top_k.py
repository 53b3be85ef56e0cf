"""Keeping the best few of a stream: per lane, the `m` largest values, ties to the lower id."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray


class Best:
    """The `m` best (value, id) of each of `lanes` streams. Memory O(lanes * m).

    Values not above a lane's m-th best so far are dropped; once the lanes are full few pass, so the upkeep
    costs little beside the product that made the values. Ids must come in ascending order over the calls.
    """

    def __init__(self, lanes: int, m: int, device: torch.device) -> None:
        self.m = m
        self.floor = torch.full((1, lanes), -torch.inf, device=device)
        """[1, lanes]; what is not above it is dropped"""
        self._values: list[NDArray[np.floating]] = [np.empty(0, np.float32) for _ in range(lanes)]
        self._ids: list[NDArray[np.int64]] = [np.empty(0, np.int64) for _ in range(lanes)]
        self._held: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.floating]]] = []
        self._held_count = 0

    def offer(self, values: torch.Tensor, ids: NDArray[np.int64]) -> None:
        """Take values [n, lanes] of the items `ids` [n]; -inf is never kept. Values equal to a lane's m-th
        best lose, since theirs is the higher id."""
        lanes = self.floor.shape[1]
        if self.m == 0 or lanes == 0:
            return
        place = true_places(values > self.floor)
        if len(place) == 0:
            return
        row, lane = place // lanes, place % lanes
        self._held.append((lane.cpu().numpy(), ids[row.cpu().numpy()], values[row, lane].cpu().numpy()))
        self._held_count += len(place)
        if self._held_count >= 2 * self.m * lanes:
            self._settle()

    def _settle(self) -> None:
        """Merge what passed into the kept, lane by lane, and raise the floors."""
        lane = np.concatenate([h[0] for h in self._held])
        ids = np.concatenate([h[1] for h in self._held])
        values = np.concatenate([h[2] for h in self._held])
        order = np.argsort(lane, kind="stable")
        cuts = np.searchsorted(lane[order], np.arange(len(self._values) + 1))
        for i, (low, high) in enumerate(itertools.pairwise(cuts)):
            if low == high:
                continue
            some = order[low:high]
            self._ids[i], self._values[i] = best_of(
                np.concatenate([self._ids[i], ids[some]]),
                np.concatenate([self._values[i], values[some]]),
                self.m,
            )
            if len(self._values[i]) == self.m:
                self.floor[0, i] = float(self._values[i][-1])
        self._held, self._held_count = [], 0

    def result(self) -> list[tuple[NDArray[np.int64], NDArray[np.floating]]]:
        """(ids, values) of each lane, best first."""
        if self._held:
            self._settle()
        return list(zip(self._ids, self._values, strict=True))


def true_places(mask: torch.Tensor) -> torch.Tensor:
    """Flat positions of the true elements, ascending.

    Looked for eight at a time, where the size allows: few are true, and `nonzero` over single bytes took a
    tenth of the sweep.
    """
    flat = mask.reshape(-1)
    if len(flat) % 8:
        return flat.nonzero()[:, 0]
    words = flat.view(torch.int64).nonzero()
    near = (words * 8 + torch.arange(8, device=mask.device)).reshape(-1)
    return near[flat[near]]


def best_of(
    ids: NDArray[np.int64], values: NDArray[np.floating], m: int
) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """The `m` largest values and their ids, best first, ties to the lower id. Merging parts = taking all at
    once."""
    if len(values) > 4 * m > 0:  # sorting is for the few that can make it
        able = values >= np.partition(values, len(values) - m)[len(values) - m]
        ids, values = ids[able], values[able]
    order = np.lexsort((ids, -values))[:m]
    return ids[order], values[order]
