"""Measures of quality at embed, and the step `filter`: what they cost, and what they find.

    python -m benchmarks.curate_filter WORK [--cells decode job planted rows] [--rows 1000000] [--images 256]
        [--photos FILE ...]

- `decode`: processor time of one thread to prepare a picture, with and without all measures, in turn. Photos are those
  of scikit-learn unless others are named; they are written in several sizes.
- `job`: images/s of a whole `raysal embed` of a folder of them, with and without, in turn.
- `planted`: among all of Fashion-MNIST blanks, nearly blank pictures and blurred copies; what thresholds find.
- `rows`: seconds of `filter` over a pool of mixtures (`benchmarks.features`), beside the bare float32 products that its
  distances need.
"""

from __future__ import annotations

import argparse
import io
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

import raysal
from benchmarks.curate import pixels
from benchmarks.features import mixtures
from benchmarks.machine import describe
from raysal.config import choice
from raysal.embedding.base import Encoder
from raysal.embedding.batches import prepare_items
from raysal.embedding.measures import measures_of
from raysal.embedding.picture_measures import measure_picture
from raysal.embedding.registry import ENCODERS
from raysal.pool import Pool
from raysal.scoring.novelty.registry import NOVELTIES
from raysal.sources.fashion_mnist import FashionMnist
from raysal.sources.memory import Memory
from raysal.types import Item

