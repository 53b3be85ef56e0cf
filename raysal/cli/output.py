"""How commands answer. A command returns an `Outcome` or raises; printing and exit codes are made here, once.

    0 done · 1 our fault · 2 the user's · 3 quarantine exceeded · 130 interrupted · 141 nobody reads on

With `--json` stdout gets exactly one JSON object, errors included; what a library prints goes to stderr.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from raysal.errors import QuarantineExceeded, RaysalError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
USER, INTERRUPTED, PIPE = 2, 130, 141


class Backend(StrEnum):
    """Where the work is done."""

    local = "local"
    ray = "ray"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command found: `data` for --json, `view` (text, or anything rich can draw) for people."""

    data: Mapping[str, Any]
    view: Any
    exit_code: int = 0


class Interrupted(RaysalError):
    """Ctrl-C, with a line on how to go on."""

    exit_code = INTERRUPTED


@contextlib.contextmanager
def going_on(how: str) -> Iterator[None]:
    """Tell whoever interrupts the block how to go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted; {how}") from error


def run_app(app: typer.Typer, args: Sequence[str] | None = None) -> int:
    """Run a command line; print its answer and return the exit code."""
    argv = list(sys.argv[1:] if args is None else args)
    as_json, debug = "--json" in argv and "--help" not in argv, "--debug" in argv
    try:
        try:
            with stdout_to_stderr() if as_json else contextlib.nullcontext():
                result = app(args=argv, prog_name="raysal", standalone_mode=False)
            if isinstance(result, Outcome):
                _print(result, as_json)
                return result.exit_code
            code = int(result or 0)  # --help and --version
            if code == INTERRUPTED:
                raise Interrupted("interrupted")
            sys.stdout.flush()
            return code
        except BrokenPipeError:
            raise
        except (Exception, KeyboardInterrupt) as error:
            return _fail(error, as_json, debug)
    except BrokenPipeError:  # the reader has gone, as in `raysal ... | head`
        _discard_stdout()
        return PIPE


def _print(outcome: Outcome, as_json: bool) -> None:
    if as_json:
        print(dumps(outcome.data))
    elif isinstance(outcome.view, str):
        print(outcome.view)
    else:
        from rich.console import Console

        # Cut nothing where no terminal sets the width.
        console = Console(width=None if sys.stdout.isatty() else 400)
        with console.capture() as drawn:  # rich would exit by itself on a broken pipe
            console.print(outcome.view)
        sys.stdout.write(drawn.get())
    sys.stdout.flush()


def _fail(error: BaseException, as_json: bool, debug: bool) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":  # the help has been printed in its making
        return USER
    message, code = explain(error)
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    print(f"raysal: {message}", file=sys.stderr)
    if as_json:
        data: dict[str, Any] = {"error": message, "type": type(error).__name__, "exit_code": code}
        if isinstance(error, QuarantineExceeded):
            data |= {"pool": error.pool, "items": error.items, "quarantined": error.quarantined}
        print(dumps(data))
        sys.stdout.flush()
    return code


_ENVIRONMENT = {
    errno.ENOSPC: "free some space and run it again",
    errno.EDQUOT: "free some space and run it again",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EROFS: "choose another place",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file",
    errno.EEXIST: "choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
}
_MODULES = {"ray": "pip install 'ray[default]', or pass --backend local", "faiss": "pip install faiss-cpu"}


def explain(error: BaseException) -> tuple[str, int]:
    """(one line for people, exit code) of whatever ended a command."""
    if isinstance(error, RaysalError):
        return _one_line(error), error.exit_code
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "interrupted", INTERRUPTED
    usage = getattr(error, "format_message", None)  # a click error: typer has its own copy of click by now
    if usage is not None:
        return _usage(error, usage())
    if isinstance(error, OSError) and error.errno in _ENVIRONMENT:
        where = error.filename2 or error.filename or "the file system"
        return f"{where}: {error.strerror}; {_ENVIRONMENT[error.errno]}", USER
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        fix = _MODULES.get(package, f"pip install {package}")
        return f"the module {package!r} is not installed; {fix}", USER
    return f"unexpected {type(error).__name__}: {_one_line(error)}; --debug shows where", 1


def _usage(error: BaseException, message: str) -> tuple[str, int]:
    context = getattr(error, "ctx", None)
    path = "raysal" if context is None else context.command_path
    return f"{_one_line(message).rstrip('.')}; see `{path} --help`", int(getattr(error, "exit_code", USER))


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


def dumps(data: Mapping[str, Any]) -> str:
    """One line of JSON; numbers that JSON does not have become null, other values (dates, bytes) their text."""
    return json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send what is printed to stdout to stderr, by Python or beneath it."""
    with contextlib.ExitStack() as stack:
        try:
            descriptor = sys.stdout.fileno()
        except (OSError, ValueError):  # stdout is not a file here
            descriptor = None
        if descriptor == 1:
            sys.stdout.flush()
            saved = os.dup(1)
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, 1)
            os.dup2(2, 1)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def _discard_stdout() -> None:
    """Let the interpreter flush on exit without a word."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
