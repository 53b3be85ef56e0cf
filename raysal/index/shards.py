"""The part of an index that runs beside the data: code its shards, search them, and rank the rows found.

Partition i of p searches the shards i, i + p, i + 2p ..., whichever rows it holds itself. The partitions that hold the
rows found then drop the excluded ones and rank the others. So the cut of the index and the cut of the fleet are
independent, and results depend on neither.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.errors import Damaged, FingerprintMismatch, PoolError
from raysal.fleet import Partition
from raysal.index.files import FOLDER, REBUILD_FIX, TRAINED, IndexLocation, Shard
from raysal.index.kinds import (
    CODE_ROWS,
    add_rows,
    apply_rotation,
    faiss_message,
    faiss_threads,
    inverted_lists,
    is_inverted,
    load_faiss,
    prepare_vectors,
    read_faiss,
)
from raysal.pool import Pool
from raysal.scoring.similarity import similarities
from raysal.scoring.top_k import BestItems, best_of
from raysal.store import check_bytes, check_size, sha256_of, write_file

HELD_KEY = "index"
"""Where a partition keeps its `LoadedShards`."""
ANCHORS_PER_PRODUCT = 64
"""Anchors ranked together: one matrix product takes all rows found for any of them."""
WRITE_BYTES = 2**22
"""Bytes written at a time."""
MAX_GPU_NEIGHBOURS = 2048
"""Neighbours that one search on a GPU can return."""


@dataclass
class LoadedShards:
    """The shards that a partition has read."""

    pool: Pool
    shards: dict[tuple[str, int], tuple[Any, NDArray[np.int64]]] = field(default_factory=dict)
    """(sha256, first chunk) -> (the FAISS index, the ids of its rows)"""


def training_vectors(partition: Partition, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    """(ids, vectors float16) of those of `ids` that this partition holds; half the size of `vectors_of`."""
    rows = partition.rows_of(ids)
    return partition.ids[rows], partition.gather(rows)


def code_shards(
    partition: Partition, where: IndexLocation, trained: str, shards: tuple[tuple[str, int, int], ...], parts: int
) -> list[Shard]:
    """Code and write this partition's share of some shards.

    Args:
        partition: takes every `parts`-th shard, from its own number on.
        where: the new index.
        trained: sha256 of its trained file.
        shards: (file, first chunk, last chunk) of each.
        parts: how many partitions there are.

    Returns:
        The shards written.

    Raises:
        Damaged: a chunk, or the trained index, is not as it was written.
        PoolError: a file cannot be written.
    """
    mine = shards[partition.index :: parts]
    return [code_shard(partition, where, trained, *shard) for shard in mine]


def code_shard(partition: Partition, where: IndexLocation, trained: str, file: str, first: int, last: int) -> Shard:
    """Code and write one shard; see `code_shards`."""
    pool = partition.spec.open_pool()
    folder = index_folder(pool, where)
    index = read_faiss(verified_path(folder / TRAINED, trained, pool), mapped=False)
    # A graph's links depend on the order in which threads add rows: several threads would make another graph each time.
    with faiss_threads(1 if hasattr(index, "hnsw") else partition.spec.threads):
        for chunk in pool.chunks[first : last + 1]:
            vectors = chunk.mapped()  # also of removed items: a shard lasts as long as its files
            for start in range(0, len(vectors), CODE_ROWS):
                add_rows(index, prepare_vectors(vectors[start : start + CODE_ROWS], where.metric))
    path = folder / file
    write_index(index, path)
    return Shard(
        file=file, first=first, last=last, rows=index.ntotal, bytes=path.stat().st_size, sha256=sha256_of(path)
    )


def write_index(index: Any, path: Path) -> None:
    """Write an index completely or not at all.

    Python opens the file: FAISS's own writer does not notice when the last bytes of a file cannot be written.

    Args:
        index: a FAISS index.
        path: the file.

    Raises:
        PoolError: the disk is full, or cannot be written.
    """
    faiss = load_faiss()

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            faiss.write_index(index, faiss.PyCallbackIOWriter(file.write, WRITE_BYTES))

    try:
        write_file(path, write)
    except (OSError, RuntimeError) as error:
        problem = (error.strerror if isinstance(error, OSError) else None) or faiss_message(error)
        raise PoolError(
            path, f"cannot be written ({problem})", "free some space and build again; the pool is as it was"
        ) from None


def index_folder(pool: Pool, where: IndexLocation) -> Path:
    """The directory of an index's generation."""
    return pool.path / FOLDER / where.folder


