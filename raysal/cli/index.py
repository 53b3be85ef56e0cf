"""`raysal index`: neighbours in a pool without a pass over all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument

from raysal.cli.output import Debug, Json, Outcome

app = typer.Typer(help="Build, show and drop the index of a pool; find what is similar.", no_args_is_help=True)
Where = Annotated[Path, Argument(help="The pool directory.")]


@app.callback()
def group() -> None:
    """Build, show and drop the index of a pool; find what is similar."""


@app.command("drop")
def drop(pool: Where, json: Json = False, debug: Debug = False) -> Outcome:
    """Delete the index of a pool. The pool stays as it is."""
    del json, debug
    from raysal.index import drop_index
    from raysal.pool import open_pool

    count = drop_index(open_pool(pool).path)
    view = f"{pool}: the index is gone" if count else f"{pool}: there was no index"
    return Outcome(data={"pool": str(pool), "generations": count}, view=view)
