"""The `raysal` command. Commands import heavy modules when they run, so that `--help` answers at once."""

from __future__ import annotations

from typing import Annotated

import typer

from raysal.cli.config import app as config_app
from raysal.cli.demo import demo as demo_command
from raysal.cli.doctor import doctor as doctor_command
from raysal.cli.embed import embed as embed_command
from raysal.cli.index import app as index_app
from raysal.cli.label import app as label_app
from raysal.cli.output import run_app
from raysal.cli.pool import app as pool_app
from raysal.cli.predict import predict as predict_command
from raysal.cli.run import resume as resume_command
from raysal.cli.run import run as run_command
from raysal.cli.run import status as status_command
from raysal.cli.select import select as select_command
from raysal.cli.serve import serve as serve_command
from raysal.cli.serve import stop as stop_command
from raysal.cli.similar import search as search_command

__all__ = ["app", "main"]

app = typer.Typer(
    name="raysal",
    help="Choose, from millions of unlabeled items, the few that are worth a label.",
    epilog="Exit codes: 0 done, 1 an error of raysal, 2 an error in the input, 3 too many items lost, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from raysal import __version__

        typer.echo(f"raysal {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The options before a command."""
    del version


app.command("embed")(embed_command)
app.command("select")(select_command)
app.command("predict")(predict_command)
app.command("run")(run_command)
app.command("resume")(resume_command)
app.command("status")(status_command)
app.add_typer(label_app, name="label")
app.add_typer(pool_app, name="pool")
app.add_typer(index_app, name="index")
index_app.command("search")(search_command)
index_app.command("serve")(serve_command)
index_app.command("stop")(stop_command)
app.add_typer(config_app, name="config")
app.command("doctor")(doctor_command)
app.command("demo")(demo_command)


def main(args: list[str] | None = None) -> int:
    """Run one command; see `raysal.cli.output`.

    Args:
        args: the words of the command line; None is those of this process.

    Returns:
        The exit code.
    """
    return run_app(app, args)