def verified_path(path: Path, sha256: str, pool: Pool) -> Path:
    """The path of an index file, after its bytes were compared with `sha256`. Raises Damaged where they differ."""
    fix = REBUILD_FIX.format(pool=pool.path)
    check_bytes(path, sha256, fix)
    return path


def load_own_shards(partition: Partition, where: IndexLocation, parts: int) -> list[tuple[Any, NDArray[np.int64]]]:
    """Load this partition's share of the shards, once.

    Before a shard is read, every byte is compared with its record, and the encoder with the pool's. Shards of another
    generation are dropped. Memory: the files of the shards (inverted lists are mapped) and 8 bytes a row.

    Args:
        partition: takes every `parts`-th shard, from its own number on.
        where: the index.
        parts: how many partitions there are.

    Returns:
        The FAISS index and the ids [n] of its rows, for each shard.

    Raises:
        FingerprintMismatch: the index is of another encoder.
        Damaged: a file is missing, truncated or altered.
    """
    own = partition.held.get(HELD_KEY)
    if own is None:
        own = partition.held[HELD_KEY] = LoadedShards(partition.spec.open_pool())
    mine = {(shard.sha256, shard.first): shard for shard in where.shards[partition.index :: parts]}
    if own.shards.keys() != mine.keys():
        if not mine.keys() <= own.shards.keys():
            own.pool = partition.spec.open_pool()  # the pool may have grown
        same = {name: own.shards[name] for name in mine if name in own.shards}
        own.shards = {
            name: same[name] if name in same else load_shard(partition, own.pool, where, shard)
            for name, shard in mine.items()
        }
    return list(own.shards.values())


def load_shard(partition: Partition, pool: Pool, where: IndexLocation, shard: Shard) -> tuple[Any, NDArray[np.int64]]:
    """Load one shard; see `load_own_shards`."""
    fix = REBUILD_FIX.format(pool=pool.path)
    encoder = pool.vector_space
    if encoder != where.encoder:
        raise FingerprintMismatch(index_folder(pool, where), "its encoder's fingerprint", encoder, where.encoder, fix)
    path = index_folder(pool, where) / shard.file
    check_size(path, shard.bytes, fix)
    index = read_faiss(verified_path(path, shard.sha256, pool), mapped=is_inverted(where.kind))
    chunks = pool.chunks[shard.first : shard.last + 1]
    ids = np.concatenate([np.empty(0, np.int64), *(chunk.stored_ids() for chunk in chunks)])
    if index.ntotal != shard.rows or len(ids) != shard.rows:
        raise Damaged(path, f"{index.ntotal} rows for {len(ids)} items of the pool", fix)
    return move_to_device(index, partition), ids


