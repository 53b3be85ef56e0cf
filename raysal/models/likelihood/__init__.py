"""What labels are, one object per kind: classes (`SOFTMAX`), several labels at once (`SIGMOID`), numbers (`IDENTITY`).

`base` says what a likelihood is. To add a kind: a file with a class as in `base.Likelihood`, a line in `LIKELIHOODS`.
"""

from collections.abc import Mapping

from raysal.errors import UnknownName
from raysal.models.likelihood.base import Column, Likelihood
from raysal.models.likelihood.classes import SOFTMAX, softmax
from raysal.models.likelihood.curvature import Curvature, Weighting
from raysal.models.likelihood.numbers import IDENTITY
from raysal.models.likelihood.several_labels import SIGMOID, sigmoid
from raysal.models.likelihood.tensors import LEAST

LIKELIHOODS: Mapping[str, Likelihood] = {one.name: one for one in (IDENTITY, SIGMOID, SOFTMAX)}
"""By the name that files of heads, records and configs have for each (`link`)."""


def likelihood_of(name: str) -> Likelihood:
    """The likelihood of this name.

    Args:
        name: `identity`, `sigmoid` or `softmax`.

    Returns:
        The one object of that kind.

    Raises:
        UnknownName: there is none.
    """
    if name not in LIKELIHOODS:
        raise UnknownName("link", name, list(LIKELIHOODS))
    return LIKELIHOODS[name]


__all__ = [
    "IDENTITY",
    "LEAST",
    "LIKELIHOODS",
    "SIGMOID",
    "SOFTMAX",
    "Column",
    "Curvature",
    "Likelihood",
    "Weighting",
    "likelihood_of",
    "sigmoid",
    "softmax",
]
