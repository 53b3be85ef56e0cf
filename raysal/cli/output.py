"""How commands answer. A command returns an `Outcome` or raises; this module prints it and makes the exit code.

    0 done · 1 an error of raysal · 2 an error in the input · 3 too much lost
    130 interrupted (Ctrl-C) · 143 terminated (SIGTERM) · 141 broken pipe

With `--json`, stdout gets exactly one JSON object, also for an error. What a library prints goes to stderr. Warnings
of raysal itself go to stderr, and into the object's `warnings`.

A stream that cannot encode a letter (an ASCII terminal or pipe, a file name that is not UTF-8) gets an escape for it,
and JSON stays JSON.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import json
import os
import re
import sys
import traceback
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any

import typer

from raysal.cli.ending import has_come, how_it_ended
from raysal.errors import ItemsLost, RaysalError, RaysalWarning
from raysal.messages import with_places
from raysal.store import dumps

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
USER, PIPE = 2, 141
ABORTED = 130
"""What typer returns where KeyboardInterrupt reached it."""


class Backend(StrEnum):
    """Where the work is done."""

    local = "local"
    ray = "ray"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The answer of a command."""

    data: Mapping[str, Any]
    """for --json"""
    view: Any
    """for people: text, or anything that rich can print"""
    exit_code: int = 0


class Interrupted(RaysalError):
    """The user pressed Ctrl-C, or the process was told to end. The message says how to go on.

    Args:
        how: to go on; empty where there is nothing to say.
    """

    def __init__(self, how: str = "") -> None:
        word, self.exit_code = how_it_ended()
        super().__init__(f"{word}; {how}" if how else word)


