"""Measure the recall of an index on items of the pool, with the search that rounds use, and tune its settings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raysal.fleet import Fleet, vectors_of
from raysal.index.files import Index
from raysal.index.kinds import is_coded
from raysal.index.search import index_neighbours
from raysal.rng import derive
from raysal.scoring.sweep import Search, SweepRequest, sample_available, sweep
from raysal.scoring.top_k import BestItems

RECALL_AT = (10, 50)
"""Numbers of nearest items that recall is measured at."""
RECALL_QUERIES = 200
"""Sampled items that recall is measured by."""
MIN_GAIN = 0.01
"""Recall that a doubling of the probes must add; if it adds less, more rows are fetched instead."""
MAX_OVERFETCH = 32
"""Rows fetched for each one wanted, at most."""
TIE_TOLERANCE = 1e-6
"""Relative difference below which similarities are equal: a copy of the K-th nearest counts for it."""


def sample_ids(fleet: Fleet, key: int, size: int) -> NDArray[np.int64]:
    """Take a uniform sample of the available items: those of lowest hash. Partitions do not change it.

    Args:
        fleet: holds the items.
        key: a key of randomness.
        size: how many; fewer where fewer are available.

    Returns:
        Their ids int64 [size], ascending.
    """
    return np.sort(sample_available(fleet, key, size))


def tune_recall(fleet: Fleet, index: Index) -> Index:
    """Find the settings that reach an index's target recall at the largest K of RECALL_AT.

    The probes are doubled until the target is reached or there is nothing left to probe. Where a doubling adds little
    and the kind keeps codes, the codes are at fault: more rows are then fetched and ranked by exact similarity.

    Cost: one pass over the pool with RECALL_QUERIES anchors, and RECALL_QUERIES searches for each step.

    Args:
        fleet: is open over the pool.
        index: with its shards.

    Returns:
        The index with its final `probes`, `overfetch` and measured `recall`.
    """
    ids = sample_ids(fleet, derive(index.seed, "index", "queries"), RECALL_QUERIES)
    parts = fleet.each(vectors_of, ids)
    ids, vectors = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(ids)
    ids, vectors = ids[order], vectors[order]
    each = max(RECALL_AT) + 1  # the item itself is among them
    request = SweepRequest(searches=(Search(anchors=vectors, each=each),))
    truth = sweep(fleet, None, request).searches[0].of_each

    def measure(one: Index) -> Index:
        found = index_neighbours(fleet, one, vectors, each)
        shares = {str(k): recall_at(k, ids, found, truth) for k in RECALL_AT}
        return replace(one, recall=shares, queries=len(ids))

    index, at = measure(index), str(max(RECALL_AT))
    while index.recall[at] < index.target_recall:
        wider = replace(index, probes=double_probes(index))
        gain = 0.0
        if wider.probes > index.probes:
            wider = measure(wider)
            gain = wider.recall[at] - index.recall[at]
        coarse = is_coded(index.kind) and 2 * index.overfetch <= MAX_OVERFETCH
        if coarse and gain < MIN_GAIN and wider.recall[at] < index.target_recall:
            wider = measure(replace(wider, overfetch=2 * index.overfetch))
        if (wider.probes, wider.overfetch) == (index.probes, index.overfetch):
            break
        index = wider
    return index


def double_probes(index: Index) -> int:
    """Twice the probes of an index, up to all its lists or rows."""
    most = index.lists or (index.rows if index.kind == "hnsw" else 0)
    return min(2 * index.probes, most)


def recall_at(k: int, ids: NDArray[np.int64], found: list[BestItems], truth: list[BestItems]) -> float:
    """Compute the recall of searches.

    Args:
        k: neighbours wanted; where fewer exist, as many as exist.
        ids: the queries' own ids [n], which do not count.
        found: what the index found for each query.
        truth: what exact search found for each query.

    Returns:
        The mean share of the k nearest other items that was found. An item as near as the k-th counts for it.
    """
    shares = []
    for own, (near_ids, near), (true_ids, true) in zip(ids, found, truth, strict=True):
        near, true = near[near_ids != own][:k], true[true_ids != own][:k]
        if len(true):
            shares.append(float((near >= true[-1] - TIE_TOLERANCE * max(1.0, abs(float(true[-1])))).sum()) / len(true))
    return float(np.mean(shares)) if shares else 1.0
