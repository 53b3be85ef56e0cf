"""`raysal label`: import labels into a run, export them, skip and release items, and take answers back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from raysal.cli.garbage import look_now
from raysal.cli.label_backend import backend
from raysal.cli.options import Force, MovedPool, Rebind, place
from raysal.cli.output import Debug, Json, Outcome
from raysal.cli.run import Run
from raysal.cli.tables import check_no_source, check_output, kept_data, kept_note
from raysal.types import SKIP

app = typer.Typer(
    help="Import labels into a run, export them, skip and release items, and take answers back.", no_args_is_help=True
)


app.command("backend")(backend)


@app.command("import")
def import_(
    run: Run,
    file: Annotated[
        Path,
        Argument(
            help="A .csv, .tsv, .parquet, .jsonl or .json with key,label (optional: annotator, weight), or the export "
            "of a label tool (.xml of CVAT, too)."
        ),
    ],
    format: Annotated[
        str | None,
        Option(
            "--format",
            metavar="TOOL",
            help="The tool that wrote it: argilla, coco, cvat, doccano, fiftyone, label-studio, prodigy, or csv for "
            "any plain table. (Default: the file says so itself.)",
        ),
    ] = None,
    pool: Annotated[
        str | None,
        Option(
            parser=place,
            metavar="POOL",
            help="Start a run over this pool if there is none. If the run's pool was moved, its place from now on.",
        ),
    ] = None,
    rebind: Rebind = False,
    blank_withdraws: Annotated[
        bool, Option("--blank-withdraws", help="An empty label takes back what that annotator said of the item.")
    ] = False,
    skip_unknown: Annotated[
        bool, Option("--skip-unknown", help="Leave out labels of items that the pool does not have, and name them.")
    ] = False,
    other_pool: Annotated[
        bool,
        Option(
            "--other-pool",
            help="Take a file that was exported for another pool: match its labels with this run's items by key.",
        ),
    ] = False,
    strict: Annotated[
        bool, Option("--strict", help="Refuse a new class that looks like another one, or like a missing value.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Import the labels of a file into a run: all of them, or none.

    Labels may be partial, late or repeated. The label !skip says that the annotator skipped the item: no batch has it
    again. Rows without a label are ignored.
    """
    del json, debug
    from raysal.rounds.label_files import import_labels

    done = import_labels(
        run,
        file,
        format=format,
        pool=pool,
        rebind=rebind,
        other_pool=other_pool,
        blank_withdraws=blank_withdraws,
        skip_unknown=skip_unknown,
        strict=strict,
    )
    read, told, unknown, rebound = done.read, done.told, done.unknown, done.rebound
    counts = asdict(told)
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    if read.unanswered:
        parts.append(f"{read.unanswered} rows without a label")
    view = f"{run}: {len(read.labels)} labels read" + (f" ({', '.join(parts)})" if parts else "")
    if read.unanswered and not blank_withdraws:
        view += f"; items without a label are asked for again, unless the label says {SKIP}"
    if unknown:
        view += f"; left out, because the pool does not have them: {len(unknown)} ({', '.join(map(repr, unknown))})"
    data = {"run": str(run), "labels": len(read.labels), "unanswered": read.unanswered, **counts}
    data |= {"unknown": unknown, "warnings": []}
    if rebound is not None:
        data["rebound"] = asdict(rebound)
        view = f"{run}: {rebound}\n{view}"
    return Outcome(data=data, view=view)


