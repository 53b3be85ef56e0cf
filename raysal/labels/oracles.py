"""Two oracles: the simulated one knows the true labels; the files oracle waits for a person."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import nsmallest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysal.errors import ConfigError, LabelError
from raysal.labels.base import Oracle
from raysal.labels.files import read_labels
from raysal.labels.spelling import label_text
from raysal.pool.owner_chunk import OwnersChunk, first_that_differs
from raysal.rng import derive, item_uniform
from raysal.types import SKIP, Label

if TYPE_CHECKING:
    import pyarrow as pa

    from raysal.pool import Pool

ANNOTATOR = "simulated"
"""The annotator's name in the labels of a simulation."""


@dataclass(frozen=True, kw_only=True)
class FilesOracle:
    """Answers nothing: the run waits until somebody imports a label file or calls `tell`."""

    def bind(self, pool: Pool, seed: int) -> Oracle:  # noqa: ARG002
        """The oracle itself; it needs neither pool nor seed."""
        return self

    def answer(self, batch: Sequence[tuple[int, str]]) -> list[Label]:  # noqa: ARG002
        """No labels."""
        return []

    def truth(self, ids: Sequence[int]) -> dict[int, str]:  # noqa: ARG002
        """No labels."""
        return {}


@dataclass(frozen=True, kw_only=True)
class SimulatedOracle:
    """Answers from a column that the pool carries, or from a label file. It can make a share of the labels wrong.

    A wrong label is sampled from (seed, item id). So the same item has the same wrong label in every batch, round and
    order. It answers for what it is asked, and hands out nothing else: what a search does not ask for, it does not
    find. Only `examples` and `others` are known before the first round, as somebody who searches knows a few.
    """

    column: str = "label"
    """The pool's column that holds the true labels. Not used with `labels`."""
    noise: float = 0.0
    """The probability, in [0, 1), that another class replaces an item's label. All other classes are equally likely."""
    labels: Path | None = None
    """A label file that holds the true labels, by key."""
    examples: Mapping[str, Annotated[int, Field(ge=0)]] = field(default_factory=dict)
    """How many items of each of these labels are known before the first round, as in `{positive = 5}`."""
    others: Annotated[int, Field(ge=0)] = 0
    """How many items of other labels are known before the first round."""

    def __post_init__(self) -> None:
        if not 0 <= self.noise < 1:
            raise ConfigError("oracle.noise", f"{self.noise!r} is not in [0, 1)", "0.1 makes every tenth label wrong")

    def bind(self, pool: Pool, seed: int) -> Simulation:
        """The simulation for one pool.

        Args:
            pool: the pool whose items are asked for.
            seed: the run's seed.

        Returns:
            An oracle for this pool.

        Raises:
            ConfigError: the pool has no such column, or its items are owners whose parts differ in it; the label file
                has none of the pool's keys; or there is noise and only one class.
            LabelError: the label file cannot be read, or its annotators disagree about a key.
        """
        by_key = None if self.labels is None else _one_label_each(self.labels)
        if by_key is None:
            known = pool.columns
            if self.column not in known:
                raise ConfigError(
                    "oracle.column",
                    f"the pool has no column {self.column!r}",
                    f"its columns: {', '.join(known)}",
                )
            for chunk in pool.chunks:
                if isinstance(chunk, OwnersChunk) and (owner := first_that_differs(chunk, self.column)) is not None:
                    problem = f"the parts of {owner!r} differ in {self.column!r}, and labels are of owners"
                    fix = "name a column of owners, or a label file of theirs: oracle.labels"
                    raise ConfigError("oracle.column", problem, fix)
        elif not any(key in by_key for table in pool.items(["key"]) for key in table["key"].to_pylist()):
            raise ConfigError("oracle.labels", f"{self.labels} has no key of the pool", "use the keys of the pool")
        bound = Simulation(
            pool=pool,
            seed=seed,
            column=self.column,
            noise=self.noise,
            by_key=by_key,
            examples=self.examples,
            others=self.others,
        )
        return bound if self.noise == 0 else bound.with_classes()


