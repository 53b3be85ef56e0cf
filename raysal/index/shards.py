"""What is done beside the data: coding the shards of an index, searching them, and ranking what was found.

A shard is searched by the partition whose turn it is, whatever rows that partition has itself; what was found is then
ranked, and rows that are excluded are dropped, where the rows live. So the cut of the index and the cut of the fleet
have nothing to do with each other, and results depend on neither.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.errors import Damaged, FingerprintMismatch, PoolError
from raysal.fleet import Partition
from raysal.index.files import AGAIN, FOLDER, TRAINED, Located, Shard
from raysal.index.kinds import (
    CODED,
    add,
    first_line,
    is_inverted,
    lists_of,
    load_faiss,
    prepared,
    read_faiss,
    threads,
    turned,
)
from raysal.pool import Pool
from raysal.scoring.similarity import similarities
from raysal.scoring.sweep import Ranked
from raysal.scoring.top_k import best_of
from raysal.store import check_bytes, check_size, sha256_of, write_file

HELD = "index"
GROUP = 64
"""Anchors ranked together: the rows found for any of them take part in one product."""
PIECE = 2**22
"""Bytes written at a time."""
GPU_MOST = 2048
"""Neighbours that a search on a GPU can return."""


@dataclass
class Loaded:
    """The shards one partition has read, by sha256 and first chunk: the FAISS index, and the id of each of its rows."""

    pool: Pool
    shards: dict[tuple[str, int], tuple[Any, NDArray[np.int64]]] = field(default_factory=dict)


def training_vectors(partition: Partition, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    """(ids, vectors) of those of `ids` that live here; half the size of `vectors_of`."""
    rows = partition.rows_of(ids)
    return partition.ids[rows], partition.gather(rows)


def code_shards(
    partition: Partition, where: Located, trained: str, shards: tuple[tuple[str, int, int], ...], parts: int
) -> list[Shard]:
    """Write those of `shards` (file, first chunk, last) whose turn is this partition's of `parts`.

    `trained` is the sha256 of the trained index.

    Raises:
        Damaged: a chunk, or the trained index, is not what was written.
        PoolError: a file cannot be written.
    """
    mine = shards[partition.index :: parts]
    return [code_shard(partition, where, trained, *shard) for shard in mine]


def code_shard(partition: Partition, where: Located, trained: str, file: str, first: int, last: int) -> Shard:
    pool = Pool(Path(partition.spec.pool))
    folder = folder_of(pool, where)
    index = read_faiss(intact(folder / TRAINED, trained, pool), mapped=False)
    # Links are made in the order threads come: with several, a graph would be another one every time.
    with threads(1 if hasattr(index, "hnsw") else partition.spec.threads):
        for chunk in pool.chunks[first : last + 1]:
            vectors = chunk.vectors()
            for start in range(0, len(vectors), CODED):
                add(index, prepared(vectors[start : start + CODED], where.metric))
    path = folder / file
    write_index(index, path)
    return Shard(
        file=file, first=first, last=last, rows=index.ntotal, bytes=path.stat().st_size, sha256=sha256_of(path)
    )


def write_index(index: Any, path: Path) -> None:
    """Write an index whole or not at all. Raises: PoolError: the disk is full, or cannot be written.

    Through a file of Python's: FAISS's own does not notice when the last bytes of a file cannot be written.
    """
    faiss = load_faiss()

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            faiss.write_index(index, faiss.PyCallbackIOWriter(file.write, PIECE))

    try:
        write_file(path, write)
    except (OSError, RuntimeError) as error:
        problem = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        raise PoolError(
            path, f"cannot be written ({problem})", "free some space and build again; the pool is as it was"
        ) from None


def folder_of(pool: Pool, where: Located) -> Path:
    return pool.path / FOLDER / where.folder


def intact(path: Path, sha256: str, pool: Pool) -> Path:
    """The path of a file of an index, whose bytes were compared. Raises: Damaged."""
    fix = AGAIN.format(pool=pool.path)
    check_bytes(path, sha256, fix)
    return path


def loaded(partition: Partition, where: Located, parts: int) -> list[tuple[Any, NDArray[np.int64]]]:
    """The shards whose turn is this partition's of `parts`, read once.

    Every byte is compared with the record first, and the encoder with the pool's. Shards of another generation are let
    go of. Memory: the files of the shards (inverted lists are mapped) and 8 bytes a row.

    Raises:
        FingerprintMismatch: the index is of another encoder.
        Damaged: a file is missing, truncated or altered.
    """
    own = partition.held.get(HELD)
    if own is None:
        own = partition.held[HELD] = Loaded(Pool(Path(partition.spec.pool)))
    mine = {(shard.sha256, shard.first): shard for shard in where.shards[partition.index :: parts]}
    if own.shards.keys() != mine.keys():
        if not mine.keys() <= own.shards.keys():
            own.pool = Pool(Path(partition.spec.pool))  # it may have grown since
        kept = {name: own.shards[name] for name in mine if name in own.shards}
        own.shards = {
            name: kept[name] if name in kept else load(partition, own.pool, where, shard)
            for name, shard in mine.items()
        }
    return list(own.shards.values())


def load(partition: Partition, pool: Pool, where: Located, shard: Shard) -> tuple[Any, NDArray[np.int64]]:
    fix = AGAIN.format(pool=pool.path)
    encoder = str(pool.manifest.encoder["fingerprint"])
    if encoder != where.encoder:
        raise FingerprintMismatch(folder_of(pool, where), "its encoder's fingerprint", encoder, where.encoder, fix)
    path = folder_of(pool, where) / shard.file
    check_size(path, shard.bytes, fix)
    index = read_faiss(intact(path, shard.sha256, pool), mapped=is_inverted(where.kind))
    chunks = pool.chunks[shard.first : shard.last + 1]
    ids = np.concatenate([np.empty(0, np.int64), *(chunk.ids() for chunk in chunks)])
    if index.ntotal != shard.rows or len(ids) != shard.rows:
        raise Damaged(path, f"{index.ntotal} rows for {len(ids)} items of the pool", fix)
    return on_device(index, partition), ids


def on_device(index: Any, partition: Partition) -> Any:
    """The index on the partition's GPU, through cuVS if this FAISS has it, where FAISS and the kind can; else as it is.

    This has never run on a GPU: none was at hand with a FAISS that knows of it.
    """
    faiss = load_faiss()
    if partition.device.type != "cuda" or faiss.get_num_gpus() == 0:
        return index
    options = faiss.GpuClonerOptions()
    if hasattr(options, "use_cuvs"):
        options.use_cuvs = "CUVS" in faiss.get_compile_options().upper()
    resources = faiss.StandardGpuResources()
    try:
        moved = faiss.index_cpu_to_gpu(resources, partition.device.index or 0, index, options)
    except RuntimeError:  # graphs and one-bit codes have no form there
        return index
    return OnGpu(moved, index, resources)


class OnGpu:
    """An index on a GPU, and the same on the CPU for searches that return more than a GPU can."""

    def __init__(self, there: Any, here: Any, resources: Any) -> None:
        self.there, self.here, self.resources = there, here, resources
        self.ntotal = here.ntotal


def fetch(
    partition: Partition, where: Located, anchors: NDArray[np.float32], count: int, probes: int, parts: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    """(ids [a, count], similarities [a, count]) of the rows that the shards here hold nearest, as the codes tell;
    anchors [a, width] are as `prepared` makes them. Best first, ties to the lower id; -1 fills up. None where this
    generation of the index is gone: an error would end the program, which goes on with the one in force.

    What is excluded is among them. Cost: `probes` lists of each shard for each anchor.
    """
    best_ids = np.full((len(anchors), 0), -1, np.int64)
    best = np.full((len(anchors), 0), -np.inf, np.float32)
    try:
        shards = loaded(partition, where, parts)
    except Damaged:
        if folder_of(Pool(Path(partition.spec.pool)), where).is_dir():
            raise
        return None
    for index, ids in shards:
        with threads(partition.spec.threads):
            values, rows = searched(index, anchors, min(count, len(ids)), probes)
        near = values if where.metric == "cosine" else -values
        found = np.where(rows >= 0, ids[rows], -1)
        near = np.where(rows >= 0, near, -np.inf).astype(np.float32)
        best_ids, best = first_of([best_ids, found], [best, near], count)
    return best_ids, best


def searched(index: Any, anchors: NDArray[np.float32], count: int, probes: int) -> tuple[Any, NDArray[np.int64]]:
    """FAISS's (distances, rows). The settings of a search are set at every search, for files do not keep them."""
    if isinstance(index, OnGpu):
        index = index.there if count <= GPU_MOST else index.here
    if len(anchors) == 0 or count == 0:
        return np.empty((len(anchors), 0), np.float32), np.empty((len(anchors), 0), np.int64)
    index, anchors = turned(index, anchors)
    inverted = lists_of(index)
    if inverted is not None:
        inverted.nprobe = max(min(probes, inverted.nlist), 1)
    elif hasattr(index, "nprobe"):  # on a GPU
        index.nprobe = max(min(probes, index.nlist), 1)
    elif hasattr(index, "hnsw"):
        index.hnsw.efSearch = max(probes, count)
    return index.search(anchors, count)  # type: ignore[no-any-return]


def first_of(
    ids: list[NDArray[np.int64]], values: list[NDArray[np.float32]], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `count` best of lists [a, m] laid side by side, each row by itself; ties to the lower id."""
    every, near = np.concatenate(ids, 1), np.concatenate(values, 1)
    order = np.lexsort((every, -near), axis=1)[:, :count]
    return np.take_along_axis(every, order, 1), np.take_along_axis(near, order, 1)


def rank(
    partition: Partition, wanted: NDArray[np.int64], anchors: NDArray[np.float32], each: int
) -> tuple[list[Ranked], int]:
    """For each anchor [a, d] the `each` best, by exact similarity, of the rows `wanted` for it [a, m] (-1 is none) that
    live here and are available; and how many rows here are."""
    found: list[Ranked] = []
    for start in range(0, len(anchors), GROUP):
        some, few = wanted[start : start + GROUP], anchors[start : start + GROUP]
        rows = partition.rows_of(np.unique(some[some >= 0]))
        rows = rows[partition.available[rows]]
        ids, values = partition.ids[rows], similarities(partition, rows, few).cpu().numpy()
        for column, own in enumerate(some):
            mine = np.isin(ids, own)
            found.append(best_of(ids[mine], values[mine, column], each))
    return found, int(partition.available.sum())
