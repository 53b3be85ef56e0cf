"""The aggregators by name. To add one: a class as `base` describes it, and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysal.registry import Registry

if TYPE_CHECKING:
    from raysal.scoring.aggregators.base import Aggregator

AGGREGATORS: Registry[type[Aggregator]] = Registry(
    {
        "custom": "raysal.scoring.aggregators.custom:Custom",
        "max": "raysal.scoring.aggregators.simple:Max",
        "mean": "raysal.scoring.aggregators.simple:Mean",
        "quantile": "raysal.scoring.aggregators.simple:Quantile",
        "sum": "raysal.scoring.aggregators.simple:Sum",
        "top_mean": "raysal.scoring.aggregators.simple:TopMean",
    }
)
