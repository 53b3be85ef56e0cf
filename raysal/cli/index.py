"""`raysal index`: build, show and drop the index of a pool."""

from __future__ import annotations

import time
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from raysal.cli.garbage import look_now
from raysal.cli.options import BackendOption, PoolPath
from raysal.cli.output import Backend, Debug, Json, Outcome, counted, on_interrupt
from raysal.cli.progress import progress
from raysal.cli.serve import serve, stop
from raysal.cli.similar import search

if TYPE_CHECKING:
    from raysal.index import Coverage, Index, IndexPlan

app = typer.Typer(help="Build, show and drop the index of a pool; find similar items.", no_args_is_help=True)


class KindName(StrEnum):
    """`auto` and the values of `raysal.index.KINDS`, as a choice on the command line."""

    auto = "auto"
    flat = "flat"
    hnsw = "hnsw"
    ivf_flat = "ivf_flat"
    ivf_pq = "ivf_pq"
    ivf_rabitq = "ivf_rabitq"
    ivf_sq8 = "ivf_sq8"


@app.command("build")
def build(
    pool: PoolPath,
    kind: Annotated[
        KindName, Option(help="The kind to build. auto chooses by rows, dimensions, memory and queries.")
    ] = KindName.auto,
    queries: Annotated[
        int, Option(min=1, help="Searches expected over the life of the index, for example anchors times rounds.")
    ] = 100_000,
    memory: Annotated[
        str | None,
        Option(metavar="SIZE", help="Memory that one process may use, as 8GB. (Default: this machine's.)"),
    ] = None,
    shard_rows: Annotated[
        int, Option(min=1, help="Rows of a shard, at most. A shard is a run of whole chunks.")
    ] = 1_000_000,
    target_recall: Annotated[
        float, Option(min=0.0, max=1.0, help="Share of the 50 nearest items that a search is to find.")
    ] = 0.95,
    fresh: Annotated[bool, Option("--fresh", help="Train and code everything anew.")] = False,
    partitions: Annotated[int, Option(min=0, help="Partitions that build. (Default: 1; Ray: one per CPU.)")] = 0,
    backend: BackendOption = Backend.local,
    seed: Annotated[int, Option(min=0, help="Another seed trains on other rows.")] = 0,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Print what would be built and what it needs; build nothing.")
    ] = (False),
    background: Annotated[bool, Option("--background", help="Build in a process of its own, and return.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Build the index of a pool, or bring it up to date.

    Its training, and shards whose chunks are unchanged, are used again.

    The old index stays in force until the new one is complete and its recall is measured.
    """
    del json, debug
    from raysal.index import build_index, load_faiss, memory_limit, plan_index
    from raysal.pool import open_pool

    found = open_pool(pool)
    plan = plan_index(
        [chunk.stored for chunk in found.chunks],
        found.dim,
        kind=kind.value,
        memory=memory_limit(memory, "--memory"),
        queries=queries,
        shard_rows=shard_rows,
        processes=max(partitions, 1) if backend is Backend.ray else 1,  # without Ray, one process does it all
    )
    load_faiss()
    if dry_run:
        return Outcome(data={"pool": str(pool), "built": False, **plan_data(plan)}, view=plan_view(plan))
    if background:
        from raysal.index import rebuild_in_background

        options = [f"--kind={kind.value}", f"--queries={queries}", f"--shard-rows={shard_rows}", f"--seed={seed}",
                   f"--target-recall={target_recall}", f"--partitions={partitions}", f"--backend={backend.value}",
                   *([f"--memory={memory}"] if memory else []), *(["--fresh"] if fresh else [])]  # fmt: skip
        number = rebuild_in_background(found, *options).pid
        view = f"{plan_view(plan)}\nprocess {number} builds it; see `raysal index info {pool}`"
        return Outcome(data={"pool": str(pool), "built": False, "process": number, **plan_data(plan)}, view=view)
    from raysal.config import FleetConfig
    from raysal.fleet import open_fleet

    look_now()

    typer.echo(plan_view(plan), err=True)
    resume = "the index in force is as it was; the same command builds again"
    config = FleetConfig(backend=backend.value, partitions=partitions)
    with on_interrupt(resume), progress("opening") as report, open_fleet(found, config) as fleet:
        index = build_index(found, fleet, plan, target_recall=target_recall, seed=seed, fresh=fresh, report=report)
    return Outcome(data={**info_data(pool, index, None), "built": True}, view=built_view(index))


@app.command("info")
def info(pool: PoolPath, json: Json = False, debug: Debug = False) -> Outcome:
    """Show what the index of a pool is, its recall, and which rows of the pool it lacks."""
    del json, debug
    from raysal.errors import PoolError
    from raysal.index import background_failure, coverage, current_generation, drift, is_building, open_index
    from raysal.pool import open_pool

    found = open_pool(pool)
    state = {"building": is_building(found.path), "failed": background_failure(found.path) or None}
    if not current_generation(found.path) and any(state.values()):
        raise PoolError(found.path, f"has no index; {state_view(state)}", f"build one with `raysal index build {pool}`")
    index = open_index(found)
    covered = coverage(found, index)
    data = info_data(pool, index, covered) | state
    data["drift"] = drift(found, index) if covered.stale and index.error is not None else 1.0
    return Outcome(data=data, view=info_view(data))


@app.command("drop")
def drop(pool: PoolPath, json: Json = False, debug: Debug = False) -> Outcome:
    """Delete the index of a pool. The pool stays as it is."""
    del json, debug
    from raysal.index import drop_index
    from raysal.pool import open_pool

    count = drop_index(open_pool(pool).path)
    view = f"{pool}: the index is gone" if count else f"{pool}: there was no index"
    return Outcome(data={"pool": str(pool), "generations": count}, view=view)


def plan_data(plan: IndexPlan) -> dict[str, Any]:
    """A plan, for --json."""
    return {**asdict(plan), "shards": len(plan.shards)}


def plan_view(plan: IndexPlan) -> str:
    """A plan, for people."""
    from raysal.index import human_bytes as human

    return (
        f"{plan.kind} ({plan.factory}): {plan.why}\n"
        f"{plan.rows} rows in {len(plan.shards)} shards: {human(plan.disk_bytes)} on disk, up to "
        f"{human(plan.build_bytes)} in memory to build (training {human(plan.training_bytes)}), "
        f"{human(plan.search_bytes)} a process to search"
    )


def info_data(pool: str | Path, index: Index, covered: Coverage | None) -> dict[str, Any]:
    """An index and what it covers, for --json."""
    record = {**index.record(), "shards": len(index.shards)}
    del record["chunks"], record["pool"]
    data = {"pool": str(pool), "generation": index.name, **record, "age_s": max(time.time() - index.built, 0.0)}
    data["file_bytes"] = sum(shard.bytes for shard in index.shards)
    if covered is not None:
        data |= {"covered_rows": covered.covered_rows, "missing_rows": covered.missing_rows}
        data |= {"missing_chunks": len(covered.missing), "stale": covered.stale}
    return data


def built_view(index: Index) -> str:
    """An index that was just built, for people."""
    found = ", ".join(f"recall@{k} {share:.3f}" for k, share in index.recall.items())
    short = "" if index.recall["50"] >= index.target_recall else f" (asked for: {index.target_recall:g})"
    return f"{index.path}: {index.kind}, {index.rows} rows, {found}{short}"


def info_view(data: dict[str, Any]) -> str:
    """An index and what it covers, for people: one line for each fact."""
    from raysal.index import MAX_DRIFT
    from raysal.index import human_bytes as human

    looked = {0: "every row"}.get(data["probes"]) or (
        f"{data['probes']} of {data['lists']} lists" if data["lists"] else f"breadth {data['probes']}"
    )
    lacking = "all rows"
    if data["stale"]:
        again = "a build uses the training again" if data["drift"] < MAX_DRIFT else "a build trains anew"
        lacking = (
            f"lacks {counted(data['missing_rows'], 'row')} in {counted(data['missing_chunks'], 'chunk')}, "
            "so searches are exact; "
            f"drift {data['drift']:.3g} ({again}); `raysal index build` adds them"
        )
    lines = {
        "pool": data["pool"],
        "generation": data["generation"],
        "kind": f"{data['kind']} ({data['factory']})",
        "why": data["why"],
        "metric": f"{data['metric']}, {data['dim']} dimensions",
        "rows": f"{data['rows']} in {data['shards']} shards",
        "bytes": human(data["file_bytes"]),
        "memory": f"{human(data['build_bytes'])} to build, {human(data['search_bytes'])} a process to search",
        "recall": ", ".join(f"@{k} {share:.3f}" for k, share in data["recall"].items())
        + f" (of {data['queries']} items, target {data['target_recall']:g})",
        "looks at": f"{looked}, {data['overfetch']} times as many rows as asked for",
        "covers": lacking,
        "age": age(data["age_s"]),
        **({"build": state_view(data)} if data["building"] or data["failed"] else {}),
    }
    return "\n".join(f"{name:<10}  {value}" for name, value in lines.items())


def state_view(state: dict[str, Any]) -> str:
    """Whether a build is at work or has failed, for people."""
    if state["building"]:
        return "one is under way"
    return f"the last one in the background failed: {state['failed']}"


def age(seconds: float) -> str:
    """Seconds in the largest unit of which there are two or more."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


app.command("search")(search)
app.command("serve")(serve)
app.command("stop")(stop)
