"""What ends a command from outside: Ctrl-C, and SIGTERM of a system that shuts down. Both raise KeyboardInterrupt.

So SIGTERM, too, leaves what is done in order and says how to go on. The exit code tells them apart. Nothing heavy is
imported here: it must be in place before anything else is.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

_words = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_last = signal.SIGINT
_came = False


def listen() -> None:
    """From the start of a process that runs one command. A signal that whoever started it ignores stays ignored."""
    atexit.register(_listen_to_none)  # the first that is registered is called last
    _take(_end)


def listen_no_more() -> None:
    """When the command is done. A signal then ends the process at once: there is nothing left to say."""
    _take(_leave)


def _listen_to_none() -> None:
    """As the interpreter goes, which gives signals back to the system: the exit code is that of the command."""
    _take(signal.SIG_IGN)


def _take(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in _words:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler, _end, _leave):
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    global _last, _came
    del frame
    _last, _came = signal.Signals(number), True
    raise KeyboardInterrupt


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    os._exit(128 + number)


def has_come() -> bool:
    """Whether a signal came. A library that is being imported may make another error of it, which means nothing."""
    return _came


def how_it_ended() -> tuple[str, int]:
    """What happened, in a word, and the exit code: 128 and the number of the signal, as shells have it."""
    return _words[_last], 128 + _last


def say_ended(as_json: bool, begun: bool) -> int:
    """Answer for a command that was ended before it began, or as it was answering.

    Args:
        as_json: whether stdout gets an object.
        begun: whether it may have done anything.

    Returns:
        The exit code.
    """
    word, code = how_it_ended()
    if not begun:
        word += "; nothing was begun: run the same command again"
    print(f"raysal: {word}", file=sys.stderr)
    if as_json:
        import json

        print(json.dumps({"error": word, "type": "Interrupted", "exit_code": code}), flush=True)
    return code
