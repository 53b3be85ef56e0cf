"""Modules that can be called: `raysal.select` and `raysal.embed` are packages and verbs of `raysal.api`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """A module whose call goes to the function of its own name in `raysal.api`, imported then."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)

    @property
    def _function(self) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(import_module("raysal.api"), self.__name__.rpartition(".")[2])
        return function


def make_callable(name: str) -> None:
    """Let the imported module `name` be called."""
    sys.modules[name].__class__ = CallableModule
