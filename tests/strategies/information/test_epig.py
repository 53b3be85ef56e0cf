"""EPIG: what a label says of the labels of targets, against the slow version."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import reference_information as slow
from pools import make_pool, mixture
from posteriors import (
    DIM,
    N,
    covariance_of,
    every_kind,
    every_structure,
    head_of,
    number_head,
    questions,
    task,
)
from programs import local, make_head
from scenes import scene

from raysal.models.posterior import Shared
from raysal.rng import derive, item_uniform
from raysal.strategies.base import select
from raysal.strategies.information.batch_bald import BatchBald
from raysal.strategies.information.epig import Epig

rows, fleet, candidates = scene((mixture(N, DIM, seed=3)[0] * 0.6).astype(np.float16).astype(np.float32))


@every_structure
@every_kind
def test_epig_is_the_information_on_the_labels_of_targets(structure, link, rows, fleet, candidates):
    given = task(head_of(structure, link, temperature=1.3))
    picks = select(fleet, Epig(targets=20, draws=12), given, 30)
    draws = slow.posterior_draws(given.head, 12, 5)
    targets = candidates[np.argsort(item_uniform(derive(5, "targets"), candidates))[:20]]
    both = zip(questions(rows[candidates], draws, link), questions(rows[targets], draws, link), strict=True)
    wanted = sum(slow.epig(*pair) for pair in both)
    noisy = 2 * np.log(wanted) - np.log(-np.log(item_uniform(5, candidates)))
    np.testing.assert_allclose(picks.scores, noisy[np.searchsorted(candidates, picks.ids)], atol=2e-4)
    np.testing.assert_allclose(picks.scores, np.sort(noisy)[::-1][:30], atol=2e-4)
    part = select(fleet, Epig(targets=20, draws=12), given, 11)
    assert np.array_equal(part.ids, picks.ids[:11])
    assert np.array_equal(part.scores, picks.scores[:11])


@every_structure
def test_epig_of_numbers_is_exact(structure, rows, fleet, candidates):
    given = task(number_head(structure))
    picks = select(fleet, Epig(targets=15), given, 30)
    targets = candidates[np.argsort(item_uniform(derive(5, "targets"), candidates))[:15]]
    both = np.concatenate([rows[picks.ids], rows[targets]])
    covariance = covariance_of(both, given.head)
    variance = np.diag(covariance) + 0.5
    correlation = covariance[:30, 30:] / np.sqrt(np.outer(variance[:30], variance[30:]))
    noise = -np.log(-np.log(item_uniform(5, picks.ids)))
    gains = np.exp((picks.scores - noise) / 2)
    np.testing.assert_allclose(gains, (-np.log(1 - correlation**2) / 2).mean(1), rtol=1e-6)


def test_what_is_unlike_the_pool_is_worth_little_to_epig(rows, tmp_path):
    """One far item, of which the weights alone could be learned: BALD's first pick, not EPIG's."""
    x = np.zeros((200, DIM))
    x[:, :2] = rows[:200, :2]
    x[77] = 0
    x[77, 5] = 20
    head = replace(make_head(np.eye(2, DIM) * 0.01, np.zeros(2)), posterior=Shared(root=np.eye(DIM + 1) * 0.5))
    fleet = local(make_pool(tmp_path / "pool", x))
    assert select(fleet, BatchBald(), task(head), 1).ids.tolist() == [77]
    assert 77 not in select(fleet, Epig(beta=100), task(head), 150).ids
