"""The section of a report about the classes that are looked for: what was found, what is left, how they are ranked."""

from __future__ import annotations

from raysal.errors import UserError
from raysal.models.measures import MEASURES, shown
from raysal.report.markup import Html, tag
from raysal.report.records import Arm
from raysal.report.table import ABSENT, format_percent
from raysal.rounds.status import read_status
from raysal.types import Found, Status


def target_section(arm: Arm) -> tuple[str, Html] | None:
    """What a run found, and how its newest head ranks what it looks for.

    Args:
        arm: the run's records.

    Returns:
        A few words, and a table of measures with intervals; None where the run looks for no class.
    """
    try:
        status = read_status(arm.path)
    except UserError:  # the pool is gone, and there are no labels yet
        return None
    if (search := status.search) is None:
        return None
    rows = [*_counts(search), *_measures(status)]
    heads = [tag("th", name, class_="left" if not place else None) for place, name in enumerate(("", "", "95 %"))]
    lines = [
        tag("tr", [tag("td", name, class_="left"), tag("td", value, class_="strong"), tag("td", interval)])
        for name, value, interval in rows
    ]
    table = tag("div", tag("table", [tag("thead", tag("tr", heads)), tag("tbody", lines)]), class_="scroll")
    words = f"{', '.join(search.target)}: {search.found:,} found in {search.labels:,} labels"
    words += f", nothing new in the last {search.since_find:,}. " if search.labels else ". "
    words += "".join(f"{hint[0].upper()}{hint[1:]}. " for hint in search.hints)
    return words.strip(), table


def _counts(search: Found) -> list[tuple[str, str, str]]:
    """What was found and what is left: name, value, interval."""
    rows = [("found per label", format_percent(search.precision), "")]
    if search.drawn:
        rows.append(("test draws", f"{search.drawn:,}, {search.answered:,} answered", ""))
    rows.append(("prevalence", format_percent(search.prevalence), _shares(search.prevalence_interval)))
    if search.left is not None and search.left_interval is not None:
        low, high = search.left_interval
        rows.append(("left to find", f"{search.left:,.0f}", f"{low:,.0f} to {high:,.0f}"))
    return rows


def _measures(status: Status) -> list[tuple[str, str, str]]:
    """The measures of the newest head that have an interval: name, value, interval."""
    return [
        (MEASURES[name].words, shown(name, value), " to ".join(shown(name, end) for end in status.intervals[name]))
        for name, value in status.measures.items()
        if name in status.intervals and name != "prevalence"
    ]


def _shares(interval: tuple[float, float] | None) -> str:
    """An interval in percent; a dash for None."""
    return ABSENT if interval is None else " to ".join(format_percent(end) for end in interval)
