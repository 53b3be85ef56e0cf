"""A ledger goes with its keys from pool to pool: no label is on another item, and no step is half done."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from older_runs import as_before_binding
from tiers import deep_unless
from warm import python

from raysal.errors import Damaged, FingerprintMismatch, LabelError, RunError
from raysal.labels import Ledger
from raysal.types import Label

KEYS = [f"dir/é {n}.png" for n in range(6)]
ITEM = st.sampled_from(KEYS)
WHO = st.sampled_from(["", "ann", "bob"])
POOL = st.permutations(KEYS).flatmap(lambda keys: st.integers(0, len(keys)).map(lambda n: ["new.png", *keys[:n]]))
"""The keys of a pool in order of id: known items in any order, some missing, and a new one that comes first."""


def ids_in(pool: list[str]) -> Any:
    """What a pool answers that is asked for keys."""
    return lambda keys: {key: pool.index(key) for key in keys if key in pool}


def by_key(ledger: Ledger) -> dict[str, Any]:
    """Everything a ledger says of items, without ids and numbers of events."""
    return {
        "answers": {(a.key, a.annotator): (a.label, a.weight) for a in ledger.answers()},
        "trains": {item.key: (item.label, item.weight, item.shares, item.round) for item in ledger.labels(votes=True)},
        "excluded": {key for key, id in ledger.known_ids().items() if id in set(ledger.excluded().tolist())},
        "waiting": {key for _, key in ledger.outstanding()},
    }


class MovingLedger(RuleBasedStateMachine):
    """Two ledgers are told the same by key. One stays in one pool; the other moves, and may be closed in between."""

    @initialize(folder=st.uuids(), old=st.booleans())
    def start(self, folder: Any, old: bool) -> None:
        self.path = Path(self.root) / f"{folder}.moving"  # type: ignore[attr-defined]
        for path in (self.path, self.path.with_suffix(".still")):
            path.unlink(missing_ok=True)
        if old:
            with as_before_binding():
                self.moving = Ledger(self.path)
        else:
            self.moving = Ledger(self.path)
            self.moving.bind("the first pool")
        self.still = Ledger(self.path.with_suffix(".still"))
        self.pool, self.pools = list(KEYS), 1
        self.points = [(self.moving.head_seq, self.still.head_seq)]

    def teardown(self) -> None:
        if hasattr(self, "still"):
            self.moving.close()
            self.still.close()

    def id_of(self, key: str) -> int | None:
        return self.pool.index(key) if key in self.pool else None

    def can_be_named(self, key: str) -> bool:
        """A pool that lacks an item cannot name it, unless the ledger knows it."""
        return key in self.pool or not self.moving.unknown([key])

    @rule(entries=st.lists(st.tuples(ITEM, st.sampled_from("xy"), WHO), max_size=4), by_id=st.booleans())
    def tell(self, entries: list[tuple[str, str, str]], by_id: bool) -> None:
        labels = [Label(key=key, label=text, annotator=who) for key, text, who in entries if self.can_be_named(key)]
        new = set(self.moving.unknown([label.key for label in labels]))
        told = self.moving.tell([(self.id_of(a.key) if by_id or a.key in new else None, a) for a in labels])
        assert told == self.still.tell([(KEYS.index(a.key), a) for a in labels])

    @rule(round=st.integers(0, 2), keys=st.lists(ITEM, unique=True, max_size=4))
    def lease(self, round: int, keys: list[str]) -> None:
        keys = [key for key in keys if key in self.pool]
        self.moving.lease(round, [self.pool.index(key) for key in keys], keys)
        self.still.lease(round, [KEYS.index(key) for key in keys], keys)

    @rule(key=ITEM, who=WHO)
    def skip(self, key: str, who: str) -> None:
        if self.can_be_named(key):
            assert self.moving.skip(self.id_of(key), key, who) == self.still.skip(KEYS.index(key), key, who)

    @rule(key=ITEM, who=WHO)
    def withdraw(self, key: str, who: str) -> None:
        assert self.moving.withdraw(key, who) == self.still.withdraw(key, who)

    @rule(pool=POOL, reopen=st.booleans())
    def move(self, pool: list[str], reopen: bool) -> None:
        before, name = self.moving.known_ids(), f"pool {self.pools}"
        moved = self.moving.rebind(name, ids_in(pool))
        self.pool, self.pools = list(pool), self.pools + 1
        assert moved == sum(before[key] != self.id_of(key) for key in before)
        assert self.moving.rebind(name, ids_in(pool)) == 0
        if reopen:
            self.moving.close()
            self.moving = Ledger(self.path, create=False)

    @rule()
    def mark(self) -> None:
        self.points.append((self.moving.head_seq, self.still.head_seq))

    @invariant()
    def every_answer_is_on_its_item(self) -> None:
        found, expected = by_key(self.moving), by_key(self.still)
        there = set(self.pool)
        assert found["answers"] == expected["answers"]
        assert found["trains"] == {key: item for key, item in expected["trains"].items() if key in there}
        assert found["excluded"] == expected["excluded"] & there
        assert found["waiting"] == expected["waiting"] & there
        assert self.moving.known_ids() == {key: self.id_of(key) for key in self.moving.known_ids()}
        assert set(self.moving.absent()) == {
            key for key in self.moving.known_ids() if key not in there and self.still.state(KEYS.index(key)) in HELD
        }
        assert sum(self.moving.counts().values()) == len(there & set(self.moving.known_ids()))

    @invariant()
    def every_point_of_the_past_is_as_it_was(self) -> None:
        there = set(self.pool)
        for here, other in self.points[-4:]:
            then = {item.key: (item.id, item.label, item.weight) for item in self.moving.labels(upto=here, votes=True)}
            expected = {item.key: (item.label, item.weight) for item in self.still.labels(upto=other, votes=True)}
            assert then == {key: (self.id_of(key), *item) for key, item in expected.items() if key in there}
            some = np.array([id for id, *_ in then.values()], np.int64)
            assert len(self.moving.labels(upto=here, ids=some, votes=True)) == len(then)
            found, changed = self.moving.changed_since(here), self.still.changed_since(other)
            for kind in ("new", "corrected", "lost", "reweighted"):
                keys = {KEYS[id] for id in getattr(changed, kind).tolist()} & there
                assert {self.pool[id] for id in getattr(found, kind).tolist()} == keys


HELD = ("labeled", "skipped", "disputed")


def test_a_ledger_that_moves_says_by_key_what_one_says_that_stays(tmp_path: Path) -> None:
    machine = type("Machine", (MovingLedger,), {"root": tmp_path})
    run_state_machine_as_test(machine, settings=settings(max_examples=12, stateful_step_count=20, deadline=None))


# -- who is bound to what ---------------------------------------------------------------------------------------------


def one(id: int | None, key: str, text: str = "cat", **fields: Any) -> tuple[int | None, Label]:
    return id, Label(key=key, label=text, **fields)


def told(path: Path, pool: str | None = "a") -> Ledger:
    """An open ledger of three labels, bound to pool "a" of the keys k0 to k9."""
    ledger = Ledger(path)
    if pool is not None:
        ledger.bind(pool)
    ledger.tell([one(n, f"k{n}") for n in range(3)])
    return ledger


OTHER = ["k9", "k0", "k1"]
"""The keys of pool "b" by id: one that nobody labelled comes first, and k2 is missing."""


def test_the_first_pool_says_nothing_new_and_another_one_does(tmp_path: Path) -> None:
    with told(tmp_path / "ledger", pool=None) as ledger:
        seq = ledger.head_seq
        assert ledger.pool is None
        ledger.bind("a")
        assert (ledger.pool, ledger.head_seq) == ("a", seq)
        ledger.bind("a")
        assert ledger.rebind("b", lambda keys: {key: int(key[1:]) for key in keys}) == 0
        assert ledger.head_seq > seq  # nothing moved, but the vectors are others
        with pytest.raises(FingerprintMismatch, match="rebind"):
            ledger.bind("a")


def test_a_handle_of_the_pool_that_was_left_is_refused_whatever_it_asks(tmp_path: Path) -> None:
    with told(tmp_path / "ledger") as mine, Ledger(tmp_path / "ledger") as other, Ledger(tmp_path / "ledger") as third:
        other.rebind("b", ids_in(OTHER))
        before = by_key(other)
        calls = [
            lambda: mine.tell([one(3, "k3")]),
            lambda: mine.tell([one(None, "k0", "dog")]),
            lambda: mine.lease(0, [3], ["k3"]),
            lambda: mine.release([1]),
            lambda: mine.skip(5, "k5"),
            lambda: mine.withdraw("k0"),
            mine.labels,
            mine.excluded,
            mine.outstanding,
            mine.answers,
            lambda: mine.head_seq,
        ]
        for call in calls:
            with pytest.raises(FingerprintMismatch, match="rebind"):
                call()
        assert by_key(other) == before
        # One that names items by key alone, and was told no pool, is always right.
        third.tell([one(None, "k0", "dog", annotator="eve"), one(None, "k2", "dog", annotator="eve")])
        assert {(a.key, a.label) for a in other.answers()} == {("k0", "cat"), ("k0", "dog"), ("k1", "cat"), *K2}
        for id, key in ((0, "k0"), (1, "k1"), (2, "k2"), (2, "k7")):  # known elsewhere, absent, or the id of another
            with pytest.raises(LabelError):
                third.tell([one(id, key)])


K2 = [("k2", "cat"), ("k2", "dog")]


def test_what_others_add_while_a_pool_is_read_moves_too(tmp_path: Path) -> None:
    with told(tmp_path / "ledger") as ledger, Ledger(tmp_path / "ledger") as other:
        asked: list[list[str]] = []

        def find(keys: list[str]) -> dict[str, int]:
            asked.append(list(keys))
            if len(asked) == 1:
                other.tell([one(9, "k9")])
            return ids_in(OTHER)(keys)

        assert ledger.rebind("b", find) == 4
        assert asked == [["k0", "k1", "k2"], ["k9"]]
        assert ledger.known_ids() == {"k0": 1, "k1": 2, "k2": None, "k9": 0}


def test_a_pool_that_cannot_be_read_leaves_all_as_it_was(tmp_path: Path) -> None:
    with told(tmp_path / "ledger") as ledger:

        def broken(keys: Any) -> Any:
            raise OSError("gone")

        with pytest.raises(OSError, match="gone"):
            ledger.rebind("b", broken)
        assert (ledger.pool, len(ledger.labels())) == ("a", 3)
        with Ledger(tmp_path / "ledger") as other:
            other.rebind("b", ids_in(OTHER))
        with pytest.raises(FingerprintMismatch):
            ledger.labels()  # it still expects "a"


def test_a_view_of_another_pool_is_the_ledger_as_it_would_be_there_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    told(path).close()
    before = path.read_bytes()
    with Ledger(path) as view:
        view.view_as_in("b", ids_in(OTHER)(list(view.known_ids())))
        seen, seq = (by_key(view), view.labels(), view.absent()), view.head_seq
        assert [item.key for item in view.labels(upto=seq - 2)] == ["k0"]
        for write in (lambda: view.tell([one(None, "k0")]), lambda: view.withdraw("k0")):
            with pytest.raises(RunError, match="look"):
                write()
    assert path.read_bytes() == before
    with Ledger(path) as ledger:
        ledger.rebind("b", ids_in(OTHER))
        assert (by_key(ledger), ledger.labels(), ledger.absent()) == seen


# -- files of the version before --------------------------------------------------------------------------------------


def old_ledger(path: Path, labels: int = 40) -> Path:
    """A ledger of version 1 with some of every kind of event."""
    with as_before_binding(), Ledger(path) as ledger:
        ledger.lease(0, range(labels), [f"k{n}" for n in range(labels)])
        ledger.tell([one(n, f"k{n}", annotator="ann") for n in range(0, labels, 2)])
        if labels:
            ledger.skip(1, "k1")
            ledger.withdraw("k2", "ann")
            ledger.release([3])
    return path


def schema_of(path: Path) -> tuple[int, int]:
    """The version of a ledger's file, and SQLite's own count of its events."""
    database = sqlite3.connect(path)
    (version,) = database.execute("PRAGMA user_version").fetchone()
    counter = database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    database.close()
    return version, counter[0] if counter else 0


@pytest.mark.parametrize("labels", [0, 1, 40])
def test_an_old_file_is_read_and_appended_to_as_it_is_and_brought_up_when_it_is_bound(
    tmp_path: Path, labels: int
) -> None:
    path = old_ledger(tmp_path / "ledger", labels)
    content = path.read_bytes()
    with Ledger(path, create=False) as ledger, Ledger(path) as holder:
        known, events = by_key(ledger), list(ledger._log.events(range(1, 10**6)))
        assert path.read_bytes() == content
        holder.tell([one(100, "new")])
        assert schema_of(path) == (1, len(events) + 1)
        ledger.withdraw("new")
        ledger.bind("a")
        assert schema_of(path) == (2, len(events) + 3)
        holder.tell([one(100, "new")])  # it has had the file open all the time
        holder.withdraw("new")
        assert list(ledger._log.events(range(1, len(events) + 1))) == events
        assert by_key(ledger) == by_key(holder) == known
    with Ledger(path) as again:
        assert by_key(again) == known
    database = sqlite3.connect(path)
    for statement in ("UPDATE events SET label = 'dog'", "DELETE FROM events", f"INSERT INTO {COPY}"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            database.execute(statement)
    database.close()


COPY = (
    "events SELECT seq + 1000, id, key, kind, label, annotator, weight, round, at, digest"
    " FROM events WHERE seq = (SELECT max(seq) FROM events)"
)


def test_a_full_disk_in_the_middle_of_an_upgrade_leaves_the_old_file(tmp_path: Path) -> None:
    path = old_ledger(tmp_path / "ledger", 200)
    content = path.read_bytes()
    with Ledger(path) as ledger:
        ledger._log._db.execute(f"PRAGMA max_page_count = {len(content) // 4096 + 1}")
        for write in (lambda: ledger.bind("a"), lambda: ledger.rebind("b", ids_in(OTHER))):
            with pytest.raises(RunError, match="space"):
                write()
        assert len(ledger.labels()) == 99
    assert path.read_bytes() == content


@given(place=st.integers(0, 10**9), bit=st.integers(0, 7))
@settings(max_examples=30, deadline=None)
def test_a_flipped_bit_of_a_ledger_that_moved_is_found_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, moved: bytes, place: int, bit: int
) -> None:
    path = tmp_path_factory.mktemp("flip") / "ledger"
    content = bytearray(moved)
    used = [at for at, byte in enumerate(content) if byte]
    content[used[place % len(used)]] ^= 1 << bit
    path.write_bytes(content)
    try:
        with Ledger(path, create=False) as ledger:
            assert ledger.known_ids() == {"k0": 1, "k1": 2, "k2": None}
            assert len(ledger.answers()) == 3
    except Damaged as error:
        assert "ledger" in str(error)  # noqa: PT017


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("moved") / "ledger"
    with told(path) as ledger:
        ledger.rebind("b", ids_in(OTHER))
    return path.read_bytes()


# -- killed at any moment ---------------------------------------------------------------------------------------------

MOVER = """
import os, signal, sys
from raysal.labels import Ledger

