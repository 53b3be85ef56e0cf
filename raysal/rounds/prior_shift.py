"""The correction of a head's biases by how common each class is in the pool: shown, and taken off before it learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.config import RunConfig
from raysal.errors import ConfigError
from raysal.fleet import Fleet
from raysal.labels.records import Labelled
from raysal.models.head import Head
from raysal.models.likelihood import Likelihood
from raysal.models.prevalence import estimate_prevalence
from raysal.numerics import one_thread
from raysal.pool import Pool
from raysal.rounds.gathering import gather_vectors
from raysal.scoring.novelty.base import count_available
from raysal.scoring.sweep import sample_available

SAMPLE = 10_000
"""Unlabelled items that the shares of classes are estimated from."""
PREVALENCE, SHIFT = "prevalence", "prior_shift"
"""In a round's record: the share of each class in the pool, and what was added to its bias."""


def check_prior_shift(config: RunConfig, likelihood: Likelihood) -> None:
    """Refuse to correct what has no prior of classes.

    Args:
        config: of a run.
        likelihood: what its labels are.

    Raises:
        ConfigError: labels are not one class of several.
    """
    if config.update.prior_shift != "none" and not likelihood.exclusive:
        problem = f"corrects how common each class of several is, and labels are {likelihood.words}"
        raise ConfigError("update.prior_shift", problem, "leave it out")


def with_prior_shift(
    fleet: Fleet, pool: Pool, head: Head, known: Sequence[Labelled], trained: Sequence[Labelled], key: int
) -> tuple[Head, dict[str, Any]]:
    """A head with its biases corrected, and what the record of its round says of that. Three round trips.

    The posterior, and where its evidence was taken, stay as they are: a correction is no evidence.

    Args:
        fleet: the pool's partitions, in a program from which held-out and labelled items were taken out.
        pool: the pool.
        head: as it was fitted or updated.
        known: the labelled items.
        trained: these and the background.
        key: key of `raysal.rng`, for the sample.

    Returns:
        The head as it is shown, and the entries.

    Raises:
        ConfigError: the head is an ensemble, whose members have biases of their own.
    """
    if not head.posterior.closed_form:
        raise ConfigError("update.prior_shift", "the members of an ensemble have biases of their own", "leave it out")
    ids = np.sort(sample_available(fleet, key, SAMPLE))
    items = sum(count for count, _ in fleet.each(count_available))
    features = gather_vectors(fleet, pool.dim, ids, head.hidden_layer)
    with one_thread(numpy=True):
        outputs = head.logits(features) / head.temperature
        found = estimate_prevalence(outputs, items, mass_of(head, known, ones=True), mass_of(head, trained))
    shift = dict(zip(head.classes, (found.shift * head.temperature).tolist(), strict=True))
    shares = dict(zip(head.classes, found.shares.tolist(), strict=True))
    return shifted(head, shift, 1.0), {PREVALENCE: shares, SHIFT: shift}


def without_shift(head: Head, record: Mapping[str, Any]) -> Head:
    """The head of a round as it learnt, without the correction that its record names."""
    return shifted(head, record[SHIFT], -1.0) if SHIFT in record else head


def with_shift(head: Head, record: Mapping[str, Any]) -> Head:
    """The head as it is shown, with the correction that the record of a round names; `without_shift` takes it off."""
    return shifted(head, record[SHIFT], 1.0) if SHIFT in record else head


def correction_in(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the record of a round says of the correction: nothing where there was none."""
    return {name: record[name] for name in (PREVALENCE, SHIFT) if name in record}


def shifted(head: Head, shift: Mapping[str, float], sign: float) -> Head:
    """A head with a shift added to its biases, or taken off; classes that are not in it stay."""
    mean = head.mean.copy()
    mean[:, -1] += sign * np.array([shift.get(name, 0.0) for name in head.classes])
    return replace(head, mean=mean)


def mass_of(head: Head, items: Sequence[Labelled], *, ones: bool = False) -> NDArray[np.float64]:
    """The weights of the classes of a head among items, or with `ones` their counts, [C]."""
    targets = head.likelihood.targets([item.answer for item in items], head.classes)
    weights = np.ones(len(items)) if ones else np.array([item.weight for item in items])
    return np.asarray(weights @ targets)
