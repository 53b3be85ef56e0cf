"""What the commands of curation share: options, the work between two checks, and the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from raysal.cli.garbage import look_now
from raysal.cli.output import Outcome, counted, on_interrupt
from raysal.cli.progress import progress
from raysal.cli.tables import check_no_source, check_output, kept_data, kept_note
from raysal.errors import OutputExists
from raysal.paths import pool_around

if TYPE_CHECKING:
    from raysal.curation.curated import Curated
    from raysal.types import Report


_LONGEST_ROW = 1 << 20
"""Bytes of a row of JSON that are looked at."""


class Rows(StrEnum):
    """Which items are written."""

    kept = "kept"
    dropped = "dropped"
    all = "all"


CuratedOut = Annotated[
    Path,
    Option("--out", "-o", help="Write the items to a .parquet, .csv, .tsv, .jsonl or .json file."),
]
RowsOption = Annotated[
    Rows, Option("--rows", help="Write a row for the items that are kept, for those that are dropped, or for all.")
]
Partitions = Annotated[
    int | None,
    Option(min=1, help="Workers. What is found does not depend on it. (Default: 1; Ray: one per CPU.)"),
]
Device = Annotated[str, Option(help="Where it is computed: cpu, cuda, cuda:1 ...")]
Seed = Annotated[int, Option(min=0, help="The seed of all randomness.")]


def curated(
    pool: str, out: Path, rows: Rows, force: bool, compute: Callable[[Report], Curated], **more: Any
) -> Outcome:
    """Do the work of a command of curation, and write what became of the items.

    Args:
        pool: the pool, as it was given.
        out: the file to write.
        rows: which items.
        force: replace the file that is there.
        compute: does the work; it is called with a function to report to.
        more: fields for --json.

    Returns:
        The answer: as "kept.parquet: 812 of 1,000 items kept; 120 dropped by near, 68 by filter".

    Raises:
        RaysalError: the file cannot be written there, or what `compute` raises.
    """
    check_table_of(out, pool, force)
    with on_interrupt("run the same command again to go on"), progress("starting") as report:
        import raysal.curation.job  # noqa: F401  (what computes is imported before garbage is looked for)

        look_now()
        found = compute(report)
        written = found.write(out, rows.value, overwrite=force)
    words = "\n".join([f"{out}: {words_for(found)}{kept_note(written)}", *notes_of(found)])
    return Outcome(data={"pool": pool, "out": str(out), **data_of(found), **more, **kept_data(written)}, view=words)


def check_table_of(out: Path, pool: str, force: bool, columns: Sequence[str] = ()) -> None:
    """Check where a table of a pool is to be written, before any work is done.

    Args:
        out: the file.
        pool: the pool, as it was given.
        force: replace the file that is there.
        columns: with which the table begins; by default those of what became of items.

    Raises:
        ConfigError: a table cannot have that name.
        OutputExists: the file is the source of the pool, or would lie in a pool; or a file is there that cannot be such
            a table, written before.
    """
    check_output(out)
    check_no_source(out, pool)
    if (folder := pool_around(out)) is not None:
        raise OutputExists(out, f"lies in the pool {folder}, whose files are its own", "name a file elsewhere")
    if out.is_dir():
        raise OutputExists(out, "is a folder", "name a file")
    if out.exists() and not force and not _may_be_table(out, columns):
        raise OutputExists(out)


def _may_be_table(out: Path, columns: Sequence[str]) -> bool:
    """Whether a file that is there may be a table of curation: it begins as one."""
    import json

    from raysal.curation.curated import SCHEMA
    from raysal.tables import DELIMITERS, KINDS

    kind, names = KINDS[out.suffix.lower()], list(columns or SCHEMA.names)
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return bool(pq.read_schema(out).names[: len(names)] == names)
        except pa.ArrowException:
            return False
    with open(out, "rb") as file:
        if kind in DELIMITERS:
            header = DELIMITERS[kind].join(names).encode()
            return file.read(len(header)) == header
        if kind == "json" and file.readline(3) != b"[\n":
            return False
        row = file.readline(_LONGEST_ROW).rstrip(b",\n")
    try:
        return (kind == "json" and row == b"]") or list(json.loads(row))[: len(names)] == names
    except (ValueError, TypeError):  # no JSON, or a number
        return False


def words_for(found: Curated) -> str:
    """What became of the items, on one line."""
    lost = [(step.label, step.dropped) for step in found.steps if step.dropped]
    words = f"{found.kept:,} of {counted(len(found), 'item').replace(str(len(found)), f'{len(found):,}')} kept"
    told = [f"{count:,} {'dropped ' if at == 0 else ''}by {label}" for at, (label, count) in enumerate(lost)]
    return f"{words}; {', '.join(told) or 'nothing dropped'}"


def notes_of(found: Curated) -> list[str]:
    """What is to be known of what the steps found, one line each; of several steps with the name of the step before."""
    lines = [(step.label, words) for step in found.steps for words in step.notes]
    return [words if len(found.steps) == 1 else f"{label}: {words}" for label, words in lines]


def data_of(found: Curated) -> dict[str, Any]:
    """The same for --json."""
    steps = [
        {
            "step": step.label,
            "fields": dict(step.fields),
            "items": step.left,
            "dropped_items": step.dropped,
            "reasons": step.reasons,
            "notes": step.notes,
            "seconds": step.seconds,
            "resumed": step.resumed,
        }
        for step in found.steps
    ]
    return {
        "items": len(found),
        "kept_items": found.kept,
        "dropped_items": found.dropped,
        "steps": steps,
        "seconds": found.seconds,
    }
