"""What a head believes of every item beyond its best guess, in a form that rides along in the pass over the pool.

Everything a score may need of a head is either linear in an item's vector (logits, those of posterior draws, those of
the last head) or a sum of squares of linear things (variances). So it is all columns of the one matrix product per
block: `believe` lays them out in the driver, `Reader` reads them off beside the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.fleet.partition import ALIGN, Partition
from raysal.rng import derive, generator
from raysal.sweep.linear import Linear, columns_of
from raysal.sweep.scores import SCORES, Predicted
from raysal.update import Answer, Head, Link, Quadratic, gather_evidence
from raysal.update.influence import gain_of, influence_of

DRAWS = 32
"""Posterior draws that scores average over."""


class Belief(NamedTuple):
    """What of a head, and of its uncertainty, travels to the partitions. Weights [.., D] end with the bias."""

    linear: Linear
    draws: NDArray[np.float64] | None = None
    """[T, C, D]"""
    previous: NDArray[np.float64] | None = None
    """[C, D] the last round's head, with the classes of this one"""
    variance: Quadratic | None = None
    gain: Quadratic | None = None
    """the squared length of Σ h̃"""
    influence: NDArray[np.float64] | None = None
    """[C, D]"""
    norm: bool = False
    noise: float = 1.0

    @property
    def link(self) -> Link:
        return self.linear.link


def believe(
    head: Head,
    scores: Iterable[str] = (),
    *,
    needs: Iterable[str] = (),
    previous: Head | None = None,
    labelled: NDArray[np.floating] | None = None,
    answers: Sequence[Answer] = (),
    draws: int = DRAWS,
    key: int = 0,
) -> Belief:
    """What these scores need of a head. `labelled` [n, d] and their `answers` are for those that ask what a label would
    do to the loss on them; `key` of `raysal.rng` for the posterior draws, of which there are `draws`.

    Raises:
        ConfigError: a score needs what this head has not: an ensemble has no covariance.
    """
    wanted = {*needs, *(need for score in scores for need in SCORES[score].needs)}
    scale = head.temperature
    drawn = None
    if "draws" in wanted:
        noise = generator(derive(key, "posterior")).standard_normal((draws, *head.mean.shape))
        drawn = head.posterior.draws(head.mean, noise) / scale
    variance = head.posterior.variance() if "variance" in wanted else None
    return Belief(
        linear=Linear.of(head),
        draws=drawn,
        previous=_in_order(previous, head) if "previous" in wanted else None,
        variance=None if variance is None else Quadratic(variance.project / scale, variance.combine),
        gain=gain_of(head) if "gain" in wanted else None,
        influence=_influence(head, labelled, answers) if "influence" in wanted else None,
        norm="norm" in wanted,
        noise=head.noise,
    )


def _influence(head: Head, labelled: NDArray[np.floating] | None, answers: Sequence[Answer]) -> NDArray[np.float64]:
    if labelled is None or not len(answers):
        raise ConfigError("score", "influence needs the labels so far", "give them, or choose another score")
    return influence_of(head, gather_evidence(labelled, answers, None, head.classes, head.link))


def _in_order(previous: Head | None, head: Head) -> NDArray[np.float64]:
    """The weights of the last head for the classes of this one; a class it did not know had no probability.

    Raises:
        ConfigError: there is none, or it stands on other features.
    """
    if previous is None:
        raise ConfigError("score", "there is no head of an earlier round to compare with", "use it from the next round")
    if previous.lens is not None or head.lens is not None:
        if previous.lens is None or not previous.lens.same_as(head.lens):
            problem = "the head of the round before looks through another lens, so that the two cannot be compared"
            raise ConfigError("score", problem, "use a trainer without hidden layer, or closed-form updates")
    rows = np.zeros_like(head.mean)
    rows[:, -1] = -1e4
    for place, name in enumerate(head.classes):
        if name in previous.classes:
            rows[place] = previous.mean[previous.classes.index(name)] / previous.temperature
    return rows


@dataclass(frozen=True)
class _Part:
    """Where a part of a belief stands: among the columns of the product, and among the rows read off it."""

    columns: slice
    rows: slice
    combine: torch.Tensor | None = None


class Reader:
    """A belief beside one partition: `columns` [width, m] to multiply features with, and what the product says.

    Rows of what is read: logits, draws, previous, variance, gain, influence, squared norm; those asked for.
    """

    def __init__(self, partition: Partition, belief: Belief) -> None:
        self.belief = belief
        self.classes = len(belief.linear.bias)
        self._parts: dict[str, _Part] = {}
        weights: list[NDArray[np.float64]] = []
        width = rows = 0

        def part(name: str, matrix: NDArray[np.float64] | None, combine: NDArray[np.float64] | None = None) -> None:
            nonlocal width, rows
            if matrix is None:
                return
            count = len(matrix) if combine is None else len(combine)
            mixer = None
            if combine is not None:  # rows aligned, as every product's: see ALIGN
                aligned = np.zeros((-(-count // ALIGN) * ALIGN, combine.shape[1]), np.float32)
                aligned[:count] = combine
                mixer = torch.from_numpy(aligned.T.copy()).to(partition.device)
            self._parts[name] = _Part(slice(width, width + len(matrix)), slice(rows, rows + count), mixer)
            weights.append(matrix)
            width, rows = width + len(matrix), rows + count

        linear = np.column_stack([belief.linear.weight, belief.linear.bias])
        part("logits", linear)
        part("draws", None if belief.draws is None else belief.draws.reshape(-1, linear.shape[1]))
        part("previous", belief.previous)
        for name, form in (("variance", belief.variance), ("gain", belief.gain)):
            part(name, None if form is None else form.project, None if form is None else form.combine)
        part("influence", belief.influence)
        stacked = np.concatenate(weights)
        self.weights: NDArray[np.float32] = stacked[:, :-1].astype(np.float32)
        """[m, d] rows whose products with features are wanted, first of all others"""
        self._bias = torch.from_numpy(stacked[:, -1].astype(np.float32)).to(partition.device)
        self.rows = rows + belief.norm

    def columns(self, partition: Partition) -> torch.Tensor:
        """The weights as columns, for callers that ask for nothing else."""
        return columns_of(self.weights, partition)

    def read(self, product: torch.Tensor, features: torch.Tensor, out: torch.Tensor) -> None:
        """Write what a product [n, >= m] of `features` [n, width] says into `out` [rows, n]. Logits come without their
        bias, which `predicted` adds: it is cheaper over several blocks."""
        for name, part in self._parts.items():
            values = product[:, part.columns]
            if name != "logits":
                values = values + self._bias[part.columns]
            if part.combine is not None:
                values = ((values * values) @ part.combine)[:, : part.rows.stop - part.rows.start]
            out[part.rows] = values.T
        if self.belief.norm:
            out[-1] = (features * features).sum(1) + 1

    def predicted(self, out: torch.Tensor) -> Predicted:
        """What was read [rows, n], as scores take it. The logits get their bias in place. For one thread."""
        found = {name: out[part.rows] for name, part in self._parts.items()}
        drawn = found.get("draws")
        return Predicted(
            link=self.belief.link,
            logits=found["logits"].add_(self._bias[: self.classes, None]),
            draws=None if drawn is None else drawn.reshape(-1, self.classes, out.shape[1]),
            previous=found.get("previous"),
            variance=found.get("variance"),
            sq_gain=found.get("gain"),
            influence=found.get("influence"),
            sq_norm=out[-1] if self.belief.norm else None,
            noise=self.belief.noise,
        )
