"""Which items are near-duplicates of others: exact, however many there are.

A product in single precision finds the pairs that could be near enough. Pairs too close to the threshold to tell are
decided by direct differences in double precision. So an exact copy is at similarity 1, or at distance 0, and nothing
depends on how products are rounded.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.fleet import Partition
from raysal.numerics import PRODUCT_COLUMNS
from raysal.scoring.similarity import Similarity, unit_rows
from raysal.strategies.engine.distances import slack
from raysal.types import Metric

ROWS_AT_ONCE = 512
"""Rows that are compared together with those before them."""
PAIRS_AT_ONCE = 1024
"""Pairs that are decided together by direct differences."""


def duplicate_similarity(duplicates: float, metric: Metric, field: str, scale: float = 1.0) -> float:
    """The similarity (`raysal.scoring.similarity`) from which on two items are near-duplicates.

    Args:
        duplicates: as a config gives it: a cosine, or in a pool of the metric l2 a distance of vectors as they were
            given.
        metric: of the pool.
        field: its place in the config.
        scale: of the pool.

    Returns:
        The cosine itself, or minus the squared distance of what the pool holds.

    Raises:
        ConfigError: no cosine above 0 and up to 1.
    """
    if metric == "l2":
        return -((duplicates * scale) ** 2)
    if not 0 < duplicates <= 1:
        problem = f"{duplicates:g} is no similarity, and this pool's neighbours are found by the cosine"
        raise ConfigError(field, problem, "use more than 0 and at most 1, as 0.99")
    return duplicates


def exact_similarities(x: NDArray[np.floating], y: NDArray[np.floating], metric: Metric) -> NDArray[np.float64]:
    """Similarities float64 [p] of pairs of rows of x and y [p, d], by their differences: of copies exactly 1, or 0."""
    a, b = x.astype(np.float64), y.astype(np.float64)
    if metric == "l2":
        return np.asarray(-((a - b) ** 2).sum(1))
    lengths = np.sqrt((a * a).sum(1)), np.sqrt((b * b).sum(1))
    there = (lengths[0] > 0) & (lengths[1] > 0)
    a /= np.where(there, lengths[0], 1)[:, None]
    b /= np.where(there, lengths[1], 1)[:, None]
    return np.where(there, 1 - ((a - b) ** 2).sum(1) / 2, 0.0)


def near_pairs(
    similarities: torch.Tensor,
    error: torch.Tensor,
    threshold: float,
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    metric: Metric,
) -> NDArray[np.bool_]:
    """Which pairs of rows are at least as similar as the threshold.

    Args:
        similarities: of all pairs, in single precision, [n, m].
        error: how far these may be off, [n, m] or what broadcasts to it.
        threshold: the least similarity.
        x: [n, d].
        y: [m, d].
        metric: of the pool.

    Returns:
        bool [n, m], exact.
    """
    near = np.asarray((similarities - error >= threshold).cpu().numpy())
    row, column = ((similarities + error >= threshold).cpu().numpy() & ~near).nonzero()
    for start in range(0, len(row), PAIRS_AT_ONCE):
        i, j = row[start : start + PAIRS_AT_ONCE], column[start : start + PAIRS_AT_ONCE]
        near[i, j] = exact_similarities(x[i], y[j], metric) >= threshold
    return near


def rounding_error(features: torch.Tensor, sq_x: torch.Tensor, sq_y: torch.Tensor, metric: Metric) -> torch.Tensor:
    """By how much similarities in single precision can be off.

    Args:
        features: vectors of the same width, [., d].
        sq_x: squared norms [n] of one side.
        sq_y: squared norms [m] of the other.
        metric: of the pool.

    Returns:
        A bound [n, m]; for the cosine, where all lengths are 1, one number.
    """
    share = slack((features,))
    return torch.tensor(share, device=features.device) if metric == "cosine" else share * (sq_x[:, None] + sq_y)


def first_of_duplicates(vectors: NDArray[np.float32], threshold: float, metric: Metric) -> NDArray[np.bool_]:
    """Keep of near-duplicates the first. O(n^2 d), memory O(n ROWS_AT_ONCE).

    Args:
        vectors: [n, d], in the order in which they are kept.
        threshold: the similarity from which on two are near-duplicates.
        metric: of the pool.

    Returns:
        bool [n]: whether a row is no near-duplicate of a row before it that is kept.
    """
    kept = np.zeros(len(vectors), bool)
    compared = torch.from_numpy(unit_rows(vectors) if metric == "cosine" else vectors)
    sq_norms = (compared.double() ** 2).sum(1).float()
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, len(vectors))
        before = np.append(np.flatnonzero(kept), np.arange(start, stop))
        values = compared[start:stop] @ compared[before].T
        if metric == "l2":
            values.mul_(2).sub_(sq_norms[start:stop, None]).sub_(sq_norms[before])
        error = rounding_error(compared, sq_norms[start:stop], sq_norms[before], metric)
        near = near_pairs(values, error, threshold, vectors[start:stop], vectors[before], metric)
        old = len(before) - (stop - start)
        for i in range(stop - start):
            kept[start + i] = not near[i, :old].any() and not (near[i, old:] & kept[start:stop]).any()
    return kept


# Functions of a partition.


def drop_duplicates(partition: Partition, vectors: NDArray[np.float32], threshold: float) -> int:
    """Drop the available rows that are near-duplicates of one of `vectors` [a, d]; returns how many. O(n a d)."""
    similarity, rows = Similarity(partition, vectors), np.flatnonzero(partition.available)
    tiles = [
        (slice(low, low + PRODUCT_COLUMNS), partition.aligned(similarity.anchors[low : low + PRODUCT_COLUMNS]))
        for low in range(0, len(vectors), PRODUCT_COLUMNS)
    ]
    sq_vectors = torch.from_numpy((vectors.astype(np.float64) ** 2).sum(1).astype(np.float32)).to(partition.device)
    for block in partition.blocks(rows):
        duplicate = np.zeros(block.n, bool)
        place = torch.from_numpy(block.rows).to(partition.device)
        sq_rows = partition.sq_norms()[place]
        for columns, tile in tiles:
            values = tile.products(block.features)[: block.n]
            values = similarity(values, place, columns)
            own = sq_vectors[columns]
            most = rounding_error(block.features, sq_rows, own.amax()[None], partition.metric).reshape(-1)
            able = values.amax(1) + most >= threshold  # few rows are near anything
            some = able.cpu().numpy().nonzero()[0]
            if len(some):
                error = rounding_error(block.features, sq_rows[able], own, partition.metric)
                rows_able = block.features[: block.n][able, : partition.dim].cpu().numpy()
                near = near_pairs(values[able], error, threshold, rows_able, vectors[columns], partition.metric)
                duplicate[some] |= near.any(1)
        partition.available[block.rows[duplicate]] = False
    return len(rows) - int(partition.available.sum())
