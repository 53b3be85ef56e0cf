"""k-means of a pool on a fleet: rows stay beside the data, and sums of whole numbers come back.

    hash of ids ──▶ first centroids ──▶ look at a share of the rows ──▶ sums, counts ──▶ means ──▶ ... ──▶ assign all

A row is added up as whole numbers, of a unit that no sum can overflow. So sums do not depend on the order of rows, and
centroids are the same to the last bit for any partitions, chunks and threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.curation.tree.nearest import SCREENED_ROWS, NearestCentroid
from raysal.fleet import Fleet, Partition, vectors_of
from raysal.numerics import BLOCK_ROWS, ceil_div, round_up, shared_out, slices
from raysal.rng import derive, item_order, item_uniform
from raysal.scoring.row_values import refuse_broken
from raysal.scoring.similarity import unit_features, unit_rows
from raysal.types import Metric

SHARES = (0.25,) * 4 + (0.5,) * 3 + (1.0,) * 3
"""Shares of the training rows that the iterations look at. Early ones move centroids so far that few rows tell as much:
in 5.5 passes the objective is that of 7 to 8 iterations over all rows."""
ROWS_A_CENTROID = 256
"""Training rows for each centroid, at most."""
SPARE = 256
"""Rows that a partition offers to centroids without rows, at most; and centroids that move to one in an iteration."""
MOST_BITS = {"cosine": 0, "l2": 16}
"""The largest number of a row is at most 2 to this: 1, and what float16 holds."""


class Look(NamedTuple):
    """What one pass over training rows is told."""

    centroids: NDArray[np.float32]
    """[k, d]"""
    bits: int
    """sums are in units of 2^-bits"""
    key: int
    """of the hash by which rows are training rows"""
    limit: int
    """the largest hash of a training row"""
    race: int
    """key by which rows are offered"""


class Seen(NamedTuple):
    """What one pass over training rows found in a partition."""

    sums: NDArray[np.int64]
    """of the rows of each centroid [k, d], in units"""
    counts: NDArray[np.int64]
    """[k]"""
    offered: NDArray[np.int64]
    """ids [at most SPARE] of rows far from their centroid, the first first"""
    arrival: NDArray[np.float64]
    """[as many] ascending: -log u over the squared distance, so that they are a sample in proportion to it"""


def bits_of(metric: Metric, rows: int) -> int:
    """In which unit rows can be added up as 64-bit whole numbers.

    Args:
        metric: of the pool.
        rows: how many there are, at most.

    Returns:
        The unit is 2 to minus this. Up to 2^30, single precision loses little; numbers of float16 are exact up to 2^24.
    """
    return min(30, 62 - MOST_BITS[metric] - rows.bit_length())


def first_centroids(fleet: Fleet, metric: Metric, ids: NDArray[np.int64], k: int, key: int) -> NDArray[np.float32]:
    """Take the rows of lowest hash. One round trip.

    Args:
        fleet: over the pool.
        metric: of the pool.
        ids: of the items [n].
        k: how many, at most n.
        key: of the hash.

    Returns:
        Their vectors [k, d], in order of id.
    """
    order = item_order(key, ids)
    chosen = ids[np.argpartition(order, k - 1)[:k]] if k < len(ids) else ids
    return compared(np.concatenate([found[1] for found in fleet.each(vectors_of, np.sort(chosen))]), metric)


def compared(vectors: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """Vectors [n, d] as their distances are meant: of unit length where the metric is the cosine."""
    return unit_rows(vectors) if metric == "cosine" else vectors


def iterations(
    fleet: Fleet,
    metric: Metric,
    ids: NDArray[np.int64],
    centroids: NDArray[np.float32],
    key: int,
    *,
    begin: Callable[[], None],
    done: int = 0,
) -> Iterator[NDArray[np.float32]]:
    """Move centroids to the means of their rows, again and again.

    Each iteration looks at a share of the training rows (`SHARES`); those of a smaller share are among those of a
    larger. Training rows are the items of lowest hash, `ROWS_A_CENTROID` for each centroid. A centroid without rows
    moves to a row that is drawn in proportion to its squared distance; where all of these are zero, it stays.

    Time O(n k d) for each pass; k x 12 d bytes travel from each partition.

    Args:
        fleet: over the pool.
        metric: of the pool.
        ids: of the items that are clustered [n], ascending; they are what is a candidate after `begin`.
        centroids: [k, d] after the first `done` iterations.
        key: of the randomness.
        begin: begins a program of the fleet.
        done: how many iterations there were.

    Yields:
        The centroids [k, d] after each iteration.

    Raises:
        PoolError: a vector is not finite.
    """
    rows_key, race = derive(key, "rows"), derive(key, "race")
    order = np.sort(item_order(rows_key, ids))
    most = min(len(ids), ROWS_A_CENTROID * len(centroids))
    for number in range(done, len(SHARES)):
        count = max(int(np.ceil(SHARES[number] * most)), min(len(centroids), most))
        look = Look(centroids, bits_of(metric, most), rows_key, int(order[count - 1]), derive(race, number))
        begin()
        seen = fleet.each(add_up, look)
        centroids = _means(look, seen)
        empty = np.flatnonzero(np.sum([part.counts for part in seen], axis=0) == 0)
        if len(empty):
            vectors = compared(_drawn(fleet, seen, len(empty)), metric)
            centroids[empty[: len(vectors)]] = vectors
        yield centroids


def assigned(
    fleet: Fleet, centroids: NDArray[np.float32], begin: Callable[[], None]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the nearest centroid of every item. One pass; 8 bytes for each item come back.

    Args:
        fleet: over the pool.
        centroids: [k, d].
        begin: begins a program of the fleet; what is a candidate then is assigned.

    Returns:
        Of each item, in order of id, the centroid [n] and the squared distance to it [n].

    Raises:
        PoolError: a vector is not finite.
    """
    begin()
    parts = fleet.each(assign, centroids)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _means(look: Look, seen: list[Seen]) -> NDArray[np.float32]:
    """The means of the rows of each centroid; where it has none, as it was."""
    sums, counts = seen[0].sums.copy(), seen[0].counts.copy()
    for part in seen[1:]:
        sums += part.sums
        counts += part.counts
    means = look.centroids.copy()
    there = counts > 0
    means[there] = (sums[there] / counts[there, None] * 2.0**-look.bits).astype(np.float32)
    return means


