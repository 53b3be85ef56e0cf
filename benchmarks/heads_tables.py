"""Lines of `benchmarks.heads` as tables of markdown."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.heads_cells import PENALTIES, STRENGTHS, UNIT_C

Line = Mapping[str, Any]
Values = NDArray[np.float64]
Cell = tuple[str, float, int, str]
"""(set, share of the class that is cut or 0, labels, class that is looked for)"""
Heads = dict[str, dict[int, Mapping[str, Any]]]
"""{head: {seed: numbers}} at one cell"""
ONE = STRENGTHS.index(1.0)
RIVALS = ("C = 1", "cv")


def tables(lines: Iterable[Line]) -> str:
    """All tables there are lines for."""
    lines = list(lines)
    parts: list[tuple[str, Callable[[dict[Cell, Heads]], str]]] = [
        ("prediction", prediction_tables),
        ("found", found_tables),
        ("time", time_table),
    ]
    found = ((grouped(lines, part), write) for part, write in parts)
    return "\n\n".join(write(cells) for cells, write in found if cells)


def grouped(lines: Iterable[Line], part: str) -> dict[Cell, Heads]:
    """The lines of a part by cell, head and seed."""
    found: dict[Cell, Heads] = defaultdict(lambda: defaultdict(dict))
    for line in lines:
        place = line["place"]
        if place["part"] == part and line["numbers"] is not None:
            cell = (place["data"], place["share"] or 0.0, place["labels"], place["rare"])
            found[cell][line["head"]][place["seed"]] = line["numbers"]
    return dict(found)


def markdown(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [" | ".join(row) for row in rows]
    head = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join([f"**{title}**", "", *head, *(f"| {line} |" for line in lines)])


def regime(share: float) -> str:
    return f"{100 * share:.2g} %" if share else "as it is"


def error(values: Values) -> float:
    """The standard error of a mean; NaN for one value."""
    return float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")


def signed(mean: float, spread: float, digits: int) -> str:
    return f"{mean:+.{digits}f} ± {spread:.{digits}f}"


def typical(values: Iterable[float]) -> float:
    """The geometric mean."""
    return float(np.exp(np.log(list(values)).mean()))


# -- prediction --------------------------------------------------------------------------------------------------------


class Judged:
    """One measure at one cell, for the seeds that all heads have."""

    def __init__(self, heads: Heads, measure: str) -> None:
        self.sign = 1 if measure == "accuracy" else -1
        self.seeds = sorted(set.intersection(*(set(heads[head]) for head in ("default", "C", "cv"))))
        strengths = np.array([heads["C"][seed][measure] for seed in self.seeds])
        self.of = {head: np.array([heads[head][s][measure] for s in self.seeds]) for head in ("default", "cv")}
        self.of["C = 1"] = strengths[:, ONE]
        self.of["best C"] = strengths[:, int((self.sign * strengths.mean(axis=0)).argmax())]
        before = [heads["before"][s][measure] for s in self.seeds if s in heads.get("before", {})]
        if len(before) == len(self.seeds):
            self.of["before"] = np.array(before)
        self.chosen = typical(heads["default"][seed]["chosen"] for seed in self.seeds)
        fixed = [heads["penalties"][s][measure] for s in self.seeds if s in heads.get("penalties", {})]
        self.best = PENALTIES[int((self.sign * np.mean(fixed, axis=0)).argmax())] if fixed else float("nan")
        self.least = float((self.sign * np.mean(fixed, axis=0)).max() * self.sign) if fixed else float("nan")

    def mean(self, head: str) -> float:
        return float(self.of[head].mean()) if head in self.of else float("nan")

    @property
    def rival(self) -> str:
        """The better of scikit-learn's two heads, by the mean over seeds."""
        return max(RIVALS, key=lambda head: self.sign * self.mean(head))

    @property
    def gain(self) -> Values:
        """How much better than the rival the default is, seed by seed."""
        return np.asarray(self.sign * (self.of["default"] - self.of[self.rival]))

    @property
    def no_worse(self) -> bool:
        return bool(self.gain.mean() >= 0) or bool(self.gain.mean() >= -2 * error(self.gain))


