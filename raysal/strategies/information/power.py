"""Stochastic batches: scores with noise, so that a batch is not the same few neighbours over and over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysal.context import RoundContext
from raysal.fleet import Fleet, Partition
from raysal.rng import item_gumbel
from raysal.scoring.given_probabilities import AnyInputs
from raysal.scoring.registry import SCORES
from raysal.scoring.row_values import refuse_broken, row_values
from raysal.strategies.base import Picks, Selector
from raysal.strategies.information.positive_first import PositiveFirst, merge_positive_first, positive_first
from raysal.strategies.information.posterior_samples import Uncertainty, bald_nats, uncertainty_of


@dataclass(frozen=True, kw_only=True)
class PowerMargin(Selector):
    """The top k of beta log(score) + Gumbel noise (Kirsch et al., TMLR 2023).

    The score is 1 - (p1 - p2), and with several labels at once its mean over them. This is the same as sampling k items
    without replacement with probability in proportion to score^beta: beta = 0 is uniform, a large beta the top of the
    score. The noise is a hash of (key, item).

    Needs a head; one product O(n d C) and one round trip; memory 40 bytes a row. picks(k) is a prefix of picks(k + 1).
    The score of a pick is its noisy value. Items of score zero come last, in a uniform order. Knows nothing of the
    batch beyond its noise: a diverse strategy is better where one is affordable.
    """

    beta: Annotated[float, Field(ge=0)] = 1.0

    @property
    def needs_head(self) -> bool:
        """Always."""
        return True

    @property
    def takes_probabilities(self) -> bool:
        """Always: it goes by the margin alone."""
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """The k candidates of largest noisy margin score."""
        parts = fleet.each(noisy_margins, context.score_inputs(fleet, "margin"), self.beta, context.key, k)
        return noisy_picks(parts, context.key, k, "margin")


@dataclass(frozen=True, kw_only=True)
class PowerBald(Selector):
    """PowerMargin with mutual information for the score (Kirsch et al., TMLR 2023; BALD: Houlsby et al., 2011).

    I = H(mean p) - mean H(p) over `draws` samples of the head's posterior, whatever its structure, the same samples for
    every item; with several labels at once the sum over them, and of numbers log(1 + v / noise) / 2, exactly. Large
    where the head's own uncertainty, not the noise of the labels, decides the class.

    Needs a head with a posterior; O(n draws C d) and one round trip whose argument holds draws C (d + 1) numbers;
    memory 40 bytes a row. picks(k) is a prefix of picks(k + 1). The score of a pick is its noisy value. Items without
    information come last, in a uniform order. As blind to the rest of the batch as PowerMargin: `batch_bald` is not.
    """

    beta: Annotated[float, Field(ge=0)] = 1.0
    draws: Annotated[int, Field(ge=2)] = 20

    @property
    def needs_head(self) -> bool:
        """Always."""
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """The k candidates of largest noisy information."""
        parts = fleet.each(noisy_information, uncertainty_of(context, self.draws), self.beta, context.key, k)
        return noisy_picks(parts, context.key, k, "information")


def noisy_picks(parts: Sequence[PositiveFirst], key: int, k: int, score: str) -> Picks:
    """The k best of the partitions' noisy scores, then items without a score in a uniform order.

    Args:
        parts: what `noisy_top` found in each partition.
        key: that it had.
        k: how many picks.
        score: names the score in the reasons.

    Returns:
        The batch; its scores are the noisy ones, and 0 for items without a score.
    """
    (ids, values), (others, _) = merge_positive_first(parts, key, k)
    rest = k - len(ids)
    return Picks(
        ids=np.concatenate([ids, others[:rest]]),
        scores=np.concatenate([values, np.zeros(rest)]),
        reasons=(f"drawn by {score}",) * (k - rest) + (f"no {score} left, uniform",) * rest,
    )


def noisy_top(scores: NDArray[np.float64], ids: NDArray[np.int64], beta: float, key: int, k: int) -> PositiveFirst:
    """The k best by beta log(score) + Gumbel(0, 1) of scores above zero, and the k lowest hashes of the others.

    Args:
        scores: float64 [n].
        ids: int64 [n].
        beta: the exponent.
        key: key of `raysal.rng`.
        k: how many of each.

    Returns:
        Both, best first.

    Raises:
        PoolError: a score is not finite, so that a vector was not, or is too large for the head; it names the item.
    """
    refuse_broken(ids, np.isfinite(scores))
    return positive_first(ids, scores, key, k, lambda own, positive: beta * np.log(positive) + item_gumbel(key, own))


# Functions of a partition.


def noisy_margins(partition: Partition, inputs: AnyInputs, beta: float, key: int, k: int) -> PositiveFirst:
    """What `noisy_top` finds among the candidates here, by margin."""
    rows = partition.candidates()
    scores = row_values(partition, inputs, rows, SCORES["margin"]).astype(np.float64)
    return noisy_top(scores, partition.ids[rows], beta, key, k)


def noisy_information(partition: Partition, uncertainty: Uncertainty, beta: float, key: int, k: int) -> PositiveFirst:
    """What `noisy_top` finds among the candidates here, by mutual information."""
    rows = partition.candidates()
    return noisy_top(bald_nats(partition, uncertainty, rows), partition.ids[rows], beta, key, k)
