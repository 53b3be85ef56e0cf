"""Gradients as a space: inner products are those of automatic differentiation, and sketches estimate them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference_gradients as slow
from pools import make_pool, mixture
from programs import local, random_head

from raysal.features import HiddenLayer
from raysal.fleet import use_features, vectors_below
from raysal.models.head import Head
from raysal.models.likelihood import LIKELIHOODS
from raysal.strategies.engine.gradients import SAMPLE, gradient_space
from raysal.strategies.engine.spaces import CENTRES_PER_PRODUCT, SpaceRows, centres_of

N, DIM, HIDDEN = 300, 11, 7
X = mixture(N, DIM, seed=3)[0].astype(np.float16).astype(np.float32)
WIDE = X.astype(np.float64)
EVERY = np.arange(N)
KINDS = {"identity": 1, "sigmoid": 3, "softmax": 5}
every_head = pytest.mark.parametrize(("kind", "hidden"), [(kind, hidden) for kind in KINDS for hidden in (False, True)])


def head_of(kind: str, hidden: bool) -> Head:
    rng = np.random.default_rng(1)
    layer = HiddenLayer(weight=rng.normal(size=(HIDDEN, DIM)) * 0.3, bias=rng.normal(size=HIDDEN)) if hidden else None
    head = random_head(HIDDEN if hidden else DIM, KINDS[kind], seed=2)
    return replace(head, likelihood=LIKELIHOODS[kind], hidden_layer=layer)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return make_pool(tmp_path_factory.mktemp("gradients") / "pool", X, chunk_rows=130)


def fleet_for(pool, head):
    fleet = local(pool, 3)
    fleet.each(use_features, head.hidden_layer)
    return fleet


def inner_of(partition, space, centres):
    rows = SpaceRows(partition, space, ties=0)
    return rows.sq_norms().numpy(), np.concatenate([inner.numpy() for _, inner in rows.inner_products(centres)])


def kept_of(partition, space):
    return SpaceRows(partition, space, ties=0).kept.numpy()[: len(partition.candidates())]


@every_head
@pytest.mark.parametrize("centres", [1, 5, CENTRES_PER_PRODUCT])
def test_inner_products_are_those_of_automatic_differentiation(kind, hidden, centres, pool):
    head = head_of(kind, hidden)
    fleet = fleet_for(pool, head)
    space = gradient_space(fleet, head, 0, 9)
    dense = slow.gradients(WIDE, EVERY, head)
    some = centres_of(space, X[40 : 40 + centres])
    norms, inner = (np.concatenate(column) for column in zip(*fleet.each(inner_of, space, some), strict=True))
    scale = (dense**2).sum(1).max()
    accuracy = (1e-4 if hidden else 1e-6) * scale  # rounding to float16 may differ by one unit
    np.testing.assert_allclose(norms, (dense**2).sum(1), atol=accuracy)
    np.testing.assert_allclose(inner, dense @ dense[40 : 40 + centres].T, atol=accuracy)
    np.testing.assert_allclose(space.sq_norms(some), norms[40 : 40 + centres], rtol=1e-12)


@every_head
def test_a_sketch_is_as_published(kind, hidden, pool):
    head = head_of(kind, hidden)
    fleet = fleet_for(pool, head)
    space = gradient_space(fleet, head, 6, 9)
    assert space.sketch == 6
    kept = np.concatenate(fleet.each(kept_of, space))
    wanted = slow.sketches(WIDE, EVERY, head, 6, 9)
    np.testing.assert_allclose(kept[:, :6], wanted, atol=(1e-3 if hidden else 1e-5) * np.abs(wanted).max())
    assert not kept[:, 6:].any()
    assert np.array_equal(centres_of(space, X[:3]).kept, kept[:3])


@pytest.mark.parametrize(
    ("kind", "hidden", "least", "most"),
    [("identity", False, 1.7, 2.3), ("softmax", False, 2.0, 8.8), ("softmax", True, 1.0, 8.8)],
)
def test_squared_distances_of_sketches_are_right_on_average_and_as_sure_as_said(kind, hidden, least, most, pool):
    m, draws = 8, 400
    head = head_of(kind, hidden)
    fleet = fleet_for(pool, head)
    dense = slow.gradients(WIDE, EVERY, head)
    space = gradient_space(fleet, head, m, 0)
    ratios = []
    for key in range(draws):
        kept = centres_of(replace(space, key=key), X[:30]).kept
        ratios.append(((kept[::2] - kept[1::2]) ** 2).sum(1) / ((dense[:30:2] - dense[1:30:2]) ** 2).sum(1))
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)
    assert least <= m * np.var(ratios, axis=0).mean() <= most


@every_head
def test_gradients_no_longer_than_a_sketch_are_exact(kind, hidden, pool):
    head = head_of(kind, hidden)
    fleet = fleet_for(pool, head)
    width = DIM + (2 * HIDDEN if hidden else 0) + (0 if kind == "identity" else KINDS[kind])
    assert gradient_space(fleet, head, width, 9).sketch == 0
    assert gradient_space(fleet, head, width - 1, 9).sketch == width - 1
    assert gradient_space(fleet, head, 0, 9).sketch == 0


@every_head
@pytest.mark.parametrize("sketch", [0, 5])
def test_neither_a_constant_nor_a_factor_of_all_vectors_changes_them(kind, hidden, sketch, tmp_path):
    x = np.rint(X * 16) / 16
    shift = np.arange(DIM) - 4.0
    found = []
    for factor, offset in ((1.0, 0 * shift), (4.0, shift)):
        vectors = (x * factor + offset).astype(np.float32)
        assert np.array_equal(vectors, vectors.astype(np.float16))
        head = head_of(kind, hidden)
        layer = head.hidden_layer
        if layer is None:
            weight = head.weight / factor
            head = replace(head, mean=np.column_stack([weight, head.bias - weight @ offset]))
        else:
            weight = layer.weight / factor
            head = replace(head, hidden_layer=HiddenLayer(weight=weight, bias=layer.bias - weight @ offset))
        fleet = fleet_for(make_pool(tmp_path / str(factor), vectors), head)
        space = gradient_space(fleet, head, sketch, 9)
        found.append(fleet.each(inner_of, space, centres_of(space, vectors[:20]))[0][1])
    # Hidden features are rounded to float16 after sums in another order.
    np.testing.assert_allclose(found[1], found[0], atol=(2e-3 if hidden else 1e-5) * np.abs(found[0]).max())


def test_the_unit_is_that_of_a_sample_of_candidates(pool, monkeypatch):
    assert SAMPLE < 2_000
    monkeypatch.setattr("raysal.strategies.engine.gradients.SAMPLE", 50)
    head = head_of("softmax", False)
    one, three = (gradient_space(local(pool, count), head, 0, 9) for count in (1, 3))
    assert np.array_equal(one.centre, three.centre)
    assert one.length == three.length
    assert 0 < np.abs(one.centre - WIDE.mean(0)).max() < WIDE.std()


def test_vectors_below_a_hidden_layer_are_read_and_the_layer_stays(pool):
    head = head_of("softmax", True)
    fleet = fleet_for(pool, head)
    ids = np.array([3, 250])
    assert np.array_equal(np.concatenate([part[1] for part in fleet.each(vectors_below, ids)]), X[ids])
    assert fleet.each(lambda partition: partition.dim) == [HIDDEN] * 3
