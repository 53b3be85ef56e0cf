"""How a head does on held-out items: chosen by hash, never offered, never seen by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.features import HiddenLayer
from raysal.fleet import Fleet, Partition
from raysal.models.calibration import expected_calibration_error
from raysal.models.head import Head
from raysal.models.likelihood import Link, responses
from raysal.models.targets import names_in, number_in
from raysal.numerics import BLOCK_ROWS, one_thread
from raysal.rng import item_uniform
from raysal.scoring.inputs import ProductReader, ScoreInputs, score_inputs

MOST = 10_000
"""Held-out items judged at most, those of lowest hash: accuracy is then right to half a percent, at any pool
size."""
LEAST = 1e-12
"""What a true answer's probability counts as at least: the likelihood of a class the head does not know is finite."""


class Measure(NamedTuple):
    """How to show a number of an evaluation."""

    words: str
    higher: bool
    """whether higher is better"""
    share: bool
    """whether it is a share, shown in percent"""


MEASURES = {
    "accuracy": Measure("accuracy", True, True),
    "exact_match": Measure("exact match", True, True),
    "expected_calibration_error": Measure("calibration error", False, True),
    "label_accuracy": Measure("label accuracy", True, True),
    "macro_f1": Measure("macro F1", True, True),
    "micro_f1": Measure("micro F1", True, True),
    "negative_log_likelihood": Measure("negative log-likelihood", False, False),
    "r2": Measure("R²", True, False),
    "rmse": Measure("root mean squared error", False, False),
}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a head does on the held-out items."""

    items: int
    metric: str
    """the main one of its `measures`: accuracy, for several labels macro_f1, for numbers rmse"""
    measures: dict[str, float]
    """by name, of `MEASURES`; what cannot be told, such as R² of one value, is left out"""
    accuracy: float | None
    """None where items have no one class"""
    recall: dict[str, float]
    """per true class or label, the share predicted as such"""


def main_measure(evaluation: Mapping[str, Any]) -> tuple[str, float]:
    """Name and value of the main measure in a round's record. Records from before there were several have the
    accuracy."""
    name = str(evaluation.get("metric", "accuracy"))
    return name, float(evaluation["measures"][name] if "measures" in evaluation else evaluation["accuracy"])


def standing(evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the status of a run says of its last evaluation, if there is one: accuracy, and the main measure."""
    metric, value = (None, None) if evaluation is None else main_measure(evaluation)
    return {"accuracy": (evaluation or {}).get("accuracy"), "metric": metric, "value": value}


def shown(metric: str, value: float) -> str:
    """A measure's value for people: `91.2 %`, `0.4213`."""
    return f"{100 * value:.1f} %" if MEASURES[metric].share else f"{value:,.4g}"


def hold_out(partition: Partition, key: int, share: float) -> int:
    """Take a share of the items, by hash, out of what may be offered; returns how many are held out here."""
    held = item_uniform(key, partition.ids) < share
    partition.available &= ~held
    return int(held.sum())


