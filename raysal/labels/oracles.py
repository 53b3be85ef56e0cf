"""The simulated oracle, which knows the truth, and the files oracle, which waits for a person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raysal.errors import ConfigError, LabelError
from raysal.labels.base import Oracle
from raysal.labels.files import label_text, read_labels
from raysal.rng import derive, item_uniform
from raysal.types import Label

if TYPE_CHECKING:
    from raysal.pool import Pool

ANNOTATOR = "simulated"


@dataclass(frozen=True, kw_only=True)
class FilesOracle:
    """Answers nothing: the run waits until somebody imports a label file or calls `tell`."""

    def bind(self, pool: Pool, seed: int) -> Oracle:  # noqa: ARG002
        return self

    def answer(self, batch: Sequence[tuple[int, str]]) -> list[Label]:  # noqa: ARG002
        return []

    def truth(self, ids: Sequence[int]) -> dict[int, str]:  # noqa: ARG002
        """None is known."""
        return {}


@dataclass(frozen=True, kw_only=True)
class SimulatedOracle:
    """Answers from a column the pool carries, or from a label file, with a share of the labels made wrong.

    `noise` is the chance that an item's label is replaced by another class, all others being equally likely.
    It is drawn from (seed, item id): the same item is wrong in the same way in any batch, round and order.
    """

    column: str = "label"
    noise: float = 0.0
    labels: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.noise < 1:
            raise ConfigError("oracle.noise", f"{self.noise!r} is not in [0, 1)", "0.1 makes every tenth label wrong")

    def bind(self, pool: Pool, seed: int) -> Simulation:
        """The simulation over this pool.

        Raises:
            ConfigError: the pool carries no such column, the label file knows none of its keys, or there is
                noise and only one class.
            LabelError: the label file cannot be read, or its annotators disagree about a key.
        """
        told = None if self.labels is None else _one_label_each(self.labels)
        if told is None:
            known = pool.columns
            if self.column not in known:
                raise ConfigError(
                    "oracle.column",
                    f"the pool has no column {self.column!r}",
                    f"its columns: {', '.join(known)}",
                )
        elif not any(key in told for table in pool.items(["key"]) for key in table["key"].to_pylist()):
            raise ConfigError("oracle.labels", f"{self.labels} names no key of the pool", "keys are the pool's")
        bound = Simulation(pool=pool, seed=seed, column=self.column, noise=self.noise, told=told)
        return bound if self.noise == 0 else bound.with_classes()


def _one_label_each(path: Path) -> dict[str, str]:
    told: dict[str, str] = {}
    for label in read_labels(path).labels:
        if told.setdefault(label.key, label.label) != label.label:
            raise LabelError(path, f"{label.key!r} is {told[label.key]!r} and {label.label!r}", "keep one as the truth")
    return told


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """A simulated oracle bound to a pool. Each call reads the pool's items once, streaming."""

    pool: Pool
    seed: int
    column: str
    noise: float
    told: dict[str, str] | None = field(repr=False)
    classes: tuple[str, ...] = ()
    """Sorted; filled only where noise needs them."""

    def truth(self, ids: Sequence[int]) -> dict[int, str]:
        """The true label of each id that has one, without noise.

        Raises:
            LabelError: the column holds something that cannot be a label.
        """
        if len(ids) == 0:
            return {}
        columns = ["id", "key"] if self.told is not None else ["id", "key", self.column]
        rows = self.pool.rows_where("id", [int(id) for id in ids], list(dict.fromkeys(columns)))
        keys = rows["key"].to_pylist()
        if self.told is not None:
            values: list[object] = [self.told.get(key) for key in keys]
        else:
            values = rows[self.column].to_pylist()
        found = zip(rows["id"].to_pylist(), keys, values, strict=True)
        labels = {id: label_text(f"{key!r}: {self.column}", value) for id, key, value in found}
        return {id: label for id, label in labels.items() if label is not None}

    def answer(self, batch: Sequence[tuple[int, str]]) -> list[Label]:
        truth = self.truth([id for id, _ in batch])
        pairs = [(id, key) for id, key in batch if id in truth]
        wrong = self._wrong([id for id, _ in pairs], truth) if self.noise else {}
        return [Label(key=key, label=wrong.get(id, truth[id]), annotator=ANNOTATOR) for id, key in pairs]

    def with_classes(self) -> Simulation:
        """This simulation knowing every class of the pool, not only those of a batch."""
        if self.told is not None:
            classes = set(self.told.values())
        else:
            values = {
                value for table in self.pool.items([self.column]) for value in table[self.column].unique().to_pylist()
            }
            classes = {label for value in values if (label := label_text(self.column, value)) is not None}
        if len(classes) < 2:
            raise ConfigError("oracle.noise", "there is no other class to mistake a label for", "set it to 0")
        return Simulation(**{**self.__dict__, "classes": tuple(sorted(classes))})

    def _wrong(self, ids: list[int], truth: dict[int, str]) -> dict[int, str]:
        """The labels that noise replaces."""
        rows = np.array(ids, np.int64)
        hit = item_uniform(derive(self.seed, "oracle", "noise"), rows) < self.noise
        draw = item_uniform(derive(self.seed, "oracle", "class"), rows)
        wrong = {}
        for id, u in zip(rows[hit].tolist(), draw[hit].tolist(), strict=True):
            others = [label for label in self.classes if label != truth[id]]
            wrong[id] = others[int(u * len(others))]
        return wrong


def revealing(oracle: Oracle, pool: Pool) -> Callable[[Sequence[int]], dict[int, str]]:
    """What an oracle answers at once, as ids -> labels of those it knows. Nothing is recorded."""

    def reveal(ids: Sequence[int]) -> dict[int, str]:
        found = pool.rows_where("id", list(ids), ["id", "key"])
        of_key = dict(zip(found["key"].to_pylist(), found["id"].to_pylist(), strict=True))
        answers = oracle.answer([(id, key) for key, id in of_key.items()])
        return {of_key[answer.key]: answer.label for answer in answers}

    return reveal
