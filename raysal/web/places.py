"""Where an item is in an order, and what it is there for."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """A place in an order."""

    rank: int | None = None
    """from 1; None where the item is in no order"""
    score: float | None = None
    score_name: str | None = None
    reason: str | None = None


FIRST = Place(rank=0)
"""The place of what an annotator holds and the order has no more: it comes up first."""
