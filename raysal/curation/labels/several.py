"""Confident learning for several labels at once (Thyagarajan, Snorrason, Northcutt & Mueller, arXiv 2211.13895).

Each label is a question of its own: is it there? Confident learning is done for each, with the two classes absent and
present, and an item is a suspect if one of its answers is. The score of an item is the moving average of those of its
answers, from the best to the worst, in which the worst weighs `ALPHA`.
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
    units,
    whole_rows,
)

ALPHA = 0.8
"""Of the moving average, as in the paper."""


class SeveralLabels(Checker):
    """Labels of which an item has several. `given` is bool [n, C].

    The methods `noise_rate` and `class` are one here, as an answer can only be wrong in one way. A suspect's `output`
    is the label that is doubted: given and wrong, or missing. With `lowest` it is the worst of each item.

    Cost: O(n C log C) for each pass. Memory: numbers of C.
    """

    scores = ("self_confidence",)

    def tally(self, p: Floats, given: NDArray[Any]) -> Whole:
        """[2, 2, C], by whether a label is given: how many items, and the probability that it is so."""
        found = np.zeros((2, 2, self.outputs), np.int64)
        present, absent = np.where(given, units(p), 0), np.where(given, 0, units(1 - p))
        found[1] = given.sum(0), present.sum(0)
        found[0] = (~given).sum(0), absent.sum(0)
        return found

    def thresholds(self, tally: Whole) -> Floats:
        """[2, C]: from which probability on a label is confidently absent, or present."""
        items = tally[:, 0]
        mean = np.divide(tally[:, 1] / UNIT, items, out=np.full(items.shape, np.inf), where=items > 0)
        return np.asarray(mean - NEARLY, np.float32)

    def guess(self, p: Floats, thresholds: Floats) -> NDArray[np.int8]:
        """[n, C]: 1 where a label is confidently present, 0 where it is confidently absent, -1 where neither is."""
        absent, present = 1 - p >= thresholds[0], p >= thresholds[1]
        both = np.where(p > np.float32(0.5), 1, 0)
        return np.where(absent & present, both, np.where(present, 1, np.where(absent, 0, -1))).astype(np.int8)

    def joint(self, p: Floats, given: NDArray[Any], thresholds: Floats) -> Whole:
        """[C, 2, 2], given by true, of each label."""
        guess = self.guess(p, thresholds)
        found = np.zeros((self.outputs, 2, 2), np.int64)
        for own in (0, 1):
            for true in (0, 1):
                found[:, own, true] = ((given == bool(own)) & (guess == true)).sum(0)
        return found

    def estimate(self, tally: Whole, joint: Whole) -> Estimate:
        """By the calibrated joint of each label."""
        items = tally[:, 0].T  # [C, 2]
        counted = joint.astype(np.float64)
        for same in (0, 1):
            counted[:, same, same] = np.maximum(counted[:, same, same], 1)
        estimated = counted / counted.sum(2, keepdims=True) * items[:, :, None]
        limits = whole_rows(estimated.reshape(-1, 2), items.ravel()).reshape(-1, 2, 2)
        off = np.stack([estimated[:, 0, 1], estimated[:, 1, 0]], 1)  # missing, and wrongly given
        pairs = [divmod(int(at), 2) for at in np.argsort(-off, axis=None, kind="stable")[: np.count_nonzero(off)]]
        answers = int(items.sum())
        by_answer = np.stack([limits[:, 0, 1], limits[:, 1, 0]], 1).ravel()
        return Estimate(
            labelled=int(items[0].sum()) if len(items) else 0,
            items=items[:, 1],
            wrong=off[:, 1],
            error_rate=float(off.sum() / answers) if answers else 0.0,
            confused=tuple((c if own else -1, -1 if own else c, float(off[c, own])) for c, own in pairs),
            limits={"noise_rate": by_answer, "class": by_answer, "confident": np.array([answers])},
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
        """See `Checker.suspects`: one for each answer that is doubted."""
        del estimate, score
        own = np.where(given, p, 1 - p)
        if how == "lowest":
            row, label = np.arange(len(p)), own.argmin(1)
        elif how == "confident":
            guess = self.guess(p, thresholds)
            row, label = np.nonzero((guess >= 0) & (guess != given))
        else:
            row, label = np.nonzero(own < np.float32(0.5))
        doubted, where = np.unique(row, return_inverse=True)
        quality = self.quality(own[doubted])[where]
        group, doubt = np.zeros(len(row), np.int64), -quality
        if how not in ("lowest", "confident"):
            group = label * 2 + given[row, label]
            doubt = 1 - own[row, label]
        return Suspects(ids[row], label.astype(np.int32), group, doubt, quality)

    def quality(self, own: Floats) -> Floats:
        """How good the labels of items are, [n], from the probabilities [n, C] of their answers."""
        c = own.shape[1]
        weights = np.where(np.arange(c) == 0, 1, ALPHA) * (1 - ALPHA) ** np.arange(c - 1, -1, -1.0)
        return np.asarray((np.sort(own, axis=1)[:, ::-1] * weights.astype(np.float32)).sum(1), np.float32)
