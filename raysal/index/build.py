"""Build the index of a pool: train once, code every shard beside the data, measure recall, publish in one step."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysal.errors import Damaged, FingerprintMismatch, PoolError
from raysal.fleet import Fleet
from raysal.index.coverage import MAX_DRIFT, drift, quantisation_errors, vectors_sha256
from raysal.index.files import CURRENT, FOLDER, TRAINED, Index, Shard, current_generation, generations, open_index
from raysal.index.kinds import empty_index, inverted_lists, load_faiss, prepare_vectors, read_faiss, train_empty
from raysal.index.plan import IndexPlan
from raysal.index.recall import sample_ids, tune_recall
from raysal.index.shards import code_shards, training_vectors, verified_path, write_index
from raysal.pool import Pool
from raysal.rng import derive
from raysal.store import TEMPORARY, locked, publish_directory, remove_temporaries, sha256_of, write_sealed
from raysal.types import Report, no_report

RETRAIN_GROWTH = 4
"""From so many times the rows it was trained on, an index wants more lists and is trained anew."""


def build_index(
    pool: Pool,
    fleet: Fleet,
    plan: IndexPlan,
    *,
    target_recall: float = 0.95,
    seed: int = 0,
    fresh: bool = False,
    report: Report | None = None,
) -> Index:
    """Build an index as planned, and make it the pool's current one.

    The training of the current index is used again, and so is each of its shards whose chunks are unchanged, if the
    plan asks for the same kind and the rows added since lie no further from their centroids (drift below MAX_DRIFT).
    The old index stays current until the new one is complete; a build that fails or is killed changes nothing. Equal
    pools, plans and seeds give equal files, for any partitions.

    Memory: `plan.build_bytes`. Round trips: a few, one for each shard of a partition, and those that measure recall.

    Args:
        pool: what is indexed.
        fleet: is open over that pool. Its program ends.
        plan: from `plan_index`.
        target_recall: share of the 50 nearest that a search is to find.
        seed: for the rows trained on, the k-means and the items that measure recall.
        fresh: train and code everything anew.
        report: called with (stage, done, total).

    Returns:
        The index, with its measured recall.

    Raises:
        RunError: another build is at work.
        PoolError: the disk is full.
        Damaged: a file of the pool is not as it was written.
    """
    load_faiss()
    report = report or no_report
    folder = pool.path / FOLDER
    folder.mkdir(exist_ok=True)
    with locked(folder, "index"):
        remove_temporaries(folder)
        number = max([0, *map(int, generations(pool.path))]) + 1
        final = folder / f"{number:04d}"
        temporary = folder / f"{TEMPORARY}{final.name}-{os.getpid()}"
        temporary.mkdir()
        try:
            old = None if fresh else find_reusable(pool, plan, seed)
            index = initial_index(pool, temporary, plan, target_recall, seed)
            index = train_index(pool, fleet, index, plan, report) if old is None else reuse_training(pool, index, old)
            index = code_missing_shards(pool, fleet, index, plan, old, report)
            report("measuring recall", 0, 1)
            fleet.reset()
            index = tune_recall(fleet, index)
            report("measuring recall", 1, 1)
            index.write()
            publish_directory(temporary, final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        before = ""
        with contextlib.suppress(Damaged):
            before = current_generation(pool.path)
        write_sealed(folder / CURRENT, {"generation": final.name})
        for name in set(generations(pool.path)) - {final.name, before}:  # somebody may still read the one before
            shutil.rmtree(folder / name)
    fleet.reset()
    return replace(index, path=final)


def initial_index(pool: Pool, path: Path, plan: IndexPlan, target_recall: float, seed: int) -> Index:
    """Describe an index before it is built: without shards and training, with the plan's settings.

    Args:
        pool: what is indexed.
        path: the temporary directory of the generation.
        plan: from `plan_index`.
        target_recall: see `build_index`.
        seed: see `build_index`.

    Returns:
        The description; the steps of the build fill it in.
    """
    return Index(
        path=path,
        kind=plan.kind,
        why=plan.why,
        factory=plan.factory,
        metric=pool.metric,
        dim=pool.dim,
        rows=plan.rows,
        encoder=pool.vector_space,
        pool=pool.fingerprint,
        shards=(),
        chunks=tuple(vectors_sha256(chunk) for chunk in pool.chunks),
        shard_rows=plan.shard_rows,
        lists=plan.lists,
        probes=plan.probes,
        overfetch=plan.overfetch,
        disk_bytes=plan.disk_bytes,
        build_bytes=plan.build_bytes,
        search_bytes=plan.search_bytes,
        recall={},
        target_recall=target_recall,
        queries=0,
        seed=seed,
        training_rows=plan.training_rows,
        trained_at=plan.rows,
        trained="",
        error=None,
        faiss=str(load_faiss().__version__),
        built=time.time(),
    )


def find_reusable(pool: Pool, plan: IndexPlan, seed: int) -> Index | None:
    """The current index, if its training can be used again for this plan; else None."""
    try:
        old = open_index(pool)
        same = (old.kind, old.shard_rows, old.seed) == (plan.kind, plan.shard_rows, seed)
        if same and plan.rows < RETRAIN_GROWTH * old.trained_at and drift(pool, old) < MAX_DRIFT:
            return old
    except (PoolError, FingerprintMismatch):  # there is none, or it cannot be used: it is built anew
        pass
    return None


def train_index(pool: Pool, fleet: Fleet, index: Index, plan: IndexPlan, report: Report) -> Index:
    """Train on a uniform sample of the pool: the rows of lowest hash. One process trains, with the index's seed.

    Args:
        pool: what is indexed.
        fleet: is open over that pool.
        index: described by `initial_index`.
        plan: says how many rows are trained on.
        report: called with (stage, done, total).

    Returns:
        The index with the sha256 of its trained file and the error of its training.
    """
    report("training", 0, 1)
    empty = empty_index(plan.factory, pool.dim, pool.metric, derive(index.seed, "index", "train"))
    error = None
    if plan.training_rows:
        fleet.reset()
        ids = sample_ids(fleet, derive(index.seed, "index", "sample"), plan.training_rows)
        vectors = prepare_vectors(gather_vectors(fleet, ids), pool.metric)
        train_empty(empty, vectors)
        error = float(quantisation_errors(empty, vectors).mean())
    path = index.path / TRAINED
    write_index(empty, path)
    report("training", 1, 1)
    return replace(index, trained=sha256_of(path), error=error)


def gather_vectors(fleet: Fleet, ids: NDArray[np.int64]) -> NDArray[np.float16]:
    """The vectors float16 [n, d] of ascending ids. Partitions are runs of rows, so they answer in this order."""
    return np.concatenate([vectors for _, vectors in fleet.each(training_vectors, ids)])


def reuse_training(pool: Pool, index: Index, old: Index) -> Index:
    """Link the old index's trained file into the new one.

    Args:
        pool: what is indexed.
        index: described by `initial_index`.
        old: the current index.

    Returns:
        The index with the old one's training and search settings.

    Raises:
        Damaged: the old file is not as it was written.
    """
    link_or_copy(verified_path(old.path / TRAINED, old.trained, pool), index.path / TRAINED)
    inverted = inverted_lists(read_faiss(index.path / TRAINED, mapped=False))
    return replace(
        index,
        factory=old.factory,
        lists=0 if inverted is None else inverted.nlist,
        training_rows=old.training_rows,
        trained_at=old.trained_at,
        trained=old.trained,
        error=old.error,
        probes=old.probes,
        overfetch=old.overfetch,
    )


def code_missing_shards(
    pool: Pool, fleet: Fleet, index: Index, plan: IndexPlan, old: Index | None, report: Report
) -> Index:
    """Link the shards that are unchanged, and code the others beside the data, one per partition at a time.

    Args:
        pool: what is indexed.
        fleet: is open over that pool.
        index: trained.
        plan: says which chunks a shard holds.
        old: an index with the same training, or None.
        report: called with (stage, done, total).

    Returns:
        The index with its shards.
    """
    done: dict[int, Shard] = {}
    todo: list[tuple[str, int, int]] = []
    for number, (first, last, _) in enumerate(plan.shards):
        file = f"{number:05d}.faiss"
        before = None if old is None else find_same_shard(pool, index, old, first, last)
        if old is None or before is None:
            todo.append((file, first, last))
        else:
            link_or_copy(old.path / before.file, index.path / file)
            done[first] = replace(before, file=file)
    total = len(plan.shards)
    while todo:
        report("coding", total - len(todo), total)
        fleet.reset()  # a partition that dies then codes only the shards of this round trip again
        now, todo = tuple(todo[: fleet.size]), todo[fleet.size :]
        made = fleet.each(code_shards, index.location(), index.trained, now, fleet.size)
        done |= {shard.first: shard for part in made for shard in part}
    report("coding", total, total)
    return replace(index, shards=tuple(done[first] for first in sorted(done)))


def find_same_shard(pool: Pool, index: Index, old: Index, first: int, last: int) -> Shard | None:
    """The old index's shard of exactly these chunks, if they are unchanged and its file is sound; else None."""
    same = slice(first, last + 1)
    for shard in old.shards:
        if (shard.first, shard.last) == (first, last) and old.chunks[same] == index.chunks[same]:
            with contextlib.suppress(PoolError):
                verified_path(old.path / shard.file, shard.sha256, pool)
                return shard
    return None


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name. On a file system without links, copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
