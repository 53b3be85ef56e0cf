"""Images/s of the embed job on a folder of JPEG files at 224 pixels, and of its `:fast`, beside another build.

    git worktree add ../before COMMIT
    python -m benchmarks.embed_jpeg --before ../before [--images 768] [--repeat 3] [--backend local] [--json]

The photos are crops of scikit-learn's two, scaled to 640 x 480 up to 1600 x 1200 pixels, each with a garment of
Fashion-MNIST blended in and the noise of a sensor: about 215 kB each. Every job is a process of its own, with the
settings that a user gets, but for the rows of a chunk; its rate leaves out the first two chunks, and with them the
start of Python and Ray and the loading of the model. The jobs take turns: before, after, fast, before ... Each later
rate is compared with that of the first side in the same turn, and the median of these ratios is the result. `cosine`
is of the vectors of the fast pool with those of the other one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SIZES = ((640, 480), (800, 600), (1024, 768), (1280, 960), (1600, 1200))
CHUNK_ROWS = 128
JOB = """
import json, sys, time
from raysal.embedding.efficientnet import EfficientNetLite0
from raysal.embedding.job import embed
from raysal.sources.folder import Folder

if __name__ == "__main__":
    photos, out, fields, backend, rows = sys.argv[1:]
    encoder = EfficientNetLite0(**json.loads(fields))
    marks = []
    report = lambda done, _: marks.append((done, time.perf_counter()))
    embed(Folder(path=photos), encoder, out, backend=backend, chunk_rows=int(rows), report=report)
    (before, start), (after, end) = marks[2], marks[-1]  # of Ray's two workers, each has done a chunk by then
    print((after - before) / (end - start))
"""


def make_photos(folder: Path, count: int, seed: int = 0) -> None:
    """Write `count` JPEG files, the same ones for the same seed."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    from benchmarks.embed import images_of

    rng = np.random.default_rng(seed)
    scenes = [Image.fromarray(scene) for scene in load_sample_images().images]
    for number, garment in enumerate(images_of(count)):
        width, height = SIZES[number % len(SIZES)][:: 1 if rng.random() < 0.7 else -1]
        scene = scenes[number % 2]
        across = int(rng.integers(300, scene.width))
        down = min(scene.height, max(200, across * height // width))
        left, top = int(rng.integers(scene.width - across + 1)), int(rng.integers(scene.height - down + 1))
        photo = scene.crop((left, top, left + across, top + down)).resize((width, height), Image.Resampling.LANCZOS)
        shape = Image.fromarray(garment).resize((min(width, height) * 2 // 3,) * 2, Image.Resampling.BICUBIC)
        place = int(rng.integers(width - shape.width)), int(rng.integers(height - shape.height))
        photo.paste(Image.new("RGB", shape.size, tuple(rng.integers(0, 256, 3).tolist())), place, shape)
        noisy = np.asarray(photo) + rng.normal(0, rng.uniform(1, 6), (height, width, 1))
        quality, thinned = int(rng.integers(80, 94)), int(rng.choice([0, 2, 2, 2]))
        pixels = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        pixels.save(folder / f"{number:05d}.jpg", quality=quality, subsampling=thinned)


def job_rate(tree: Path, photos: Path, out: Path, fields: dict[str, Any], backend: str) -> float:
    """Images/s of a job in a process with the code of a checkout."""
    words = [str(photos), str(out), json.dumps(fields), backend, str(CHUNK_ROWS)]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-P", "-c", JOB, *words]
    ran = subprocess.run(command, cwd=tree, env=environment, check=True, capture_output=True, text=True)
    return float(ran.stdout.split()[-1])


def cosines(one: Path, other: Path) -> Any:
    """The cosines [n] of the vectors of two pools of the same items."""
    import numpy as np

    from raysal.pool import open_pool

    a, b = (
        np.concatenate([chunk.vectors() for chunk in open_pool(path).chunks]).astype(float) for path in (one, other)
    )
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def measure(before: Path | None, images: int = 768, repeat: int = 3, backend: str = "local") -> dict[str, Any]:
    """The numbers of this module; without another build, those of this one alone."""
    here = Path(__file__).resolve().parents[1]
    sides: dict[str, tuple[Path, dict[str, Any]]] = {"after": (here, {}), "fast": (here, {"arg": "fast"})}
    if before is not None:
        sides = {"before": (before.resolve(), {}), **sides}
    rates: dict[str, list[float]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        make_photos(photos, images)
        size = sum(file.stat().st_size for file in photos.iterdir()) / images
        for turn in range(repeat):
            for side, (tree, fields) in sides.items():
                rates[side].append(job_rate(tree, photos, Path(folder) / f"{side}-{turn}", fields, backend))
        found = cosines(Path(folder) / "after-0", Path(folder) / "fast-0")
        same = [] if before is None else cosines(Path(folder) / "before-0", Path(folder) / "after-0")
    base = rates[next(iter(sides))]
    ratios = {
        side: statistics.median(rate / first for rate, first in zip(rates[side], base, strict=True))
        for side in list(sides)[1:]
    }
    return {
        "images": images,
        "bytes_per_image": round(size),
        "backend": backend,
        "images_per_second": {side: [round(rate, 1) for rate in found] for side, found in rates.items()},
        "ratios": {side: round(ratio, 2) for side, ratio in ratios.items()},
        "cosine": {"least": round(float(found.min()), 5), "mean": round(float(found.mean()), 6)},
        **({"least_cosine_to_before": float(min(same))} if before is not None else {}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of the build to compare with")
    parser.add_argument("--images", type=int, default=768)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--backend", choices=["local", "ray"], default="local")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    result = measure(given.before, given.images, given.repeat, given.backend)
    if given.json:
        print(json.dumps(result))
        return
    from benchmarks.machine import describe

    print(f"{describe()}; {result['images']} photos of {result['bytes_per_image']} bytes; {result['backend']}")
    for side, rates in result["images_per_second"].items():
        print(f"{side:8} {result['ratios'].get(side, 1.0):>6}   {rates} images/s")
    print(f"cosine of fast with after: least {result['cosine']['least']}, mean {result['cosine']['mean']}")
    if given.before is not None:
        print(f"cosine of after with before: least {result['least_cosine_to_before']:.9f}")


if __name__ == "__main__":
    main()
