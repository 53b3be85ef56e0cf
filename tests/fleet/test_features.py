"""A partition read through a hidden layer: features have the same bits everywhere, and end with the program."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pools import make_pool
from programs import local

from raysal.errors import FingerprintMismatch, UserError
from raysal.features import HiddenLayer
from raysal.fleet import Partition, plan_partitions, use_features, vectors_of
from raysal.numerics import BLOCK_ROWS, round_up
from raysal.pool import Pool
from raysal.scoring.similarity import similarities

N, DIM, HIDDEN = 5000, 33, 21


def layer_of(seed: int = 0, dim: int = DIM, hidden: int = HIDDEN) -> HiddenLayer:
    """Make a hidden layer of random weights."""
    rng = np.random.default_rng(seed)
    return HiddenLayer(weight=rng.normal(size=(hidden, dim)), bias=rng.normal(size=hidden))


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    """Random vectors."""
    return np.random.default_rng(1).normal(size=(N, DIM)).astype(np.float16)


@pytest.fixture(scope="module")
def pools(x, tmp_path_factory) -> dict[int, Pool]:
    """Pools of the same vectors, by rows of a chunk."""
    root = tmp_path_factory.mktemp("layer")
    return {rows: make_pool(root / str(rows), x, chunk_rows=rows) for rows in (700, N)}


def read(fleet, rows=None, size: int = BLOCK_ROWS) -> np.ndarray:
    """Everything that blocks yield, in id order; whatever lies beyond the rows and the width of a block must be 0."""

    def of(partition: Partition) -> np.ndarray:
        own, found = rows if rows is None else partition.rows_of(rows), []
        for block in partition.blocks(own, size):
            assert block.features.shape == (size, round_up(partition.dim)) == (size, partition.width)
            assert not block.features[block.n :].any()
            assert not block.features[:, partition.dim :].any()
            found.append(block.features[: block.n, : partition.dim].numpy().copy())
        return np.concatenate(found) if found else np.empty((0, partition.dim), np.float32)

    return np.concatenate(fleet.each(of))


def test_a_hidden_layer_is_a_rectified_layer_rounded_as_vectors_are(x):
    """Compare with the formula in float64; large features are cut at the largest float16."""
    hidden_layer = layer_of()
    slow = np.maximum(x.astype(np.float64) @ hidden_layer.weight.T + hidden_layer.bias, 0)
    np.testing.assert_allclose(hidden_layer.see(x), slow, rtol=2.0**-10, atol=1e-5)
    assert hidden_layer.see(x).dtype == np.float16
    assert (hidden_layer.see(np.full((1, DIM), 6e4)).max(), hidden_layer.see(x[:0]).shape) == (65504, (0, HIDDEN))


def test_what_is_read_has_the_same_bits_for_any_layout_block_and_number_of_threads(x, pools):
    """All rows and some rows are read, in blocks and by id."""
    hidden_layer = layer_of()
    expected = hidden_layer.see(x).astype(np.float32)
    some = np.flatnonzero(np.random.default_rng(2).random(N) < 0.3)
    before = torch.get_num_threads()
    try:
        for threads, rows, partitions in ((1, N, 1), (2, 700, 2), (3, 700, 5)):
            torch.set_num_threads(threads)
            fleet = local(pools[rows], partitions)
            fleet.each(use_features, hidden_layer)
            for size in (300, BLOCK_ROWS):
                assert np.array_equal(read(fleet, size=size), expected)
                assert np.array_equal(read(fleet, some, size), expected[some])
            assert np.array_equal(read(fleet, some[:90], 7), expected[some[:90]])
            parts = fleet.each(vectors_of, some)
            assert np.array_equal(np.concatenate([vectors for _, vectors in parts]), expected[some])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("dim", "hidden"), [(5, 1), (1281, 40), (64, 128)])
def test_a_row_is_seen_alike_wherever_it_stands(dim, hidden, tmp_path):
    """A third of the rows are equal; they lie among other rows, in two partitions."""
    rows = np.random.default_rng(0).normal(size=(900, dim)).astype(np.float16)
    rows[::3] = rows[0]
    fleet = local(make_pool(tmp_path / "pool", rows, chunk_rows=250), 2)
    fleet.each(use_features, layer_of(3, dim, hidden))
    assert len(np.unique(read(fleet)[::3], axis=0)) == 1


def test_norms_and_similarities_are_those_of_what_is_seen_and_do_not_outlast_it(x, pools):
    """They change with another layer, and are not left in a new view or after `reset`."""
    part = Partition(plan_partitions(pools[700], 1)[0])
    plain = part.sq_norms().clone()
    held = dict(part.held)
    for hidden_layer in (layer_of(), layer_of(1)):
        part.use_features(hidden_layer)
        seen = hidden_layer.see(x).astype(np.float64)
        np.testing.assert_allclose(part.sq_norms(), (seen**2).sum(1), rtol=1e-5)
        near = similarities(part, np.arange(40), seen[:3])
        units = seen / np.linalg.norm(seen, axis=1, keepdims=True)
        np.testing.assert_allclose(near, units[:40] @ units[:3].T, atol=1e-5)
    assert part.held == held
    view = part.view()
    assert (view.dim, view.width) == (DIM, 48)
    part.reset()
    assert part.dim == DIM
    assert torch.equal(part.sq_norms(), plain)
    assert np.array_equal(part.gather(np.arange(9)), x[:9])


def test_a_vector_that_is_not_finite_is_not_made_a_sound_one(x):
    """Without care, infinity times a negative weight would be cut to 0."""
    broken = x[:50].copy()
    broken[[7, 9, 11], 3] = np.inf, -np.inf, np.nan
    seen = HiddenLayer(weight=-np.eye(HIDDEN, DIM), bias=np.zeros(HIDDEN)).see(broken)
    assert np.flatnonzero(np.isnan(seen).all(1)).tolist() == [7, 9, 11]
    assert np.isfinite(seen).all(1).sum() == 47


def test_a_hidden_layer_of_another_length_is_refused(x, pools):
    """The partition refuses it, the layer itself does, and none can be made of parts that disagree."""
    with pytest.raises(FingerprintMismatch, match="length of its vectors"):
        local(pools[700]).each(use_features, layer_of(dim=DIM + 1))
    with pytest.raises(UserError, match=r"takes \[n, 33\]"):
        layer_of().see(x[:, 1:])
    with pytest.raises(UserError, match=r"hidden_layer\.bias"):
        HiddenLayer(weight=np.ones((2, 3)), bias=np.array([0.0, np.nan]))
    with pytest.raises(UserError, match=r"hidden_layer\.weight"):
        HiddenLayer(weight=np.ones((2, 3)), bias=np.zeros(3))
