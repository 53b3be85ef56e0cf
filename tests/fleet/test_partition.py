"""A partition reads what was written, whatever the chunks, blocks and cuts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import make_pool

from raysal.fleet import LocalFleet, Partition, confine, exclude, keep, plan_partitions, vectors_of
from raysal.numerics import BLOCK_ROWS, padded, round_up


@st.composite
def layouts(draw):
    """Draw (vectors, chunk rows, missing ids, partitions, block size)."""
    n, dim = draw(st.integers(1, 40)), draw(st.integers(1, 20))
    missing = draw(st.sets(st.integers(0, n - 1), max_size=n - 1))
    x = np.random.default_rng(draw(st.integers(0, 9))).normal(size=(n, dim)).astype(np.float16)
    return (
        x,
        draw(st.integers(1, n + 3)),
        sorted(missing),
        draw(st.integers(1, n + 3)),
        draw(st.integers(1, 50)),
    )


@settings(max_examples=20)
@given(layout=layouts(), data=st.data())
def test_blocks_gather_and_rows_agree_with_plain_arrays(layout, data):
    """All rows and some rows are read, in any chunks, partitions and blocks."""
    x, chunk_rows, missing, partitions, size = layout
    ids = np.setdiff1d(np.arange(len(x)), missing)
    with tempfile.TemporaryDirectory() as folder:
        pool = make_pool(Path(folder) / "pool", x, chunk_rows=chunk_rows, missing=missing)
        parts = [Partition(spec) for spec in plan_partitions(pool, partitions)]
        assert np.array_equal(np.concatenate([part.ids for part in parts]), ids)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        wanted = np.array(sorted(data.draw(st.sets(st.integers(-2, len(x) + 2)))), np.int64)
        for part in parts:
            own = x[part.ids]
            rows = part.rows_of(wanted)
            assert part.ids[rows].tolist() == sorted(set(part.ids.tolist()) & set(wanted.tolist()))
            assert np.array_equal(part.gather(rows), own[rows])
            np.testing.assert_allclose(part.sq_norms(), (own.astype(np.float64) ** 2).sum(1), rtol=1e-5)
            for chosen in (None, rows):
                expected = np.arange(len(part)) if chosen is None else chosen
                seen = 0
                for block in part.blocks(chosen, size):
                    assert block.features.shape == (size, round_up(x.shape[1]))
                    assert np.array_equal(block.rows, expected[seen : seen + size])
                    assert np.array_equal(
                        block.features[: block.n, : x.shape[1]].numpy(), own[block.rows].astype(np.float32)
                    )
                    assert not block.features[block.n :].any()
                    assert not block.features[:, x.shape[1] :].any()
                    seen += block.n
                assert seen == len(expected)


@pytest.mark.parametrize("size", [3, 4, 7, 20])
def test_no_row_of_one_block_is_left_in_the_next(size, tmp_path):
    """Blocks share one buffer."""
    part = Partition(plan_partitions(make_pool(tmp_path / "pool", np.ones((10, 2)), chunk_rows=4), 1)[0])
    for rows in (None, np.arange(10), np.arange(1, 10)):
        for block in part.blocks(rows, size):
            assert block.features[: block.n, :2].eq(1).all()
            assert not block.features[block.n :].any()


def test_ids_may_be_asked_for_in_any_order_and_more_than_once(tmp_path):
    """They are found in ascending order, each once; ids that are missing are passed over."""
    x = np.arange(20, dtype=np.float32).reshape(10, 2)
    fleet = LocalFleet(plan_partitions(make_pool(tmp_path / "pool", x, chunk_rows=3, missing=[4]), 3))
    parts = fleet.each(vectors_of, np.array([9, 0, 4, 7, 0, 99]))
    assert np.concatenate([ids for ids, _ in parts]).tolist() == [0, 7, 9]
    assert np.array_equal(np.concatenate([vectors for _, vectors in parts]), x[[0, 7, 9]])


def test_masks_add_up_and_end_with_the_program(tmp_path):
    """`exclude` and `confine` add up, `keep` replaces, `reset` ends all."""
    x = np.ones((10, 2), np.float32)
    fleet = LocalFleet(plan_partitions(make_pool(tmp_path / "pool", x), 3))
    assert sum(fleet.each(exclude, np.array([0, 1]))) == 8
    assert sum(fleet.each(exclude, np.array([1, 2]))) == 7
    assert sum(fleet.each(keep, np.array([2, 3, 9]))) == 2
    assert sum(fleet.each(keep, np.array([3, 4, 5]))) == 3
    assert sum(fleet.each(confine, np.array([2, 4, 5, 6, 8, 99]))) == 4
    assert sum(fleet.each(exclude, np.array([8]))) == 3
    assert sum(fleet.each(keep, np.array([3, 4, 5]))) == 2
    fleet.reset()
    assert sum(fleet.each(exclude, np.empty(0, np.int64))) == 10


@pytest.mark.parametrize("dim", [7, 33, 256, 1281])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_gives_the_same_bits_wherever_it_stands(dim, dtype, tmp_path):
    """Products, norms and softmax of a row do not depend on its place or on other rows: see `raysal.numerics`."""
    rng = np.random.default_rng(0)
    row = rng.normal(size=dim).astype(np.float16)
    x = rng.normal(size=(3000, dim)).astype(np.float16)
    x[::3] = row
    part = Partition(plan_partitions(make_pool(tmp_path / "pool", x, chunk_rows=1000), 1)[0])
    weight = padded(rng.normal(size=(16, dim)), part.width, dtype, part.device)
    for size in (256, BLOCK_ROWS):
        logits, norms, inner = [], [], []
        for rows in (None, np.arange(0, 3000, 3), np.arange(0, 3000, 9)):
            for block in part.blocks(rows, size):
                mine = np.flatnonzero(block.rows % 3 == 0)
                wide = block.features.to(dtype)
                logits.append(torch.softmax(wide @ weight.T, 1)[mine])
                norms.append((wide * wide).sum(1)[mine])
                inner.append((wide @ weight[0])[mine])
        for parts in (logits, norms, inner):
            assert len(torch.unique(torch.cat(parts), dim=0)) == 1


def test_neighbours_are_read_as_others_are(tmp_path):
    """Rows that lie together in a chunk, rows with gaps, and one row; in half and in single precision."""
    x = np.random.default_rng(2).normal(size=(30, 5)).astype(np.float16)
    (partition,) = LocalFleet(plan_partitions(make_pool(tmp_path, x, chunk_rows=8), 1))._partitions
    for rows in ([*range(30)], [3, 4, 5, 6, 7, 8, 9], [0, 2, 3, 9, 29], [11], []):
        some = np.array(rows, np.int64)
        for dtype in (np.float16, np.float32):
            found = partition.gather(some, dtype)
            assert found.dtype == dtype
            assert np.array_equal(found, x[some])
