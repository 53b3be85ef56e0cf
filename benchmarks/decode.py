"""JPEG files to squares and to vectors: with simplejpeg and without, by threads and processes, beside a bare loop.

    python -m benchmarks.decode [--rows decode threads job] [--images 256] [--repeat 3]

The pictures are scikit-learn's china.jpg, scaled, with the noise of a sensor (quality 90, colours thinned out). What is
compared takes turns in one run; a number is the median of its repeats.

- `decode`: processor time of one file of 500 to 4000 pixels to a square of 224, for `efficientnet_lite0`
  (`square_pixels`) and `:fast`, each with simplejpeg and without. For the first, simplejpeg's pixels become an image of
  Pillow again, because Pillow resizes: raysal does not do that.
- `threads`: how many times as many files two threads decode as one, and two processes, where freed
  memory is kept as in a job. And which stages let go of Python's lock: another thread that asks for it all
  the time, and that Python never has to let in, counts its turns.
- `job`: images/s of the embed job on a folder of photos (those of benchmarks.embed_jpeg), beside a bare loop: the same
  `prepare` of one file after the other, and the same model on each 64. Each run is a process of its own; loading the
  model does not count.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDES = (500, 1000, 2000, 4000)
SIZE = 224
LOOP = """
import sys, time
from pathlib import Path
import numpy as np
from raysal.embedding.efficientnet import EfficientNetLite0

photos, out, kind = sys.argv[1:]
encoder = EfficientNetLite0(arg=kind)
encoder.encode([np.zeros((224, 224, 3), np.uint8)] * 64)
files, found = sorted(Path(photos).iterdir()), []
start = time.perf_counter()
for first in range(0, len(files), 64):
    pixels = [encoder.prepare(file.name, file.read_bytes()) for file in files[first : first + 64]]
    found.append(encoder.encode(pixels).astype(np.float16))
np.save(out, np.concatenate(found))
print(len(files) / (time.perf_counter() - start))
"""
JOB = """
import sys
import numpy as np
from raysal.embedding.efficientnet import EfficientNetLite0
from raysal.embedding.job import embed
from raysal.sources.folder import Folder

photos, out, kind = sys.argv[1:]
encoder = EfficientNetLite0(arg=kind)
encoder.encode([np.zeros((224, 224, 3), np.uint8)] * 64)
print(embed(Folder(path=photos), encoder, out).items_per_second)
"""


def picture(side: int) -> bytes:
    """A JPEG file of `side` x 3/4 `side` pixels."""
    from sklearn.datasets import load_sample_images

    scene = Image.fromarray(load_sample_images().images[0]).resize((side, side * 3 // 4), Image.Resampling.LANCZOS)
    noisy = np.asarray(scene) + np.random.default_rng(0).normal(0, 4, (scene.height, scene.width, 1))
    packed = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(packed, "JPEG", quality=90)
    return packed.getvalue()


def square(fast: bool, simple: bool, data: bytes) -> Any:
    """The square of a file."""
    from raysal.embedding import jpeg
    from raysal.embedding.decode import fast_square_pixels, square_pixels

    if fast:
        decoder = jpeg.decoder
        jpeg.decoder = decoder if simple else lambda: None  # type: ignore[assignment]
        try:
            return fast_square_pixels("a", data, SIZE)
        finally:
            jpeg.decoder = decoder
    if not simple:
        return square_pixels("a", data, SIZE)
    with Image.open(io.BytesIO(data)) as image:  # what raysal would have to look at all the same
        image.getexif()
    decode = jpeg.decoder()
    assert decode is not None, "simplejpeg is not installed"
    return square_pixels("a", decode(data), SIZE)


def decode_rows(repeat: int) -> None:
    for side in SIDES:
        data = picture(side)
        ways = {
            (fast, simple): partial(square, fast, simple, data) for fast in (False, True) for simple in (False, True)
        }
        for fast in (False, True):
            assert np.array_equal(ways[fast, False](), ways[fast, True]()), "simplejpeg gives other pixels"
        spent: dict[tuple[bool, bool], list[float]] = {way: [] for way in ways}
        for _ in range(max(repeat, 7 * repeat * 500 // side)):
            for way, run in ways.items():
                start = time.thread_time()
                run()
                spent[way].append(time.thread_time() - start)
        ms = {way: 1e3 * statistics.median(times) for way, times in spent.items()}
        for fast in (False, True):
            name = "efficientnet_lite0" + ":fast" * fast
            ratio = ms[fast, True] / ms[fast, False]
            print(
                f"decode {side} px {name}: {ms[fast, False]:.2f} ms, with simplejpeg {ms[fast, True]:.2f} ({ratio:.2f})"
            )


def thread_rows(repeat: int) -> None:
    from raysal.embedding.torch_model import keep_freed_memory

    keep_freed_memory()
    lock_rows(picture(SIDES[0]))
    for side in (500, 2000):
        work, files = partial(square, True, True), [picture(side)] * (32 * 2000 // side)
        rates: dict[str, list[float]] = {"one": [], "threads": [], "processes": []}
        with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2) as processes:
            list(processes.map(_spent, [work] * 4, files[:4]))  # they start, and import
            for _ in range(repeat):
                rates["one"].append(_seconds(None, work, files))
                rates["threads"].append(_seconds(threads, work, files))
                rates["processes"].append(_seconds(processes, work, files))
        one, two, apart = (statistics.median(rates[name]) for name in ("one", "threads", "processes"))
        print(f"threads {side} px :fast: two threads do {one / two:.2f} x one, two processes {one / apart:.2f} x")


def lock_rows(data: bytes) -> None:
    """Which stages of `:fast` let go of Python's lock."""
    import torch

    from raysal.embedding.jpeg import decoder

    decode = decoder()
    assert decode is not None, "simplejpeg is not installed"
    bands = torch.from_numpy(decode(data))[None].permute(0, 3, 1, 2)

    def header() -> None:
        with Image.open(io.BytesIO(data)) as image:
            image.getexif()

    stages: dict[str, Callable[[], Any]] = {
        "header": header,
        "simplejpeg": partial(decode, data),
        "Pillow": lambda: Image.open(io.BytesIO(data)).load(),
        "resize": lambda: torch.nn.functional.interpolate(bands, (SIZE, SIZE), mode="bicubic", antialias=True),
        "all": partial(square, True, True, data),
    }
    for name, run in stages.items():
        run()
        start = time.thread_time()
        for _ in range(50):
            run()
        spent = (time.thread_time() - start) / 50
        print(f"lock {SIDES[0]} px {name}: {1e3 * spent:.2f} ms, {_turns(run):.0f} turns of another thread")


