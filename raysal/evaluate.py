"""Accuracy on held-out items: chosen by hash, never offered, never seen by the head."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet import Fleet, Partition
from raysal.rng import item_uniform
from raysal.sweep import Linear
from raysal.sweep.linear import columns_of
from raysal.update import Head
from raysal.update.lens import Lens

MOST = 10_000
"""Held-out items judged at most, those of lowest hash: accuracy is then right to half a percent, at any pool
size."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a head does on the held-out items."""

    items: int
    accuracy: float
    recall: dict[str, float]
    """per true class, the share predicted as such"""


def hold_out(partition: Partition, key: int, share: float) -> int:
    """Take a share of the items, by hash, out of what may be offered; returns how many are held out here."""
    held = item_uniform(key, partition.ids) < share
    partition.available &= ~held
    return int(held.sum())


def predict_held_out(
    partition: Partition, head: Linear, lens: Lens | None, key: int, share: float, most: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """(draws, ids, predicted classes) of the `most` held-out items of lowest hash here, seen through the head's
    lens, as the partition is from now on."""
    partition.look_through(lens)
    draws = item_uniform(key, partition.ids)
    rows = np.flatnonzero(draws < share)
    rows = np.sort(rows[np.argsort(draws[rows], kind="stable")[:most]])
    columns = columns_of(head.weight, partition)
    bias = torch.from_numpy(head.bias.astype(np.float32)).to(partition.device)
    predicted = np.empty(len(rows), np.int64)
    start = 0
    for block in partition.blocks(rows):
        logits = (block.features @ columns)[: block.n, : len(bias)] + bias
        predicted[start : start + block.n] = logits.argmax(1).cpu().numpy()
        start += block.n
    return draws[rows], partition.ids[rows], predicted


def evaluate(
    fleet: Fleet, head: Head, key: int, share: float, truth: Callable[[Sequence[int]], dict[int, str]]
) -> Evaluation | None:
    """The head on the held-out items whose truth is known; None if there are none. One round trip."""
    parts = fleet.each(predict_held_out, Linear.of(head), head.lens, key, share, MOST)
    draws, ids, predicted = (np.concatenate(column) for column in zip(*parts, strict=True))
    first = np.argsort(draws, kind="stable")[:MOST]
    known = truth(ids[first].tolist())
    pairs = [
        (known[id], head.classes[c]) for id, c in zip(ids[first].tolist(), predicted[first], strict=True) if id in known
    ]
    return confusion(pairs) if pairs else None


def confusion(pairs: Sequence[tuple[str, str]]) -> Evaluation:
    """The evaluation of (true, predicted) pairs."""
    of_class = Counter(true for true, _ in pairs)
    right = Counter(true for true, predicted in pairs if true == predicted)
    recall = {name: right[name] / count for name, count in sorted(of_class.items())}
    return Evaluation(items=len(pairs), accuracy=right.total() / len(pairs), recall=recall)
