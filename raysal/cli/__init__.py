"""The `raysal` command. A module is imported when what it holds is asked for, so that every command starts at once."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any

import typer

from raysal.cli.garbage import look_later, look_no_more
from raysal.cli.output import run_app

__all__ = ["app", "main"]

_COMMANDS = {
    "embed": "raysal.cli.embed:embed",
    "select": "raysal.cli.select:select",
    "predict": "raysal.cli.predict:predict",
    "find": "raysal.cli.find:find",
    "finetune": "raysal.cli.finetune:finetune",
    "rank": "raysal.cli.rank:rank",
    "run": "raysal.cli.run:run",
    "resume": "raysal.cli.run:resume",
    "status": "raysal.cli.run:status",
    "label": "raysal.cli.label:app",
    "serve": "raysal.cli.page:serve",
    "pool": "raysal.cli.pool:app",
    "index": "raysal.cli.index:app",
    "config": "raysal.cli.config:app",
    "doctor": "raysal.cli.doctor:doctor",
    "demo": "raysal.cli.demo:demo",
}
"""Where each command or group of commands is, in the order of the help."""

app: typer.Typer
"""All commands; made when it is first asked for."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from raysal import __version__

        typer.echo(f"raysal {__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The options before a command."""
    del version


def _app_of(names: list[str]) -> typer.Typer:
    """The command line with some of its commands."""
    made = typer.Typer(
        name="raysal",
        help="Choose, from millions of unlabeled items, the few that are worth a label.",
        epilog="Exit codes: 0 done, 1 an error of raysal, 2 an error in the input, 3 too many items lost, "
        "130 interrupted.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    made.callback()(root)
    for name in names:
        module, _, attribute = _COMMANDS[name].partition(":")
        part = getattr(import_module(module), attribute)
        if isinstance(part, typer.Typer):
            made.add_typer(part, name=name)
        else:
            made.command(name)(part)
    return made


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = made = _app_of(list(_COMMANDS))
    return made


def main(args: list[str] | None = None) -> int:
    """Run one command; see `raysal.cli.output`.

    Args:
        args: the words of the command line; None is those of this process, which ends with the command.

    Returns:
        The exit code.
    """
    words = sys.argv[1:] if args is None else args
    # To build all commands takes as long as to import numpy. Help, and the error for an unknown one, list them.
    asked = words[0] if words and words[0] in _COMMANDS else None
    if args is None:
        look_later()
    try:
        return run_app(_app_of([asked]) if asked else _app_of(list(_COMMANDS)), words)
    finally:
        if args is None:
            look_no_more()
