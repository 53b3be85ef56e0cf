"""A service that several sessions share: each one picks what it would pick on a fleet of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import fleet_calls as calls
import numpy as np
import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st
from pools import make_pool, mixture
from programs import Outcome, labelled_of, local, random_head, run_program, small
from tiers import deep

import raysal
from raysal.config import FleetConfig
from raysal.errors import ConfigError, FingerprintMismatch, FleetError
from raysal.fleet import Fleet, Partition, exclude, open_fleet, plan_partitions, ray_fleet, service
from raysal.fleet.replay import Behind, Call, Done, Host, Stale
from raysal.fleet.service import attach, serve, stop
from raysal.pool import Pool
from raysal.strategies import SELECTORS

pytestmark = pytest.mark.usefixtures("ray_session")
ray.cloudpickle.register_pickle_by_value(calls)
N, DIM = 200, 10


def left(partition: Partition) -> int:
    """Return how many rows are not excluded."""
    return int(partition.available.sum())


ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """A pool of 200 vectors in three chunks."""
    return make_pool(tmp_path_factory.mktemp("service") / "pool", mixture(N, DIM)[0], chunk_rows=70)


@pytest.fixture(scope="module")
def shared(pool: Pool, ray_session: None) -> Iterator[str]:
    """A service of 2 partitions that keeps 2 sessions."""
    assert serve(plan_partitions(pool, 2), "shared", most=2)
    yield "shared"
    stop("shared")


ROUNDS: list[dict[str, Any]] = [
    {"selector": "badge", "labels": range(0, 40, 3), "excluded": range(100, 130), "key": 1},
    {"selector": "coreset", "labels": range(1, 60, 4), "excluded": range(60), "key": 2},
    {"selector": "falcun", "labels": range(2, 30, 2), "excluded": [], "key": 3},
]
"""What each session does in every round of its own."""


def play(fleet: Fleet, session: int, round: int) -> Outcome:
    """Run one round of a session, with labels and exclusions of its own."""
    x, names = mixture(N, DIM)
    todo = ROUNDS[session]
    return run_program(
        fleet,
        SELECTORS[todo["selector"]](),
        small("anchoral"),
        head=random_head(DIM, seed=round),
        labelled=labelled_of(x, names, todo["labels"]),
        excluded=[*todo["excluded"], *range(130 + 5 * round, 135 + 5 * round)],
        k=8,
        key=todo["key"] + 10 * round,
    )


class Interleaved:
    """A fleet that lets something happen before each of its calls."""

    def __init__(self, fleet: Fleet, before: Any) -> None:
        self.fleet, self.size, self.before = fleet, fleet.size, before

    def reset(self) -> None:
        """Begin a new program."""
        self.fleet.reset()

    def each(self, fn, *args):
        """Let something happen, then make the call."""
        self.before()
        return self.fleet.each(fn, *args)


@deep
def test_sessions_whose_calls_alternate_pick_what_each_would_alone(pool, shared):
    """Two sessions in two threads hand each other the turn before every call."""
    turns = [threading.Semaphore(1), threading.Semaphore(0)]
    outcomes: dict[tuple[int, int], Outcome] = {}

    def live(session: int) -> None:
        def swap() -> None:
            turns[1 - session].release()
            turns[session].acquire(timeout=300)

        with attach(shared, pool) as fleet:
            turns[session].acquire(timeout=300)
            for round in range(2):
                outcomes[session, round] = play(Interleaved(fleet, swap), session, round)
            for _ in range(100):  # nobody waits for one who has finished
                turns[1 - session].release()

    threads = [threading.Thread(target=live, args=(session,)) for session in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4
    for (session, round), outcome in outcomes.items():
        assert outcome.same_as(play(local(pool, 2), session, round))


def test_exclusions_are_of_one_session_and_one_round(pool, shared):
    """Rows are counted in two sessions, before and after a `reset`."""
    with attach(shared, pool) as one, attach(shared, pool) as other:
        assert sum(one.each(exclude, np.arange(30))) == N - 30
        assert sum(other.each(exclude, np.arange(5))) == N - 5
        assert sum(one.each(left)) == N - 30
        one.reset()
        assert sum(one.each(left)) == N
        assert sum(other.each(left)) == N - 5


@deep
def test_a_killed_process_of_a_service_changes_no_pick(pool, shared):
    """Neither a pick of the session that notices it, nor of another session."""
    before = process_of(shared, pool)
    made = 0

    def kill() -> None:
        nonlocal made
        made += 1
        if made in (2, 6):
            os.kill(process_of(shared, pool)[made % 2], signal.SIGKILL)

    with attach(shared, pool) as fleet, attach(shared, pool) as bystander:
        bystander.each(calls.count, 1)
        outcome = play(Interleaved(fleet, kill), 0, 0)
        assert bystander.each(calls.count, 2) == [12, 12]
    assert made > 6
    assert outcome.same_as(play(local(pool), 0, 0))
    assert process_of(shared, pool) != before


def process_of(name: str, pool: Pool) -> list[int]:
    """Return the numbers of the processes of a service."""
    with attach(name, pool) as fleet:
        return fleet.each(calls.process)


def test_a_session_that_was_dropped_for_others_changes_no_pick(pool, shared):
    """Two others make a call before each call of this one, and a partition keeps only two sessions."""
    others = [attach(shared, pool) for _ in range(2)]

    def crowd() -> None:
        for other in others:
            other.each(calls.count, 1)

    with attach(shared, pool) as fleet:
        outcome = play(Interleaved(fleet, crowd), 1, 0)
    assert outcome.same_as(play(local(pool), 1, 0))
    total = others[0].each(calls.count, 2)
    assert set(str(total[0])) == {"1", "2"}
    assert len(str(total[0])) > 3, "the calls of the others, too, were each made once"
    for other in others:
        other.close()


def test_a_call_of_an_older_program_is_refused(pool, shared):
    """It would run on the exclusions of a newer one."""
    with attach(shared, pool) as fleet, attach(shared, pool) as late:
        late._session = fleet._session  # a driver of the same session that missed the new round
        late.each(exclude, np.arange(30))
        fleet.reset()
        fleet.each(exclude, np.arange(10))
        with pytest.raises(
            FleetError, match=r"partition 0: its session has begun program 1, this call is of program 0"
        ):
            late.each(left)
        assert sum(fleet.each(left)) == N - 10


def test_a_closed_session_is_forgotten_and_the_service_goes_on(pool, shared):
    """Its partition is behind, like that of a new session."""
    fleet = attach(shared, pool)
    fleet.each(calls.count, 7)
    processes = fleet.each(calls.process)
    message = fleet._program, 1, [(calls.count, (1,))], fleet._session
    actor = fleet._actors[0]
    fleet.close()
    assert ray.get(actor.apply.remote(*message)) == Behind(0)
    assert process_of(shared, pool) == processes


def test_a_call_that_waits_for_another_session_is_not_taken_for_a_hang(pool, shared):
    """Twelve sessions in a queue, each with a call that takes an eighth of the limit.

    A limit that is too short for a busy machine proves nothing: then the next one is tried.
    """
    for limit in (1.0, 4.0, 16.0, 64.0):
        before = process_of(shared, pool)
        fleets = [attach(shared, pool, call_timeout=limit) for _ in range(12)]
        results: list[Any] = []

        def live(fleet: Fleet, delay: float = limit / 8, results: list[Any] = results) -> None:
            results.append(fleet.each(calls.hand_on, delay))

        threads = [threading.Thread(target=live, args=(fleet,)) for fleet in fleets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [[1, 1]] * 12
        for fleet in fleets:
            fleet.close()
        if (after := process_of(shared, pool)) == before:
            break
    assert after == before


@deep
def test_a_service_that_does_nothing_for_a_moment_or_starts_again_is_not_taken_to_hang(pool, shared, monkeypatch):
    """Its actor is asked while it is idle, and after a kill."""
    monkeypatch.setattr(ray_fleet, "REACH_TIMEOUT", 300.0)
    with attach(shared, pool) as fleet:
        victim = fleet.each(calls.process)[0]
        assert fleet._ask_quiet(0) < fleet._timeout
        os.kill(victim, signal.SIGKILL)
        assert fleet._ask_quiet(0) < fleet._timeout


@deep
def test_a_call_that_hangs_is_ended_by_whoever_waits_for_it(pool, shared, tmp_path):
    """The limit may be too short for a busy machine: after a kill, the next process has time enough to start.

    That only the process that hangs is killed is in the tables of test_recovery.py.
    """
    before = process_of(shared, pool)
    with attach(shared, pool, call_timeout=1.0) as fleet, attach(shared, pool) as bystander:
        bystander.each(calls.count, 5)
        fleet.each(calls.count, 1)
        assert fleet.each(calls.hang_once, str(tmp_path), 2) == [12, 12]
        assert bystander.each(calls.count, 6) == [56, 56]
    assert process_of(shared, pool)[1] != before[1]


def test_what_is_open_by_name(pool, shared, tmp_path):
    """Fleets and searches use a service by name; errors say what is wrong with a name."""
    config = FleetConfig(backend="ray", service=shared)
    with open_fleet(pool, config) as fleet:
        assert fleet.size == 2
    found = raysal.search(pool, key="item-000003", k=20, service=shared)
    assert found.equals(raysal.search(pool, key="item-000003", k=20))
    with pytest.raises(ConfigError, match=r"fleet\.service: a service is on Ray, the backend is local"):
        open_fleet(pool, FleetConfig(backend="local", service=shared))
    with pytest.raises(ConfigError, match=r"no service 'nonesuch' on this cluster \(running: shared\); start it with"):
        open_fleet(pool, FleetConfig(backend="ray", service="nonesuch"))
    with pytest.raises(ConfigError, match="no service 'share'"):
        stop("share")
    other = make_pool(tmp_path / "other", mixture(30, 4)[0])
    with pytest.raises(FingerprintMismatch, match=r"service 'shared': its pool's fingerprint is .*over this pool"):
        open_fleet(other, config)


def test_starting_a_service_again(pool, shared, tmp_path):
    """With the same partitions nothing happens; with others it is refused."""
    before = process_of(shared, pool)
    assert not serve(plan_partitions(pool, 2), shared)
    with pytest.raises(ConfigError, match=r"'shared' runs already, over .*pool in 2 partitions of 1 threads on cpu"):
        serve(plan_partitions(pool, 3), shared)
    other = make_pool(tmp_path / "other", mixture(30, 4)[0])
    with pytest.raises(ConfigError, match=r"'shared' runs already"):
        serve(plan_partitions(other, 2), shared)
    for name in ("", "a b", "-x", "a/b"):
        with pytest.raises(ConfigError, match="is not a name"):
            serve(plan_partitions(pool, 1), name)
    assert process_of(shared, pool) == before


@deep
def test_part_of_a_service_that_is_gone_is_missed_and_can_be_started_again(pool):
    """A session needs all of it."""
    specs = plan_partitions(pool, 2)
    assert serve(specs, "half")
    try:
        ray_fleet.end([service.partitions_of("half")[1]])
        while 1 in service.partitions_of("half"):
            pass
        with pytest.raises(FleetError, match=r"partition 1: is missing from the service 'half'; run its"):
            attach("half", pool)
        assert serve(specs, "half")
        assert len(process_of("half", pool)) == 2
    finally:
        assert stop("half") == 2
    with pytest.raises(ConfigError, match="no service 'half'"):
        attach("half", pool)


def test_a_service_that_finds_no_room_leaves_nothing(pool, monkeypatch):
    """Its name is free again."""
    monkeypatch.setattr(ray_fleet, "CREATION_TIMEOUT", 1.0)
    with pytest.raises(FleetError, match="1 partitions need 500 CPUs in all"):
        serve(plan_partitions(pool, 1, threads=500), "huge")
    with pytest.raises(ConfigError, match="no service 'huge'"):
        stop("huge")


def test_another_pool_in_the_place_of_a_services_own_is_refused(tmp_path):
    """A process that restarts opens what is at the path then."""
    pool = make_pool(tmp_path / "pool", mixture(30, 4)[0])
    specs = plan_partitions(pool, 1)
    Partition(specs[0])
    with pytest.raises(FingerprintMismatch, match="a service over it is to be stopped and started again"):
        Partition(replace(specs[0], fingerprint="0" * 64))


@deep
def test_it_outlives_the_process_that_started_it(pool):
    """That process ends at once. A partition that dies later is restarted."""
    program = (
        "import sys; from raysal.fleet.service import start_service; from raysal.config import FleetConfig;"
        "from raysal.pool import Pool;"
        "config = FleetConfig(service='left', partitions=1, threads=1, address=sys.argv[2]);"
        "print(start_service(Pool(sys.argv[1]), config)[0])"
    )
    address = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-c", program, str(pool.path), address], capture_output=True, text=True, check=False
    )
    assert done.stdout == "True\n", done.stderr
    try:
        (first,) = process_of("left", pool)
        os.kill(first, signal.SIGKILL)
        with attach("left", pool) as fleet:
            assert play(fleet, 0, 0).same_as(play(local(pool), 0, 0))
        assert process_of("left", pool) != [first]
    finally:
        stop("left")


def test_two_runs_on_one_service_get_the_batches_each_gets_alone(pool, shared, tmp_path):
    """They take turns, with different strategies, labels and seeds."""
    names = mixture(N, DIM)[1]
    wanted = [{"select": "badge", "seed": 1}, {"select": "coreset", "narrow": "uniform", "seed": 2}]

    def begin(where: str, fleet: dict[str, Any]) -> list[raysal.Session]:
        return [raysal.Session(tmp_path / where / str(i), pool, fleet=fleet, **kind) for i, kind in enumerate(wanted)]

    together = begin("together", {"backend": "ray", "service": shared})
    alone = begin("alone", {"backend": "local"})
    for _ in range(3):
        for one, other in zip(together, alone, strict=True):
            batch = one.query(7)
            assert batch.table.equals(other.query(7).table)
            labels = {key: names[int(key.removeprefix("item-"))] for key in batch.keys}
            one.tell(labels)
            other.tell(labels)
    for session in (*together, *alone):
        session.close()
    assert len(process_of(shared, pool)) == 2


# Without Ray: the host by itself.


@given(
    schedule=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["call", "reset", "restart", "stale"]))),
    most=st.integers(1, 3),
)
def test_every_schedule_of_sessions_ends_like_each_alone(schedule, most):
    """Simple drivers use a host that drops sessions, restarts, and gets messages of the past."""
    host = Host(calls.Tape, most)  # type: ignore[arg-type]
    programs: dict[str, int] = dict.fromkeys("abc", 0)
    logs: dict[str, list[Call]] = {name: [] for name in "abc"}
    for step, (name, what) in enumerate(schedule):
        if what == "restart":
            host = Host(calls.Tape, most)  # type: ignore[arg-type]
        elif what == "reset":
            programs[name] += 1
            logs[name] = []
        elif what == "stale" and programs[name]:
            in_force = host._places[name].program if name in host.sessions else -1
            answer = host.run(programs[name] - 1, 0, [(calls.record, ("old",))], name)
            assert isinstance(answer, Stale) == (programs[name] - 1 < in_force)
        elif what == "call":
            log = logs[name]
            log.append((calls.record, ((name, step),)))
            answer = host.run(programs[name], len(log) - 1, log[-1:], name)
            if isinstance(answer, Behind):
                answer = host.run(programs[name], answer.made, log[answer.made :], name)
            assert answer == Done(tuple(value for _, (value,) in log))
        assert len(host.sessions) <= most


def test_sessions_of_a_host_do_not_see_each_other_and_the_oldest_goes(pool):
    """A session that was dropped is behind, and is replayed."""
    data = Partition(plan_partitions(pool, 1)[0])
    host = Host(data.view, most=2)

    def total(session: str, first: int, *steps: int) -> Any:
        return host.run(0, first, [(calls.count, (step,)) for step in steps], session)

    assert total("a", 0, 1) == Done(1)
    assert total("b", 0, 2) == Done(2)
    assert total("a", 1, 3) == Done(13)
    assert total("c", 0, 4) == Done(4)
    assert host.sessions == ("a", "c")
    assert total("b", 1, 5) == Behind(0), "the least recently used was dropped"
    assert total("b", 0, 2, 5) == Done(25)
    assert host.run(3, 0, [(calls.count, (6,))], "b") == Done(6)
    assert host.run(2, 0, [(calls.count, (7,))], "b") == Stale(3)
    host.forget("b")
    assert host.sessions == ("c",)


def test_views_share_the_data_and_nothing_else(pool):
    """Norms, ids and what is held are one; masks and state are not."""
    data = Partition(plan_partitions(pool, 1)[0])
    one, other = data.view(), data.view()
    norms = one.sq_norms()
    assert other.sq_norms() is norms
    assert one.ids is other.ids
    one.held["index"] = "read"
    assert other.held["index"] == "read"
    exclude(one, np.arange(10))
    one.candidate[:] = False
    one.state["x"] = 1
    assert other.available.all()
    assert other.candidate.all()
    assert other.state == {}
    other.reset()
    assert not one.available[:10].any()
