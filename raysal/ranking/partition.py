"""The parts of ranking that run beside the data: chunks to a run, counts over runs, runs to pages and keys.

A run holds the items of some chunks, best first, and a second time in order of their keys' hashes. To make the pages
from one place to another, the slices of all runs between these places are sorted together: no step holds more than a
unit of chunks, or `MERGED_ROWS` items, whatever the size of the pool.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from raysal.arrow_values import array_of, numbers_of, taken
from raysal.commits import Staged, stage_file
from raysal.features import HiddenLayer
from raysal.fleet import Partition
from raysal.fleet.chunks import items_and_rows
from raysal.labels.records import STATES
from raysal.models.likelihood import likelihood_of
from raysal.pool.owners import OwnerOf
from raysal.ranking.hashing import text_hashes
from raysal.ranking.layout import (
    ID_FILE,
    RUN_FILE,
    TIES,
    Cuts,
    Plan,
    dictionary_of,
    key_cuts,
    key_files,
    key_parts,
    page_parts,
    read_batch,
    run_parts,
    write_batch,
)
from raysal.rng import item_order
from raysal.rounds.held_out import HeldOut
from raysal.scoring.base import Predicted
from raysal.scoring.inputs import ScoreInputs
from raysal.scoring.novelty.base import FittedNovelty
from raysal.scoring.quantile import sort_keys
from raysal.scoring.registry import SCORES
from raysal.scoring.row_values import row_values

MERGED_ROWS = 2**19
"""Items that are sorted together: about 150 MB."""
NOT_IN_A_PAGE = ("place", "hash", "hash_place")
HELD = "runs of a ranking"
"""What a partition keeps the mapped runs by."""


class Job(NamedTuple):
    """What travels to the partitions."""

    version: str
    """the directory of the version"""
    plan: Plan
    hidden_layer: HiddenLayer | None
    inputs: ScoreInputs | None
    """None for novelty, which needs no head"""
    novelty: FittedNovelty | None
    known: NDArray[np.int64]
    """[m] ids of the items that the ledger knew, ascending"""
    states: NDArray[np.int8]
    """[m] their states, as places in `STATES`"""
    asked: NDArray[np.int8]
    """[m] 1 for those that a round asked for, or that are examples: they train, even where they would be held out"""
    owners: OwnerOf | None = None
    """whose hash decides what is held out, where that is not the item's own"""