def _drawn(fleet: Fleet, seen: list[Seen], count: int) -> NDArray[np.float32]:
    """Vectors of the rows that come first of those that partitions offer, at most `count`, first in the order of id."""
    # No more than one partition offers: of later ones it has offered none, and several have offered some.
    offered, arrival = (np.concatenate([part[place] for part in seen]) for place in (2, 3))
    first = np.lexsort((offered, arrival))[: min(count, SPARE)]
    return np.concatenate([found[1] for found in fleet.each(vectors_of, np.sort(offered[first]))])


# Functions of a partition.


def add_up(partition: Partition, look: Look) -> Seen:
    """Add training rows up by their nearest centroid.

    Args:
        partition: where; its candidates are looked at.
        look: what to look for.

    Returns:
        What was found.

    Raises:
        PoolError: a vector is not finite.
    """
    rows = partition.candidates()
    rows = rows[item_order(look.key, partition.ids[rows]) <= look.limit]
    k, dim = look.centroids.shape
    sums, counts, lock = torch.zeros(k, dim, dtype=torch.int64), np.zeros(k, np.int64), Lock()
    gaps = np.empty(len(rows), np.float64)

    def take(own: slice, features: torch.Tensor, which: torch.Tensor, distances: torch.Tensor) -> None:
        whole = (features[:, :dim] * 2.0**look.bits).round_().long().cpu()
        here = which.cpu()
        with lock:
            sums.index_add_(0, here, whole)
            counts[:] += np.bincount(here.numpy(), minlength=k)
        gaps[own] = distances.cpu().numpy()

    _visit(partition, rows, look.centroids, take)
    far = np.flatnonzero(gaps > 0)
    arrival = -np.log(item_uniform(look.race, partition.ids[rows[far]])) / gaps[far]
    first = np.lexsort((rows[far], arrival))[:SPARE]
    return Seen(sums.numpy(), counts, partition.ids[rows[far[first]]], arrival[first])


def assign(partition: Partition, centroids: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the nearest centroid of each candidate.

    Args:
        partition: where.
        centroids: [k, d].

    Returns:
        Which [n], and the squared distance [n].

    Raises:
        PoolError: a vector is not finite.
    """
    rows = partition.candidates()
    found, gaps = np.empty(len(rows), np.int32), np.empty(len(rows), np.float32)

    def take(own: slice, features: torch.Tensor, which: torch.Tensor, distances: torch.Tensor) -> None:
        del features
        found[own], gaps[own] = which.cpu().numpy(), distances.cpu().numpy()

    _visit(partition, rows, centroids, take)
    return found, gaps


def _visit(
    partition: Partition,
    rows: NDArray[np.int64],
    centroids: NDArray[np.float32],
    take: Callable[[slice, torch.Tensor, torch.Tensor, torch.Tensor], None],
) -> None:
    """Hand over rows block by block, with their nearest centroids and the squared distances, in several threads."""
    nearest = NearestCentroid(centroids, partition.width, partition.device)
    threads = torch.get_num_threads() if partition.device.type == "cpu" else 1
    finite = np.empty(len(rows), bool)

    def look(share: slice) -> None:
        start = share.start
        for block in partition.blocks(rows[share], BLOCK_ROWS):
            features = block.features
            for some in slices(BLOCK_ROWS, SCREENED_ROWS):  # which stay in the cache
                features[some] = unit_features(partition, features[some])
            own = slice(start, start + block.n)
            # A sum is finite if and only if every number is: float16 numbers cannot add up to infinity.
            finite[own] = torch.isfinite(features.sum(1))[: block.n].cpu().numpy()
            which, distances = nearest.of(features[: block.n])
            take(own, features[: block.n], which, distances)
            start += block.n

    shared_out(look, list(slices(len(rows), round_up(max(ceil_div(len(rows), threads), 1), BLOCK_ROWS))), threads)
    refuse_broken(partition.ids[rows], finite)
