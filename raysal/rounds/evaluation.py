"""How a head does on held-out items: chosen by hash, never offered, never learnt from.

What is true of such an item is what people told of it, or else what the oracle knows.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.features import HiddenLayer
from raysal.fleet import Fleet, Partition
from raysal.models.active_testing import Sample
from raysal.models.head import Head
from raysal.models.measures import Evaluation
from raysal.models.ranking_measures import mean_and_interval, ranking_measures
from raysal.numerics import BLOCK_ROWS, one_thread
from raysal.pool.owners import OwnerOf
from raysal.rounds.draws import DRAWS, TRUTH, UNIFORM
from raysal.rounds.held_out import Half, HeldOut
from raysal.rounds.tested import Tested
from raysal.scoring.inputs import ProductReader, ScoreInputs, score_inputs
from raysal.scoring.of_target import odds_of

MOST = 10_000
"""Held-out items judged at most, those of lowest hash: accuracy is then right to half a percent, at any pool
size."""


def hold_out(partition: Partition, key: int, share: float, owners: OwnerOf | None = None) -> int:
    """Take a share of the items, by hash, out of what may be offered; returns how many are held out here."""
    held = HeldOut(key, share, owners).among(partition.ids)
    partition.available &= ~held
    return int(held.sum())


def lowest_held_out(
    partition: Partition, key: int, share: float, half: Half, most: int, owners: OwnerOf | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The held-out items of lowest hash of a partition.

    Args:
        partition: where they live.
        key: randomness (`raysal.rng`).
        share: of all items that are held out.
        half: which of them.
        most: how many are wanted at most.
        owners: whose hash decides, as of `HeldOut`.

    Returns:
        Their hashes in [0, 1) and ids, by hash.
    """
    held_out = HeldOut(key, share, owners)
    draws = held_out.order(partition.ids)
    rows = np.flatnonzero(held_out.among(partition.ids, half))
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
    *,
    owners: OwnerOf | None = None,
    tested: Tested | None = None,
    target: Sequence[str] = (),
    k: int = 1,
) -> Evaluation | None:
    """How a head does on the held-out items whose truth is known: those of lowest hash, where there are too many.

    Where an oracle knows the truth, or nothing was drawn as a test, they count as a uniform sample. Test draws count by
    their weights (`raysal.models.active_testing`), and other labels that people told, for themselves.

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
        owners: whose hash decides, as of `HeldOut`.
        tested: the held-out items that were drawn as tests, and how others became known.
        target: the classes that are looked for; they have measures of their own.
        k: the first items that these are of, beside the top hundredth.

    Returns:
        The measures; None if no truth is known.
    """
    held_out = HeldOut(key, share, owners)
    lowest = _lowest(fleet, held_out, half)
    known = _known(lowest, truth, told or {}, tested, held_out, half)
    if not known.labels:
        return None
    # How likely a number is depends on the variance around its prediction.
    inputs = score_inputs(head, needs=("variance",) if head.likelihood.quadratic else ())
    asked = {*known.labels, *lowest} if target else {*known.labels}
    parts = fleet.each(outputs_of, inputs, head.hidden_layer, np.array(sorted(asked), np.int64))
    there, outputs, variance = (np.concatenate(part) for part in zip(*parts, strict=True))
    row_of = {id: row for row, id in enumerate(there.tolist())}
    known = known.among(row_of)
    if not known.labels:
        return None
    rows = np.array([row_of[id] for id in known.labels], np.int64)
    outputs, answers = outputs.astype(np.float64), list(known.labels.values())
    weights = {} if known.sample is None else {"weights": known.weights()}
    judged = head.likelihood.judge(head.classes, outputs[rows], answers, variance[rows] + head.noise, **weights)
    intervals = {}
    if head.likelihood.exclusive:
        guesses = head.likelihood.texts(head.likelihood.responses(outputs[rows]), head.classes)
        wrong = np.array([guess != answer for guess, answer in zip(guesses, answers, strict=True)], np.float64)
        low, high = mean_and_interval(known.spread(wrong), known.answered, known.sample)[1]
        intervals["accuracy"] = (1 - high, 1 - low)
    judged = replace(judged, intervals=intervals, known_by=known.by)
    if not target:
        return judged
    names, wanted = head.likelihood.names_in, set(target)
    positive = np.array([bool(wanted & set(names(answer))) for answer in answers])
    looked_for = torch.from_numpy(np.isin(list(head.classes), list(target)))
    odds = odds_of(torch.from_numpy(outputs.T), looked_for, head.likelihood.exclusive).numpy()
    ranking = odds[rows] if known.by == TRUTH else odds[[row_of[id] for id in lowest]]
    measures, more = ranking_measures(
        known.spread(odds[rows]), known.spread(positive), ranking, k, answered=known.answered, sample=known.sample
    )
    metric = "auprc" if "auprc" in measures else judged.metric
    return replace(judged, metric=metric, measures=judged.measures | measures, intervals=intervals | more)


