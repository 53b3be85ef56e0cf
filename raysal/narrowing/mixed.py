"""A budget shared over several rules, which look at the pool in one sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, ValidationInfo

from raysal.config import Choice, Named, Origin, choice
from raysal.context import Memory, RoundContext
from raysal.errors import ConfigError
from raysal.fleet import Fleet
from raysal.narrowing.anchoral import AnchorAL
from raysal.narrowing.anchors import Count
from raysal.narrowing.base import Narrowed, OneSweep
from raysal.narrowing.simple import TopScore, Uniform
from raysal.scoring.sweep import Sweep, SweepRequest

SIZES = ("size", "subpool")
"""What rules call the number of items they give; a part that does not set its own gives as many as are mixed."""


SIZE = 10_000


@dataclass(frozen=True, kw_only=True)
class Part(Named[OneSweep]):
    """A rule, the name that it was asked for by, and its share of the budget."""

    share: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0


def default_parts(size: int) -> tuple[Part, ...]:
    """The parts of a mixture of this size for which none are given."""
    return (
        Part(name="anchoral", part=AnchorAL(subpool=size), share=0.5),
        Part(name="top_score", part=TopScore(size=size), share=0.25),
        Part(name="uniform", part=Uniform(size=size), share=0.25),
    )


def build_parts(given: Any, info: ValidationInfo) -> Any:
    """The `parts` of a config, each with its rule built: `{name = "anchoral", share = 0.5, anchors = 20}`. A rule
    without a size of its own takes that of the mixture.

    Raises:
        UnknownName, ConfigError: there are none; or one, or a field of it, does not exist; or it needs more than the
            round's sweep.
    """
    if not isinstance(given, list | tuple):
        return given  # what is wrong with it is said by the type of the field
    place, registry = Origin.of_field(info)
    if not given:
        raise ConfigError(place, "there are none", 'for example [{name = "anchoral"}]')
    size = info.data.get("size", SIZE)  # it is not there where it is wrong, which is an error already
    return tuple(build_part(choice(one, f"{place}.{n}"), f"{place}.{n}", registry, size) for n, one in enumerate(given))


def build_part(asked: Choice, place: str, registry: Mapping[str, type[Any]], size: int) -> dict[str, Any]:
    """The fields of a `Part`; its share is yet to be checked.

    Raises:
        UnknownName, ConfigError: as `build_parts`.
    """
    rules = {name: cls for name, cls in registry.items() if issubclass(cls, OneSweep)}
    head = asked.name.partition(":")[0]
    if head in registry and head not in rules:
        problem = f"{asked.name!r} needs more than the round's one sweep, and cannot be a part"
        raise ConfigError(place, problem, f"use one of: {', '.join(sorted(rules))}")
    own = dict(asked.model_extra or {})
    share = {"share": own.pop("share")} if "share" in own else {}
    if head in rules and (field := rules[head].SIZE_FIELD) is not None:
        own.setdefault(field, size)
    return {"name": asked.name, "part": choice({"name": asked.name, **own}, place).build(place, rules), **share}


@dataclass(frozen=True, kw_only=True)
class Mixed(OneSweep):
    """`size` candidates from several rules at once: neighbours of what is known find more of it, a score finds what the
    head is unsure of, and a uniform sample what neither would.

    `parts` are rules with their fields and a `share` each (default 1); shares are taken in proportion. In order, each
    part gives its best floor(share * size) items that no earlier part gave. What parts do not fill is uniform, so that
    exactly min(size, available) come out; a part that narrows nothing, as `anchoral` before any label, counts as
    uniform. With no more than `size` available nothing is narrowed.

    Parts are rules that need the round's sweep and no more, and all share one: the pool is read once. At most one of
    them may accumulate over the rounds (`seals`). A part's own `size` or `subpool` is that of the mixture unless it is
    given. Use in place of `anchoral` alone where the labels do not show every kind of what is looked for yet.
    """

    SIZE_FIELD: ClassVar[str] = "size"
    size: Count = SIZE
    parts: Annotated[tuple[Part, ...], BeforeValidator(build_parts)] = ()

    def __post_init__(self) -> None:
        if not self.parts:
            object.__setattr__(self, "parts", default_parts(self.size))
        if sum(rule.accumulates() for rule in self.rules()) > 1:
            raise ConfigError("narrow.parts", "two of them accumulate over the rounds", "keep one")

    def rules(self) -> list[OneSweep]:
        """The rules of the parts."""
        return [part.part for part in self.parts]

    def accumulates(self) -> bool:
        return any(rule.accumulates() for rule in self.rules())

    def quotas(self) -> list[int]:
        """floor(share * size) of each part. Shares are taken as the decimals they are written as."""
        shares = [Fraction(str(part.share)) for part in self.parts]
        return [math.floor(share * self.size / sum(shares)) for share in shares]

    def wants_index(self) -> bool:
        return any(rule.wants_index() for rule in self.rules())

    def request(self, context: RoundContext) -> SweepRequest:
        if context.available <= self.size:
            return SweepRequest()
        return together([rule.request(context) for rule in self.rules()], self.size)

    def narrowed(self, fleet: Fleet, context: RoundContext, found: Sweep) -> Narrowed:
        if context.available <= self.size:
            return Narrowed(ids=None, rule=f"all {found.rows}", memory=context.memory)
        given = [
            rule.narrowed(fleet, context, own)
            for rule, own in zip(self.rules(), self.views(context, found), strict=True)
        ]
        taken: NDArray[np.int64] = np.empty(0, np.int64)
        texts = []
        for part, own, quota in zip(self.parts, given, self.quotas(), strict=True):
            if own.ids is None:
                texts.append(f"0 by {part.name} ({own.rule})")
                continue
            best = own.ids[~np.isin(own.ids, taken)][:quota]
            taken = np.concatenate([taken, best])
            texts.append(f"{len(best)} by {part.name} ({own.rule})")
        sample = found.sample[0]
        spare = sample[~np.isin(sample, taken)][: self.size - len(taken)]
        if len(spare):
            texts.append(f"{len(spare)} uniform for what they left")
        ids = np.concatenate([taken, spare])
        memories: list[Memory] = [own.memory for own in given if own.memory is not None]
        return Narrowed(
            ids=ids,
            rule=f"mixed {len(ids)} of {found.rows}: {', '.join(texts)}",
            memory=next(iter(memories), None),
        )

    def views(self, context: RoundContext, found: Sweep) -> list[Sweep]:
        """The sweep as each part would have it, with its own searches alone."""
        counts = [len(rule.request(context).searches) for rule in self.rules()]
        stops = list(accumulate(counts))
        return [
            replace(found, searches=found.searches[stop - count : stop])
            for count, stop in zip(counts, stops, strict=True)
        ]


def together(requests: list[SweepRequest], sample: int) -> SweepRequest:
    """One request that finds what each of these asks for, and a sample of at least this size."""
    merged: dict[str, Any] = {
        "scores": tuple(sorted({score for request in requests for score in request.scores})),
        "top": max(request.top for request in requests),
        "searches": tuple(search for request in requests for search in request.searches),
        "sample": max(sample, *(request.sample for request in requests)),
    }
    return SweepRequest(**merged)
