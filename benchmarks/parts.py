"""Parts of items: how scores of parts become those of owners, and parts against whole pictures.

    python -m benchmarks.parts WORK [--seeds 5] [--only aggregation|whole]

Pictures are those of Fashion-MNIST; pages are made of them, because no set with owners ships in a package. Vectors are
of efficientnet_lite0.

`aggregation` is the question of ALINC (node utilities lifted to graphs): the parts of a page have labels of their own,
a round takes whole pages, and every strategy may spend as many labels of parts. Pages differ in size and in their mix
of classes. What is judged is the accuracy on single test pictures.

`whole` is a search: a page is rare if one of its tiles shows a bag. People are shown pages. What counts is how many
rare pages are found, by vectors of whole pages, and by vectors of tiles.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

import raysal
from benchmarks.machine import describe
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.pool import Pool
from raysal.sources.boxes import Boxes
from raysal.sources.fashion_mnist import CLASSES, FashionMnist
from raysal.sources.memory import Memory
from raysal.sources.table import Table

ENCODER = {"name": "efficientnet_lite0", "size": 64}
PAGE_SIZE = 224
"""Side of the square that a whole page is brought to: the size that the network was trained with."""
PAGES, TRAIN, TEST = 900, 12_000, 5_000
BUDGET, ROUNDS = 60, 6
"""Labels of parts in a round, and rounds."""
RARE, RARE_SHARE, SEARCHED = "Bag", 0.03, 1_500
BATCH, BATCHES = 15, 8
"""Pages in a batch of the search, and batches."""
GRIDS = (2, 4)
"""Tiles along a side of a page."""

OWNER = {"by": "owner", "labels_of": "part"}
AGGREGATION: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "random pages": ("random", OWNER),
    **{
        f"{score}, {name}": (score, {**OWNER, "aggregate_scores": name})
        for score in ("margin", "entropy")
        for name in ("mean", "max", "sum", "top_mean:3", "quantile:0.75")
    },
    "margin of the mean vector": ("margin", OWNER),
    "entropy of the mean vector": ("entropy", OWNER),
    "badge, mean vector": ("badge", OWNER),
    "badge, weighted_mean": ("badge", {**OWNER, "aggregate_features": "weighted_mean"}),
    "badge, best_part": ("badge", {**OWNER, "aggregate_features": "best_part"}),
    "coreset, mean vector": ("coreset", OWNER),
    "coreset, best_part": ("coreset", {**OWNER, "aggregate_features": "best_part"}),
    "typiclust, mean vector": ("typiclust", OWNER),
    "margin, single parts": ("margin", {}),
    "random, single parts": ("random", {}),
}
"""{row: strategy and [parts]}; the last two may take any part, and not only whole pages."""
BY_PAGE = {"by": "owner"}
SEARCHES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "random": ("tiles", BY_PAGE),
    "whole pictures": ("pages", {}),
    "tiles, mean vector": ("tiles", BY_PAGE),
    "tiles, mean score": ("tiles", {**BY_PAGE, "aggregate_scores": "mean"}),
    "tiles, max score": ("tiles", {**BY_PAGE, "aggregate_scores": "max"}),
    "tiles, top_mean:2": ("tiles", {**BY_PAGE, "aggregate_scores": "top_mean:2"}),
    "tiles, best_part": ("tiles", {**BY_PAGE, "aggregate_features": "best_part"}),
    "tiles with labels, max score": ("tiles", {**OWNER, "aggregate_scores": "max"}),
}
"""{row: pool and [parts]}; in the last one people say which tile it is, in the others only whether there is one."""


@lru_cache
def images(split: str) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """The pictures [n, 28, 28] of a split and their classes [n]."""
    source = FashionMnist(split=split)  # type: ignore[arg-type]
    items = [item for unit in source.units(10_000) for item in source.read(unit)]
    return np.stack([item.payload for item in items]), np.array([item.carried["label"] for item in items])


def vectors_of(pool: Pool) -> NDArray[np.float32]:
    return np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float32)


def features(work: Path, split: str, count: int) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """Vectors and classes of the first pictures of a split; embedded once."""
    pixels, classes = images(split)
    pool = raysal.embed(Memory(keys=range(count), images=pixels[:count]), ENCODER, out=work / f"single-{split}")
    return vectors_of(pool), classes[:count]


# Aggregation.


def paged_pool(work: Path, seed: int) -> tuple[Pool, dict[str, str]]:
    """A pool of parts of pages that differ in size and in their mix of classes, and the class of each part by key."""
    vectors, classes = features(work, "train", TRAIN)
    rng = np.random.default_rng(seed)
    left = {name: list(rng.permutation(np.flatnonzero(classes == name))) for name in CLASSES}
    rows: list[int] = []
    pages: list[str] = []
    for page in range(PAGES):
        mix = rng.dirichlet(np.full(len(CLASSES), 0.2))
        for name in rng.choice(CLASSES, rng.integers(2, 19), p=mix):
            if left[name]:
                rows.append(int(left[name].pop()))
                pages.append(f"page-{page:04d}")
    path = work / f"paged-{seed}"
    table = {"key": [f"part-{row:05d}" for row in rows], "page": pages}
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors[rows].reshape(-1)), vectors.shape[1])
    pq.write_table(pa.table({**table, "vector": column}), path.with_suffix(".parquet"))
    pool = raysal.embed(Table(path=path.with_suffix(".parquet"), owner="page"), out=path)
    return pool, {f"part-{row:05d}": str(classes[row]) for row in rows}


def accuracy(work: Path, pool: Pool, labels: Mapping[str, str]) -> float:
    """Of a logistic head on single test pictures."""
    given = vectors_of(pool)
    keys = [key for chunk in pool.chunks for key in chunk.items(["key"])["key"].to_pylist()]
    rows = [row for row, key in enumerate(keys) if key in labels]
    answers = [labels[keys[row]] for row in rows]
    data = TrainingData(
        features=given[rows],
        labels=answers,
        weights=np.ones(len(rows)),
        classes=sorted(set(answers)),
        encoder=pool.vector_space,
        seed=0,
    )
    head = Logistic().fit(data)
    judges, truth = features(work, "test", TEST)
    found = np.array(head.classes)[(judges @ head.weight.T + head.bias).argmax(1)]
    return float((found == truth).mean())


def learning(work: Path, pool: Pool, truth: Mapping[str, str], row: str, seed: int) -> list[float]:
    """Accuracy after each round."""
    strategy, parts = AGGREGATION[row]
    owners: dict[str, str] = {}
    for chunk in pool.chunks:
        items = chunk.items(["key", "owner_key"])
        owners |= dict(zip(items["key"].to_pylist(), items["owner_key"].to_pylist(), strict=True))
    start = set(np.random.default_rng(seed).choice(sorted(set(owners.values())), 4, replace=False))
    labels = {key: truth[key] for key, owner in owners.items() if owner in start}
    curve = []
    for round in range(ROUNDS):
        table = raysal.select(
            pool, budget=BUDGET, strategy=strategy, labels=labels, parts=dict(parts), seed=1000 * seed + round
        )
        picked = set(table["key"].to_pylist())
        labels |= {key: truth[key] for key, owner in owners.items() if (owner if parts else key) in picked}
        curve.append(accuracy(work, pool, labels))
    return curve


def aggregation(work: Path, seeds: int) -> None:
    """Print the table of aggregations."""
    found: dict[str, list[list[float]]] = {row: [] for row in AGGREGATION}
    for seed in range(seeds):
        pool, truth = paged_pool(work, seed)
        for row in AGGREGATION:
            found[row].append(learning(work, pool, truth, row, seed))
    print(f"\n| chosen by | accuracy, mean over {ROUNDS} rounds | after the last | ± |\n|---|---|---|---|")
    for row, curves in found.items():
        whole = 100 * np.array(curves)
        last = whole[:, -1]
        error = last.std(ddof=1) / len(last) ** 0.5 if len(last) > 1 else float("nan")
        print(f"| {row} | {whole.mean():.2f} % | {last.mean():.2f} % | {error:.2f} |")


# Whole pictures.


def pages_of(seed: int, side: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64]]:
    """Pages [n, 28 side, 28 side], whether each is rare, and which tile makes it so (-1 for none)."""
    pixels, classes = images("train")
    rng = np.random.default_rng(seed)
    others, rare = np.flatnonzero(classes != RARE), np.flatnonzero(classes == RARE)
    tiles = rng.choice(others, (SEARCHED, side * side))
    place = np.where(rng.permutation(SEARCHED) < RARE_SHARE * SEARCHED, rng.integers(side * side, size=SEARCHED), -1)
    for page in np.flatnonzero(place >= 0):
        tiles[page, place[page]] = rng.choice(rare)
    whole = pixels[tiles].reshape(SEARCHED, side, side, 28, 28).swapaxes(2, 3).reshape(SEARCHED, 28 * side, 28 * side)
    return whole, place >= 0, place


def searched_pools(work: Path, seed: int, side: int) -> dict[str, Pool]:
    """The pages as whole pictures, and as tiles that are cut out of them."""
    whole, _, _ = pages_of(seed, side)
    keys = [f"page-{page:04d}" for page in range(SEARCHED)]
    boxes = [[[28 * x, 28 * y, 28 * x + 28, 28 * y + 28] for y in range(side) for x in range(side)]] * SEARCHED
    table = work / f"pages-{side}-{seed}.parquet"
    if not table.exists():
        pq.write_table(pa.table({"key": keys, "image": [png(page) for page in whole], "boxes": boxes}), table)
    return {
        "pages": raysal.embed(Table(path=table), {**ENCODER, "size": PAGE_SIZE}, out=table.with_suffix(".pages")),
        "tiles": raysal.embed(Boxes(path=table, boxes="boxes"), ENCODER, out=table.with_suffix(".tiles")),
    }


def png(pixels: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()


def search(work: Path, row: str, seed: int, side: int) -> list[int]:
    """Rare pages found after each batch, without those of the start."""
    _, rare, place = pages_of(seed, side)
    kind, parts = SEARCHES[row]
    pool = searched_pools(work, seed, side)[kind]
    rng = np.random.default_rng(seed + 1)
    known = {
        *rng.choice(np.flatnonzero(rare), 2, False).tolist(),
        *rng.choice(np.flatnonzero(~rare), 18, False).tolist(),
    }
    found = []
    for batch in range(BATCHES):
        labels: dict[str, str] = {}
        for page in known:
            if parts.get("labels_of") == "part":
                labels |= {
                    f"page-{page:04d}#{tile}": "rare" if place[page] == tile else "other" for tile in range(side * side)
                }
            else:
                labels[f"page-{page:04d}"] = "rare" if rare[page] else "other"
        strategy = "random" if row == "random" else "probability"
        table = raysal.select(
            pool, k=BATCH, strategy=strategy, labels=labels, parts=dict(parts), target="rare", seed=100 * seed + batch
        )
        known |= {int(key[5:]) for key in table["key"].to_pylist()}
        found.append(int(rare[sorted(known)].sum()) - 2)
    return found


def whole_pictures(work: Path, seeds: int) -> None:
    """Print the table of whole pictures."""
    rare = round(RARE_SHARE * SEARCHED)
    header = " | ".join(f"{side} x {side} tiles" for side in GRIDS)
    print(f"\nfound of {rare - 2} after {BATCH * BATCHES} pages, of {SEARCHED}")
    print(f"\n| pages by | {header} |\n|---|{'---|' * len(GRIDS)}")
    for row in SEARCHES:
        cells = []
        for side in GRIDS:
            last = np.array([search(work, row, seed, side)[-1] for seed in range(seeds)])
            error = last.std(ddof=1) / len(last) ** 0.5 if len(last) > 1 else float("nan")
            cells.append(f"{last.mean():.1f} ± {error:.1f}")
        print(f"| {row} | {' | '.join(cells)} |")


def main() -> None:
    """Make the pools where they are missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="a directory for pools; what is there is used again")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=["aggregation", "whole"])
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    print(f"{describe()}, {given.seeds} seeds")
    if given.only != "whole":
        aggregation(given.work, given.seeds)
    if given.only != "aggregation":
        whole_pictures(given.work, given.seeds)


if __name__ == "__main__":
    main()
