"""Work that is shared out among threads: the same in any number of them, never shared out twice, never lost."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from pools import make_pool, mixture
from programs import local

from raysal.numerics import BLOCK_ROWS
from raysal.strategies.engine import guesses, sharing
from raysal.strategies.engine.feature_maps import UnitVectors, factors_of
from raysal.strategies.engine.lazy_greedy import lazy_greedy
from raysal.strategies.engine.nearest_centres import nearest_centres
from raysal.strategies.engine.priorities import D2Race, FarthestPoint
from raysal.strategies.engine.sharing import Rooms, in_runs, shared, threads_free
from raysal.strategies.engine.sharing import sharing as within

CPU = torch.device("cpu")
N, DIM = 9000, 16


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_work_is_shared_out_once_and_threads_come_back(three_threads):
    seen = []

    def inner(thing):
        assert torch.get_num_threads() == 1
        return threads_free(), threading.get_ident(), thing

    def outer(thing):
        seen.append(thing)
        return shared(inner, [thing, -thing])

    with within(10**9, CPU):
        assert threads_free() == 3
        found = shared(outer, list(range(20)))
        assert threads_free() == 3
    assert threads_free() == 1
    assert torch.get_num_threads() == 3
    assert sorted(seen) == list(range(20))
    assert [[inner[2] for inner in pair] for pair in found] == [[thing, -thing] for thing in range(20)]
    assert all(free == 1 for pair in found for free, _, _ in pair), "a thread that waits for its own kind waits forever"
    assert all(len({ident for _, ident, _ in pair}) == 1 for pair in found)


@pytest.mark.parametrize(("numbers", "device"), [(10, CPU), (10**9, torch.device("cuda"))])
def test_few_numbers_and_other_devices_are_left_to_one_thread(numbers, device, three_threads):
    with within(numbers, device):
        assert (threads_free(), torch.get_num_threads()) == (1, 1)
    assert torch.get_num_threads() == 3


def test_an_error_in_a_thread_is_raised_and_threads_come_back(three_threads):
    def fail(thing):
        if thing == 7:
            raise ValueError("seven")

    with within(10**9, CPU):
        with pytest.raises(ValueError, match="seven"):
            shared(fail, list(range(9)))
        assert threads_free() == 3
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("most", [None, 2 * BLOCK_ROWS])
@pytest.mark.parametrize("rows", [0, 1, BLOCK_ROWS, 20 * BLOCK_ROWS + 5])
def test_runs_cover_the_rows_once_in_whole_blocks(rows, most, three_threads):
    for numbers in (1, 10**9):
        runs = []
        with within(numbers, CPU):
            in_runs(runs.append, rows, most)
        assert sorted(row for run in runs for row in range(run.start, run.stop)) == list(range(rows))
        assert all(run.start % BLOCK_ROWS == 0 for run in runs)
        assert most is None or all(run.stop - run.start <= most for run in runs)


def test_each_thread_has_a_room_of_its_own(three_threads):
    rooms, barrier = Rooms(), threading.Barrier(3)

    def fill(thing):
        barrier.wait(timeout=30)
        room = rooms.room("one", 50, 4).fill_(thing)
        barrier.wait(timeout=30)
        return room.unique().tolist(), room.data_ptr() == rooms.room("one", 10, 20).data_ptr()

    with within(10**9, CPU):
        assert shared(fill, [1, 2, 3]) == [([1.0], True), ([2.0], True), ([3.0], True)]


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("guess", [True, False])
@pytest.mark.parametrize("rule", [FarthestPoint(), D2Race(key=5)])
def test_picks_and_nearest_centres_are_the_same_in_any_number_of_threads(
    rule, guess, kept, tmp_path, monkeypatch, three_threads
):
    from raysal.strategies.engine import partition_state

    monkeypatch.setattr(sharing, "FEW_NUMBERS", 0)
    monkeypatch.setattr(guesses, "WORTHWHILE", 0 if guess else 10**12)
    monkeypatch.setattr(guesses, "FEWEST_WIDTH", 0)
    monkeypatch.setattr(guesses, "integers_pay", lambda: True)
    if not kept:
        monkeypatch.setattr(partition_state, "KEPT_BYTES", 0)
    pool = make_pool(tmp_path / "pool", mixture(N, DIM, seed=2)[0], chunk_rows=2500)
    told = []
    for threads in (3, 1):
        torch.set_num_threads(threads)
        with local(pool) as fleet:
            centres = factors_of(UnitVectors(), np.empty((0, DIM), np.float32))
            found = lazy_greedy(fleet, rule, UnitVectors(), 300, centres=centres, opening="lowest", key=3)
            (near,) = fleet.each(nearest_centres, found.unsent) if isinstance(rule, FarthestPoint) else [None]
        told.append((found.ids, found.sq_distances, found.pairs, found.pairs_guessed))
        told[-1] += () if near is None else (near.centre.tolist(), near.sq_distance.tolist())
    assert told[0] == told[1]
