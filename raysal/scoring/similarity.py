"""How near the rows of a partition are to anchors: by the cosine, or by the Euclidean distance, as the pool says.

A similarity is the cosine, or minus the squared distance; larger is nearer in both. It is read off a matrix product of
features and anchors, so that neighbours ride along in the product that scores the rows anyway. A zero vector has cosine
0 with everything.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet import Partition
from raysal.numerics import block_rows_for, slices
from raysal.types import Metric


def unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows [n, d] scaled to Euclidean length 1; zero rows stay zero."""
    scaled = np.empty(vectors.shape, np.float32)
    for own in slices(len(vectors), block_rows_for(vectors.shape[1])):  # as a whole, float64 is five times the rows
        norms = np.sqrt((vectors[own].astype(np.float64) ** 2).sum(1, keepdims=True))
        scaled[own] = vectors[own] / np.where(norms > 0, norms, 1.0)
    return scaled


def unit_features(partition: Partition, features: torch.Tensor) -> torch.Tensor:
    """Features [n, width] as distances see them: for the metric `cosine` scaled to length 1; zero rows stay zero."""
    if partition.metric != "cosine":
        return features
    sq_norms = (features * features).sum(1, keepdim=True)
    return features * sq_norms.clamp_min(torch.finfo(torch.float32).tiny).rsqrt()


class Similarity:
    """From products to similarities, for one partition and its anchors."""

    def __init__(self, partition: Partition, anchors: NDArray[np.floating], *, norms: bool = True) -> None:
        """Prepare for anchors [a, d].

        Without `norms`, those of the partition's rows are not computed, and only `of_norms` can be called.
        """
        self.metric: Metric = partition.metric
        cosine = self.metric == "cosine"
        self.anchors = unit_rows(anchors) if cosine else anchors.astype(np.float32)
        """float32 [a, d], to multiply features with: of unit length for the cosine, as they are for the distance"""
        # Norms take a pass of their own the first time; without anchors nobody needs them.
        self._rows = self._scaled(partition.sq_norms() if norms and len(anchors) else torch.empty(0))
        sq_anchors = (self.anchors.astype(np.float64) ** 2).sum(1).astype(np.float32)
        self._columns = torch.from_numpy(sq_anchors).to(partition.device)

    def __call__(self, products: torch.Tensor, rows: slice | torch.Tensor, columns: slice) -> torch.Tensor:
        """Turn products of some rows and some of the anchors into similarities, in place.

        Args:
            products: float32 [n, b].
            rows: the n positions in the partition.
            columns: the b positions among the anchors.

        Returns:
            `products`.
        """
        return self._similarities(products, self._rows[rows], columns)

    def of_norms(self, products: torch.Tensor, sq_norms: torch.Tensor) -> torch.Tensor:
        """Turn products of rows and all the anchors into similarities, in place.

        Args:
            products: float32 [n, a].
            sq_norms: float32 [n], the rows' squared norms.

        Returns:
            `products`.
        """
        return self._similarities(products, self._scaled(sq_norms), slice(None))

    def _scaled(self, sq_norms: torch.Tensor) -> torch.Tensor:
        """What rows [n] contribute to their similarities [n, 1]: 1 / norm, or the squared norm."""
        own = sq_norms[:, None]
        return own.clamp_min(torch.finfo(torch.float32).tiny).rsqrt() if self.metric == "cosine" else own

    def _similarities(self, products: torch.Tensor, own: torch.Tensor, columns: slice) -> torch.Tensor:
        if self.metric == "cosine":
            return products.mul_(own)
        # A distance is not below 0, whatever rounding makes of the difference of large numbers.
        return products.mul_(2).sub_(own).sub_(self._columns[columns]).clamp_max_(0)

    def rows_above(self, products: torch.Tensor, rows: slice, floor: torch.Tensor) -> torch.Tensor | None:
        """Which rows have a cosine above the floor of an anchor.

        Few do, and this finds them in two passes over the products where `RunningBest` needs four. A subtraction is
        exact in its sign, so none is missed.

        Args:
            products: float32 [n, a] of rows and anchors.
            rows: the n positions in the partition.
            floor: float32 [1, a].

        Returns:
            Ascending positions among the n; None for distances, where this would take as long as a look at all of them.
        """
        if self.metric != "cosine":
            return None
        return (torch.addcmul(-floor, products, self._rows[rows]).amax(1) > 0).nonzero()[:, 0]


def similarities(partition: Partition, rows: NDArray[np.int64], anchors: NDArray[np.floating]) -> torch.Tensor:
    """Similarities of some rows to anchors. No other rows are read.

    Args:
        partition: the rows' partition.
        rows: int64 [n], ascending positions.
        anchors: [a, d].

    Returns:
        float32 [n, a] on the device.
    """
    similarity = Similarity(partition, anchors, norms=False)
    columns = partition.aligned(similarity.anchors)
    out = torch.empty(len(rows), len(anchors), device=partition.device)
    done = 0
    for block in partition.blocks(rows):
        norms = (block.features * block.features).sum(1)  # as `Partition.sq_norms`, to the bit
        values = similarity.of_norms(columns.products(block.features), norms)
        out[done : done + block.n] = values[: block.n]
        done += block.n
    return out


def mean_similarities(
    partition: Partition, ids: NDArray[np.int64], anchors: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The mean similarity of some items to all anchors.

    Args:
        partition: where some of them live.
        ids: int64 [n].
        anchors: [a, d].

    Returns:
        (ids, means) of those that live here.
    """
    rows = partition.rows_of(ids)
    return partition.ids[rows], similarities(partition, rows, anchors).double().mean(1).cpu().numpy()
