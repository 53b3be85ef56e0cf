"""Which dropped items a report of a curation shows, and beside which kept ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.curation.curated import Curated, StepDone
from raysal.prediction.sampling import thin_picks

GROUPS = 12
"""Groups shown of each of `KINDS`."""
KINDS = ("the largest groups", "dropped for the lowest values", "dropped for the highest values")
ALONE_KIND = "dropped"
MEMBERS = 7
"""Dropped items shown of a group."""
ALONE = 14
"""Dropped items shown for a reason, of those that were not dropped for another item."""
KEPT = 28
"""Kept items shown, and items of what a step listed."""
LISTED = ("given", "suggested")
"""Columns of a list that say what is shown below an item, where it has both."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A dropped item."""

    id: int
    value: float | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Group:
    """Dropped items, and what they were dropped for."""

    kind: str
    """why it is shown: one of `KINDS`, or `ALONE_KIND`"""
    kept: int | None
    """the item that they were dropped for; None where they were dropped by themselves"""
    later: str | None
    """which later step dropped that one; None where it is kept"""
    dropped: tuple[Member, ...]
    more: int
    """dropped items that are not shown"""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """An item that a step listed."""

    id: int
    short: str
    """what it says below the item"""
    facts: Mapping[str, Any]
    """all that the list says of it"""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What a report shows of the items."""

    groups: Sequence[Sequence[Group]]
    """for each step"""
    listed: Sequence[Sequence[Listed]]
    """for each step the first items that it listed"""
    kept: tuple[int, ...]
    """some of what is kept, drawn uniformly"""

    def ids(self) -> list[int]:
        """All items that are shown, ascending."""
        shown = {*self.kept, *(one.id for listed in self.listed for one in listed)}
        for group in (group for groups in self.groups for group in groups):
            shown |= {member.id for member in group.dropped} | ({group.kept} if group.kept is not None else set())
        return sorted(shown)


def examples_of(found: Curated) -> Examples:
    """Choose what a report shows: the same for the same result.

    Args:
        found: what became of the items.

    Returns:
        The examples.
    """
    groups = [[*_groups(found, step), *_alone(found, step)] for step in found.steps]
    kept = tuple(thin_picks(found.kept_ids, found.seed, KEPT).tolist())
    return Examples(groups=groups, listed=[tuple(_listed(step)) for step in found.steps], kept=kept)


def group_sizes(step: StepDone) -> dict[int, int]:
    """How many groups of each size a step found: a kept item and those that were dropped for it."""
    nearest = step.result.nearest[step.result.nearest >= 0]
    sizes, counts = np.unique(np.unique(nearest, return_counts=True)[1] + 1, return_counts=True)
    return dict(zip(sizes.tolist(), counts.tolist(), strict=True))


def _groups(found: Curated, step: StepDone) -> Iterable[Group]:
    """The largest groups, and those of the lowest and highest values."""
    result = step.result
    rows = np.flatnonzero(result.nearest >= 0)
    if not len(rows):
        return
    kept, start, counts = np.unique(result.nearest[rows], return_inverse=True, return_counts=True)
    order = np.argsort(result.value[rows], kind="stable")  # NaN comes last
    order = start[order[: int(np.isfinite(result.value[rows]).sum())]]
    wanted: dict[int, str] = {}
    differ = len(np.unique(result.value[rows])) > 1
    for kind, places in zip(KINDS, (np.argsort(-counts, kind="stable"), order, order[::-1]), strict=True):
        if kind != KINDS[0] and not differ:
            continue
        fresh = [place for place in dict.fromkeys(places[: 20 * GROUPS].tolist()) if place not in wanted]
        wanted |= dict.fromkeys(fresh[:GROUPS], kind)
    for place, kind in wanted.items():
        members = rows[start == place]
        shown = members[np.argsort(result.value[members], kind="stable")][:MEMBERS]
        yield Group(
            kind=kind,
            kept=int(kept[place]),
            later=_dropped_later(found, int(kept[place])),
            dropped=_members(step, shown),
            more=len(members) - len(shown),
        )


def _listed(step: StepDone) -> Iterable[Listed]:
    """The first items of what a step listed."""
    if step.result.listed is None:
        return
    for row in step.result.listed.slice(0, KEPT).to_pylist():
        facts = {name: value for name, value in row.items() if name != "id" and value is not None}
        said = [str(facts[name]) for name in LISTED if name in facts]
        words = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in facts.values()]
        yield Listed(id=int(row["id"]), short=" → ".join(said) if len(said) == 2 else " · ".join(words), facts=facts)


def _alone(found: Curated, step: StepDone) -> Iterable[Group]:
    """For each reason some of the items that were not dropped for another one, drawn uniformly."""
    result = step.result
    for number in range(len(result.reasons)):
        rows = np.flatnonzero((result.nearest < 0) & (result.reason == number))
        if len(rows):
            shown = np.searchsorted(result.ids, thin_picks(result.ids[rows], found.seed, ALONE))
            members = _members(step, shown)
            yield Group(kind=ALONE_KIND, kept=None, later=None, dropped=members, more=len(rows) - len(shown))


def _members(step: StepDone, rows: NDArray[Any]) -> tuple[Member, ...]:
    result = step.result
    return tuple(
        Member(
            id=int(result.ids[row]),
            value=float(result.value[row]) if np.isfinite(result.value[row]) else None,
            reason=result.reasons[result.reason[row]],
        )
        for row in rows
    )


def _dropped_later(found: Curated, id: int) -> str | None:
    at = int(found.dropped_by[np.searchsorted(found.ids, id)])
    return found.steps[at].label if at >= 0 else None
