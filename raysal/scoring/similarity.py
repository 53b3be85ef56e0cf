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
from raysal.types import Metric


def unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows scaled to Euclidean length 1; zero rows stay zero."""
    norms = np.sqrt((vectors.astype(np.float64) ** 2).sum(1, keepdims=True))
    scaled = vectors / np.where(norms > 0, norms, 1.0)
    return scaled.astype(np.float32)


class Similarity:
    """From products to similarities, for one partition and its anchors [a, d].

    `anchors` float32 [a, d] are the columns to multiply features with: of unit length for the cosine, as they are for
    the distance. Without `norms`, those of the partition's rows are left alone, and only `of_norms` can be asked.
    """

    def __init__(self, partition: Partition, anchors: NDArray[np.floating], *, norms: bool = True) -> None:
        self.metric: Metric = partition.metric
        cosine = self.metric == "cosine"
        self.anchors = unit_rows(anchors) if cosine else anchors.astype(np.float32)
        # Norms take a pass of their own the first time; without anchors nobody needs them.
        self._rows = self._scaled(partition.sq_norms() if norms and len(anchors) else torch.empty(0))
        sq_anchors = (self.anchors.astype(np.float64) ** 2).sum(1).astype(np.float32)
        self._columns = torch.from_numpy(sq_anchors).to(partition.device)

    def __call__(self, products: torch.Tensor, rows: slice | torch.Tensor, columns: slice) -> torch.Tensor:
        """`products` [n, b] of these rows and these of the anchors, turned into similarities in place."""
        return self._similarities(products, self._rows[rows], columns)

    def of_norms(self, products: torch.Tensor, sq_norms: torch.Tensor) -> torch.Tensor:
        """`products` [n, a] of rows of these squared norms [n] and all the anchors, turned into similarities in
        place."""
        return self._similarities(products, self._scaled(sq_norms), slice(None))

    def _scaled(self, sq_norms: torch.Tensor) -> torch.Tensor:
        own = sq_norms[:, None]
        return own.clamp_min(torch.finfo(torch.float32).tiny).rsqrt() if self.metric == "cosine" else own

    def _similarities(self, products: torch.Tensor, own: torch.Tensor, columns: slice) -> torch.Tensor:
        if self.metric == "cosine":
            return products.mul_(own)
        # A distance is not below 0, whatever rounding makes of the difference of large numbers.
        return products.mul_(2).sub_(own).sub_(self._columns[columns]).clamp_max_(0)

    def above(self, products: torch.Tensor, rows: slice, floor: torch.Tensor) -> torch.Tensor | None:
        """Which of `products` [n, a] hold a similarity above the `floor` [1, a] of its anchor: positions, ascending;
        None where that would take as long as to look at all of them.

        Few do, and this finds them in two passes over the products where `Best` needs four. Subtracting is exact in
        its sign, so none is missed.
        """
        if self.metric != "cosine":
            return None
        return (torch.addcmul(-floor, products, self._rows[rows]).amax(1) > 0).nonzero()[:, 0]


def similarities(partition: Partition, rows: NDArray[np.int64], anchors: NDArray[np.floating]) -> torch.Tensor:
    """Similarities float32 [len(rows), a] on the device, of ascending positions and anchors [a, d]. No other rows are
    read."""
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
    """(ids, mean similarity to all anchors) of those of `ids` that live here."""
    rows = partition.rows_of(ids)
    return partition.ids[rows], similarities(partition, rows, anchors).double().mean(1).cpu().numpy()
