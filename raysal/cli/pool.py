"""`raysal pool`: show what a pool holds, lost and changed, check and rewrite its files, and take items out of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from raysal.cli.garbage import look_now
from raysal.cli.options import Force, PoolPath
from raysal.cli.output import Debug, Json, Outcome, counted
from raysal.cli.progress import progress
from raysal.cli.tables import check_no_source, check_output, kept_data, kept_note
from raysal.defaults import MOST_MISSING
from raysal.errors import ConfigError
from raysal.store import Written

app = typer.Typer(
    help="Show what a pool holds and what it lost, check its files, export it, and take items out of it.",
    no_args_is_help=True,
)


@app.command("info")
def info(pool: PoolPath, json: Json = False, debug: Debug = False) -> Outcome:
    """Show what a pool holds."""
    del json, debug
    from raysal.pool import open_pool

    opened = open_pool(pool)
    found = {"pool": str(pool), **asdict(opened.info())}
    passed = opened.passed_over()
    shown = {**found, "passed_over": "not counted" if passed is None else str(passed) or "nothing"}
    width = max(map(len, shown))
    return Outcome(data=found, view="\n".join(f"{name:<{width}}  {value}" for name, value in shown.items()))


@app.command("quarantine")
def quarantine(
    pool: PoolPath,
    stage: Annotated[
        str | None, Option(metavar="decode|encode", help="Only the items that were lost in this stage.")
    ] = None,
    k: Annotated[int, Option("-k", min=0, help="Items to list.")] = 20,
    out: Annotated[
        Path | None,
        Option("--out", "-o", help="Also write all to a .csv, .tsv, .parquet, .jsonl or .json file."),
    ] = None,
    force: Force = False,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Show which items could not be embedded, and why: how many for each reason, then the first of them.

    It works while the pool is yet to be finished, too.
    """
    del json, debug
    from raysal.cli.tables import table_view
    from raysal.pool.place import directory_of
    from raysal.pool.quarantine import quarantine_of, write_quarantine

    if out is not None:
        check_output(out)
        check_no_source(out, pool)
    directory = directory_of(pool)
    count, written = 0, Written()
    with progress("reading"):
        look_now()
        if out is not None:
            count, written = write_quarantine(directory, out, stage=stage, overwrite=force, disposable=is_quarantine)
        found = quarantine_of(directory, stage=stage, k=k)
    data = {"pool": str(pool), **asdict(found), "out": None if out is None else str(out)}
    data |= {} if out is None else kept_data(written)
    words = f"{pool}: {found.quarantined:,} of {found.items:,} items are quarantined"
    words += f" in the stage {stage}" if stage is not None else ""
    if not found.quarantined:
        return Outcome(data=data, view=words)
    from rich.console import Group

    reasons = [(f"{reason.items:,}", reason.stage, reason.error) for reason in found.reasons]
    rows = [(row["key"], row["stage"], row["error"]) for row in found.rows]
    note = f"{len(rows):,} of {found.quarantined:,} items; -k lists more, and -o FILE.csv writes all"
    if out is not None:
        note = f"{out}: {count:,} items{kept_note(written)}"
    listed = [table_view(("key", "stage", "error"), rows, note)] if rows else [note]
    view = Group(table_view(("items", "stage", "error, of the first"), reasons, words), *listed)
    return Outcome(data=data, view=view)


def is_quarantine(path: Path) -> bool:
    """Whether a file is a list of what a pool lost, to which nobody has added anything."""
    from raysal.labels.files import unknown_work
    from raysal.pool.layout import QUARANTINE_SCHEMA

    return not unknown_work(path, QUARANTINE_SCHEMA.names)


@app.command("verify")
def verify(pool: PoolPath, json: Json = False, debug: Debug = False) -> Outcome:
    """Compare every byte of a pool with its records."""
    del json, debug
    from raysal.pool import open_pool

    with progress("verifying"):
        look_now()
        files = open_pool(pool).verify()
    return Outcome(data={"pool": str(pool), "files": files, "ok": True}, view=f"{pool}: {files} files, all as written")


