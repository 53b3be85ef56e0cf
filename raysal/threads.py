"""Objects that several threads may share: their public methods run one after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from threading import RLock
from typing import Any, TypeVar

_Class = TypeVar("_Class", bound=type)
_LOCK = "_one_at_a_time"
_CREATION = RLock()
"""Held while an object gets its lock; only the first call of an object needs it."""


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
            held.setdefault(_LOCK, RLock())
    lock: AbstractContextManager[Any] = held[_LOCK]
    return lock
