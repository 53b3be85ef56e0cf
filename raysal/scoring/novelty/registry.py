"""The novelties by name, and the type of a field that holds one. To add one: a file as `base` says, and a line here."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import PlainValidator, ValidationInfo

from raysal.config import AFTER_COLON, Named, Origin, choice
from raysal.registry import Registry
from raysal.scoring.novelty.base import Novelty

NOVELTIES: Registry[type[Novelty]] = Registry(
    {
        "isolation_forest": "raysal.scoring.novelty.forest:IsolationForest",
        "knn": "raysal.scoring.novelty.neighbours:NearestNeighbours",
        "local_density": "raysal.scoring.novelty.density:LocalDensity",
        "mahalanobis": "raysal.scoring.novelty.gaussian:Mahalanobis",
    }
)


def _build(value: Any, info: ValidationInfo) -> Named[Novelty]:
    place = Origin.of_field(info).place
    return choice(value, place).build_named(place, NOVELTIES)


NoveltyField = Annotated[Named[Novelty], PlainValidator(_build), AFTER_COLON]
"""The type of a field that holds a novelty. A config gives its name, or a mapping with `name`."""