@app.command("export")
def export(
    pool: PoolPath,
    out: Annotated[
        Path,
        Option(
            "--out",
            "-o",
            help="The file to write: .parquet with the vectors; .csv, .tsv, .jsonl or .json without, to look for keys.",
        ),
    ],
    force: Force = False,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Write the ids, keys and carried columns of a pool to one file; to a Parquet file the vectors, too."""
    del json, debug
    from raysal.pool import open_pool

    check_output(out)
    check_no_source(out, pool)
    found = open_pool(pool)
    with progress("exporting"):
        look_now()
        written = found.export_file(out, overwrite=force)
    data = {"pool": str(pool), "out": str(out), "rows": len(found), **kept_data(written)}
    return Outcome(data=data, view=f"{out}: {len(found)} rows{kept_note(written)}")


@app.command("remove")
def remove(
    pool: PoolPath,
    keys: Annotated[list[str] | None, Argument(help="The keys of items.", show_default=False)] = None,
    keys_file: Annotated[
        Path | None,
        Option("--keys", metavar="FILE", help="A file of keys: one in each line, or a table with a column key."),
    ] = None,
    missing: Annotated[
        bool,
        Option("--missing", help="The items that the source does not list any more. They are new if they come back."),
    ] = False,
    most: Annotated[
        float, Option(min=0, max=1, help="With --missing: the share of the items that may be missing.")
    ] = MOST_MISSING,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Take items out of a pool: they are not swept, picked or found any more.

    Those that are named stay out when the source is embedded again. Their labels stay in the ledgers of runs, and train
    nothing. What was there before can be read until `raysal pool compact`.
    """
    del json, debug
    if missing == bool(keys or keys_file):
        raise ConfigError("pool remove", "name items, or say --missing", "as `raysal pool remove POOL KEY ...`")
    with progress("looking"):
        look_now()
        if missing:
            from raysal.embedding.missing import remove_missing

            done = remove_missing(pool, most=most)
        else:
            from raysal.labels.key_files import keys_in_file
            from raysal.pool.removing import remove_items

            done = remove_items(pool, [*(keys or ()), *(keys_in_file(keys_file) if keys_file is not None else ())])
    before = f"; {counted(done.before, 'item')} had been taken out before" if done.before else ""
    view = f"{pool}: {counted(done.removed, 'item')} taken out{before}, {counted(done.items, 'item')} left"
    return Outcome(data={"pool": str(pool), **asdict(done)}, view=view)


@app.command("changes")
def changes(
    pool: PoolPath,
    since: Annotated[int, Option(min=0, help="Only what came after the generation of this number.")] = 0,
    k: Annotated[int, Option("-k", min=0, help="Items to list, the last ones; 0 is all.")] = 20,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Show which items changed: the key, the id before, the id since, and the generation that came with it.

    An id means one item for good, so an item whose file changed has a new one under its old key.
    """
    del json, debug
    from raysal.cli.tables import table_view
    from raysal.pool import changes_of, open_pool

    with progress("looking"):
        look_now()
        opened = open_pool(pool)
        found = changes_of(opened, since)
    last = found[-k:] if k else found
    data = {"pool": str(pool), "generation": opened.generation, "since": since, "count": len(found)}
    data |= {"changes": [change._asdict() for change in last]}
    if not found:
        after = f" after generation {since}" if since else ""
        return Outcome(data=data, view=f"{pool}: no item has changed{after}")
    rows = [("(not kept)" if one.key is None else one.key, *map(str, one[1:])) for one in last]
    words = f"{pool}: {counted(len(found), 'change')}" + ("; -k 0 lists all" if len(last) < len(found) else "")
    return Outcome(data=data, view=table_view(("key", "old id", "id", "generation"), rows, words))


@app.command("compact")
def compact(pool: PoolPath, json: Json = False, debug: Debug = False) -> Outcome:
    """Write the items of a pool that grew or shrank into fewer files, without those that were taken out.

    No key, id or vector changes. What the pool was before cannot be read any more.
    """
    del json, debug
    from raysal.pool.compacting import compact as run

    with progress("compacting"):
        look_now()
        done = run(pool)
    sizes = f"{done.bytes_before:,} to {done.bytes:,} bytes"
    view = f"{pool}: {done.chunks_before:,} to {counted(done.chunks, 'chunk')}, {sizes}"
    return Outcome(data={"pool": str(pool), **asdict(done)}, view=view)