def prediction_tables(cells: dict[Cell, Heads]) -> str:
    whole = {cell: heads for cell, heads in cells.items() if {"default", "C", "cv"} <= heads.keys()}
    found = []
    shown = ("default", "before", *RIVALS, "best C")
    for measure, title in (("accuracy", "Accuracy, %"), ("nll", "Negative log likelihood, nats")):
        factor, digits = (100, 1) if measure == "accuracy" else (1, 3)
        judged = {cell: Judged(heads, measure) for cell, heads in whole.items()}
        judged = {cell: one for cell, one in judged.items() if one.seeds}
        rows = []
        for (name, share), group in by_regime(judged).items():
            spread = float(np.sqrt(np.mean([error(one.gain) ** 2 for one in group]) / len(group)))
            mean = float(np.mean([one.gain.mean() for one in group]))
            cellwise = [f"{factor * float(np.mean([one.mean(head) for one in group])):.{digits}f}" for head in shown]
            count = f"{sum(one.no_worse for one in group)} of {len(group)}"
            better = f"{sum(one.gain.mean() >= 0 for one in group)}"
            rows.append([name, regime(share), *cellwise, signed(factor * mean, factor * spread, digits), better, count])
        total = f"{sum(one.no_worse for one in judged.values())} of {len(judged)}"
        worse = sum(one.gain.mean() >= 0 for one in judged.values())
        counts = sorted({len(one.seeds) for one in judged.values()})
        seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
        summary = f"level or better in {worse} cells, no worse in {total}"
        columns = ["set", "rare class", *shown, "better than the better of two by", "better", "no worse"]
        found.append(
            markdown(
                f"{title}: means over label counts and {seeds} seeds; {summary}",
                columns,
                rows,
            )
        )
        if any(not one.no_worse for one in judged.values()):
            found.append(worse_cells(judged, measure, factor, digits))
    return "\n\n".join([*found, calibration_table(whole)])


def by_regime(judged: Mapping[Cell, Judged]) -> dict[tuple[str, float], list[Judged]]:
    """Cells of one set with the same cut, of all label counts."""
    found: dict[tuple[str, float], list[Judged]] = defaultdict(list)
    for cell, one in judged.items():
        found[cell[0], cell[1]].append(one)
    return dict(sorted(found.items(), key=lambda item: (item[0][0], item[0][1] or 2)))


def worse_cells(judged: Mapping[Cell, Judged], measure: str, factor: float, digits: int) -> str:
    rows = []
    for cell, one in sorted(judged.items(), key=lambda item: float(item[1].gain.mean())):
        if one.no_worse:
            continue
        values = [f"{factor * one.mean(head):.{digits}f}" for head in ("default", one.rival)]
        gain = signed(factor * float(one.gain.mean()), factor * error(one.gain), digits)
        best = f"{one.best:.2g} ({factor * one.least:.{digits}f})"
        rows.append([cell[0], regime(cell[1]), str(cell[2]), *values, one.rival, gain, f"{one.chosen:.2g}", best])
    columns = ["set", "rare class", "labels", "default", "rival", "which", "by", "penalty", "best penalty"]
    return markdown(f"Cells that are worse in {measure}", columns, rows)


def calibration_table(whole: dict[Cell, Heads]) -> str:
    rows = []
    shown = ("default", "before", *RIVALS)
    judged = {cell: Judged(heads, "ece") for cell, heads in whole.items()}
    for (name, share), group in by_regime(judged).items():
        values = [f"{100 * float(np.mean([one.mean(head) for one in group])):.1f}" for head in shown]
        rows.append([name, regime(share), *values])
    return markdown("Calibration error, %: means over label counts and seeds", ["set", "rare class", *shown], rows)


# -- items found -------------------------------------------------------------------------------------------------------