PICTURES = measures_of("image")
TURNS = 9
WIDTHS = (320, 640, 1600, 3200)
PLANTED = 700
ENCODER = "efficientnet_lite0"
PHOTOS = [Path(sklearn.datasets.__file__).parent / "images" / name for name in ("china.jpg", "flower.jpg")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--cells", nargs="+", choices=["decode", "job", "planted", "rows"], default=list(CELLS))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=256, help="of the folder of the cell job")
    parser.add_argument("--photos", type=Path, nargs="+", default=PHOTOS)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    print(describe())
    for cell in args.cells:
        CELLS[cell](args)


def written(photo: Path, width: int, form: str = "JPEG") -> bytes:
    """A photo of some width, in a file."""
    with Image.open(photo) as image:
        small = image.convert("RGB").resize((width, image.height * width // image.width), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, form, quality=88)
    return out.getvalue()


def prepared_in(encoder: Encoder, items: Sequence[tuple[int, Item]], measures: Sequence[str]) -> float:
    """Processor time of this thread."""
    start = time.thread_time()
    prepare_items(encoder, items, measures=measures)
    return time.thread_time() - start


def decode(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    for name in (ENCODER, f"{ENCODER}:fast"):
        encoder = choice({"name": name, "size": 224}).build("encoder", ENCODERS)
        for width in WIDTHS:
            files = [written(photo, width) for photo in args.photos]
            items = [(at, Item(key=str(at), payload=files[at % len(files)])) for at in range(8)]
            turns = np.array([[prepared_in(encoder, items, asked) for asked in ((), PICTURES)] for _ in range(TURNS)])
            without, with_all = np.median(turns, axis=0) / len(items)
            ratio = f"with all measures {with_all / without:.2f} x"
            print(f"decode {name:24s} {width:5d} px: {without * 1e3:7.2f} ms, {ratio}", flush=True)


def job(args: argparse.Namespace) -> None:
    folder = args.work / "photos"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for at in range(args.images):
        (folder / f"{at:03d}.jpg").write_bytes(written(args.photos[at % len(args.photos)], 500 + at))
    for name in (ENCODER, f"{ENCODER}:fast"):
        turns = []
        for _ in range(4):
            turns.append([embedded_in(folder, name, asked, args.work / "job") for asked in ([], ["all"])])
        without, with_all = np.array(turns[1:]).T  # the first turn loads the model
        ratios = ", ".join(f"{ratio:.3f}" for ratio in with_all / without)
        print(
            f"job {name:24s}: {args.images / np.median(without):.1f} images/s, with all measures {ratios} x the time",
            flush=True,
        )


def embedded_in(folder: Path, name: str, measures: Sequence[str], out: Path) -> float:
    shutil.rmtree(out, ignore_errors=True)
    start = time.perf_counter()
    raysal.embed(folder, {"name": name, "size": 224}, out=out, measures=measures)
    return time.perf_counter() - start


def planted(args: argparse.Namespace) -> None:
    del args
    real = [np.asarray(item.payload) for split in ("train", "test") for item in items_of(split)]
    rng = np.random.default_rng(0)
    some = rng.permutation(len(real))[:PLANTED]
    kinds: dict[str, list[NDArray[np.uint8]]] = {
        "real": real,
        "blank": [np.full((28, 28), rng.integers(256), np.uint8) for _ in range(PLANTED)],
        "nearly blank": [
            np.clip(rng.integers(256) + rng.normal(0, 1.5, (28, 28)), 0, 255).astype(np.uint8) for _ in range(PLANTED)
        ],
        **{f"blurred by {radius}": [blurred(real[at], radius) for at in some] for radius in (0.5, 1, 2)},
    }
    names = ("sharpness", "entropy", "contrast")
    found = {kind: measured(images, names) for kind, images in kinds.items()}
    for kind, values in found.items():
        shown = np.percentile(values, [0, 1, 50, 99, 100], axis=0).round(2)
        ends = {name: shown[:, at].tolist() for at, name in enumerate(names)}
        print(f"planted {kind:14s}: minimum, 1 %, median, 99 %, maximum {ends}")
    lowest = float(np.quantile(found["real"][:, 0], 0.01))
    for kind in found:
        low = float((found[kind][:, 2] < 5).mean())
        share = float((found[kind][:, 0] < lowest).mean())
        print(f"planted {kind:14s}: contrast below 5: {low:.4f}; among the 1 % least sharp: {share:.4f}", flush=True)


def items_of(split: Any) -> Sequence[Item]:
    source = FashionMnist(split=split)
    return [item for unit in source.units(8192) for item in source.read(unit)]


def blurred(image: NDArray[np.uint8], radius: float) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def measured(images: Sequence[NDArray[np.uint8]], names: Sequence[str]) -> NDArray[np.float64]:
    found = (measure_picture(Image.fromarray(image), (28, 28), names) for image in images)
    return np.array([[row[name] for name in names] for row in found], np.float64)


def rows(args: argparse.Namespace) -> None:
    pool = write_pool(args.work / f"filter-{args.rows}", args.rows)
    asked: dict[str, dict[str, Any]] = {
        "where, two columns": {"where": {"value": {"min": 0.01}, "split": {"not": "test"}}},
        "lowest and highest": {"lowest": {"value": 0.01}, "highest": {"other": 0.01}},
        "outliers, knn": {"outliers": "knn", "like": {"split": "train"}},
        "outliers, mahalanobis": {"outliers": "mahalanobis", "like": {"split": "train"}},
        **{f"novelty, {name}": {"novelty": name} for name in NOVELTIES},
    }
    for name, fields in asked.items():
        shutil.rmtree(pool.path / "curations", ignore_errors=True)
        start = time.perf_counter()
        found = raysal.filter(pool, **fields)
        seconds = time.perf_counter() - start
        print(f"rows {name:26s} {len(pool):,}: {seconds:.2f} s, {found.dropped:,} dropped", flush=True)
        if name in ("outliers, knn", "novelty, knn"):
            bare = products(pool, 10_000 if "outliers" in name else 2_000)
            print(f"rows   bare products {bare:.2f} s: {seconds / bare:.2f} x", flush=True)


def products(pool: Pool, reference: int) -> float:
    """Seconds of the float32 products of all rows with some, and of each row's largest one."""
    columns = torch.randn(pool.dim, reference)
    start = time.perf_counter()
    for chunk in pool.chunks:
        vectors = chunk.mapped()
        for low in range(0, len(vectors), 4096):
            (torch.from_numpy(vectors[low : low + 4096]).float() @ columns).max(1)
    return time.perf_counter() - start


def write_pool(path: Path, count: int) -> Pool:
    """A pool of mixtures with three columns; reused if it is there."""
    if (path / "pool.json").exists():
        return Pool(path)
    mixed = mixtures(*pixels(), 7)
    x = np.concatenate([mixed(at, min(65536, count - low)) for at, low in enumerate(range(0, count, 65536))])
    rng = np.random.default_rng(0)
    carry = {
        "value": rng.random(count).astype(np.float32),
        "other": rng.integers(0, 1 << 20, count),
        "split": rng.choice(["train", "test", "new"], count).tolist(),
    }
    return raysal.embed(Memory(vectors=x, keys=range(count), carry=carry), out=path)


CELLS: dict[str, Callable[[argparse.Namespace], None]] = {
    "decode": decode,
    "job": job,
    "planted": planted,
    "rows": rows,
}

if __name__ == "__main__":
    main()
