"""`raysal label backend`: an ML backend for Label Studio over a run."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from raysal.cli.options import MovedPool
from raysal.cli.output import Debug, Json, Outcome, note
from raysal.cli.run import Run


def backend(
    run: Run,
    host: Annotated[
        str, Option(help="The address to listen on. Others than 127.0.0.1 can be reached by other machines.")
    ] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="The port; 0 for any free one.")] = 9090,
    pool: MovedPool = None,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Serve an ML backend for Label Studio until Ctrl-C: predictions, the next tasks, and annotations as they are made.

    It prints the address to connect in Label Studio, with its token: that of RAYSAL_TOKEN, or a new one. Needs the
    extra `serve`.
    """
    del json, debug
    from raysal.web.label_studio import serve_backend

    count = serve_backend(run, pool, host=host, port=port, ready=lambda address: note(f"connect {address}"))
    return Outcome(data={"run": str(run), "labels": count}, view=f"{run}: {count} labels taken in")
