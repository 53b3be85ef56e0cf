"""The Ray fleet: the same results as in this process, whatever is killed, hangs or raises."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import fleet_calls as calls
import pytest
import ray
from pools import make_pool, mixture
from programs import labelled_of, local, random_head, run_program, small
from tiers import deep, deep_unless

from raysal.errors import Damaged, FleetError, PoolExhausted
from raysal.fleet import LocalFleet, plan_partitions
from raysal.fleet.base import Fleet
from raysal.pool import Pool
from raysal.strategies import SELECTORS
from raysal.strategies.engine import lazy_greedy as lazy

pytestmark = pytest.mark.usefixtures("ray_session")
ray.cloudpickle.register_pickle_by_value(calls)  # the actors' processes do not have this folder on their path


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """A pool of 200 vectors in three chunks."""
    x, _ = mixture(200, 10)
    return make_pool(tmp_path_factory.mktemp("ray") / "pool", x, chunk_rows=70)


@pytest.fixture(scope="module")
def shared(pool: Pool, ray_session: None) -> Iterator[Fleet]:
    """One fleet for the tests of this file, as its start takes seconds."""
    from raysal.fleet.ray_fleet import RayFleet

    with RayFleet(plan_partitions(pool, 2)) as fleet:
        yield fleet


@pytest.fixture
def fleet(shared: Fleet) -> Fleet:
    """The shared fleet, at the beginning of a program."""
    shared.reset()
    return shared


class Killing:
    """A fleet that loses a process by kill -9 before some of the calls."""

    def __init__(self, fleet: Fleet, before: set[int]) -> None:
        self.fleet, self.before, self.made, self.killed = fleet, before, 0, 0
        self.size = fleet.size
        self.victims = fleet.each(calls.process)

    def reset(self) -> None:
        """Begin a new program."""
        self.fleet.reset()

    def each(self, fn, *args):
        """Kill a process if it is time, then make the call."""
        if self.made in self.before:
            os.kill(self.victims[self.killed % len(self.victims)], signal.SIGKILL)
            self.killed += 1
        self.made += 1
        return self.fleet.each(fn, *args)


@deep
@pytest.mark.parametrize("selector", ["badge", "bait"])
def test_processes_killed_between_calls_change_no_pick(selector, pool, fleet, monkeypatch):
    """One is killed before the sweep, one before a call that needs what the strategy keeps in the partition."""
    for name in ("ROWS_AT_FIRST", "FEWEST_ROWS", "MOST_ROWS"):  # few rows a round trip, for more of them
        monkeypatch.setattr(lazy, name, 4)
    x, names = mixture(200, 10)
    inputs = {"head": random_head(10), "labelled": labelled_of(x, names, range(0, 40, 3)), "k": 12}
    expected = run_program(local(pool), SELECTORS[selector](), small("anchoral"), **inputs)
    killing = Killing(fleet, before={1, 7})
    outcome = run_program(killing, SELECTORS[selector](), small("anchoral"), **inputs)
    assert killing.killed == 2
    assert outcome.same_as(expected)


@deep
def test_a_process_killed_inside_a_call_starts_over_from_the_first(fleet, tmp_path):
    """The running total shows that each call was made once."""
    assert fleet.each(calls.count, 1) == [1, 1]
    assert fleet.each(calls.die_once, str(tmp_path), 2) == [12, 12]
    assert fleet.each(calls.die_once, str(tmp_path), 3) == [123, 123]
    assert fleet.each(calls.count, 4) == [1234, 1234]


@deep
def test_a_call_that_kills_its_process_each_time_is_given_up_by_name(fleet, monkeypatch):
    """The next program finds new processes."""
    from raysal.fleet import recovery

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "ATTEMPTS", 2)
        with pytest.raises(FleetError, match=r"partition 1: its process keeps dying .*given up after 2 attempts"):
            fleet.each(calls.die)
    fleet.reset()
    assert fleet.each(calls.count, 1) == [1, 1]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("IOError: The actor is restarting.", True),
        ("RpcError: RPC error: failed to connect to all addresses; last error: UNKNOWN: connection refused", True),
        ("RpcError: RPC error: recvmsg:Connection reset by peer rpc_code: 14.", False),
    ],
)
def test_a_message_that_reached_no_process_is_told_from_one_that_was_lost_with_it(said, expected):
    """These are the words of Ray 2.60: after and before it notices a death, and when a call was lost."""
    from raysal.fleet.ray_fleet import reached_no_process

    error = ray.exceptions.ActorUnavailableError(f"The actor is temporarily unavailable: {said}", None)
    assert reached_no_process(error) is expected


@deep
def test_a_call_that_hangs_is_made_again_elsewhere(pool, tmp_path):
    """The limit may be too short for a busy machine: after a kill, the next process has time enough to start.

    That only the process that hangs is killed is in the tables of test_recovery.py.
    """
    from raysal.fleet.ray_fleet import RayFleet

    with RayFleet(plan_partitions(pool, 2), call_timeout=1.0) as fleet:
        before = fleet.each(calls.process)
        fleet.each(calls.count, 1)
        assert fleet.each(calls.hang_once, str(tmp_path), 2) == [12, 12]
        assert fleet.each(calls.count, 3) == [123, 123]
        assert fleet.each(calls.process)[1] != before[1]


@deep
def test_a_long_replay_is_not_taken_for_a_hang(pool):
    """Three calls of 0.4 s keep a limit of 1 s a call, also when one message makes all of them again."""
    from raysal.fleet.ray_fleet import RayFleet

    with RayFleet(plan_partitions(pool, 1), call_timeout=1.0) as fleet:
        for _ in range(3):
            fleet.each(calls.hand_on, 0.4)
        for victim in fleet.each(calls.process):
            with contextlib.suppress(ProcessLookupError):  # ended already, where the machine is too busy for the limit
                os.kill(victim, signal.SIGKILL)
        assert fleet.each(calls.count, 2) == [1112]


@deep
def test_our_errors_arrive_as_they_are(fleet):
    """They keep their class and their fields."""
    with pytest.raises(PoolExhausted) as caught:
        fleet.each(calls.exhausted)
    assert (caught.value.wanted, caught.value.available) == (1, 0)
    fleet.reset()
    with pytest.raises(Damaged, match="file: is broken; mend it"):
        fleet.each(calls.damaged)


def test_any_other_exception_names_the_partition(fleet):
    """It also says what was raised; Ray colours that, and a message has no codes for a terminal."""
    with pytest.raises(FleetError, match=r"(?s)partition 1: .*ZeroDivisionError") as caught:
        fleet.each(calls.broken)
    assert caught.value.problem.startswith("ray::PartitionActor.apply()")
    assert "\x1b" not in str(caught.value)


def test_after_an_error_a_new_program_works(fleet):
    """It begins without state."""
    with pytest.raises(FleetError):
        fleet.each(calls.broken)
    fleet.reset()
    assert fleet.each(calls.count, 5) == [5, 5]


@deep
def test_a_fleet_over_damaged_files_says_which(tmp_path):
    """It says so when it starts, in actors and in this process."""
    x, _ = mixture(20, 3)
    pool = make_pool(tmp_path / "pool", x)
    specs = plan_partitions(pool, 2)
    path = next(Path(pool.path).glob("vectors/*.arrow"))
    path.write_bytes(path.read_bytes()[:50])
    from raysal.fleet.ray_fleet import RayFleet

    with pytest.raises(Damaged, match=path.name):
        RayFleet(specs)
    with pytest.raises(Damaged, match=path.name):
        LocalFleet(specs)


def test_actors_that_find_no_room_say_what_they_need_and_what_there_is(pool, monkeypatch):
    """Ray itself would wait for ever."""
    from raysal.fleet import ray_fleet

    monkeypatch.setattr(ray_fleet, "CREATION_TIMEOUT", 1.0)
    with pytest.raises(FleetError, match=r"1 partitions need 500 CPUs in all, free now: [\d.]+ CPUs; use fewer"):
        ray_fleet.RayFleet(plan_partitions(pool, 1, threads=500))


def test_partitions_answer_in_order(fleet):
    """Each says its number."""
    assert fleet.size == 2
    assert fleet.each(calls.index) == [0, 1]


@pytest.mark.parametrize("threads", deep_unless([2], [1, 2]))
def test_products_use_the_threads_asked_for(pool, threads):
    """Ray would give each process one."""
    from raysal.fleet.ray_fleet import RayFleet

    with RayFleet(plan_partitions(pool, 1, threads=threads)) as fleet:
        assert fleet.each(calls.threads) == [threads]


def test_programs_do_not_see_each_other(fleet):
    """After `reset` the running total begins anew."""
    fleet.each(calls.count, 1)
    fleet.reset()
    assert fleet.each(calls.count, 2) == [2, 2]
