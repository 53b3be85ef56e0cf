"""`raysal pool`: look at a pool, check it, and take it elsewhere."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from raysal.cli.output import Debug, Json, Outcome
from raysal.cli.progress import progress
from raysal.errors import ConfigError

app = typer.Typer(help="Look at a pool, check it, take it elsewhere.", no_args_is_help=True)
Where = Annotated[Path, Argument(help="The pool directory.")]


@app.command("info")
def info(pool: Where, json: Json = False, debug: Debug = False) -> Outcome:
    """Show what a pool holds."""
    del json, debug
    from raysal.pool import open_pool

    found = {"pool": str(pool), **asdict(open_pool(pool).info())}
    width = max(map(len, found))
    return Outcome(data=found, view="\n".join(f"{name:<{width}}  {value}" for name, value in found.items()))


@app.command("verify")
def verify(pool: Where, json: Json = False, debug: Debug = False) -> Outcome:
    """Read every byte of a pool and compare it with its records."""
    del json, debug
    from raysal.pool import open_pool

    with progress("verifying"):
        files = open_pool(pool).verify()
    return Outcome(data={"pool": str(pool), "files": files, "ok": True}, view=f"{pool}: {files} files, all as written")


@app.command("export")
def export(
    pool: Where,
    out: Annotated[Path, Option("--out", "-o", help="The .parquet file to write.")],
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Write ids, keys, carried columns and vectors as one Parquet file."""
    del json, debug
    from raysal.cli.select import writable_suffix
    from raysal.pool import open_pool

    if writable_suffix(out) != ".parquet":
        raise ConfigError(out, "a pool is exported as Parquet", "name a .parquet file")
    with progress("exporting"):
        rows = open_pool(pool).export(out)
    return Outcome(data={"pool": str(pool), "out": str(out), "rows": rows}, view=f"{out}: {rows} rows")
