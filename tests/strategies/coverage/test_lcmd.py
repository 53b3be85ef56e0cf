"""LCMD: the farthest item of the heaviest cluster, by vectors and by gradients."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import reference_dense as slow
from every_row import DIM, N, task
from pools import make_pool, mixture
from programs import context_of, local, make_head, random_head
from scenes import scene

from raysal.strategies import SELECTORS
from raysal.strategies.base import select
from raysal.strategies.engine.gradients import CENTRES_PER_PRODUCT

rows, fleet, candidates = scene(mixture(N, DIM, seed=3)[0])


@pytest.mark.parametrize("labelled", [0, 3, 40])
def test_lcmd_takes_the_farthest_item_of_the_heaviest_cluster(labelled, rows, fleet, candidates):
    given = task(rows, labelled=labelled)
    picks = select(fleet, SELECTORS["lcmd"](), given, 20)
    wanted, gaps = slow.lcmd(rows[candidates].astype(np.float64), given.labelled.vectors.astype(np.float64), 20)
    assert np.array_equal(picks.ids, candidates[wanted])
    np.testing.assert_allclose(picks.scores, gaps, rtol=1e-9)


@pytest.mark.parametrize("labelled", [0, 60])
def test_lcmd_in_the_space_of_gradients(labelled, rows, fleet, candidates):
    given = task(rows, labelled=labelled)
    picks = select(fleet, SELECTORS["lcmd"](space="gradients"), given, 15)
    dense = reference.gradient_embeddings(rows, given.head.weight, given.head.bias)
    known = dense[::labelled] if labelled else dense[:0]
    wanted, gaps = slow.lcmd(dense[candidates], known, 15)
    assert np.array_equal(picks.ids, candidates[wanted])
    np.testing.assert_allclose(picks.scores, gaps, rtol=1e-4)


@pytest.mark.parametrize("space", ["vectors", "gradients"])
def test_lcmd_over_more_centres_than_a_tile(space, rows, fleet, candidates):
    given = task(rows, labelled=2)
    assert len(given.labelled.vectors) > 2 * CENTRES_PER_PRODUCT
    picks = select(fleet, SELECTORS["lcmd"](space=space), given, 100)
    part = select(fleet, SELECTORS["lcmd"](space=space), given, 33)
    assert np.array_equal(part.ids, picks.ids[:33])
    assert np.array_equal(part.scores, picks.scores[:33])
    # Half of the pool is a centre already; the others must come first.
    assert (picks.ids % 2 == 1).all()
    assert (picks.scores > 0).all()


def test_lcmd_takes_copies_last(tmp_path):
    scale = np.logspace(-3, 2, 57)  # sums of such different squares are never exact
    x = np.tile(np.random.default_rng(0).normal(size=(20, 57)) * scale, (4, 1))
    fleet = local(make_pool(tmp_path / "pool", x, chunk_rows=33), 3)
    head = make_head(random_head(57, scale=0.02).weight / scale, np.zeros(5))
    for space in ("vectors", "gradients"):
        selector = SELECTORS["lcmd"](space=space)
        picks = select(fleet, selector, context_of(head=head, labelled=np.empty((0, 57), np.float32), key=1), 50)
        assert len(set((picks.ids[:20] % 20).tolist())) == 20
        assert set(picks.reasons[20:]) == {"only copies left, uniform"}
        assert len(set(picks.ids.tolist())) == 50
