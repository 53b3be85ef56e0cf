"""`raysal serve`: the page of a run, for people who label."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from raysal.cli.options import MovedPool
from raysal.cli.output import Backend, Debug, Json, Outcome, counted, note, on_interrupt
from raysal.cli.run import Run

if TYPE_CHECKING:
    from raysal.web.server import Served


def serve(
    run: Run,
    port: Annotated[
        int | None, Option(min=0, max=65535, help="The port; 0 is any free one. (Default: 8710, or a free one.)")
    ] = None,
    host: Annotated[
        str, Option(help="The address to listen on. Others than the loopback are open to other machines.")
    ] = "127.0.0.1",
    per_item: Annotated[
        int, Option("--per-item", metavar="N", min=1, help="How many people get each item, to see how far they agree.")
    ] = 1,
    media: Annotated[
        Path | None,
        Option(metavar="FOLDER", help="Where the files are that keys name, for a pool of ready vectors."),
    ] = None,
    no_open: Annotated[bool, Option("--no-open", help="Do not open the page in a browser.")] = False,
    backend: Annotated[Backend | None, Option(help="Replaces the config's fleet.backend.")] = None,
    pool: MovedPool = None,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Serve the page of a run: look at items, label them, choose the next batch. Ctrl-C ends it.

    The address is printed, with a token that every request must show. RAYSAL_TOKEN sets the token. Several people may
    use the page at once, and several servers the run: nobody gets, or can answer, an item that
    somebody else has now.
    """
    del debug
    from raysal.errors import ConfigError

    if media is not None and not media.is_dir():
        raise ConfigError("--media", f"{media} is no folder", "name the folder that the keys are in")

    def ready(served: Served) -> None:
        if json:
            note(served.address)
        else:
            print(served.address, flush=True)
        if served.host not in ("127.0.0.1", "localhost", "::1"):
            note(f"{served.host} can be reached by other machines, and what is sent is not encrypted")

    with on_interrupt("nothing is lost: run the same command again"):
        from raysal.web.server import serve as serve_page

        answers = serve_page(
            run,
            pool,
            host=host,
            port=port,
            per_item=per_item,
            media=media,
            backend=backend and backend.value,
            open_browser=not no_open,
            ready=ready,
        )
    said = f"{run}: stopped; {counted(answers, 'answer')} since it was started"
    return Outcome(data={"run": str(run), "answers": answers}, view=said)
