"""Seconds to rank pictures once and once more: embed once and sweep, beside the network over every picture each cycle.

    python -m benchmarks.search_throughput [--pictures 65000] [--whole 65000] [--folder FOLDER] [--json]

A search ranks the whole pool after each round of labels. AnomalyMatch (arXiv 2505.03509) decodes every picture and
runs the network over it in every cycle. That way is written out below as its version 1.3 has it: Pillow decodes in
four threads, one batch ahead of the network; EfficientNet-Lite0 of the pip package it names, 224 pixels, in
evaluation mode, channels last; the softmax of two classes. (It also casts to bfloat16, which a CPU without
instructions for it computes hundreds of times slower; this does not.) raysal embeds once, by
`efficientnet_lite0:fast`, and then takes labels, moves the head in closed form and sweeps the vectors.

Pictures are JPEG files of 224 x 224 pixels. Cycle 1 of both sides is measured on `--pictures` of them, in turns of
1,000, and scaled to `--whole`. Cycle 2 of raysal is measured on as many rows; that of the other side is its cycle 1
again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GARMENTS = 60_000
"""There are no more of them: pictures beyond have the same ones again, in other noise and tint."""
TURN = 1000
"""Pictures of one turn."""
BATCH = 250
SIZE = 224
DECODERS = 4
TOLD = 25
"""Labels told between cycles 1 and 2."""


def make_pictures(folder: Path, count: int, seed: int = 0) -> None:
    """Write `count` JPEG files of 224 x 224 pixels, the same ones for the same seed: garments on noise."""
    from PIL import Image

    from benchmarks.embed import images_of

    folder.mkdir(parents=True, exist_ok=True)
    garments = images_of(min(count, GARMENTS))
    for number in range(count):
        path = folder / f"{number:06d}.jpg"
        if path.exists():
            continue
        garment, rng = garments[number % GARMENTS], np.random.default_rng([seed, number])
        grey = np.asarray(Image.fromarray(garment).convert("L").resize((SIZE, SIZE), Image.Resampling.BICUBIC), float)
        tint = rng.uniform(0.5, 1, 3)
        noisy = grey[..., None] * tint + rng.normal(0, 6, (SIZE, SIZE, 1))
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(path, quality=88)


def network_each_cycle(paths: list[Path]) -> float:
    """Seconds to decode pictures, and to run the network and a head of two classes over them."""
    import torch
    from PIL import Image

    from raysal.embedding.efficientnet import load_model

    model = load_model(SIZE, "cpu").to(memory_format=torch.channels_last)
    weights = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1280)).astype(np.float32))

    def decoded(path: Path) -> NDArray[np.uint8]:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))

    def batches(pool: ThreadPoolExecutor) -> Iterator[list[NDArray[np.uint8]]]:
        ahead = pool.map(decoded, paths[:BATCH])
        for start in range(BATCH, len(paths) + BATCH, BATCH):
            now, ahead = ahead, pool.map(decoded, paths[start : start + BATCH])
            yield list(now)

    started = time.perf_counter()
    scores = []
    with ThreadPoolExecutor(DECODERS) as pool, torch.inference_mode():
        for some in batches(pool):
            pixels = torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2).to(memory_format=torch.channels_last)
            features = model.extract_features(pixels.float() / 255).mean((2, 3))
            scores.append(torch.softmax(features @ weights.T, 1)[:, 1])
    order = torch.cat(scores).argsort(descending=True)
    assert len(order) == len(paths)
    return time.perf_counter() - started


def embed_once(folder: Path, out: Path) -> float:
    """Seconds to embed a folder of pictures, as `raysal embed` does."""
    import raysal

    started = time.perf_counter()
    raysal.embed(folder, {"name": "efficientnet_lite0:fast", "size": SIZE}, out=out)
    return time.perf_counter() - started


def second_cycle(rows: int, repeat: int = 5) -> float:
    """Seconds from the labels of a batch to the ranking of all rows, of a session that is open.

    The pool has vectors as long as the encoder's, of garments at 64 pixels where there are too few: 1280 numbers each.
    """
    import raysal
    import raysal.sources
    from raysal.scoring.sweep import SweepRequest, sweep

    rng = np.random.default_rng(1)
    vectors = np.abs(rng.normal(size=(rows, 1280))).astype(np.float16)
    classes = np.where(rng.random(rows) < 0.01, "positive", "negative")
    vectors[classes == "positive", :40] += 1
    keys = [f"{row:06d}" for row in range(rows)]
    seconds = []
    with tempfile.TemporaryDirectory() as place:
        pool = raysal.embed(raysal.sources.Memory(keys=keys, vectors=vectors), out=Path(place) / "pool")
        run: dict[str, Any] = {"select": "probability", "target": ["positive"], "update": {"mode": "laplace"}}
        with raysal.Session(Path(place) / "run", pool, **run) as session:
            some = [*np.flatnonzero(classes == "positive")[:5], *np.flatnonzero(classes == "negative")[:95]]
            session.tell({keys[row]: str(classes[row]) for row in some}, examples=True)
            session.query(TOLD)
            for turn in range(repeat):
                told = range(turn * TOLD, (turn + 1) * TOLD)
                started = time.perf_counter()
                session.tell({keys[row]: str(classes[row]) for row in told})
                fleet = session.start_fleet()
                fleet.reset()
                request = SweepRequest(scores=("log_odds",), top=rows)
                found = sweep(fleet, session.current_head(), request, target=("positive",))
                seconds.append(time.perf_counter() - started)
                assert len(found.top["log_odds"][0]) == rows
    return statistics.median(seconds)


def measure(pictures: int, whole: int, folder: Path) -> dict[str, Any]:
    """Seconds of both cycles on both sides, for as many pictures as `whole` says, and their ratios."""
    make_pictures(folder / "pictures", pictures)
    paths = sorted((folder / "pictures").glob("*.jpg"))[:pictures]
    theirs, ours = [], []
    network_each_cycle(paths[:BATCH])  # loads the model
    for start in range(0, pictures, TURN):
        turn = paths[start : start + TURN]
        theirs.append(network_each_cycle(turn) / len(turn))
        with tempfile.TemporaryDirectory(dir=folder) as place:
            some = Path(place) / "some"
            some.mkdir()
            for path in turn:
                (some / path.name).symlink_to(path)
            ours.append(embed_once(some, Path(place) / "pool") / len(turn))
    sweep_seconds = second_cycle(whole)
    cycle = statistics.median(theirs) * whole
    first = statistics.median(ours) * whole + sweep_seconds
    return {
        "pictures": whole,
        "network each cycle, s": round(cycle, 1),
        "raysal cycle 1, s": round(first, 1),
        "raysal cycle 2, s": round(sweep_seconds, 3),
        "cycle 1": round(statistics.median(a / b for a, b in zip(theirs, ours, strict=True)), 2),
        "cycle 2": round(cycle / sweep_seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=65_000)
    parser.add_argument("--whole", type=int, default=65_000)
    parser.add_argument("--folder", type=Path, help="where the pictures are kept; made anew unless given")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = measure(asked.pictures, asked.whole, asked.folder or Path(place))
    print(json.dumps(found) if asked.json else "\n".join(f"{name}: {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
