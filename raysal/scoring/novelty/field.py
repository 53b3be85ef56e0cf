"""The type of a field that holds a novelty: of a strategy, or of a narrower."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import PlainValidator, ValidationInfo

from raysal.config import AFTER_COLON, Named, Origin, choice
from raysal.scoring.novelty.base import Novelty
from raysal.scoring.novelty.neighbours import NearestNeighbours
from raysal.scoring.novelty.registry import NOVELTIES


def build_field(value: Any, info: ValidationInfo) -> Named[Novelty]:
    """The novelty that a config names in a field, built.

    Args:
        value: its name, or a mapping with `name` and fields.
        info: where it stands in the config.

    Returns:
        The novelty, and the name that it was asked for by.

    Raises:
        UnknownName, ConfigError: it, or a field of it, does not exist.
    """
    if isinstance(value, Named):  # built in Python
        return value
    place = Origin.of_field(info).place
    return choice(value, place).build_named(place, NOVELTIES)


NoveltyField = Annotated[Named[Novelty], PlainValidator(build_field), AFTER_COLON]
"""A config gives its name, or a mapping with `name`."""
NEAREST: Named[Novelty] = Named("knn", NearestNeighbours())
"""What novelty goes by unless something else is named."""
