"""Cells of `benchmarks.suite`: images to pools."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.suite_rows import CannotMeasure, Numbers, Setting


def embed_job(setting: Setting) -> Numbers:
    """As `benchmarks.embed`: the job over Ray beside the bare model in as many processes, in turn."""
    need("ray", "efficientnet_lite_pytorch")
    from benchmarks import embed
    from raysal.errors import SourceError
    from raysal.fleet.ray_fleet import connect
    from raysal.sources import Memory

    workers, chunk = 2, setting.sized(1024, 64)
    try:
        images = embed.images_of(setting.sized(12 * 1024, 4 * 2 * 64))
    except SourceError as error:
        raise CannotMeasure(f"no Fashion-MNIST ({error}); `make demo` fetches it") from error
    os.environ.setdefault(embed.NICENESS, "0")
    connect(None, workers)
    source = Memory(images=images, keys=range(len(images)))
    bare, job = [embed.bare_rate(images, workers, 1)], []
    for _ in range(setting.turns(3)):
        job.append(embed.job_rate(source, chunk, workers, 1))
        bare.append(embed.bare_rate(images, workers, 1))
    ratios = [rate / statistics.mean(bare[turn : turn + 2]) for turn, rate in enumerate(job)]
    rate = statistics.median(ratios)
    return {"rate": rate, "image_s": 1 / statistics.median(job), "bare_image_s": 1 / statistics.median(bare)}


def jpeg_folder(setting: Setting) -> Numbers:
    """`raysal.embed` of a folder in this process, without the start of the model, beside the bare model."""
    need("efficientnet_lite_pytorch")
    import torch

    import raysal
    from raysal.embedding.efficientnet import EfficientNetLite0, load_model

    size, batch = setting.sized(224, 64), 64
    folder = photos_of(setting)
    encoder = EfficientNetLite0(size=size)
    model = load_model(size, "cpu")
    count = len(list(folder.glob("*.jpg")))
    block = torch.randn(min(batch, count), 3, size, size).contiguous(memory_format=torch.channels_last)

    def bare() -> float:
        start = time.perf_counter()
        with torch.inference_mode():
            for _ in range(max(count // 4 // len(block), 1)):
                model.extract_features(block).mean((2, 3))
        return (time.perf_counter() - start) / (max(count // 4 // len(block), 1) * len(block))

    out = setting.own / "jpeg-pool"
    bare()
    times = [bare()]
    shutil.rmtree(out, ignore_errors=True)
    start = time.perf_counter()
    raysal.embed(folder, encoder, out=out)
    image_s = (time.perf_counter() - start) / count
    times.append(bare())
    bare_s = statistics.median(times)
    return {"image_s": image_s, "bare_image_s": bare_s, "rate": bare_s / image_s}


def photos_of(setting: Setting) -> Path:
    """JPEGs of 640 x 480 with the coarse and fine structure of photographs."""
    from PIL import Image

    count = setting.sized(512, 16)
    folder = setting.shared / f"photos-{count}"
    if not folder.exists():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        rng = np.random.default_rng(5)
        for place in range(count):
            pixels: Any = np.zeros((480, 640, 3), np.float32)
            for side, weight in ((6, 90.0), (24, 40.0), (96, 20.0)):
                coarse = rng.uniform(-1, 1, (side, side, 3)) * 127 + 128
                grown = Image.fromarray(coarse.astype(np.uint8)).resize((640, 480), Image.Resampling.BICUBIC)
                pixels += (np.asarray(grown, np.float32) - 128) * weight / 127
            pixels += rng.normal(0, 4, pixels.shape)
            Image.fromarray((pixels + 128).clip(0, 255).astype(np.uint8)).save(part / f"{place:05}.jpg", quality=90)
        part.rename(folder)
    return folder


def need(*packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            raise CannotMeasure(f"{package} is not installed; `make setup` brings it")
