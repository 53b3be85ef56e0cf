"""Several narrowers share one sweep and one budget of candidates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, ValidationInfo

from raysal.config import Choice, Count, Named, Origin, choice
from raysal.context import RoundContext
from raysal.errors import ConfigError
from raysal.fleet import Fleet
from raysal.narrowing.anchoral import AnchorAL
from raysal.narrowing.base import Candidates, OneSweep
from raysal.narrowing.simple import TopScore, Uniform
from raysal.scoring.sweep import Sweep, SweepRequest

DEFAULT_SIZE = 10_000
"""Candidates of a mixture that does not say how many."""


@dataclass(frozen=True, kw_only=True)
class Part(Named[OneSweep]):
    """A narrower of the mixture, the name that it was asked for by, and its share of the budget."""

    share: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0


def default_parts(size: int) -> tuple[Part, ...]:
    """The parts of a mixture of this size for which none are given."""
    return (
        Part(name="anchoral", part=AnchorAL(subpool=size), share=0.5),
        Part(name="top_score", part=TopScore(size=size), share=0.25),
        Part(name="uniform", part=Uniform(size=size), share=0.25),
    )


def build_parts(given: Any, info: ValidationInfo) -> Any:
    """The `parts` of a config, each with its narrower built: `{name = "anchoral", share = 0.5, anchors = 20}`.

    Args:
        given: names, or mappings with `name`, the fields of the narrower and a `share`.
        info: where they stand in the config, and the mixture's fields before them.

    Returns:
        A tuple with the fields of each `Part`, whose shares are checked later. What is no list is returned as it is,
        and refused by the type of the field.

    Raises:
        ConfigError: there are none; a field of one does not exist; or one needs more than the round's sweep.
        UnknownName: one of them does not exist.
    """
    if not isinstance(given, list | tuple):
        return given
    place, registry = Origin.of_field(info)
    if not given:
        raise ConfigError(place, "there are none", 'for example [{name = "anchoral"}]')
    size = info.data.get("size", DEFAULT_SIZE)  # it is missing where it is wrong, which is refused anyway
    return tuple(build_part(choice(one, f"{place}.{n}"), f"{place}.{n}", registry, size) for n, one in enumerate(given))


def build_part(asked: Choice, place: str, registry: Mapping[str, type[Any]], size: int) -> dict[str, Any]:
    """The fields of one `Part`. A narrower without a size of its own takes that of the mixture."""
    able = {name: cls for name, cls in registry.items() if issubclass(cls, OneSweep)}
    head = asked.name.partition(":")[0]
    if head in registry and head not in able:
        problem = f"{asked.name!r} needs more than the round's one sweep, and cannot be a part"
        raise ConfigError(place, problem, f"use one of: {', '.join(sorted(able))}")
    own = dict(asked.model_extra or {})
    share = {"share": own.pop("share")} if "share" in own else {}
    if head in able and (field := able[head].SIZE_FIELD) is not None:
        own.setdefault(field, size)
    return {"name": asked.name, "part": choice({"name": asked.name, **own}, place).build(place, able), **share}


@dataclass(frozen=True, kw_only=True)
class Mixed(OneSweep):
    """`size` candidates from several narrowers at once.

    Neighbours of what is known find more of it, a score finds what the head is unsure of, and a uniform sample finds
    what neither would.

    `parts` are narrowers with their fields, and a `share` each (default 1); shares are taken in proportion. In order,
    each part gives its best floor(share * size) items that no earlier part gave. A uniform sample fills up what the
    parts leave, so that exactly min(size, available) candidates come out. A part that keeps the whole pool, as
    `anchoral` before any label, gives nothing. Where no more than `size` items are available the whole pool is kept.

    A part needs the round's sweep and no more, and all parts share one: the pool is read once. At most one of them may
    have a memory from round to round (`seals`). The `size` or `subpool` of a part is the mixture's size unless it is
    given. In Python, `()` stands for the default parts.

    Use it in place of `anchoral` alone while the labels do not yet show every kind of what is looked for.
    """

    SIZE_FIELD: ClassVar[str] = "size"
    size: Count = DEFAULT_SIZE
    parts: Annotated[tuple[Part, ...], BeforeValidator(build_parts)] = ()

    def __post_init__(self) -> None:
        if not self.parts:
            object.__setattr__(self, "parts", default_parts(self.size))
        if sum(one.accumulates() for one in self.narrowers()) > 1:
            raise ConfigError("narrow.parts", "two of them accumulate over the rounds", "keep one")

    def narrowers(self) -> list[OneSweep]:
        """The narrowers of the parts."""
        return [part.part for part in self.parts]

    def quotas(self) -> list[int]:
        """floor(share * size) of each part. Shares are taken as the decimals they are written as."""
        shares = [Fraction(str(part.share)) for part in self.parts]
        return [math.floor(share * self.size / sum(shares)) for share in shares]

    def wants_index(self) -> bool:
        """Whether a part does."""
        return any(one.wants_index() for one in self.narrowers())

    def needs_target(self) -> bool:
        """Whether a part does."""
        return any(one.needs_target() for one in self.narrowers())

    def accumulates(self) -> bool:
        """Whether a part does."""
        return any(one.accumulates() for one in self.narrowers())

    def request(self, context: RoundContext) -> SweepRequest:
        """All that the parts ask for; nothing where the whole pool is kept."""
        if context.available <= self.size:
            return SweepRequest()
        return merged_request([one.request(context) for one in self.narrowers()], self.size)

    def candidates(self, fleet: Fleet, context: RoundContext, found: Sweep) -> Candidates:
        """What each part gives by its quota, in the order of the parts, then a uniform sample."""
        if context.available <= self.size:
            return Candidates(ids=None, rule=f"all {found.rows}", memory=context.memory)
        offers = [
            one.candidates(fleet, context, own)
            for one, own in zip(self.narrowers(), self.sweep_of_each(context, found), strict=True)
        ]
        taken: NDArray[np.int64] = np.empty(0, np.int64)
        texts = []
        for part, offer, quota in zip(self.parts, offers, self.quotas(), strict=True):
            if offer.ids is None:
                texts.append(f"0 by {part.name} ({offer.rule})")
                continue
            best = offer.ids[~np.isin(offer.ids, taken)][:quota]
            taken = np.concatenate([taken, best])
            texts.append(f"{len(best)} by {part.name} ({offer.rule})")
        sample = found.sample[0]
        filling = sample[~np.isin(sample, taken)][: self.size - len(taken)]
        if len(filling):
            texts.append(f"{len(filling)} uniform for what they left")
        ids = np.concatenate([taken, filling])
        return Candidates(
            ids=ids,
            rule=f"mixed {len(ids)} of {found.rows}: {', '.join(texts)}",
            memory=next((offer.memory for offer in offers if offer.memory is not None), None),
        )

    def sweep_of_each(self, context: RoundContext, found: Sweep) -> list[Sweep]:
        """What the sweep found, for each part with the searches of that part alone."""
        counts = [len(one.request(context).searches) for one in self.narrowers()]
        stops = list(accumulate(counts))
        return [
            replace(found, searches=found.searches[stop - count : stop])
            for count, stop in zip(counts, stops, strict=True)
        ]


def merged_request(requests: Sequence[SweepRequest], sample: int) -> SweepRequest:
    """One request for all that these ask for, and for a sample of at least this size."""
    return SweepRequest(
        scores=tuple(sorted({score for request in requests for score in request.scores})),
        top=max(request.top for request in requests),
        searches=tuple(search for request in requests for search in request.searches),
        sample=max(sample, *(request.sample for request in requests)),
    )
