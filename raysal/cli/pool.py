"""`raysal pool`: show what a pool holds, check its files, and export it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from raysal.cli.options import Force, PoolPath
from raysal.cli.output import Debug, Json, Outcome
from raysal.cli.progress import progress
from raysal.cli.tables import check_no_source, check_output, kept_data, kept_note

app = typer.Typer(help="Show what a pool holds, check its files, and export it.", no_args_is_help=True)


@app.command("info")
def info(pool: PoolPath, json: Json = False, debug: Debug = False) -> Outcome:
    """Show what a pool holds."""
    del json, debug
    from raysal.pool import open_pool

    found = {"pool": str(pool), **asdict(open_pool(pool).info())}
    width = max(map(len, found))
    return Outcome(data=found, view="\n".join(f"{name:<{width}}  {value}" for name, value in found.items()))


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
    force: Force = False,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Write the ids, keys, carried columns and vectors of a pool to one Parquet file."""
    del json, debug
    from raysal.pool import open_pool

    check_output(out, ("parquet",))
    check_no_source(out, pool)
    found = open_pool(pool)
    with progress("exporting"):
        written = found.export_file(out, overwrite=force)
    data = {"pool": str(pool), "out": str(out), "rows": len(found), **kept_data(written)}
    return Outcome(data=data, view=f"{out}: {len(found)} rows{kept_note(written)}")
