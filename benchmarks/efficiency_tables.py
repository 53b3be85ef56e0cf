"""Records of `label_efficiency` to summaries, tables and the plot."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.numerics import ceil_div
from raysal.report.figure import BLUE, INK, MUTED, PURPLE, VERMILION
from raysal.report.metrics import Curve

CONTROL = "random"
COLUMNS = 4
"""Panels beside one another."""
COLOURS = {"better": BLUE, "worse": VERMILION, "no difference shown": PURPLE, "": PURPLE}
LEGEND = {
    "better": "better than random at the end",
    "no difference shown": "no difference shown",
    "worse": "worse than random at the end",
    "": "one seed",
}
Record = Mapping[str, Any]
Row = dict[str, Any]


def mean_and_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and half the width of its 95 % interval by Student's t; None for a single value."""
    from scipy.stats import t  # type: ignore[import-untyped, unused-ignore]

    n = len(values)
    if n < 2:
        return float(np.mean(values)), None
    return float(np.mean(values)), float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n))


def by_strategy(records: Iterable[Record], experiment: str) -> dict[str, dict[int, Record]]:
    """{strategy: {seed: record}} of one experiment."""
    found: dict[str, dict[int, Record]] = defaultdict(dict)
    for record in records:
        settings = record["settings"]
        if settings["experiment"] == experiment:
            found[settings["strategy"]][settings["seed"]] = record
    return dict(found)


def paired(
    of: Mapping[int, Record], control: Mapping[int, Record], value: Callable[[Record], float]
) -> tuple[float, float | None] | None:
    """Mean and interval of `value` less the control's, over the seeds that both have; None without any, and for the
    control itself."""
    seeds = sorted(of.keys() & control.keys()) if of is not control else []
    return mean_and_interval([value(of[seed]) - value(control[seed]) for seed in seeds]) if seeds else None


def verdict(difference: tuple[float, float | None] | None) -> str:
    """What the interval of a difference to random says."""
    mean, half = (0.0, None) if difference is None else difference
    if half is None:
        return ""
    return "better" if mean > half else "worse" if mean < -half else "no difference shown"


def last(name: str) -> Callable[[Record], float]:
    return lambda record: float(record[name][-1])


def average(name: str) -> Callable[[Record], float]:
    return lambda record: float(np.mean(record[name]))


def summaries(records: Sequence[Record]) -> dict[str, list[Row]]:
    """For each experiment with records a row per strategy, best first."""
    makers = {"curve": _curve_rows, "minority": _minority_rows, "cold": _cold_rows}
    found = {name: make(groups) for name, make in makers.items() if (groups := by_strategy(records, name))}
    return {name: sorted(rows, key=lambda row: -row["order"]) for name, rows in found.items()}


def _row(name: str, seeds: Mapping[int, Record]) -> Row:
    cpu = [seconds for record in seeds.values() for seconds in record["cpu_seconds"]]
    return {"strategy": name, "seeds": len(seeds), "cpu_seconds": float(np.median(cpu)) if cpu else None}


def _spread(seeds: Mapping[int, Record], value: Callable[[Record], float]) -> tuple[float, float | None]:
    return mean_and_interval([value(record) for record in seeds.values()])


def _curve_rows(groups: Mapping[str, Mapping[int, Record]]) -> list[Row]:
    control = groups.get(CONTROL, {})
    goal = float(np.mean([last("accuracy")(record) for record in control.values()])) if control else None
    rows = []
    for name, seeds in groups.items():
        labels, accuracy = mean_curve(seeds)
        curve = Curve(labels=tuple(labels.tolist()), values=tuple(accuracy.tolist()))
        difference = paired(seeds, control, last("accuracy"))
        rows.append(
            {
                **_row(name, seeds),
                "order": accuracy[-1],
                "final": _spread(seeds, last("accuracy")),
                "final_over_random": difference,
                "verdict": verdict(difference),
                "mean": _spread(seeds, average("accuracy")),
                "mean_over_random": paired(seeds, control, average("accuracy")),
                "labels_to_random": None if goal is None else curve.first_reaching(goal),
                "curve": {"labels": labels.tolist(), "accuracy": accuracy.tolist()},
            }
        )
    return rows


def _minority_rows(groups: Mapping[str, Mapping[int, Record]]) -> list[Row]:
    control = groups.get(CONTROL, {})
    return [
        {
            **_row(name, seeds),
            "order": _spread(seeds, last("f1"))[0],
            "found": _spread(seeds, last("found")),
            "f1": _spread(seeds, last("f1")),
            "f1_over_random": (difference := paired(seeds, control, last("f1"))),
            "verdict": verdict(difference),
            "f1_mean": _spread(seeds, average("f1")),
            "accuracy": _spread(seeds, last("accuracy")),
        }
        for name, seeds in groups.items()
    ]


def _cold_rows(groups: Mapping[str, Mapping[int, Record]]) -> list[Row]:
    control = groups.get(CONTROL, {})
    rows = []
    for name, seeds in groups.items():
        counts = next(iter(seeds.values()))["labels"]
        row = {**_row(name, seeds), "labels": counts, "order": _spread(seeds, average("accuracy"))[0]}
        for place, count in enumerate(counts):
            accuracy = _at("accuracy", place)
            row[f"accuracy_{count}"] = _spread(seeds, accuracy)
            row[f"over_random_{count}"] = paired(seeds, control, accuracy)
            row[f"classes_{count}"] = _spread(seeds, _at("classes", place))[0]
        rows.append(row)
    return rows


def _at(name: str, place: int) -> Callable[[Record], float]:
    return lambda record: float(record[name][place])


