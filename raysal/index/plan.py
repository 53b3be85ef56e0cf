"""What an index will be and cost, before anything is built."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from raysal.errors import ConfigError, PoolError
from raysal.index.kinds import CODED, KINDS, OVERFETCH, Kind, factory_of, is_inverted, row_bytes, width_of

SHARD_ROWS = 1_000_000
WORTH_IT = 1_500_000
"""Rows below which a pass over everything is as quick as what an index saves."""
MANY_QUERIES = 10_000
"""Searches that pay for training and coding; fewer are cheaper as passes over everything."""
QUERIES = 100_000
POINTS = 64
"""Rows trained on for each list."""
LEAST_POINTS = 39
LEAST_TRAINING = 10_000
"""Rows a code book of 256 entries wants."""
BREADTH = 64
"""Rows a search of a graph keeps in view (efSearch), at first."""
USUAL = 50
"""Neighbours that are usually asked for."""
BUFFERS = 64_000_000
"""Bytes of a process besides: blocks, products, what libraries take for themselves (measured: 30 to 50 MB)."""
GROWTH = 2
"""Bytes taken for one coded while there may be more to come."""
GRAPH_ROWS = 10_000_000
GRAPH_QUERIES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class IndexPlan:
    """What an index will be: `shards` are runs of whole chunks (first, last, rows). Bytes: on disk; of the process that
    builds the most, at its peak; of each process that searches, every list looked at (lists are mapped: the system may
    drop their pages)."""

    kind: Kind
    why: str
    factory: str
    rows: int
    dim: int
    shards: tuple[tuple[int, int, int], ...]
    shard_rows: int
    lists: int
    training_rows: int
    probes: int
    overfetch: int
    disk_bytes: int
    training_bytes: int
    build_bytes: int
    search_bytes: int


def plan_index(
    chunk_rows: Sequence[int],
    dim: int,
    *,
    kind: str = "auto",
    memory: int | None = None,
    queries: int = QUERIES,
    shard_rows: int = SHARD_ROWS,
    processes: int = 1,
) -> IndexPlan:
    """The plan for a pool of chunks of so many rows. Pure.

    `auto` takes the most faithful kind whose peak memory fits `memory` bytes, by how many rows there are and how many
    `queries` (anchors searched for, over the life of the index) are expected.

    Raises:
        ConfigError: there is no such kind; or the kind asked for, or every kind, needs more than `memory`.
        PoolError: fewer than 2 rows.
    """
    rows = sum(chunk_rows)
    if rows < 2:
        raise PoolError("index", f"the pool has {rows} rows, and an index needs 2", "search exactly")
    if kind not in (*KINDS, "auto"):
        raise ConfigError("index.kind", f"unknown kind {kind!r}", f"use one of: auto, {', '.join(KINDS)}")
    shards = cut_shards(chunk_rows, shard_rows)

    def plan(one: Kind, why: str) -> IndexPlan:
        return sized(one, why, rows, dim, shards, shard_rows, processes)

    if kind != "auto":
        asked = plan(next(one for one in KINDS if one == kind), advice("asked for", rows, queries))
        if memory is not None and needs(asked) > memory:
            raise too_large([asked], memory)
        return asked
    tried = [plan(one, advice(why, rows, queries)) for one, why in preferred(rows, queries)]
    for one in tried:
        if memory is None or needs(one) <= memory:
            passed = [other.kind for other in tried[: tried.index(one)]]
            fits = f"{', '.join(passed)} would not fit {human(memory or 0)}; " if passed else ""
            return IndexPlan(**{**one.__dict__, "why": fits + one.why})
    raise too_large(tried, memory or 0)


def preferred(rows: int, queries: int) -> list[tuple[Kind, str]]:
    """Kinds to try in turn, and why."""
    codes: list[tuple[Kind, str]] = [
        ("ivf_sq8", "one byte a dimension keeps nearly all of the recall"),
        ("ivf_pq", "two bits a dimension, ranked again by exact similarities"),
        ("ivf_rabitq", "one bit a dimension, ranked again by exact similarities"),
    ]
    if rows < WORTH_IT:
        return [("flat", f"with {rows} rows nothing has to be left out"), *codes]
    if rows <= GRAPH_ROWS and queries >= GRAPH_QUERIES:
        return [("hnsw", f"{queries} queries pay for a graph"), *codes]
    if rows > 10 * GRAPH_ROWS:
        return codes[1:]
    return codes


def advice(why: str, rows: int, queries: int) -> str:
    """The reason, and whether exact search would be the better choice."""
    if rows < WORTH_IT:
        return f"{why}; below {WORTH_IT / 1e6:g}M rows exact search is as quick and needs no index"
    if queries < MANY_QUERIES:
        return f"{why}; for fewer than {MANY_QUERIES} queries exact search costs less than this build"
    return why


def cut_shards(chunk_rows: Sequence[int], shard_rows: int) -> tuple[tuple[int, int, int], ...]:
    """Runs of whole chunks (first, last, rows), of up to `shard_rows` rows unless one chunk alone has more.

    From the first chunk on: chunks that are added later change the last run and add others, and leave the rest.
    """
    runs: list[tuple[int, int, int]] = []
    for chunk, rows in enumerate(chunk_rows):
        if runs and runs[-1][2] + rows <= shard_rows:
            first, _, before = runs[-1]
            runs[-1] = (first, chunk, before + rows)
        else:
            runs.append((chunk, chunk, rows))
    return tuple(runs)


def sized(
    kind: Kind,
    why: str,
    rows: int,
    dim: int,
    shards: tuple[tuple[int, int, int], ...],
    shard_rows: int,
    processes: int,
) -> IndexPlan:
    largest, width = max(count for _, _, count in shards), width_of(dim)
    lists = training = 0
    if is_inverted(kind):
        lists = max(min(2 ** round(math.log2(4 * math.sqrt(largest))), rows // LEAST_POINTS), 1)
        training = min(rows, max(POINTS * lists, LEAST_TRAINING))
    trained = 4 * width * lists + (4 * 256 * width if kind == "ivf_pq" else 0)
    # Gathered as float16 in two copies, then float32; trained on with two copies of that beside, turned and residual.
    training_bytes = (4 + 4 + 4) * width * training + trained
    one_row = row_bytes(kind, dim)
    coding_bytes = GROWTH * one_row * largest + trained + (2 + 8 + 8 + 4) * width * CODED
    own = sorted((count for _, _, count in shards), reverse=True)
    most = max(sum(own[i::processes]) for i in range(min(processes, len(own))))
    return IndexPlan(
        kind=kind,
        why=why,
        factory=factory_of(kind, dim, lists, training),
        rows=rows,
        dim=dim,
        shards=shards,
        shard_rows=shard_rows,
        lists=lists,
        training_rows=training,
        probes=first_probes(kind, lists, rows),
        overfetch=OVERFETCH[kind],
        disk_bytes=one_row * rows + trained * (len(shards) + 1),
        training_bytes=training_bytes,
        build_bytes=BUFFERS + max(training_bytes, coding_bytes),
        search_bytes=BUFFERS + (one_row + 8) * most + trained * math.ceil(len(shards) / processes),
    )


def first_probes(kind: Kind, lists: int, rows: int) -> int:
    """What is looked at before recall was measured: 1/64 of the lists, and enough to hold what is usually fetched."""
    if kind == "hnsw":
        return BREADTH
    return min(max(lists // 64, math.ceil(2 * USUAL * OVERFETCH[kind] * lists / rows)), lists)


def needs(plan: IndexPlan) -> int:
    """Bytes that the largest of its processes needs."""
    return max(plan.build_bytes, plan.search_bytes)


def too_large(plans: Sequence[IndexPlan], memory: int) -> ConfigError:
    each = "; ".join(
        f"{plan.kind} needs {human(plan.build_bytes)} to build and {human(plan.search_bytes)} to search"
        for plan in plans
    )
    fix = "allow more memory, make smaller shards, use more partitions, or search exactly"
    return ConfigError("index.memory", f"{human(memory)} allowed: {each}", fix)


def human(count: float) -> str:
    """Bytes for people: 1.5 GB."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:g} bytes"
