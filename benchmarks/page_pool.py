"""A pool of a million pictures for the page: real features of real pictures, repeated with a little noise.

The features are those of an embedded pool of Fashion-MNIST. Each picture is written once, as a JPEG of 224 pixels, and
every item that repeats it is a name of its own for the same file (a hard link). So the page reads, decodes and shows a
file for each item, and the pool is swept as one of a million rows.

    .venv/bin/python -m benchmarks.page_pool EMBEDDED --out FOLDER --items 1000000
    raysal find FOLDER/pool $(head -3 FOLDER/examples.txt | sed 's/^/--example /') --out FOLDER/run
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import raysal
from raysal.pool import Pool
from raysal.sources.fashion_mnist import FashionMnist
from raysal.sources.npy import Npy

SIDE = 224
FOLDER_ITEMS = 10_000
"""Files of one folder."""
BLOCK_ROWS = 8_192
SEED = 0


def name_of(item: int) -> str:
    """The key of an item, which is the path of its picture."""
    return f"pictures/{item // FOLDER_ITEMS:03d}/{item:07d}.jpg"


def write_pictures(out: Path, keys: list[str], items: int) -> None:
    """The pictures of the keys as JPEGs, and a name for each item."""
    splits = sorted({key.partition("/")[0] for key in keys})
    images = {key: pixels for split in splits for key, pixels in zip(*pixels_of(split), strict=True)}
    for item in range(items):
        path = out / name_of(item)
        path.parent.mkdir(parents=True, exist_ok=True)
        if item < len(keys):
            pixels = Image.fromarray(images[keys[item]]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            pixels.save(path, quality=85)
        else:
            os.link(out / name_of(item % len(keys)), path)


def pixels_of(split: str) -> tuple[list[str], list[NDArray[np.uint8]]]:
    """Keys and pixels [28, 28] of all images of a split."""
    source = FashionMnist(split=split)  # type: ignore[arg-type]
    found = [item for unit in source.units(4096) for item in source.read(unit)]
    return [item.key for item in found], [np.asarray(item.payload) for item in found]


def write_vectors(out: Path, pool: Pool, items: int) -> None:
    """The features of the pool, repeated: the first time as they are, then each time with other noise."""
    real = np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float32)
    noise = 0.1 * float(real.std())
    made: np.memmap[Any, Any] = np.lib.format.open_memmap(out / "vectors.npy", "w+", np.float16, (items, real.shape[1]))
    for start in range(0, items, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, items)
        rows = real[np.arange(start, stop) % len(real)]
        if start >= len(real):
            rng = np.random.default_rng([SEED, start])
            rows = rows + noise * rng.standard_normal(rows.shape, dtype=np.float32)
        made[start:stop] = rows
    made.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("embedded", type=Path, help="a pool of Fashion-MNIST")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--class", dest="name", default="Dress", help="what examples.txt lists")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    pool = Pool(given.embedded)
    rows = [row for table in pool.items(["key", "label"]) for row in table.to_pylist()]
    keys = [row["key"] for row in rows]
    examples = [name_of(i) for i, row in enumerate(rows) if row["label"] == given.name]
    (given.out / "examples.txt").write_text("\n".join(examples) + "\n")
    (given.out / "keys.txt").write_text("\n".join(name_of(i) for i in range(given.items)) + "\n")
    for what, work in (
        ("pictures", lambda: write_pictures(given.out, keys, given.items)),
        ("vectors", lambda: write_vectors(given.out, pool, given.items)),
        ("pool", lambda: embed(given.out)),
    ):
        start = time.perf_counter()
        work()  # type: ignore[no-untyped-call]
        print(f"{what}: {time.perf_counter() - start:.1f} s", flush=True)


def embed(out: Path) -> None:
    """The pool over the vectors."""
    raysal.embed(Npy(path=out / "vectors.npy", keys=out / "keys.txt"), out=out / "pool")


if __name__ == "__main__":
    main()
