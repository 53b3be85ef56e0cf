"""The items of a pool that a training sees: those with a label, and a uniform sample of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest

import numpy as np
import pyarrow as pa

from raysal.arrow_values import array_of, numbers_of
from raysal.config import RunConfig
from raysal.errors import ConfigError, LabelError
from raysal.labels import Ledger
from raysal.labels.records import Labelled
from raysal.models.likelihood import SOFTMAX
from raysal.models.trainers import TRAINERS
from raysal.pool import Pool
from raysal.rng import derive, item_uniform
from raysal.rounds.held_out import HeldOut
from raysal.rounds.training_labels import TrainingLabels, output_names
from raysal.store import digest_of


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What is trained on, by key."""

    labelled: Sequence[Labelled]
    unlabelled: Sequence[str]
    classes: Sequence[str]
    """Sorted: those that labels name, and those that the run's config knows."""

    @property
    def keys(self) -> list[str]:
        """The labelled items, then the others."""
        return [*(item.key for item in self.labelled), *self.unlabelled]

    def digest(self) -> str:
        """Hex sha256 over keys, labels, weights and classes."""
        labels = [(item.key, item.answer, item.weight) for item in self.labelled]
        return digest_of({"labels": labels, "unlabelled": list(self.unlabelled), "classes": list(self.classes)})


def check_kind_of_labels(config: RunConfig) -> None:
    """Refuse a run whose labels are not one class for each item.

    Raises:
        ConfigError: they are several labels at once, or numbers; the error names the trainer.
    """
    trainer = config.update.trainer
    likelihood = trainer.build("update.trainer", TRAINERS).likelihood
    if likelihood is not SOFTMAX:
        kind = "several labels at once" if likelihood.discrete else "numbers"
        problem = f"{trainer.name!r} learns {kind}, and fine-tuning one class for each picture"
        raise ConfigError("update.trainer", problem, "train on a run whose trainer learns classes, as logistic does")


def choose_items(pool: Pool, ledger: Ledger, config: RunConfig, upto: int, sample: int, seed: int) -> Chosen:
    """Name the items to train on. No held-out item is among them, labelled or not.

    Streams the pool's items once; memory for those that are named.

    Args:
        pool: the run's pool.
        ledger: the run's labels.
        config: of the run.
        upto: number of the event after which the labels are taken.
        sample: how many unlabelled items are wanted.
        seed: of their sample.

    Returns:
        The items.

    Raises:
        LabelError: fewer than two classes have labels.
    """
    items = TrainingLabels.of(ledger, config, pool).labels(upto)
    classes = output_names(items, SOFTMAX, config.update.classes)
    named = {item.label for item in items}
    if len(named) < 2:
        problem = f"only {named.pop()!r} has labels that train" if named else "no item has a label that trains"
        raise LabelError("labels", problem, "label items of two classes or more, then train")
    unlabelled = _sample(pool, config, {item.id for item in items}, sample, derive(seed, "finetune", "sample"))
    return Chosen(labelled=items, unlabelled=unlabelled, classes=classes)


def _sample(pool: Pool, config: RunConfig, labelled: set[int], most: int, key: int) -> list[str]:
    """The keys of the unlabelled items of lowest hash, in order of it."""
    held_out, own = HeldOut.of(config, pool), np.array(sorted(labelled), np.int64)
    best: list[tuple[float, int, str]] = []
    for table in pool.items(["id", "key"]) if most else ():
        ids = numbers_of(table["id"])
        draws = item_uniform(key, ids)
        wanted = ~np.isin(ids, own)
        if held_out is not None:
            wanted &= ~held_out.among(ids)
        if len(best) == most:
            wanted &= draws < best[-1][0]
        rows = np.flatnonzero(wanted)
        rows = rows[np.argsort(draws[rows], kind="stable")[:most]]
        keys = table["key"].take(array_of(rows, pa.int64())).to_pylist()
        best = nsmallest(most, [*best, *zip(draws[rows].tolist(), ids[rows].tolist(), keys, strict=True)])
    return [key for _, _, key in best]
