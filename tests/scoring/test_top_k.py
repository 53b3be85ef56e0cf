"""Keeping the best of a stream is a sort of the whole, however it is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysal.rng import item_order, item_uniform
from raysal.scoring import top_k
from raysal.scoring.top_k import RunningBest, best_of, best_of_parts, lowest_hashes, smallest, true_positions

FEW = [-np.inf, -1.0, -0.5, 0.0, 0.25, 0.5]
"""So few values that nearly everything ties."""


KEYS = st.sampled_from([None, 0, 1, 2**64 - 1])


def sorted_best(values: np.ndarray, ids: np.ndarray, m: int, ties: int | None) -> list[tuple[float, int]]:
    rows = zip(values.tolist(), item_order(ties, ids).tolist(), ids.tolist(), strict=True)
    ordered = sorted((-value, tie, id) for value, tie, id in rows if value > -np.inf)
    return [(-value, id) for value, _, id in ordered[:m]]


@st.composite
def streams(draw):
    lanes, n = draw(st.integers(0, 3)), draw(st.integers(0, 60))
    values = draw(st.lists(st.sampled_from(FEW), min_size=lanes * n, max_size=lanes * n))
    cuts = sorted(draw(st.lists(st.integers(0, n), max_size=6)))
    return np.array(values, np.float32).reshape(n, lanes), cuts, draw(st.integers(0, 12))


@given(stream=streams(), ties=KEYS)
def test_best_is_a_sort_of_the_whole(stream, ties):
    values, cuts, m = stream
    ids = np.arange(len(values)) * 3 + 2**41
    best = RunningBest(values.shape[1], m, torch.device("cpu"), ties=ties)
    for low, high in zip([0, *cuts], [*cuts, len(values)], strict=True):
        best.add(torch.from_numpy(values[low:high].copy()), ids[low:high])
    found = best.result()
    assert len(found) == values.shape[1]
    for lane, (kept_ids, kept) in enumerate(found):
        assert list(zip(kept.tolist(), kept_ids.tolist(), strict=True)) == sorted_best(values[:, lane], ids, m, ties)


@given(
    values=st.lists(st.sampled_from(FEW[1:]), max_size=80),
    cut=st.integers(0, 80),
    m=st.integers(0, 20),
    turned=st.booleans(),
    ties=KEYS,
)
def test_merging_parts_in_any_order_is_taking_all_at_once(values, cut, m, turned, ties):
    numbers, ids = np.array(values, np.float32), np.arange(len(values))
    parts = [best_of(ids[:cut], numbers[:cut], m, ties=ties), best_of(ids[cut:], numbers[cut:], m, ties=ties)]
    parts = parts[::-1] if turned else parts
    merged = best_of_parts(parts, m, ties=ties)
    whole = best_of(ids, numbers, m, ties=ties)
    assert [(float(v), int(i)) for i, v in zip(*whole, strict=True)] == sorted_best(numbers, ids, m, ties)
    assert np.array_equal(merged[0], whole[0])
    assert np.array_equal(merged[1], whole[1])


@given(n=st.integers(0, 60), cuts=st.lists(st.integers(0, 60), max_size=3), m=st.integers(0, 70), key=st.integers(0, 9))
def test_the_lowest_hashes_of_parts_are_those_of_the_whole(n, cuts, m, key):
    ids = np.arange(n) * 5 + 2**41
    parts = [lowest_hashes(part, key, m) for part in np.split(ids, sorted(cut for cut in cuts if cut <= n))]
    found, values = best_of_parts(parts[::-1], m, ties=key)
    hashes = item_uniform(key, ids)
    assert found.tolist() == ids[np.argsort(hashes)][:m].tolist()
    assert values.tolist() == (1 - np.sort(hashes)[:m]).tolist()


@given(st.lists(st.booleans(), max_size=70))
def test_true_positions_are_those_of_nonzero(mask):
    assert true_positions(torch.tensor(mask, dtype=torch.bool)).tolist() == np.flatnonzero(mask).tolist()


@pytest.mark.parametrize("m", [0, 1, 7, 60, 500])
def test_the_lowest_hashes_do_not_depend_on_how_many_are_hashed_at_once(m, monkeypatch):
    monkeypatch.setattr(top_k, "HASHED_IDS", 50)
    ids = np.random.default_rng(0).permutation(1000)
    among = np.random.default_rng(1).random(1000) < 0.4
    ids_found, values = lowest_hashes(ids, 5, m, among)
    slow, slow_values = best_of(ids[among], 1 - item_uniform(5, ids[among]), m, ties=5)
    assert ids_found.tolist() == slow.tolist()
    assert values.tolist() == slow_values.tolist()


@pytest.mark.parametrize(("n", "count"), [(16, 3), (64, 16), (640, 20), (1600, 1)])
def test_the_smallest_numbers_of_rows(n, count):
    values = torch.from_numpy(
        np.random.default_rng(n).permuted(np.tile(np.arange(n, dtype=np.float32), (9, 1)), axis=1)
    )
    values[3, values[3] > count] = torch.inf
    places, lowest = smallest(values, count)
    assert torch.equal(lowest, torch.arange(count, dtype=torch.float32).expand(9, -1))
    assert torch.equal(values.gather(1, places), lowest)