def move_to_device(index: Any, partition: Partition) -> Any:
    """Move an index to the partition's GPU, through cuVS if this FAISS has it.

    This was never run on a GPU: there was no machine with a GPU and a FAISS for it.

    Args:
        index: a FAISS index on the CPU.
        partition: says which device it uses.

    Returns:
        A `GpuIndex`, or the same index where FAISS or the kind has no form for a GPU.
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
    except RuntimeError:  # graphs and one-bit codes have no form for a GPU
        return index
    return GpuIndex(moved, index, resources)


class GpuIndex:
    """An index on a GPU, and the same index on the CPU for searches that return more rows than a GPU can."""

    def __init__(self, on_gpu: Any, on_cpu: Any, resources: Any) -> None:
        self.on_gpu, self.on_cpu, self.resources = on_gpu, on_cpu, resources
        self.ntotal = on_cpu.ntotal


def fetch_nearest(
    partition: Partition, where: IndexLocation, anchors: NDArray[np.float32], count: int, probes: int, parts: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    """Find the nearest rows in this partition's share of the shards, by their codes. Excluded rows are among them.

    Cost: `probes` lists of each shard for each anchor.

    Args:
        partition: takes every `parts`-th shard, from its own number on.
        where: the index.
        anchors: float32 [a, width], from `prepare_vectors`.
        count: rows wanted for each anchor.
        probes: how much is looked at.
        parts: how many partitions there are.

    Returns:
        ids [a, count] and similarities [a, count], best first; a tie goes to the lower id, and -1 fills up. None where
        this generation of the index is gone: an error would end the program, which can go on with the current one.

    Raises:
        Damaged: a file of the generation is missing, truncated or altered.
    """
    best_ids = np.full((len(anchors), 0), -1, np.int64)
    best = np.full((len(anchors), 0), -np.inf, np.float32)
    try:
        shards = load_own_shards(partition, where, parts)
    except Damaged:
        if index_folder(partition.spec.open_pool(), where).is_dir():
            raise
        return None
    for index, ids in shards:
        with faiss_threads(partition.spec.threads):
            values, rows = search_shard(index, anchors, min(count, len(ids)), probes)
        near = values if where.metric == "cosine" else -values
        found = np.where(rows >= 0, ids[rows], -1)
        near = np.where(rows >= 0, near, -np.inf).astype(np.float32)
        best_ids, best = merge_best([best_ids, found], [best, near], count)
    return best_ids, best


def search_shard(index: Any, anchors: NDArray[np.float32], count: int, probes: int) -> tuple[Any, NDArray[np.int64]]:
    """FAISS's (distances, rows) of one shard. Files do not keep the settings of a search, so each search sets them."""
    if isinstance(index, GpuIndex):
        index = index.on_gpu if count <= MAX_GPU_NEIGHBOURS else index.on_cpu
    if len(anchors) == 0 or count == 0:
        return np.empty((len(anchors), 0), np.float32), np.empty((len(anchors), 0), np.int64)
    index, anchors = apply_rotation(index, anchors)
    inverted = inverted_lists(index)
    if inverted is not None:
        inverted.nprobe = max(min(probes, inverted.nlist), 1)
    elif hasattr(index, "nprobe"):  # on a GPU
        index.nprobe = max(min(probes, index.nlist), 1)
    elif hasattr(index, "hnsw"):
        index.hnsw.efSearch = max(probes, count)
    return index.search(anchors, count)  # type: ignore[no-any-return]


def merge_best(
    ids: list[NDArray[np.int64]], values: list[NDArray[np.float32]], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Merge lists of neighbours.

    Args:
        ids: arrays [a, m] with a row for each anchor.
        values: their similarities.
        count: how many to keep for each anchor.

    Returns:
        The `count` best ids and similarities of each row, best first; a tie goes to the lower id.
    """
    every, near = np.concatenate(ids, 1), np.concatenate(values, 1)
    order = np.lexsort((every, -near), axis=1)[:, :count]
    return np.take_along_axis(every, order, 1), np.take_along_axis(near, order, 1)


def rank_exactly(
    partition: Partition, wanted: NDArray[np.int64], anchors: NDArray[np.float32], each: int, ties: int | None
) -> tuple[list[BestItems], int]:
    """Rank rows that a search found, by exact similarity, where they live. Excluded rows are dropped.

    Args:
        partition: ranks the rows that it holds.
        wanted: ids [a, m] found for each anchor; -1 is none.
        anchors: vectors [a, d].
        each: how many to keep for each anchor.
        ties: key of the hash that orders items of equal similarity; None for the lower id.

    Returns:
        (ids, similarities) for each anchor, best first, and how many rows of this partition are available.
    """
    found: list[BestItems] = []
    for start in range(0, len(anchors), ANCHORS_PER_PRODUCT):
        some, few = wanted[start : start + ANCHORS_PER_PRODUCT], anchors[start : start + ANCHORS_PER_PRODUCT]
        rows = partition.rows_of(np.unique(some[some >= 0]))
        rows = rows[partition.available[rows]]
        ids, values = partition.ids[rows], similarities(partition, rows, few).cpu().numpy()
        for column, own in enumerate(some):
            mine = np.isin(ids, own)
            found.append(best_of(ids[mine], values[mine, column], each, ties=ties))
    return found, int(partition.available.sum())
