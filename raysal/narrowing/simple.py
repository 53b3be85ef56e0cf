"""Narrowing without geometry: the whole pool, a uniform sample, the best items by a score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from raysal.config import Count
from raysal.context import RoundContext
from raysal.errors import UnknownName
from raysal.fleet import Fleet
from raysal.narrowing.base import Candidates, OneSweep
from raysal.scoring.inputs import is_of_target, replacement_note, score_to_compute
from raysal.scoring.registry import SCORES
from raysal.scoring.sweep import Sweep, SweepRequest


@dataclass(frozen=True, kw_only=True)
class Everything(OneSweep):
    """No narrowing: the strategy sees the whole pool."""

    def request(self, context: RoundContext) -> SweepRequest:
        """Nothing but the sample that every sweep has."""
        del context
        return SweepRequest()

    def looks_at_head(self) -> bool:
        """Never."""
        return False

    def candidates(self, fleet: Fleet, context: RoundContext, found: Sweep) -> Candidates:
        """All that is available."""
        del fleet, context
        return Candidates(ids=None, rule=f"all {found.rows}")


@dataclass(frozen=True, kw_only=True)
class Uniform(OneSweep):
    """A uniform sample of `size` items, another one each round: the control that narrowers are compared with."""

    SIZE_FIELD: ClassVar[str] = "size"
    size: Count = 10_000

    def request(self, context: RoundContext) -> SweepRequest:
        """A sample."""
        del context
        return SweepRequest(sample=self.size)

    def looks_at_head(self) -> bool:
        """Never."""
        return False

    def candidates(self, fleet: Fleet, context: RoundContext, found: Sweep) -> Candidates:
        """The first `size` items of the sample, in its order."""
        del fleet, context
        ids = found.sample[0][: self.size]
        return Candidates(ids=ids, rule=f"uniform {len(ids)} of {found.rows}")


@dataclass(frozen=True, kw_only=True)
class TopScore(OneSweep):
    """The `size` items of highest `score`; equal ones by a hash.

    While there is no head nothing has a score, and the whole pool is kept. A score that compares with the head of an
    earlier round is replaced by another one while there is no such head (`score_to_compute`).
    """

    SIZE_FIELD: ClassVar[str] = "size"
    score: str = "margin"
    size: Count = 10_000

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise UnknownName("narrow.score", self.score, sorted(SCORES))

    def needs_target(self) -> bool:
        """With a score of the classes that are looked for."""
        return is_of_target(self.score)

    def request(self, context: RoundContext) -> SweepRequest:
        """The best items by the score."""
        return SweepRequest(scores=(score_to_compute(self.score, context.head, context.previous),), top=self.size)

    def candidates(self, fleet: Fleet, context: RoundContext, found: Sweep) -> Candidates:
        """The first `size` of them, in order of the score."""
        del fleet
        name = score_to_compute(self.score, context.head, context.previous)
        if name not in found.top:
            return Candidates(ids=None, rule=f"all {found.rows} (no head yet)")
        ids = found.top[name][0][: self.size]
        return Candidates(ids=ids, rule=f"top {len(ids)} of {found.rows} by {name}{replacement_note(self.score, name)}")
