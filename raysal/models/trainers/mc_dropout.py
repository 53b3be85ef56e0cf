"""A logistic head trained under dropout on its features, with the same dropout as its posterior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.models.evidence import Evidence, with_constant
from raysal.models.frame import Frame
from raysal.models.optim.lbfgs import Design
from raysal.models.posterior import Members
from raysal.models.trainers.base import Context, Fit, Fitter
from raysal.models.trainers.logistic import BIAS_PRIOR, Logistic
from raysal.rng import derive, generator


@dataclass(frozen=True, kw_only=True)
class McDropout(Fitter):
    """Logistic regression with dropout on its features, whose masks are the posterior.

    Dropout as by Srivastava et al. (JMLR 2014), the posterior as by Gal & Ghahramani (ICML 2016). Member t has the
    weights of the features that its mask keeps, divided by 1 - `rate`. The mean is the weights without a mask. Features
    are those of the frame of `Logistic`, not standardised: what a mask drops is set to the mean of the labelled items.

    The expected loss under dropout is taken over `copies` of every label, each with its own mask and 1 / copies of the
    weight. It is a convex problem with one answer, solved as that of `Logistic`, under the same prior. The bias is
    never dropped. The `members` masks are sampled once for a seed and are the same for every item, round and partition.
    Members are therefore functions, which scores of joint behaviour need.

    Masks know nothing of the labels. Members disagree where the answer depends on few features, and their disagreement
    does not shrink as labels come. For a posterior that shrinks, take `logistic` or `bootstrap`. There is no
    closed-form step.

    Cost: that of the solution of `Logistic` for copies · n labels, with 8 · copies · n · d bytes; no covariance. A
    sweep that averages over members reads members · C columns.

    Raises:
        ConfigError: a field is out of range.
    """

    rate: float = 0.5
    """Share of the features that a mask drops."""
    members: int = 32
    copies: int = 8
    l2: float = 1e-2
    """As in `Logistic`, a number: dropout holds weights back too, and this is weaker than what `cv` chooses there."""
    max_iter: int = 500
    tol: float = 1e-6

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ConfigError("update.trainer.rate", f"{self.rate!r} is not between 0 and 1")
        for name, least in (("members", 2), ("copies", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"update.trainer.{name}", f"{getattr(self, name)} is below {least}")
        Logistic(l2=self.l2, max_iter=self.max_iter, tol=self.tol)

    def learn(self, evidence: Evidence, classes: Sequence[str], seed: int, context: Context) -> Fit:
        """See `Fitter.learn`. `seed` is that of the masks."""
        del classes, context
        frame = Frame.isotropic(evidence).with_constant(math.sqrt(self.l2 / BIAS_PRIOR))
        inside = frame.evidence(evidence)
        count, dim = inside.features.shape
        dropped = np.repeat(inside.features, self.copies, axis=0)
        dropped *= masks(count * self.copies, dim, self.rate, derive(seed, "update", "dropout", "copies"))
        copies = Evidence(
            features=dropped,
            targets=np.repeat(inside.targets, self.copies, axis=0),
            weights=np.repeat(inside.weights / self.copies, self.copies),
        )
        mean = Design(copies).solve(self.l2, frame.constant, max_iter=self.max_iter, tol=self.tol)
        kept = masks(self.members, dim, self.rate, derive(seed, "update", "dropout", "members"))
        members = frame.outside(mean * with_constant(kept)[:, None, :])
        return Fit(mean=frame.outside(mean), posterior=Members(weights=members, frame=frame), prior=self.l2)


def masks(count: int, dim: int, rate: float, key: int) -> NDArray[np.float64]:
    """Masks [count, dim]: 0 with probability `rate`, else 1 / (1 - rate), so that they are 1 on average."""
    return np.asarray((generator(key).random((count, dim)) >= rate) / (1 - rate))
