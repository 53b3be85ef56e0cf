"""What a head believes of every item beyond its best guess, in a form that rides along in the pass over the pool.

Everything a score may need of a head is either linear in an item's vector (logits, those of posterior draws, those of
the last head) or a sum of squares of linear things (variances). So it is all columns of the one matrix product per
block: `score_inputs` lays them out in the driver, `ProductReader` reads them off beside the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.features import same_layer
from raysal.fleet.partition import Partition
from raysal.models.evidence import gather_evidence
from raysal.models.head import Head
from raysal.models.likelihood import Likelihood
from raysal.models.online.influence import gain_of, influence_of
from raysal.models.posterior import Quadratic
from raysal.models.targets import Answer
from raysal.numerics import AlignedMatrix, block_rows_for, one_thread
from raysal.rng import derive, generator
from raysal.scoring.base import Predicted
from raysal.scoring.linear import Linear
from raysal.scoring.registry import SCORES

DRAWS = 32
"""Posterior draws that scores average over."""


class ScoreInputs(NamedTuple):
    """What of a head, and of its uncertainty, travels to the partitions. Weights [.., D] end with the bias."""

    linear: Linear
    draws: NDArray[np.float64] | None = None
    """[T, C, D]"""
    previous: NDArray[np.float64] | None = None
    """[C, D] the last round's head, with the classes of this one"""
    variance: Quadratic | None = None
    deviation: NDArray[np.float64] | None = None
    """[r, D] rows whose products with h̃ have the length of an output's standard deviation, as `triangle`"""
    gain: NDArray[np.float64] | None = None
    """[D, D] rows whose products with h̃ have the length of Σ h̃, as `triangle`"""
    influence: NDArray[np.float64] | None = None
    """[C, D]"""
    norm: bool = False
    noise: float = 1.0
    temperature: float = 1.0
    by_confidence: bool = False

    @property
    def likelihood(self) -> Likelihood:
        return self.linear.likelihood


def usable(score: str, head: Head | None, previous: Head | None) -> str:
    """The score to compute where `score` is asked for: itself, or, where it compares with the head of an earlier round
    and there is none (the first round, or a new hidden layer), the `usual_score` of the likelihood."""
    if head is None or "previous" not in SCORES[score].needs(head.likelihood) or comparable(previous, head):
        return score
    return head.likelihood.usual_score


def instead(score: str, used: str) -> str:
    """What to tell of a score that another was used for: nothing, where it was used itself."""
    return "" if used == score else f", as {score} needs the head of an earlier round"


def comparable(previous: Head | None, head: Head) -> bool:
    """Whether there is an earlier head that predicts the same kind of thing from the same features."""
    return (
        previous is not None
        and previous.likelihood is head.likelihood
        and previous.dim == head.dim
        and same_layer(previous.hidden_layer, head.hidden_layer)
    )


@one_thread(numpy=True)
def score_inputs(
    head: Head,
    scores: Iterable[str] = (),
    *,
    needs: Iterable[str] = (),
    previous: Head | None = None,
    labelled: NDArray[np.floating] | None = None,
    answers: Sequence[Answer] = (),
    draws: int = DRAWS,
    key: int = 0,
) -> ScoreInputs:
    """What these scores need of a head. `labelled` [n, d] and their `answers` are for those that ask what a label would
    do to the loss on them; `key` of `raysal.rng` for the posterior draws, of which there are `draws`.

    Raises:
        ConfigError: a score needs what this head has not: an ensemble has no covariance, a score of an earlier head
            (see `usable`) none to compare with; or it makes no sense for what the head predicts.
    """
    wanted = {*needs, *(need for score in scores for need in SCORES[score].needs(head.likelihood))}
    scale, posterior = head.temperature, head.posterior
    drawn = None
    if "draws" in wanted:
        noise = generator(derive(key, "posterior")).standard_normal((draws, *head.mean.shape))
        drawn = posterior.samples(head.mean, noise) / scale
    variance = posterior.variance() if {"variance", "mean_variance"} & wanted else None
    return ScoreInputs(
        linear=Linear.of(head),
        draws=drawn,
        previous=_in_order(previous, head) if "previous" in wanted else None,
        variance=Quadratic(variance.project / scale, variance.combine) if variance and "variance" in wanted else None,
        deviation=triangle(variance) / scale if variance and "mean_variance" in wanted else None,
        gain=triangle(gain_of(head)) if "gain" in wanted else None,
        influence=_influence(head, labelled, answers) if "influence" in wanted else None,
        norm="norm" in wanted,
        noise=head.noise,
        temperature=head.temperature,
        by_confidence=posterior.by_confidence,
    )


def triangle(form: Quadratic) -> NDArray[np.float64]:
    """Rows P [r, D], r <= D, for which ‖P h̃‖² is the mean of the form's numbers over the outputs: whatever the
    structure, a length. P is triangular, so that the constant feature counts in its last row only. O(R D²) for R rows
    of the form."""
    rows = np.sqrt(form.combine.mean(axis=0))[:, None] * form.project
    factor = np.asarray(np.linalg.qr(rows[:, ::-1], mode="r"))
    return np.ascontiguousarray(factor[::-1, ::-1])


def _influence(head: Head, labelled: NDArray[np.floating] | None, answers: Sequence[Answer]) -> NDArray[np.float64]:
    if labelled is None or not len(answers):
        raise ConfigError("score", "influence needs the labels so far", "give them, or choose another score")
    return influence_of(head, gather_evidence(labelled, answers, None, head.classes, head.likelihood))


