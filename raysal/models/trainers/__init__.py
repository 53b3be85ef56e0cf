"""Ways to fit a head from scratch. `base` says what a trainer is, `registry` lists them."""

from raysal.models.trainers.registry import TRAINERS

__all__ = ["TRAINERS"]
