"""Gaussians beside the data: squared Mahalanobis distances to means that share a covariance; and novelty by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet import Fleet, Partition
from raysal.fleet.partition import Block
from raysal.numerics import one_thread, padded
from raysal.scoring.novelty.base import FittedNovelty, Novelty, OfBlock, bounded
from raysal.scoring.row_values import refuse_broken
from raysal.scoring.similarity import unit_features

STEPS = 2**15
"""Steps of a feature's grid from the middle of its range to the end. Products of whole numbers up to it are up to 2^30:
those of 4,096 rows add up exactly in float64, and those of 2^33 rows in int64. In any order, the same bits."""


class Gaussians(NamedTuple):
    """Means and one covariance for all, as they travel to partitions."""

    centre: NDArray[np.float32]
    """[d], which is subtracted from a row first"""
    whitener: NDArray[np.float32]
    """[d, d], by which a centred row is multiplied to have unit covariance"""
    means: NDArray[np.float32]
    """[C, d], centred and whitened"""


def sq_mahalanobis_distances(partition: Partition, gaussians: Gaussians) -> Callable[[torch.Tensor], torch.Tensor]:
    """Lay Gaussians out beside a partition.

    Args:
        partition: whose blocks.
        gaussians: the means and the covariance.

    Returns:
        From features [n, width] to the squared Mahalanobis distance of each row to the nearest mean, float32 [n].
        O(n d (d + C)).
    """
    device, width = partition.device, partition.width
    centre = padded(gaussians.centre[None], width, torch.float32, device)
    whitener = padded(gaussians.whitener, width, torch.float32, device, rows=width)
    means = partition.aligned(gaussians.means)
    sq_means = torch.from_numpy((gaussians.means.astype(np.float64) ** 2).sum(1).astype(np.float32)).to(device)

    def distances(features: torch.Tensor) -> torch.Tensor:
        white = (unit_features(partition, features) - centre) @ whitener
        sq_distances = (white * white).sum(1)[:, None] - 2 * means.products(white) + sq_means
        return sq_distances.amin(1).clamp_min(0)

    return distances


def shrunk_covariance(scatter: NDArray[np.float64], freedom: float) -> NDArray[np.float64]:
    """(1 - r) S + r m I: S is the sample covariance, m its mean variance, r by the oracle approximating shrinkage.

    Chen, Wiesel, Eldar & Hero, "Shrinkage Algorithms for MMSE Covariance Estimation", IEEE TSP 2010, equation 23.

    Args:
        scatter: sum of x xᵀ over rows less their mean, [d, d].
        freedom: degrees of freedom; with less than 1 nothing is known.

    Returns:
        [d, d], positive definite; the identity where nothing is known.
    """
    dim = len(scatter)
    identity: NDArray[np.float64] = np.eye(dim)
    if freedom < 1 or float(np.trace(scatter)) <= 0:
        return identity
    sample = scatter / freedom
    trace, squares = float(np.trace(sample)), float((sample * sample).sum())
    numerator = (1 - 2 / dim) * squares + trace**2
    denominator = (freedom + 1 - 2 / dim) * (squares - trace**2 / dim)
    share = 1.0 if numerator >= denominator else numerator / denominator
    return np.asarray((1 - share) * sample + share * trace / dim * identity)


def whitener_of(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a centred row is multiplied by to have unit covariance, [d, d]. O(d^3)."""
    return np.linalg.inv(np.linalg.cholesky(covariance)).T


class Moments(NamedTuple):
    """Sums over the available rows, each feature in steps from the middle of its range."""

    rows: int
    sums: NDArray[np.int64]
    """[d]"""
    products: NDArray[np.int64]
    """[d, d]"""


