"""`raysal dedup`: find the near-duplicates of a pool, and say which of them is kept."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Option

from raysal.cli.garbage import look_now
from raysal.cli.options import Address, BackendOption, Force, PoolPath
from raysal.cli.output import Backend, Debug, Json, Outcome, counted, on_interrupt
from raysal.cli.progress import progress
from raysal.cli.tables import check_no_source, check_output, kept_data, kept_note


class Prefer(StrEnum):
    """Which values of a column are kept."""

    largest = "largest"
    smallest = "smallest"


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
        float,
        Option(
            help="The cosine from which on two items are near-duplicates, above 0 and up to 1; in a pool of the metric "
            "l2 the distance up to which they are."
        ),
    ] = 0.95,
    keep: Annotated[
        str | None,
        Option(
            metavar="COLUMN",
            help="Keep the item with the largest value in a column, as a width, a date or a score. (Default: the first "
            "of the pool.)",
        ),
    ] = None,
    prefer: Annotated[Prefer, Option(help="Which value of the column is kept.")] = Prefer.largest,
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

    Every item has a row: key, kept, group (a number, the same for a kept item and those dropped for it), nearest_kept,
    and similarity to that one. With --rows dropped the file is what `raysal pool remove --keys` takes, with --rows kept
    what `raysal export --keys` takes.

    The pairs that were found stay in the pool. The same command with a higher threshold, or after an interruption, or
    once the pool grew, compares only what was not compared before.
    """
    del json, debug
    check_output(out)
    check_no_source(out, pool)
    with on_interrupt("run the same command again to go on"), progress("starting") as report:
        from raysal.api.dedup import dedup as find

        look_now()
        found = find(
            pool, threshold=threshold, keep=keep, prefer=prefer.value, partitions=partitions, backend=backend.value,
            address=address, report=report,
        )  # fmt: skip
        written = found.write(out, rows.value, overwrite=force)
    dropped = f"{counted(found.dropped, 'near-duplicate')} of {found.groups} of them dropped"
    words = (
        f"{out}: {found.kept} of {counted(len(found), 'item')} kept, {dropped if found.dropped else 'no two are near'}"
    )
    data = {
        "pool": str(pool),
        "out": str(out),
        "threshold": threshold,
        "items": len(found),
        "kept_items": found.kept,
        "dropped_items": found.dropped,
        "groups": found.groups,
        "seconds": found.seconds,
    }
    return Outcome(data=data | kept_data(written), view=words + kept_note(written))
