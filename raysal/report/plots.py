"""The plots of learning curves and of the seconds per stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raysal.models.measures import MEASURES, shown
from raysal.numerics import ceil_div
from raysal.report.figure import BLUE, GREEN, INK, MUTED, ORANGE, PALE, PURPLE, SKY, VERMILION, YELLOW, svg
from raysal.report.markup import Html
from raysal.report.metrics import STAGES, Curve, in_stage_order, labels_saved, record_seconds
from raysal.rounds.directory import Record

MAX_BARS = 40
"""Bars of stage times. In a longer run, neighbouring rounds share a bar."""

_STAGE_COLOURS = dict(zip(STAGES, (GREEN, BLUE, SKY, ORANGE, PALE, MUTED), strict=True))
_SPARE_COLOURS = (PURPLE, VERMILION, YELLOW)


def learning_curves(curve: Curve, control: Curve, name: str, control_name: str) -> Html:
    """Plot the main measure against labels, with the labels saved marked.

    Args:
        curve: of the run.
        control: of its control arm; may be empty.
        name: of the run's line.
        control_name: of the control arm's line.

    Returns:
        The figure.
    """
    return svg(
        "curve",
        "Learning curves",
        lambda figure: _curves(figure, curve, control, name, control_name),
        9.6,
        4.3,
    )


def _curves(figure: Any, curve: Curve, control: Curve, name: str, control_name: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes = figure.add_subplot()
    ends = []
    for line, label, style in (
        (control, control_name, {"color": MUTED, "linestyle": (0, (4, 2)), "marker": "s", "markersize": 4.5}),
        (curve, name, {"color": BLUE, "marker": "o", "markersize": 6}),
    ):
        if len(line):
            axes.plot(line.labels, line.values, linewidth=2, markeredgecolor="white", markeredgewidth=0.8, **style)
            end = f"{label}  {shown(line.metric, line.values[-1])}"
            ends.append((line.values[-1], line.labels[-1], end, style["color"]))
    measure, every = MEASURES[curve.metric], [*curve.values, *control.values]
    span = max(max(every) - min(every), 0.02 * (1.0 if measure.share else abs(max(every, key=abs)) or 1.0))
    low, high = (0.08, 0.12) if measure.higher else (0.12, 0.08)
    axes.set_ylim(min(every) - low * span, min(max(every) + high * span, 1.02 if measure.share else float("inf")))
    _end_labels(axes, sorted(ends), gap=0.07)
    _saved_bracket(axes, curve, control)
    axes.set_xlabel("labels")
    axes.set_ylabel(f"{measure.words} on held-out items")
    if measure.share:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g} %"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="x", visible=False)
    axes.set_xlim(left=0)


def _end_labels(axes: Any, ends: Sequence[tuple[float, int, str, Any]], gap: float) -> None:
    """Write the name of each line at its end. Two names that would touch are moved apart."""
    low, high = axes.get_ylim()
    place = [(value - low) / (high - low) for value, *_ in ends]
    if len(place) == 2 and place[1] - place[0] < gap:
        middle = min(max(sum(place) / 2, gap / 2), 1 - gap / 2)
        place = [middle - gap / 2, middle + gap / 2]
    for at, (_, labels, text, colour) in zip(place, ends, strict=True):
        axes.annotate(
            text,
            (labels, at),
            xycoords=axes.get_xaxis_transform(),
            xytext=(10, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontweight="bold",
            annotation_clip=False,
        )


def _saved_bracket(axes: Any, curve: Curve, control: Curve) -> None:
    """Mark the labels saved by an arrow between the two ends."""
    saved = labels_saved(curve, control)
    if not saved or saved < 0:
        return
    reached, end = control.values[-1], control.labels[-1]
    start = end - saved
    low, high = axes.get_ylim()
    # Below the ends of rising curves there is room; where curves fall, it is above.
    shelf, above = (low + 0.08 * (high - low), 9) if curve.higher else (high - 0.08 * (high - low), -9)
    thin = {"color": VERMILION, "linewidth": 1, "zorder": 1}
    axes.plot([start, start, end], [shelf, reached, reached], linestyle=(0, (1, 2)), **thin)
    axes.plot([end, end], [shelf, reached], linestyle=(0, (1, 2)), **thin)
    arrow = {"arrowstyle": "<->", "color": VERMILION, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (end, shelf), (start, shelf), arrowprops=arrow)
    axes.annotate(
        f"{saved:,} labels saved",
        ((start + end) / 2, shelf),
        xytext=(0, above),
        textcoords="offset points",
        ha="center",
        va="center",
        color=VERMILION,
        fontweight="bold",
        gid="halo",
    )


def stage_times(records: Sequence[Record]) -> Html:
    """Plot the seconds of each round by stage, one stacked bar for each round; the close of the run is the last bar."""
    bars = _bars(records)
    height = 0.9 + 0.27 * len(bars)
    return svg("stages", "Seconds per stage of each round", lambda figure: _stages(figure, bars), 9.6, height)


def _bars(records: Sequence[Record]) -> list[tuple[str, dict[str, float]]]:
    """(name, seconds by stage) of each bar; neighbouring rounds are summed where there are too many."""
    width = ceil_div(len(records), MAX_BARS)
    bars = []
    for start in range(0, len(records), width):
        group = records[start : start + width]
        names = [f"{r['round']}" if "strategy" in r else "close" for r in group]
        sums: dict[str, float] = {}
        for record in group:
            for stage, value in record_seconds(record).items():
                sums[stage] = sums.get(stage, 0.0) + value
        bars.append((names[0] if len(names) == 1 else f"{names[0]}–{names[-1]}", sums))
    return bars


def _stages(figure: Any, bars: Sequence[tuple[str, dict[str, float]]]) -> None:
    axes = figure.add_subplot()
    stages = in_stage_order(stage for _, seconds in bars for stage in seconds)
    spare = iter(_SPARE_COLOURS * (1 + len(stages)))
    left = [0.0] * len(bars)
    for stage in stages:
        widths = [seconds.get(stage, 0.0) for _, seconds in bars]
        colour = _STAGE_COLOURS.get(stage) or next(spare)
        axes.barh(range(len(bars)), widths, left=left, height=0.72, color=colour, label=stage, linewidth=0)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    longest = max(left, default=0.0) or 1.0
    for row, total in enumerate(left):
        axes.text(total + longest * 0.008, row, f"{total:.2f}", va="center", fontsize=9.5, color=INK)
    axes.set_yticks(range(len(bars)), [name for name, _ in bars])
    axes.set_ylabel("round")
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.set_xlim(0, longest * 1.06)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside upper left", ncols=len(stages), handlelength=1, handleheight=1, columnspacing=1.6)
