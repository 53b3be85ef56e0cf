"""Selection one item at a time, without regard to the rest of the batch: at random, or by a score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from raysal.context import RoundContext
from raysal.errors import UnknownName
from raysal.fleet import Fleet, Partition
from raysal.numerics import one_thread
from raysal.rng import item_uniform
from raysal.scoring.base import Predicted
from raysal.scoring.inputs import DRAWS, ProductReader, ScoreInputs, instead, usable
from raysal.scoring.registry import SCORES
from raysal.scoring.sweep import Ranked
from raysal.scoring.top_k import best_of
from raysal.strategies.base import Picks, Selector, refuse_broken


@dataclass(frozen=True, kw_only=True)
class Random(Selector):
    """Uniform without replacement: the items of lowest hash. The control every strategy is compared with.

    Needs nothing; O(n); picks(k) is a prefix of picks(k + 1).
    """

    @property
    def needs_head(self) -> bool:
        return False

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        ids, scores = merged(fleet.each(lowest_hash, context.key, k), k)
        return Picks(ids=ids, scores=scores, reasons=("uniform draw",) * k)


@dataclass(frozen=True, kw_only=True)
class TopScore(Selector):
    """The items of highest uncertainty `score`; ties to the lower id (Lewis & Gale, SIGIR 1994).

    Needs a head; one product O(n d C), and as many columns more as the score needs: D for a variance, C for each of
    `draws` from the posterior. picks(k) is a prefix of picks(k + 1). Neighbours of one another are picked together, so
    prefer a diverse rule for batches beyond a handful.
    """

    score: str = "margin"
    draws: Annotated[int, Field(ge=2)] = DRAWS

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise UnknownName("select.score", self.score, sorted(SCORES))

    @property
    def needs_head(self) -> bool:
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        name = usable(self.score, context.head, context.previous)
        ids, scores = merged(fleet.each(highest_score, context.score_inputs(name, self.draws), name, k), k)
        note = instead(self.score, name)
        return Picks(ids=ids, scores=scores, reasons=tuple(f"{name} {score:.3g}{note}" for score in scores))


def merged(parts: list[Ranked], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k best of all partitions' best."""
    ids, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
    ids, scores = best_of(ids, scores, k)
    return ids, scores.astype(np.float64)


def lowest_hash(partition: Partition, key: int, k: int) -> Ranked:
    """The k candidates of lowest hash; the score is 1 - hash."""
    ids = partition.ids[partition.candidates()]
    return best_of(ids, 1 - item_uniform(key, ids), k)


def head_values(
    partition: Partition, inputs: ScoreInputs, rows: NDArray[np.int64], value: Callable[[Predicted], torch.Tensor]
) -> NDArray[Any]:
    """A number computed from what the head predicts of these rows, [len(rows)].

    Raises:
        PoolError: a row has none, as its vector is not finite or too large for the head; it names the item.
    """
    reader, found = ProductReader(partition, inputs), []
    matrix = reader.matrix(partition)
    out = torch.zeros(reader.rows, reader.block, device=partition.device)
    for block in partition.blocks(rows, reader.block):
        reader.read(matrix.products(block.features), block.features, out)
        with one_thread():
            predicted = reader.predicted(out)
            values = value(predicted)
            broken = torch.isnan(predicted.probabilities).any(0) | torch.isnan(values)
        refuse_broken(partition.ids[block.rows], ~broken[: block.n].cpu().numpy())
        found.append(values[: block.n].cpu().numpy())
    return np.concatenate(found) if found else np.empty(0, np.float32)


def highest_score(partition: Partition, inputs: ScoreInputs, score: str, k: int) -> Ranked:
    """The k candidates of highest score.

    Raises:
        PoolError: a score is not a number, so that a vector is not finite or too large for the head.
    """
    rows = partition.candidates()
    return best_of(partition.ids[rows], head_values(partition, inputs, rows, SCORES[score]), k)
