"""The ledger's file: a SQLite table of events that only grows, in which each row seals all rows before it.

SQLite checks the shape of its pages, but not what the rows say. Therefore every row carries the digest
blake2b(previous digest, row). Opening the file reads this chain once. The pass finds an altered byte, a missing row,
and a tail that was cut off: then the number of rows disagrees with SQLite's own counter of the rows ever written.

The file uses a rollback journal and `synchronous=FULL`. A process that is killed at any moment leaves whole
transactions, and every event that was acknowledged is on the disk.

Version 1 of the schema has no `bound` and no `moved`. Such a file is read, and appended to, as it is. The first event
that needs version 2 brings the file there, in the transaction that adds the event.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from raysal.databases import refusal
from raysal.errors import Damaged, NotNow, RunError
from raysal.store import fsync_path, temporary_name

Kind = Literal["leased", "released", "labeled", "skipped", "withdrawn", "bound", "moved"]
"""What an event does to its item; `raysal.labels.ledger` lists the rules. `bound` names a pool, and no item."""

APPLICATION_ID = 0x72617973
"""The letters "rays". `file` and PRAGMA application_id show them."""
VERSION = 2
"""Version of the schema, kept in PRAGMA user_version."""
BUSY_SECONDS = 30.0
"""How long a call waits, in seconds, while another process writes."""
RESTORE = "restore it from a copy"
"""What an error says to do about a damaged ledger."""


def _schema(id_column: str, kinds: str) -> tuple[str, ...]:
    """The statements that make an empty log."""
    return (
        f"""CREATE TABLE events (
 seq INTEGER PRIMARY KEY AUTOINCREMENT,
 {id_column},
 key TEXT NOT NULL,
 kind TEXT NOT NULL CHECK (kind IN ({kinds})),
 label TEXT,
 annotator TEXT,
 weight REAL,
 round INTEGER,
 at TEXT NOT NULL,
 digest BLOB NOT NULL)""",
        """CREATE TRIGGER events_never_change BEFORE UPDATE ON events
 BEGIN SELECT RAISE(ABORT, 'events is append-only'); END""",
        """CREATE TRIGGER events_never_go BEFORE DELETE ON events
 BEGIN SELECT RAISE(ABORT, 'events is append-only'); END""",
        # INSERT OR REPLACE deletes without firing the trigger above.
        """CREATE TRIGGER events_only_append BEFORE INSERT ON events
 WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM events)
 BEGIN SELECT RAISE(ABORT, 'events is append-only'); END""",
    )


_FIRST_KINDS = "'leased', 'released', 'labeled', 'skipped', 'withdrawn'"
SCHEMAS = {
    1: _schema("id INTEGER NOT NULL", _FIRST_KINDS),
    2: _schema("id INTEGER", f"{_FIRST_KINDS}, 'bound', 'moved'"),
}
"""The schema of each version that this raysal reads."""
COLUMNS = "seq, id, key, kind, label, annotator, weight, round, at, digest"


class PendingEvent(NamedTuple):
    """An event that is not in the log yet: it has no number and no time.

    `id` is the item's number in the pool that the ledger is bound to; None if that pool does not have the item. The
    `key` of a `bound` event is the fingerprint of the pool.
    """

    id: int | None
    key: str
    kind: Kind
    label: str | None = None
    annotator: str | None = None
    weight: float | None = None
    round: int | None = None


class Event(NamedTuple):
    """One row of the log.

    `seq` counts from 1 without gaps. `at` is the time in UTC; nothing depends on it.
    """

    seq: int
    id: int | None
    key: str
    kind: Kind
    label: str | None
    annotator: str | None
    weight: float | None
    round: int | None
    at: str


def _seal(previous: bytes, event: Event) -> bytes:
    """The digest of an event and of all before it, whose digest is `previous`."""
    # JSON in ASCII, not repr: what repr escapes differs between Python versions.
    text = json.dumps(event, default=repr)
    return hashlib.blake2b(previous + text.encode("ascii"), digest_size=16).digest()


class EventLog:
    """An open log. Any thread may use it, one at a time; another process opens its own."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Open the log at `path`.

        This checks the shape of the file. `read_new` checks its events.

        Args:
            path: the file.
            create: make an empty log if there is no file.

        Raises:
            Damaged: the file is missing and `create` is false, or it is not a log, or it is malformed.
            RunError: the file cannot be opened or made.
        """
        self.path, self.tip, self._digest = path, 0, b""
        self._closed = False
        journal = path.with_name(path.name + "-journal")
        # Look for the journal before the log: another process may make the log now and begin to write to it.
        leftover = journal.exists()
        if not path.exists():
            self._check_may_create(journal.name if leftover else "", create)
            with self._errors():
                self._create()
        elif path.is_file() and path.stat().st_size == 0:
            # SQLite would take an empty file for a new database. Ours are never empty, not even while they are made.
            raise Damaged(path, "the file is empty", RESTORE)
        with self._errors():
            uri = f"{path.absolute().as_uri()}?mode=rw"
            self._db = sqlite3.connect(
                uri, uri=True, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False
            )
            try:
                self._check()
            except BaseException:
                self._db.close()
                raise

    def _check_may_create(self, leftover: str, create: bool) -> None:
        """Raise an error if no log may be made here; `leftover` names the journal of a missing log."""
        if not create:
            raise Damaged(self.path, "the file is missing", RESTORE)
        if leftover:  # SQLite would roll it back into the new file
            raise Damaged(self.path, f"the file is missing, but {leftover} is there", RESTORE)
        if not self.path.parent.is_dir():
            raise RunError(self.path, "its directory does not exist", f"make {self.path.parent}")

    def _create(self) -> None:
        """Make an empty log, unless another process makes one first."""
        temporary = temporary_name(self.path, f"-{os.urandom(4).hex()}")
        try:
            with closing(sqlite3.connect(temporary, isolation_level=None)) as db:
                # The file has no name yet: it is flushed once, as a whole, and not after each statement.
                db.execute("PRAGMA journal_mode = OFF").fetchall()
                db.execute("PRAGMA synchronous = OFF")
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {VERSION}")
                for statement in SCHEMAS[VERSION]:
                    db.execute(statement)
            fsync_path(temporary)
            try:
                # A rename would replace a log that another process has made in the meantime.
                os.link(temporary, self.path)
            except FileExistsError:
                pass
            except OSError:  # a file system without hard links
                os.rename(temporary, self.path)
        except OSError as error:
            raise RunError(self.path, f"cannot be made ({error})", "check its directory") from None
        finally:
            temporary.unlink(missing_ok=True)
        fsync_path(self.path.parent)

    def _check(self) -> None:
        """Check the file as a whole, before any row is read."""
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise Damaged(self.path, "not a ledger of raysal", RESTORE)
        for pragma in ("journal_mode = DELETE", "synchronous = FULL", "cell_size_check = ON"):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        with self._one_view():  # another process may bring the file to this version meanwhile
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version not in SCHEMAS:
                problem = f"version {version}, this raysal reads {VERSION}"
                raise Damaged(self.path, problem, f"update raysal, or {RESTORE}")
            (verdict,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise Damaged(self.path, f"SQLite finds it malformed ({verdict.splitlines()[0]})", RESTORE)
            found = self._db.execute("SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY rowid")
            if tuple(sql for (sql,) in found.fetchall()) != SCHEMAS[version]:
                raise Damaged(self.path, "its schema was altered", RESTORE)

    def close(self) -> None:
        """Close the file."""
        self._closed = True
        self._db.close()

    def rewind(self) -> None:
        """Let the next `read_new` begin with the first event again."""
        self.tip, self._digest = 0, b""

    def read_new(self) -> Generator[Event, None, None]:
        """Read the events that were added since the last call; the first call reads all of them.

        Yields:
            The events in order. Each is checked against the chain before it is given.

        Raises:
            Damaged: an event is missing or was altered. The event that the last call ended with is checked again.
        """
        with self._errors(), self._one_view():
            last = self.tip
            rows = self._db.execute(f"SELECT {COLUMNS} FROM events WHERE seq >= ? ORDER BY seq", (last,))
            if last:
                known = rows.fetchone()
                if known is None or known[-1] != self._digest:
                    raise Damaged(self.path, f"event {last} has changed since it was read", RESTORE)
            for *values, digest in rows:
                event = Event(*values)
                if event.seq != self.tip + 1 or _seal(self._digest, event) != digest:
                    raise Damaged(self.path, f"event {self.tip + 1} is missing or was altered", RESTORE)
                self.tip, self._digest = event.seq, digest
                yield event
            counter = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
            written = counter[0] if counter else 0
            if written != self.tip:
                raise Damaged(self.path, f"it ends at event {self.tip}, but {written} events were written", RESTORE)

    def events(self, seqs: Iterable[int]) -> Iterator[Event]:
        """The events with these numbers, in ascending order. It looks up each, and reads no other event."""
        asked = json.dumps(sorted(seqs))
        with self._errors():
            query = f"SELECT {COLUMNS} FROM events WHERE seq IN (SELECT value FROM json_each(?)) ORDER BY seq"
            for *values, _ in self._db.execute(query, (asked,)):
                yield Event(*values)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other writers out. The file gets all that is appended inside, or nothing if an error occurs."""
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def append(self, pending: Iterable[PendingEvent]) -> None:
        """Add events to the end of the log.

        Call it inside `writing`, after a `read_new` that reached the end. The next `read_new` gives these events back,
        read from the file.

        Args:
            pending: the events, in order.
        """
        pending = list(pending)
        if any(event.id is None or event.kind in ("bound", "moved") for event in pending):
            self._upgrade()
        digest, rows = self._digest, []
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        for seq, fields in enumerate(pending, self.tip + 1):
            event = Event(seq, *fields, at)
            digest = _seal(digest, event)
            rows.append((*event, digest))
        self._db.executemany(f"INSERT INTO events ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def _upgrade(self) -> None:
        """Bring the file to this version, inside the transaction of `writing`. Events keep numbers and digests."""
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == VERSION:
            return
        for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            self._db.execute(f"DROP TRIGGER {name}")
        self._db.execute("ALTER TABLE events RENAME TO older_events")
        table, *triggers = SCHEMAS[VERSION]
        self._db.execute(table)
        # AUTOINCREMENT counts on from the largest number that is inserted.
        self._db.execute(f"INSERT INTO events ({COLUMNS}) SELECT {COLUMNS} FROM older_events ORDER BY seq")
        self._db.execute("DROP TABLE older_events")
        for trigger in triggers:
            self._db.execute(trigger)
        self._db.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def _one_view(self) -> Iterator[None]:
        """Reads inside see one state of the file, even if another process appends events."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._roll_back()

    def _roll_back(self) -> None:
        """End an open transaction without a change to the file."""
        if self._db.in_transaction:  # some errors of SQLite end the transaction themselves
            self._db.execute("ROLLBACK")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn SQLite's errors into ours, except those that come from wrong use of the connection."""
        try:
            yield
        except sqlite3.ProgrammingError:
            if self._closed:
                raise NotNow(self.path, "was closed", "open it again") from None
            raise
        except UnicodeDecodeError as error:  # a message of SQLite may quote the damaged bytes
            raise Damaged(self.path, f"SQLite cannot read it ({error.reason})", RESTORE) from None
        except sqlite3.Error as error:
            raise refusal(self.path, error, RESTORE) from None
