"""Time and vectors of EfficientNet-Lite0 in bfloat16 and float16 beside float32, on this CPU.

    python -m benchmarks.precision [--images 64] [--repeat 3] [--threads 1]

The pictures are crops of scikit-learn's two photos, decoded already. The precisions take turns; ratios are those of the
medians. `cosine` is the smallest one with the vector of float32.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import get_args

import numpy as np


def crops(count: int, size: int = 224) -> list[np.ndarray]:
    """Crops of 250 pixels of the photos, scaled to `size`; the same ones every time."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(1)
    scenes = [Image.fromarray(scene) for scene in load_sample_images().images]
    found = []
    for number in range(count):
        left, top = int(rng.integers(300)), int(rng.integers(150))
        found.append(np.asarray(scenes[number % 2].crop((left, top, left + 250, top + 250)).resize((size, size))))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("--images", 64), ("--repeat", 3), ("--threads", 1)):
        parser.add_argument(name, type=int, default=value)
    options = parser.parse_args()
    import torch

    from raysal.embedding.efficientnet import EfficientNetLite0
    from raysal.embedding.precision import Precision, times_as_long
    from raysal.embedding.torch_model import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(options.threads)
    pictures, precisions = crops(options.images), get_args(Precision)
    print("product of 256 x 256, float32 = 1:", {p: round(times_as_long(p), 2) for p in precisions[1:]})
    for kind in ("", "fast"):
        encoders = {p: EfficientNetLite0(arg=kind, precision=p) for p in precisions}
        seconds: dict[str, list[float]] = {p: [] for p in precisions}
        vectors = {}
        for _ in range(options.repeat):
            for p, encoder in encoders.items():
                start = time.perf_counter()
                found = encoder.encode(pictures)
                seconds[p].append(time.perf_counter() - start)
                vectors[p] = found / np.linalg.norm(found, axis=1, keepdims=True)
        whole = statistics.median(seconds["float32"])
        for p in precisions:
            cosine = float((vectors[p] * vectors["float32"]).sum(1).min())
            name = f"efficientnet_lite0{':' * bool(kind)}{kind}"
            print(f"{name} {p}: time {statistics.median(seconds[p]) / whole:.2f}, cosine {cosine:.5f}")


if __name__ == "__main__":
    main()
