"""What scores need of a head: gathered in the driver, and read off the product of a block beside the data.

All of it is linear in an item's vector (logits, those of samples of the posterior, those of the last head) or a sum of
squares of linear things (variances). So it is all columns of the one matrix product per block. `score_inputs` gathers
the rows of that matrix in the driver; `ProductReader` turns a product into a `Predicted` beside the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.features import same_layer
from raysal.fleet.partition import Partition
from raysal.models.evidence import Evidence
from raysal.models.head import Head
from raysal.models.likelihood import SOFTMAX, Likelihood
from raysal.models.online.influence import gain_of, influence_of
from raysal.models.posterior import Quadratic
from raysal.numerics import AlignedMatrix, block_rows_for, one_thread
from raysal.rng import derive, generator
from raysal.scoring.base import Need, Predicted
from raysal.scoring.linear import Linear
from raysal.scoring.registry import SCORES

DEFAULT_DRAWS = 32
"""Samples of the posterior that scores average over."""
UNKNOWN_CLASS_LOGIT = -1e4
"""Logit of a class that the last head did not know: its probability is 0."""

NAME_TARGET = 'name them: target = ["..."] (--target)'
"""What an error says to do where no class is looked for."""


class ScoreInputs(NamedTuple):
    """What of a head, and of its uncertainty, travels to the partitions.

    Rows [.., D] are multiplied with h̃, the vector and a constant feature 1, which is the last. All are over the
    temperature, but for `gain` and `influence`. What no score needs is None.
    """

    linear: Linear
    samples: NDArray[np.float64] | None = None
    """[T, C, D]"""
    previous: NDArray[np.float64] | None = None
    """[C, D] the last round's head, with the classes of this one"""
    variance: Quadratic | None = None
    deviation: NDArray[np.float64] | None = None
    """[r, D] rows whose products with h̃ are as long as an output's standard deviation (`triangular_root`)"""
    gain: NDArray[np.float64] | None = None
    """[D, D] rows whose products with h̃ are as long as Σ h̃ (`triangular_root`)"""
    influence: NDArray[np.float64] | None = None
    """[C, D]"""
    target: NDArray[np.bool_] | None = None
    """[C] which classes are looked for"""
    norm: bool = False
    """whether a score needs the length of [z, 1], with z the features of the head's frame"""
    noise: float = 1.0
    temperature: float = 1.0
    by_confidence: bool = False

    @property
    def likelihood(self) -> Likelihood:
        """What the head's labels are."""
        return self.linear.likelihood


def score_to_compute(score: str, head: Head | None, previous: Head | None) -> str:
    """The score to compute where `score` is asked for.

    Args:
        score: a name of `SCORES`.
        head: the one that the score is of; None where there is none yet.
        previous: that of an earlier round.

    Returns:
        `score` itself. Where it compares with the head of an earlier round and there is none (the first round, or a new
        hidden layer), the `usual_score` of the likelihood.

    Raises:
        ConfigError: the score makes no sense for numbers.
    """
    if head is None or "previous" not in SCORES[score].needs(head.likelihood) or can_compare(previous, head):
        return score
    return head.likelihood.usual_score


def replacement_note(score: str, computed: str) -> str:
    """What reasons say where another score was computed than was asked for: nothing where it is the same."""
    return "" if computed == score else f", as {score} needs the head of an earlier round"


def can_compare(previous: Head | None, head: Head) -> bool:
    """Whether there is an earlier head that predicts the same kind of label from the same features."""
    return (  # outputs of two kinds of labels cannot be subtracted
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
    needs: Iterable[Need] = (),
    previous: Head | None = None,
    reference: Evidence | None = None,
    target: Sequence[str] = (),
    draws: int = DEFAULT_DRAWS,
    key: int = 0,
) -> ScoreInputs:
    """What scores need of a head. In the driver; the cost is that of the posterior's structure.

    Args:
        head: the head.
        scores: names of `SCORES`.
        needs: further parts of `Predicted`.
        previous: the head of an earlier round, for scores that compare with it.
        reference: the labels whose loss it is, for scores that ask what one more label would do to it
            (`raysal.scoring.reference`).
        target: the classes that are looked for, for scores of these.
        draws: samples of the posterior.
        key: of `raysal.rng`, for these samples.

    Returns:
        What travels to the partitions.

    Raises:
        ConfigError: a score needs what this head has not: an ensemble has no covariance; a score of an earlier head
            (see `score_to_compute`) has none to compare with; one of the classes looked for has none to look for. Or a
            score makes no sense for what the head predicts.
    """
    wanted = {*needs, *(need for score in scores for need in SCORES[score].needs(head.likelihood))}
    scale, posterior = head.temperature, head.posterior
    samples = None
    if "samples" in wanted:
        noise = generator(derive(key, "posterior")).standard_normal((draws, *head.mean.shape))
        samples = posterior.samples(head.mean, noise) / scale
    variance = posterior.variance() if {"variance", "mean_variance"} & wanted else None
    return ScoreInputs(
        linear=Linear.of(head),
        samples=samples,
        previous=_previous_weights(previous, head) if "previous" in wanted else None,
        variance=Quadratic(variance.project / scale, variance.combine) if variance and "variance" in wanted else None,
        deviation=triangular_root(variance) / scale if variance and "mean_variance" in wanted else None,
        gain=triangular_root(gain_of(head)) if "gain" in wanted else None,
        influence=_influence(head, reference) if "influence" in wanted else None,
        target=target_among(head.classes, target) if "target" in wanted else None,
        norm="norm" in wanted,
        noise=head.noise,
        temperature=head.temperature,
        by_confidence=posterior.by_confidence,
    )