def places_of(values: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Where items stand (`raysal.ranking.layout`): the lower the better.

    Args:
        values: float32 [n], scores; none is NaN.
        ids: int64 [n].

    Returns:
        uint64 [n].
    """
    order = (item_order(TIES, ids) >> np.int64(32)) + np.int64(2**31)
    return (np.uint64(2**32 - 1) - sort_keys(values).astype(np.uint64)) << np.uint64(32) | order.astype(np.uint64)


def best_first(places: NDArray[np.uint64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The order of items by place, and within a place by `item_order`. O(n log n).

    Args:
        places: uint64 [n].
        ids: int64 [n], distinct.

    Returns:
        int64 [n].
    """
    order = np.argsort(places, kind="stable")
    ranked = places[order]
    if (ranked[1:] == ranked[:-1]).any():  # of items with one score, one of 2^32 pairs
        order = np.lexsort((item_order(TIES, ids), places))
    return order


def stage_run(partition: Partition, job: Job, wave: tuple[range | None, ...]) -> Staged | None:
    """Score this partition's unit of a round trip, and stage its run.

    Args:
        partition: holds the unit's first row.
        job: what is ranked.
        wave: for each partition its chunks, or None.

    Returns:
        The staged files, or None where this partition has no unit.

    Raises:
        FingerprintMismatch: the pool is not the one the job was made for.
        PoolError: an item has no score; the error names it.
    """
    chunks = wave[partition.index]
    if chunks is None:
        return None
    plan, version = job.plan, Path(job.version)
    items, partition, rows = items_and_rows(partition, plan.pool, chunks)
    values = values_of_items(partition, rows, job)
    ids = np.array(numbers_of(items["id"]))
    places = places_of(values[:, 0], ids)
    order = best_first(places, ids)
    if plan.top is not None:
        order = order[: plan.top]
    columns = run_columns(ids, places, items["key"], values, job, order)
    unit = plan.units().index(chunks)
    kept = np.sort(order)
    by_id = {"id": array_of(ids[kept], pa.int64()), "place": array_of(places[kept], pa.uint64())}
    files = (
        stage_file(version, RUN_FILE.format(unit), lambda path: write_batch(path, columns)),
        stage_file(version, ID_FILE.format(unit), lambda path: write_batch(path, by_id)),
    )
    return Staged(unit, len(order), files)


def values_of_items(partition: Partition, rows: NDArray[np.int64], job: Job) -> NDArray[np.float32]:
    """What a ranking holds of some rows.

    Args:
        partition: the rows' partition.
        rows: int64 [n], ascending positions.
        job: what is ranked.

    Returns:
        float32 [n, 3], as of `numbers_of_items`; [n, 1] where there is no head.

    Raises:
        PoolError: an item has no score; it names the item.
    """
    if job.novelty is not None:
        return job.novelty.scores(partition, rows)[:, None]
    assert job.inputs is not None
    if not len(rows):
        return np.empty((0, 3), np.float32)
    partition.use_features(job.hidden_layer)
    return row_values(partition, job.inputs, rows, lambda predicted: numbers_of_items(predicted, job.plan))


def numbers_of_items(predicted: Predicted, plan: Plan) -> torch.Tensor:
    """What a ranking holds of n items, float32 [n, 3]: the score, a probability or number, and the likeliest class.

    Args:
        predicted: what a head says of them.
        plan: of the ranking.

    Returns:
        The score; of the classes looked for the probability, or else that of the likeliest, or the predicted number;
        and the likeliest class, as a place in `Plan.classes`.
    """
    score, p = SCORES[plan.score](predicted), predicted.probabilities
    top, likeliest = p.max(0)
    if not predicted.likelihood.discrete:
        top = p[0]
    elif plan.target:
        top = SCORES["probability"](predicted)
    return torch.stack([score.float(), top.float(), likeliest.float()], 1)


def run_columns(
    ids: NDArray[np.int64],
    places: NDArray[np.uint64],
    keys: pa.ChunkedArray,
    values: NDArray[np.float32],
    job: Job,
    order: NDArray[np.int64],
) -> dict[str, pa.Array]:
    """The columns of a run.

    Args:
        ids: int64 [n].
        places: uint64 [n].
        keys: texts [n].
        values: float32 [n, 3] or [n, 1], as of `values_of_items`.
        job: what is ranked.
        order: the items that are kept, best first.

    Returns:
        Those of a page, with the place first; then the hashes of the keys in their order, with the places of these.
    """
    plan, text = job.plan, taken(one_array(keys), order)
    ids, places, values = ids[order], places[order], values[order]
    columns = {
        "place": array_of(places, pa.uint64()),
        "id": array_of(ids, pa.int64()),
        "key": text,
        "score": array_of(np.ascontiguousarray(values[:, 0]), pa.float32()),
    }
    if plan.link is not None:
        second = array_of(np.ascontiguousarray(values[:, 1]), pa.float32())
        if likelihood_of(plan.link).discrete:
            columns["class"] = dictionary_of(values[:, 2].astype(np.int64), plan.classes)
            columns["probability"] = second
        else:
            columns["value"] = second
    columns["state"] = dictionary_of(known_of(ids, job, job.states), STATES)
    held = np.zeros(len(ids), bool)
    if plan.held_out is not None:
        held = HeldOut(*plan.held_out, job.owners).among(ids) & (known_of(ids, job, job.asked) == 0)
    columns["held_out"] = pa.array(held)
    hashes = text_hashes(text)
    by_hash = np.argsort(hashes, kind="stable")
    columns["hash"] = array_of(hashes[by_hash], pa.uint64())
    columns["hash_place"] = array_of(places[by_hash], pa.uint64())
    return columns


def known_of(ids: NDArray[np.int64], job: Job, facts: NDArray[np.int8]) -> NDArray[np.int8]:
    """What the ledger knew of items when the version was begun, int8 [n]; 0 of what it did not know."""
    if not len(job.known):
        return np.zeros(len(ids), np.int8)
    found = np.searchsorted(job.known, ids).clip(max=len(job.known) - 1)
    return np.where(job.known[found] == ids, facts[found], np.int8(0))


class Run(NamedTuple):
    """A mapped run."""

    batch: pa.RecordBatch
    places: NDArray[np.uint64]
    """ascending"""
    hashes: NDArray[np.uint64]
    """ascending"""


def runs_of(partition: Partition, job: Job) -> list[Run]:
    """All runs of a version, mapped. They are compared with their records the first time."""
    held: tuple[str, list[Run]] | None = partition.held.get(HELD)
    if held is None or held[0] != job.version:
        version = Path(job.version)
        parts, found = run_parts(version), []
        for unit in range(len(job.plan.units())):
            parts.check(unit, RUN_FILE)
            batch = read_batch(version / RUN_FILE.format(unit))
            found.append(Run(batch, numbers_of(batch["place"]), numbers_of(batch["hash"])))
        held = partition.held[HELD] = job.version, found
    return held[1]


def let_go(partition: Partition) -> None:
    """Unmap the runs, whose files are to be deleted: a mapped file keeps its room on the disk."""
    partition.held.pop(HELD, None)


def count_before(partition: Partition, job: Job, places: NDArray[np.uint64], size: int) -> NDArray[np.int64]:
    """How many items of this partition's share of the runs stand before each place.

    Args:
        partition: of the runs every `size`-th is its own, from its number on.
        job: what is ranked.
        places: uint64 [p], ascending.
        size: the number of partitions.

    Returns:
        int64 [p].
    """
    found = np.zeros(len(places), np.int64)
    for run in runs_of(partition, job)[partition.index :: size]:
        found += np.searchsorted(run.places, places)
    return found


def stage_pages(partition: Partition, job: Job, cuts: Cuts, wave: tuple[range | None, ...]) -> list[Staged]:
    """Stage this partition's pages of a round trip.

    Args:
        partition: any one: it reads all runs.
        job: what is ranked.
        cuts: of the version.
        wave: for each partition consecutive pages, or None.

    Returns:
        The staged pages.
    """
    pages = wave[partition.index]
    if pages is None:
        return []
    plan, version, runs = job.plan, Path(job.version), runs_of(partition, job)
    first, end = np.uint64(cuts.first[pages.start]), np.uint64([*cuts.first, cuts.last][pages.stop])
    slices = [runs[0].batch.slice(0, 0)]
    for run in runs:
        low = int(np.searchsorted(run.places, first))
        # The last page ends with its last place, any other before the first place of the next.
        high = int(np.searchsorted(run.places, end, side="right" if pages.stop == plan.pages else "left"))
        if low < high:
            slices.append(run.batch.slice(low, high - low))
    names = [name for name in runs[0].batch.schema.names if name not in NOT_IN_A_PAGE]
    table = pa.Table.from_batches(slices)
    order = best_first(numbers_of(table["place"]), numbers_of(table["id"]))
    starts = [*cuts.starts, plan.total]
    staged = []
    for page in pages:
        rows = slice(starts[page] - starts[pages.start], starts[page + 1] - starts[pages.start])
        own = array_of(order[rows], pa.int64())
        columns = {name: one_array(table[name].take(own)) for name in names}
        name = page_parts(version).files[0].format(page)
        staged.append(Staged(page, len(own), (stage_file(version, name, writer_of(columns)),)))
    return staged


def stage_keys(partition: Partition, job: Job, wave: tuple[int | None, ...]) -> list[Staged]:
    """Stage this partition's file of the places by key of a round trip; arguments as of `stage_pages`."""
    file = wave[partition.index]
    if file is None:
        return []
    version, cuts = Path(job.version), key_cuts(key_files(job.plan))
    hashes, places = [], []
    for run in runs_of(partition, job):
        low = np.searchsorted(run.hashes, cuts[file])
        high = np.searchsorted(run.hashes, cuts[file + 1]) if file + 1 < len(cuts) else len(run.hashes)
        hashes.append(run.hashes[low:high])
        places.append(numbers_of(run.batch["hash_place"])[low:high])
    found, at = np.concatenate(hashes), np.concatenate(places)
    order = np.lexsort((at, found))
    columns = {"hash": array_of(found[order], pa.uint64()), "place": array_of(at[order], pa.uint64())}
    name = key_parts(version).files[0].format(file)
    return [Staged(file, len(order), (stage_file(version, name, writer_of(columns)),))]


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    whole: Any = column.combine_chunks()
    if not isinstance(whole, pa.ChunkedArray):
        return whole
    return pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.nulls(0, column.type)


def writer_of(columns: dict[str, pa.Array]) -> Any:
    """What writes these columns to a path."""
    return lambda path: write_batch(path, columns)