def _one_label_each(path: Path) -> dict[str, str]:
    """The label of each key in a file, without skips; an error if a key has two."""
    found: dict[str, str] = {}
    for label in read_labels(path).labels:
        if label.label == SKIP:
            continue
        if found.setdefault(label.key, label.label) != label.label:
            problem = f"{label.key!r} is {found[label.key]!r} and {label.label!r}"
            raise LabelError(path, problem, "keep one as the truth")
    return found


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """A simulated oracle for one pool. Each call streams the pool's items once."""

    pool: Pool
    seed: int
    column: str
    noise: float
    by_key: dict[str, str] | None = field(repr=False)
    """The true labels by key, if a label file holds them."""
    classes: tuple[str, ...] = ()
    """All classes, sorted. Only noise needs them; empty without noise."""
    examples: Mapping[str, int] = field(default_factory=dict)
    """How many items of each of these labels are known before the first round."""
    others: int = 0
    """How many of other labels are."""

    def truth(self, ids: Sequence[int]) -> dict[int, str]:
        """The true labels of items, without noise.

        Args:
            ids: ids of items in the pool.

        Returns:
            The label of each id that has one.

        Raises:
            LabelError: the column holds a value that cannot be a label.
        """
        if len(ids) == 0:
            return {}
        return {
            id: label
            for id, _, label in self._labels(self.pool.rows_where("id", [int(id) for id in ids], self._columns()))
        }

    def _labels(self, rows: pa.Table) -> Iterator[tuple[int, str, str]]:
        """The (id, key, true label) of those of some rows that have one; a LabelError where it cannot be one."""
        keys = rows["key"].to_pylist()
        values = rows[self.column].to_pylist() if self.by_key is None else [self.by_key.get(key) for key in keys]
        for id, key, value in zip(rows["id"].to_pylist(), keys, values, strict=True):
            label = label_text(f"{key!r}: {self.column}", value)
            if label not in (None, SKIP):
                yield id, key, label

    def first_labels(self, held_out: Callable[[NDArray[np.int64]], NDArray[np.bool_]] | None = None) -> list[Label]:
        """The labels that are known before the first round: a uniform sample of each of `examples`, and of the rest.

        They are right, whatever the noise. Streams the pool's items once.

        Args:
            held_out: which of some ids are kept for the evaluation; they are not among them.

        Returns:
            The labels: first the others, then class by class, each in random order. Those of a smaller number are among
            those of a larger one.

        Raises:
            ConfigError: there are fewer of them.
        """
        counts: dict[str | None, int] = {None: self.others}
        counts.update(self.examples)
        if not any(counts.values()):
            return []
        best: dict[str | None, list[tuple[float, str, str]]] = {name: [] for name in counts}
        sampling = derive(self.seed, "oracle", "examples")
        for table in self.pool.items(self._columns()):
            found = list(self._labels(table))
            ids = np.array([id for id, _, _ in found], np.int64)
            out = np.zeros(len(ids), bool) if held_out is None else held_out(ids)
            for (_, key, label), draw, held in zip(found, item_uniform(sampling, ids).tolist(), out, strict=True):
                if not held:
                    best[label if label in best else None].append((draw, key, label))
            best = {name: nsmallest(counts[name], rows) for name, rows in best.items()}
        for name, rows in best.items():
            if len(rows) < counts[name]:
                field_name = "oracle.others" if name is None else f"oracle.examples.{name}"
                problem = f"{counts[name]}, and the pool has {len(rows)} that are not held out"
                raise ConfigError(field_name, problem, "ask for fewer, or check the label")
        return [Label(key=key, label=label, annotator=ANNOTATOR) for rows in best.values() for _, key, label in rows]

    def _columns(self) -> list[str]:
        """The columns of the pool's items that labels are read from."""
        return list(dict.fromkeys(["id", "key"] if self.by_key is not None else ["id", "key", self.column]))

    def answer(self, batch: Sequence[tuple[int, str]]) -> list[Label]:
        """The labels of the batch's items, with noise; items without a true label have none."""
        truth = self.truth([id for id, _ in batch])
        pairs = [(id, key) for id, key in batch if id in truth]
        wrong = self._wrong([id for id, _ in pairs], truth) if self.noise else {}
        return [Label(key=key, label=wrong.get(id, truth[id]), annotator=ANNOTATOR) for id, key in pairs]

    def with_classes(self) -> Simulation:
        """A copy that knows every class of the pool."""
        if self.by_key is not None:
            classes = set(self.by_key.values())
        else:
            values = {
                value for table in self.pool.items([self.column]) for value in table[self.column].unique().to_pylist()
            }
            classes = {label for value in values if (label := label_text(self.column, value)) not in (None, SKIP)}
        if len(classes) < 2:
            raise ConfigError("oracle.noise", "noise needs at least two classes", "set it to 0")
        return replace(self, classes=tuple(sorted(classes)))

    def _wrong(self, ids: list[int], truth: dict[int, str]) -> dict[int, str]:
        """The wrong labels, for the items that noise replaces."""
        rows = np.array(ids, np.int64)
        replaced = item_uniform(derive(self.seed, "oracle", "noise"), rows) < self.noise
        uniform = item_uniform(derive(self.seed, "oracle", "class"), rows)
        wrong = {}
        for id, u in zip(rows[replaced].tolist(), uniform[replaced].tolist(), strict=True):
            others = [label for label in self.classes if label != truth[id]]
            wrong[id] = others[int(u * len(others))]
        return wrong


def revealing(oracle: Oracle, pool: Pool) -> Callable[[Sequence[int]], dict[int, str]]:
    """A function from ids to the labels that an oracle gives for them at once. It records nothing.

    Args:
        oracle: the oracle to ask.
        pool: the pool that the oracle is for.

    Returns:
        A function that takes ids and returns {id: label} for those the oracle knows.
    """

    def reveal(ids: Sequence[int]) -> dict[int, str]:
        found = pool.rows_where("id", list(ids), ["id", "key"])
        of_key = dict(zip(found["key"].to_pylist(), found["id"].to_pylist(), strict=True))
        answers = oracle.answer([(id, key) for key, id in of_key.items()])
        return {of_key[answer.key]: answer.label for answer in answers if answer.label != SKIP}

    return reveal
