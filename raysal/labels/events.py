"""The ledger's file: a SQLite table of events that can only grow, each sealed by a digest of all before it.

SQLite checks the shape of its pages but not what the rows say, so every row carries blake2b(previous digest,
row). One pass over the chain on opening finds an altered byte, a missing row, and a tail that was cut off
(the counter SQLite keeps of the rows ever written then disagrees). Rollback journal and `synchronous=FULL`: a
process killed at any moment leaves whole transactions, and what was acknowledged is on the disk.
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

from raysal.errors import Damaged, RunError
from raysal.store import fsync_path, temporary_name

Kind = Literal["leased", "released", "labeled", "skipped", "withdrawn"]

APPLICATION_ID = 0x72617973  # "rays": what `file` and PRAGMA application_id show
VERSION = 1
BUSY_SECONDS = 30.0
RESTORE = "restore it from a copy"

SCHEMA = (
    """CREATE TABLE events (
 seq INTEGER PRIMARY KEY AUTOINCREMENT,
 id INTEGER NOT NULL,
 key TEXT NOT NULL,
 kind TEXT NOT NULL CHECK (kind IN ('leased', 'released', 'labeled', 'skipped', 'withdrawn')),
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
COLUMNS = "seq, id, key, kind, label, annotator, weight, round, at, digest"


class Draft(NamedTuple):
    """An event before it has a place in the log."""

    id: int
    key: str
    kind: Kind
    label: str | None = None
    annotator: str | None = None
    weight: float | None = None
    round: int | None = None


class Event(NamedTuple):
    """One row of the log. `seq` counts from 1 without gaps; `at` is UTC and informs only."""

    seq: int
    id: int
    key: str
    kind: Kind
    label: str | None
    annotator: str | None
    weight: float | None
    round: int | None
    at: str


def _seal(previous: bytes, event: Event) -> bytes:
    # JSON in ASCII, not repr: what repr escapes differs between Python versions.
    text = json.dumps(event, default=repr)
    return hashlib.blake2b(previous + text.encode("ascii"), digest_size=16).digest()


class EventLog:
    """An open log. One thread at a time; another thread or process opens its own."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Open the log at `path`, made if `create` and absent. Its shape is checked here, its events by
        `new`.

        Raises:
            Damaged: the file is missing and may not be made, is not a log, or is malformed.
            RunError: it cannot be opened or made.
        """
        self.path, self.tip, self._digest = path, 0, b""
        journal = path.with_name(path.name + "-journal")
        leftover = journal.exists()  # before the log: somebody may make it now, and begin to write to it
        if not path.exists():
            self._refuse(journal.name if leftover else "", create)
            with self._errors():
                self._create()
        elif path.is_file() and path.stat().st_size == 0:
            # SQLite would take an empty file for a new database; ours are never empty, not even while being
            # made.
            raise Damaged(path, "the file is empty", RESTORE)
        with self._errors():
            uri = f"{path.absolute().as_uri()}?mode=rw"
            self._db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_SECONDS)
            try:
                self._check()
            except BaseException:
                self._db.close()
                raise

    def _refuse(self, leftover: str, create: bool) -> None:
        """Raises if a log must not be made here; `leftover` is the journal of one that is missing."""
        if not create:
            raise Damaged(self.path, "the file is missing", RESTORE)
        if leftover:  # SQLite would roll it back into the new file
            raise Damaged(self.path, f"the file is missing, but {leftover} is there", RESTORE)
        if not self.path.parent.is_dir():
            raise RunError(self.path, "its directory does not exist", f"make {self.path.parent}")

    def _create(self) -> None:
        temporary = temporary_name(self.path, f"-{os.urandom(4).hex()}")
        try:
            with closing(sqlite3.connect(temporary, isolation_level=None)) as db:
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {VERSION}")
                for statement in SCHEMA:
                    db.execute(statement)
            fsync_path(temporary)
            try:
                # A rename would replace a log that another process made meanwhile.
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
        """The file as a whole, before anything in it is believed."""
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise Damaged(self.path, "not a ledger of raysal", RESTORE)
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            raise Damaged(self.path, f"version {version}, this raysal reads {VERSION}", f"update raysal, or {RESTORE}")
        for pragma in ("journal_mode = DELETE", "synchronous = FULL", "cell_size_check = ON"):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        (verdict,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise Damaged(self.path, f"SQLite finds it malformed ({verdict.splitlines()[0]})", RESTORE)
        found = self._db.execute("SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY rowid")
        if tuple(sql for (sql,) in found.fetchall()) != SCHEMA:
            raise Damaged(self.path, "its schema was altered", RESTORE)

    def close(self) -> None:
        self._db.close()

    def rewind(self) -> None:
        """Let the next `new` begin with the first event again."""
        self.tip, self._digest = 0, b""

    def new(self) -> Generator[Event, None, None]:
        """The events since the last call (all of them at first), each checked against the chain as it comes.

        Raises:
            Damaged: an event was altered or is missing, also the one the last call ended with.
        """
        with self._errors(), self._one_view():
            last = self.tip
            rows = self._db.execute(f"SELECT {COLUMNS} FROM events WHERE seq >= ? ORDER BY seq", (last,))
            if last:
                known = rows.fetchone()
                if known is None or known[-1] != self._digest:
                    raise Damaged(self.path, f"event {last} is not the one it was", RESTORE)
            for *values, digest in rows:
                event = Event(*values)
                if event.seq != self.tip + 1 or _seal(self._digest, event) != digest:
                    raise Damaged(self.path, f"event {self.tip + 1} is missing or was altered", RESTORE)
                self.tip, self._digest = event.seq, digest
                yield event
            counter = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
            written = counter[0] if counter else 0
            if written != self.tip:
                raise Damaged(self.path, f"it ends at event {self.tip}, {written} were written", RESTORE)

    def events(self, seqs: Iterable[int]) -> Iterator[Event]:
        """The events of these numbers, in their order. Each is looked up; no other one is read."""
        asked = json.dumps(sorted(seqs))
        with self._errors():
            query = f"SELECT {COLUMNS} FROM events WHERE seq IN (SELECT value FROM json_each(?)) ORDER BY seq"
            for *values, _ in self._db.execute(query, (asked,)):
                yield Event(*values)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the log against other writers; what is appended inside is kept whole or not at all."""
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def append(self, drafts: Iterable[Draft]) -> None:
        """Add events; inside `writing`, after `new`. They come back from the next `new`, read from the
        file."""
        digest, rows = self._digest, []
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        for seq, draft in enumerate(drafts, self.tip + 1):
            event = Event(seq, *draft, at)
            digest = _seal(digest, event)
            rows.append((*event, digest))
        self._db.executemany(f"INSERT INTO events ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    @contextmanager
    def _one_view(self) -> Iterator[None]:
        """Reads inside see one state of the file, though another process may be appending."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._roll_back()

    def _roll_back(self) -> None:
        if self._db.in_transaction:  # some of SQLite's errors have ended it already
            self._db.execute("ROLLBACK")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's errors as ours. A misuse of the connection stays what it is."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise
        except UnicodeDecodeError as error:  # a message of SQLite's may quote the damaged bytes
            raise Damaged(self.path, f"SQLite cannot read it ({error.reason})", RESTORE) from None
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise RunError(self.path, "another process is writing to it", "try again when it is done") from None
            if name.startswith(("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC")):
                raise RunError(self.path, f"cannot be written ({error})", "free some space and try again") from None
            if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
                raise RunError(self.path, f"cannot be opened or written ({error})", "check its permissions") from None
            raise Damaged(self.path, f"SQLite cannot read it ({error})", RESTORE) from None
