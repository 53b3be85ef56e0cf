"""An ensemble of logistic heads, each fitted to a resample of the labels: they disagree where labels say little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import StrictBool

from raysal.errors import ConfigError
from raysal.models.evidence import Evidence
from raysal.models.posterior import Members
from raysal.models.trainers.base import Context, Fit, Fitter
from raysal.models.trainers.logistic import Logistic
from raysal.rng import derive, generator

Resample = Literal["multinomial", "poisson"]


@dataclass(frozen=True, kw_only=True)
class Bootstrap(Fitter):
    """An ensemble of `members` heads, each fitted as by `Logistic` to labels resampled with replacement (Efron, 1979).

    The posterior is the members themselves. The mean is the average of their weights.

    Every label counts some number of times in a member, which scales its weight. With `resample` poisson, the number is
    Poisson of mean 1, independent for each label (Oza & Russell, 2001). With multinomial, each class is resampled from
    its own labels, and its share stays the same. A class that loses all labels in a member keeps one of them, chosen
    uniformly. Otherwise the member would know of the class only that it is rare, and its disagreement with the others
    would drown out all else where that class is likely, which is where its labels were found.

    All members minimise the objective of `Logistic` in the frame of all labels, with one penalty. With one label for
    every class the members are nearly equal; a posterior of `Logistic` says more then.

    There is no closed-form step, and every round is a new fit. Cost: one rotation of the rows for all members,
    O(n d min(n, d)); the fit to all labels; for each member O(n C min(n, d)) an iteration, and only a fraction of the
    iterations, as members begin at that fit. A sweep that averages over members reads members · C columns.

    Raises:
        ConfigError: a field is out of range.
    """

    members: int = 16
    resample: Resample = "poisson"
    l2: float | Literal["cv"] = "cv"
    """As in `Logistic`; `cv` chooses once, on all labels."""
    standardise: StrictBool | Literal["cv"] = "cv"
    """As in `Logistic`, once for all members."""
    max_iter: int = 500
    tol: float = 1e-6

    def __post_init__(self) -> None:
        if self.members < 2:
            problem = f"{self.members} cannot disagree"
            raise ConfigError("update.trainer.members", problem, "use 2 or more, or logistic")
        if self.resample not in ("multinomial", "poisson"):
            raise ConfigError("update.trainer.resample", f"unknown {self.resample!r}", "use poisson or multinomial")
        self.member_trainer()

    def member_trainer(self) -> Logistic:
        """The trainer of one member."""
        return Logistic(l2=self.l2, standardise=self.standardise, max_iter=self.max_iter, tol=self.tol)

    def learn(self, evidence: Evidence, classes: Sequence[str], seed: int, context: Context) -> Fit:
        """See `Fitter.learn`. `seed` is that of the resamples and of the folds of `cv`."""
        del classes
        counts = resampled_counts(evidence.targets, self.members, self.resample, seed)
        trainer = self.member_trainer()
        problem = trainer.problem(evidence, seed, context)
        whole = trainer.solution(problem)
        inside = [trainer.solution(problem, weights=evidence.weights * count, start=whole) for count in counts]
        members = problem.frame.outside(np.stack(inside))
        return Fit(
            mean=members.mean(axis=0), posterior=Members(weights=members, frame=problem.frame), prior=problem.prior
        )


def resampled_counts(targets: NDArray[np.float64], members: int, how: Resample, seed: int) -> NDArray[np.float64]:
    """How often each label counts in each member.

    Args:
        targets: [n, C] shares of the classes in the labels.
        members: how many there are.
        how: the way of resampling.
        seed: of the resamples.

    Returns:
        Counts [members, n]. Every class that has a share of some label has one in every member.
    """
    random = generator(derive(seed, "update", "bootstrap"))
    counts = np.zeros((members, len(targets)))
    if how == "poisson":
        counts += random.poisson(1.0, counts.shape)
    else:
        named = targets.argmax(axis=1)
        for own in (np.flatnonzero(named == place) for place in np.unique(named)):
            counts[:, own] = random.multinomial(len(own), np.full(len(own), 1 / len(own)), size=members)
    for share in targets.T:
        own = np.flatnonzero(share > 0)
        if len(own):
            lost = np.flatnonzero(counts[:, own].sum(axis=1) == 0)
            counts[lost, random.choice(own, len(lost))] = 1
    return counts
