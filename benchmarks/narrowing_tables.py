"""Records of `benchmarks.narrowing rare` to summaries and tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.efficiency_tables import mean_and_interval, paired

Record = Mapping[str, Any]
Interval = tuple[float, float | None]


def f1_auc(record: Record) -> float:
    """Area under minority F1 over labels, as a share of the whole: 1 = F1 of 1 from the first label on."""
    labels = record["labels"]
    return float(np.trapezoid(record["f1"], labels)) / float(labels[-1] - labels[0])


def summary(records: Sequence[Record]) -> list[dict[str, Any]]:
    """A row per (strategy, rule) of one scenario: means and 95 % intervals over seeds, differences seed by seed."""
    groups: dict[tuple[str, str], dict[int, Record]] = {}
    for record in records:
        own = record["settings"]
        groups.setdefault((own["strategy"], own["rule"]), {})[own["seed"]] = record
    rows = []
    for (strategy, rule), seeds in groups.items():
        full, uniform = (groups.get((strategy, name), {}) for name in ("none", "uniform"))

        def spread(value: Callable[[Record], float], seeds: Mapping[int, Record] = seeds) -> Interval:
            return mean_and_interval([value(record) for record in seeds.values()])

        def over(control: Mapping[int, Record], seeds: Mapping[int, Record] = seeds) -> float | None:
            both = sorted(control.keys() & seeds.keys())
            below = sum(f1_auc(control[seed]) for seed in both)
            return sum(f1_auc(seeds[seed]) for seed in both) / below if below else None

        rows.append(
            {
                "strategy": strategy,
                "rule": rule,
                "seeds": len(seeds),
                "found": spread(lambda record: record["found"][-1] - record["found"][0]),
                "f1_auc": spread(f1_auc),
                "f1_end": spread(lambda record: record["f1"][-1]),
                "over_uniform": paired(seeds, uniform, f1_auc),
                "over_full": paired(seeds, full, f1_auc),
                "times_uniform": over(uniform),
                "times_full": over(full),
                "scored": spread(lambda record: float(np.mean(record["scored"]))),
                "rare_scored": spread(lambda record: float(np.mean(record["rare_scored"]))),
                "narrow_cpu_s": float(np.median([s for r in seeds.values() for s in r["narrow_cpu_s"]])),
                "select_cpu_s": float(np.median([s for r in seeds.values() for s in r["select_cpu_s"]])),
            }
        )
    order = list(dict.fromkeys(row["strategy"] for row in rows))
    return sorted(rows, key=lambda row: (order.index(row["strategy"]), -row["f1_auc"][0]))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown. F1 and areas in percent."""
    head = (
        "strategy", "narrowing", "seeds", "rare found", "F1-AUC", "less uniform's", "less full's", "x uniform",
        "x full", "F1 at the end", "scored a round", "rare among them", "CPU s narrow", "select",
    )  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for row in rows:
        lines.append(
            [
                row["strategy"],
                row["rule"],
                str(row["seeds"]),
                spelled(row["found"], 1, 0),
                spelled(row["f1_auc"]),
                spelled(row["over_uniform"], sign="+"),
                spelled(row["over_full"], sign="+"),
                times(row["times_uniform"]),
                times(row["times_full"]),
                spelled(row["f1_end"]),
                f"{row['scored'][0]:,.0f}",
                f"{row['rare_scored'][0]:.0f}",
                f"{row['narrow_cpu_s']:.2f}",
                f"{row['select_cpu_s']:.2f}",
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spelled(value: Interval | None, scale: float = 100, digits: int = 1, sign: str = "") -> str:
    """`45.7 ± 3.2`"""
    if value is None:
        return ""
    mean, half = value
    text = f"{scale * mean:{sign}.{digits}f}"
    return text if half is None else f"{text} ± {scale * half:.{digits}f}"


def times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