@dataclass(frozen=True, kw_only=True)
class _Known:
    """The held-out items whose labels are known, and how they came to be."""

    labels: dict[int, str]
    """by id; of a sample in its order, else by id"""
    by: str
    """`TRUTH`, `UNIFORM` or `DRAWS`"""
    tested: Tested | None = None
    """the sample that they are of; None for a uniform one"""

    @property
    def sample(self) -> Sample | None:
        """How the items of the sample became known."""
        return None if self.tested is None else self.tested.sample

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which items of the sample have a label, [m]."""
        return np.ones(len(self.labels), bool) if self.tested is None else self.tested.answered(self.labels)

    def weights(self) -> NDArray[np.float64]:
        """What each label of a sample counts for, [n]."""
        assert self.sample is not None
        return np.asarray(self.sample.weights()[self.answered] / self.sample.answered_share(self.answered))

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values [n] of the items with a label, among all items of the sample [m]; 0 for others."""
        full = np.zeros(len(self.answered), values.dtype)
        full[self.answered] = values
        return full

    def among(self, ids: Container[int]) -> _Known:
        """Without the items that the pool does not have."""
        return replace(self, labels={id: label for id, label in self.labels.items() if id in ids})


def _known(
    lowest: Sequence[int],
    truth: Callable[[Sequence[int]], dict[int, str]],
    told: Mapping[int, str],
    tested: Tested | None,
    held_out: HeldOut,
    half: Half,
) -> _Known:
    """What is known of the held-out items: `lowest` are those of lowest hash; the rest as of `evaluate`."""
    true = truth(lowest)
    if not true and tested is not None and tested.sample.drawn.any():
        labels = {id: told[id] for id in tested.ids.tolist() if id in told}
        if not (tested.sample.drawn & tested.answered(labels)).any():
            labels = {}  # what was told stands for itself alone
        return _Known(labels=labels, by=DRAWS, tested=tested)
    labels = _lowest_of(true | dict(told), held_out, half)
    return _Known(labels=dict(sorted(labels.items())), by=TRUTH if true else UNIFORM)


def known_labels(
    fleet: Fleet,
    key: int,
    share: float,
    truth: Callable[[Sequence[int]], dict[int, str]],
    told: Mapping[int, str] | None = None,
    half: Half = "all",
    *,
    owners: OwnerOf | None = None,
) -> dict[int, str]:
    """The labels of the held-out items of lowest hash whose truth is known, MOST of them at most. One round trip.

    Args:
        fleet: the pool's partitions.
        key: as of `evaluate`, as are `share`, `truth`, `told` and `half`.
        share: see there.
        truth: see there.
        told: see there.
        half: see there.
        owners: see there.

    Returns:
        Labels by id.
    """
    held_out = HeldOut(key, share, owners)
    return _lowest_of(truth(_lowest(fleet, held_out, half)) | dict(told or {}), held_out, half)


def _lowest(fleet: Fleet, held_out: HeldOut, half: Half) -> list[int]:
    """The ids of the held-out items of lowest hash, MOST of them at most, in that order."""
    parts = fleet.each(lowest_held_out, held_out.key, held_out.share, half, MOST, held_out.owners)
    draws, ids = (np.concatenate(part) for part in zip(*parts, strict=True))
    return list(ids[np.argsort(draws, kind="stable")[:MOST]].tolist())


def _lowest_of(known: Mapping[int, str], held_out: HeldOut, half: Half) -> dict[int, str]:
    """Those labels that are of held-out items of this half, and of these the MOST of lowest hash."""
    ids = np.array(sorted(known), np.int64)
    ids = ids[held_out.among(ids, half)]
    lowest = ids[np.argsort(held_out.order(ids), kind="stable")[:MOST]]
    return {id: known[id] for id in lowest.tolist()}
