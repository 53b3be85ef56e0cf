"""Labels that came along and look wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from raysal.curation.base import Forecast, Speed, Step, StepResult, Work
from raysal.curation.dedup import FOLDER
from raysal.curation.home import home_of
from raysal.curation.labels.base import Checker, How, Method, Score, Suspects
from raysal.curation.labels.confident import OneOfSeveral
from raysal.curation.labels.copies import Conflicts, conflicts, groups_of, near_groups
from raysal.curation.labels.given import MISSING, PoolLabels, is_column, names_of, read_pool_labels
from raysal.curation.labels.held_out import place_labels
from raysal.curation.labels.judged import Judgement
from raysal.curation.labels.listing import COPIES, NEAR_COPIES, NO_TWIN, UNLIKELY, Listing
from raysal.curation.labels.outside import Outside, digest_of_outside, laid_beside, place_outside
from raysal.curation.labels.passes import Found, Judged, find, held_out_heads
from raysal.curation.labels.several import SeveralLabels
from raysal.curation.near.folder import read_pairs
from raysal.curation.near.job import find_near_pairs
from raysal.curation.near.pairs import TooManyPairs
from raysal.curation.order import check_threshold
from raysal.errors import ConfigError, UnknownName
from raysal.labels.confusable import confusable
from raysal.paths import ColumnOrFile
from raysal.pool import Pool
from raysal.pool.owners import has_parts
from raysal.rng import derive
from raysal.rounds.probability_tables import open_table

PRODUCTS = 50
"""Products of the sample with all classes in the fit of a fold's head, about."""
VALUE = "the score of the label, from 0 for one that is wrong to 1"
"""What the value of a dropped item is."""
NOTES = 10
"""Classes of which the facts say that they are perhaps another one, at most."""
CONFUSED_TOLD = 1000
"""Pairs of classes that the facts name, at most."""


