"""`raysal export`: write chosen items of a pool with their media, for other programs."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Option

from raysal.cli.garbage import look_now
from raysal.cli.options import PoolPath, place
from raysal.cli.output import Debug, Json, Outcome, counted, on_interrupt
from raysal.cli.pairs import tests_of
from raysal.cli.progress import progress


class Forms(StrEnum):
    """The values of `raysal.exporting.options.Form`."""

    coco = "coco"
    csv = "csv"
    lance = "lance"
    links = "links"
    parquet = "parquet"
    webdataset = "webdataset"


def export(
    pool: PoolPath,
    form: Annotated[
        Forms,
        Option(
            "--as",
            help="webdataset: tar shards. parquet, lance: media and columns in tables. csv: columns alone. links: a "
            "folder of links to the files, by class. coco: copies of pictures, with images.json.",
        ),
    ],
    out: Annotated[
        str,
        Option(
            "--out",
            "-o",
            parser=place,
            metavar="PLACE",
            help="The directory to make or to finish; of csv, parquet and webdataset also s3://BUCKET/FOLDER.",
        ),
    ],
    keys: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="The items with these keys: a text with one in each line, or a table with a column key.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        Option(
            help="The items that have a label in this run, with it; of owners with a label all parts. Disputed ones "
            "are left out."
        ),
    ] = None,
    cls: Annotated[
        list[str] | None,
        Option("--class", metavar="NAME", help="Of a run, only the items with this label. Repeatable: any of them."),
    ] = None,
    where: Annotated[
        list[str] | None,
        Option(
            metavar="COLUMN=TEST",
            help='The items that pass: split=train, or year={"min": 2020}, split={"not": "test"}, source=["a", "b"]. '
            "Repeatable: all of them.",
        ),
    ] = None,
    ranking: Annotated[Path | None, Option(help="The first -k items of a ranking, with rank and score.")] = None,
    k: Annotated[int | None, Option("-k", min=1, help="How many items of the ranking.")] = None,
    vectors: Annotated[bool, Option("--vectors", help="Of parquet and lance: also the vectors.")] = False,
    copy: Annotated[bool, Option("--copy", help="Of links: copies of the files instead.")] = False,
    shard_items: Annotated[int, Option(min=1, help="Most items of a shard.")] = 10_000,
    shard_bytes: Annotated[int, Option(min=1, help="Most bytes of media in a shard.")] = 256 << 20,
    source: Annotated[
        str | None, Option(help="Where the media are, if they were moved. (Default: where the pool was made of.)")
    ] = None,
    max_lost: Annotated[
        float,
        Option(min=0, max=1, help="Share of the items that may lack their media. If more do, the exit code is 3."),
    ] = 0.0,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Write items of a pool with their media and columns, in shards, for other programs.

    Name the items by one of --keys, --run, --where and --ranking; without them it is the whole pool. Media are copied
    to the byte from where the pool was made of. Items whose media are gone, or were written since, are in lost.csv.

    manifest.json says where all came from, items.parquet where each item is, and `sha256sum -c SHA256SUMS` checks it.

    After an interruption, run the same command again: it goes on where it stopped.
    """
    del json, debug
    tests = None if where is None else tests_of(where, "--where")
    with on_interrupt("run the same command again to go on"), progress("reading") as report:
        from raysal.api.export import export as run_export

        look_now()

        done = run_export(
            pool, out=out, form=form.value, keys=keys, run=run, classes=cls or (), where=tests, ranking=ranking, k=k,
            vectors=vectors, copy=copy, shard_items=shard_items, shard_bytes=shard_bytes, source=source,
            max_lost=max_lost, report=report,
        )  # fmt: skip
    words = f"{out}: {counted(done.exported, 'item')} as {done.form}"
    words += f" in {counted(done.shards, 'shard')}" if done.form in ("csv", "lance", "parquet", "webdataset") else ""
    words += f", {done.bytes:,} bytes of media" if done.bytes else ""
    words += "" if done.made else " (it was there, as written: nothing to do)"
    words += f" ({counted(done.resumed, 'shard')} of before)" if done.resumed else ""
    words += f"\n{counted(done.lost, 'item')} could not be exported: {out}/lost.csv says why" if done.lost else ""
    for state, count in done.left_out.items():
        words += f"\n{counted(count, 'item')} of the run left out: {state}"
    return Outcome(data={"pool": str(pool), **asdict(done), "out": str(out)}, view=words)