def lowest_held_out(
    partition: Partition, key: int, share: float, most: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(draws, ids) of the `most` held-out items of lowest hash here."""
    draws = item_uniform(key, partition.ids)
    rows = np.flatnonzero(draws < share)
    rows = rows[np.argsort(draws[rows], kind="stable")[:most]]
    return draws[rows], partition.ids[rows]


def outputs_of(
    partition: Partition, inputs: ScoreInputs, hidden_layer: HiddenLayer | None, ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """(ids, outputs [n, C], their variance [n, c]) of those of `ids` that live here, seen through the head's hidden
    layer, as the partition is from now on. c is 0 unless the belief has variances."""
    partition.use_features(hidden_layer)
    rows = partition.rows_of(ids)
    reader = ProductReader(partition, inputs)
    matrix = reader.matrix(partition)
    out = torch.zeros(reader.rows, BLOCK_ROWS, device=partition.device)
    outputs = np.empty((len(rows), reader.classes), np.float32)
    variance = np.empty((len(rows), 0 if inputs.variance is None else len(inputs.variance.combine)), np.float32)
    start = 0
    for block in partition.blocks(rows):
        reader.read(matrix.products(block.features), block.features, out)
        with one_thread():
            found = reader.predicted(out)
        stop = start + block.n
        outputs[start:stop] = found.logits[:, : block.n].T.cpu().numpy()
        if found.variance is not None:
            variance[start:stop] = found.variance[:, : block.n].T.cpu().numpy()
        start = stop
    return partition.ids[rows], outputs, variance


def evaluate(
    fleet: Fleet, head: Head, key: int, share: float, truth: Callable[[Sequence[int]], dict[int, str]]
) -> Evaluation | None:
    """The head on the held-out items whose truth is known; None if there are none.

    Two round trips: the first finds out which they are, so that in the second their outputs, 10,000 x C numbers at
    most, come once, however many partitions there are.
    """
    draws, ids = (np.concatenate(part) for part in zip(*fleet.each(lowest_held_out, key, share, MOST), strict=True))
    ids = ids[np.argsort(draws, kind="stable")[:MOST]]
    known = truth(ids.tolist())
    ids = np.sort(ids[[id in known for id in ids.tolist()]]) if known else ids[:0]
    if not len(ids):
        return None
    inputs = score_inputs(head, needs=("variance",) if head.link == "identity" else ())
    parts = fleet.each(outputs_of, inputs, head.hidden_layer, ids)
    there, outputs, variance = (np.concatenate(part) for part in zip(*parts, strict=True))
    return judge(head.link, head.classes, outputs, [known[id] for id in there.tolist()], variance + head.noise)


def judge(
    link: Link,
    classes: Sequence[str],
    outputs: NDArray[Any],
    answers: Sequence[str],
    variance: NDArray[Any] | None = None,
) -> Evaluation:
    """Outputs [n, C], over the temperature, against true answers. `variance` [n, 1] is that of labels that are numbers,
    1 unless given.

    Raises:
        LabelError: an answer is no label of this link.
    """
    f = np.asarray(outputs, np.float64)
    if link == "identity":
        v = np.ones(len(f)) if variance is None else np.asarray(variance, np.float64)[:, 0]
        return judge_numbers(f[:, 0], np.array([number_in(answer) for answer in answers]), v)
    if link == "sigmoid":
        return judge_labels(classes, responses(link, f), [names_in(answer, link) for answer in answers])
    return judge_classes(classes, responses(link, f), answers)


def judge_classes(classes: Sequence[str], probabilities: NDArray[np.float64], answers: Sequence[str]) -> Evaluation:
    """Class probabilities [n, C]: accuracy, likelihood in nats per item, calibration. Ties go to the first class."""
    place = {name: row for row, name in enumerate(classes)}
    truth = np.array([place.get(answer, -1) for answer in answers])
    guess, best = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right = guess == truth
    likely = np.where(truth >= 0, probabilities[np.arange(len(truth)), truth], 0.0)
    of_class, found = Counter(answers), Counter(a for a, hit in zip(answers, right, strict=True) if hit)
    accuracy = float(right.mean())
    return Evaluation(
        items=len(answers),
        metric="accuracy",
        measures={
            "accuracy": accuracy,
            "negative_log_likelihood": _nats(likely),
            "expected_calibration_error": expected_calibration_error(best.clip(0, 1), right),
        },
        accuracy=accuracy,
        recall={name: found[name] / count for name, count in sorted(of_class.items())},
    )


def judge_labels(
    classes: Sequence[str], probabilities: NDArray[np.float64], answers: Sequence[Sequence[str]]
) -> Evaluation:
    """A probability for each label [n, C]; one above 1/2 predicts it. A label the head does not know is never
    predicted. F1 is 2 right / (predicted + there); macro F1 is its mean over the labels that are predicted or there,
    and 1 where none is. The likelihood is in nats per item; the calibration is of every label of every item."""
    names = [*classes, *sorted({name for answer in answers for name in answer} - set(classes))]
    place = {name: column for column, name in enumerate(names)}
    there = np.zeros((len(answers), len(names)), bool)
    for row, answer in enumerate(answers):
        there[row, [place[name] for name in answer]] = True
    p = np.pad(probabilities, ((0, 0), (0, len(names) - len(classes))))
    guess = p > 0.5
    both, either, given = (guess & there).sum(axis=0), (guess | there).sum(axis=0), there.sum(axis=0)
    used = either > 0
    f1 = 2 * both[used] / (both + either)[used]
    likely = np.where(there, p, 1 - p)
    return Evaluation(
        items=len(answers),
        metric="macro_f1",
        measures={
            "macro_f1": float(f1.mean()) if used.any() else 1.0,
            "micro_f1": float(2 * both.sum() / (both + either).sum()) if used.any() else 1.0,
            "exact_match": float((guess == there).all(axis=1).mean()),
            "label_accuracy": float((guess == there).mean()),
            "negative_log_likelihood": _nats(likely) * len(names),
            "expected_calibration_error": expected_calibration_error(p.clip(0, 1), there),
        },
        accuracy=None,
        recall={names[c]: float(both[c] / given[c]) for c in np.argsort(names) if given[c]},
    )


def judge_numbers(
    values: NDArray[np.float64], answers: NDArray[np.float64], variance: NDArray[np.float64]
) -> Evaluation:
    """Numbers [n] predicted with this variance of a label [n]: root mean squared error, the share of the variance that
    is explained, and the likelihood in nats per item."""
    squares = (values - answers) ** 2
    spread = float(((answers - answers.mean()) ** 2).sum())
    measures = {
        "rmse": float(np.sqrt(squares.mean())),
        "negative_log_likelihood": float((0.5 * (np.log(2 * np.pi * variance) + squares / variance)).mean()),
    }
    if spread > 0:
        measures["r2"] = 1 - float(squares.sum()) / spread
    return Evaluation(items=len(values), metric="rmse", measures=measures, accuracy=None, recall={})


def _nats(likely: NDArray[np.float64]) -> float:
    """Mean of -log p."""
    return float(-np.log(np.maximum(likely, LEAST)).mean())
