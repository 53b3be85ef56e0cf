"""Plan an index: which kind it will be and what it will cost, before anything is built."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from raysal.errors import ConfigError, PoolError
from raysal.index.kinds import CODE_ROWS, KINDS, OVERFETCH, Kind, faiss_factory, is_inverted, padded_width, row_bytes

SHARD_ROWS = 1_000_000
"""Rows of a shard."""
MIN_INDEX_ROWS = 1_500_000
"""Below so many rows exact search is as quick as an index."""
MIN_INDEX_QUERIES = 10_000
"""So many searches pay for training and coding; for fewer, exact search costs less."""
DEFAULT_QUERIES = 100_000
"""Searches expected over the life of an index."""
TRAINING_ROWS_PER_LIST = 64
"""Rows trained on for each list."""
MIN_ROWS_PER_LIST = 39
"""Rows of the pool for each list, at least."""
MIN_TRAINING_ROWS = 10_000
"""Rows trained on, at least: a code book of 256 entries wants so many."""
EF_SEARCH = 64
"""Rows that a graph search keeps in view (efSearch), before recall is measured."""
USUAL_NEIGHBOURS = 50
"""Neighbours that a search usually asks for."""
BUFFER_BYTES = 64_000_000
"""Bytes of a process for everything else: blocks, products, libraries (measured: 30 to 50 MB)."""
GROWTH_FACTOR = 2
"""Bytes allocated for each byte of codes while a shard grows."""
MEMORY_FIX = "allow more memory, make smaller shards, use more partitions, or search exactly"
MAX_GRAPH_ROWS = 10_000_000
"""Up to so many rows `auto` may choose a graph."""
MIN_GRAPH_QUERIES = 1_000_000
"""From so many searches on `auto` may choose a graph."""


@dataclass(frozen=True, kw_only=True)
class IndexPlan:
    """What an index will be, and what it will cost."""

    kind: Kind
    why: str
    """why this kind was chosen, in words"""
    factory: str
    """what FAISS is asked for"""
    rows: int
    dim: int
    shards: tuple[tuple[int, int, int], ...]
    """runs of whole chunks: (first, last, rows)"""
    shard_rows: int
    lists: int
    """inverted lists of a shard; 0 where the kind has none"""
    training_rows: int
    probes: int
    """how much a search looks at before recall is measured; see `Index.probes`"""
    overfetch: int
    """rows fetched for each one wanted"""
    disk_bytes: int
    training_bytes: int
    """of the process that trains, at its peak"""
    build_bytes: int
    """of the process that needs most, at its peak"""
    search_bytes: int
    """of each process that searches, with all its lists in memory (lists are mapped: the system may drop pages)"""


def plan_index(
    chunk_rows: Sequence[int],
    dim: int,
    *,
    kind: str = "auto",
    memory: int | None = None,
    queries: int = DEFAULT_QUERIES,
    shard_rows: int = SHARD_ROWS,
    processes: int = 1,
) -> IndexPlan:
    """Plan an index for a pool. Pure.

    `auto` tries kinds in an order that depends on the rows and the queries, the most exact first. It takes the first
    one whose peak memory fits.

    Args:
        chunk_rows: rows of each chunk of the pool.
        dim: length of a vector.
        kind: one of KINDS, or `auto`.
        memory: bytes that one process may use; None is no limit.
        queries: anchors searched for over the life of the index.
        shard_rows: rows of a shard.
        processes: processes that search, each its share of the shards.

    Returns:
        The plan.

    Raises:
        ConfigError: there is no such kind; or the kind asked for, or every kind, needs more than `memory`.
        PoolError: the pool has fewer than 2 rows.
    """
    rows = sum(chunk_rows)
    if rows < 2:
        raise PoolError("index", f"the pool has {rows} rows, and an index needs 2", "search exactly")
    if kind not in (*KINDS, "auto"):
        raise ConfigError("index.kind", f"unknown kind {kind!r}", f"use one of: auto, {', '.join(KINDS)}")
    shards = cut_shards(chunk_rows, shard_rows)

    def plan(one: Kind, why: str) -> IndexPlan:
        return plan_kind(one, why, rows, dim, shards, shard_rows, processes)

    if kind != "auto":
        asked = plan(next(one for one in KINDS if one == kind), reason_with_advice("asked for", rows, queries))
        if memory is not None and peak_bytes(asked) > memory:
            raise ConfigError("index.memory", state_needs([asked], memory), MEMORY_FIX)
        return asked
    tried = [plan(one, reason_with_advice(why, rows, queries)) for one, why in kinds_to_try(rows, queries)]
    for one in tried:
        if memory is None or peak_bytes(one) <= memory:
            passed = [other.kind for other in tried[: tried.index(one)]]
            fits = f"{', '.join(passed)} would not fit {human_bytes(memory or 0)}; " if passed else ""
            return IndexPlan(**{**one.__dict__, "why": fits + one.why})
    raise ConfigError("index.memory", state_needs(tried, memory or 0), MEMORY_FIX)


def kinds_to_try(rows: int, queries: int) -> list[tuple[Kind, str]]:
    """The kinds that `auto` tries, in order, each with its reason."""
    codes: list[tuple[Kind, str]] = [
        ("ivf_sq8", "one byte a dimension keeps nearly all of the recall"),
        ("ivf_pq", "two bits a dimension, ranked again by exact similarities"),
        ("ivf_rabitq", "one bit a dimension, ranked again by exact similarities"),
    ]
    if rows < MIN_INDEX_ROWS:
        return [("flat", f"with {rows} rows nothing has to be left out"), *codes]
    if rows <= MAX_GRAPH_ROWS and queries >= MIN_GRAPH_QUERIES:
        return [("hnsw", f"{queries} queries pay for a graph"), *codes]
    if rows > 10 * MAX_GRAPH_ROWS:
        return codes[1:]
    return codes


def reason_with_advice(why: str, rows: int, queries: int) -> str:
    """The reason for a kind, and where exact search is the better choice, a sentence that says so."""
    if rows < MIN_INDEX_ROWS:
        return f"{why}; below {MIN_INDEX_ROWS / 1e6:g}M rows exact search is as quick and needs no index"
    if queries < MIN_INDEX_QUERIES:
        return f"{why}; for fewer than {MIN_INDEX_QUERIES} queries exact search costs less than this build"
    return why


def cut_shards(chunk_rows: Sequence[int], shard_rows: int) -> tuple[tuple[int, int, int], ...]:
    """Cut a pool into runs of whole chunks, from the first chunk on.

    Chunks that are added later change the last run and add new ones; the other runs stay.

    Args:
        chunk_rows: rows of each chunk.
        shard_rows: rows of a run at most; a larger chunk is a run by itself.

    Returns:
        (first chunk, last chunk, rows) of each run.
    """
    runs: list[tuple[int, int, int]] = []
    for chunk, rows in enumerate(chunk_rows):
        if runs and runs[-1][2] + rows <= shard_rows:
            first, _, before = runs[-1]
            runs[-1] = (first, chunk, before + rows)
        else:
            runs.append((chunk, chunk, rows))
    return tuple(runs)


def plan_kind(
    kind: Kind,
    why: str,
    rows: int,
    dim: int,
    shards: tuple[tuple[int, int, int], ...],
    shard_rows: int,
    processes: int,
) -> IndexPlan:
    """The plan for one kind; its formulas are explained in docs/index.md."""
    largest, width = max(count for _, _, count in shards), padded_width(dim)
    lists = training = 0
    if is_inverted(kind):
        lists = max(min(2 ** round(math.log2(4 * math.sqrt(largest))), rows // MIN_ROWS_PER_LIST), 1)
        training = min(rows, max(TRAINING_ROWS_PER_LIST * lists, MIN_TRAINING_ROWS))
    trained = 4 * width * lists + (4 * 256 * width if kind == "ivf_pq" else 0)
    # Rows are gathered as float16 in two copies, then made float32. Training holds two more: rotated and residual.
    training_bytes = (4 + 4 + 4) * width * training + trained
    one_row = row_bytes(kind, dim)
    coding_bytes = GROWTH_FACTOR * one_row * largest + trained + (2 + 8 + 8 + 4) * width * CODE_ROWS
    own = sorted((count for _, _, count in shards), reverse=True)
    most = max(sum(own[i::processes]) for i in range(min(processes, len(own))))
    return IndexPlan(
        kind=kind,
        why=why,
        factory=faiss_factory(kind, dim, lists, training),
        rows=rows,
        dim=dim,
        shards=shards,
        shard_rows=shard_rows,
        lists=lists,
        training_rows=training,
        probes=initial_probes(kind, lists, rows),
        overfetch=OVERFETCH[kind],
        disk_bytes=one_row * rows + trained * (len(shards) + 1),
        training_bytes=training_bytes,
        build_bytes=BUFFER_BYTES + max(training_bytes, coding_bytes),
        search_bytes=BUFFER_BYTES + (one_row + 8) * most + trained * math.ceil(len(shards) / processes),
    )


def initial_probes(kind: Kind, lists: int, rows: int) -> int:
    """Probes before recall is measured: 1/64 of the lists, and enough lists to hold the rows usually fetched."""
    if kind == "hnsw":
        return EF_SEARCH
    return min(max(lists // 64, math.ceil(2 * USUAL_NEIGHBOURS * OVERFETCH[kind] * lists / rows)), lists)


def peak_bytes(plan: IndexPlan) -> int:
    """Bytes that a process needs at most, to build or to search."""
    return max(plan.build_bytes, plan.search_bytes)


def state_needs(plans: Sequence[IndexPlan], memory: int) -> str:
    """The bytes allowed and the bytes that each plan needs, in words."""
    each = "; ".join(
        f"{plan.kind} needs {human_bytes(plan.build_bytes)} to build and {human_bytes(plan.search_bytes)} to search"
        for plan in plans
    )
    return f"{human_bytes(memory)} allowed: {each}"


def human_bytes(count: float) -> str:
    """A number of bytes in words, as `1.5 GB`."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:g} bytes"
