"""Hand-outs: items that are before one annotator for a while, so that no two people get the same one.

They lie in `handouts.sqlite` of the run directory, which all servers over one run share. An annotator may work in
several places at once, such as the tabs of a browser: each place holds items of its own, and no item is in two of them.
The file is no truth about labels: the ledger is. If it is lost, people may get an item twice, once; so it may be
deleted, and a broken one is begun anew. It also keeps the turns, by the nonce of the request: all of the run, so that a
request that is sent again counts once however late; and of the last ones of each annotator, what the answers replaced.

An item counts as taken by everybody who holds an answer of it in the ledger, and by everybody who has it handed out. It
is free while fewer than `per_item` people took it. Who answers first writes the answer into the ledger and then ends
the hand-out; who takes locks this file and then reads the ledger. So no moment exists in which an answered item looks
free.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

from raysal.databases import refusal
from raysal.web.answers import bequeathed

FILE = "handouts.sqlite"
SECONDS = 300.0
"""How long a hand-out lasts unless it is renewed."""
KEPT_TURNS = 200
"""Turns of one annotator that can be taken back. Of older ones the nonce is kept, and what items they were about."""
BEGIN_ANEW = "end the servers of this run and delete it: people may get an item twice, once"
"""What an error says to do about a broken file."""
_BUSY_SECONDS = 30.0
_AT_A_TIME = 128
"""Candidates whose hand-outs are looked up together."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS held (
 key TEXT NOT NULL, annotator TEXT NOT NULL, tab TEXT NOT NULL, purpose TEXT NOT NULL, until REAL NOT NULL,
 PRIMARY KEY (key, annotator)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS held_by ON held (annotator, tab);