def _turns(run: Callable[[], Any], calls: int = 100) -> float:
    """How often another thread gets the lock in a call, though it may never take it away."""
    turns, ended, before = 0, False, sys.getswitchinterval()

    def other() -> None:
        nonlocal turns
        while not ended:
            turns += 1
            time.sleep(0)

    thread = threading.Thread(target=other)
    thread.start()
    sys.setswitchinterval(100)
    try:
        run()
        first = turns
        for _ in range(calls):
            run()
        return (turns - first) / calls
    finally:
        ended = True
        sys.setswitchinterval(before)
        thread.join()


def _spent(work: Callable[[bytes], Any], data: bytes) -> int:
    return int(work(data)[0, 0, 0])


def _seconds(executor: Executor | None, work: Callable[[bytes], Any], files: list[bytes]) -> float:
    start = time.perf_counter()
    list((executor.map if executor else map)(_spent, [work] * len(files), files))
    return time.perf_counter() - start


def job_rows(repeat: int, images: int) -> None:
    from benchmarks.embed_jpeg import make_photos

    with tempfile.TemporaryDirectory() as place:
        photos = Path(place, "photos")
        photos.mkdir()
        make_photos(photos, images)
        for kind in ("", "fast"):
            ratios, loops = [], []
            for turn in range(repeat):
                loop = _rate(LOOP, photos, Path(place, "loop.npy"), kind)
                job = _rate(JOB, photos, Path(place, f"pool-{kind}-{turn}"), kind)
                ratios.append(job / loop)
                loops.append(loop)
            name = "efficientnet_lite0" + ":fast" * bool(kind)
            print(
                f"job {name}, {images} photos: {statistics.median(ratios):.2f} x a bare loop "
                f"({min(ratios):.2f} to {max(ratios):.2f}; the loop {statistics.median(loops):.1f} images/s)"
            )


def _rate(code: str, *words: object) -> float:
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-P", "-c", code, *map(str, words)]
    return float(
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()[-1]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=["decode", "threads", "job"], default=["decode", "threads", "job"])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)  # of the resize
    print(f"load average {os.getloadavg()[0]:.1f}")
    if "decode" in options.rows:
        decode_rows(options.repeat)
    if "threads" in options.rows:
        thread_rows(options.repeat)
    if "job" in options.rows:
        job_rows(options.repeat, options.images)
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
