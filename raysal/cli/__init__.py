"""The `raysal` command. Heavy modules are imported inside the commands, so that `--help` answers at once."""

from __future__ import annotations

from typing import Annotated

import typer

from raysal.cli import config, demo, doctor, embed, label, pool, run, select
from raysal.cli.output import run_app

__all__ = ["app", "main"]

app = typer.Typer(
    name="raysal",
    help="Choose, from millions of unlabeled items, the few that are worth a label.",
    epilog="Exit codes: 0 done, 1 our fault, 2 yours, 3 too many items quarantined, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from raysal import __version__

        typer.echo(f"raysal {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


app.command("embed")(embed.embed)
app.command("select")(select.select)
app.command("run")(run.run)
app.command("resume")(run.resume)
app.command("status")(run.status)
app.add_typer(label.app, name="label")
app.add_typer(pool.app, name="pool")
app.add_typer(config.app, name="config")
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)


def main(args: list[str] | None = None) -> int:
    """Run one command; its exit code. See `raysal.cli.output`."""
    return run_app(app, args)
