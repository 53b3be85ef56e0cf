"""How much of the bare model's speed the embed job over Ray keeps.

    python -m benchmarks.embed

Both sides run EfficientNet-Lite0 on Fashion-MNIST at 64 pixels with the same settings, in `--workers`
processes of `--threads` threads at once, at the same niceness. The bare side loops over float tensors that
are decoded, resized, normalised and in memory before its clock starts, through the model as its package runs it; the
job reads, decodes, encodes, casts to float16, writes, checksums and commits chunks, with its default number of rows. It
runs the same layers with fewer passes over memory, so it can be faster than the bare side; it is also compared with a
bare side that runs them so.

Steady state on both sides. Left out: starting Ray and processes, loading the model, and the first round of
work and the last one (a warm-up batch on the bare side, where every process is timed by itself; a chunk for
each worker at either end of the job). The sides take turns, `--repeat` times; each run of the job is compared
with the mean of the bare runs before and after it, and the median of these ratios is the result.

Where the time goes is measured in one process by itself: decode, model and staging one after the other. On
cores that are all busy with models the job cannot keep more than model / (model + decode + staging).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from itertools import islice
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from raysal.embedding.efficientnet import DIM, MEAN, STD, EfficientNetLite0, load_model, load_network
from raysal.embedding.job import CHUNK_ROWS, embed
from raysal.embedding.torch_model import keep_freed_memory
from raysal.errors import SourceError
from raysal.pool import ChunkStage
from raysal.sources.base import Source
from raysal.sources.fashion_mnist import FashionMnist
from raysal.sources.memory import Memory

SIZE = 64
BATCH = 64
NICENESS = "RAY_worker_niceness"
"""Of Ray's workers, 15 by default: they would wait for whatever else the machine does. The bare side has 0."""


def images_of(count: int) -> list[Any]:
    """The first `count` images of the training split, or of the test split if they are enough."""
    source = FashionMnist(split="test" if count <= 10_000 else "train")
    stream = (item.payload for unit in source.units(10_000) for item in source.read(unit))
    found = list(islice(stream, count))
    if len(found) < count:
        raise SourceError("--images", f"{count} wanted, there are {len(found)}", "ask for fewer")
    return found


def bare_loop(images: list[Any], threads: int, own: bool, barrier: Barrier, rates: Any) -> None:
    """One process of the bare side: sends its images/s. `own`: with the layers as raysal runs them."""
    import numpy as np
    import torch

    keep_freed_memory()
    torch.set_num_threads(threads)
    encoder = EfficientNetLite0(size=SIZE)
    package = load_model(SIZE, "cpu")
    model = load_network(SIZE, "cpu", False) if own else lambda batch: package.extract_features(batch).mean((2, 3))
    pixels = np.stack([encoder.prepare("image", image) for image in images])
    tensors = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - MEAN[0]) / STD[0]
    batches = [batch.contiguous(memory_format=torch.channels_last) for batch in torch.split(tensors, BATCH)]
    with torch.inference_mode():
        model(batches[0])
        barrier.wait()
        start = time.perf_counter()
        for batch in batches:
            model(batch)
    rates.put(len(images) / (time.perf_counter() - start))


