"""What a pool is, in numbers and names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raysal.types import Metric


@dataclass(frozen=True, kw_only=True)
class PoolInfo:
    """What a pool is, in numbers and names."""

    items: int
    """Items with a vector: these can be picked."""
    dim: int
    """Length of a vector."""
    dtype: str
    scale: float
    """What given vectors were multiplied by; see `raysal.scale`."""
    metric: Metric
    chunks: int
    encoder: str
    """The encoder's name."""
    quarantined: int
    """Items that could not be embedded."""
    bytes: int
    """Size of the chunks' files."""
    passed_over: Mapping[str, int] | None
    """{suffix: files that the source left out}; None if nobody counted: the source looks through no folder, or the pool
    is older than the count."""
    generation: int
    """How often it grew, shrank or was compacted."""
    removed: int
    """Items that were taken out of it, and whose vectors are still on the disk."""