@contextlib.contextmanager
def on_interrupt(how: str) -> Iterator[None]:
    """If the user interrupts the block, say how to go on.

    Args:
        how: a clause for the message, as "run the same command again to go on".

    Yields:
        Nothing.

    Raises:
        Interrupted: the user pressed Ctrl-C, or the process was told to end.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, RaysalError) or not (isinstance(error, KeyboardInterrupt) or has_come()):
            raise
        raise Interrupted(how) from error


def run_app(app: typer.Typer, words: Sequence[str]) -> int:
    """Run a command line and print its answer.

    Args:
        app: the commands.
        words: the words of the command line.

    Returns:
        The exit code.
    """
    argv = [_with_home(word, before) for before, word in zip(["", *words], words, strict=False)]
    _accept_all_letters()
    as_json, debug = "--json" in argv and "--help" not in argv, "--debug" in argv
    try:
        try:
            with stdout_to_stderr() if as_json else contextlib.nullcontext(), own_warnings() as said:
                result = app(args=argv, prog_name="raysal", standalone_mode=False)
            if isinstance(result, Outcome):
                if said or "warnings" in result.data:
                    result = replace(result, data={**result.data, "warnings": said})
                _print(result, as_json)
                return result.exit_code
            code = int(result or 0)  # --help and --version
            if code == ABORTED:
                raise Interrupted
            sys.stdout.flush()
            return code
        except BrokenPipeError:
            raise
        except (Exception, KeyboardInterrupt) as error:
            return _fail(error, as_json, debug)
    except BrokenPipeError:  # the reader has closed the pipe, as in `raysal ... | head`
        _discard_stdout()
        return PIPE


@contextlib.contextmanager
def own_warnings() -> Iterator[list[str]]:
    """Print raysal's own warnings on stderr, one line each, and gather them for --json.

    Yields:
        The sentences so far.
    """
    said: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", RaysalWarning)
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, RaysalWarning):
                shown(message, category, *place, **more)
                return
            said.append(_one_line(message))
            note(f"warning: {said[-1]}")

        warnings.showwarning = show
        yield said


def _print(outcome: Outcome, as_json: bool) -> None:
    if as_json:
        print(_json_line(outcome.data))
    elif isinstance(outcome.view, str):
        print(with_places(outcome.view))
    else:
        from rich.console import Console

        # Without a terminal there is no width to cut lines at.
        console = Console(width=None if sys.stdout.isatty() else 400)
        with console.capture() as captured:  # rich would exit by itself on a broken pipe
            console.print(outcome.view)
        sys.stdout.write(captured.get())
    sys.stdout.flush()


def _fail(error: BaseException, as_json: bool, debug: bool) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":  # its constructor has printed the help
        return USER
    message, code = explain(error)
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    print(f"raysal: {message}", file=sys.stderr)
    if as_json:
        data: dict[str, Any] = {"error": message, "type": type(error).__name__, "exit_code": code}
        if isinstance(error, ItemsLost):
            data |= {"pool": error.pool, "items": error.items, "quarantined": error.quarantined}
            data |= {"passed_over": error.passed_over}
        print(_json_line(data))
        sys.stdout.flush()
    return code


_OS_FIXES = {
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
_MODULE_FIXES = {"ray": "pip install 'ray[default]', or pass --backend local", "faiss": "pip install faiss-cpu"}


def explain(error: BaseException) -> tuple[str, int]:
    """Put the error that ended a command into words.

    Args:
        error: any error.

    Returns:
        One line for people, and the exit code.
    """
    if isinstance(error, RaysalError):
        return _one_line(error), error.exit_code
    if isinstance(error, KeyboardInterrupt | typer.Abort) or has_come():
        return how_it_ended()
    usage = getattr(
        error, "format_message", None
    )  # a click error; newer versions of typer have their own copy of click
    if usage is not None:
        return _usage(error, usage())
    if isinstance(error, OSError) and error.errno in _OS_FIXES:
        where = error.filename2 or error.filename or "the file system"
        return f"{where}: {error.strerror}; {_OS_FIXES[error.errno]}", USER
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        fix = _MODULE_FIXES.get(package, f"pip install {package}")
        return f"the module {package!r} is not installed; {fix}", USER
    return f"unexpected {type(error).__name__}: {_one_line(error)}; --debug shows where", 1


_WORDS = (
    (re.compile("Value error, "), ""),
    (re.compile(r"Input should be greater than or equal to (\S+)"), r"out of range; use \1 or more"),
    (re.compile(r"Input should be less than or equal to (\S+)"), r"out of range; use \1 or less"),
    (re.compile("Input should be a valid integer.*"), "not a valid integer"),
    (re.compile("Input should be a valid number.*"), "not a valid number"),
)
"""What newer versions of typer say of values in the words of pydantic, and how it is said here."""


def _usage(error: BaseException, message: str) -> tuple[str, int]:
    for words, own in _WORDS:
        message = words.sub(own, message)
    context = getattr(error, "ctx", None)
    path = "raysal" if context is None else context.command_path
    if path.endswith(" embed") and "unexpected extra argument" in message:  # the shell has replaced a pattern
        message = f"{message.rstrip('.')}; one source is taken: quote a pattern, as 'data/*.parquet'"
    return f"{_one_line(message).rstrip('.')}; see `{path} --help`", int(getattr(error, "exit_code", USER))


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


def counted(count: int, what: str) -> str:
    """A number of things, in words: `1 round`, `12 rounds`."""
    return f"{count} {what}" if count == 1 else f"{count:,} {what}s"


def note(line: str) -> None:
    """Say something beside the answer."""
    print(f"raysal: {line}", file=sys.stderr)


def _json_line(data: Mapping[str, Any]) -> str:
    """Data as one line of JSON, in letters that stdout can encode."""
    line = dumps(data)
    try:
        line.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(json.loads(line), ensure_ascii=True)
    return line


_PLAIN = {"–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "→": "->", "·": ".", "≤": "<=", "≥": ">=", "’": "'"}
"""ASCII for signs in texts of raysal and its libraries, where a stream has no other."""


def encodable(text: str) -> str:
    """A text as stdout will show it, so that tables are laid out by the letters that are printed.

    Letters that a terminal obeys are written as escapes too.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    plain = "".join(ascii(letter)[1:-1] if unicodedata.category(letter) == "Cc" else letter for letter in text)
    return plain.encode(encoding, "raysal.escape").decode(encoding)


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Say what a stream cannot encode: by `_PLAIN`, or as an escape."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    escaped = (_PLAIN.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in text)
    return "".join(escaped), error.end


codecs.register_error("raysal.escape", _escape)


def _accept_all_letters() -> None:
    """Let stdout and stderr escape what they cannot encode."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="raysal.escape")


PATHS = ("--out", "-o", "--pool", "--run", "--labels", "--data", "--keys", "--ranking", "--source")
"""Options that take a path."""


def _with_home(word: str, before: str) -> str:
    """A word such as `--out=~/pool`, or `~/pool` after `--out`, with the home directory. Shells leave some alone."""
    if before in PATHS and (word == "~" or word.startswith("~/")):
        return os.path.expanduser(word)
    option, equals, value = word.partition("=~")
    is_option = option.startswith("--") and equals and value[:1] in ("", "/")
    return f"{option}={os.path.expanduser('~' + value)}" if is_option else word


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Inside the block, send to stderr what Python or a native library prints to stdout."""
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
    """Let the interpreter flush stdout on exit without an error."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
