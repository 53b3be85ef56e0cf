"""The passes of a check of labels beside the data, and their joining in the driver.

labels, hashes ──▶ heads ──▶ tally ──▶ joint ──▶ suspects
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.curation.labels.base import Checker, Estimate, Floats, How, Score, Suspects, Whole, checked
from raysal.curation.labels.given import MISSING
from raysal.curation.labels.held_out import CODES, Heads, fit_heads, fold_of, probabilities
from raysal.curation.sizes import share_or_more
from raysal.fleet import Fleet, Partition, vectors_of
from raysal.rng import item_uniform

FEWEST_SAMPLED = 50
"""Items of a class that a sample has at least, where there are so many."""
TRIMMED_AT = 2**18
"""Suspects that a partition gathers before it lets go of those that cannot count any more."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What is judged, and by what: it travels to the partitions."""

    checker: Checker
    outputs_of: NDArray[np.int32]
    """[texts] the class of each label text, -1 for one that is not judged; of several labels 0 for all"""
    members: NDArray[np.bool_] | None
    """[texts, C] of several labels, which each text names; None for one class of several"""
    heads: Heads | None
    """None where probabilities are given"""


class Rule(NamedTuple):
    """Which items are suspects."""

    how: How
    limits: Whole
    score: Score


class Found(NamedTuple):
    """What the passes found."""

    estimate: Estimate
    suspects: Suspects
    judged: int
    """items with a label and probabilities"""


def sampled(
    ids: NDArray[np.int64], classes: NDArray[np.int64], most: int, key: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw a sample of labelled items, in which no class is too rare to be learnt.

    Args:
        ids: [n].
        classes: [n] of each item.
        most: how many are drawn, about.
        key: of the randomness.

    Returns:
        Positions [m], ascending, and what each counts for [m], so that classes weigh what they do among all; 1 in the
        mean.
    """
    n = len(ids)
    counts = np.bincount(classes)
    quota = np.minimum(counts, np.maximum(np.ceil(counts * (most / max(n, 1))), FEWEST_SAMPLED)).astype(np.int64)
    order = np.lexsort((item_uniform(key, ids), classes))
    rank = np.arange(n) - np.searchsorted(classes[order], classes[order])
    chosen = np.sort(order[rank < quota[classes[order]]])
    weights = (counts / np.maximum(quota, 1))[classes[chosen]]
    return chosen, weights * (len(chosen) / weights.sum()) if len(chosen) else weights


def held_out_heads(
    fleet: Fleet,
    ids: NDArray[np.int64],
    classes: NDArray[np.int64],
    members: NDArray[np.bool_] | None,
    groups: NDArray[np.uint64],
    outputs: int,
    *,
    folds: int,
    sample: int,
    key: int,
) -> Heads:
    """Fit the heads of the folds. One round trip for the vectors of the sample.

    Args:
        fleet: in a program.
        ids: [n] of the items that are judged, ascending.
        classes: [n] the class of each; of several labels its text.
        members: [texts, C] of several labels.
        groups: [n] what decides their folds.
        outputs: C.
        folds: how many.
        sample: how many items the heads are fitted to, about.
        key: of all randomness.

    Returns:
        The heads.
    """
    together = classes if members is None else np.zeros(len(ids), np.int64)
    chosen, weights = sampled(ids, together, sample, key)
    parts = [vectors for _, vectors in fleet.each(vectors_of, ids[chosen])]
    vectors = np.concatenate(parts)
    own = classes[chosen]
    targets = np.eye(outputs)[own] if members is None else members[own]
    fold = fold_of(groups[chosen], folds, key)
    return fit_heads(vectors, targets, weights, fold, folds, key, exclusive=members is None)


def find(fleet: Fleet, judged: Judged, *, how: How, score: Score, share: float | None) -> Found:
    """Find suspects by probabilities that are beside the data. Three passes, three round trips.

    Args:
        fleet: in a program in which the labels, and what gives probabilities, have been placed.
        judged: what is judged.
        how: the rule; `lowest` with a share.
        score: how labels are scored.
        share: of the judged items, for `lowest`.

    Returns:
        The suspects, the most doubtful first of each group, and what is estimated.

    Raises:
        PoolError: the probabilities of an item are not finite; it names the item.
    """
    checker = judged.checker
    tally = np.add.reduce(fleet.each(tally_part, judged))
    thresholds = checker.thresholds(tally)
    joint = np.add.reduce(fleet.each(joint_part, judged, thresholds))
    estimate = checker.estimate(tally, joint)
    limits = np.array([share_or_more(share, estimate.labelled)]) if share is not None else estimate.limits[how]
    rule = Rule(how, np.asarray(limits, np.int64), score)
    found = Suspects.joined(fleet.each(suspects_part, judged, thresholds, estimate, rule))
    return Found(estimate, found.first_of_groups(rule.limits), estimate.labelled)


# Functions of a partition.


def _blocks(partition: Partition, judged: Judged) -> Iterator[tuple[NDArray[np.int64], Floats, NDArray[np.generic]]]:
    """Ids, probabilities and labels of the judged items of a partition, block by block."""
    codes: NDArray[np.int32] = partition.state[CODES]
    outputs = np.append(judged.outputs_of, np.int32(MISSING))[codes]
    for rows, p in probabilities(partition, judged.heads, np.flatnonzero(outputs >= 0)):
        ids = partition.ids[rows]
        given = outputs[rows] if judged.members is None else judged.members[codes[rows]]
        yield ids, checked(p, ids), given


def tally_part(partition: Partition, judged: Judged) -> Whole:
    """The first pass over a partition: `Checker.tally` of all of its items."""
    empty = np.empty((0, judged.checker.outputs), np.float32)
    none = np.empty(0, np.int32) if judged.members is None else judged.members[:0]
    total = judged.checker.tally(empty, none)
    for _, p, given in _blocks(partition, judged):
        total += judged.checker.tally(p, given)
    return total


def joint_part(partition: Partition, judged: Judged, thresholds: Floats) -> Whole:
    """The second pass over a partition: `Checker.joint` of all of its items."""
    empty = np.empty((0, judged.checker.outputs), np.float32)
    none = np.empty(0, np.int32) if judged.members is None else judged.members[:0]
    total = judged.checker.joint(empty, none, thresholds)
    for _, p, given in _blocks(partition, judged):
        total += judged.checker.joint(p, given, thresholds)
    return total


def suspects_part(partition: Partition, judged: Judged, thresholds: Floats, estimate: Estimate, rule: Rule) -> Suspects:
    """The third pass over a partition: the suspects that may be among the first ones of all."""
    found, gathered = [Suspects.joined([])], 0
    for ids, p, given in _blocks(partition, judged):
        found.append(judged.checker.suspects(ids, p, given, thresholds, estimate, rule.how, rule.score))
        gathered += len(found[-1].ids)
        if gathered > TRIMMED_AT:
            found = [Suspects.joined(found).first_of_groups(rule.limits)]
            gathered = 0
    return Suspects.joined(found).first_of_groups(rule.limits)
