"""Distances to the nearest of some vectors, beside the data; and the novelty by the distance to the k-th nearest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.config import Count
from raysal.fleet import Fleet, Partition
from raysal.fleet.partition import Block
from raysal.numerics import PRODUCT_COLUMNS, block_rows_for, padded, slices
from raysal.scoring.novelty.base import FittedNovelty, Novelty, OfBlock, bounded, draw_sample
from raysal.scoring.similarity import unit_features, unit_rows
from raysal.scoring.top_k import smallest

ROUNDING = 4e-6
"""Squared distances below this share of the vectors' squared lengths (from the middle of the reference) are 0: float32
products of 1,280 numbers are right to less, and float16 holds a number to 5e-4 of itself, which is 2.5e-7 squared."""
NEIGHBOUR_BLOCK_ROWS = block_rows_for(PRODUCT_COLUMNS)
"""Rows of a block whose distances to the reference are taken."""
NONE = np.empty(0, np.int64)


class Reference(NamedTuple):
    """The vectors that distances are taken to."""

    vectors: NDArray[np.floating]
    """[s, d], at least one"""
    ids: NDArray[np.int64] = NONE
    """[s] ascending, where they are items of the pool: no item is its own neighbour"""

    def neighbours(self, k: int) -> int:
        """How many neighbours every item has, at most k: those of an item of the reference are one fewer."""
        return max(min(k, len(self.vectors) - (len(self.ids) > 0)), 1)


class Neighbours:
    """A reference beside one partition: the squared Euclidean distances of blocks to their k nearest in it.

    By the metric `cosine`, of vectors scaled to length 1: 2 - 2 cos. A zero vector has cosine 0 with everything. Both
    sides are centred on the reference, so that a large common part of all vectors costs no digits. O(n s d).
    """

    def __init__(self, partition: Partition, reference: Reference, k: int) -> None:
        """`k` is how many; fewer where the reference has not as many."""
        self._unit = partition.metric == "cosine"
        vectors = unit_rows(reference.vectors) if self._unit else reference.vectors.astype(np.float32)
        centre = vectors.mean(0, dtype=np.float64).astype(np.float32)
        centred = vectors - centre
        sq_lengths = (centred.astype(np.float64) ** 2).sum(1).astype(np.float32)
        self.k = reference.neighbours(k)
        self._partition, self._ids = partition, reference.ids
        self._centre = padded(centre[None], partition.width, torch.float32, partition.device)
        self._sq_lengths = torch.from_numpy(sq_lengths).to(partition.device)
        zero = ~vectors.any(1) & self._unit
        self._zero = torch.from_numpy(zero).to(partition.device) if zero.any() else None
        self._tiles: list[tuple[slice, torch.Tensor, torch.Tensor]] = []
        """places in the reference; the vectors as columns [width, m'], and squared lengths [m'], infinite beyond"""
        for tile in slices(len(vectors), PRODUCT_COLUMNS):
            columns = partition.aligned(centred[tile]).columns
            lengths = torch.full((columns.shape[1],), torch.inf, device=partition.device)
            lengths[: tile.stop - tile.start] = self._sq_lengths[tile]
            self._tiles.append((tile, columns, lengths))

    def __call__(self, block: Block) -> tuple[torch.Tensor, torch.Tensor]:
        """The nearest of each row.

        Args:
            block: n rows, padding included.

        Returns:
            (squared distances float32 [n, k], ascending, places int64 [n, k] in the reference); infinite where a row
            has no neighbour but itself.
        """
        x = unit_features(self._partition, block.features)
        zero = ~x.any(1, keepdim=True) & self._unit
        x = x - self._centre
        own = (x * x).sum(1, keepdim=True)
        best = torch.empty(len(x), 0, device=x.device)
        places = torch.empty(len(x), 0, dtype=torch.long, device=x.device)
        rows, selves = self._selves(block)
        for tile, columns, lengths in self._tiles:
            rest = torch.addmm(lengths, x, columns, alpha=-2)  # of the squared distance, all but the row's own length
            if self._zero is not None:
                rest[:, : tile.stop - tile.start].masked_fill_(self._zero[tile], 2).sub_(own * self._zero[tile])
            here = (selves >= tile.start) & (selves < tile.stop)
            rest[rows[here], selves[here] - tile.start] = torch.inf
            found, lowest = smallest(rest, min(self.k, tile.stop - tile.start))
            found = (found + tile.start).clamp_max_(tile.stop - 1)  # of what is infinite, any
            best, places = torch.cat([best, lowest], 1), torch.cat([places, found], 1)
            best, order = best.topk(min(self.k, best.shape[1]), 1, largest=False)
            places = places.gather(1, order)
        sq_distances = best + own
        lengths = own + self._sq_lengths[places]
        sq_distances.masked_fill_(sq_distances < ROUNDING * lengths, 0)
        return sq_distances.masked_fill_(zero & ~sq_distances.isinf(), 2), places

    def _selves(self, block: Block) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows of a block that are items of the reference, and their places there."""
        if len(self._ids) == 0:
            return torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long)
        ids = self._partition.ids[block.rows]
        place = np.searchsorted(self._ids, ids).clip(max=len(self._ids) - 1)
        rows = np.flatnonzero(self._ids[place] == ids)
        device = block.features.device
        return torch.from_numpy(rows).to(device), torch.from_numpy(place[rows]).to(device)


