"""A job that is killed before a system call of its own, for programs that tests run in a process of their own.

A program loads what takes time once, and then forks a child for each kill. Nothing may have been computed before, so
that no thread is lost.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

MOMENTS = ("replace", "fsync", "mkdir", "unlink", "rmdir")
"""Functions of `os` by which files come to be, last and go."""
KILLED = -int(signal.SIGKILL)
"""What `exit_code_of` says of a child that was killed."""


def kill_before(step: int) -> Callable[[], int]:
    """Kill this process before it calls one of `MOMENTS` for the `step`-th time; 0 for never.

    Returns:
        A function that says how many calls there were.
    """
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for moment in MOMENTS:
        setattr(os, moment, counted(getattr(os, moment)))
    return lambda: count


def exit_code_of(job: Callable[[], int]) -> int:
    """Do a job in a child; what it returned, 1 if it raised an error, or `KILLED`."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(2, 1)  # what it prints is for whoever looks for a fault
            code = job()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
