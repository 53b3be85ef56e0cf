"""The posterior over a head's weights, in one of several structures, and its closed-form updates.

`base` says what a structure is. To add one: a file with a class as in `base.Gaussian`, a line in `GAUSSIANS`.
"""

from collections.abc import Mapping
from typing import Any

from raysal.models.frame import Frame
from raysal.models.posterior.base import Gaussian, Matrix, Posterior, Quadratic
from raysal.models.posterior.diagonal import Diagonal
from raysal.models.posterior.full import Full
from raysal.models.posterior.kronecker import Kronecker
from raysal.models.posterior.members import Members
from raysal.models.posterior.shared import Shared
from raysal.models.posterior.span import Span

GAUSSIANS: Mapping[str, type[Gaussian]] = {one.name: one for one in (Diagonal, Full, Kronecker, Shared)}
"""The structures that evidence can be added to, by the name that configs and files of heads have for each."""
STRUCTURES: Mapping[str, type[Posterior]] = {**GAUSSIANS, Members.name: Members}
"""All structures by name."""


def posterior_of(fields: Mapping[str, Any]) -> Posterior:
    """The posterior that `Posterior.record` and `Posterior.arrays` describe.

    Args:
        fields: of both, by name.

    Returns:
        The posterior.

    Raises:
        KeyError: there is no such structure.
        TypeError: fields are missing, or there are others.
        UserError: a number of the frame or of the span cannot be used.
    """
    own = dict(fields)
    structure = STRUCTURES[own.pop("structure")]
    if "centre" in own:
        own["frame"] = Frame(centre=own.pop("centre"), size=own.pop("size"), constant=own.pop("constant"))
    if "axes" in own:
        own["span"] = Span(axes=own.pop("axes"), prior=own.pop("beyond"))
    return structure(**own)


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
    "Span",
    "posterior_of",
]
