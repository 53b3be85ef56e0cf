"""Tables of `benchmarks.search`, each number with its standard error over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raysal.models.ranking_measures import TOP_SHARE

Cells = Mapping[tuple[str, str], Mapping[int, Mapping[str, Any]]]
"""Records by task and rule, and then by seed."""
MODEL_MEASURES = ("auroc", "auprc", "precision_in_top", "recall_in_top", "attained_in_top")


def table_of_finds(cells: Cells, rules: Sequence[str], single: Sequence[str]) -> str:
    """Found, F1 and log loss of each rule on each task, and `search` beside the best single rule and margin.

    What is found is over that of the single rule that found most on average. Both comparisons are over the seeds that
    both rules have.
    """
    rules = [rule for rule in rules if any(rule == own for _, own in cells)]
    lines = [f"| task | seeds | {' | '.join(rules)} | search / best | F1 - margin's |", "|" + "---|" * (len(rules) + 4)]
    for task in dict.fromkeys(task for task, _ in cells):
        of = {rule: own for rule in rules if (own := cells.get((task, rule)))}
        found = {rule: {seed: float(sum(one["found"])) for seed, one in own.items()} for rule, own in of.items()}
        each = [
            f"{with_error(list(found[rule].values()), 1)} · {of_records(of[rule], 'f1', 2)}"
            f" · {of_records(of[rule], 'log_loss', 4)}"
            if rule in of
            else "–"
            for rule in rules
        ]
        best = max(
            (rule for rule in single if rule in of), key=lambda rule: mean(list(found[rule].values())), default=""
        )
        ratio = gain = "–"
        if "search" in of and best and any(found[best].values()):
            both = sorted(found["search"].keys() & found[best].keys())
            theirs = mean([found[best][seed] for seed in both])
            ratio = with_error(
                [1 + (found["search"][seed] - found[best][seed]) / max(theirs, 1e-12) for seed in both], 2
            )
        if "search" in of and "margin" in of:
            both = sorted(of["search"].keys() & of["margin"].keys())
            gain = with_error([of["search"][seed]["f1"] - of["margin"][seed]["f1"] for seed in both], 2, "+")
        seeds = "/".join(str(len(of[rule])) if rule in of else "0" for rule in rules)
        lines.append(f"| {task} | {seeds} | {' | '.join(each)} | {ratio} | {gain} |")
    return "\n".join(lines)


def table_of_models(cells: Cells) -> str:
    """How each model of a short search ranks what is left: means over the tasks of a prevalence.

    Seeds that have every task count; the standard errors are over these. Then the lowest and highest AUPRC of a task.
    """
    names = ["tasks", "rule", "seeds", "labels", "found", "finds per label", "AUROC", "AUPRC"]
    names += ["precision, recall in top 1 %", "of the possible", "AUPRC of tasks"]
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    kinds = dict.fromkeys((kind_of(task), rule) for task, rule in cells)
    for kind, rule in kinds:
        own = {task: of for (task, its), of in cells.items() if its == rule and kind_of(task) == kind}
        seeds = sorted(set.intersection(*[set(of) for of in own.values()]))
        if not seeds:
            continue
        for place, first in enumerate(next(iter(own.values()))[seeds[0]]["models"]):
            asked = first["labels"] - next(iter(own.values()))[seeds[0]]["models"][0]["labels"]
            found = [mean([float(sum(of[seed]["found"][:place])) for of in own.values()]) for seed in seeds]
            of_label = with_error([one / asked for one in found], 2) if asked else "–"
            by_task = {
                name: np.array([[measured(of[seed], place, name) for of in own.values()] for seed in seeds])
                for name in MODEL_MEASURES
            }
            auroc, auprc, precision, recall, attained = (
                with_error(by_task[name].mean(1).tolist(), 3) for name in MODEL_MEASURES
            )
            ends = by_task["auprc"].mean(0)
            shown = [
                f"{len(own)} of {kind}",
                rule,
                f"{len(seeds)}",
                f"{first['labels']}",
                with_error(found, 1),
                of_label,
            ]
            shown += [auroc, auprc, f"{precision}, {recall}", attained, f"{ends.min():.2f} to {ends.max():.2f}"]
            lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def kind_of(task: str) -> str:
    """The data and the prevalence of a task, without its class."""
    words = task.split()
    return f"{words[0]} {words[-1]}"


def measured(record: Mapping[str, Any], place: int, name: str) -> float:
    """A number of one model of a record."""
    model = record["models"][place]
    if name != "recall_in_top":
        return float(model[name])
    first = round(TOP_SHARE * (record["items"] - model["labels"]))
    return float(model["precision_in_top"] * first / max(model["left"], 1))


def of_records(own: Mapping[int, Mapping[str, Any]], name: str, digits: int) -> str:
    return with_error([float(one[name]) for one in own.values()], digits)


def with_error(values: Sequence[float], digits: int, sign: str = "") -> str:
    """A mean and its standard error."""
    text = f"{mean(values):{sign}.{digits}f}"
    if len(values) < 2:
        return text
    return f"{text} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.{digits}f}"


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