def is_of_target(score: str) -> bool:
    """Whether a score of `SCORES` is of the classes that are looked for, which then must be named."""
    return "target" in SCORES[score].needs(SOFTMAX)


def target_among(classes: Sequence[str], target: Sequence[str]) -> NDArray[np.bool_]:
    """Which classes are looked for.

    Args:
        classes: [C] those that something predicts.
        target: names; one that is none of the classes has probability 0.

    Returns:
        bool [C].

    Raises:
        ConfigError: no class is looked for.
    """
    if not target:
        problem = "names no class, and a score is asked for of the classes that are looked for"
        raise ConfigError("target", problem, NAME_TARGET)
    return np.isin(list(classes), list(target))


def triangular_root(form: Quadratic) -> NDArray[np.float64]:
    """Rows P for which ‖P h̃‖² is the mean of a form's numbers over the outputs. O(R D²) for R rows of the form.

    So the number is a length, whatever the structure. P is triangular: the constant feature counts in its last row
    only.

    Args:
        form: quadratic forms of h̃ [D], one for each output.

    Returns:
        float64 [r, D], r <= D.
    """
    rows = np.sqrt(form.combine.mean(axis=0))[:, None] * form.project
    factor = np.asarray(np.linalg.qr(rows[:, ::-1], mode="r"))
    return np.ascontiguousarray(factor[::-1, ::-1])


def _influence(head: Head, reference: Evidence | None) -> NDArray[np.float64]:
    """The rows [C, D] of `influence_of`; a ConfigError without a reference."""
    if reference is None:
        problem = "influence needs items to measure the loss on"
        raise ConfigError("score", problem, "give a reference, or choose another score")
    return influence_of(head, reference)


def _previous_weights(previous: Head | None, head: Head) -> NDArray[np.float64]:
    """The weights [C, D] of the last head for the classes of this one; a ConfigError where it cannot be compared."""
    if previous is None or not can_compare(previous, head):
        problem = "there is no head of an earlier round over the same features to compare with"
        raise ConfigError("score", problem, "use it from the next round, and a trainer without a hidden layer")
    weights = previous.mean / previous.temperature
    rows = np.zeros_like(head.mean)
    rows[:, -1] = UNKNOWN_CLASS_LOGIT
    for place, name in enumerate(head.classes):
        if name in previous.classes:
            rows[place] = weights[previous.classes.index(name)]
    return rows


class _Part(NamedTuple):
    """Where a part of the inputs stands: among the columns of the product, and among the rows read off it."""

    columns: slice
    rows: slice
    combine: AlignedMatrix | None
    """what sums up the squares of its columns; None where the columns themselves are read"""
    is_length: bool
    """whether one number is read: the length of its columns"""


