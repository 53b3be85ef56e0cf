"""An ensemble of logistic heads, each fitted to a resample of the labels: what they disagree about, the labels leave
open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.models.evidence import Evidence, mean_square, with_constant
from raysal.models.optim.lbfgs import Design
from raysal.models.posterior import Members
from raysal.models.trainers.base import Context, Fit, Fitter
from raysal.models.trainers.logistic import Logistic
from raysal.rng import derive, generator

Resample = Literal["multinomial", "poisson"]


@dataclass(frozen=True, kw_only=True)
class Bootstrap(Fitter):
    """`members` heads as `Logistic` fits them, each to the labels resampled with replacement (Efron, 1979): the
    posterior is the members themselves, and the mean is the average of their weights.

    Every label counts some number of times in a member, and that scales its weight: with `resample` poisson, a Poisson
    draw of mean 1 for each label by itself (Oza & Russell, 2001); with multinomial, every class is redrawn from its own
    labels, so that its share stays what it is. A class of which a draw has left nothing keeps one of its labels, drawn
    uniformly. Without that, a member would know of the class only that it is rare, and its disagreement with the rest
    would drown out all else wherever that class is likely, which is where labels of it were found.

    All members minimise what `Logistic` does, under one prior: l2 · M · s with the weight M and the mean square s of
    all labels. With one label for every class they are all but equal; a `Logistic` posterior says more then.

    It has no closed-form step, so every round is a new fit. Cost: one rotation of the rows, O(n d min(n, d)), for all
    members; the fit to all labels; then for each member O(n C min(n, d)) an iteration, and as they begin at that fit, a
    fraction of its iterations. A sweep that averages over members reads members · C columns.

    Raises:
        ConfigError: a field is out of range.
    """

    members: int = 16
    resample: Resample = "poisson"
    l2: float | Literal["cv"] = 1e-2
    """As in `Logistic`; `cv` chooses once, on all labels."""
    max_iter: int = 500
    tol: float = 1e-6

    def __post_init__(self) -> None:
        if self.members < 2:
            problem = f"{self.members} cannot disagree"
            raise ConfigError("update.trainer.members", problem, "use 2 or more, or logistic")
        if self.resample not in ("multinomial", "poisson"):
            raise ConfigError("update.trainer.resample", f"unknown {self.resample!r}", "use poisson or multinomial")
        self.single()

    def single(self) -> Logistic:
        """The trainer that a member is fitted by."""
        return Logistic(l2=self.l2, max_iter=self.max_iter, tol=self.tol)

    def learn(self, evidence: Evidence, classes: Sequence[str], seed: int, context: Context) -> Fit:
        """See `Fitter.learn`. `seed` deals the resamples, and the folds of `cv`."""
        del classes, context
        square, total = mean_square(evidence), float(evidence.weights.sum())
        constant = math.sqrt(square)
        counts = resampled(evidence.targets, self.members, self.resample, seed)
        l2 = self.single().choose_l2(evidence, seed) if isinstance(self.l2, str) else self.l2
        rows = with_constant(evidence.features)
        rows[:, -1] = constant
        design = Design(rows, evidence.weights)

        def solved(m: NDArray[np.float64], start: NDArray[np.float64] | None) -> NDArray[np.float64]:
            penalty = l2 * square * total / float(m.sum())
            return design.solve(evidence.targets, penalty, max_iter=self.max_iter, tol=self.tol, weights=m, start=start)

        whole = solved(evidence.weights, None)
        members = np.stack([solved(evidence.weights * count, whole) for count in counts])
        members[:, :, -1] *= constant
        mean = members.mean(axis=0)
        mass = total * square
        return Fit(mean=mean, posterior=Members(weights=members), prior=l2 * mass, mass=mass)


def resampled(targets: NDArray[np.float64], members: int, how: Resample, seed: int) -> NDArray[np.float64]:
    """How often each of n labels counts in each member, [members, n]; `targets` [n, C] are their shares of the classes.
    Every class that has a share of some label has one in every member."""
    draw = generator(derive(seed, "update", "bootstrap"))
    counts = np.zeros((members, len(targets)))
    if how == "poisson":
        counts += draw.poisson(1.0, counts.shape)
    else:
        named = targets.argmax(axis=1)
        for own in (np.flatnonzero(named == place) for place in np.unique(named)):
            counts[:, own] = draw.multinomial(len(own), np.full(len(own), 1 / len(own)), size=members)
    for share in targets.T:
        own = np.flatnonzero(share > 0)
        if len(own):
            lost = np.flatnonzero(counts[:, own].sum(axis=1) == 0)
            counts[lost, draw.choice(own, len(lost))] = 1
    return counts
