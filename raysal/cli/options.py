"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from raysal.cli.output import Backend
from raysal.paths import place_given


def place(text: str) -> str:
    """What a person wrote as the place of a pool or an export: a URL as it is, a path with `~` replaced."""
    return str(place_given(text))


PoolPath = Annotated[str, Argument(parser=place, metavar="POOL", help="The pool: a directory, or s3://BUCKET/POOL.")]
PoolOut = Annotated[
    str,
    Option(
        "--out", parser=place, metavar="POOL", help="The pool to make or to finish: a directory, or s3://BUCKET/POOL."
    ),
]
BackendOption = Annotated[Backend, Option(help="Where the work is done: in this process, or on Ray.")]
Address = Annotated[
    str | None,
    Option(metavar="HOST:PORT", help="The Ray cluster. (Default: RAY_ADDRESS, or the cluster on this machine.)"),
]
MovedPool = Annotated[
    str | None,
    Option(
        "--pool",
        parser=place,
        metavar="POOL",
        help="The run's pool, where it was moved. The run remembers the place.",
    ),
]
Rebind = Annotated[
    bool,
    Option(
        "--rebind",
        help="The pool was made anew, or is another one: match the run's labels with its items by key. Labels of items "
        "that it does not have are kept, and train nothing.",
    ),
]
Target = Annotated[
    list[str] | None,
    Option(
        "--target",
        metavar="CLASS",
        help="The class that is looked for, for the scores probability and log_odds. Repeatable: any of them. "
        "(Default: that of the run.)",
        show_default=False,
    ),
]
TableFile = Annotated[
    Path | None,
    Option(
        "--out",
        "-o",
        help="Write the result to a .csv or .tsv (with a label column to fill in), .parquet, .jsonl or .json file.",
    ),
]
Force = Annotated[
    bool,
    Option("--force", help="Replace the file that is there. It is kept as FILE.1 if it may hold somebody's work."),
]