class ProductReader:
    """`ScoreInputs` beside one partition: the matrix to multiply features with, and what the product says.

    The numbers read are logits, samples, previous, variance, deviation, gain, influence and length, in this order,
    those of them that are asked for. Callers read blocks of `block_rows` rows into one buffer [numbers, n], whose size
    never changes, and then ask for what the head predicts of them.
    """

    def __init__(self, partition: Partition, inputs: ScoreInputs) -> None:
        self.inputs = inputs
        self.classes = len(inputs.linear.bias)
        linear = np.column_stack([inputs.linear.weight, inputs.linear.bias])
        project, combine = inputs.variance or (None, None)
        layout: list[tuple[str, NDArray[np.float64] | None, NDArray[np.float64] | None, bool]] = [
            ("logits", linear, None, False),
            ("samples", None if inputs.samples is None else inputs.samples.reshape(-1, linear.shape[1]), None, False),
            ("previous", inputs.previous, None, False),
            ("variance", project, combine, False),
            ("deviation", inputs.deviation, None, True),
            ("gain", inputs.gain, None, True),
            ("influence", inputs.influence, None, False),
        ]
        self._parts: dict[str, _Part] = {}
        weights: list[NDArray[np.float64]] = []
        columns = numbers = 0
        for name, matrix, mixing, is_length in layout:
            if matrix is None:
                continue
            own = slice(columns, columns + len(matrix))
            read = slice(numbers, numbers + (1 if is_length else len(matrix if mixing is None else mixing)))
            mixer = None if mixing is None else AlignedMatrix(mixing, torch.float32, partition.device)
            self._parts[name] = _Part(own, read, mixer, is_length)
            weights.append(matrix)
            columns, numbers = own.stop, read.stop
        stacked = np.concatenate(weights)
        self.weights: NDArray[np.float32] = stacked[:, :-1].astype(np.float32)
        """[m, d] rows whose products with features are read; in a product with more rows, the first"""
        self._bias = torch.from_numpy(stacked[:, -1].astype(np.float32)).to(partition.device)
        self._target = None if inputs.target is None else torch.from_numpy(inputs.target).to(partition.device)
        self.numbers = numbers + inputs.norm
        """how many numbers are read for each item"""
        self.block_rows = block_rows_for(columns, partition.device.type)
        """rows of the blocks that its products are taken over"""

    def matrix(self, partition: Partition) -> AlignedMatrix:
        """The matrix to multiply features with, for callers that ask for nothing else.

        Args:
            partition: whose features it multiplies.

        Returns:
            The weights, laid out for its blocks.
        """
        return AlignedMatrix(self.weights, torch.float32, partition.device, width=partition.width)

    def read(self, product: torch.Tensor, features: torch.Tensor, out: torch.Tensor) -> None:
        """Write what a product says of its rows. Logits come without their bias, which `predicted` adds.

        The bias costs less over several blocks.

        Args:
            product: float32 [n, >= m] of features with `weights`.
            features: float32 [n, width].
            out: float32 [numbers, n], to write into.
        """
        for name, part in self._parts.items():
            values, bias, place = product[:, part.columns], self._bias[part.columns], out[part.rows]
            if part.is_length:
                place[0] = row_lengths(values[:, :-1], values[:, -1] + bias[-1])
            elif part.combine is not None:
                values = values + bias
                place[:] = part.combine.products(values * values).T
            elif name == "logits":
                place[:] = values.T
            else:
                torch.add(values.T, bias[:, None], out=place)
        if self.inputs.norm:
            linear, width = self.inputs.linear, features.shape[1]
            inside = (features - linear.centre(width, features.device)) / linear.size(width, features.device)
            out[-1] = row_lengths(inside, torch.ones((), device=features.device))

    def predicted(self, out: torch.Tensor) -> Predicted:
        """What was read, as scores take it. Call it once for what was read, on one thread.

        Args:
            out: float32 [numbers, n] as `read` wrote it; the logits get their bias in place.

        Returns:
            What the head says of the n items, in views of `out`.
        """
        found = {name: out[part.rows] for name, part in self._parts.items()}
        samples, deviation, gain = found.get("samples"), found.get("deviation"), found.get("gain")
        return Predicted(
            likelihood=self.inputs.likelihood,
            logits=found["logits"].add_(self._bias[: self.classes, None]),
            samples=None if samples is None else samples.reshape(-1, self.classes, out.shape[1]),
            previous=found.get("previous"),
            variance=found.get("variance"),
            deviation=None if deviation is None else deviation[0],
            gain=None if gain is None else gain[0],
            influence=found.get("influence"),
            length=out[-1] if self.inputs.norm else None,
            target=self._target,
            noise=self.inputs.noise,
            temperature=self.inputs.temperature,
            by_confidence=self.inputs.by_confidence,
        )


def row_lengths(rows: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """Euclidean lengths of rows that have one number more.

    In one pass: a seventh of the time of a product with ones. Roots, products and sums are rounded the same wherever a
    row stands (measured 2026-11).

    Args:
        rows: [n, r].
        last: [n] or a single number.

    Returns:
        [n].
    """
    length = torch.linalg.vector_norm(rows, dim=1)
    total: torch.Tensor = (length * length + last * last).sqrt()
    return total
