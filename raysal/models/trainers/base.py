"""A trainer turns every label there is into a head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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
    """[m, d] a uniform sample of the items without a label, as many as `Trainer.sample` says"""
    previous: Head | None = None
    """the head of the round before"""


NOTHING = Context()


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingData:
    """What a head is fitted to, not yet checked, and what the head's record is to say."""

    features: NDArray[Any]
    """[n, d] float, in an order the caller fixes (by item id)"""
    labels: Sequence[Answer]
    """[n]"""
    weights: NDArray[Any] | None = None
    """[n] what scales the evidence of each label; none means 1"""
    classes: Sequence[str]
    """Names in any order, some perhaps without a label yet; the head sorts them. None where labels are numbers."""
    seed: int = 0
    context: Context = NOTHING
    encoder: str = ""
    """fingerprint of the encoder of the vectors"""
    version: int = 0
    """of the head"""
    ledger_seq: int = 0
    """offset in the ledger up to which these are its labels"""


class Trainer(Protocol):
    """A way to fit a head from scratch. Constructor fields are its config.

    A class inherits from it and says what differs from the defaults below.
    """

    @property
    def likelihood(self) -> Likelihood:
        """What labels are; one class of several unless a trainer says otherwise."""
        return SOFTMAX

    @property
    def sample(self) -> int:
        """How many unlabelled items it wants to see (`Context.unlabelled`)."""
        return 0

    @property
    def hidden_layer(self) -> bool:
        """Whether its heads see vectors through a hidden layer (`raysal.features`)."""
        return False

    def fit(self, data: TrainingData) -> Head:
        """The head for these labels: a pure function of its arguments.

        Args:
            data: the labels, and what else a fit may look at.

        Returns:
            The head. Its `labels_seen` and `fitted_on` are n.

        Raises:
            LabelError: there is no label, a label is none of the classes, or a number cannot be used; the error names
                the row.
            ConfigError: a class cannot have this name.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """What labels decide of a head; the fields are those of `Head`, over the vectors as they are."""

    mean: NDArray[np.float64]
    posterior: Posterior
    prior: float
    temperature: float = 1.0
    noise: float = 1.0
    hidden_layer: HiddenLayer | None = None

    def head(self, classes: tuple[str, ...], likelihood: Likelihood, data: TrainingData) -> Head:
        """The head that these numbers make.

        Args:
            classes: names of the outputs.
            likelihood: what the labels are.
            data: what was learnt from.

        Returns:
            The head, with the record that the data asks for.
        """
        return Head(
            classes=classes,
            mean=self.mean,
            posterior=self.posterior,
            linearised_at=self.mean,
            prior=self.prior,
            encoder=data.encoder,
            version=data.version,
            labels_seen=len(data.labels),
            fitted_on=len(data.labels),
            ledger_seq=data.ledger_seq,
            likelihood=likelihood,
            temperature=self.temperature,
            noise=self.noise,
            hidden_layer=self.hidden_layer,
        )


class Fitter(Trainer, ABC):
    """A `Trainer` of which only the learning itself is left to write.

    Labels are checked before, and the head is made of what was learnt after.
    """

    @abstractmethod
    def learn(self, evidence: Evidence, classes: Sequence[str], seed: int, context: Context) -> Fit:
        """What labels teach: a pure function of the arguments. On one torch thread where the problem is small.

        Args:
            evidence: the labels, at least one.
            classes: [C] names of the outputs.
            seed: of whatever is random.
            context: what else may be looked at.

        Returns:
            What the head is made of.
        """

    def fit(self, data: TrainingData) -> Head:
        """See `Trainer.fit`."""
        names = self.likelihood.output_names(data.classes)
        evidence = evidence_to_fit(data.features, data.labels, data.weights, names, self.likelihood)
        with one_thread_if_small(len(evidence), evidence.features.shape[1], len(names)):
            learnt = self.learn(evidence, names, data.seed, data.context)
        return learnt.head(names, self.likelihood, data)
