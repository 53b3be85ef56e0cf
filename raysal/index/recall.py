"""What an index finds of what is there: measured on items of the pool, by the search that rounds use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raysal.fleet import Fleet, vectors_of
from raysal.index.files import Index
from raysal.index.kinds import is_coded
from raysal.index.search import index_neighbours
from raysal.rng import derive
from raysal.scoring.sweep import Ranked, Search, SweepRequest, sample_partition, sweep
from raysal.scoring.top_k import best_of

AT = (10, 50)
QUERIES = 200
GAIN = 0.01
"""A doubling that finds less than this more is not what is missing."""
MOST_OVERFETCH = 32
SAME = 1e-6
"""Similarities that differ by less are equal: a copy of the K-th nearest is as good as it."""


def sampled(fleet: Fleet, key: int, size: int) -> NDArray[np.int64]:
    """A uniform sample of the available items, ascending: those of lowest hash, whatever the partitions."""
    parts = fleet.each(sample_partition, key, size)
    ids = best_of(np.concatenate([ids for ids, _ in parts]), np.concatenate([draws for _, draws in parts]), size)[0]
    return np.sort(ids)


def tuned(fleet: Fleet, index: Index) -> Index:
    """The index with the settings that reach its target recall at the largest K of AT, and the recall they were
    measured to have.

    What is looked at is doubled until the target is reached or nothing is left to look at; where that finds no more,
    and the codes are what misleads, more rows are fetched for their exact similarities instead.
    Cost: one pass over the pool with QUERIES anchors, and that many searches for each step.
    """
    ids = sampled(fleet, derive(index.seed, "index", "queries"), QUERIES)
    parts = fleet.each(vectors_of, ids)
    ids, vectors = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(ids)
    ids, vectors = ids[order], vectors[order]
    each = max(AT) + 1  # its own row is among them
    request = SweepRequest(searches=(Search(anchors=vectors, each=each),))
    truth = sweep(fleet, None, request).searches[0].of_each

    def measured(one: Index) -> Index:
        found = index_neighbours(fleet, one, vectors, each)
        shares = {str(k): recall_at(k, ids, found, truth) for k in AT}
        return replace(one, recall=shares, queries=len(ids))

    index, at = measured(index), str(max(AT))
    while index.recall[at] < index.target_recall:
        wider = replace(index, probes=probes_after(index))
        gain = 0.0
        if wider.probes > index.probes:
            wider = measured(wider)
            gain = wider.recall[at] - index.recall[at]
        coarse = is_coded(index.kind) and 2 * index.overfetch <= MOST_OVERFETCH
        if coarse and gain < GAIN and wider.recall[at] < index.target_recall:
            wider = measured(replace(wider, overfetch=2 * index.overfetch))
        if (wider.probes, wider.overfetch) == (index.probes, index.overfetch):
            break
        index = wider
    return index


def probes_after(index: Index) -> int:
    """Twice as much to look at, up to all there is."""
    most = index.lists or (index.rows if index.kind == "hnsw" else 0)
    return min(2 * index.probes, most)


def recall_at(k: int, ids: NDArray[np.int64], found: list[Ranked], truth: list[Ranked]) -> float:
    """Mean share of the k nearest other items of each query that was found, k at most how many there are. An item as
    near as the k-th counts for it."""
    shares = []
    for own, (near_ids, near), (true_ids, true) in zip(ids, found, truth, strict=True):
        near, true = near[near_ids != own][:k], true[true_ids != own][:k]
        if len(true):
            shares.append(float((near >= true[-1] - SAME * max(1.0, abs(float(true[-1])))).sum()) / len(true))
    return float(np.mean(shares)) if shares else 1.0
