"""What ends a command from outside: Ctrl-C, and SIGTERM of a system that shuts down. Both raise KeyboardInterrupt.

So SIGTERM, too, leaves what is done in order and says how to go on. The exit code tells them apart. Nothing heavy is
imported here: it must be in place before anything else is.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

_words = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_last = signal.SIGINT


def listen() -> None:
    """From the start of a process that runs one command. A SIGTERM that whoever started it ignores stays ignored."""
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def listen_no_more() -> None:
    """When the command is done. A signal then ends the process at once: there is nothing left to say."""
    for number in _words:
        if signal.getsignal(number) in (_end, signal.default_int_handler):
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    global _last
    del frame
    _last = signal.Signals(number)
    raise KeyboardInterrupt


def how_it_ended() -> tuple[str, int]:
    """What happened, in a word, and the exit code: 128 and the number of the signal, as shells have it."""
    return _words[_last], 128 + _last


def say_ended(as_json: bool) -> int:
    """Answer for a command that was ended before it began, or as it was answering.

    Args:
        as_json: whether stdout gets an object.

    Returns:
        The exit code.
    """
    word, code = how_it_ended()
    print(f"raysal: {word}", file=sys.stderr)
    if as_json:
        import json

        print(json.dumps({"error": word, "type": "Interrupted", "exit_code": code}), flush=True)
    return code