path, step = sys.argv[1], int(sys.argv[2])
ledger = Ledger(path, create=False)
left = step

def count():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

ledger._log._db.set_progress_handler(count, 1)
pool = ["k9", *(f"k{n}" for n in range(0, 40, 3))]
ledger.rebind("b", lambda keys: {key: pool.index(key) for key in keys if key in pool})
print(step - left)
"""


@pytest.mark.parametrize("old", deep_unless({True}, [False, True]))
def test_killed_at_any_step_of_a_move_it_is_the_old_or_the_new_state_whole(tmp_path: Path, old: bool) -> None:
    """SQLite runs a program of steps for each statement; the process is killed before many of them."""

    def fresh() -> Path:
        path = tmp_path / "ledger"
        path.unlink(missing_ok=True)
        if old:
            return old_ledger(path)
        with Ledger(path) as ledger:
            ledger.bind("a")
            ledger.lease(0, range(40), [f"k{n}" for n in range(40)])
            ledger.tell([one(n, f"k{n}") for n in range(20)])
        return path

    def state(path: Path) -> Any:
        with Ledger(path, create=False) as ledger:
            return ledger.pool, ledger.known_ids(), by_key(ledger), ledger.head_seq, schema_of(path)[0]

    path = fresh()
    before = state(path)
    done = python(MOVER, path, "1000000000")
    assert done.returncode == 0, done.stderr
    steps, after = int(done.stdout), state(path)
    assert (before[0], after[0], after[4]) == (None if old else "a", "b", 2)
    found = set()
    for step in np.linspace(1, steps, 6).astype(int).tolist():
        path = fresh()
        assert python(MOVER, path, step).returncode == -signal.SIGKILL
        now = state(path)
        assert now in (before, after)
        found.add(now[0])
        assert (python(MOVER, path, "1000000000").returncode, state(path)) == (0, after)
    assert before[0] in found


BACK_AND_FORTH = """
import sys
from raysal.labels import Ledger

ledger, pools = Ledger(sys.argv[1], create=False), {"a": 0, "b": 7}
while True:
    for name, shift in pools.items():
        ledger.rebind(name, lambda keys: {key: (int(key[1:]) + shift) % 40 for key in keys})
        print(name, flush=True)
"""


@pytest.mark.parametrize("after", deep_unless([2], [1, 2, 5]))
def test_killed_while_it_writes_the_ids_are_those_of_one_pool(tmp_path: Path, after: int) -> None:
    path = tmp_path / "ledger"
    with Ledger(path) as ledger:
        ledger.bind("a")
        ledger.tell([one(n, f"k{n}") for n in range(40)])
    child = subprocess.Popen([sys.executable, "-c", BACK_AND_FORTH, path], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(after):
        child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    with Ledger(path, create=False) as ledger:
        shift = {"a": 0, "b": 7}[ledger.pool or ""]
        assert ledger.known_ids() == {f"k{n}": (n + shift) % 40 for n in range(40)}
        assert len(ledger.labels()) == 40
