"""`raysal pool`: show what a pool holds, check its files, and export it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from raysal.cli.options import PoolPath
from raysal.cli.output import Debug, Json, Outcome
from raysal.cli.progress import progress
from raysal.cli.tables import writable_suffix
from raysal.errors import ConfigError

app = typer.Typer(help="Show what a pool holds, check its files, and export it.", no_args_is_help=True)


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


@app.command("verify")
def verify(pool: PoolPath, json: Json = False, debug: Debug = False) -> Outcome:
    """Compare every byte of a pool with its records."""
    del json, debug
    from raysal.pool import open_pool

    with progress("verifying"):
        files = open_pool(pool).verify()
    return Outcome(data={"pool": str(pool), "files": files, "ok": True}, view=f"{pool}: {files} files, all as written")


@app.command("export")
def export(
    pool: PoolPath,
    out: Annotated[Path, Option("--out", "-o", help="The .parquet file to write.")],
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Write the ids, keys, carried columns and vectors of a pool to one Parquet file."""
    del json, debug
    from raysal.pool import open_pool

    if writable_suffix(out) != ".parquet":
        raise ConfigError(out, "a pool is exported as Parquet", "name a .parquet file")
    with progress("exporting"):
        rows = open_pool(pool).export(out)
    return Outcome(data={"pool": str(pool), "out": str(out), "rows": rows}, view=f"{out}: {rows} rows")
