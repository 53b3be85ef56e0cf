"""Order statistics over partitions are those of one sorted array."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pools import make_pool
from programs import local

from raysal.errors import UserError
from raysal.scoring.quantile import order_statistics, ranks_within, sort_keys, values_of

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


def put(partition, values):
    rows = np.arange(len(partition))
    partition.state["numbers"] = partition.ids[rows], values[partition.ids]


@given(st.lists(finite, max_size=50))
def test_keys_are_in_the_order_of_the_values_and_lead_back(values):
    x = np.array(values, np.float32)
    keys = sort_keys(x)
    assert keys.dtype == np.uint32
    assert np.array_equal(x[:, None] < x, keys[:, None] < keys)
    assert np.array_equal(values_of(keys), x)


@pytest.mark.parametrize("partitions", [1, 3, 61])
@pytest.mark.parametrize("kind", ["spread", "ties", "near", "one", "zeros", "extremes"])
def test_every_rank_is_that_of_a_sorted_array(kind, partitions, tmp_path):
    rng = np.random.default_rng(0)
    n = 60
    values = {
        "spread": rng.normal(size=n) * 10.0 ** rng.integers(-30, 30, n),
        "ties": rng.integers(-2, 3, n),
        "near": 1 + rng.integers(0, 20, n) * 2.0**-23,
        "one": np.full(n, -3.5),
        "zeros": np.where(rng.random(n) < 0.5, -0.0, 0.0),
        "extremes": rng.choice(np.array([1.0, -1.0]) * np.finfo(np.float32).max, n),
    }[kind].astype(np.float32)
    fleet = local(make_pool(tmp_path / "pool", np.ones((n, 2)), chunk_rows=7), partitions)
    fleet.each(put, values)
    ranks = range(0, n, 1 if partitions == 1 else 13)
    assert np.array_equal(order_statistics(fleet, "numbers", ranks), np.sort(values)[ranks])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named(value, tmp_path):
    values = np.zeros(40, np.float32)
    values[23] = value
    fleet = local(make_pool(tmp_path / "pool", np.ones((40, 2))), 3)
    fleet.each(put, values)
    with pytest.raises(UserError, match=f"item 23: its numbers is {value}"):
        order_statistics(fleet, "numbers", [0])


def test_a_rank_beyond_the_values_is_a_mistake(tmp_path):
    fleet = local(make_pool(tmp_path / "pool", np.ones((4, 2))), 2)
    fleet.each(put, np.zeros(4, np.float32))
    for rank in (-1, 4):
        with pytest.raises(IndexError):
            order_statistics(fleet, "numbers", [0, rank])


@pytest.mark.parametrize(
    ("low", "high", "n", "wanted"),
    [
        (0.0, 1.0, 10, (0, 9)),
        (0.0, 0.95, 100, (0, 94)),
        (0.07, 0.93, 100, (7, 92)),  # 0.07 * 100 is above 7 in floating point
        (0.29, 0.58, 100, (29, 57)),  # and 0.29 * 100 and 0.58 * 100 are below
        (0.05, 0.95, 10, (0, 9)),
        (0.5, 0.51, 1, (0, 0)),
        (0.0, 1e-9, 3, (0, 0)),
    ],
)
def test_ranks_are_counted_in_decimals(low, high, n, wanted):
    assert ranks_within(low, high, n) == wanted


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 10**9))
def test_some_rank_is_always_left(a, b, n):
    low, high = min(a, b), max(a, b)
    if low < high:
        first, last = ranks_within(low, high, n)
        assert 0 <= first <= last < n
