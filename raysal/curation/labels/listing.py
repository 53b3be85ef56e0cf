"""The list of a check of labels: each item once, the label of lowest score first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.curation.labels.base import Suspects
from raysal.curation.labels.copies import Conflicts
from raysal.curation.labels.given import PoolLabels
from raysal.curation.labels.judged import Judgement
from raysal.models.likelihood import SIGMOID
from raysal.types import NONE, SEPARATOR

COPIES = "another label than items of equal vectors"
NEAR_COPIES = "another label than items that are near"
UNLIKELY = "another label is more likely"
NO_TWIN = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Listing:
    """Items whose labels look wrong, by rising score; ties by id."""

    ids: NDArray[np.int64]
    given: list[str]
    suggested: list[str]
    score: NDArray[np.float64]
    copied: NDArray[np.bool_]
    """whether copies say so; an item that is listed for both reasons is listed for this one, with the lower score"""
    twin: NDArray[np.int64]
    """a copy with the suggested label, or `NO_TWIN`"""
    copies: str
    """what the reason of copies is"""

    @classmethod
    def of(
        cls,
        labels: PoolLabels,
        judgement: Judgement,
        suspects: Suspects,
        different: Conflicts,
        *,
        ids: NDArray[np.int64],
        codes: NDArray[np.int64],
        copies: str,
    ) -> Self:
        """Join what probabilities and copies say.

        Args:
            labels: of the pool.
            judgement: what `Suspects.output` counts.
            suspects: by probabilities.
            different: by copies.
            ids: [n] of labelled items, ascending.
            codes: [n] of their labels.
            copies: the reason of copies.

        Returns:
            The list.
        """
        listed, place = np.unique(suspects.ids, return_inverse=True)
        score = np.full(len(listed), np.inf)
        np.minimum.at(score, place, suspects.score.astype(np.float64))
        every = np.union1d(listed, different.ids)
        own = codes[np.searchsorted(ids, every)]
        given = [labels.texts[code] for code in own.tolist()]
        suggested = list(given)
        if judgement.members is None:
            for at, output in zip(np.searchsorted(every, suspects.ids).tolist(), suspects.output.tolist(), strict=True):
                suggested[at] = judgement.names[output]
        else:
            doubted: dict[int, set[str]] = {}
            for at, output in zip(np.searchsorted(every, suspects.ids).tolist(), suspects.output.tolist(), strict=True):
                doubted.setdefault(at, set()).add(judgement.names[output])
            for at, names in doubted.items():
                right = sorted(set(SIGMOID.names_in(given[at])) ^ names)
                suggested[at] = SEPARATOR.join(right) or NONE
        scores = np.full(len(every), np.inf)
        scores[np.searchsorted(every, listed)] = score
        copied, twin = np.zeros(len(every), bool), np.full(len(every), NO_TWIN, np.int64)
        where = np.searchsorted(every, different.ids)
        copied[where], twin[where] = True, different.twin
        scores[where] = np.minimum(scores[where], different.share)
        for at, code in zip(where.tolist(), different.suggested.tolist(), strict=True):
            suggested[at] = labels.texts[code]
        made = cls(ids=every, given=given, suggested=suggested, score=scores, copied=copied, twin=twin, copies=copies)
        return made.take(np.lexsort((every, scores)))

    def take(self, which: NDArray[np.int64]) -> Self:
        """Some of its items, in this order."""
        return type(self)(
            ids=self.ids[which],
            given=[self.given[at] for at in which.tolist()],
            suggested=[self.suggested[at] for at in which.tolist()],
            score=self.score[which],
            copied=self.copied[which],
            twin=self.twin[which],
            copies=self.copies,
        )

    def first(self, most: int | None) -> Self:
        """The first ones; all for None."""
        return self if most is None else self.take(np.arange(min(most, len(self.ids))))

    def table(self) -> pa.Table:
        """The columns `id`, `given`, `suggested`, `score`, `reason`, `rank` (from 1) and `twin` (an id)."""
        reasons = pa.array([UNLIKELY, self.copies], pa.string()).take(pa.array(self.copied.astype(np.int64)))
        return pa.table(
            {
                "id": pa.array(self.ids, pa.int64()),
                "given": pa.array(self.given, pa.string()),
                "suggested": pa.array(self.suggested, pa.string()),
                "score": pa.array(self.score, pa.float64()),
                "reason": reasons,
                "rank": pa.array(np.arange(1, len(self.ids) + 1), pa.int64()),
                "twin": pa.array(self.twin, pa.int64(), mask=self.twin == NO_TWIN),
            }
        )
