"""Class probabilities that are given: by a zero-shot model, or anybody's network. At the start they replace a head.

The driver reads them (`raysal.rounds.given_probabilities`), and `place_given` puts each partition's own beside its
rows, for the program that runs. A score of the best guess alone is then computed from them as from what a head
predicts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet.partition import Partition
from raysal.models.likelihood import SOFTMAX
from raysal.numerics import BLOCK_ROWS, slices
from raysal.scoring.base import Predicted
from raysal.scoring.inputs import UNKNOWN_CLASS_LOGIT, ScoreInputs
from raysal.scoring.registry import SCORES

STATE = "given probabilities"
"""Name in a partition's state: float32 [n, C], NaN in rows that have none."""
MISSING_TOLD = 5
"""Items without probabilities that a partition tells by id."""


@dataclass(frozen=True, kw_only=True)
class GivenProbabilities:
    """Probabilities of classes for items of a pool. 8 + 4 C bytes an item, in the driver and beside the data."""

    ids: NDArray[np.int64]
    """[n] ascending"""
    values: NDArray[np.float32]
    """[n, C], each row sums up to 1"""
    classes: tuple[str, ...]
    """[C]"""
    digest: str
    """sha256 of all three"""


class GivenInputs(NamedTuple):
    """What a score needs where probabilities are given: these are beside the data already."""

    classes: tuple[str, ...]
    target: NDArray[np.bool_] | None = None
    """[C] which classes are looked for"""


AnyInputs = ScoreInputs | GivenInputs
"""What travels to the partitions for a score: of a head, or that probabilities are given."""


def takes_probabilities(score: str) -> bool:
    """Whether a score of `SCORES` can be computed from probabilities of classes alone."""
    return not {*SCORES[score].needs(SOFTMAX)} - {"target"}


def given_blocks(
    partition: Partition, inputs: GivenInputs, rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], Predicted]]:
    """What is given of some rows, block by block.

    Args:
        partition: the rows' partition; `place_given` has run there.
        inputs: what a score needs beside them.
        rows: int64 [n], ascending positions.

    Yields:
        (positions [m], predictions of BLOCK_ROWS items, of which the first m are these).
    """
    held: NDArray[np.float32] = partition.state[STATE]
    target = None if inputs.target is None else torch.from_numpy(inputs.target).to(partition.device)
    for own in slices(len(rows), BLOCK_ROWS):
        p = torch.zeros(held.shape[1], BLOCK_ROWS)
        p[0] = 1
        p[:, : own.stop - own.start] = torch.from_numpy(held[rows[own]].T)
        p = p.to(partition.device)
        predicted = Predicted(likelihood=SOFTMAX, logits=p.log().clamp_min(UNKNOWN_CLASS_LOGIT), target=target)
        vars(predicted)["probabilities"] = p  # as they were given, not what rounding makes of their logarithms
        yield rows[own], predicted


# A function of a partition.


class Lacking(NamedTuple):
    """Available rows of a partition that have no probabilities."""

    total: int
    ids: NDArray[np.int64]
    """the first few"""


def place_given(partition: Partition, given: GivenProbabilities) -> Lacking:
    """Keep the probabilities of the rows that live here, for the rest of the program.

    Args:
        partition: where they live.
        given: those of the whole pool.

    Returns:
        The available rows without any.
    """
    held = np.full((len(partition), len(given.classes)), np.nan, np.float32)
    place = np.searchsorted(given.ids, partition.ids).clip(max=max(len(given.ids) - 1, 0))
    here = given.ids[place] == partition.ids if len(given.ids) else np.zeros(len(partition), bool)
    held[here] = given.values[place[here]]
    partition.state[STATE] = held
    lacking = partition.ids[~here & partition.available]
    return Lacking(len(lacking), lacking[:MISSING_TOLD])
