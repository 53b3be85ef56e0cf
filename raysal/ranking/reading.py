"""Reading a ranking: pages of it, and where an item stands. Needs neither torch nor the pool.

To open one, and to read a page, takes as long for any number of items: a page file is compared with its record and
mapped, the others are not touched. Threads may share a `Ranking`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysal.arrow_values import array_of, numbers_of, taken
from raysal.commits import Parts
from raysal.errors import ConfigError, Damaged, RunError
from raysal.ranking.hashing import text_hashes
from raysal.ranking.layout import (
    ID_FILE,
    STATES,
    Cuts,
    Manifest,
    Plan,
    is_finished,
    key_cuts,
    key_files,
    key_parts,
    page_parts,
    read_batch,
    run_parts,
    versions_of,
)
from raysal.store import check_bytes

if TYPE_CHECKING:
    from raysal.models.head import Head

ANSWERED = ("labeled", "skipped", "disputed")
"""States of items of which people have said something."""
KNOWN_LABEL = "known_label"
"""The column with what people had said; not `label`, which is for what they say next."""
MAPPED_FILES = 64
"""Files that a `Ranking` keeps mapped: those that were used last."""
FEW = 1024
"""Items that are read at a time, at least, to find some that nobody answered."""


@dataclass(frozen=True, kw_only=True)
class VersionInfo:
    """One finished version of a ranking."""

    name: str
    """of its directory"""
    score: str
    target: tuple[str, ...]
    top: int | None
    items: int
    """in it"""
    novelty: str | None
    """name of the novelty, where the items are in the order of one"""
    head: str | None
    """digest; None for novelty"""
    head_version: int | None
    labels: int | None
    """that the head had learnt from"""
    head_from: str | None
    """whose head it is: of which round, or of all labels there were"""


class Ranking:
    """One version of a ranking. Ranks are counted from 1, places in the order from 0.

    Attributes:
        path: The ranking.
        version: Name of the version's directory.
        plan: What it holds: pool, head, score and options.
    """

    def __init__(self, path: Path, version: Path, plan: Plan) -> None:
        """Use `open`. The version is finished."""
        self.path, self.version, self.plan = path, version.name, plan
        self._folder, self._cuts = version, Cuts.read(version)
        self._mapped: OrderedDict[tuple[str, int], pa.RecordBatch] = OrderedDict()
        self._states: pa.RecordBatch | None = None
        self._lock = Lock()

    @classmethod
    def open(cls, path: str | Path, version: str | None = None, *, score: str | None = None) -> Ranking:
        """Open a version of a ranking.

        Args:
            path: the ranking.
            version: name of a version's directory; None for the one that was begun last.
            score: of the versions of this score alone; `probability` stands for `log_odds`.

        Returns:
            The version.

        Raises:
            PoolError: there is no ranking.
            RunError: there is no such version, or it is not finished.
            Damaged: a record was altered.
        """
        path = Path(path)
        pools = Manifest.read(path).pools
        wanted = "log_odds" if score == "probability" else score
        newest: tuple[Path, Plan] | None = None
        for folder in versions_of(path):
            if version is not None and folder.name != version:
                continue
            plan = Plan.read(folder)
            if plan.pool not in pools:
                raise Damaged(folder, "is of another pool than the ranking", "restore it from a copy, or delete it")
            if wanted in (None, plan.score) and is_finished(folder, plan):
                newest = folder, plan
        if newest is None:
            what = "" if version is None and score is None else f" {version or score}"
            raise RunError(path, f"has no finished version{what}", "rank again to finish it, or name another")
        return cls(path, *newest)

    @property
    def info(self) -> VersionInfo:
        """What it is, in names and numbers."""
        return info_of(self.version, self.plan)

    def head(self) -> Head | None:
        """Read the head that it is of.

        Returns:
            The head; None for novelty, or where an older raysal made the version.

        Raises:
            Damaged: it is another one than the version names.
        """
        from raysal.prediction.heads import head_kept_in

        return head_kept_in(self._folder, self.plan)

    @property
    def score(self) -> str:
        """The score that the items are in the order of."""
        return self.plan.score

    def __len__(self) -> int:
        return self.plan.total

    def page(self, start: int, n: int, *, unanswered: bool = False) -> pa.Table:
        """Some consecutive items of the ranking. O(n), and to check one page file for every 65,536 of them.

        Args:
            start: how many items stand before the first one.
            n: how many are wanted.
            unanswered: pass over the items that were labelled, skipped or disputed when the version was begun.

        Returns:
            rank (from 1), id, key, score, class and probability (or value), state, known_label, held_out: the items
            there are. State and label are those of when the version was begun; the label is null where there was none,
            where annotators disagreed, and throughout in a version of an earlier raysal, which kept none.

        Raises:
            ConfigError: a number is negative.
            Damaged: a page is not as it was written.
        """
        for name, value in (("start", start), ("n", n)):
            if value < 0:
                raise ConfigError(name, f"{value} is below 0", "count from 0")
        if not unanswered:
            return self._consecutive(start, n)
        parts, found = [self._consecutive(start, 0)], 0
        while found < n and start < len(self):
            table = self._consecutive(start, max(n - found, FEW))
            start += table.num_rows
            answered = pc.is_in(table["state"].cast(pa.string()), array_of(list(ANSWERED), pa.string()))
            table = table.filter(pc.invert(answered))
            parts.append(table.slice(0, n - found))
            found += parts[-1].num_rows
        return pa.concat_tables(parts)

    def _consecutive(self, start: int, n: int) -> pa.Table:
        """The items there are from one on; see `page`."""
        stop = min(start + n, len(self))
        start = min(start, stop)
        page, parts = self._page_at(start), []
        while True:
            batch, first = self._read("pages", page), self._cuts.starts[page]
            low, high = max(start - first, 0), min(stop - first, batch.num_rows)
            parts.append(batch.slice(low, max(high - low, 0)))
            page += 1
            if page == self.plan.pages or self._cuts.starts[page] >= stop:
                break
        table = pa.Table.from_batches(parts)
        if table.num_rows != stop - start:
            problem = f"{table.num_rows} items at {start}, not {stop - start}"
            raise Damaged(self._folder, problem, page_parts(self._folder).fix)
        ranks = array_of(np.arange(start + 1, stop + 1), pa.int64())
        labels = self._labels_of(numbers_of(table["id"]))
        table = table.add_column(table.column_names.index("state") + 1, KNOWN_LABEL, labels)
        return table.add_column(0, "rank", ranks)

    def _labels_of(self, ids: NDArray[np.int64]) -> pa.Array:
        """What people had said of items when the version was begun, texts [n]; null where they had not."""
        known = self._known()
        if "label" not in known.schema.names or not known.num_rows:
            return pa.nulls(len(ids), pa.string())
        every = numbers_of(known["id"])
        rows = np.searchsorted(every, ids).clip(max=len(every) - 1)
        labels = taken(known["label"], rows)
        return pc.if_else(array_of((every[rows] == ids).tolist(), pa.bool_()), labels, pa.nulls(len(ids), pa.string()))

    def find(self, item: str | int) -> int | None:
        """Where an item stands. Reads two small files, or three.

        Args:
            item: its key, or its id.

        Returns:
            How many items stand before it; None if it is not in this version.

        Raises:
            Damaged: a file is not as it was written.
        """
        for place in self._places_by_key(item) if isinstance(item, str) else self._places_by_id(int(item)):
            page = bisect_right(self._cuts.first, place) - 1
            row = self._row_of(self._read("pages", page), item)
            if row is not None:
                return self._cuts.starts[page] + row
        return None

    def verify(self) -> int:
        """Compare every file with its record.

        Returns:
            How many files were read.

        Raises:
            Damaged: a file differs; the error names it.
        """
        counts = {"pages": self.plan.pages, "keys": key_files(self.plan), "ids": len(self.plan.units())}
        for kind, count in counts.items():
            for index in range(count):
                self._check(kind, index)
        return sum(counts.values())

    def _known(self) -> pa.RecordBatch:
        """What the ledger knew when the version was begun: id, state, label ..., in order of id."""
        with self._lock:
            if self._states is None:
                check_bytes(self._folder / STATES, self.plan.states, page_parts(self._folder).fix)
                self._states = read_batch(self._folder / STATES)
            return self._states

    def _page_at(self, place: int) -> int:
        """The page that holds the item with so many before it."""
        return max(bisect_right(self._cuts.starts, place) - 1, 0)

    def _places_by_id(self, id: int) -> list[int]:
        unit = bisect_right(self._cuts.ids, id) - 1
        if unit < 0:
            return []
        batch = self._read("ids", unit)
        ids = numbers_of(batch["id"])
        row = int(np.searchsorted(ids, id))
        return [int(numbers_of(batch["place"])[row])] if row < len(ids) and ids[row] == id else []

    def _places_by_key(self, key: str) -> list[int]:
        try:
            hashed = text_hashes(array_of([key], pa.string()))[0]
        except UnicodeEncodeError:  # half a letter: a pool holds no such key
            return []
        cuts = key_cuts(key_files(self.plan))
        batch = self._read("keys", int(np.searchsorted(cuts, hashed, side="right")) - 1)
        hashes = numbers_of(batch["hash"])
        low, high = np.searchsorted(hashes, hashed), np.searchsorted(hashes, hashed, side="right")
        return [int(place) for place in numbers_of(batch["place"])[low:high]]

    def _row_of(self, batch: pa.RecordBatch, item: str | int) -> int | None:
        """The row of an item in a page."""
        if isinstance(item, int):
            rows = np.flatnonzero(numbers_of(batch["id"]) == item)
        else:
            rows = np.flatnonzero(text_hashes(batch["key"]) == text_hashes(array_of([item], pa.string()))[0])
            rows = np.array([row for row in rows if batch["key"][int(row)].as_py() == item], np.int64)
        return int(rows[0]) if len(rows) else None

    def _parts(self, kind: str) -> Parts:
        return {"pages": page_parts, "keys": key_parts, "ids": run_parts}[kind](self._folder)

    def _check(self, kind: str, index: int) -> Path:
        """Compare a file with its record, and return its path."""
        parts = self._parts(kind)
        name = ID_FILE if kind == "ids" else parts.files[0]
        parts.check(index, name)
        return self._folder / name.format(index)

    def _read(self, kind: str, index: int) -> pa.RecordBatch:
        """Map a file, after it was compared with its record; or give the one that is mapped."""
        with self._lock:
            if (kind, index) in self._mapped:
                self._mapped.move_to_end((kind, index))
                return self._mapped[kind, index]
        batch = read_batch(self._check(kind, index))
        with self._lock:
            self._mapped[kind, index] = batch
            while len(self._mapped) > MAPPED_FILES:
                self._mapped.popitem(last=False)
        return batch


def info_of(name: str, plan: Plan) -> VersionInfo:
    """What a version is."""
    return VersionInfo(
        name=name,
        score=plan.score,
        target=plan.target,
        top=plan.top,
        items=plan.total,
        novelty=None if plan.novelty is None else plan.novelty["name"],
        head=plan.head,
        head_version=plan.head_version,
        labels=plan.labels,
        head_from=plan.head_from,
    )


def versions(path: str | Path) -> list[VersionInfo]:
    """The finished versions of a ranking, in the order in which they were begun.

    Args:
        path: the ranking.

    Returns:
        What each is.

    Raises:
        PoolError: there is no ranking.
        Damaged: a record was altered.
    """
    Manifest.read(Path(path))
    plans = [(folder, Plan.read(folder)) for folder in versions_of(Path(path))]
    return [info_of(folder.name, plan) for folder, plan in plans if is_finished(folder, plan)]


def words_of_state(state: str, label: str | None) -> str | None:
    """What had become of an item, for people: `labeled negative`, `asked for`; None where nothing had."""
    if state == "unlabeled":
        return None
    if state == "leased":
        return "asked for"
    return state if label is None else f"{state} {label}"


def plain(page: pa.Table) -> pa.Table:
    """A page with names as texts instead of dictionaries, for files that other programs read."""
    columns = [
        pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], column.type.value_type)
        if pa.types.is_dictionary(column.type)
        else column
        for column in page.columns
    ]
    return pa.table(columns, names=page.column_names)
