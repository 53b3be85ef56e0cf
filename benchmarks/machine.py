"""Shared by the benchmarks: what machine this is, pools of random vectors, and what a strategy may know over them."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.context import LabelledVectors, RoundContext
from raysal.fleet import Fleet, Partition
from raysal.models.head import Head
from raysal.numerics import ceil_div
from raysal.pool import ChunkStage, Manifest, Pool, PoolWriter
from raysal.store import digest_of

CHUNK_ROWS = 65536


def describe(device: str = "cpu") -> str:
    """One line that names the machine."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = models[0] if models else cpu
    gpu = f", {torch.cuda.get_device_name()}" if device.startswith("cuda") else ""
    return f"{cpu}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads{gpu}, torch {torch.__version__}"


def random_pool(path: Path, rows: int, dim: int, seed: int = 0, decay: float = 0.0) -> Pool:
    """A pool of `rows` Gaussian vectors around 64 centres, written chunk by chunk; reused if it is there.

    Axis j is scaled by (1 + j)^-decay: 0 is the hardest case for selection, real features have a falling spectrum.
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(64, dim)).astype(np.float32)
    scale = ((1 + np.arange(dim)) ** -decay).astype(np.float32)

    def rows_of(index: int, n: int) -> NDArray[np.float32]:
        del index
        which = rng.integers(len(centres), size=n)
        vectors: NDArray[np.float32] = scale * (centres[which] + rng.standard_normal((n, dim), dtype=np.float32))
        return vectors

    return made_pool(path, rows, dim, {"name": "random", "seed": seed, "decay": decay}, rows_of)


def made_pool(
    path: Path,
    rows: int,
    dim: int,
    source: Mapping[str, Any],
    rows_of: Callable[[int, int], NDArray[np.floating]],
    carried_of: Callable[[int, int], Mapping[str, Sequence[Any]]] | None = None,
) -> Pool:
    """A pool of `rows` made-up vectors, `rows_of(chunk, n)` [n, dim] at a time, with columns; reused if it is there."""
    if (path / "pool.json").exists():
        return Pool(path)
    manifest = Manifest(
        dim=dim,
        modality="vector",
        items=rows,
        chunks=ceil_div(rows, CHUNK_ROWS),
        chunk_rows=CHUNK_ROWS,
        encoder={"name": "precomputed", "fingerprint": digest_of({"dim": dim})},
        source={"name": source["name"], "fingerprint": digest_of({"rows": rows, **source})},
    )
    writer, stage = PoolWriter(path, manifest), ChunkStage(path, dim)
    for index in range(manifest.chunks):
        low, high = index * CHUNK_ROWS, min((index + 1) * CHUNK_ROWS, rows)
        staged = stage.write(
            index=index,
            first_id=low,
            vectors=rows_of(index, high - low).astype(np.float16),
            ids=np.arange(low, high),
            keys=[f"row-{i}" for i in range(low, high)],
            uris=[None] * (high - low),
            carried={} if carried_of is None else carried_of(index, high - low),
            quarantined=[],
        )
        writer.commit(staged)
    return Pool(path)


def random_head(pool: Pool, classes: int) -> Head:
    """A head with Gaussian weights for the vectors of a pool: scores cost the same whatever they say."""
    weight = np.random.default_rng(1).normal(size=(classes, pool.dim)) * 0.1
    return Head.of_weights(weight, np.zeros(classes), encoder=str(pool.manifest.encoder["fingerprint"]))


def context_of(
    fleet: Fleet,
    *,
    head: Head | None,
    ids: NDArray[np.int64],
    vectors: NDArray[np.float32],
    classes: Sequence[str] = (),
    k: int,
    key: int,
) -> RoundContext:
    """What a strategy may know, over the pool of an open fleet with these items labelled."""
    pool = Pool(fleet.each(pool_of)[0])
    known = LabelledVectors(ids=ids, vectors=vectors, classes=classes)
    return RoundContext(head=head, labelled=known, pool=pool, k=k, available=len(pool) - len(known), key=key)


def pool_of(partition: Partition) -> str:
    """The path of a partition's pool."""
    return partition.spec.pool