def bare_rate(images: list[Any], workers: int, threads: int, own: bool = False) -> float:
    """Images/s of the bare side: the model as its package runs it, or with raysal's own layers."""
    context = multiprocessing.get_context("spawn")
    barrier, rates = context.Barrier(workers), context.Queue()
    processes = [
        context.Process(target=bare_loop, args=(images[place::workers], threads, own, barrier, rates))
        for place in range(workers)
    ]
    for process in processes:
        process.start()
    found: list[float] = [rates.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(found)


def job_rate(source: Source, chunk_rows: int, workers: int, threads: int) -> float:
    """Images/s of the embed job over Ray."""
    marks: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        embed(
            source,
            EfficientNetLite0(size=SIZE),
            Path(folder) / "pool",
            batch_size=BATCH,
            chunk_rows=chunk_rows,
            backend="ray",
            workers=workers,
            threads=threads,
            decode_threads=1,
            report=lambda done, _: marks.append((done, time.perf_counter())),
        )
    (before, start), (after, end) = marks[workers], marks[-1 - workers]  # marks[0] is not a commit
    return (after - before) / (end - start)


def microseconds(images: list[Any], threads: int) -> dict[str, float]:
    """Microseconds an image takes in each step, by itself in this process."""
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    encoder = EfficientNetLite0(size=SIZE)
    encoder.encode([encoder.prepare("image", images[0])])  # loads the model
    times = [time.perf_counter()]
    prepared = [encoder.prepare("image", image) for image in images]
    times.append(time.perf_counter())
    parts = [encoder.encode(prepared[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    times.append(time.perf_counter())
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("vectors", "items", "quarantine"):
            (Path(folder) / kind).mkdir()
        ChunkStage(Path(folder), DIM).write(
            index=0,
            first_id=0,
            vectors=np.concatenate(parts).astype(np.float16),
            ids=np.arange(len(images)),
            keys=[str(place) for place in range(len(images))],
            uris=[None] * len(images),
            carried={},
            quarantined=[],
        )
        times.append(time.perf_counter())
    steps = zip(("decode", "model", "staging"), times[:-1], times[1:], strict=True)
    return {name: round((end - start) / len(images) * 1e6, 1) for name, start, end in steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=12 * CHUNK_ROWS["image"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="per worker")
    parser.add_argument("--chunk-rows", type=int, default=CHUNK_ROWS["image"])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.images < 4 * given.workers * given.chunk_rows:
        parser.error("--images must be four chunks or more for each worker")

    from raysal.fleet.ray_fleet import connect

    os.environ.setdefault(NICENESS, "0")
    connect(None, given.workers * given.threads)
    images = images_of(given.images)
    source = Memory(images=images, keys=range(given.images))
    steps = microseconds(images[: given.chunk_rows], given.threads)
    bare, own, job = [bare_rate(images, given.workers, given.threads)], [], []
    for _ in range(given.repeat):
        job.append(job_rate(source, given.chunk_rows, given.workers, given.threads))
        own.append(bare_rate(images, given.workers, given.threads, own=True))
        bare.append(bare_rate(images, given.workers, given.threads))
    ratios = [rate / statistics.mean(bare[turn : turn + 2]) for turn, rate in enumerate(job)]
    result = {
        "machine": describe(),
        "load": round(os.getloadavg()[0], 1),
        "images": given.images,
        "workers": given.workers,
        "threads": given.threads,
        "chunk_rows": given.chunk_rows,
        "bare_images_per_second": round(statistics.median(bare), 1),
        "job_images_per_second": round(statistics.median(job), 1),
        "ratio": round(statistics.median(ratios), 3),
        "bare_runs": [round(rate, 1) for rate in bare],
        "job_runs": [round(rate, 1) for rate in job],
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ratio_to_own_layers": round(statistics.median(a / b for a, b in zip(job, own, strict=True)), 3),
        "microseconds_per_image": steps,
        "at_best": round(steps["model"] / sum(steps.values()), 3),
    }
    if given.json:
        print(json.dumps(result))
    else:
        print(f"{result['machine']}; {given.workers} workers; load at the end {result['load']}")
        print(f"bare model  {result['bare_images_per_second']:>8} images/s  {result['bare_runs']}")
        print(f"embed job   {result['job_images_per_second']:>8} images/s  {result['job_runs']}")
        print(f"ratio       {result['ratio']:>8}           {result['ratios']}; at best {result['at_best']}")
        print(f"to the same layers without the job: {result['ratio_to_own_layers']}")
        print("by itself   " + ", ".join(f"{step} {time} us" for step, time in steps.items()) + " an image")


if __name__ == "__main__":
    main()
