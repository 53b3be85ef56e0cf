"""`raysal dedup`: find the near-duplicates of a pool, and say which of them is kept."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from raysal.cli.curation import check_table_of
from raysal.cli.garbage import look_now
from raysal.cli.options import Address, BackendOption, Force, PoolPath, place
from raysal.cli.output import Backend, Debug, Json, Outcome, counted, on_interrupt
from raysal.cli.progress import progress
from raysal.cli.tables import kept_data, kept_note
from raysal.errors import ConfigError

if TYPE_CHECKING:
    from raysal.curation.dedup import NearDuplicates


COLUMNS = ("key", "kept", "group", "nearest_kept")
"""With which a table begins."""


class Prefer(StrEnum):
    """Which values of a column are kept."""

    largest = "largest"
    smallest = "smallest"


class Mode(StrEnum):
    """How near items are looked for."""

    exact = "exact"
    clusters = "clusters"


class Rows(StrEnum):
    """Which items are written."""

    all = "all"
    kept = "kept"
    dropped = "dropped"


def dedup(
    pool: PoolPath,
    out: Annotated[
        Path,
        Option("--out", "-o", help="Write what became of every item to a .parquet, .csv, .tsv, .jsonl or .json file."),
    ],
    threshold: Annotated[
        float | None,
        Option(
            help="The cosine from which on two items are near-duplicates, above 0 and up to 1; in a pool of the metric "
            "l2 the distance up to which they are. (Default: 0.95.)"
        ),
    ] = None,
    keep: Annotated[
        str | None,
        Option(
            metavar="COLUMN",
            help="Keep the item with the largest value in a column, as a width, a date or a score. (Default: the first "
            "of the pool.)",
        ),
    ] = None,
    prefer: Annotated[Prefer, Option(help="Which value of the column is kept.")] = Prefer.largest,
    mode: Annotated[
        Mode,
        Option(
            help="All near items, exactly; or, for pools too large for that, those that share one of the two nearest "
            "cells of a clustering, with the recall measured on a sample."
        ),
    ] = Mode.exact,
    against: Annotated[
        str | None,
        Option(
            parser=place,
            metavar="POOL",
            help="Another pool of the same encoder, as test data or last month's: drop what is near to one of its "
            "items, first.",
        ),
    ] = None,
    equal: Annotated[
        bool,
        Option("--equal", help="Drop exact copies alone: equal bytes of files, or equal vectors. No threshold."),
    ] = False,
    rows: Annotated[Rows, Option(help="Write a row for all items, or for those that are kept, or dropped.")] = Rows.all,
    partitions: Annotated[
        int | None,
        Option(min=1, help="Workers. What is found does not depend on it. (Default: 1; Ray: one per CPU.)"),
    ] = None,
    backend: BackendOption = Backend.local,
    address: Address = None,
    force: Force = False,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Find the near-duplicates of a pool, exactly, and say which of them is kept.

    No two kept items are as similar as the threshold, and each dropped item is that similar to one that is kept.

    With --equal, only exact copies are dropped; with --against, also what is near to an item of another pool.

    Every item has a row: key, kept, group (a number, the same for a kept item and those dropped for it), nearest_kept,
    and similarity to that one; with --against also whether that one is of the other pool. With --rows dropped the file
    is what `raysal pool remove --keys` takes, with --rows kept what `raysal export --keys` takes.

    The pairs that were found stay in the pool. The same command with a higher threshold, or after an interruption, or
    once the pool grew, compares only what was not compared before.
    """
    del json, debug
    if equal and threshold is not None:
        raise ConfigError("--threshold", "is of near items, and --equal looks for equal ones", "leave out one of them")
    check_table_of(out, pool, force, COLUMNS)
    with on_interrupt("run the same command again to go on"), progress("starting") as report:
        from raysal.api.dedup import dedup as find

        look_now()
        found = find(
            pool, threshold=0.95 if threshold is None else threshold, keep=keep, prefer=prefer.value, mode=mode.value,
            against=against, equal=equal, partitions=partitions, backend=backend.value, address=address, report=report,
        )  # fmt: skip
        written = found.write(out, rows.value, overwrite=force)
    data: dict[str, object] = {
        "pool": str(pool),
        "out": str(out),
        "threshold": found.threshold,
        "items": len(found),
        "kept_items": found.kept,
        "dropped_items": found.dropped,
        "groups": found.groups,
        "seconds": found.seconds,
    }
    if found.against is not None:
        data["near_other_items"] = found.near_other
    if found.recall is not None:
        low, high = found.recall.interval
        near = {"near": found.recall.near, "sample": found.recall.sample}
        data["recall"] = {"share": found.recall.share, "low": low, "high": high, **near}
    if found.notes:
        data["notes"] = list(found.notes)
    return Outcome(data=data | kept_data(written), view=_said(found, out) + kept_note(written))


def _said(found: NearDuplicates, out: Path) -> str:
    """What was found, in words."""
    equal = found.threshold is None
    what = counted(found.dropped, "exact duplicate" if equal else "near-duplicate")
    dropped = f"{what} of {found.groups} of them dropped"
    if found.against is not None:
        what = counted(found.dropped - found.near_other, "near-duplicate")
        dropped = f"{what} dropped, and {found.near_other} near to items of {found.against.place}"
    nothing = f"no two are {'equal' if equal else 'near'}"
    lines = [f"{out}: {found.kept} of {counted(len(found), 'item')} kept, {dropped if found.dropped else nothing}"]
    if found.recall is not None:
        lines.append(str(found.recall))
    if not found.listed and found.recall is None:
        lines.append("too many pairs are near to be kept: another threshold compares again")
    return "\n".join([*lines, *found.notes])
