"""LCMD: the farthest item of the heaviest cluster, by vectors and by gradients, exact and sketched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import reference_dense as slow
import reference_gradients
from every_row import DIM, N, task
from pools import make_pool, mixture
from programs import context_of, local, make_head, random_head
from scenes import scene

from raysal.context import LabelledVectors
from raysal.features import HiddenLayer
from raysal.fleet import exclude, use_features
from raysal.models.head import Head
from raysal.models.likelihood import IDENTITY, LIKELIHOODS
from raysal.rng import derive, item_uniform
from raysal.strategies import SELECTORS
from raysal.strategies.base import Picks, select
from raysal.strategies.engine.spaces import CENTRES_PER_PRODUCT

X = mixture(N, DIM, seed=3)[0].astype(np.float16).astype(np.float32)
HIDDEN = 7
rows, fleet, candidates = scene(X)
LCMD: dict[str, dict[str, Any]] = {
    "vectors": {"space": "vectors"},
    "gradients": {"space": "gradients"},
    "sketches": {"space": "gradients", "sketch": 9},
}
every_space = pytest.mark.parametrize("space", sorted(LCMD))


def head_of(kind: str, hidden: bool) -> Head:
    rng = np.random.default_rng(1)
    layer = HiddenLayer(weight=rng.normal(size=(HIDDEN, DIM)) * 0.3, bias=rng.normal(size=HIDDEN)) if hidden else None
    head = random_head(HIDDEN if hidden else DIM, 1 if kind == "identity" else 4)
    return replace(head, likelihood=LIKELIHOODS[kind], hidden_layer=layer)


def picks_of(fleet: Any, head: Head, known: Any, k: int = 15, **fields: Any) -> Picks:
    """Picks where rows `known` are labelled, and are no candidates."""
    fleet.reset()
    fleet.each(use_features, head.hidden_layer)
    fleet.each(exclude, known)
    context = context_of(head=head, labelled=head.see(X[known]).astype(np.float32), key=5)
    labelled = LabelledVectors(ids=known, vectors=context.labelled.vectors, classes=())
    return select(fleet, SELECTORS["lcmd"](**fields), replace(context, labelled=labelled), k)


@pytest.mark.parametrize("labelled", [0, 3, 40])
def test_lcmd_takes_the_farthest_item_of_the_heaviest_cluster(labelled, rows, fleet, candidates):
    given = task(rows, labelled=labelled)
    picks = select(fleet, SELECTORS["lcmd"](space="vectors"), given, 20)
    wanted, gaps = slow.lcmd(rows[candidates].astype(np.float64), given.labelled.vectors.astype(np.float64), 20)
    assert np.array_equal(picks.ids, candidates[wanted])
    np.testing.assert_allclose(picks.scores, gaps, rtol=1e-9)


@pytest.mark.parametrize("labelled", [0, 12])
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("kind", ["identity", "sigmoid", "softmax"])
def test_lcmd_in_the_space_of_gradients(kind, hidden, labelled, fleet):
    known, head = np.arange(0, N, 33)[:labelled], head_of(kind, hidden)
    picks = picks_of(fleet, head, known)
    left = np.setdiff1d(np.arange(N), known)
    dense = reference_gradients.gradients(X.astype(np.float64), left, head)
    wanted, gaps = slow.lcmd(dense[left], dense[known], 15)
    assert np.array_equal(picks.ids, left[wanted])
    np.testing.assert_allclose(picks.scores, gaps, rtol=2e-3 if hidden else 1e-6)


@pytest.mark.parametrize("labelled", [0, 12])
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("kind", ["identity", "sigmoid", "softmax"])
def test_lcmd_in_the_space_of_sketches(kind, hidden, labelled, fleet):
    known, head = np.arange(0, N, 33)[:labelled], head_of(kind, hidden)
    picks = picks_of(fleet, head, known, sketch=10)
    left = np.setdiff1d(np.arange(N), known)
    sketched = reference_gradients.sketches(X.astype(np.float64), left, head, 10, derive(5, "gradients"))
    wanted, gaps = slow.lcmd(sketched[left], sketched[known], 15)
    assert np.array_equal(picks.ids, left[wanted])
    np.testing.assert_allclose(picks.scores, gaps, rtol=1e-2 if hidden else 1e-4)


def test_for_numbers_without_a_hidden_layer_gradients_lie_as_vectors_do(fleet):
    known, head = np.arange(0, N, 33), head_of("identity", False)
    one, other = (picks_of(fleet, head, known, space=space) for space in ("gradients", "vectors"))
    assert np.array_equal(one.ids, other.ids)
    np.testing.assert_allclose(one.scores / one.scores[0], other.scores / other.scores[0], rtol=1e-9)


def test_residuals_are_those_at_the_temperature(fleet):
    known, head = np.arange(0, N, 33), head_of("softmax", False)
    hot = picks_of(fleet, replace(head, temperature=3.0), known)
    softer = picks_of(fleet, replace(head, mean=head.mean / 3.0), known)
    assert np.array_equal(hot.ids, softer.ids)
    assert not np.array_equal(hot.ids, picks_of(fleet, head, known).ids)


@every_space
@pytest.mark.parametrize("kind", ["identity", "softmax"])
def test_picks_depend_neither_on_partitions_nor_on_chunks_below_a_hidden_layer(space, kind, tmp_path):
    known, head = np.arange(0, N, 33), head_of(kind, True)
    found = []
    for chunk_rows, partitions in ((400, 1), (130, 2), (61, 5)):
        fleet = local(make_pool(tmp_path / str(chunk_rows), X, chunk_rows=chunk_rows), partitions)
        found.append(picks_of(fleet, head, known, 20, **LCMD[space]))
        assert fleet.each(lambda partition: partition.dim) == [HIDDEN] * partitions
    for picks in found[1:]:
        assert np.array_equal(picks.ids, found[0].ids)
        assert np.array_equal(picks.scores, found[0].scores)
    assert np.array_equal(picks_of(fleet, head, known, 7, **LCMD[space]).ids, found[0].ids[:7])


@every_space
def test_lcmd_over_more_centres_than_a_tile(space, rows, fleet, candidates):
    given = task(rows, labelled=2)
    assert len(given.labelled.vectors) > 2 * CENTRES_PER_PRODUCT
    picks = select(fleet, SELECTORS["lcmd"](**LCMD[space]), given, 100)
    part = select(fleet, SELECTORS["lcmd"](**LCMD[space]), given, 33)
    assert np.array_equal(part.ids, picks.ids[:33])
    assert np.array_equal(part.scores, picks.scores[:33])
    # Half of the pool is a centre already; the others must come first.
    assert (picks.ids % 2 == 1).all()
    assert (picks.scores > 0).all()


@every_space
def test_lcmd_takes_copies_last(space, tmp_path):
    scale = np.logspace(-3, 2, 57)  # sums of such different squares are never exact
    x = np.tile(np.random.default_rng(0).normal(size=(20, 57)) * scale, (4, 1))
    fleet = local(make_pool(tmp_path / "pool", x, chunk_rows=33), 3)
    head = make_head(random_head(57, scale=0.02).weight / scale, np.zeros(5))
    selector = SELECTORS["lcmd"](**LCMD[space])
    picks = select(fleet, selector, context_of(head=head, labelled=np.empty((0, 57), np.float32), key=1), 50)
    assert len(set((picks.ids[:20] % 20).tolist())) == 20
    assert set(picks.reasons[20:]) == {"only copies left, uniform"}
    assert len(set(picks.ids.tolist())) == 50


def test_of_equally_heavy_clusters_the_farthest_item_of_all_is_taken(tmp_path):
    """Two clusters of the same sum of squares, 25 + 25 and 49 + 1; the second holds the farthest item."""
    x = np.array([[5, 0], [-5, 0], [100, 7], [100, 1]], np.float32)
    fleet = local(make_pool(tmp_path / "pool", x), 2)
    labelled = np.array([[0, 0], [100, 0]], np.float32)
    for order in ([0, 1], [1, 0]):
        context = context_of(head=None, labelled=labelled[order], key=1)
        picks = select(fleet, SELECTORS["lcmd"](space="vectors"), context, 1)
        assert picks.ids.tolist() == [2]
        assert picks.scores.tolist() == [49.0]


def test_an_item_between_two_centres_goes_to_the_one_of_lower_hash(tmp_path):
    """Items at 0 and 4 are labelled, one at 2 lies between. Its weight decides which of the two clusters is heavier:
    the next pick is the item at -2 or that at 6, beside the centre that got it."""
    x = np.array([[2], [-2.25], [6.25]], np.float32)
    fleet = local(make_pool(tmp_path / "pool", x), 1)
    seen = set()
    for key in range(12):
        context = context_of(head=None, labelled=np.array([[0], [4]], np.float32), key=key)
        picks = select(fleet, SELECTORS["lcmd"](space="vectors"), context, 1)
        first = int(item_uniform(derive(key, "centres"), np.arange(2)).argmin())
        assert picks.ids.tolist() == [1 + first]
        seen.add(first)
    assert seen == {0, 1}


def test_lcmd_of_numbers_works_in_each_space(fleet):
    head = replace(random_head(DIM, 1), likelihood=IDENTITY)
    for fields in LCMD.values():
        assert len(set(picks_of(fleet, head, np.arange(0, N, 33), 9, **fields).ids.tolist())) == 9
