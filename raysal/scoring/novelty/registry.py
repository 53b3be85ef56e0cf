"""The novelties by name. To add one: a file as `base` describes it, and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysal.registry import Registry

if TYPE_CHECKING:
    from raysal.scoring.novelty.base import Novelty

NOVELTIES: Registry[type[Novelty]] = Registry(
    {
        "isolation_forest": "raysal.scoring.novelty.forest:IsolationForest",
        "knn": "raysal.scoring.novelty.neighbours:NearestNeighbours",
        "local_density": "raysal.scoring.novelty.density:LocalDensity",
        "mahalanobis": "raysal.scoring.novelty.gaussian:Mahalanobis",
    }
)