CREATE INDEX IF NOT EXISTS held_until ON held (until);
CREATE TABLE IF NOT EXISTS turns (
 number INTEGER PRIMARY KEY AUTOINCREMENT, nonce TEXT NOT NULL UNIQUE, annotator TEXT NOT NULL, kind TEXT NOT NULL,
 before TEXT NOT NULL, state TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS turns_of ON turns (annotator, number);
CREATE INDEX IF NOT EXISTS turns_not_old ON turns (annotator, number) WHERE state <> 'old';
"""

Taken = Callable[[Sequence[str]], Mapping[str, Iterable[str]]]
"""keys -> {key: the annotators who hold an answer}, as the ledger says now"""


class Turn(NamedTuple):
    """One request that answered, and what it replaced."""

    nonce: str
    annotator: str
    kind: str
    """`answers` or `undo`"""
    before: list[dict[str, Any]]
    """of an `old` turn only {id, key, answered, remarked} of each item, and nothing if it was undone"""
    state: str
    """`begun`: the ledger may have it or not; `done`; `undone`; `old`: too old to be taken back"""


class HandOuts:
    """The hand-outs of one run. Threads may share it; other processes open their own."""

    def __init__(
        self, run: Path, *, seconds: float = SECONDS, per_item: int = 1, clock: Callable[[], float] = time.time
    ) -> None:
        """Open the hand-outs of a run; the file is made if it is not there.

        Args:
            run: the run directory.
            seconds: how long a hand-out lasts.
            per_item: how many people may have an item.
            clock: seconds since 1970, the same for all servers over the run.

        Raises:
            NotNow: the file is busy, its disk is full, or it cannot be made.
        """
        self.path, self.seconds, self.per_item, self.now = run / FILE, seconds, per_item, clock
        self._lock = RLock()
        with self._reading():
            self._db = self._open_or_begin()

    def _open_or_begin(self) -> sqlite3.Connection:
        """The file; a broken one is begun anew, as it is no truth."""
        try:
            return self._open()
        except sqlite3.DatabaseError as error:
            if not getattr(error, "sqlite_errorname", "").startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
                raise
            for suffix in ("", "-journal"):
                self.path.with_name(FILE + suffix).unlink(missing_ok=True)
            return self._open()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False)
        try:
            # Nothing here must outlive a crash of the machine, so nothing is waited for.
            db.execute("PRAGMA synchronous = OFF").fetchall()
            db.execute("PRAGMA journal_mode = TRUNCATE").fetchall()
            db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            db.execute("SELECT count(*) FROM held").fetchall()
        except BaseException:
            db.close()
            raise
        return db

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Alone at the file, among threads and processes; all of the block, or nothing."""
        with self._reading():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Alone at the file among threads; errors of SQLite become ours."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise refusal(self.path, error, BEGIN_ANEW) from None

    # -- hand-outs ----------------------------------------------------------------------------------------------

    def take(
        self, annotator: str, n: int, purpose: str, candidates: Iterable[str], taken: Taken, tab: str = ""
    ) -> tuple[list[str], float]:
        """Hand out items, so that a tab of the annotator holds up to n for this purpose.

        What the tab holds for the purpose already stays, unless it was answered meanwhile, by whomever; what was
        handed out to the tab for another purpose goes back. Other tabs keep what they hold.

        Args:
            annotator: who.
            n: how many the tab is to hold.
            purpose: what they are for: an order by its name.
            candidates: keys, the most wanted first.
            taken: who answered what.
            tab: where the annotator works.

        Returns:
            The keys, those held before first; and until when they are the annotator's, in seconds since 1970.
        """
        until = self.now() + self.seconds
        with self._writing() as db:
            db.execute("DELETE FROM held WHERE until <= ?", (self.now(),))
            db.execute("DELETE FROM held WHERE annotator = ? AND tab = ? AND purpose <> ?", (annotator, tab, purpose))
            held = self._held(annotator, tab)
            said = {key: set(who) for key, who in taken(held).items()}
            answered = [key for key in held if not self._is_free(said.get(key, set()), annotator)]
            db.executemany("DELETE FROM held WHERE key = ? AND annotator = ?", [(k, annotator) for k in answered])
            kept = [key for key in held if key not in set(answered)]
            new: list[str] = []
            rest = iter(candidates)
            while len(kept) + len(new) < n and (some := list(islice(rest, _AT_A_TIME))):
                people = self._people(some, taken)
                free = [key for key in dict.fromkeys(some) if self._is_free(people[key], annotator)]
                new += [key for key in free if key not in set(new)][: n - len(kept) - len(new)]
            rows = [(key, annotator, tab, purpose, until) for key in [*kept, *new]]
            db.executemany("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?)", rows)
        return [*kept, *new], until

    def _held(self, annotator: str, tab: str) -> list[str]:
        """The keys that a tab of an annotator holds."""
        query = "SELECT key FROM held WHERE annotator = ? AND tab = ?"
        return [key for (key,) in self._db.execute(query, (annotator, tab))]

    def _people(self, keys: Sequence[str], taken: Taken) -> dict[str, set[str]]:
        """Who has answered or holds each of these items."""
        said = taken(keys)
        people = {key: set(said.get(key, ())) for key in keys}
        query = "SELECT key, annotator FROM held WHERE key IN (SELECT value FROM json_each(?))"
        for key, who in self._db.execute(query, (json.dumps(list(keys)),)):
            people[key].add(who)
        return people

    def _is_free(self, people: set[str], annotator: str) -> bool:
        return annotator not in people and len(people) < self.per_item

    def claim(self, annotator: str, keys: Sequence[str]) -> dict[str, str]:
        """Hand out items that nobody offered to an annotator, who found them by looking around.

        Where several people are to get an item, nobody stands in anybody's way.

        Args:
            annotator: who.
            keys: the items.

        Returns:
            {key: who has it} of those that another one has before them; empty if all are the annotator's now. If there
            are any, none was handed out.
        """
        if self.per_item > 1 or not keys:
            return {}
        query = "SELECT key, annotator FROM held WHERE key IN (SELECT value FROM json_each(?)) AND until > ?"
        with self._writing() as db:
            holders = dict(db.execute(query, (json.dumps(list(keys)), self.now())).fetchall())
            others = {key: holders[key] for key in keys if holders.get(key, annotator) != annotator}
            if not others:
                # Of no tab and no purpose, so that what the annotator is at goes on.
                rows = [(key, annotator, "", "", self.now() + self.seconds) for key in keys if key not in holders]
                db.executemany("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?)", rows)
        return others

    def renew(self, annotator: str, keys: Sequence[str], taken: Taken, tab: str = "") -> tuple[list[str], float]:
        """Make hand-outs last from now on. What is free is the tab's again, as an item whose answer was undone.

        Args:
            annotator: whose.
            keys: the items.
            taken: who answered what.
            tab: where the annotator works.

        Returns:
            Those that went to others, or to another tab; and until when the rest is the tab's, but for what the
            annotator answered.
        """
        until = self.now() + self.seconds
        with self._writing() as db:
            db.execute("DELETE FROM held WHERE until <= ?", (self.now(),))
            query = "SELECT max(purpose) FROM held WHERE annotator = ? AND tab = ?"
            purpose = db.execute(query, (annotator, tab)).fetchone()[0]
            held = set(self._held(annotator, tab))
            said, people = taken(keys), self._people(keys, taken)
            rest = [key for key in keys if key in held or self._is_free(people[key], annotator)]
            rows = [(key, annotator, tab, purpose or "", until) for key in rest]
            db.executemany("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?)", rows)
        return [key for key in keys if annotator not in said.get(key, ()) and key not in set(rest)], until

    def holders(self, annotator: str, keys: Sequence[str], tab: str = "") -> list[tuple[str, float]]:
        """Who else has some of these items before them, another tab of the same annotator included.

        Args:
            annotator: whose tab asks.
            keys: the items.
            tab: the one that asks.

        Returns:
            Each annotator, by name, and when the last of the hand-outs ends, in seconds since 1970. A page that stays
            open makes them last longer.
        """
        query = (
            "SELECT annotator, max(until) FROM held WHERE key IN (SELECT value FROM json_each(?)) AND until > ? "
            "AND NOT (annotator = ? AND tab = ?) GROUP BY annotator ORDER BY annotator"
        )
        with self._reading():
            return list(self._db.execute(query, (json.dumps(list(keys)), self.now(), annotator, tab)).fetchall())

    def release(self, annotator: str, keys: Sequence[str], tab: str | None = None) -> None:
        """End hand-outs of an annotator, or of one tab: the items were answered, or others may have them."""
        rows = [(key, annotator, tab, tab) for key in keys]
        with self._writing() as db:
            db.executemany("DELETE FROM held WHERE key = ? AND annotator = ? AND (? IS NULL OR tab = ?)", rows)

    # -- turns --------------------------------------------------------------------------------------------------

    def begin_turn(self, turn: Turn) -> Turn | None:
        """Note a request before it changes the ledger.

        Args:
            turn: what it is about to replace.

        Returns:
            None; or the turn of the same nonce that came before, and then nothing is noted.
        """
        with self._writing() as db:
            if (before := self._turn("nonce = ?", turn.nonce)) is not None:
                return before
            values = (turn.nonce, turn.annotator, turn.kind, json.dumps(turn.before), turn.state)
            db.execute("INSERT INTO turns (nonce, annotator, kind, before, state) VALUES (?, ?, ?, ?, ?)", values)
        return None

    def end_turn(self, nonce: str, state: str = "done") -> None:
        """Note that the ledger has a turn, or that it was undone; and forget what turns replaced that are too old.

        What an undone turn replaced is what later turns about the same items replace from now on (`bequeathed`).
        """
        with self._writing() as db:
            if state == "undone" and (undone := self._turn("nonce = ?", nonce)) is not None:
                later = self._turns_after(nonce, "begun", "done", "old")
                now = bequeathed(undone.before, [turn.before for turn in later])
                changed = [(json.dumps(b), t.nonce) for t, b in zip(later, now, strict=True) if b != t.before]
                db.executemany("UPDATE turns SET before = ? WHERE nonce = ?", changed)
            db.execute("UPDATE turns SET state = ? WHERE nonce = ?", (state, nonce))
            # One that is only begun is not made old: it is still to be finished. An undo is kept as it is: it is small.
            query = """UPDATE turns SET state = 'old', before =
             CASE WHEN kind = 'undo' THEN before WHEN state = 'undone' THEN '[]' ELSE
              (SELECT json_group_array(json_remove(value, '$.label', '$.weight', '$.note', '$.rating', '$.disputed'))
               FROM json_each(before)) END
             WHERE annotator = (SELECT annotator FROM turns WHERE nonce = ?) AND state <> 'old' AND state <> 'begun'
             AND number <= (SELECT number FROM turns WHERE annotator = (SELECT annotator FROM turns WHERE nonce = ?)
              ORDER BY number DESC LIMIT 1 OFFSET ?)"""
            db.execute(query, (nonce, nonce, KEPT_TURNS))

    def forget_turn(self, nonce: str) -> None:
        """Forget a turn that was begun, and refused for good."""
        with self._writing() as db:
            db.execute("DELETE FROM turns WHERE nonce = ? AND state = 'begun'", (nonce,))

    def last_turn(self, annotator: str) -> Turn | None:
        """The last turn of an annotator that gave answers, was not undone, and can be."""
        with self._reading():
            return self._turn("annotator = ? AND kind = 'answers' AND state <> 'old' AND state <> 'undone'", annotator)

    def turns_after(self, nonce: str) -> list[Turn]:
        """The later turns of the same annotator that gave answers, were taken by the ledger, and were not undone."""
        with self._reading():
            return self._turns_after(nonce, "done", "old")

    def _turns_after(self, nonce: str, *states: str) -> list[Turn]:
        query = """SELECT nonce, annotator, kind, before, state FROM turns
         WHERE kind = 'answers' AND state IN (SELECT value FROM json_each(?))
         AND annotator = (SELECT annotator FROM turns WHERE nonce = ?)
         AND number > (SELECT number FROM turns WHERE nonce = ?) ORDER BY number"""
        rows = self._db.execute(query, (json.dumps(states), nonce, nonce)).fetchall()
        return [Turn(row[0], row[1], row[2], json.loads(row[3]), row[4]) for row in rows]

    def turn(self, nonce: str) -> Turn | None:
        """The turn of a request; None if there was none, or it was refused."""
        with self._reading():
            return self._turn("nonce = ?", nonce)

    def _turn(self, where: str, value: str) -> Turn | None:
        query = f"SELECT nonce, annotator, kind, before, state FROM turns WHERE {where} ORDER BY number DESC LIMIT 1"
        row = self._db.execute(query, (value,)).fetchone()
        return None if row is None else Turn(row[0], row[1], row[2], json.loads(row[3]), row[4])


def remove(run: Path) -> None:
    """Delete the hand-outs of a run; the next server begins them anew."""
    for name in (FILE, f"{FILE}-journal"):
        with suppress(FileNotFoundError):
            (run / name).unlink()