def _in_order(previous: Head | None, head: Head) -> NDArray[np.float64]:
    """The weights of the last head for the classes of this one; a class it did not know had no probability.

    Raises:
        ConfigError: there is none, or it stands on other features.
    """
    if previous is None or not comparable(previous, head):
        problem = "there is no head of an earlier round over the same features to compare with"
        raise ConfigError("score", problem, "use it from the next round, and a trainer without a hidden layer")
    weights = previous.mean / previous.temperature
    rows = np.zeros_like(head.mean)
    rows[:, -1] = -1e4
    for place, name in enumerate(head.classes):
        if name in previous.classes:
            rows[place] = weights[previous.classes.index(name)]
    return rows


@dataclass(frozen=True)
class _Part:
    """Where a part of a belief stands: among the columns of the product, and among the rows read off it."""

    columns: slice
    rows: slice
    combine: AlignedMatrix | None = None
    length: bool = False
    """whether it is the length of its columns"""


class ProductReader:
    """A belief beside one partition: `weights` to multiply features with, and what the product says.

    Rows of what is read: logits, draws, previous, variance, deviation, gain, influence, length; those asked for.
    """

    def __init__(self, partition: Partition, inputs: ScoreInputs) -> None:
        self.inputs = inputs
        self.classes = len(inputs.linear.bias)
        self._parts: dict[str, _Part] = {}
        weights: list[NDArray[np.float64]] = []
        width = rows = 0

        def part(
            name: str,
            matrix: NDArray[np.float64] | None,
            combine: NDArray[np.float64] | None = None,
            length: bool = False,
        ) -> None:
            nonlocal width, rows
            if matrix is None:
                return
            count = 1 if length else len(matrix) if combine is None else len(combine)
            mixer = None
            if combine is not None:
                mixer = AlignedMatrix(combine, torch.float32, partition.device)
            self._parts[name] = _Part(slice(width, width + len(matrix)), slice(rows, rows + count), mixer, length)
            weights.append(matrix)
            width, rows = width + len(matrix), rows + count

        linear = np.column_stack([inputs.linear.weight, inputs.linear.bias])
        part("logits", linear)
        part("draws", None if inputs.draws is None else inputs.draws.reshape(-1, linear.shape[1]))
        part("previous", inputs.previous)
        if inputs.variance is not None:
            part("variance", inputs.variance.project, inputs.variance.combine)
        part("deviation", inputs.deviation, length=True)
        part("gain", inputs.gain, length=True)
        part("influence", inputs.influence)
        stacked = np.concatenate(weights)
        self.weights: NDArray[np.float32] = stacked[:, :-1].astype(np.float32)
        """[m, d] rows whose products with features are wanted, first of all others"""
        self._bias = torch.from_numpy(stacked[:, -1].astype(np.float32)).to(partition.device)
        self.rows = rows + inputs.norm
        self.block = block_rows_for(width)
        """rows of the blocks that its products are taken over"""

    def matrix(self, partition: Partition) -> AlignedMatrix:
        """The weights to multiply features with, for callers that ask for nothing else."""
        return AlignedMatrix(self.weights, torch.float32, partition.device, width=partition.width)

    def read(self, product: torch.Tensor, features: torch.Tensor, out: torch.Tensor) -> None:
        """Write what a product [n, >= m] of `features` [n, width] says into `out` [rows, n]. Logits come without their
        bias, which `predicted` adds: it is cheaper over several blocks."""
        for name, part in self._parts.items():
            values, bias, place = product[:, part.columns], self._bias[part.columns], out[part.rows]
            if part.length:
                place[0] = length_of(values[:, :-1], values[:, -1] + bias[-1])
            elif part.combine is not None:
                values = values + bias
                place[:] = part.combine.products(values * values).T
            elif name == "logits":
                place[:] = values.T
            else:
                torch.add(values.T, bias[:, None], out=place)
        if self.inputs.norm:
            out[-1] = length_of(features, torch.ones((), device=features.device))

    def predicted(self, out: torch.Tensor) -> Predicted:
        """What was read [rows, n], as scores take it. The logits get their bias in place. For one thread."""
        found = {name: out[part.rows] for name, part in self._parts.items()}
        drawn, deviation, gain = found.get("draws"), found.get("deviation"), found.get("gain")
        return Predicted(
            likelihood=self.inputs.likelihood,
            logits=found["logits"].add_(self._bias[: self.classes, None]),
            draws=None if drawn is None else drawn.reshape(-1, self.classes, out.shape[1]),
            previous=found.get("previous"),
            variance=found.get("variance"),
            deviation=None if deviation is None else deviation[0],
            gain=None if gain is None else gain[0],
            influence=found.get("influence"),
            length=out[-1] if self.inputs.norm else None,
            noise=self.inputs.noise,
            temperature=self.inputs.temperature,
            by_confidence=self.inputs.by_confidence,
        )


def length_of(rows: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """Euclidean lengths [n] of `rows` [n, r] with one number more, `last` [n]. In one pass: a seventh of the time of a
    product with ones. Roots, products and sums are rounded the same wherever a row stands (measured 2026-11)."""
    length = torch.linalg.vector_norm(rows, dim=1)
    total: torch.Tensor = (length * length + last * last).sqrt()
    return total
