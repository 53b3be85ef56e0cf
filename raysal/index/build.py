"""Building the index of a pool: train once, code every shard beside the data, measure, put in place in one step."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysal.errors import Damaged, FingerprintMismatch, PoolError
from raysal.fleet import Fleet
from raysal.index.coverage import DRIFTED, drift, quantisation_errors, vectors_sha256
from raysal.index.files import CURRENT, FOLDER, TRAINED, Index, Shard, generations, in_force, open_index
from raysal.index.kinds import empty_index, lists_of, load_faiss, prepared, read_faiss, train
from raysal.index.plan import IndexPlan
from raysal.index.recall import sampled, tuned
from raysal.index.shards import code_shards, intact, training_vectors, write_index
from raysal.pool import Pool
from raysal.rng import derive
from raysal.store import TEMPORARY, locked, publish_directory, remove_temporaries, sha256_of, write_sealed

Report = Callable[[str, int, int], None]
"""(stage, done, total)"""
OUTGROWN = 4
"""Times as many rows as were there at training, from which more lists are wanted."""


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
    """Build an index as planned over the pool of an open fleet, and put it in force.

    What was trained before is used again, and with it every shard whose chunks are the same, if the plan asks for the
    same kind and the rows added since lie no further from their centroids (drift below DRIFTED); not when `fresh`.
    The old index stays in force until the new one is whole; a build that fails or is killed changes nothing.
    Equal pools, plans and seeds give equal files, for any partitions.

    Memory: `plan.build_bytes`. Round trips: a few, one for each shard of a partition, and those of measuring.

    Raises:
        RunError: another build is under way.
        PoolError: the disk is full.
        Damaged: a file of the pool is not what was written.
    """
    load_faiss()
    tell = report or unheard
    folder = pool.path / FOLDER
    folder.mkdir(exist_ok=True)
    with locked(folder, "index"):
        remove_temporaries(folder)
        number = max([0, *map(int, generations(pool.path))]) + 1
        final = folder / f"{number:04d}"
        temporary = folder / f"{TEMPORARY}{final.name}-{os.getpid()}"
        temporary.mkdir()
        try:
            old = None if fresh else reusable(pool, plan, seed)
            index = started(pool, temporary, plan, target_recall, seed)
            index = trained(pool, fleet, index, plan, tell) if old is None else taken_over(pool, index, old)
            index = coded(pool, fleet, index, plan, old, tell)
            tell("measuring recall", 0, 1)
            fleet.reset()
            index = tuned(fleet, index)
            tell("measuring recall", 1, 1)
            index.write()
            publish_directory(temporary, final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        before = ""
        with contextlib.suppress(Damaged):
            before = in_force(pool.path)
        write_sealed(folder / CURRENT, {"generation": final.name})
        for name in set(generations(pool.path)) - {final.name, before}:  # who still reads the one before may go on
            shutil.rmtree(folder / name)
    fleet.reset()
    return replace(index, path=final)


def unheard(stage: str, done: int, total: int) -> None:
    """Nobody listens."""
    del stage, done, total


def started(pool: Pool, path: Path, plan: IndexPlan, target_recall: float, seed: int) -> Index:
    """What is known of the index before it is built."""
    return Index(
        path=path,
        kind=plan.kind,
        why=plan.why,
        factory=plan.factory,
        metric=pool.metric,
        dim=pool.dim,
        rows=plan.rows,
        encoder=str(pool.manifest.encoder["fingerprint"]),
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


def reusable(pool: Pool, plan: IndexPlan, seed: int) -> Index | None:
    """The index in force, if what it was trained on still serves."""
    try:
        old = open_index(pool)
        same = (old.kind, old.shard_rows, old.seed) == (plan.kind, plan.shard_rows, seed)
        if same and plan.rows < OUTGROWN * old.trained_at and drift(pool, old) < DRIFTED:
            return old
    except (PoolError, FingerprintMismatch):  # there is none, or it is damaged or of something else: built anew
        pass
    return None


def trained(pool: Pool, fleet: Fleet, index: Index, plan: IndexPlan, report: Report) -> Index:
    """Train on a uniform sample of the pool, the rows of lowest hash; one process, seeded."""
    report("training", 0, 1)
    empty = empty_index(plan.factory, pool.dim, pool.metric, derive(index.seed, "index", "train"))
    error = None
    if plan.training_rows:
        fleet.reset()
        ids = sampled(fleet, derive(index.seed, "index", "sample"), plan.training_rows)
        vectors = prepared(gathered(fleet, ids), pool.metric)
        train(empty, vectors)
        error = float(quantisation_errors(empty, vectors).mean())
    path = index.path / TRAINED
    write_index(empty, path)
    report("training", 1, 1)
    return replace(index, trained=sha256_of(path), error=error)


def gathered(fleet: Fleet, ids: NDArray[np.int64]) -> NDArray[np.float16]:
    """The vectors [n, d] of ascending ids. Partitions are runs of rows, so theirs come in that order."""
    return np.concatenate([vectors for _, vectors in fleet.each(training_vectors, ids)])


def taken_over(pool: Pool, index: Index, old: Index) -> Index:
    """What the old index was trained to be."""
    link(intact(old.path / TRAINED, old.trained, pool), index.path / TRAINED)
    inverted = lists_of(read_faiss(index.path / TRAINED, mapped=False))
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


def coded(pool: Pool, fleet: Fleet, index: Index, plan: IndexPlan, old: Index | None, report: Report) -> Index:
    """Code the shards that cannot be taken over, one per partition at a time."""
    done: dict[int, Shard] = {}
    todo: list[tuple[str, int, int]] = []
    for number, (first, last, _) in enumerate(plan.shards):
        file = f"{number:05d}.faiss"
        before = None if old is None else kept(pool, index, old, first, last)
        if old is None or before is None:
            todo.append((file, first, last))
        else:
            link(old.path / before.file, index.path / file)
            done[first] = replace(before, file=file)
    total = len(plan.shards)
    while todo:
        report("coding", total - len(todo), total)
        fleet.reset()  # a partition that dies is not made to code all over again what is done
        now, todo = tuple(todo[: fleet.size]), todo[fleet.size :]
        made = fleet.each(code_shards, index.located(), index.trained, now, fleet.size)
        done |= {shard.first: shard for part in made for shard in part}
    report("coding", total, total)
    return replace(index, shards=tuple(done[first] for first in sorted(done)))


def kept(pool: Pool, index: Index, old: Index, first: int, last: int) -> Shard | None:
    """The shard of the old index that covers these chunks and no others, unchanged since and undamaged."""
    same = slice(first, last + 1)
    for shard in old.shards:
        if (shard.first, shard.last) == (first, last) and old.chunks[same] == index.chunks[same]:
            with contextlib.suppress(PoolError):
                intact(old.path / shard.file, shard.sha256, pool)
                return shard
    return None


def link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
