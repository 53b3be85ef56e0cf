"""A trainer turns every label there is into a head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from raysal.features import HiddenLayer
from raysal.models.evidence import Evidence, evidence_to_fit
from raysal.models.head import Head
from raysal.models.likelihood import SOFTMAX, Likelihood
from raysal.models.posterior import Posterior
from raysal.models.targets import Answer
from raysal.numerics import one_thread_if_small


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """What a trainer may know beside the labels; most need none of it."""

    rounds: NDArray[np.int64] | None = None
    """[n] the round that asked for each label, -1 for none"""
    unlabelled: NDArray[np.float32] | None = None
    """[m, d] a uniform sample of the items without a label, as many as `wanted_sample` says"""
    previous: Head | None = None
    """the head of the round before"""


NOTHING = Context()


class Trainer(Protocol):
    """A way to fit a head from scratch. Constructor fields are its config.

    One that learns from unlabelled items too has an attribute `sample`: how many of them it wants. One whose labels are
    not one class of several says so by an attribute `likelihood` (`raysal.models.likelihood`).
    One whose heads have a hidden layer has an attribute `hidden_layer`, which is true (`raysal.features`).
    """

    def fit(
        self,
        features: NDArray[Any],
        labels: Sequence[Answer],
        weights: NDArray[Any] | None,
        *,
        classes: Sequence[str],
        encoder: str,
        version: int,
        ledger_seq: int,
        seed: int,
        context: Context = NOTHING,
    ) -> Head:
        """The head for these labels: a pure function of its arguments.

        `features` [n, d] are float, in an order the caller fixes (by item id); `weights` [n] scale the
        evidence of each label, and none means 1. `classes` may hold classes without a label yet; the head
        sorts them. `encoder`, `version` and `ledger_seq` are passed through. `labels_seen` and `fitted_on`
        of the head are n.

        Raises:
            LabelError: there is no label, a label is none of `classes`, or a number cannot be used; it
                names the row.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """What labels decide of a head; the fields are those of `Head`."""

    mean: NDArray[np.float64]
    posterior: Posterior
    prior: float
    mass: float = 0.0
    temperature: float = 1.0
    noise: float = 1.0
    hidden_layer: HiddenLayer | None = None

    def head(
        self,
        classes: tuple[str, ...],
        likelihood: Likelihood,
        labels: int,
        *,
        encoder: str,
        version: int,
        ledger_seq: int,
    ) -> Head:
        """The head that these numbers, learnt from so many labels, make."""
        return Head(
            classes=classes,
            mean=self.mean,
            posterior=self.posterior,
            linearised_at=self.mean,
            prior=self.prior,
            encoder=encoder,
            version=version,
            labels_seen=labels,
            fitted_on=labels,
            ledger_seq=ledger_seq,
            likelihood=likelihood,
            mass=self.mass,
            temperature=self.temperature,
            noise=self.noise,
            hidden_layer=self.hidden_layer,
        )


class Fitter(ABC):
    """A `Trainer` of which only the learning itself is left to write: labels are checked before, and the head is made
    of what was learnt after."""

    likelihood: ClassVar[Likelihood] = SOFTMAX

    @abstractmethod
    def learn(self, evidence: Evidence, classes: Sequence[str], seed: int, context: Context) -> Fit:
        """What these labels, of which there is at least one, teach: a pure function of its arguments. `classes` [C]
        are the names of the outputs. On one torch thread where the problem is small."""

    def fit(
        self,
        features: NDArray[Any],
        labels: Sequence[Answer],
        weights: NDArray[Any] | None,
        *,
        classes: Sequence[str],
        encoder: str,
        version: int,
        ledger_seq: int,
        seed: int,
        context: Context = NOTHING,
    ) -> Head:
        """See `Trainer.fit`."""
        names = self.likelihood.output_names(classes)
        evidence = evidence_to_fit(features, labels, weights, names, self.likelihood)
        with one_thread_if_small(len(evidence), evidence.features.shape[1], len(names)):
            learnt = self.learn(evidence, names, seed, context)
        record: dict[str, Any] = {"encoder": encoder, "version": version, "ledger_seq": ledger_seq}
        return learnt.head(names, self.likelihood, len(evidence), **record)


def wanted_sample(trainer: Trainer) -> int:
    """How many unlabelled items a trainer wants to see; one that does not say wants none."""
    return int(getattr(trainer, "sample", 0))


def likelihood_of(trainer: Trainer) -> Likelihood:
    """What the labels of a trainer are: one class of several, unless it says otherwise."""
    likelihood: Likelihood = getattr(trainer, "likelihood", SOFTMAX)
    return likelihood
