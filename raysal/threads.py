"""Objects that several threads may share, threads that give way, and sums that do not depend on their number."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, TypeVar

_Class = TypeVar("_Class", bound=type)
_LOCK = "_one_at_a_time"
_CREATION = threading.RLock()
"""Held while an object gets its lock; only the first call of an object needs it."""
_LOWER = 10
"""By how much the niceness of a thread that gives way is above that of its process; it counts a tenth then."""


def give_way() -> None:
    """Let other threads of this process go first from now on, where there is no core for all. It does so on Linux only.

    The threads of a product wait for one another. So a thread that takes the core of one of them halts them all.
    """
    if sys.platform == "linux":  # elsewhere a niceness belongs to a process
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + _LOWER))


def one_at_a_time(cls: _Class) -> _Class:
    """Decorate a class, so that an object of it is in one public method at a time, whatever thread calls.

    Each object has one lock. A method that calls another one of the same object does not wait for itself. Public are
    the methods and properties whose names have no leading underscore, and `__enter__` and `__exit__`; those that
    the class inherits are not looked at.

    Args:
        cls: the class. Its properties are only read.

    Returns:
        The class.
    """
    for name, member in list(vars(cls).items()):
        if name.startswith("_") and name not in ("__enter__", "__exit__"):
            continue
        if isinstance(member, property):
            assert member.fget is not None
            assert member.fset is None
            setattr(cls, name, property(_alone(member.fget)))
        elif callable(member) and not isinstance(member, type):
            setattr(cls, name, _alone(member))
    return cls


def _alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which first waits for the lock of its object."""

    @wraps(function)
    def call(self: Any, *args: Any, **fields: Any) -> Any:
        with _lock_of(self):
            return function(self, *args, **fields)

    return call


def _lock_of(thing: Any) -> AbstractContextManager[Any]:
    """The lock of an object, made when it is first asked for."""
    held: dict[str, Any] = vars(thing)
    if _LOCK not in held:
        with _CREATION:
            held.setdefault(_LOCK, threading.RLock())
    lock: AbstractContextManager[Any] = held[_LOCK]
    return lock


MKL_CBWR = "AUTO,STRICT"
"""The same bits for any number of threads, by the widest instructions there are. Measured on 2 cores with AMX: a block
of 4096 x 256 with 16 columns takes 1.3 times the time, one with 112 columns or more the same."""


def ask_mkl_for_one_order() -> None:
    """Have MKL add up in one order, unless the environment says how. It reads this when it first computes.

    Only on Intel's processors: elsewhere MKL has no strict way, and would compute with narrow instructions.
    """
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            head = file.read(512)
    except OSError:  # another system
        return
    if "GenuineIntel" in head:
        os.environ.setdefault("MKL_CBWR", MKL_CBWR)
