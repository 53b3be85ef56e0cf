"""The table of a run for a terminal, and the sentence above it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from raysal.models.measures import MEASURES, shown
from raysal.report.metrics import Curve, Row, curve_of, in_stage_order, labels_saved, rows_of
from raysal.report.records import Arm, read_arm, read_control

ABSENT, BEHIND = "–", "behind"


def format_percent(share: float | None) -> str:
    """A share as `91.2 %`; a dash for None."""
    return ABSENT if share is None else f"{100 * share:.1f} %"


def format_measure(metric: str, value: float | None) -> str:
    """A value of a measure in its unit; a dash for None."""
    return ABSENT if value is None else shown(metric, value)


def format_with_name(metric: str, value: float) -> str:
    """A value with the name of its measure: `91.2 % accuracy`, `a root mean squared error of 0.42`."""
    words = MEASURES[metric].words
    return f"{shown(metric, value)} {words}" if MEASURES[metric].share else f"a {words} of {shown(metric, value)}"


def format_saved(row: Row) -> str:
    """The labels saved: `120`, or `−30` for a loss, or `behind` where the control was not reached, or a dash."""
    if row.control is None:
        return ABSENT
    return BEHIND if row.saved is None else f"{row.saved:,}".replace("-", "−")


def format_seconds(value: float | None) -> str:
    """Seconds without a unit, with about three digits; a dash for None."""
    if value is None:
        return ABSENT
    return f"{value:.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def run_table(run: Path, title: str | None = None) -> Table:
    """Lay out the table of a run that is there; see `rich_table`.

    Args:
        run: the run directory.
        title: written above it.

    Returns:
        The table, with the names of the strategies of both arms.

    Raises:
        RunError: no run is there.
        Damaged: a record is missing or was altered.
    """
    arm, control = read_arm(run), read_control(run)
    return rich_table(rows_of(arm, control), title, (arm.strategy, "" if control is None else control.strategy))


def rich_table(rows: Sequence[Row], title: str | None = None, arms: tuple[str, str] = ("", "")) -> Table:
    """Lay out the table of a run: labels, the main measure of both arms, labels saved, and seconds per stage.

    Args:
        rows: from `summary`.
        title: written above it.
        arms: names of the strategies of the run and of its control arm.

    Returns:
        A table with one line for each row. Columns that no row fills are left out.
    """
    stages = in_stage_order(stage for row in rows for stage in row.seconds)
    judged = any(row.value is not None for row in rows)
    compared = any(row.control is not None for row in rows)
    table = Table(
        title=title,
        header_style="bold",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.caption = "seconds per stage" if stages else None
    table.add_column("labels", justify="right")
    if judged:
        name = MEASURES[rows[-1].metric].words
        table.add_column(f"{name}, {arms[0]}" if arms[0] else name, justify="right", style="bold")
    if compared:
        table.add_column(f"{arms[1]} (control)" if arms[1] else "control", justify="right")
        table.add_column("saved", justify="right")
    for stage in stages:
        table.add_column(stage.split()[0], justify="right", style="dim")
    for row in rows:
        cells = [f"{row.labels:,}"]
        if judged:
            cells.append(format_measure(row.metric, row.value))
        if compared:
            cells += [format_measure(row.metric, row.control), format_saved(row)]
        table.add_row(*cells, *(format_seconds(row.seconds.get(stage)) for stage in stages))
    return table


def headline(run: Path) -> tuple[str, str]:
    """Put the result of a run into words.

    Args:
        run: the run directory.

    Returns:
        A sentence about the run, and one about its control arm, which may be empty.

    Raises:
        RunError: no run is there.
        Damaged: a record is missing or was altered.
    """
    return headline_of(read_arm(run), read_control(run))


def headline_of(arm: Arm, control: Arm | None) -> tuple[str, str]:
    """As `headline`, from records that were read before."""
    curve, name = curve_of(arm), arm.strategy
    if not arm.rounds:
        return "No round has been chosen yet", ""
    labels, rounds = arm.records[-1]["labels"], len(arm.rounds)
    if not len(curve):
        return f"{_count(labels, 'label')} in {_count(rounds, 'round')}, chosen by {name}", ""
    first = (
        f"{name} reached {format_with_name(curve.metric, curve.values[-1])} with {_count(curve.labels[-1], 'label')}"
    )
    other = Curve() if control is None else curve_of(control)
    if control is None or not len(other):
        return first, ""
    end = f"The control arm ({control.strategy}) ended at {shown(other.metric, other.values[-1])}"
    end += "" if other.labels[-1] == curve.labels[-1] else f" with {_count(other.labels[-1], 'label')}"
    gain = labels_saved(curve, other)
    if gain is None:
        return first, f"{end}, which {name} did not reach."
    if gain == 0:
        return first, f"{end}, which {name} reached with as many labels."
    word = "fewer" if gain > 0 else "more"
    return first, f"{end}, which {name} reached with {_count(abs(gain), 'label', word)}."


def _count(number: int, noun: str, word: str = "") -> str:
    return f"{number:,} {word + ' ' if word else ''}{noun}{'' if number == 1 else 's'}"
