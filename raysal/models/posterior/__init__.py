"""The posterior over a head's weights, in one of several structures, and its closed-form updates.

`base` says what a structure is. To add one: a file with a class as in `base.Gaussian`, a line in `GAUSSIANS`.
"""

from collections.abc import Mapping

from raysal.models.posterior.base import Gaussian, Matrix, Posterior, Quadratic
from raysal.models.posterior.diagonal import Diagonal
from raysal.models.posterior.full import Full
from raysal.models.posterior.kronecker import Kronecker
from raysal.models.posterior.members import Members
from raysal.models.posterior.shared import Shared

GAUSSIANS: Mapping[str, type[Gaussian]] = {one.name: one for one in (Diagonal, Full, Kronecker, Shared)}
"""The structures that evidence can be added to, by the name that configs and files of heads have for each."""
STRUCTURES: Mapping[str, type[Posterior]] = {**GAUSSIANS, Members.name: Members}
"""All structures by name."""

__all__ = [
    "GAUSSIANS",
    "STRUCTURES",
    "Diagonal",
    "Full",
    "Gaussian",
    "Kronecker",
    "Matrix",
    "Members",
    "Posterior",
    "Quadratic",
    "Shared",
]
