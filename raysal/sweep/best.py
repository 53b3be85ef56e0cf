"""Keeping the best few of a stream: per lane, the `m` largest values, ties to the lower id."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


class Best:
    """The `m` best (value, id) of each of `lanes` streams. Memory O(lanes * m).

    Values below a lane's m-th best so far are dropped by one comparison; once the lanes are warm few pass, so the
    upkeep costs little beside the product that made the values. Ids must come in ascending order over the calls.
    """

    def __init__(self, lanes: int, m: int, device: torch.device) -> None:
        self.m = m
        self._floor = torch.full((lanes, 1), -torch.inf, device=device)
        self._values: list[NDArray[np.floating]] = [np.empty(0, np.float32) for _ in range(lanes)]
        self._ids: list[NDArray[np.int64]] = [np.empty(0, np.int64) for _ in range(lanes)]
        self._held: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.floating]]] = []
        self._held_count = 0

    def offer(self, values: torch.Tensor, ids: NDArray[np.int64]) -> None:
        """Take values [lanes, n] of the items `ids` [n]; -inf is never kept. Equal values beyond the m-th lose,
        since theirs is the higher id."""
        if self.m == 0:
            return
        if len(self._floor) == 0 or values.shape[1] == 0:
            return
        passed = torch.nonzero(values > self._floor)
        if len(passed) == 0:
            return
        lane, place = passed[:, 0], passed[:, 1]
        self._held.append((lane.cpu().numpy(), ids[place.cpu().numpy()], values[lane, place].cpu().numpy()))
        self._held_count += len(passed)
        if self._held_count >= 2 * self.m * len(self._floor):
            self._settle()

    def _settle(self) -> None:
        """Merge what passed into the kept, lane by lane, and raise the floors."""
        lane = np.concatenate([h[0] for h in self._held])
        ids = np.concatenate([h[1] for h in self._held])
        values = np.concatenate([h[2] for h in self._held])
        order = np.argsort(lane, kind="stable")
        cuts = np.searchsorted(lane[order], np.arange(len(self._values) + 1))
        for i, (low, high) in enumerate(zip(cuts, cuts[1:], strict=False)):
            if low == high:
                continue
            some = order[low:high]
            self._ids[i], self._values[i] = best_of(
                np.concatenate([self._ids[i], ids[some]]), np.concatenate([self._values[i], values[some]]), self.m
            )
            if len(self._values[i]) == self.m:
                self._floor[i, 0] = float(self._values[i][-1])
        self._held, self._held_count = [], 0

    def result(self) -> list[tuple[NDArray[np.int64], NDArray[np.floating]]]:
        """(ids, values) of each lane, best first."""
        if self._held:
            self._settle()
        return list(zip(self._ids, self._values, strict=True))


def best_of(
    ids: NDArray[np.int64], values: NDArray[np.floating], m: int
) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """The `m` largest values and their ids, best first, ties to the lower id. Merging parts = taking all at once."""
    order = np.lexsort((ids, -values))[:m]
    return ids[order], values[order]
