"""The penalty of a linear head, chosen from its labels.

The folds of a cross-validation are fitted at once, coarsely and on few coordinates, each penalty from the last one: it
is enough to rank penalties. That makes the choice cheap enough to be made at every fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.models.likelihood import Likelihood
from raysal.models.optim.lbfgs import Design, Scaled

if TYPE_CHECKING:
    import torch


class Prior(NamedTuple):
    """A normal distribution of log10 of the penalty, before any label is looked at.

    In a frame of total variance 1, 1 / penalty is the variance of an output over the items that the prior expects.
    """

    decades: float
    """standard deviation"""
    usual: float = 10**-0.25
    """the penalty in its middle"""

    @classmethod
    def of(cls, likelihood: Likelihood, targets: torch.Tensor, weights: torch.Tensor) -> Prior:
        """The prior for some labels.

        It is as many decades wide as the share of labels that do not have the most common answer. So it is narrow where
        nearly all have one. What is best then depends on what is asked: by margin, 1 found most of a rare class, and
        0.03 a quarter less; the loss of held-out labels, nearly all of them of the other class, would have chosen the
        latter (RESULTS.md, "The default head"). Elsewhere it matters with few labels only, which say little.

        Args:
            likelihood: what the labels are.
            targets: [n, C]
            weights: [n]

        Returns:
            The prior. Of several labels an item, the share is the mean over labels of those that are the rarer way.
        """
        shares = weights @ targets / weights.sum()
        others = 1.0 - shares.max() if likelihood.exclusive else (0.5 - (shares - 0.5).abs()).mean()
        return cls(max(float(others), NARROWEST))

    def cost(self, place: float) -> float:
        """Minus the log density at log10 of a penalty, up to a constant, in nats."""
        return 0.5 * ((place - math.log10(self.usual)) / self.decades) ** 2


NARROWEST = 0.2
"""Decades of a `Prior` at least.

