"""Confident learning for one class of several (Northcutt, Jiang & Chuang, JAIR 2021).

The threshold of a class is the mean probability of that class over the items that are given it. An item is counted
as truly of the class of largest probability among those whose thresholds it reaches, and as nothing if there is none.
These counts, given by true, are the confident joint. Its rows, scaled to the number of items that are given each class,
estimate how many labels of each pair are wrong.

Which items are suspects?

- `class`: of the items that are given i and predicted another class, as many as the joint estimates to be wrong, those
  of lowest score. (The paper goes by p_i, the score `self_confidence`.)
- `noise_rate`: of the items that are given i and predicted j, as many as the joint estimates, those with the largest
  margin p_j - p_i. (In the paper each item stands in all pairs of its given class, here in that of its likeliest
  class: what is suggested for an item is then the one class that it is suspected for.)
- `confident`: the items that the confident joint counts off its diagonal.

cleanlab 2.9 takes, where an item reaches several thresholds, the likeliest class of all, which may not reach its own;
here, as in the paper, it is the likeliest of those.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.curation.labels.base import (
    NEARLY,
    UNIT,
    Checker,
    Estimate,
    Floats,
    How,
    Score,
    Suspects,
    Whole,
    entropy_score,
    units,
    whole_rows,
)

BINS = 512
EDGES = (1 / (1 + np.exp(-np.linspace(-8, 17, BINS - 1)))).astype(np.float32)
"""Of the histogram of the likeliest class's probability: even in log-odds, as most are near 1."""
LEADING = 0.2
"""Share of the items predicted a class, those of largest probability, whose labels say how the class is mislabelled.
With more of them, what is hard to tell apart looks like wrong labels (RESULTS.md, "Curation")."""
FEWEST_LEADING = 20
TEMPER = 0.5
"""Power of the shares of wrong classes in the score `transitions`: such shares are estimated of few items."""


