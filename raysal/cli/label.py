"""`raysal label`: import labels into a run, export them, and take them back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from raysal.cli.options import MovedPool, Rebind
from raysal.cli.output import Debug, Json, Outcome
from raysal.cli.run import Run
from raysal.cli.tables import writable_suffix

app = typer.Typer(help="Import labels into a run, export them, and take them back.", no_args_is_help=True)


@app.command("import")
def import_(
    run: Run,
    file: Annotated[Path, Argument(help="A .csv, .parquet or .jsonl with key,label (optional: annotator, weight).")],
    pool: Annotated[
        Path | None,
        Option(help="Start a run over this pool if there is none. If the run's pool was moved, its place from now on."),
    ] = None,
    rebind: Rebind = False,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Import the labels of a file into a run: all of them, or none.

    Labels may be partial, late or repeated. Rows without a label are ignored.
    """
    del json, debug
    from raysal.labels import read_labels
    from raysal.pool import open_pool
    from raysal.rounds.directory import RunDir
    from raysal.rounds.run_labels import RunLabels
    from raysal.rounds.session import Session

    read = read_labels(file)
    if pool is not None and RunDir(run).config() is None:
        open_pool(pool).ids_of(
            [label.key for label in read.labels]
        )  # before a run is made: a wrong key should leave no run behind
        Session(run, pool).close()
    with RunLabels.open(run, pool, "start one with --pool POOL, or check the path", rebind=rebind) as labels:
        told, rebound = labels.tell(read.labels), labels.rebound
    counts = asdict(told)
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    if read.unanswered:
        parts.append(f"{read.unanswered} rows without a label")
    view = f"{run}: {len(read.labels)} labels read" + (f" ({', '.join(parts)})" if parts else "")
    data = {"run": str(run), "labels": len(read.labels), "unanswered": read.unanswered, **counts}
    if rebound is not None:
        data["rebound"] = asdict(rebound)
        view = f"{run}: {rebound}\n{view}"
    return Outcome(data=data, view=view)


@app.command("withdraw")
def withdraw(
    run: Run,
    keys: Annotated[list[str], Argument(help="The items' keys.")],
    annotator: Annotated[str, Option(help="Whose labels, as the label file names the annotator.")] = "",
    pool: MovedPool = None,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Take back an annotator's labels and skips of some items. These items may be offered again."""
    del json, debug
    from raysal.rounds.run_labels import RunLabels

    with RunLabels.open(run, pool) as labels:
        taken = labels.withdraw(keys, annotator)
        others = sorted({label.annotator for label in labels.ledger.answers() if label.key in set(keys)})
    whose = f" of {annotator}" if annotator else ""
    left = f"; labels are left of {', '.join(map(repr, others))} (--annotator)" if others else ""
    return Outcome(
        data={"run": str(run), "keys": keys, "annotator": annotator, "withdrawn": taken, "annotators_left": others},
        view=f"{run}: {taken} of {len(keys)} answers{whose} taken back{left}",
    )


@app.command("export")
def export(
    run: Run,
    out: Annotated[Path, Option("--out", "-o", help="The .csv, .parquet or .jsonl to write.")],
    waiting: Annotated[
        bool,
        Option("--waiting", help="Write the items that wait for a label instead, with a column to fill in (.csv)."),
    ] = False,
    pool: MovedPool = None,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Write the labels of a run as key,label,annotator,weight, with one row for each annotator of an item.

    The file holds disputed items, but no skipped ones. To import it into the same run changes nothing.
    """
    del json, debug
    from raysal.errors import ConfigError
    from raysal.labels import write_labels
    from raysal.rounds.run_labels import RunLabels

    suffix = writable_suffix(out)
    if waiting and suffix != ".csv":
        raise ConfigError(out, "the items that wait are written as .csv", "name a .csv file")
    with RunLabels.open(run, pool) as held:
        counts, absent = held.ledger.counts(), len(held.ledger.absent())
        if waiting:
            keys = [key for _, key in held.ledger.outstanding()]
            write_waiting(out, keys)
            view = f"{out}: {len(keys)} items to label; then `raysal label import {run} {out}`"
            return Outcome(data={"run": str(run), "out": str(out), "waiting": len(keys)}, view=view)
        labels = held.ledger.answers()
    write_labels(out, labels)
    items = len({label.key for label in labels})
    note = f", {counts['disputed']} of them disputed" if counts["disputed"] else ""
    note += f"; {counts['skipped']} skipped items left out" if counts["skipped"] else ""
    note += f"; {absent} items with an answer are not in the pool" if absent else ""
    data = {"run": str(run), "out": str(out), "labels": len(labels), "items": items}
    data |= {"disputed": counts["disputed"], "skipped": counts["skipped"], "absent": absent}
    return Outcome(data=data, view=f"{out}: {len(labels)} labels of {items} items{note}")


def write_waiting(out: Path, keys: list[str]) -> None:
    """Write a .csv of keys with empty labels."""
    import csv

    from raysal.store import write_file

    def write(temporary: Path) -> None:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["key", "label"])
            writer.writerows([key, ""] for key in keys)

    write_file(out, write)
