"""The `raysal` command. Nothing is imported until signals that end it are listened to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from raysal.cli.ending import listen, listen_no_more, say_ended
from raysal.cli.garbage import look_later, look_no_more

if TYPE_CHECKING:
    import typer

    app: typer.Typer
    """All commands; made when it is first asked for."""

__all__ = ["app", "main"]


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from raysal.cli.commands import app_for

    globals()[name] = made = app_for()
    return made


def main(args: list[str] | None = None) -> int:
    """Run one command; see `raysal.cli.output`.

    Args:
        args: the words of the command line; None is those of this process, which ends with the command.

    Returns:
        The exit code.
    """
    words = sys.argv[1:] if args is None else args
    begun = False
    try:
        if args is None:
            listen()
            look_later()
        from raysal.cli.commands import app_for
        from raysal.cli.output import run_app

        app = app_for(words[0] if words else None)
        begun = True
        return run_app(app, words)
    except KeyboardInterrupt:  # while modules are imported, or as the answer is printed
        return say_ended("--json" in words, begun)
    finally:
        if args is None:
            look_no_more()
            listen_no_more()