class OneOfSeveral(Checker):
    """Labels that name one class. `given` is int32 [n], the class of each item.

    The score `transitions` is the probability that a label is right, given the label: with a prediction p, and T_ij the
    share of items of class j that are given i,

        p_i T_ii / sum_j p_j T_ij,       T_ij for i != j in proportion to the root of the share among leading items

    So a label is worse if others of its likeliest class were given it, too. The others are those of the paper and of
    cleanlab: `self_confidence` p_i, `normalized_margin` (p_i - max of others + 1) / 2, and `entropy`, which is weighted
    by confidence.

    Cost: O(n C) for each pass. Memory: numbers of C² and 512 C.
    """

    scores = ("transitions", "self_confidence", "normalized_margin", "entropy")

    def tally(self, p: Floats, given: NDArray[Any]) -> Whole:
        """Of each class [C, 2 + BINS]: items given, their probability of it, and what is predicted how surely."""
        c = self.outputs
        found = np.zeros((c, 2 + BINS), np.int64)
        found[:, 0] = np.bincount(given, minlength=c)
        np.add.at(found[:, 1], given, units(p[np.arange(len(p)), given]))
        likeliest = p.argmax(1)
        bins = np.searchsorted(EDGES, p[np.arange(len(p)), likeliest], side="right")
        found[:, 2:] = np.bincount(likeliest * BINS + bins, minlength=c * BINS).reshape(c, BINS)
        return found

    def thresholds(self, tally: Whole) -> Floats:
        """[2, C]: for the confident joint, and from which probability on an item leads its class."""
        items = tally[:, 0]
        mean = np.divide(tally[:, 1] / UNIT, items, out=np.full(len(items), np.inf), where=items > 0)
        above = tally[:, :1:-1].cumsum(1)  # from the surest bin on
        wanted = np.maximum(np.ceil(LEADING * above[:, -1]), FEWEST_LEADING)
        lowest = BINS - 1 - np.minimum((above < wanted[:, None]).sum(1), BINS - 1)
        least = np.concatenate([[np.float32(0)], EDGES])[lowest]
        return np.asarray(np.stack([mean - NEARLY, least]), np.float32)

    def guess(self, p: Floats, thresholds: Floats) -> NDArray[np.int64]:
        """The class [n] that each item is confidently of, -1 for none; ties go to the first class."""
        reached = np.where(p >= thresholds[0], p, np.float32(-1))
        best = reached.argmax(1)
        return np.where(reached[np.arange(len(p)), best] >= 0, best, -1)

    def joint(self, p: Floats, given: NDArray[Any], thresholds: Floats) -> Whole:
        """[2, C, C], given by true: the confident joint, and the labels of items that lead their class."""
        c = self.outputs
        found = np.zeros((2, c, c), np.int64)
        guess, likeliest = self.guess(p, thresholds), p.argmax(1)
        leads = p[np.arange(len(p)), likeliest] >= thresholds[1][likeliest]
        for place, (true, counts) in enumerate(((guess, guess >= 0), (likeliest, leads))):
            pairs = given[counts].astype(np.int64) * c + true[counts]
            found[place] = np.bincount(pairs, minlength=c * c).reshape(c, c)
        return found

    def estimate(self, tally: Whole, joint: Whole) -> Estimate:
        """By the calibrated joint: rows scaled to the items that are given each class."""
        c, items = self.outputs, tally[:, 0]
        counted = joint[0].astype(np.float64)
        np.fill_diagonal(counted, np.maximum(np.diag(counted), 1))  # of each class one item at least is right
        estimated = counted / counted.sum(1, keepdims=True) * items[:, None]
        wrong = estimated.sum(1) - np.diag(estimated)
        limits = whole_rows(estimated, items)
        np.fill_diagonal(limits, 0)
        off = estimated.copy()
        np.fill_diagonal(off, 0)
        pairs = [divmod(int(at), c) for at in np.argsort(-off, axis=None, kind="stable")[: np.count_nonzero(off)]]
        n = int(items.sum())
        return Estimate(
            labelled=n,
            items=items,
            wrong=wrong,
            error_rate=float(wrong.sum() / n) if n else 0.0,
            confused=tuple((i, j, float(off[i, j])) for i, j in pairs),
            limits={"noise_rate": limits.ravel(), "class": limits.sum(1), "confident": np.array([n])},
            transitions=transitions_of(joint[1]),
        )

    def suspects(
        self,
        ids: Whole,
        p: Floats,
        given: NDArray[Any],
        thresholds: Floats,
        estimate: Estimate,
        how: How,
        score: Score,
    ) -> Suspects:
        """See `Checker.suspects`; the class that is suggested is the likeliest one, or the one that is guessed."""
        rows = np.arange(len(p))
        own = p[rows, given]
        if how == "confident":
            suggested = self.guess(p, thresholds)
            doubted = (suggested >= 0) & (suggested != given)
        elif how == "lowest":
            others = p.copy()
            others[rows, given] = -1
            suggested, doubted = others.argmax(1), np.ones(len(p), bool)
        else:
            suggested = p.argmax(1)
            doubted = own < p[rows, suggested]
        at = np.flatnonzero(doubted)
        p, given, own, suggested = p[at], given[at], own[at], suggested[at]
        quality = self.quality(p, given, estimate, score)
        group, doubt = np.zeros(len(at), np.int64), -quality
        if how == "noise_rate":
            group = given.astype(np.int64) * self.outputs + suggested
            doubt = p[np.arange(len(at)), suggested] - own
        elif how == "class":
            group = given.astype(np.int64)
        return Suspects(ids[at], suggested.astype(np.int32), group, doubt, quality)

    def quality(self, p: Floats, given: NDArray[Any], estimate: Estimate, score: Score) -> Floats:
        """How good labels are, [n], from 0 to 1."""
        rows = np.arange(len(p))
        own = p[rows, given]
        if score == "self_confidence":
            return np.asarray(own)
        if score == "normalized_margin":
            others = p.copy()
            others[rows, given] = -np.inf
            return np.asarray((own - others.max(1) + 1) / 2, np.float32)
        if score == "entropy":
            return entropy_score(p, own)
        assert estimate.transitions is not None
        weights = estimate.transitions
        evidence = (p * weights[given]).sum(1)
        right = own * weights[given, given]
        return np.asarray(np.divide(right, evidence, out=np.zeros(len(p), np.float32), where=evidence > 0))


def transitions_of(leading: Whole) -> Floats:
    """Weights of given classes by the true one, from the labels of leading items.

    Args:
        leading: [C, C], given by likeliest.

    Returns:
        [C, C], columns add up to 1. Of a class that nothing is predicted, all wrong classes weigh the same.
    """
    c = len(leading)
    counted = leading + 1 / c  # one item more in each column, shared by all classes
    right = np.diag(leading + 1) / (leading.sum(0) + 2)
    off = counted**TEMPER
    np.fill_diagonal(off, 0)
    total = off.sum(0)
    found = np.divide(off * (1 - right), total, out=np.zeros_like(off), where=total > 0)
    np.fill_diagonal(found, right)
    return np.asarray(found, np.float32)
