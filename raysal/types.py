"""Frozen records that cross process borders, and the words they fix.

- *item*: one thing that may be labeled. Outside it has a `key` (file name, row key); inside, an `id`: 64-bit, its
  position in the source's listing, stable over rounds, partitions and chunk sizes. Quarantined items keep their id,
  and it never appears among a pool's vectors.
- *row*: a position in some array. Never leaves a function.
- *chunk*: up to `chunk_rows` consecutive items, embedded and committed as one.
- *partition*: a run of rows of a pool that one process holds.
- *round*: one batch asked for and committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Modality = Literal["image", "text", "vector"]
Metric = Literal["cosine", "l2"]
"""What "near" means in a pool: the angle between vectors, or their Euclidean distance."""
POOL_COLUMNS = ("id", "key", "uri", "owner")
"""The columns of a pool's items that the pool itself writes."""
RESERVED_COLUMNS = (*POOL_COLUMNS, "vector")
"""Names that a carried column cannot have: the pool's own columns, and the column of the vectors in an export."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A chunk still to be embedded: `keys` are its items in id order from `first_id`, `locator` says where they lie.

    A locator is small (names, offsets) unless the source cannot be read by position, when it is the payloads.
    """

    index: int
    first_id: int
    keys: tuple[str, ...]
    locator: Any = None


@dataclass(frozen=True, kw_only=True)
class Item:
    """One item as a source gives it.

    `payload` by modality: image: encoded bytes, or uint8 [h, w] or [h, w, 3]; text: str; vector: float array [d].
    A payload that could not be read is a `BadItem`, which the embed job quarantines.
    """

    key: str
    payload: Any
    uri: str | None = None
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Label:
    """One label by one annotator. `weight` > 0 scales its evidence."""

    key: str
    label: str
    annotator: str = ""
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a run stands."""

    run: str
    pool: str
    items: int
    rounds: int
    asked: int
    labeled: int
    waiting: int
    skipped: int
    disputed: int
    classes: Mapping[str, int]
    accuracy: float | None
    """of the last evaluation; None without one, and where items have no one class"""
    metric: str | None
    """the name of its main measure, of `raysal.rounds.evaluation.MEASURES`"""
    value: float | None
    finished: bool