def mean_curve(seeds: Mapping[int, Record]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(labels, mean accuracy over seeds)."""
    records = list(seeds.values())
    return np.array(records[0]["labels"]), np.mean([record["accuracy"] for record in records], axis=0)


def share(value: tuple[float, float | None] | None, sign: str = "") -> str:
    """`81.5 ± 0.4` in percent; `sign` as in a format, `+` for differences."""
    if value is None:
        return "–"
    mean, half = value
    text = f"{100 * mean:{sign}.1f}".replace("-", "−")
    return text if half is None else f"{text} ± {100 * half:.1f}"


def number(value: tuple[float, float | None]) -> str:
    mean, half = value
    return f"{mean:.0f}" if half is None else f"{mean:.0f} ± {half:.0f}"


def markdown(experiment: str, rows: Sequence[Row]) -> str:
    """A table. Shares are in percent."""
    makers = {"curve": _curve_cells, "minority": _minority_cells, "cold": _cold_cells}
    lines = [{"strategy": row["strategy"], **makers[experiment](row), "CPU s": _seconds(row)} for row in rows]
    head = list(lines[0])
    table = [head, ["---"] * len(head), *(list(line.values()) for line in lines)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def _curve_cells(row: Row) -> dict[str, str]:
    needed, end = row["labels_to_random"], row["curve"]["labels"][-1]
    return {
        f"at {end:,} labels": share(row["final"]),
        "over random": share(row["final_over_random"], "+"),
        "so it is": row["verdict"] or "–",
        "mean of the curve": share(row["mean"]),
        "its mean over random": share(row["mean_over_random"], "+"),
        "labels to random's end": "not reached" if needed is None else f"{needed:,.0f}",
    }


def _minority_cells(row: Row) -> dict[str, str]:
    return {
        "minority items labelled": number(row["found"]),
        "minority F1": share(row["f1"]),
        "over random": share(row["f1_over_random"], "+"),
        "so it is": row["verdict"] or "–",
        "F1, mean of the curve": share(row["f1_mean"]),
        "accuracy": share(row["accuracy"]),
    }


def _cold_cells(row: Row) -> dict[str, str]:
    cells = {}
    for count in row["labels"]:
        cells[f"{count} labels"] = share(row[f"accuracy_{count}"])
        cells[f"{count}: over random"] = share(row[f"over_random_{count}"], "+")
    cells[f"classes in {row['labels'][0]}"] = f"{row['classes_' + str(row['labels'][0])]:.1f}"
    return cells


def _seconds(row: Row) -> str:
    value = row["cpu_seconds"]
    return "–" if value is None else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def draw_curves(records: Sequence[Record]) -> tuple[float, float, Callable[[Any], None]]:
    """(width, height, what draws it): a panel per strategy, best first, each with random behind it."""
    groups = by_strategy(records, "curve")
    control = groups.pop(CONTROL)
    means = {name: mean_curve(seeds)[1] for name, seeds in groups.items()}
    names = sorted(groups, key=lambda name: -means[name][-1])
    lines = ceil_div(len(names), COLUMNS)

    def draw(figure: Any) -> None:
        from matplotlib.ticker import FuncFormatter

        panels = figure.subplots(lines, COLUMNS, sharex=True, sharey=True, squeeze=False)
        for place, axes in enumerate(panels.flat):
            if place >= len(names):
                axes.set_visible(False)
                continue
            seeds = groups[names[place]]
            difference = paired(seeds, control, last("accuracy"))
            said = verdict(difference)
            draw_line(axes, control, MUTED, CONTROL, linestyle=(0, (4, 2)))
            draw_line(axes, seeds, COLOURS[said], LEGEND[said])
            axes.set_title(names[place].replace(":", "\n", 1), color=INK, fontweight="bold")
            axes.text(
                0.97,
                0.06,
                f"{share((means[names[place]][-1], None))} %  ({share(difference, '+')})",
                transform=axes.transAxes,
                ha="right",
                color=COLOURS[said],
                fontweight="bold",
                fontsize=10,
            )
            axes.tick_params(labelbottom=place + COLUMNS >= len(names))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        labels, middle = mean_curve(control)
        ends = [*means.values(), middle]  # the first intervals are wide, and of no interest
        panels[0, 0].set_ylim(min(map(min, ends)) - 0.02, max(map(max, ends)) + 0.02)
        panels[0, 0].set_xlim(0, labels[-1])
        handles = {}
        for axes in panels.flat:
            handles.update({line.get_label(): line for line in axes.get_lines()})
        names_of = [name for name in (CONTROL, *LEGEND.values()) if name in handles]
        figure.legend([handles[name] for name in names_of], names_of, loc="outside upper left", ncols=len(names_of))
        figure.supxlabel("labels", color=MUTED, fontsize=11)
        figure.supylabel(f"accuracy on the test images, {len(control)} seeds", color=MUTED, fontsize=11)

    return 2.7 * COLUMNS, 0.9 + 1.9 * lines, draw


def draw_line(axes: Any, seeds: Mapping[int, Record], colour: str, name: str, **style: Any) -> None:
    """A mean curve and the band of its interval."""
    labels, mean = mean_curve(seeds)
    axes.plot(labels, mean, color=colour, linewidth=1.8, label=name, **style)
    columns = zip(*(record["accuracy"] for record in seeds.values()), strict=True)
    half = np.array([mean_and_interval(column)[1] or 0.0 for column in columns])
    axes.fill_between(labels, mean - half, mean + half, color=colour, alpha=0.18, linewidth=0)
