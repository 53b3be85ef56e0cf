"""How much of the bare model's speed the embed job over Ray keeps.

    python -m benchmarks.embed --images 4000

Both sides run EfficientNet-Lite0 on Fashion-MNIST at 64 pixels with the same settings, in `--workers`
processes of `--threads` threads at once. The bare side loops over float tensors that are decoded, resized,
normalised and in memory before its clock starts; the job reads, decodes, encodes, casts to float16, writes,
checksums and commits chunks.

Steady state on both sides. Left out: starting Ray and processes, loading the model, and the first round of
work (a warm-up batch on the bare side, each worker's first chunk in the job). The job's clock runs from the
first commit of all to the last one, and all first chunks count for nothing, so the rate is a lower bound.
The sides take turns `--repeat` times; the medians are compared.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from itertools import islice
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from raysal.embed.efficientnet import MEAN, STD, EfficientNetLite0, load_model
from raysal.embed.job import embed
from raysal.errors import SourceError
from raysal.sources.base import Source
from raysal.sources.fashion_mnist import FashionMnist
from raysal.sources.memory import Memory

SIZE = 64
BATCH = 64


def images_of(count: int) -> list[Any]:
    """The first `count` images of the training split, or of the test split if they are enough."""
    source = FashionMnist(split="test" if count <= 10_000 else "train")
    stream = (item.payload for unit in source.units(10_000) for item in source.read(unit))
    found = list(islice(stream, count))
    if len(found) < count:
        raise SourceError("--images", f"{count} wanted, there are {len(found)}", "ask for fewer")
    return found


def bare_loop(images: list[Any], threads: int, barrier: Barrier, ends: Any) -> None:
    """One process of the bare side: sends when it began and ended."""
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    encoder = EfficientNetLite0(size=SIZE)
    model = load_model(SIZE, "cpu")
    pixels = np.stack([encoder.prepare("image", image) for image in images])
    tensors = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - MEAN[0]) / STD[0]
    batches = [batch.contiguous(memory_format=torch.channels_last) for batch in torch.split(tensors, BATCH)]
    with torch.inference_mode():
        model.extract_features(batches[0])
        barrier.wait()
        start = time.time()
        for batch in batches:
            model.extract_features(batch).mean((2, 3))
    ends.put((start, time.time()))


def bare_rate(images: list[Any], workers: int, threads: int) -> float:
    """Images/s of the bare side."""
    context = multiprocessing.get_context("spawn")
    barrier, ends = context.Barrier(workers), context.Queue()
    processes = [
        context.Process(target=bare_loop, args=(images[place::workers], threads, barrier, ends))
        for place in range(workers)
    ]
    for process in processes:
        process.start()
    times: list[tuple[float, float]] = [ends.get() for _ in processes]
    for process in processes:
        process.join()
    return len(images) / (max(end for _, end in times) - min(start for start, _ in times))


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
            progress=lambda done, _: marks.append((done, time.perf_counter())),
        )
    return (marks[-1][0] - workers * chunk_rows) / (marks[-1][1] - marks[1][1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="per worker")
    parser.add_argument("--chunk-rows", type=int, default=250)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.images <= 2 * given.workers * given.chunk_rows:
        parser.error("--images must be more than two chunks for each worker")

    from raysal.fleet.ray_fleet import connect

    connect(None, given.workers * given.threads)
    images = images_of(given.images)
    source = Memory(images=images, keys=range(given.images))
    bare, job = [], []
    for _ in range(given.repeat):
        bare.append(bare_rate(images, given.workers, given.threads))
        job.append(job_rate(source, given.chunk_rows, given.workers, given.threads))
    result = {
        "images": given.images,
        "workers": given.workers,
        "threads": given.threads,
        "chunk_rows": given.chunk_rows,
        "bare_images_per_second": round(statistics.median(bare), 1),
        "job_images_per_second": round(statistics.median(job), 1),
        "ratio": round(statistics.median(job) / statistics.median(bare), 3),
        "bare_runs": [round(rate, 1) for rate in bare],
        "job_runs": [round(rate, 1) for rate in job],
    }
    if given.json:
        print(json.dumps(result))
    else:
        print(f"bare model  {result['bare_images_per_second']:>8} images/s  {result['bare_runs']}")
        print(f"embed job   {result['job_images_per_second']:>8} images/s  {result['job_runs']}")
        print(f"ratio       {result['ratio']:>8}")


if __name__ == "__main__":
    main()
