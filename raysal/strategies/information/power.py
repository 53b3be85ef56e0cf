"""Stochastic batches: scores with noise, so that a batch is not the same few neighbours over and over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysal.context import RoundContext
from raysal.fleet import Fleet, Partition
from raysal.rng import item_uniform
from raysal.scoring.inputs import ScoreInputs
from raysal.scoring.registry import SCORES
from raysal.scoring.row_values import refuse_broken, row_values
from raysal.scoring.top_k import BestItems, best_of, best_of_parts
from raysal.strategies.base import Picks, Selector
from raysal.strategies.information.posterior_samples import (
    OutputVariance,
    PosteriorSamples,
    information,
    uncertainty_of,
)


@dataclass(frozen=True, kw_only=True)
class PowerMargin(Selector):
    """The top k of beta log(score) + Gumbel noise (Kirsch et al., TMLR 2023); the score is 1 - (p1 - p2), and with
    several labels at once its mean over them.

    The same as drawing k items without replacement with probability in proportion to score^beta: beta = 0 is
    uniform, a large beta the top of the score. The noise is a hash of (key, item).

    Needs a head; one product O(n d C) and one round trip; memory 40 bytes a row. picks(k) is a prefix of picks(k
    + 1). The score of a pick is its noisy value. Items of score zero come last, drawn uniformly. Knows nothing of
    the batch beyond its noise: a diverse rule is better where one is affordable.
    """

    beta: Annotated[float, Field(ge=0)] = 1.0

    @property
    def needs_head(self) -> bool:
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        return drawn(fleet.each(draw_by_margin, context.score_inputs("margin"), self.beta, context.key, k), k, "margin")


@dataclass(frozen=True, kw_only=True)
class PowerBald(Selector):
    """PowerMargin with mutual information for the score (Kirsch et al., TMLR 2023; BALD: Houlsby et al., 2011).

    I = H(mean p) - mean H(p) over `draws` of the head from its posterior, whatever its structure, the same draws for
    every item; with several labels at once the sum over them, and of numbers log(1 + v / noise) / 2, exactly. Large
    where the head's own uncertainty, not the noise of the labels, decides the class.

    Needs a head with a posterior; O(n draws C d) and one round trip whose argument holds draws C (d + 1) numbers;
    memory 40 bytes a row. picks(k) is a prefix of picks(k + 1). Items without information come last, drawn uniformly.
    As blind to the rest of the batch as PowerMargin: `batch_bald` is not.
    """

    beta: Annotated[float, Field(ge=0)] = 1.0
    draws: Annotated[int, Field(ge=2)] = 20

    @property
    def needs_head(self) -> bool:
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        parts = fleet.each(draw_by_information, uncertainty_of(context, self.draws), self.beta, context.key, k)
        return drawn(parts, k, "information")


def drawn(parts: list[tuple[BestItems, BestItems]], k: int, score: str) -> Picks:
    """The k best of the partitions' noisy scores, then of their hashes."""
    first, last = (best_of_parts(list(ranked), k) for ranked in zip(*parts, strict=True))
    rest = k - len(first[0])
    return Picks(
        ids=np.concatenate([first[0], last[0][:rest]]),
        scores=np.concatenate([first[1], np.zeros(rest)]),
        reasons=(f"drawn by {score}",) * (k - rest) + (f"no {score} left, uniform",) * rest,
    )


def noisy_top(
    scores: NDArray[np.float64], ids: NDArray[np.int64], beta: float, key: int, k: int
) -> tuple[BestItems, BestItems]:
    """The k best by beta log(score) + Gumbel(0, 1) of scores [n] above zero, and the k lowest hashes of the others.

    Raises:
        PoolError: a score is not finite, so that a vector was not, or is too large for the head; it names the item.
    """
    refuse_broken(ids, np.isfinite(scores))
    uniform = item_uniform(key, ids)
    some = scores > 0
    values = beta * np.log(scores[some]) - np.log(-np.log(uniform[some]))
    return best_of(ids[some], values, k), best_of(ids[~some], 1 - uniform[~some], k)


def draw_by_margin(
    partition: Partition, inputs: ScoreInputs, beta: float, key: int, k: int
) -> tuple[BestItems, BestItems]:
    """What `noisy_top` finds among the candidates here, by margin."""
    rows = partition.candidates()
    scores = row_values(partition, inputs, rows, SCORES["margin"]).astype(np.float64)
    return noisy_top(scores, partition.ids[rows], beta, key, k)


def draw_by_information(
    partition: Partition, uncertainty: PosteriorSamples | OutputVariance, beta: float, key: int, k: int
) -> tuple[BestItems, BestItems]:
    """What `noisy_top` finds among the candidates here, by mutual information."""
    rows = partition.candidates()
    return noisy_top(information(partition, uncertainty, rows), partition.ids[rows], beta, key, k)