def nearest_in(
    partition: Partition, rows: NDArray[np.int64], reference: Reference, k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The nearest of some vectors to some rows.

    Args:
        partition: the rows' partition.
        rows: int64 [n], ascending positions.
        reference: the vectors.
        k: how many; fewer where there are not as many.

    Returns:
        (squared distances float32 [n, k], ascending, places int64 [n, k]).
    """
    neighbours = Neighbours(partition, reference, k)
    found = [(np.empty((0, neighbours.k), np.float32), np.empty((0, neighbours.k), np.int64))]
    for block in partition.blocks(rows, NEIGHBOUR_BLOCK_ROWS):
        sq_distances, places = neighbours(block)
        found.append((sq_distances[: block.n].cpu().numpy(), places[: block.n].cpu().numpy()))
    sq_distances_of, places_of = zip(*found, strict=True)
    return np.concatenate(sq_distances_of), np.concatenate(places_of)


@dataclass(frozen=True, kw_only=True)
class NearestNeighbours(Novelty):
    """The distance d to the `k`-th nearest of a sample of the pool, as d / (d + its mean over the sample).

    Ramaswamy, Rastogi & Shim, "Efficient Algorithms for Mining Outliers from Large Data Sets", SIGMOD 2000; Sun et al.,
    "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022. Sampling keeps it as good (Sugiyama &
    Borgwardt, "Rapid Distance-Based Outlier Detection via Sampling", NIPS 2013). With `sample` as large as the pool it
    is exact.

    Cost: one product [n, d] x [d, sample]; 2 d `sample` bytes to every partition and in the driver. Not for groups of
    rare items that lie close together: with more than `k` of a group in the sample none of them is novel. Take a larger
    `k`, or a smaller `sample`.
    """

    k: Count = 5
    sample: Count = 2_000

    def fit(self, fleet: Fleet, key: int) -> FittedNeighbours:
        """The sample, and the mean distance within it."""
        sample = draw_sample(fleet, key, self.sample)
        reference = Reference(sample.vectors, sample.ids)
        sq_distances, _ = nearest_in(sample.partition(), np.arange(len(sample.ids)), reference, self.k)
        usual = np.sqrt(sq_distances[:, -1].astype(np.float64)).mean()
        of = f"of the {reference.neighbours(self.k)} nearest among {sample.words}"
        return FittedNeighbours(reference=reference, k=self.k, usual=float(usual) if usual < np.inf else 0.0, of=of)


@dataclass(frozen=True, kw_only=True)
class FittedNeighbours(FittedNovelty):
    """A sample of the pool."""

    block_rows: ClassVar[int] = NEIGHBOUR_BLOCK_ROWS
    reference: Reference
    k: int
    usual: float
    """the mean distance"""
    of: str

    @property
    def words(self) -> str:
        """The distance, and to what."""
        return f"distance to the last {self.of}"

    def on(self, partition: Partition) -> OfBlock:
        """Its distances there."""
        neighbours = Neighbours(partition, self.reference, self.k)

        def of_block(block: Block) -> torch.Tensor:
            distance = neighbours(block)[0][:, -1].sqrt()
            return bounded(distance.masked_fill_(distance.isinf(), 0), self.usual)  # a pool of one item

        return of_block
