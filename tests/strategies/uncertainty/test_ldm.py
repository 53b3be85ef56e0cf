"""LDM-S: the least disturbed head that predicts otherwise, against the slow version."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference_information as slow
from pools import make_pool, mixture
from posteriors import (
    CLASSES,
    DIM,
    N,
    every_kind,
    number_head,
    task,
)
from programs import local, make_head, random_head
from scenes import scene

from raysal.errors import ConfigError
from raysal.fleet import keep
from raysal.models.likelihood import LIKELIHOODS
from raysal.rng import derive
from raysal.strategies.base import select
from raysal.strategies.uncertainty import disagreement
from raysal.strategies.uncertainty.ldm import Ldm

rows, fleet, candidates = scene((mixture(N, DIM, seed=3)[0] * 0.6).astype(np.float16).astype(np.float32))


@every_kind
@pytest.mark.parametrize(("patience", "tile"), [(10, 320), (1, 320), (1, 1)])
def test_ldm_is_the_least_over_disturbed_heads(link, patience, tile, rows, fleet, candidates, monkeypatch):
    monkeypatch.setattr(disagreement, "DIRECTION_COLUMNS", tile)
    few = candidates[::6]
    fleet.each(keep, few)
    given = task(replace(random_head(DIM, CLASSES), likelihood=LIKELIHOODS[link]))
    directions = disagreement.directions_of(given.linear(several=True), derive(5, "directions"), 0, 60)
    sizes = 10.0 ** np.linspace(-5, 3, 81)
    several = link == "sigmoid"
    metric, tried = slow.least_disagree_metric(rows[few], given.head.mean, sizes, directions, patience, several)
    assert (tried < 60) == (patience == 1)
    picks = select(fleet, Ldm(directions=60, patience=patience), given, 9)
    place = np.searchsorted(few, picks.ids)
    np.testing.assert_allclose(picks.scores * len(few), metric[place], rtol=1e-12)
    assert picks.ids.tolist() == slow.ldm_seeding(rows[few], few, metric, 9, 5).tolist()


@pytest.mark.parametrize("k", [40, 150])
def test_ldm_weighs_all_others_as_much_as_the_least(k, rows, fleet, candidates):
    given = task(random_head(DIM, CLASSES), key=6)
    directions = disagreement.directions_of(given.linear(), derive(6, "directions"), 0, 4)
    metric, _ = slow.least_disagree_metric(
        rows[candidates], given.head.mean, 10.0 ** np.linspace(-5, 3, 81), directions, 9
    )
    picks = select(fleet, Ldm(directions=4), given, k)
    assert picks.ids.tolist() == slow.ldm_seeding(rows[candidates], candidates, metric, k, 6).tolist()
    order = np.lexsort((candidates, metric))
    assert len(np.setdiff1d(picks.ids, candidates[order[:k]])) > 3


def test_directions_are_as_long_as_the_weights_and_a_function_of_their_number():
    linear = task(random_head(DIM, CLASSES)).linear()
    whole = disagreement.directions_of(linear, 3, 0, 400)
    assert np.array_equal(whole[7:9], disagreement.directions_of(linear, 3, 7, 2))
    size = np.sqrt((random_head(DIM, CLASSES).mean ** 2).mean())
    assert whole.std() == pytest.approx(size, rel=0.05)


def test_ldm_does_not_see_the_scale_of_the_features(rows, fleet, candidates, tmp_path):
    head = random_head(DIM, CLASSES)
    given = task(make_head(head.weight, np.zeros(CLASSES)))
    eight = local(make_pool(tmp_path / "pool", rows[candidates] * 8))
    scaled = task(make_head(head.weight / 8, np.zeros(CLASSES)))
    one = local(make_pool(tmp_path / "one", rows[candidates]))
    picks = select(one, Ldm(directions=20), given, 15)
    again = select(eight, Ldm(directions=20), scaled, 15)
    # The constant feature is not scaled, so the heads differ by what it disturbs.
    assert len(np.intersect1d(picks.ids, again.ids)) > 7


def test_copies_of_picks_come_last_to_ldm(tmp_path):
    x = np.repeat(np.random.default_rng(0).normal(size=(10, DIM)), 4, axis=0)
    picks = select(local(make_pool(tmp_path / "pool", x), 2), Ldm(directions=20), task(random_head(DIM, CLASSES)), 25)
    assert len(set((picks.ids[:10] // 4).tolist())) == 10
    assert all("flips with" in reason for reason in picks.reasons[:10])
    assert set(picks.reasons[10:]) == {"like a pick, or of no weight; uniform"}


def test_numbers_have_no_class_to_change(fleet, candidates):
    with pytest.raises(ConfigError, match="predicts numbers"):
        select(fleet, Ldm(), task(number_head()), 3)
