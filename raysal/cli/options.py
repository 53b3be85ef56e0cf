"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from raysal.cli.output import Backend

PoolPath = Annotated[Path, Argument(help="The pool directory.")]
BackendOption = Annotated[Backend, Option(help="Where the work is done: in this process, or on Ray.")]
Address = Annotated[
    str | None,
    Option(metavar="HOST:PORT", help="The Ray cluster. (Default: RAY_ADDRESS, or the cluster on this machine.)"),
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
