"""The commands. A module is imported when what it holds is asked for, so that every command starts at once."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

_COMMANDS = {
    "embed": "raysal.cli.embed:embed",
    "select": "raysal.cli.select:select",
    "predict": "raysal.cli.predict:predict",
    "find": "raysal.cli.find:find",
    "finetune": "raysal.cli.finetune:finetune",
    "rank": "raysal.cli.rank:rank",
    "export": "raysal.cli.export:export",
    "dedup": "raysal.cli.dedup:dedup",
    "curate": "raysal.cli.curate:curate",
    "filter": "raysal.cli.filter:filter",
    "balance": "raysal.cli.balance:balance",
    "core": "raysal.cli.core:core",
    "check": "raysal.cli.check_labels:check",
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


def app_for(word: str | None = None) -> typer.Typer:
    """The command line, as far as one of its words needs it.

    Args:
        word: the first one. To build all commands takes as long as to import numpy, so a command is built alone; help,
            and the error for an unknown one, list all.

    Returns:
        All commands, or the one.
    """
    names = [word] if word is not None and word in _COMMANDS else list(_COMMANDS)
    made = typer.Typer(
        name="raysal",
        help="Choose, from millions of unlabeled items, the few that are worth a label.",
        epilog="Exit codes: 0 done, 1 an error of raysal, 2 an error in the input, 3 too many items lost, "
        "130 interrupted, 143 terminated.",
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