@dataclass(frozen=True, kw_only=True)
class Mahalanobis(Novelty):
    """The Mahalanobis distance d to the mean of the whole pool, as d / (d + its root mean square over the pool).

    Mahalanobis, 1936; of a pool's embedding: Rippel, Mertens & Merhof, "Modeling the Distribution of Normal Data in
    Pre-Trained Deep Features for Anomaly Detection", ICPR 2020. Mean and covariance are exact: sums over all available
    items in float64, of numbers rounded to 1 / 65,536 of their feature's range. The matrix of correlations is shrunk
    towards the identity (Chen et al. 2010), so that it has an inverse. So the unit of each feature changes nothing,
    unlike in other novelties that go by distance; the metric `cosine` still scales every vector to length 1.

    Cost: three passes: one for the ranges, O(n d); two of O(n d^2), of which the covariance's is in float64; 12 d^2
    bytes from every partition and to it. Not for pools of several groups with much room between them: what lies between
    them is near the mean.
    """

    def fit(self, fleet: Fleet, key: int) -> FittedGaussian:
        """The mean and the covariance. Two round trips."""
        del key
        lows, highs = zip(*fleet.each(ranges), strict=True)
        low, high = np.min(lows, axis=0).astype(np.float64), np.max(highs, axis=0).astype(np.float64)
        low, high = (np.where(np.isfinite(one), one, 0) for one in (low, high))  # no row: nothing will be scored
        middle, step = (low + high) / 2, (high - low) / (2 * STEPS)
        step[step == 0] = 1.0  # one value alone
        parts = fleet.each(moments, middle.astype(np.float32), step.astype(np.float32))
        rows = sum(part.rows for part in parts)
        sums = np.sum([part.sums for part in parts], axis=0).astype(np.float64)
        products = np.sum([part.products for part in parts], axis=0).astype(np.float64)
        unit = step.astype(np.float32).astype(np.float64)
        with one_thread(numpy=True):
            scatter = products - np.outer(sums, sums) / max(rows, 1)
            deviation = np.sqrt(np.maximum(scatter.diagonal(), 0) / max(rows - 1, 1))
            deviation[deviation == 0] = 1.0
            scatter /= np.outer(deviation, deviation)
            whitener = whitener_of(shrunk_covariance(scatter, rows - 1))
            mean_square = float(((whitener.T @ scatter) * whitener.T).sum()) / max(rows, 1)
            whitener /= (deviation * unit)[:, None]
        centre = middle.astype(np.float32).astype(np.float64) + sums / max(rows, 1) * unit
        gaussians = Gaussians(
            centre=centre.astype(np.float32),
            whitener=whitener.astype(np.float32),
            means=np.zeros((1, len(centre)), np.float32),
        )
        return FittedGaussian(gaussians=gaussians, usual=float(np.sqrt(max(mean_square, 0))), rows=rows)


@dataclass(frozen=True, kw_only=True)
class FittedGaussian(FittedNovelty):
    """A Gaussian of the pool."""

    gaussians: Gaussians
    usual: float
    """root mean square distance"""
    rows: int

    @property
    def words(self) -> str:
        """The distance, and of which Gaussian."""
        return f"Mahalanobis distance to the mean of all {self.rows:,}"

    def on(self, partition: Partition) -> OfBlock:
        """Its distances there."""
        distances = sq_mahalanobis_distances(partition, self.gaussians)

        def of_block(block: Block) -> torch.Tensor:
            return bounded(distances(block.features).sqrt_(), self.usual)

        return of_block


# Functions of a partition.


def ranges(partition: Partition) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The least and the greatest value of each feature over the available rows.

    Args:
        partition: whose rows.

    Returns:
        float32 [d] both; infinite where no row is available.

    Raises:
        PoolError: a vector is not finite; it names the item.
    """
    below = partition.below()
    low = torch.full((below.width,), torch.inf, device=below.device)
    high = -low
    for block in below.blocks(np.flatnonzero(below.available)):
        finite = torch.isfinite(block.features.sum(1))[: block.n]
        refuse_broken(below.ids[block.rows], finite.cpu().numpy())
        x = unit_features(below, block.features)[: block.n]
        low, high = torch.minimum(low, x.amin(0)), torch.maximum(high, x.amax(0))
    return low[: below.dim].cpu().numpy(), high[: below.dim].cpu().numpy()


def moments(partition: Partition, middle: NDArray[np.float32], step: NDArray[np.float32]) -> Moments:
    """Sums and products of the available rows' features, in steps from the middles, exact. O(n d^2) in float64.

    Args:
        partition: whose rows.
        middle: [d], what steps begin at.
        step: [d], the length of a step of each feature.

    Returns:
        The moments.
    """
    below, dim = partition.below(), partition.below().dim
    start = padded(middle[None], below.width, torch.float32, below.device)
    unit = torch.ones(1, below.width, device=below.device)
    unit[0, :dim] = torch.from_numpy(step).to(below.device)
    rows = np.flatnonzero(below.available)
    sums = torch.zeros(below.width, dtype=torch.long, device=below.device)
    products = torch.zeros(below.width, below.width, dtype=torch.long, device=below.device)
    for block in below.blocks(rows):
        steps = ((unit_features(below, block.features) - start) / unit).round_().double()
        steps[block.n :] = 0
        sums += steps.sum(0).long()
        products += (steps.T @ steps).long()
    return Moments(len(rows), sums[:dim].cpu().numpy(), products[:dim, :dim].cpu().numpy())
