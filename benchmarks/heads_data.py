"""What `benchmarks.heads` labels: sets of vectors, one class of which may be cut to a rare one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.efficiency_data import labels_of
from benchmarks.laplace_dmle import load as load_table
from raysal.pool import Pool
from raysal.rng import derive, generator

KEEL = (
    "letter", "satimage", "penbased", "optdigits", "texture", "spambase",
    "magic", "phoneme", "ring", "vehicle", "pima", "segment",
)  # fmt: skip
UNIT = " unit"
"""Ends the name of a set whose vectors are brought to length 1."""
SETS = ("fashion", "fashion" + UNIT, "text", "digits", *KEEL)
COMMON = 20
"""Sections of the texts that heads of several classes tell apart: those with most texts."""
TEST = 3000
"""Items that judge a head, at most; of a small set half."""
FEWEST = 8
"""A cut class keeps at least as many items, or the set has no such regime."""
KNOWN = 2
"""Labels of a cut class, at least."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """Where the sets lie; those of a file that is not given are left out."""

    fashion: Path | None
    text: Path | None
    keel: Path | None

    def has(self, name: str) -> bool:
        """Whether a set can be read."""
        plain = name.removesuffix(UNIT)
        place = {"fashion": self.fashion, "text": self.text, "digits": Path()}.get(plain, self.keel)
        return place is not None


@dataclass(frozen=True, kw_only=True, eq=False)
class Set:
    """Vectors [n, d] and their classes [n], numbers that `names` explains."""

    x: NDArray[Any]
    classes: NDArray[np.int64]
    names: list[str]
    unit: bool = False

    def rows(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The vectors of some rows, as heads are to see them."""
        return unit(self.x[rows]) if self.unit else self.x[rows]

    def of_classes(self, kept: NDArray[np.int64]) -> Set:
        """Only the items of some classes, numbered anew."""
        rows = np.flatnonzero(np.isin(self.classes, kept))
        names = [self.names[c] for c in kept]
        return replace(self, x=self.x[rows], classes=np.searchsorted(kept, self.classes[rows]), names=names)


def unit(x: NDArray[Any]) -> NDArray[Any]:
    """Vectors over their lengths; a zero vector stays as it is."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(lengths > 0, lengths, 1))


@lru_cache(maxsize=4)
def load(name: str, files: Files) -> Set:
    """A set by its name: `fashion` is a pool of `benchmarks.label_efficiency`, `text` a file of
    `benchmarks.laplace_text`, and the others are tables."""
    if name.endswith(UNIT):
        return replace(load(name.removesuffix(UNIT), files), unit=True)
    x: NDArray[Any]
    if name == "fashion":
        assert files.fashion is not None
        pool = Pool(files.fashion)
        x = np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float32)
        labels = labels_of(pool, range(len(pool.chunks)))
    elif name == "text":
        assert files.text is not None
        with np.load(files.text) as arrays:
            x, labels = arrays["x"], arrays["names"][arrays["labels"]]
    else:
        x, labels = load_table(name, files.keel)
    names, classes = np.unique(labels, return_inverse=True)
    return Set(x=x, classes=classes.astype(np.int64), names=[str(name) for name in names])


@lru_cache(maxsize=4)
def to_predict(name: str, files: Files) -> Set:
    """A set for heads of several classes."""
    found = load(name, files)
    if name != "text":
        return found
    counts = np.bincount(found.classes)
    return found.of_classes(np.sort(np.lexsort((np.arange(len(counts)), -counts))[:COMMON]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Draw:
    """Rows that are labelled and rows that judge."""

    labelled: NDArray[np.int64]
    test: NDArray[np.int64]
    rare: str
    """The class that is cut, or nothing."""


def cut_class(data: Set, name: str, place: int) -> int:
    """A class by its place in an order that belongs to the set."""
    return int(generator(derive(0, "heads", name, "order")).permutation(len(data.names))[place % len(data.names)])


def cut_count(data: Set, rare: int, share: float) -> int:
    """How many items of a class make up a share of all that is kept; no more than there are."""
    others = int((data.classes != rare).sum())
    return min(round(others * share / (1 - share)), len(data.classes) - others)


def draw(data: Set, name: str, share: float | None, labels: int, seed: int) -> Draw | None:
    """What is labelled, uniformly, and what judges; None where the set is too small.

    With a `share` one class, another for each seed, is cut to it, in both parts alike. Of that class at least `KNOWN`
    items are labelled: where chance gave fewer, they take the places of others.
    """
    rng = generator(derive(seed, "heads", name, "balanced" if share is None else f"{share:g}"))
    order = rng.permutation(len(data.classes))
    if share is None:
        count = min(len(order) // 2, TEST)
        test, rest = order[:count], order[count:]
        return Draw(labelled=rest[:labels], test=test, rare="") if labels <= len(rest) else None
    rare = cut_class(data, name, seed)
    items = cut_count(data, rare, share)
    if items < FEWEST:
        return None
    some, others = order[data.classes[order] == rare][:items], order[data.classes[order] != rare]
    judged = min((items + len(others)) // 2, TEST) / (items + len(others))
    first, second = min(max(round(judged * items), 1), items - KNOWN), round(judged * len(others))
    test = np.concatenate([some[:first], others[:second]])
    rest = rng.permutation(np.concatenate([some[first:], others[second:]]))
    if labels > len(rest):
        return None
    labelled, left = rest[:labels], rest[labels:]
    missing = KNOWN - int((data.classes[labelled] == rare).sum())
    if missing > 0:
        places = np.flatnonzero(data.classes[labelled] != rare)[-missing:]
        labelled = labelled.copy()
        labelled[places] = left[data.classes[left] == rare][:missing]
    return Draw(labelled=labelled, test=test, rare=data.names[rare])


@dataclass(frozen=True, kw_only=True, eq=False)
class Hunt:
    """A pool in which the items of one class are looked for, and the first labels."""

    x: NDArray[np.float32]
    rare: NDArray[np.bool_]
    labelled: NDArray[np.int64]


def hunt(
    data: Set, rare: int, share: float | None, seed: int, *, others: int | None, known: int, initial: int
) -> Hunt | None:
    """A pool, one class of which is cut to a share of it, with `known` items of the class and others to make up
    `initial` labels; None where less than half of the class would be left to find.

    Args:
        data: the set.
        rare: the class.
        share: what the class is cut to; None keeps all of it.
        seed: of everything that is drawn.
        others: how many items of other classes there are at most; None means all.
        known: labels of the class.
        initial: labels in all.

    Returns:
        The pool, in a drawn order.
    """
    rng = generator(derive(seed, "heads", "hunt", data.names[rare]))
    rest = rng.permutation(np.flatnonzero(data.classes != rare))[:others]
    some = rng.permutation(np.flatnonzero(data.classes == rare))
    if share is not None:
        some = some[: round(len(rest) * share / (1 - share))]
    if len(some) < 2 * known:
        return None
    rows = rng.permutation(np.concatenate([some, rest]))
    found = data.classes[rows] == rare
    first = [rng.permutation(np.flatnonzero(found))[:known], rng.permutation(np.flatnonzero(~found))[: initial - known]]
    return Hunt(x=data.rows(rows).astype(np.float32), rare=found, labelled=np.concatenate(first))
