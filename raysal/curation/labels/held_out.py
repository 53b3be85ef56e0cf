"""Out-of-sample probabilities of the items of a pool: from heads that never saw an item or its copies, or as given.

Items fall into folds by a hash of their vector, so that equal ones are in the same fold; parts of an owner, by their
owner. For each fold a linear head is fitted to a sample of the labelled items outside of it, and it predicts the items
of the fold beside the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.curation.labels.base import Floats
from raysal.curation.labels.outside import outside_blocks
from raysal.fleet import Partition
from raysal.fleet.specs import owners_of_slices
from raysal.models.evidence import Evidence
from raysal.models.trainers.logistic import COARSE, Logistic
from raysal.models.trainers.multi_label import MultiLabel
from raysal.numerics import BLOCK_ROWS, one_thread, one_thread_if_small, slices
from raysal.rng import generator, item_uniform
from raysal.strategies.engine.distinct import hashes_of

PENALTY_ITEMS = 2_000
"""Labelled items that the penalty is chosen by; of more, it changes little and costs much."""
CODES, HASHES, GROUPS = "labels", "hashes of vectors", "groups of folds"
"""Names in the state of a partition."""


class Heads(NamedTuple):
    """A linear head for each fold."""

    weights: NDArray[np.float64]
    """[folds, C, d + 1], the bias last; NaN where a fold has no head"""
    exclusive: bool
    """whether an item has one of the classes, so that probabilities add up to 1"""
    key: int
    """of the folds"""


def fold_of(groups: NDArray[np.uint64], folds: int, key: int) -> NDArray[np.int64]:
    """The fold of items, by what they have in common with their copies.

    Args:
        groups: [n], equal for items that must be in one fold.
        folds: how many there are.
        key: of the randomness.

    Returns:
        [n] from 0 to folds - 1.
    """
    return (item_uniform(key, groups.view(np.int64)) * folds).astype(np.int64)


def hashes(vectors: NDArray[np.float32], key: int = 0) -> NDArray[np.uint64]:
    """Hash vectors: equal ones have equal hashes, and unlike ones do too with a chance of about 2^-100 a pair.

    Two sums of the numbers' bits, each times a random odd number of 64 bits (multilinear: Carter & Wegman 1979).

    Args:
        vectors: [n, d], of float16 in single precision.
        key: of the random numbers.

    Returns:
        [n, 2].
    """
    random = generator(key)
    found = np.empty((len(vectors), 2), np.uint64)
    odd = random.integers(2**63, size=(2, vectors.shape[1]), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    for own in slices(len(vectors), BLOCK_ROWS):
        words = (vectors[own] + np.float32(0)).view(np.uint32).astype(np.uint64)  # no negative zeros
        for column in (0, 1):
            found[own, column] = hashes_of(words, odd[column])
    return found


def fit_heads(
    vectors: NDArray[np.float32],
    targets: NDArray[Any],
    weights: NDArray[np.float64],
    fold: NDArray[np.int64],
    folds: int,
    key: int,
    *,
    exclusive: bool,
) -> Heads:
    """Fit a head for each fold to the items outside of it.

    The penalty is chosen once, by `Logistic` on `PENALTY_ITEMS` items. Cost: some 50 products of all items with all
    classes for each fold. Memory: 16 bytes for each number of the vectors.

    Args:
        vectors: [m, d], a sample of the labelled items.
        targets: [m, C], 1 for the class, or for each label, of an item.
        weights: [m] what an item counts for.
        fold: [m] of each item.
        folds: how many there are.
        key: of the folds.
        exclusive: an item has one class of several.

    Returns:
        The heads; a fold outside of which there is no item has none.
    """
    trainer: Logistic = Logistic() if exclusive else MultiLabel()
    evidence = Evidence(features=vectors.astype(np.float64), targets=targets.astype(np.float64), weights=weights)
    few = np.sort(np.argsort(item_uniform(key, np.arange(len(weights))), kind="stable")[:PENALTY_ITEMS])
    found = np.full((folds, targets.shape[1], vectors.shape[1] + 1), np.nan)
    if not len(weights):
        return Heads(found, exclusive, key)
    with one_thread_if_small(len(few), vectors.shape[1], targets.shape[1]):
        chosen = trainer.problem(evidence.take(few), key % 2**32)
    trainer = replace(trainer, l2=chosen.prior, standardise=not chosen.frame.has_one_size)
    with one_thread_if_small(len(weights), vectors.shape[1], targets.shape[1]):
        problem = replace(trainer.problem(evidence, key % 2**32), start=None)
        for own in range(folds):
            outside = np.where(fold == own, 0.0, weights)
            if outside.any():
                found[own] = problem.frame.outside(trainer.solution(problem, tol=COARSE, weights=outside))
    return Heads(found, exclusive, key)


# Functions of a partition.


def place_labels(
    partition: Partition, codes: NDArray[np.int32], by_owner: bool
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Put the labels beside the data, and look at the vectors of labelled items. One pass.

    Args:
        partition: where.
        codes: [N] of all items of the pool, -1 for those that are not looked at.
        by_owner: the parts of an owner are in one fold.

    Returns:
        Of the labelled items here, in order: hashes of their vectors [m, 2], and what decides their folds, [m].
    """
    own = codes[partition.spec.start : partition.spec.stop]
    rows = np.flatnonzero(own >= 0)
    found = np.empty((len(rows), 2), np.uint64)
    done = 0
    for block in partition.blocks(rows):
        found[done : done + block.n] = hashes(block.features[: block.n, : partition.dim].cpu().numpy())
        done += block.n
    groups = found[:, 0].copy()
    if by_owner:
        groups = owners_of_slices(partition.spec.open_pool(), partition.slices)[rows].view(np.uint64)
    partition.state[CODES], partition.state[GROUPS] = own, (rows, groups)
    return found, groups


def probabilities(
    partition: Partition, heads: Heads | None, rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], Floats]]:
    """The probabilities of labelled items, block by block.

    Args:
        partition: where; `place_labels` has run there, and without heads `place_outside`.
        heads: of the folds; None for probabilities that are given.
        rows: ascending positions of labelled items.

    Yields:
        (positions [n], probabilities [n, C]); items without any are left out.
    """
    if heads is None:
        yield from outside_blocks(partition, rows)
        return
    labelled, groups = partition.state[GROUPS]
    fold = fold_of(groups[np.searchsorted(labelled, rows)], len(heads.weights), heads.key)
    for own, weights in enumerate(heads.weights):
        if np.isnan(weights).any():
            continue
        matrix = partition.aligned(weights[:, :-1].astype(np.float32))
        bias = torch.from_numpy(weights[:, -1].astype(np.float32)).to(partition.device)
        for block in partition.blocks(rows[fold == own]):
            outputs = matrix.products(block.features) + bias
            with one_thread():
                predicted = outputs.softmax(1) if heads.exclusive else outputs.sigmoid()
            yield block.rows, predicted[: block.n].cpu().numpy()
