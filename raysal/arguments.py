"""Checks of the arguments that people pass to the public functions."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from reprlib import repr as _short
from typing import Any, Literal

from raysal.config import Choice
from raysal.errors import ConfigError
from raysal.paths import path_or_url, with_home

Backend = Literal["local", "ray"]
"""This process, or Ray."""
Part = str | Mapping[str, Any] | Choice
"""A part of a kind: its name, or a mapping with `name` and fields."""


def has_methods(thing: object, *methods: str) -> bool:
    """Whether a thing is an instance with these methods. Do not ask for properties: one may load a model."""
    return not isinstance(thing, type) and all(callable(getattr(thing, name, None)) for name in methods)


def as_path(name: str, value: object) -> Path:
    """Check that an argument is a path.

    Args:
        name: the argument's name, for the error.
        value: the argument.

    Returns:
        The path, with `~` replaced.

    Raises:
        ConfigError: it is neither a string nor a path.
    """
    if not isinstance(value, str | PathLike):
        raise ConfigError(name, f"{_short(value)} is not a path", "pass a string or a Path")
    return with_home(value)


def as_place(name: str, value: object) -> str | Path:
    """Check that an argument is a path or a URL.

    Args:
        name: the argument's name, for the error.
        value: the argument.

    Returns:
        The URL as text, or the path, with `~` replaced.

    Raises:
        ConfigError: it is neither a string nor a path.
        BucketError: it is an incomplete URL.
    """
    return path_or_url(value) if isinstance(value, str | PathLike) else as_path(name, value)


def as_whole_number(name: str, value: object, least: int) -> int:
    """Check that an argument is a whole number, and large enough.

    Args:
        name: the argument's name, for the error.
        value: the argument. A boolean is not a number.
        least: the smallest number that it may be.

    Returns:
        The number, as a plain int.

    Raises:
        ConfigError: it is no whole number, or below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ConfigError(name, f"{_short(value)} is not a whole number", f"use {least} or more")
    if value < least:
        raise ConfigError(name, f"{value} is too small", f"use {least} or more")
    return int(value)


def as_number_above_0(name: str, value: object) -> float:
    """Check that an argument is a finite number above 0.

    Args:
        name: the argument's name, for the error.
        value: the argument. A boolean is not a number.

    Returns:
        The number, as a plain float.

    Raises:
        ConfigError: it is no such number.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < inf:
        raise ConfigError(name, _short(value), "use a number above 0")
    return float(value)