Among 15 sets of vectors, tables and texts with 20 to 1,000 labels, the penalty of least loss on other items lay around
1 for two classes, and between 1e-4 and 0.3 for more."""
COARSE = 1e-3
"""Tolerance of the fits. With a coarse one the fit of a weak penalty may end where that of the stronger one before it
had ended. Choices of 25 to 200 labels were off by up to 1.21 times and 0.0008 nats a label; digits with unequal weights
by 1.7 times and 0.005 nats. With 3e-4 they were within 1.17 times, in up to one and a half times the time."""
STEPS = 30
"""Iterations of a fit at most, each of which begins where the one before it ended."""
COORDINATES = 256
"""Principal coordinates that fits see. What is left out has little variance, and a penalty leaves little of it."""
LARGEST = 4_000_000
"""Outputs, of items times folds times classes, that are computed at once."""


class Choice(NamedTuple):
    """A penalty, and where a fit with it may begin."""

    penalty: float
    start: NDArray[np.float64] | None
    """weights [C, d + 1] of the frame with the constant 1; None where nothing was fitted"""
    cost: float
    """the summed loss of held-out labels and the cost of the penalty, in nats"""


def choose_penalty(
    design: Design,
    fold_of: NDArray[np.int64],
    penalties: Sequence[float],
    bias_prior: float,
    likelihood: Likelihood,
    prior: Prior,
    share: float = 1.0,
) -> Choice:
    """The penalty under which held-out labels and penalty together are most likely.

    The score of a penalty is the summed loss of each label under a fit without its fold, and the cost of the penalty
    under its `Prior`. The search walks downhill from the penalty nearest to the usual one; between penalties that were
    tried, the score is taken as a parabola. Cost: three to eight penalties, each about ten iterations of
    O(n C folds min(n, d, 256)).

    Args:
        design: the labels, in their frame.
        fold_of: [n] the fold of each item; -1 for items that train in every fold, and judge in none.
        penalties: those that are tried.
        bias_prior: precision of the bias at the centre of the frame.
        likelihood: what the labels are.
        prior: on the penalty.
        share: of the labels that judge, those in a fold; they stand for all, or the prior would count for too much.

    Returns:
        The penalty, within those that were tried, and the mean of the weights of the folds.
    """
    tried = sorted(set(penalties))
    places = np.log10(tried)
    held_out = HeldOut(design, fold_of, bias_prior, likelihood)
    scores: dict[int, float] = {}
    starts: dict[int, NDArray[np.float64]] = {}

    def score(place: int) -> float:
        if place not in scores:
            scores[place] = held_out.loss(tried[place]) / share + prior.cost(float(places[place]))
            starts[place] = held_out.mean()
        return scores[place]

    best = min(range(len(tried)), key=lambda place: prior.cost(float(places[place])))
    ways = [step for step in (-1, 1) if 0 <= best + step < len(tried)]
    for step in ways:
        while 0 <= best + step < len(tried) and score(best + step) < score(best):
            best += step
    penalty = tried[best]
    if 0 < best < len(tried) - 1:
        around = slice(best - 1, best + 2)
        penalty = float(10 ** vertex(places[around], [score(best - 1), score(best), score(best + 1)]))
    cost = score(best)
    return Choice(penalty, starts[best], cost)


class HeldOut:
    """The held-out losses of penalties, each of whose fits begins where those with the last penalty ended."""

    def __init__(self, design: Design, fold_of: NDArray[np.int64], bias_prior: float, likelihood: Likelihood) -> None:
        import torch

        self._design, self._bias_prior, self._likelihood = design, bias_prior, likelihood
        self._coordinates, self._values = design.coordinates[:, -COORDINATES:], design.values[-COORDINATES:]
        n, self._classes = design.targets.shape
        folds = int(fold_of.max()) + 1
        at_once = max(LARGEST // (n * self._classes), 1)
        held = torch.from_numpy(fold_of)[:, None] == torch.arange(folds)
        self._groups = [held[:, first : first + at_once] for first in range(0, folds, at_once)]
        self._found: list[torch.Tensor] = []
        self._constant = 1.0

    def loss(self, penalty: float) -> float:
        """The summed loss of every label under a fit without its fold, all with this penalty."""
        import torch

        design, constant = self._design, (penalty / self._bias_prior) ** 0.5
        total, found = 0.0, []
        for group, out in enumerate(self._groups):
            weights = torch.where(out, 0.0, design.weights[:, None])
            problems = Scaled(self._coordinates, self._values, weights, penalty, constant)
            start = None
            if self._found:
                start = self._found[group]
                start[:, -1] *= self._constant / constant
            weights = problems.minimum(design.targets, self._likelihood, start, max_iter=STEPS, tol=COARSE)
            items = out.nonzero()[:, 0]
            outputs = problems.outputs(weights, self._classes)[out]
            _, costs = self._likelihood.torch_losses(outputs, design.targets[items])
            total += float(costs.sum(1) @ design.weights[items])
            found.append(weights)
        self._found, self._constant = found, constant
        return total

    def mean(self) -> NDArray[np.float64]:
        """The mean over the folds of the weights [C, d + 1] with the last penalty, for the constant 1."""
        import torch

        folds = torch.cat(self._found).view(-1, self._classes, self._coordinates.shape[1] + 1)
        mean = folds.mean(0)
        mean[:, -1] *= self._constant
        return self._design.outside(mean)


def vertex(places: NDArray[np.float64], scores: Sequence[float]) -> float:
    """Where the parabola through three points is least, the middle one of which is lowest."""
    (a, b, c), (fa, fb, fc) = places.tolist(), scores
    left, right = (b - a) * (fb - fc), (b - c) * (fb - fa)
    span = left - right
    return float(b) if span == 0 else float(b - 0.5 * ((b - a) * left - (b - c) * right) / span)
