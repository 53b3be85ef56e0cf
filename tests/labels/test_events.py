"""The ledger's file: it only grows, a kill leaves it whole, and an alteration is found."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysal.errors import Damaged, RunError
from raysal.labels import Ledger
from raysal.labels.events import PendingEvent
from raysal.types import Label


def one(id, text="cat", **fields):
    return id, Label(key=f"k{id}", label=text, **fields)


def answers(path):
    with Ledger(path, create=False) as ledger:
        return (
            ledger.labels(),
            ledger.counts(),
            ledger.outstanding(),
            ledger.excluded().tolist(),
            ledger.head_seq,
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.lease(0, range(40), [f"k{id}" for id in range(40)])
        ledger.tell([one(id, "cat" if id % 2 else "dog", annotator="ann", weight=0.5) for id in range(30)])
        ledger.tell([one(3, "dog", annotator="bob")])
        ledger.skip(31, "k31")
        ledger.withdraw("k4", "ann")
        ledger.release([32, 33])
    return path, answers(path)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET label = 'dog' WHERE seq = 1",
        "DELETE FROM events WHERE seq = 1",
        "DELETE FROM events",
        "INSERT OR REPLACE INTO events SELECT * FROM events WHERE seq = 1",
        "INSERT INTO events SELECT seq + 1000, id, key, kind, label, annotator, weight, round, at, digest"
        " FROM events WHERE seq = 1",
    ],
)
def test_events_can_only_be_appended(tmp_path, whole, statement):
    path = shutil.copy(whole[0], tmp_path / "ledger.sqlite")
    database = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        database.execute(statement)
    database.close()
    assert answers(path) == whole[1]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET label = 'dog' WHERE seq = 42",
        "UPDATE events SET weight = 2.0 WHERE seq = 42",
        "UPDATE events SET at = '' WHERE seq = 42",
        "DELETE FROM events WHERE seq = 42",
        "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)",
        "DELETE FROM events",
    ],
)
def test_who_goes_round_the_triggers_is_found_out(tmp_path, whole, statement):
    path = shutil.copy(whole[0], tmp_path / "ledger.sqlite")
    database = sqlite3.connect(path)
    triggers = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        database.execute(f"DROP TRIGGER {name}")
    database.execute(statement)
    database.commit()
    with pytest.raises(Damaged, match="schema"):
        Ledger(path)
    for _, sql in triggers:
        database.execute(sql)
    database.close()
    with pytest.raises(Damaged, match=r"ledger\.sqlite.*event"):
        Ledger(path)


def damaged_or_the_same(path, expected):
    """Check that the ledger names an altered file, or still reads what was written. True if it names the file."""
    try:
        assert answers(path) == expected
    except Damaged as error:
        assert path.name in str(error)  # noqa: PT017
        return True
    with Ledger(path, create=False) as ledger:  # and it can go on
        try:
            ledger.tell([one(1000)])
            assert ledger.state(1000) == "labeled"
        except (Damaged, RunError) as error:
            assert path.name in str(error)  # noqa: PT017
    return False


def test_any_byte_flipped(tmp_path, whole):
    data, path = whole[0].read_bytes(), tmp_path / "ledger.sqlite"
    draw = random.Random(0)
    places = [*range(100), *draw.sample([place for place in range(100, len(data)) if data[place]], 300)]
    found = 0
    for place in places:
        altered = bytearray(data)
        altered[place] ^= draw.choice([1, 2, 4, 128, 255, draw.randrange(1, 256)])
        path.write_bytes(altered)
        found += damaged_or_the_same(path, whole[1])
        for left in tmp_path.glob("ledger.sqlite-*"):
            left.unlink()
    assert found > 300  # the others are counters in the header that do not matter


def test_every_byte_of_a_row_counts(tmp_path, whole):
    data, path = whole[0].read_bytes(), tmp_path / "ledger.sqlite"
    place = data.find(b"dogann")
    for offset in range(6):
        altered = bytearray(data)
        altered[place + offset] ^= 1
        path.write_bytes(altered)
        with pytest.raises(Damaged, match="event"):
            Ledger(path)


@given(cut=st.floats(0, 1), garbage=st.binary(max_size=4))
@settings(max_examples=40)
def test_cut_anywhere(tmp_path_factory, whole, cut, garbage):
    data, path = whole[0].read_bytes(), tmp_path_factory.mktemp("cut") / "ledger.sqlite"
    size = int(cut * len(data))
    path.write_bytes(data[:size] + garbage)
    damaged_or_the_same(path, whole[1])


@pytest.mark.parametrize("content", [b"", b"key,label\n", b"SQLite format 3\0", random.Random(0).randbytes(8192)])
def test_not_a_ledger(tmp_path, content):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(content)
    with pytest.raises(Damaged, match=r"ledger\.sqlite"):
        Ledger(path)
    assert path.read_bytes() == content


def test_another_database_is_refused(tmp_path):
    path = tmp_path / "ledger.sqlite"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE events (seq)")
    database.close()
    with pytest.raises(Damaged, match="not a ledger"):
        Ledger(path)


def test_a_missing_file(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with pytest.raises(Damaged, match="missing"):
        Ledger(path, create=False)
    with pytest.raises(RunError, match="directory"):
        Ledger(tmp_path / "nowhere" / "ledger.sqlite")
    with pytest.raises(RunError, match=tmp_path.name):
        Ledger(tmp_path)
    (tmp_path / "ledger.sqlite-journal").write_bytes(b"x" * 512)
    with pytest.raises(Damaged, match="journal"):
        Ledger(path)
    assert not path.exists()


def test_a_file_that_was_put_back_while_open_is_noticed(tmp_path, whole):
    path = tmp_path / "ledger.sqlite"
    shutil.copy(whole[0], path)
    with Ledger(path) as ledger:
        older = path.read_bytes()
        ledger.tell([one(100)])
        path.write_bytes(older)
        with pytest.raises(Damaged, match="event"):
            ledger.tell([one(101)])


def test_another_file_of_the_same_length_is_noticed(tmp_path):
    with Ledger(tmp_path / "other") as other:
        other.tell([one(7)])
        other.tell([one(8)])
    with Ledger(tmp_path / "mine") as ledger:
        ledger.tell([one(1), one(2)])
        (tmp_path / "mine").write_bytes((tmp_path / "other").read_bytes())
        with pytest.raises(Damaged, match="event 2 "):
            ledger.tell([one(3)])


def test_a_ledger_that_somebody_else_makes_meanwhile_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "ledger.sqlite"
    link = os.link

    def late(source, target):
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", link)
            with Ledger(path) as first:
                first.tell([one(1)])
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    with Ledger(path) as ledger:
        assert ledger.excluded().tolist() == [1]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_journal_of_somebody_who_makes_the_ledger_meanwhile_and_writes_is_no_leftover(tmp_path, monkeypatch):
    path = tmp_path / "ledger.sqlite"
    exists, others = Path.exists, []

    def late(self, **options):
        found = exists(self, **options)
        if self == path and not others:
            others.append(None)
            others[0] = Ledger(path)
            others[0]._log._db.execute("BEGIN IMMEDIATE")
            others[0]._log.append([PendingEvent(1, "k1", "skipped")])
            assert exists(tmp_path / "ledger.sqlite-journal")
        return found

    monkeypatch.setattr(Path, "exists", late)
    with Ledger(path) as ledger:
        assert ledger.excluded().tolist() == []
        others[0]._log._db.execute("COMMIT")
        assert ledger.excluded().tolist() == [1]
    others[0].close()


APPENDER = """
import sys
from raysal.labels import Ledger
from raysal.types import Label
ledger, first = Ledger(sys.argv[1]), int(sys.argv[2])
for id in range(first, first + 40):
    ledger.tell([(id, Label(key=f"k{id}", label="cat"))])
