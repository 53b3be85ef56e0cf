"""Random numbers never change. They are uniform, and independent of order, batches and each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from raysal.rng import derive, generator, item_gumbel, item_order, item_uniform

IDS = np.arange(20_000, dtype=np.int64)


def test_numbers_never_change_between_versions() -> None:
    """If these numbers change, the same config picks other items, and the release notes must say so."""
    assert [derive(0), derive(0, 1, "select"), derive(7, "a", "bc"), derive(2**63, "ä")] == [
        8493733112532773764,
        12703722392804678522,
        13571281217821991050,
        14224307075349613386,
    ]
    assert item_uniform(derive(0, 1, "select"), np.array([0, 1, 2, 2**40 + 1, 2**63 - 1])).tolist() == [
        0.05778404736092713,
        0.6170290990238297,
        0.5225588606491257,
        0.3234307440402847,
        0.19734342280901218,
    ]
    assert generator(derive(3)).random(2).tolist() == [0.9403546151167287, 0.46260127296588827]


part = st.integers(-3, 3) | st.text("ab\x1e\x1f0", max_size=4)


@given(st.lists(part, max_size=4), st.lists(part, max_size=4))
def test_other_paths_have_other_keys(one: list[str | int], other: list[str | int]) -> None:
    same = [str(part) for part in one] == [str(part) for part in other]
    assert (derive(0, *one) == derive(0, *other)) == same


def test_parts_are_not_run_together() -> None:
    keys = {
        derive(0, "a", "bc"), derive(0, "ab", "c"), derive(0, "abc"), derive(0, "a\x1fbc"), derive(0, "abc", ""),
        derive(1, "abc"), derive(0, 1, 23), derive(0, 12, 3), derive(0, 123), derive(12, 3),
    }  # fmt: skip
    assert len(keys) == 10
    assert all(0 <= key < 2**64 for key in keys)
    assert derive(0, "\udcff") != derive(0, "?")  # a class named after a file that is not UTF-8


@pytest.mark.parametrize("ids", [IDS, IDS + 2**40, IDS * 65536 + 2**50, IDS + (2**63 - 20_000)])
def test_items_are_uniform(ids: NDArray[np.int64]) -> None:
    """Kolmogorov-Smirnov is below its 0.1 % point; chi-square of the pairs (u_i, u_i+1) is within 4 deviations."""
    u = item_uniform(derive(1, "test"), ids)
    n = len(u)
    steps = np.arange(1, n + 1) / n
    gap = max(np.abs(np.sort(u) - steps).max(), np.abs(np.sort(u) - steps + 1 / n).max())
    assert gap * math.sqrt(n) < 1.95
    cells = np.histogram2d(u[:-1], u[1:], bins=10, range=[[0, 1], [0, 1]])[0]
    chi_square = ((cells - (n - 1) / 100) ** 2 / ((n - 1) / 100)).sum()
    assert abs(chi_square - 99) < 4 * math.sqrt(2 * 99)
    assert len(np.unique(u)) == n


def test_keys_give_unrelated_numbers() -> None:
    rounds = np.array([item_uniform(derive(0, round, "select"), IDS[:4000]) for round in range(20)])
    related = np.corrcoef(rounds) - np.eye(20)
    assert np.abs(related).max() < 5 / math.sqrt(4000)
    adjacent = np.array([item_uniform(key, IDS[:4000]) for key in range(20)])
    assert np.abs(np.corrcoef(adjacent) - np.eye(20)).max() < 5 / math.sqrt(4000)


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=30), st.integers(0, 2**64 - 1), st.randoms())
def test_a_number_depends_on_its_id_only(ids: list[int], key: int, random: object) -> None:
    together = item_uniform(key, np.array(ids, np.int64))
    alone = [item_uniform(key, np.array([id], np.int64))[0] for id in ids]
    assert together.tolist() == alone
    assert item_uniform(key, np.array(ids[::-1], np.int64)).tolist() == alone[::-1]
    assert (together > 0).all()
    assert (together < 1).all()


def test_the_largest_gumbel_number_is_a_sample_in_proportion_to_the_weights() -> None:
    """Chi-square over 4,000 keys: an honest sampler exceeds the bound once in a million tries."""
    weights, ids = np.array([1.0, 2.0, 3.0, 4.0]), np.arange(4)
    winners = [int((np.log(weights) + item_gumbel(derive(key), ids)).argmax()) for key in range(4000)]
    expected = 4000 * weights / weights.sum()
    assert ((np.bincount(winners, minlength=4) - expected) ** 2 / expected).sum() < 30.7


M = 2**64


def _unmix(x: int) -> int:
    """The inverse of the mixing function. It finds the ids that give the smallest and the largest number."""
    x = x ^ (x >> 31) ^ (x >> 62)
    x = x * pow(0x94D049BB133111EB, -1, M) % M
    x = x ^ (x >> 27) ^ (x >> 54)
    x = x * pow(0xBF58476D1CE4E5B9, -1, M) % M
    return x ^ (x >> 30) ^ (x >> 60)


@pytest.mark.parametrize(("bits", "expected"), [(0, 2.0**-53), (M - 1, 1 - 2.0**-53)])
def test_the_extremes_are_neither_0_nor_1(bits: int, expected: float) -> None:
    """With one more bit, one item in 2^53 would get the number 1.0, and the budget -log 1 = 0."""
    for key in range(100):
        id = (_unmix(_unmix(bits) ^ key) - key) * pow(0x9E3779B97F4A7C15, -1, M) % M
        if id < 2**63:
            break
    u = item_uniform(key, np.array([id], np.int64))
    assert u[0] == expected
    assert 0 < -np.log(u[0]) < np.inf
    assert np.isfinite(item_gumbel(key, np.array([id], np.int64))).all()


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**62))
def test_the_order_of_ties_has_no_ties(key: int, start: int) -> None:
    ids = np.arange(start, start + 500)
    order = item_order(key, ids)
    assert order.dtype == np.int64
    assert len(np.unique(order)) == 500
    assert np.array_equal(order[::-1], item_order(key, ids[::-1])), "an item's number is its own"
    assert item_order(None, ids).tolist() == ids.tolist()


def test_the_order_of_ties_favours_no_item() -> None:
    """Of 40 items, each is first among 4,000 keys within 5 deviations of 100 times."""
    first = [int(item_order(derive(7, key), IDS[:40]).argmin()) for key in range(4_000)]
    assert np.abs(np.bincount(first, minlength=40) - 100).max() < 5 * math.sqrt(4_000 / 40)
    assert item_order(derive(0), np.arange(3)).tolist() == [
        -9033163055571219896,
        -3660050467562735430,
        8966975528015379237,
    ]
