"""What annotators say beside labels: notes, ratings from 0 to 5, and disputes. They only grow, as the ledger does.

They lie in `remarks.sqlite` of the run directory. Labels are in the ledger alone: no remark trains anything, and none
says what an item is. The newest remark of an annotator about an item counts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import NamedTuple

from raysal.databases import refusal
from raysal.errors import LabelError
from raysal.types import Label

FILE = "remarks.sqlite"
RESTORE = "restore it from a copy"
"""What an error says to do about a damaged file."""
LONGEST_NOTE = 4000
"""Letters of a note."""
RATINGS = range(6)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS remarks (
 seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, annotator TEXT NOT NULL, note TEXT NOT NULL,
 rating INTEGER, disputed INTEGER NOT NULL, at TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS remarks_never_change BEFORE UPDATE ON remarks
 BEGIN SELECT RAISE(ABORT, 'remarks is append-only'); END;
CREATE TRIGGER IF NOT EXISTS remarks_never_go BEFORE DELETE ON remarks
 BEGIN SELECT RAISE(ABORT, 'remarks is append-only'); END;
"""


class Remark(NamedTuple):
    """What one annotator says beside a label."""

    note: str = ""
    rating: int | None = None
    disputed: bool = False


NOTHING = Remark()
ByItem = Mapping[str, Mapping[str, Remark]]
"""{key: {annotator: remark}}"""


class Remarks:
    """The remarks of one run. Threads may share it; other processes open their own, and see what others add."""

    def __init__(self, run: Path) -> None:
        """Open the remarks of a run; the file is made if it is not there.

        Args:
            run: the run directory.

        Raises:
            NotNow: the file cannot be opened just now.
            Damaged: it is no table of remarks. It is not begun anew: it may hold somebody's work.
        """
        self.path = run / FILE
        self._lock = RLock()
        self._seen = 0
        self._newest: dict[str, dict[str, Remark]] = {}
        with self._errors(), ExitStack() as opened:
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=30.0, check_same_thread=False)
            opened.callback(self._db.close)
            self._db.execute("PRAGMA synchronous = FULL").fetchall()
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            self._catch_up()
            opened.pop_all()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def of(self, key: str) -> dict[str, Remark]:
        """The newest remark of each annotator about an item."""
        return self.of_all([key])[key]

    def of_all(self, keys: Iterable[str]) -> dict[str, dict[str, Remark]]:
        """The newest remark of each annotator about items: {key: {annotator: remark}}."""
        with self._errors():
            self._catch_up()
            return {key: dict(self._newest.get(key, {})) for key in keys}

    def add(self, annotator: str, remarks: Iterable[tuple[str, Remark]]) -> int:
        """Keep remarks, all of them or none. What the annotator said already is not added again.

        Args:
            annotator: who says it.
            remarks: (key, remark) pairs.

        Returns:
            How many are new.

        Raises:
            LabelError: a note is too long or no valid text, or a rating is not from 0 to 5.
            NotNow: the file cannot be written just now.
            Damaged: it cannot be read.
        """
        given = [(key, checked(key, remark)) for key, remark in remarks]
        if not given:
            return 0
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._catch_up()
                at = datetime.now(UTC).isoformat(timespec="milliseconds")
                new = [(k, r) for k, r in given if self._newest.get(k, {}).get(annotator, NOTHING) != r]
                self._db.executemany(
                    "INSERT INTO remarks (key, annotator, note, rating, disputed, at) VALUES (?, ?, ?, ?, ?, ?)",
                    [(k, annotator, r.note, r.rating, int(r.disputed), at) for k, r in new],
                )
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._catch_up()
            return len(new)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Alone at the file among threads; errors of SQLite become ours."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise refusal(self.path, error, RESTORE) from None

    def _catch_up(self) -> None:
        """Read what was added since the last call, by whichever process."""
        query = "SELECT seq, key, annotator, note, rating, disputed FROM remarks WHERE seq > ? ORDER BY seq"
        for seq, key, annotator, note, rating, disputed in self._db.execute(query, (self._seen,)).fetchall():
            self._newest.setdefault(key, {})[annotator] = Remark(note, rating, bool(disputed))
            self._seen = seq


def remarks_of(run: Path) -> ByItem:
    """The notes and ratings of a run, the newest of each annotator about each item. Nothing is written.

    Args:
        run: the run directory.

    Returns:
        Those that say something beside a dispute; none where nobody used the page.

    Raises:
        NotNow: the file is busy.
        Damaged: it is no table of remarks.
    """
    found = _read(run / FILE) if (run / FILE).exists() else {}
    said = {key: {who: one for who, one in people.items() if is_said(one)} for key, people in found.items()}
    return {key: people for key, people in said.items() if people}


def _read(path: Path) -> dict[str, dict[str, Remark]]:
    """The newest remarks in a file."""
    found: dict[str, dict[str, Remark]] = {}
    try:
        # Not `ro`: a writer that was killed may have left what the next one to open takes back.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=30.0)) as db:
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'remarks'").fetchone() is None:
                return {}  # of a server that was killed as it began
            query = "SELECT key, annotator, note, rating, disputed FROM remarks ORDER BY seq"
            for key, annotator, note, rating, disputed in db.execute(query):
                found.setdefault(key, {})[annotator] = Remark(note, rating, bool(disputed))
    except sqlite3.Error as error:
        raise refusal(path, error, RESTORE) from None
    return found


def is_said(remark: Remark) -> bool:
    """Whether there is a note or a rating."""
    return bool(remark.note) or remark.rating is not None


def beside(labels: Iterable[Label], remarks: Mapping[str, Remark]) -> Iterator[tuple[str, Label | None, Remark]]:
    """What people said of one item, with the remark of each.

    Args:
        labels: the answers of its annotators.
        remarks: by annotator.

    Yields:
        (annotator, answer, remark) in the order of `labels`, then those who only remarked, sorted.
    """
    answered = set()
    for label in labels:
        answered.add(label.annotator)
        yield label.annotator, label, remarks.get(label.annotator, NOTHING)
    for annotator in sorted(remarks.keys() - answered):
        yield annotator, None, remarks[annotator]


def checked(key: str, remark: Remark) -> Remark:
    """A remark that can be kept.

    Args:
        key: the item's key, for the error.
        remark: as it was given.

    Returns:
        The remark, its note without blanks around it.

    Raises:
        LabelError: the note is too long or no valid text, or the rating is not a whole number from 0 to 5.
    """
    note = remark.note.strip()
    if len(note) > LONGEST_NOTE:
        raise LabelError(f"{key!r}: note", f"has {len(note)} letters", f"write at most {LONGEST_NOTE}")
    try:
        note.encode()
    except UnicodeEncodeError:
        raise LabelError(f"{key!r}: note", "is no valid Unicode", "write it again") from None
    if remark.rating is not None and (isinstance(remark.rating, bool) or remark.rating not in RATINGS):
        raise LabelError(f"{key!r}: rating", f"{remark.rating!r}", "give a whole number from 0 to 5")
    return remark._replace(note=note)
