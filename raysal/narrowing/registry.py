"""The narrowers by name. To add one: a file with a class as `base` describes it, a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysal.registry import Registry

if TYPE_CHECKING:
    from raysal.narrowing.base import Narrower

NARROWERS: Registry[type[Narrower]] = Registry(
    {
        "anchoral": "raysal.narrowing.anchoral:AnchorAL",
        "filter": "raysal.narrowing.filter:Filter",
        "mixed": "raysal.narrowing.mixed:Mixed",
        "none": "raysal.narrowing.simple:Everything",
        "novelty": "raysal.narrowing.novelty:Novelty",
        "refine": "raysal.narrowing.refine:Refine",
        "seals": "raysal.narrowing.seals:Seals",
        "top_score": "raysal.narrowing.simple:TopScore",
        "uniform": "raysal.narrowing.simple:Uniform",
    }
)