@dataclass(frozen=True, kw_only=True)
class Check(Step):
    """Lists items whose labels look wrong, the worst first; with `drop` it drops them.

    By confident learning (Northcutt, Jiang & Chuang, JAIR 2021; of several labels Thyagarajan et al., arXiv
    2211.13895): probabilities that are predicted for items without looking at their own labels are compared with the
    labels. Linear heads on the vectors make them, one for each of `folds`, fitted to `sample` labelled items outside of
    it; copies are in one fold, and so are the parts of an owner. Or `probabilities` are given. Beside that, items are
    listed whose vectors are equal, or near with `near`, and whose labels are not (`raysal.curation.labels.copies`).

    A score is between 0 and 1, and lower for a label that is more likely wrong; `raysal.curation.labels.confident` has
    the methods and scores. Ties go to the lower id.

    Not judged by heads, and counted in the facts, are items of classes with fewer than `fewest` labels, whose heads
    would hardly know the class. Items without a label are passed over.

    Cost: one pass to hash the vectors, three that predict, O(n d C) each; the fits, about 50 products O(sample d C) a
    fold; with `near` that of `raysal dedup`. Memory of the driver: some 80 bytes an item, 16 for each number of the
    sample's vectors, and 24 bytes for each suspect; of a partition 40 bytes an item. Given
    probabilities are laid beside the vectors while the step runs, 4 C bytes an item on the disk.
    """

    labels: ColumnOrFile = "label"
    """a column that the pool carries, a label file, or a run directory"""
    several: bool = False
    """an item has several labels, `a|b`, or `-` for none"""
    probabilities: Path | None = None
    """a file or folder of predictions that were made without the items' own labels, in place of heads"""
    folds: int = 5
    sample: int = 20_000
    fewest: int = 5
    """labels of a class from which on its items are judged"""
    method: Method = "class"
    """which items are suspects: as many as are estimated to be wrong for each `class`, or for each pair of classes
    (`noise_rate`); or those that are confidently of another class (`confident`)"""
    score: Score | None = None
    """how labels are scored: `transitions`, `self_confidence`, `normalized_margin` or `entropy`; of several labels
    `self_confidence`"""
    share: float | None = None
    """list this share of the judged items, those of lowest score, in place of `method`"""
    most: int | None = None
    """list so many items at most"""
    near: float | None = None
    """similarity from which on items count as copies, as the threshold of `near`; None for equal vectors alone"""
    drop: bool = False
    """drop what is listed"""

    def check(self, pool: Pool) -> None:
        """See `Step.check`."""
        if self.method not in get_args(Method):
            raise UnknownName("method", self.method, get_args(Method))
        if self.score is not None and self.score not in get_args(Score):
            raise UnknownName("score", self.score, get_args(Score))
        if self.several and self.score not in (None, "self_confidence"):
            raise ConfigError("score", f"{self.score} is of one class of several", "leave it out beside several")
        if self.several and self.probabilities is not None:
            raise ConfigError("probabilities", "are of one class of several", "leave them out beside several")
        if self.folds < 2:
            raise ConfigError("folds", f"{self.folds} is below 2", "use 5 or 10")
        for name, least in (("sample", 1), ("fewest", 1), ("most", 0)):
            if (value := getattr(self, name)) is not None and value < least:
                raise ConfigError(name, f"{value} is below {least}")
        if self.share is not None and not (math.isfinite(self.share) and 0 <= self.share <= 1):
            raise ConfigError("share", f"{self.share} is not between 0 and 1")
        if self.near is not None:
            check_threshold(self.near, pool, "near")
        is_column(pool, self.labels)
        if self.probabilities is not None:
            open_table(self.probabilities)

    def inputs(self, pool: Pool) -> Mapping[str, Any]:
        """The labels and probabilities of files."""
        found = {}
        if not is_column(pool, self.labels):
            found["labels"] = read_pool_labels(pool, self.labels, several=self.several).digest
        if self.probabilities is not None:
            found["probabilities"] = digest_of_outside(self.probabilities)
        return found

    def forecast(self, pool: Pool, left: int, speed: Speed) -> Forecast:
        """What is listed is not known before; without `drop` everything is kept. It counts on ten classes."""
        fits = 0 if self.probabilities else self.folds * PRODUCTS * min(self.sample, left)
        products = (fits + 3 * left) * pool.dim * 10
        seconds = products / speed.products + 6 * left / speed.rows
        return Forecast(kept=None if self.drop else left, seconds=seconds)

    def apply(self, work: Work) -> StepResult:
        """See `Step.apply`."""
        self.check(work.pool)
        if self.probabilities is None:
            return self._found(work, None)
        with laid_beside(work.pool, self.probabilities, work.folder) as outside:
            return self._found(work, outside)

    def _found(self, work: Work, outside: Outside | None) -> StepResult:
        labels = read_pool_labels(work.pool, self.labels, several=self.several)
        codes = np.where(work.left, labels.codes, np.int32(MISSING))
        rows = np.flatnonzero(codes != MISSING)
        ids, own = work.ids[rows], codes[rows].astype(np.int64)
        near = self._near_pairs(work)
        work.begin()
        work.report("labels", 0, 4)
        placed = work.fleet.each(place_labels, codes, has_parts(work.pool))
        hashes = np.concatenate([found for found, _ in placed])
        groups = groups_of(hashes)
        different = conflicts(ids, groups, own, near_groups(ids, groups, near))
        folds_by = np.concatenate([group for _, group in placed])
        judgement, found = self._judged(work, labels, ids, own, folds_by, outside)
        listing = Listing.of(
            labels,
            judgement,
            Suspects.joined([]) if found is None else found.suspects,
            different,
            ids=ids,
            codes=own,
            copies=COPIES if self.near is None else NEAR_COPIES,
        ).first(self.most)
        facts = self._facts(len(work.ids_left) - len(ids), len(ids), judgement, found, different)
        asked = int((judgement.outputs_of[own] >= 0).sum())
        if outside is not None and (lacking := asked - facts["judged"]):
            facts["notes"].append(f"{lacking:,} of {len(ids):,} labelled items not judged: they have no probabilities")
        facts["notes"] += confusable(names_of(labels, own, several=self.several), ())[:NOTES]
        work.report("labels", 4, 4)
        if not self.drop:
            return StepResult.of(np.empty(0, np.int64), listing.copies, facts=facts, listed=listing.table())
        facts["value"] = VALUE
        order = np.argsort(listing.ids)
        dropped, twin = listing.ids[order], listing.twin[order]
        return StepResult(
            ids=dropped,
            reason=listing.copied[order].astype(np.uint8),
            reasons=(UNLIKELY, listing.copies),
            nearest=np.where(np.isin(twin, dropped), NO_TWIN, twin),
            value=listing.score[order],
            facts=facts,
            listed=listing.table(),
        )

    def _near_pairs(self, work: Work) -> Any:
        if self.near is None:
            return []
        similarity, folder = check_threshold(self.near, work.pool), home_of(work.pool) / FOLDER
        try:
            done = find_near_pairs(work.pool, work.fleet, folder, similarity, report=work.report)
        except TooManyPairs:
            problem = f"more pairs of items are that near than are listed, at {self.near:g}"
            raise ConfigError("near", problem, "ask for nearer ones, or leave it out for equal vectors alone") from None
        return read_pairs(folder, done.plan, similarity)

    def _judged(
        self,
        work: Work,
        labels: PoolLabels,
        ids: NDArray[np.int64],
        codes: NDArray[np.int64],
        groups: NDArray[np.uint64],
        outside: Outside | None,
    ) -> tuple[Judgement, Found | None]:
        """Find suspects by probabilities; None where nothing can be told by them."""
        known = None if outside is None else outside.classes
        judgement = Judgement.of(labels, codes, self.fewest, self.several, known)
        outputs = judgement.outputs_of[codes].astype(np.int64)
        there = outputs >= 0
        if len(judgement.names) < (1 if self.several else 2) or not there.any():
            return judgement, None
        checker: Checker = (SeveralLabels if self.several else OneOfSeveral)(len(judgement.names))
        heads = None
        if outside is not None:
            work.fleet.each(place_outside, outside)
        else:
            heads = held_out_heads(
                work.fleet,
                ids[there],
                (codes if self.several else outputs)[there],
                judgement.members,
                groups[there],
                len(judgement.names),
                folds=self.folds,
                sample=self.sample,
                key=derive(work.key, "heads"),
            )
        work.report("labels", 1, 4)
        judged = Judged(checker=checker, outputs_of=judgement.outputs_of, members=judgement.members, heads=heads)
        how: How = self.method if self.share is None else "lowest"
        found = find(work.fleet, judged, how=how, score=self.score or checker.scores[0], share=self.share)
        return judgement, found if found.estimate.labelled else None

    def _facts(
        self,
        unlabelled: int,
        labelled: int,
        judgement: Judgement,
        found: Found | None,
        different: Conflicts,
    ) -> dict[str, Any]:
        """What the report shows."""
        notes = []
        if judgement.few:
            told = f"{self.fewest} items: {', '.join(list(judgement.few)[:10])}"
            notes.append(f"{sum(judgement.few.values()):,} items not judged, of classes with fewer than {told}")
        if judgement.foreign:
            told = ", ".join(list(judgement.foreign)[:10])
            notes.append(
                f"{sum(judgement.foreign.values()):,} items not judged, of classes without probabilities: {told}"
            )
        facts: dict[str, Any] = {
            "labelled": labelled,
            "unlabelled": unlabelled,
            "judged": 0 if found is None else found.estimate.labelled,
            "classes": len(judgement.names),
            "error_rate": None if found is None else found.estimate.error_rate,
            "copies_with_other_labels": len(different.ids),
            "notes": notes,
        }
        if found is None:
            few = "no class has" if self.several else "fewer than two classes have"
            why = f"{few} enough labels" if labelled else "no item that is left has a label"
            if labelled and self.probabilities is not None:
                why = f"no labelled item has one for its class in {self.probabilities}"
            notes.append(f"nothing was judged by probabilities: {why}")
            return facts
        estimate = found.estimate
        rates = np.divide(estimate.wrong, estimate.items, out=np.zeros(len(estimate.wrong)), where=estimate.items > 0)
        absent = "not {}".format
        named = [
            (
                judgement.names[i] if i >= 0 else absent(judgement.names[j]),
                judgement.names[j] if j >= 0 else absent(judgement.names[i]),
                round(count, 3),
            )
            for i, j, count in estimate.confused[:CONFUSED_TOLD]
        ]
        facts["error_rate_of"] = dict(zip(judgement.names, (round(float(rate), 6) for rate in rates), strict=True))
        facts["confused"] = [{"given": given, "true": true, "items": count} for given, true, count in named]
        return facts
