"""A trainer of your own: any Python function that turns labels into weights."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError, RaysalError, UserError
from raysal.models.evidence import evidence_to_fit
from raysal.models.frame import Frame
from raysal.models.head import Head
from raysal.models.likelihood import LIKELIHOODS, Likelihood, Weighting
from raysal.models.trainers.base import Fit, Trainer, TrainingData
from raysal.models.trainers.logistic import BIAS_PRIOR, Logistic, laplace_posterior

FOR_EXAMPLE = "for example custom:my_module:fit"


@dataclass(frozen=True, kw_only=True)
class Custom(Trainer):
    """`custom:MODULE:CALLABLE`: a head from `callable(features, labels, weights, *, classes, seed, context)`.

    The callable gets copies of `features` float64 [n, d] and `weights` float64 [n]; `labels`, one name or mapping of
    shares for each row; `classes`, sorted; `seed`; and `context` (`raysal.models.trainers.base.Context`: the rounds
    that asked for the labels, `sample` unlabelled vectors, the previous head). All are checked before. It returns

    - (weight [C, d], bias [C]) with rows in the order of `classes`: the mean of the head. The posterior around it is
      that of `Logistic`, of the `structure` and `curvature`, with `l2` as its prior in the frame. Or it returns
    - a `Head` of these classes, in any order. Its posterior, prior and temperature stay; encoder, version and counts of
      labels are filled in (`fitted_on` is kept where classes have joined since its last fit).

    `link` says what labels are: one class of several (`softmax`); several labels at once (`sigmoid`, texts like "a|b";
    the posterior around weights is then that of `MultiLabel`); or numbers (`identity`, of the one class `value`). For
    numbers the callable must return a `Head`, as weights alone do not say how far labels lie from them.

    The callable must return the same for the same arguments, since rounds are made again from the labels. The module is
    imported at the first fit. Python must find it: install it, or name its folder in PYTHONPATH.

    Raises:
        ConfigError: `arg` is not MODULE:CALLABLE; or by `fit`: there is no such callable, it fails, or what it returns
            cannot be a head.
    """

    arg: str
    """MODULE:CALLABLE"""
    link: str = "softmax"
    l2: float = 0.1
    structure: Literal["diagonal", "full", "kronecker", "shared"] = "shared"
    curvature: Weighting = "gaussian"
    sample: int = 0
    """Unlabelled items it wants to see."""

    def __post_init__(self) -> None:
        module, _, name = self.arg.partition(":")
        if not module or not name:
            raise ConfigError("update.trainer", f"{self.arg!r} is not MODULE:CALLABLE", FOR_EXAMPLE)
        if self.sample < 0:
            raise ConfigError("update.trainer.sample", f"{self.sample} is below 0")
        if self.link not in LIKELIHOODS:
            raise ConfigError("update.trainer.link", f"unknown {self.link!r}", f"use {', '.join(LIKELIHOODS)}")
        Logistic(l2=self.l2, structure=self.structure, curvature=self.curvature)  # it checks these fields

    @property
    def likelihood(self) -> Likelihood:
        """What labels are, by `link`."""
        return LIKELIHOODS[self.link]

    def fit(self, data: TrainingData) -> Head:
        """See `Trainer.fit`."""
        names, likelihood = self.likelihood.output_names(data.classes), self.likelihood
        evidence = evidence_to_fit(data.features, data.labels, data.weights, names, likelihood)
        made = self._made(
            evidence.features.copy(),
            list(data.labels),
            evidence.weights.copy(),
            classes=names,
            seed=data.seed,
            context=data.context,
        )
        dim, seen = evidence.features.shape[1], len(evidence)
        if isinstance(made, Head):
            self._check(made, names, dim)
            return replace(
                made,
                labels_seen=seen,
                # The evidence of a class that joined after a fit depends on what that fit saw.
                fitted_on=made.fitted_on if len(made.linearised_at) < len(names) else seen,
                encoder=data.encoder,
                version=data.version,
                ledger_seq=data.ledger_seq,
            )
        if likelihood.quadratic:  # weights alone do not say how far labels lie from them
            raise self._wrong(f"returned {type(made).__name__} for labels that are {likelihood.words}, not a Head")
        mean, prior = self._mean(made, names, dim), self.l2
        frame = Frame.isotropic(evidence).with_constant(math.sqrt(prior / BIAS_PRIOR))
        inside, structure, curvature = frame.evidence(evidence), self.structure, self.curvature
        posterior = laplace_posterior(likelihood, inside, frame.inside(mean), prior, structure, curvature, frame)
        return Fit(mean=mean, posterior=posterior, prior=prior).head(names, likelihood, data)

    def _made(self, *given: Any, **named: Any) -> object:
        """What the callable returns.

        Args:
            *given: its arguments.
            **named: its arguments by name.

        Returns:
            Whatever it returns.

        Raises:
            ConfigError: there is no such callable, or it fails.
            RaysalError: raised by the callable.
        """
        module, _, name = self.arg.partition(":")
        try:
            function: Callable[..., object] = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            fix = "check the name, and that Python finds the module"
            raise ConfigError(f"custom:{self.arg}", str(error), fix) from error
        try:
            return function(*given, **named)
        except RaysalError:
            raise
        except Exception as error:  # the user's own code
            problem = f"fails on {len(given[1])} labels ({type(error).__name__}: {error})"
            raise ConfigError(f"custom:{self.arg}", problem, "see Custom for what it is given") from error

    def _mean(self, made: object, names: tuple[str, ...], dim: int) -> NDArray[np.float64]:
        """The weights [C, d + 1] that the callable returned, checked."""
        if not isinstance(made, tuple | list) or len(made) != 2:
            what = f"{len(made)} things" if isinstance(made, tuple | list) else type(made).__name__
            raise self._wrong(f"returned {what}, not (weight, bias) or a Head")
        parts = []
        for name, value, shape in (("weight", made[0], (len(names), dim)), ("bias", made[1], (len(names),))):
            try:
                array = np.asarray(value, dtype=np.float64)
            except (TypeError, ValueError):
                raise self._wrong(f"returned a {name} that is no array of numbers") from None
            if array.shape != shape:
                means = "[C, d]" if len(shape) == 2 else "[C]"
                raise self._wrong(f"returned a {name} of shape {array.shape}, expected {shape}, {means}")
            if not np.isfinite(array).all():
                place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
                raise self._wrong(f"returned a {name} that is {array[place]} at {list(place)}")
            parts.append(array)
        return np.column_stack(parts)

    def _check(self, head: Head, names: tuple[str, ...], dim: int) -> None:
        """Refuse a head of other classes or vectors."""
        if sorted(head.classes) != list(names):
            raise self._wrong(f"returned a head of the classes {list(head.classes)[:5]}, expected {list(names)[:5]}")
        if head.pool_dim != dim:
            raise self._wrong(f"returned a head for vectors of {head.pool_dim} numbers, expected {dim}")
        if head.likelihood is not self.likelihood:  # the run reads its labels as the trainer declared them
            raise self._wrong(f"returned a head with the link {head.likelihood.name!r}, expected {self.link!r}")

    def _wrong(self, problem: str) -> UserError:
        """The error for what the callable returned."""
        return ConfigError(f"custom:{self.arg}", problem, "see Custom for what it is to return")