"""


def test_writers_at_the_same_time_take_turns(tmp_path):
    path = tmp_path / "ledger.sqlite"
    children = [subprocess.Popen([sys.executable, "-c", APPENDER, path, str(first)]) for first in (0, 100)]
    assert [child.wait() for child in children] == [0, 0]
    with Ledger(path) as ledger:
        assert ledger.excluded().tolist() == [*range(40), *range(100, 140)]


def test_a_full_disk_records_nothing_and_says_so(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.tell([one(0)])
        pages = path.stat().st_size // 4096
        ledger._log._db.execute(f"PRAGMA max_page_count = {pages + 1}")
        with pytest.raises(RunError, match="space"):
            ledger.tell([one(id) for id in range(1, 500)])
        assert ledger.excluded().tolist() == [0]
        ledger.tell([one(1)])
    with Ledger(path) as ledger:
        assert ledger.excluded().tolist() == [0, 1]


WRITER = """
import sys
from raysal.labels import Ledger
from raysal.types import Label
ledger = Ledger(sys.argv[1])
call = 0
while True:
    ledger.tell([(call * 50 + n, Label(key=f"k{call * 50 + n}", label="cat")) for n in range(50)])
    print(call, flush=True)
    call += 1
"""


@pytest.mark.parametrize("after", [0, 1, 5, 12])
def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path, after):
    path = tmp_path / "ledger.sqlite"
    child = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True)
    acknowledged = -1
    for _ in range(after):
        acknowledged = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    rest = child.communicate()[0].split("\n")
    acknowledged = max([acknowledged, *(int(line) for line in rest[:-1])])
    with Ledger(path) as ledger:
        labels = ledger.labels()
        assert len(labels) % 50 == 0
        assert len(labels) >= 50 * (acknowledged + 1)
        assert [item.id for item in labels] == list(range(len(labels)))
        assert ledger.tell([one(0), one(10**6)]).new >= 1
