"""`raysal select`: a batch from a pool, once."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from raysal.cli.output import Backend, Debug, Json, Outcome
from raysal.cli.progress import progress
from raysal.errors import ConfigError
from raysal.strategies.registry import SELECTORS

if TYPE_CHECKING:
    import pyarrow as pa


def select(
    pool: Annotated[Path, Argument(help="An embedded pool.")],
    k: Annotated[int, Option("-k", min=1, help="How many items.")],
    strategy: Annotated[
        str,
        Option(
            help=f"{', '.join(SELECTORS)}. Those that take another one inside have it after a colon, as "
            "class_balanced:coreset."
        ),
    ] = "badge",
    option: Annotated[
        list[str] | None,
        Option(metavar="NAME=VALUE", help="A field of the strategy, as score=entropy. Repeatable."),
    ] = None,
    labels: Annotated[
        Path | None,
        Option(
            help="A label file (.csv, .parquet, .jsonl with key,label), or the directory of a run, with whose head it "
            "then chooses."
        ),
    ] = None,
    narrow: Annotated[
        str, Option(help="none, uniform, top_score, anchoral, seals, mixed, refine; filter:anchoral.")
    ] = "none",
    narrow_option: Annotated[
        list[str] | None,
        Option(metavar="NAME=VALUE", help="A field of the narrower, as subpool=5000. Repeatable."),
    ] = None,
    partitions: Annotated[
        int | None,
        Option(
            min=1,
            help="Parts the pool is cut into; picks never depend on it. (Default: 1; Ray: one per CPU.)",
        ),
    ] = None,
    backend: Annotated[Backend, Option(help="This process, or Ray.")] = Backend.local,
    seed: Annotated[int, Option(min=0, help="Another seed, another draw.")] = 0,
    out: Annotated[
        Path | None,
        Option(
            "--out",
            "-o",
            help="Write a .csv (with a label column to fill in), .parquet or .jsonl.",
        ),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Choose the items of a pool that are most worth a label.

    Without labels it is a diverse first batch. With -o batch.csv the label column can be filled in;
    --labels batch.csv takes it back for the next batch.
    """
    del json, debug
    suffix = None if out is None else writable_suffix(out)
    chosen = {"name": strategy, **fields(option, "--option")}
    narrower = {"name": narrow, **fields(narrow_option, "--narrow-option")}
    with progress("selecting"):
        from raysal.api.select import select as select_batch

        table = select_batch(
            pool, k=k, strategy=chosen, labels=labels, narrow=narrower, partitions=partitions,
            backend=backend.value, seed=seed,
        )  # fmt: skip
        if out is not None and suffix is not None:
            write_table(table, out, suffix)
    rule = table.schema.metadata[b"narrow"].decode()
    data: dict[str, Any] = {"pool": str(pool), "k": k, "strategy": strategy, "narrow": narrow, "seed": seed}
    data["candidates"] = rule
    if out is not None:
        hint = "; fill in the label column and pass it back with --labels" if suffix == ".csv" else ""
        return Outcome(data={**data, "out": str(out)}, view=f"{out}: {k} items from {rule}{hint}")
    return Outcome(data={**data, "rows": table.to_pylist()}, view=drawn(table, f"from {rule}"))


def fields(pairs: list[str] | None, flag: str) -> dict[str, Any]:
    """{name: value} of NAME=VALUE pairs; a value is JSON if it can be, else text.

    Raises:
        ConfigError: a pair has no `=`, or a name comes twice.
    """
    found: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, text = pair.partition("=")
        if not equals or not name or name == "name":
            raise ConfigError(flag, f"{pair!r} is not NAME=VALUE", f"for example {flag} score=entropy")
        if name in found:
            raise ConfigError(flag, f"{name!r} is given twice", "give it once")
        try:
            found[name] = jsonlib.loads(text)
        except ValueError:
            found[name] = text
    return found


def writable_suffix(out: Path) -> str:
    """The kind of batch file, checked before any work is done.

    Raises:
        ConfigError: of no known kind, or its directory does not exist.
    """
    suffix = out.suffix.lower()
    if suffix not in (".csv", ".parquet", ".jsonl"):
        raise ConfigError(out, f"unknown extension {out.suffix!r}", "batch files end in .csv, .parquet or .jsonl")
    if not out.absolute().parent.is_dir():
        raise ConfigError(out, "its directory does not exist", f"make {out.absolute().parent}")
    return suffix


def write_table(table: pa.Table, out: Path, suffix: str) -> None:
    """Write a batch, whole or not at all."""
    import csv

    import pyarrow.parquet as pq

    from raysal.cli.output import dumps
    from raysal.store import write_file

    def write(temporary: Path) -> None:
        if suffix == ".parquet":
            pq.write_table(table, temporary)
        elif suffix == ".jsonl":
            temporary.write_text("".join(dumps(row) + "\n" for row in table.to_pylist()), encoding="utf-8")
        else:
            with open(temporary, "w", encoding="utf-8", newline="") as file:
                names = list(dict.fromkeys([*table.column_names, "label"]))
                writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
                writer.writeheader()
                writer.writerows(table.to_pylist())

    write_file(out, write)


def drawn(table: pa.Table, note: str) -> Any:
    """A batch for people, with a line below it."""
    from rich.box import SIMPLE
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    view = Table("rank", "key", "score", "reason", box=SIMPLE)
    for column in view.columns:
        column.overflow = "fold"
    for row in table.to_pylist():
        view.add_row(str(row["rank"]), Text(row["key"]), f"{row['score']:.4g}", Text(row["reason"] or ""))
    return Group(view, Text(note))