@app.command("skip")
def skip(
    run: Run,
    keys: Annotated[list[str], Argument(help="The items' keys.")],
    annotator: Annotated[str, Option(help="Who skips them, as the label file names the annotator.")] = "",
    pool: MovedPool = None,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Skip items that nobody can label. No batch has them again, until `raysal label withdraw` takes the skip back."""
    del json, debug
    from raysal.rounds.run_labels import RunLabels

    with RunLabels.open(run, pool) as labels:
        count = labels.skip(keys, annotator)
        held = [label.key for label in labels.ledger.answers() if label.key in set(keys)]
    whose = f" by {annotator}" if annotator else ""
    left = f"; others have labelled {', '.join(map(repr, dict.fromkeys(held)))}" if held else ""
    return Outcome(
        data={"run": str(run), "keys": keys, "annotator": annotator, "skipped": count, "labelled": sorted(set(held))},
        view=f"{run}: {count} of {len(keys)} items skipped now{whose}{left}",
    )


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
        others = sorted({label.annotator for label in labels.ledger.answers(skips=True) if label.key in set(keys)})
    whose = f" of {annotator}" if annotator else ""
    left = f"; answers are left of {', '.join(map(repr, others))} (--annotator)" if others else ""
    return Outcome(
        data={"run": str(run), "keys": keys, "annotator": annotator, "withdrawn": taken, "annotators_left": others},
        view=f"{run}: {taken} of {len(keys)} answers{whose} taken back{left}",
    )


@app.command("release")
def release(
    run: Run,
    keys: Annotated[list[str] | None, Argument(help="The items' keys.", show_default=False)] = None,
    keys_file: Annotated[
        Path | None,
        Option("--keys", metavar="FILE", help="A file of keys: one in each line, or a table with a column key."),
    ] = None,
    all_: Annotated[bool, Option("--all", help="All items that wait for a label.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Let items that wait for a label wait no more: the next batches may have them again.

    For a batch that nobody will label, or that was asked for by mistake. Labels that come all the same are taken.
    """
    del json, debug
    from raysal.errors import ConfigError
    from raysal.labels.key_files import keys_in_file
    from raysal.rounds.run_labels import RunLabels

    if all_ == bool(keys or keys_file):
        raise ConfigError("label release", "name items, or say --all", "as `raysal label release RUN KEY ...`")
    named = [*(keys or ()), *(keys_in_file(keys_file) if keys_file is not None else ())]
    with RunLabels.open(run) as labels:
        count = labels.release(None if all_ else named)
        left = labels.ledger.counts()["leased"]
    of = "" if all_ else f" of {len(set(named))}"
    view = f"{run}: {count}{of} items released, {left} wait for a label"
    return Outcome(data={"run": str(run), "released": count, "waiting": left}, view=view)


@app.command("export")
def export(
    run: Run,
    out: Annotated[
        Path, Option("--out", "-o", help="The .csv, .tsv, .parquet, .jsonl or .json file to write (.xml for CVAT).")
    ],
    format: Annotated[
        str | None,
        Option(
            "--format",
            metavar="TOOL",
            help="Write the items for a label tool, with rank, score, reason and what the newest head predicts: "
            "argilla, coco, cvat, fiftyone, label-studio, or csv for a plain table; or embedding-atlas, a map of the "
            "whole pool.",
        ),
    ] = None,
    waiting: Annotated[
        bool, Option("--waiting", help="Write the items that wait for a label instead, with a column to fill in.")
    ] = False,
    holdout: Annotated[
        int | None,
        Option(
            "--holdout",
            metavar="N",
            min=1,
            help="Write N held-out items that nobody labelled yet instead, a uniform sample, with a column to fill in. "
            "Their labels measure the heads of the run, and never train one.",
        ),
    ] = None,
    ranking: Annotated[
        Path | None,
        Option(
            "--ranking",
            metavar="RANKING",
            help="With --format: write the first items of a ranking (`raysal rank RUN -o RANKING`) instead, with its "
            "ranks and scores.",
        ),
    ] = None,
    top: Annotated[
        int | None, Option("--top", metavar="N", min=1, help="How many items of the ranking. (Default: 100.)")
    ] = None,
    skips: Annotated[bool, Option("--skips", help="Also write who skipped what, as the label !skip.")] = False,
    url: Annotated[
        str | None,
        Option(
            "--url",
            metavar="PREFIX",
            help="With --format: where the tool finds an item is PREFIX and its key, as https://host/photos/. "
            "(Default: the place that the pool knows.)",
        ),
    ] = None,
    force: Force = False,
    pool: MovedPool = None,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Write the labels of a run as key,label,annotator,weight, with one row for each annotator of an item.

    The file holds disputed items. With --skips it holds all that people said, and makes a new run that knows the same.
    To import it into the same run changes nothing. If people wrote notes or gave ratings on the page, it has the
    columns note and rating, too; no import reads these.

    With --format the file is for a label tool, and the command prints what to tell the tool. `raysal label import`
    reads what the tool gives back.
    """
    del json, debug
    import pyarrow as pa

    from raysal.arrow_values import array_of
    from raysal.errors import ConfigError, LabelError
    from raysal.labels import write_labels
    from raysal.labels.files import write_table
    from raysal.labels.formats.registry import writer_of
    from raysal.labels.ledger import RENAME
    from raysal.rounds.directory import RunDir
    from raysal.rounds.run_labels import RunLabels

    check_output(out, () if format is None else writer_of(format, out.suffix).suffixes)
    if waiting and holdout is not None:
        raise ConfigError("--holdout", "and --waiting name different items", "give one of them")
    if ranking is not None and (waiting or holdout is not None):
        named = "--waiting" if waiting else "--holdout"
        raise ConfigError("--ranking", f"and {named} name different items", "give one of them")
    if top is not None and ranking is None:
        raise ConfigError("--top", "is of a ranking", "name it with --ranking")
    if format is not None:
        return _for_tool(run, out, format, waiting, holdout, ranking, top, skips, url, force, pool)
    if ranking is not None:
        fix = f"name a tool with --format, or write a page of it: raysal rank {ranking} -n {top or 100} -o {out}"
        raise ConfigError("--ranking", "a label file has no ranks", fix)
    if url is not None:
        raise ConfigError("--url", "a label file has no places of items", "name a tool with --format")
    with RunLabels.open(run, pool) as held:
        check_no_source(out, RunDir(run).require_config().pool)
        counts, absent = held.ledger.counts(), len(held.ledger.absent())
        labels = held.ledger.answers(skips=skips or waiting or holdout is not None)
        if SKIP in held.ledger.texts:  # of an earlier version, which knew no such mark
            raise LabelError(run, f"{SKIP} is a class of this run, and would be read as a skip", RENAME)
        remarks = held.remarks(skips=skips)
        keys = [key for _, key in held.ledger.outstanding()]
        if holdout is not None:
            keys = held.held_out(holdout)
    if waiting or holdout is not None:
        table = pa.table({"key": array_of(keys, pa.string()), "label": pa.nulls(len(keys), pa.string())})
        written = write_table(out, table, overwrite=force, known=labels)
        view = f"{out}: {len(keys)} items to label{kept_note(written)}; then `raysal label import {run} {out}`"
        data = {"run": str(run), "out": str(out), "waiting" if waiting else "held_out": len(keys)}
        return Outcome(data={**data, **kept_data(written)}, view=view)
    written = write_labels(out, labels, remarks=remarks, overwrite=force)
    items = len({label.key for label in labels if label.label != SKIP})
    note = f", {counts['disputed']} of them disputed" if counts["disputed"] else ""
    if counts["skipped"]:
        note += f"; {counts['skipped']} skipped items {'with them' if skips else 'left out (--skips)'}"
    note += f"; {absent} items with an answer are not in the pool" if absent else ""
    noted = sum(map(len, remarks.values()))
    note += f"; with {noted} notes and ratings" if noted else ""
    count = sum(label.label != SKIP for label in labels)
    data = {"run": str(run), "out": str(out), "labels": count, "items": items}
    data |= {"disputed": counts["disputed"], "skipped": counts["skipped"], "absent": absent, **kept_data(written)}
    data |= {"remarks": noted} if noted else {}
    return Outcome(data=data, view=f"{out}: {count} labels of {items} items{note}{kept_note(written)}")


def _for_tool(
    run: Path,
    out: Path,
    format: str,
    waiting: bool,
    holdout: int | None,
    ranking: Path | None,
    top: int | None,
    skips: bool,
    url: str | None,
    force: bool,
    pool: str | None,
) -> Outcome:
    """Write the items of a run for a label tool."""
    from raysal.api.labels import Which, export_labels
    from raysal.cli.progress import progress
    from raysal.rounds.directory import RunDir

    check_no_source(out, RunDir(run).require_config().pool)
    which: Which | None = "waiting" if waiting else "holdout" if holdout is not None else None
    with progress("exporting"):
        look_now()
        done = export_labels(
            run,
            out,
            format=format,
            which=which,
            most=holdout or top or 100,
            ranking=ranking,
            skips=skips,
            url=url,
            pool=pool,
            overwrite=force,
        )
    view = f"{out}: {done.items} items for {format}, {done.labels} labels{kept_note(done.written)}"
    view += f"; without their texts: {done.problem}" if done.problem else ""
    data = {"run": str(run), "out": str(out), "format": done.format, "items": done.items, "labels": done.labels}
    view += f"; without predictions: {done.unpredicted}" if done.unpredicted else ""
    data |= {"setup": done.setup, "problem": done.problem, "unpredicted": done.unpredicted, **kept_data(done.written)}
    return Outcome(data=data, view=f"{view}\n{done.setup}" if done.setup else view)