class Found:
    """Items found at one cell, a mean over the seeds that all heads have."""

    def __init__(self, heads: Heads) -> None:
        needed = [head for head in ("default", "C", UNIT_C) if head in heads]
        self.seeds = sorted(set.intersection(*(set(heads[head]) for head in needed)))
        self.default = np.array([heads["default"][seed]["found"] for seed in self.seeds], float)
        self.there = float(np.mean([heads["default"][seed]["there"] for seed in self.seeds]))
        before = [heads["before"][s]["found"] for s in self.seeds if s in heads.get("before", {})]
        self.before = np.array(before, float) if len(before) == len(self.seeds) else np.full(len(self.seeds), np.nan)
        self.strengths = {
            kind: np.array([heads[kind][seed]["found"] for seed in self.seeds], float)
            for kind in ("C", UNIT_C)
            if kind in heads
        }
        self.chosen = typical(l2 for seed in self.seeds for l2 in heads["default"][seed]["chosen"])
        self.fixed = {
            head.partition("l2=")[2]: float(np.mean([heads[head][s]["found"] for s in self.seeds]))
            for head in heads
            if "l2=" in head and set(self.seeds) <= set(heads[head])
        }


def found_tables(cells: dict[Cell, Heads]) -> str:
    judged = {cell: Found(heads) for cell, heads in cells.items() if {"default", "C"} <= heads.keys()}
    judged = {cell: one for cell, one in judged.items() if one.seeds}
    rows, groups = [], defaultdict(list)
    for cell, one in sorted(judged.items(), key=lambda item: (item[0][0], -item[0][1], item[0][3])):
        groups[cell[0], cell[1]].append(one)
        rows.append([cell[0], regime(cell[1]), cell[3], *found_row([one])])
    for (name, share), group in groups.items():
        rows.append([name, regime(share), "**all**", *found_row(group)])
    seeds = sorted({len(one.seeds) for one in judged.values()})
    columns = [
        "set", "share", "class", "there", "default", "before", "best C, as they are", "best C, unit",
        "ratio, as they are", "ratio, best of both", "ratio to before", "less best of both", "penalty", "best penalty",
    ]  # fmt: skip
    return markdown(f"Items found in {ROUNDS_TEXT}: means over {seeds} seeds", columns, rows)


ROUNDS_TEXT = "ten batches of 25, beside the 5 known"


def found_row(group: Sequence[Found]) -> list[str]:
    """Numbers of one class, or summed over classes; then C is one for all of them."""
    seeds = min(len(one.seeds) for one in group)
    default = sum((one.default[:seeds] for one in group), np.zeros(seeds))
    before = sum((one.before[:seeds] for one in group), np.zeros(seeds))
    kinds = {
        kind: sum((one.strengths[kind][:seeds] for one in group), np.zeros((seeds, len(STRENGTHS))))
        for kind in group[0].strengths
    }
    best = {kind: values[:, int(values.mean(axis=0).argmax())] for kind, values in kinds.items()}
    names = {kind: STRENGTHS[int(values.mean(axis=0).argmax())] for kind, values in kinds.items()}
    top = max(best.values(), key=lambda values: float(values.mean()))
    less = default - top
    fixed: dict[str, float] = defaultdict(float)
    for one in group:
        for name, value in one.fixed.items():
            fixed[name] += value
    strongest = max(fixed, key=lambda name: fixed[name]) if fixed else ""
    texts = [f"{best[kind].mean():.1f} ({names[kind]:g})" if kind in best else "" for kind in ("C", UNIT_C)]
    return [
        f"{sum(one.there for one in group):.0f}",
        f"{default.mean():.1f}",
        f"{before.mean():.1f}",
        *texts,
        f"{default.mean() / best['C'].mean():.2f}",
        f"{default.mean() / top.mean():.2f}",
        f"{default.mean() / before.mean():.2f}" if before.mean() > 0 else "",
        signed(float(less.mean()), error(less), 1),
        f"{typical(one.chosen for one in group):.2g}",
        f"{strongest} ({fixed[strongest]:.1f})" if fixed else "",
    ]


# -- time --------------------------------------------------------------------------------------------------------------


def time_table(cells: dict[Cell, Heads]) -> str:
    rows = []
    for cell, heads in cells.items():
        after, before = (
            statistics.median(numbers["seconds"] for numbers in heads[head].values()) if head in heads else float("nan")
            for head in ("default", "before")
        )
        rows.append([cell[0], str(cell[2]), f"{after:.3f}", f"{before:.3f}", f"{after / before:.2f}"])
    title = "CPU seconds of a fit, medians; the builds in turn"
    return markdown(title, ["set", "labels", "default", "before", "ratio"], rows)
