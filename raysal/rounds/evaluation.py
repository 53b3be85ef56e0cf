"""How a head does on held-out items: chosen by hash, never offered, never learnt from.

What is true of such an item is what people told of it, or else what the oracle knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.features import HiddenLayer
from raysal.fleet import Fleet, Partition
from raysal.models.head import Head
from raysal.models.measures import Evaluation
from raysal.numerics import BLOCK_ROWS, one_thread
from raysal.rng import item_uniform
from raysal.rounds.held_out import Half, HeldOut
from raysal.scoring.inputs import ProductReader, ScoreInputs, score_inputs

MOST = 10_000
"""Held-out items judged at most, those of lowest hash: accuracy is then right to half a percent, at any pool
size."""


def hold_out(partition: Partition, key: int, share: float) -> int:
    """Take a share of the items, by hash, out of what may be offered; returns how many are held out here."""
    held = HeldOut(key, share).among(partition.ids)
    partition.available &= ~held
    return int(held.sum())


def lowest_held_out(
    partition: Partition, key: int, share: float, half: Half, most: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The held-out items of lowest hash of a partition.

    Args:
        partition: where they live.
        key: randomness (`raysal.rng`).
        share: of all items that are held out.
        half: which of them.
        most: how many are wanted at most.

    Returns:
        Their hashes in [0, 1) and ids, by hash.
    """
    draws = item_uniform(key, partition.ids)
    rows = np.flatnonzero(HeldOut(key, share).among(partition.ids, half))
    rows = rows[np.argsort(draws[rows], kind="stable")[:most]]
    return draws[rows], partition.ids[rows]


def outputs_of(
    partition: Partition, inputs: ScoreInputs, hidden_layer: HiddenLayer | None, ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """What a head says of those of some items that live in a partition.

    Args:
        partition: from here on it shows features as the head's hidden layer makes them.
        inputs: the head as it travels.
        hidden_layer: of the head.
        ids: ascending.

    Returns:
        Ids [n], outputs float32 [n, C], and their variance float32 [n, c]; c is 0 unless `inputs` has variances.
    """
    partition.use_features(hidden_layer)
    rows = partition.rows_of(ids)
    reader = ProductReader(partition, inputs)
    matrix = reader.matrix(partition)
    out = torch.zeros(reader.numbers, BLOCK_ROWS, device=partition.device)
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
    fleet: Fleet,
    head: Head,
    key: int,
    share: float,
    truth: Callable[[Sequence[int]], dict[int, str]],
    told: Mapping[int, str] | None = None,
    half: Half = "all",
) -> Evaluation | None:
    """How a head does on the held-out items whose truth is known: those of lowest hash, where there are too many.

    Two round trips: the first finds out which items they are, so that in the second their outputs, 10,000 x C numbers
    at most, come once, however many partitions there are.

    Args:
        fleet: the pool's partitions.
        head: what is measured.
        key: randomness by which items are held out (`raysal.rng`).
        share: of all items that are held out.
        truth: the true labels of those of some ids that are known. It is asked for MOST of the held-out items.
        told: what people say of held-out items, by id; it goes before what `truth` says.
        half: which of the held-out items.

    Returns:
        The measures; None if no truth is known.
    """
    known = known_labels(fleet, key, share, truth, told, half)
    if not known:
        return None
    # How likely a number is depends on the variance around its prediction.
    inputs = score_inputs(head, needs=("variance",) if head.likelihood.quadratic else ())
    parts = fleet.each(outputs_of, inputs, head.hidden_layer, np.array(sorted(known), np.int64))
    there, outputs, variance = (np.concatenate(part) for part in zip(*parts, strict=True))
    if not len(there):
        return None
    answers = [known[id] for id in there.tolist()]
    return head.likelihood.judge(head.classes, outputs.astype(np.float64), answers, variance + head.noise)


def known_labels(
    fleet: Fleet,
    key: int,
    share: float,
    truth: Callable[[Sequence[int]], dict[int, str]],
    told: Mapping[int, str] | None = None,
    half: Half = "all",
) -> dict[int, str]:
    """The labels of the held-out items of lowest hash whose truth is known, MOST of them at most. One round trip.

    Args:
        fleet: the pool's partitions.
        key: as of `evaluate`, as are `share`, `truth`, `told` and `half`.
        share: see there.
        truth: see there.
        told: see there.
        half: see there.

    Returns:
        Labels by id.
    """
    parts = fleet.each(lowest_held_out, key, share, half, MOST)
    draws, ids = (np.concatenate(part) for part in zip(*parts, strict=True))
    known = truth(ids[np.argsort(draws, kind="stable")[:MOST]].tolist()) | dict(told or {})
    ids = np.array(sorted(known), np.int64)
    ids = ids[HeldOut(key, share).among(ids, half)]
    lowest = ids[np.argsort(item_uniform(key, ids), kind="stable")[:MOST]]
    return {id: known[id] for id in lowest.tolist()}
