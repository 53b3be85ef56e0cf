"""Narrowing without geometry: everything, a uniform sample, the best by a score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from raysal.context import RoundContext
from raysal.errors import UnknownName
from raysal.fleet import Fleet
from raysal.narrowing.base import Narrowed, OneSweep
from raysal.scoring.inputs import instead, usable
from raysal.scoring.registry import SCORES
from raysal.scoring.sweep import Sweep, SweepRequest


@dataclass(frozen=True, kw_only=True)
class Everything(OneSweep):
    """No narrowing: the selector sees the whole pool."""

    def request(self, context: RoundContext) -> SweepRequest:
        del context
        return SweepRequest()

    def narrowed(self, fleet: Fleet, context: RoundContext, found: Sweep) -> Narrowed:
        del fleet, context
        return Narrowed(ids=None, rule=f"all {found.rows}")


@dataclass(frozen=True, kw_only=True)
class Uniform(OneSweep):
    """`size` items drawn uniformly, afresh each round: the control every narrower is compared with."""

    SIZE_FIELD: ClassVar[str] = "size"
    size: Annotated[int, Field(ge=1)] = 10_000

    def request(self, context: RoundContext) -> SweepRequest:
        del context
        return SweepRequest(sample=self.size)

    def narrowed(self, fleet: Fleet, context: RoundContext, found: Sweep) -> Narrowed:
        del fleet, context
        ids = found.sample[0][: self.size]
        return Narrowed(ids=ids, rule=f"uniform {len(ids)} of {found.rows}")


@dataclass(frozen=True, kw_only=True)
class TopScore(OneSweep):
    """The `size` items of highest `score`. Without a head nothing has a score, and everything is kept. A score
    that compares with the head of an earlier round leaves its place to another where there is none (`usable`)."""

    SIZE_FIELD: ClassVar[str] = "size"
    score: str = "margin"
    size: Annotated[int, Field(ge=1)] = 10_000

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise UnknownName("narrow.score", self.score, sorted(SCORES))

    def request(self, context: RoundContext) -> SweepRequest:
        return SweepRequest(scores=(usable(self.score, context.head, context.previous),), top=self.size)

    def narrowed(self, fleet: Fleet, context: RoundContext, found: Sweep) -> Narrowed:
        del fleet
        name = usable(self.score, context.head, context.previous)
        if name not in found.top:
            return Narrowed(ids=None, rule=f"all {found.rows} (no head yet)")
        ids = found.top[name][0][: self.size]
        return Narrowed(ids=ids, rule=f"top {len(ids)} of {found.rows} by {name}{instead(self.score, name)}")
