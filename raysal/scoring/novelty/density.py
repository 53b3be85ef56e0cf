"""Novelty by local density: how much sparser it is around an item than around its neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.config import Count
from raysal.fleet import Fleet, Partition
from raysal.fleet.partition import Block
from raysal.scoring.novelty.base import FittedNovelty, Novelty, OfBlock, bounded, draw_sample
from raysal.scoring.novelty.neighbours import NEIGHBOUR_BLOCK_ROWS, Neighbours, Reference, nearest_in

SMALLEST_REACH = 1e-4
"""What a mean reach is at least, as a share of the mean over the sample: copies are not infinitely dense."""


@dataclass(frozen=True, kw_only=True)
class LocalDensity(Novelty):
    """The local outlier factor F by the `k` nearest of a sample of the pool, as F / (F + 1).

    With d_k(o) the distance of o to its k-th neighbour, the reach of x is r(x) = mean of max(d_k(o), d(x, o)) over its
    neighbours o, and F(x) = mean of r(x) / r(o): Breunig, Kriegel, Ng & Sander, "LOF: Identifying Density-Based Local
    Outliers", SIGMOD 2000. Both r are at least 1e-4 of the mean reach within the sample, so that an item beside many
    copies is no more than very novel. With `sample` as large as the pool it is the published factor.

    Unlike `knn` it finds an item that lies just outside a dense group, and leaves a loose group alone.

    Cost: as `knn`: one product [n, d] x [d, sample]; 2 d `sample` bytes to every partition. Not for pools whose rare
    items form dense groups of more than `k` in the sample, and in high dimensions seldom better than `knn`.
    """

    k: Count = 20
    sample: Count = 2_000

    def fit(self, fleet: Fleet, key: int) -> FittedDensity:
        """The sample, and the reach of each of its items within it."""
        sample = draw_sample(fleet, key, self.sample)
        reference = Reference(sample.vectors, sample.ids)
        sq_distances, places = nearest_in(sample.partition(), np.arange(len(sample.ids)), reference, self.k)
        distances = np.sqrt(np.where(np.isinf(sq_distances), 0, sq_distances).astype(np.float64))
        last = distances[:, -1]
        reaches = np.maximum(last[places], distances).mean(1)
        least = SMALLEST_REACH * reaches.mean()
        neighbours = reference.neighbours(self.k)
        return FittedDensity(
            reference=reference,
            k=self.k,
            last=last.astype(np.float32),
            reaches=np.maximum(reaches, least or 1.0).astype(np.float32),
            least=float(least),
            of=f"by the {neighbours} nearest among {sample.words}",
        )


@dataclass(frozen=True, kw_only=True)
class FittedDensity(FittedNovelty):
    """A sample of the pool, and how dense it is around each of its items."""

    block_rows: ClassVar[int] = NEIGHBOUR_BLOCK_ROWS
    reference: Reference
    k: int
    last: NDArray[np.float32]
    """[s] the distance of each to its last neighbour"""
    reaches: NDArray[np.float32]
    """[s] the mean reach of each, at least `least`"""
    least: float
    of: str

    @property
    def words(self) -> str:
        """The factor, and by which neighbours."""
        return f"local outlier factor {self.of}"

    def on(self, partition: Partition) -> OfBlock:
        """Its neighbours there."""
        neighbours = Neighbours(partition, self.reference, self.k)
        last, reaches = (torch.from_numpy(one).to(partition.device) for one in (self.last, self.reaches))

        def of_block(block: Block) -> torch.Tensor:
            sq_distances, places = neighbours(block)
            distances = sq_distances.masked_fill_(sq_distances.isinf(), 0).sqrt_()
            reach = torch.maximum(last[places], distances).double().mean(1, keepdim=True).clamp_min(self.least)
            return bounded((reach / reaches[places]).mean(1), 1.0)

        return of_block
