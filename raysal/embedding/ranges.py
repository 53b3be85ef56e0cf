"""Which arguments an embed job can have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from raysal.defaults import MAX_CHUNK_ROWS
from raysal.errors import ConfigError, UnknownName
from raysal.types import Check, Metric


def check_arguments(
    batch_size: int,
    chunk_rows: int,
    workers: int,
    decode_threads: int,
    shares: Mapping[str, float],
    threads: int,
    backend: str,
    metric: str,
    check: str,
) -> None:
    """Refuse arguments of `raysal.embedding.job.embed` that mean nothing.

    Raises:
        ConfigError: a number is out of range.
        UnknownName: there is no such backend, metric or check.
    """
    ranges: dict[str, tuple[float, int, int | None]] = {
        "batch_size": (batch_size, 1, None),
        "chunk_rows": (chunk_rows, 0, MAX_CHUNK_ROWS),
        "workers": (workers, 0, None),
        "decode_threads": (decode_threads, 1, None),
        **{name: (share, 0, 1) for name, share in shares.items()},
        "threads": (threads, 0, None),
    }
    for name, (value, low, high) in ranges.items():
        if not value >= low or (high is not None and value > high):
            upper = "" if high is None else f" and at most {high}"
            raise ConfigError(f"embed.{name}", f"{value} is out of range", f"use at least {low}{upper}")
    if backend not in ("local", "ray"):
        raise UnknownName("embed.backend", backend, ["local", "ray"])
    if metric not in get_args(Metric):
        raise UnknownName("embed.metric", metric, get_args(Metric))
    if check not in get_args(Check):
        raise UnknownName("embed.check", check, get_args(Check))
