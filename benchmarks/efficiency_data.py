"""What `label_efficiency` chooses from: Fashion-MNIST as a pool, and pools with one class cut to a rare one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import raysal
from raysal.errors import PoolIncomplete
from raysal.fleet import LocalFleet, PartitionSpec, plan_partitions, vectors_of
from raysal.models.head import Head
from raysal.models.trainers.base import Context, TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.pool import Pool
from raysal.rng import derive, item_uniform
from raysal.sources.fashion_mnist import CLASSES, FashionMnist
from raysal.sources.memory import Memory

ENCODER = {"name": "efficientnet_lite0", "size": 64}
PREVALENCE = 0.01
"""Of the class that is cut."""
CHUNK_ROWS = 10_000
"""Divides both splits, so that no chunk has images of both."""


def make_pool(path: Path) -> None:
    """All of Fashion-MNIST, training images first, with columns label and split; nothing is done if it is there."""
    items = [item for split in ("train", "test") for item in items_of(FashionMnist(split=split))]
    source = Memory(
        images=[item.payload for item in items],
        keys=[item.key for item in items],
        carry={
            "label": [item.carried["label"] for item in items],
            "split": [item.key.partition("/")[0] for item in items],
        },
    )
    report = raysal.embed(source, ENCODER, out=path, chunk_rows=CHUNK_ROWS, threads=1, max_quarantine=0)
    assert len(report) == len(items)


def minority_pool(path: Path, name: str, seed: int) -> Path:
    """The training images of the pool at `path` with one class cut, as a pool beside it; made if it is not there."""
    out = path.with_name(f"{path.name}-minority-{CLASSES.index(name)}-{seed}")
    if (out / "pool.json").exists():
        with contextlib.suppress(PoolIncomplete):
            Pool(out)
            return out
    full = Pool(path)
    offered = [chunk for chunk in range(len(full.chunks)) if split_of(full, chunk) == "train"]
    classes = labels_of(full, offered)
    kept = cut(classes, name, seed)
    vectors = np.concatenate([full.chunks[chunk].vectors() for chunk in offered])[kept]
    raysal.embed(Memory(vectors=vectors, keys=kept.tolist(), carry={"label": classes[kept].tolist()}), out=out)
    return out


def items_of(source: FashionMnist) -> Iterator[Any]:
    return (item for unit in source.units(CHUNK_ROWS) for item in source.read(unit))


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a job chooses from and is judged by, in this process. An offered item's id is its place in `classes`."""

    fleet: LocalFleet
    encoder: str
    classes: NDArray[np.str_]
    """[n] of the items offered"""
    judges: NDArray[np.float32]
    """[m, d] of the test images"""
    truth: NDArray[np.str_]
    """[m] their classes"""

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """[len(ids), d] of ascending ids."""
        return np.concatenate([vectors for _, vectors in self.fleet.each(vectors_of, ids)])

    def fit(
        self, ids: NDArray[np.int64], seed: int, first: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], list[str], Head]:
        """(vectors, classes, head) of labelled items in id order; a round asked for all but `first`."""
        vectors, classes = self.vectors(ids), self.classes[ids].tolist()
        head = Logistic().fit(
            TrainingData(
                features=vectors,
                labels=classes,
                classes=sorted(set(classes)),
                encoder=self.encoder,
                context=Context(rounds=None if first is None else np.where(np.isin(ids, first), -1, 0)),
                seed=derive(seed, "fit") % 2**32,
            )
        )
        return vectors, classes, head

    def predicted(self, head: Head) -> NDArray[np.str_]:
        """[m] the head's classes of the test images; one product."""
        logits = self.judges @ head.weight.T.astype(np.float32) + head.bias.astype(np.float32)
        names: NDArray[np.str_] = np.array(head.classes)[logits.argmax(1)]
        return names


@lru_cache(maxsize=1)
def load(pool: Path, minority: str | None, seed: int) -> Data:
    """What is offered: the training images, or those of `minority_pool`; opened once in a process. The test images
    have no part in the fleet, since some rules look at rows that may not be picked, too."""
    full = Pool(pool)
    offered, judging = ([c for c in range(len(full.chunks)) if split_of(full, c) == s] for s in ("train", "test"))
    truth = labels_of(full, judging)
    judges = np.concatenate([full.chunks[chunk].vectors() for chunk in judging]).astype(np.float32)
    if minority is None:
        classes = labels_of(full, offered)
        assert offered == list(range(offered[0], offered[-1] + 1)), "the training images lie together"
        start = sum(chunk.rows for chunk in full.chunks[: offered[0]])
        stop = start + sum(full.chunks[chunk].rows for chunk in offered)
        fleet = LocalFleet([PartitionSpec(index=0, pool=str(pool), start=start, stop=stop, threads=1)])
    else:
        rare = Pool(minority_pool(pool, minority, seed))
        classes = labels_of(rare, range(len(rare.chunks)))
        fleet = LocalFleet(plan_partitions(rare, 1, threads=1))
        kept = cut(truth, minority, seed)
        judges, truth = judges[kept], truth[kept]
    return Data(
        fleet=fleet,
        encoder=str(full.manifest.encoder["fingerprint"]),
        classes=classes,
        judges=judges,
        truth=truth,
    )


def split_of(pool: Pool, chunk: int) -> str:
    """`train` or `test`: no chunk has both."""
    (split,) = set(pool.chunks[chunk].items(["split"])["split"].to_pylist())
    return str(split)


def labels_of(pool: Pool, chunks: Sequence[int]) -> NDArray[np.str_]:
    """The true classes of the items of some chunks."""
    return np.array([name for chunk in chunks for name in pool.chunks[chunk].items(["label"])["label"].to_pylist()])


def lowest(key: int, rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """A uniform draw of `count` rows, ascending."""
    return np.sort(rows[np.argsort(item_uniform(key, rows), kind="stable")[:count]])


def cut(classes: NDArray[np.str_], name: str, seed: int) -> NDArray[np.int64]:
    """Rows, with as many of one class, drawn by the seed, as make up `PREVALENCE` of them."""
    rare = classes == name
    count = round((~rare).sum() * PREVALENCE / (1 - PREVALENCE))
    some = lowest(derive(seed, "minority"), np.flatnonzero(rare), count)
    return np.sort(np.concatenate([np.flatnonzero(~rare), some]))
