"""Which items are exported: all, those of a list, with a label in a run, first in a ranking, or passing tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrays import texts_of
from raysal.arrow_values import numbers_of, taken
from raysal.errors import ConfigError, FingerprintMismatch, LabelError
from raysal.labels.key_files import keys_in_file
from raysal.models.likelihood import SOFTMAX, Likelihood
from raysal.models.trainers import TRAINERS
from raysal.narrowing.predicates import check_tests, passing_values
from raysal.pool import Pool
from raysal.pool.chunk import Chunk
from raysal.pool.owners import parts_of, pool_of_labels
from raysal.ranking.reading import Ranking
from raysal.rounds.binding import check_pool
from raysal.rounds.directory import RunDir
from raysal.store import digest_of
from raysal.types import POOL_COLUMNS

Said = Mapping[str, Sequence[Any]]
OWN = ("key", "id", "uri", "image", "text", "vector")
"""Names that a carried column of an export cannot have, as those that a run or ranking says: `carried_` precedes it."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Items of a pool, in the order of their ids."""

    pool: Pool
    record: Mapping[str, Any]
    """what a plan says of the choice"""
    ids: NDArray[np.int64] | None = None
    """int64 [n], ascending; None where `where` decides, or all are chosen"""
    said: Said = field(default_factory=dict)
    """{column: values [n] in the order of `ids`} that a run or a ranking says"""
    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    """of these columns"""
    where: Mapping[str, Any] = field(default_factory=dict)
    likelihood: Likelihood = SOFTMAX
    """what labels are, where a run was named"""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """{state: items} of the run that have an answer and are not chosen"""

    @cached_property
    def count(self) -> int:
        """How many items; by `where` after one pass over its columns."""
        if self.ids is not None:
            return len(self.ids)
        return sum(len(rows) for _, rows, _ in self.parts()) if self.where else len(self.pool)

    def parts(self, start: int = 0) -> Iterator[tuple[Chunk, NDArray[np.int64], slice]]:
        """The chosen items chunk by chunk. Memory for the ids of a chunk, or for the columns of its tests.

        Args:
            start: how many items to leave out.

        Yields:
            A chunk, the rows of it that are chosen, and where they are in `ids`; without chunks of none.
        """
        done = 0
        for chunk in self.pool.chunks:
            rows, places = self._rows(chunk)
            cut = min(max(start - done, 0), len(rows))
            done += len(rows)
            if cut < len(rows):
                yield chunk, rows[cut:], slice(places.start + cut, places.stop)
            if self.ids is not None and places.stop == len(self.ids):
                return

    def _rows(self, chunk: Chunk) -> tuple[NDArray[np.int64], slice]:
        if self.ids is not None:
            own = chunk.ids()
            if not len(own):
                return np.empty(0, np.int64), slice(0, 0)
            low, high = np.searchsorted(self.ids, [own[0], own[-1] + 1])
            rows = np.searchsorted(own, self.ids[low:high])
            return rows.astype(np.int64), slice(int(low), int(high))
        if not self.where:
            return np.arange(chunk.rows, dtype=np.int64), slice(0, chunk.rows)
        items = chunk.items(list(self.where))
        passed = np.ones(chunk.rows, bool)
        for column, test in self.where.items():
            passed &= passing_values(items[column], test, f"where.{column}")
        rows = np.flatnonzero(passed)
        return rows, slice(0, len(rows))

    @cached_property
    def carried(self) -> Mapping[str, pa.Field]:
        """{column of the pool: its field in the export}, of one type for all chunks. It reads each chunk's items."""
        schemas, owned = [], False
        for chunk in self.pool.chunks:
            if chunk.rows:
                items = chunk.items()
                schemas.append(items.schema)
                owned |= "owner" in items.column_names and items["owner"].null_count < chunk.rows
        try:
            united = pa.unify_schemas(schemas, promote_options="permissive") if schemas else pa.schema([])
        except pa.ArrowException as error:
            raise ConfigError("carry", f"a carried column changes its type ({error})", "embed again") from None
        sounds = {"audio"} if self.pool.manifest.modality == "sound" else set()
        used, found = {*OWN, *sounds, *self.types}, {}
        for column in united:
            if column.name in POOL_COLUMNS and not (column.name == "owner" and owned):
                continue
            name = column.name
            while name in used:
                name = f"carried_{name}"
            used.add(name)
            found[column.name] = pa.field(name, column.type)
        return found

    def facts_schema(self) -> pa.Schema:
        """The schema of what is known of an item beside media and vector."""
        own = {"key": pa.string(), "id": pa.int64(), "uri": pa.string(), **self.types}
        return pa.schema([*(pa.field(name, kind) for name, kind in own.items()), *self.carried.values()])


def choose(
    pool: Pool,
    *,
    keys: str | Path | Sequence[str] | None = None,
    run: str | Path | None = None,
    classes: Sequence[str] = (),
    where: Mapping[str, Any] | None = None,
    ranking: str | Path | None = None,
    most: int | None = None,
) -> Chosen:
    """Choose items of a pool by one of the ways; by none of them, all.

    Args:
        pool: the pool.
        keys: the items' keys, or a file of them: text with one in each line, or a table with a column `key`.
        run: a run over the pool: the items whose annotators agree on a label, with it; where labels are of owners, all
            their parts that are there.
        classes: of a run, only items that have one of these labels.
        where: a test for each of these columns, as the narrower `filter` has them.
        ranking: a ranking of the pool: the first items of its newest version.
        most: how many of a ranking.

    Returns:
        The items.

    Raises:
        ConfigError: several ways are named, an option is of another way, nothing is chosen, or a test does not go with
            its column.
        LabelError: a key is not in the pool, or the file cannot be read.
        FingerprintMismatch: run or ranking are of another pool.
        RunError: there is no run.
        PoolError: there is no ranking.
    """
    ways = {"keys": keys, "run": run, "where": where, "ranking": ranking}
    named = [name for name, value in ways.items() if value is not None]
    if len(named) > 1:
        raise ConfigError(named[0], f"and {named[1]} name different items", "give one of them")
    if classes and run is None:
        raise ConfigError("class", "is of a run, and none is named", "name the run, too")
    if (most is not None) != (ranking is not None):
        raise ConfigError("k" if ranking is None else "ranking", *_NO_K[ranking is None])
    if keys is not None:
        chosen = _by_keys(pool, keys)
    elif run is not None:
        chosen = _by_run(pool, Path(run), list(dict.fromkeys(classes)))
    elif ranking is not None:
        chosen = _by_ranking(pool, Path(ranking), most or 0)
    elif where is not None:
        chosen = _by_tests(pool, where)
    else:
        chosen = Chosen(pool=pool, record={"by": "all"})
    if not chosen.count:
        raise ConfigError(named[0] if named else pool.path, "no item is chosen", "choose others")
    return chosen


_NO_K = {
    True: ("is of a ranking, and none is named", "name the ranking, too"),
    False: ("a part of it is exported, and nothing says how many items", "say how many: -k N (Python: k=N)"),
}


def _by_keys(pool: Pool, keys: str | Path | Sequence[str]) -> Chosen:
    """The items of a list."""
    asked = keys_in_file(Path(keys)) if isinstance(keys, str | Path) else texts_of("keys", keys)
    ids = np.array(sorted(pool.ids_of(asked).values()), np.int64)
    record = {"by": "keys", "keys": digest_of({"keys": sorted(set(asked))})}
    return Chosen(pool=pool, record=record, ids=ids)


def _by_run(pool: Pool, run: Path, classes: Sequence[str]) -> Chosen:
    """The items whose annotators agree, or the parts of such owners. The run is only read."""
    there = RunDir(run)
    config = there.require_config()
    likelihood = config.update.trainer.build("update.trainer", TRAINERS).likelihood
    if not there.has_ledger:
        raise LabelError(run, "the run has no labels yet", "label some items first")
    labelled_of = pool_of_labels(pool, config.parts)
    with there.open_ledger() as ledger:
        check_pool(there, ledger, labelled_of)
        labels = ledger.labels()
        left_out = {"disputed": ledger.counts()["disputed"], "absent": len(ledger.absent())}
    if not labels:
        raise LabelError(run, "the run has no labels yet", "label some items first")
    if classes:
        if not likelihood.discrete:
            raise ConfigError("class", "the labels of this run are numbers", "leave it out")
        known = sorted({name for item in labels for name in likelihood.names_in(item.label)})
        if unknown := [name for name in classes if name not in known]:
            raise ConfigError("class", f"no item has the label {unknown[0]!r}", f"use one of: {', '.join(known)}")
        labels = [item for item in labels if {*likelihood.names_in(item.label)} & {*classes}]
    record = {
        "by": "run",
        "classes": sorted(classes),
        "labels": digest_of({"labels": [(item.key, item.label) for item in labels]}),
    }
    made_of = parts_of(labelled_of, [item.id for item in labels])
    said = sorted((id, item.label) for item in labels for id in made_of.get(item.id, ()))
    return Chosen(
        pool=pool,
        record=record,
        ids=np.array([id for id, _ in said], np.int64),
        said={"label": [label for _, label in said]},
        types={"label": pa.string()},
        likelihood=likelihood,
        left_out={state: count for state, count in left_out.items() if count},
    )


def _by_ranking(pool: Pool, path: Path, most: int) -> Chosen:
    """The first items of a ranking."""
    if most < 1:
        raise ConfigError("k", f"{most} is below 1", "ask for one item or more")
    ranking = Ranking.open(path)
    if ranking.plan.pool != pool.fingerprint:
        fix = "name the pool that was ranked"
        raise FingerprintMismatch(path, "the pool that was ranked", pool.fingerprint, ranking.plan.pool, fix)
    page = ranking.page(0, most)
    ids = numbers_of(page["id"])
    order = np.argsort(ids)
    columns = {name: page[name].combine_chunks() for name in ("rank", "score")}
    return Chosen(
        pool=pool,
        record={"by": "ranking", "k": most, "ranked": digest_of({"ids": ids.tolist()})},
        ids=ids[order],
        said={name: taken(column, order).to_pylist() for name, column in columns.items()},
        types={name: column.type for name, column in columns.items()},
    )


def _by_tests(pool: Pool, where: Mapping[str, Any]) -> Chosen:
    """The items that pass tests of columns."""
    if not where:
        raise ConfigError("where", "names no column", "give a test, or leave it out for all items")
    check_tests(where, "where")
    known = pool.columns
    for name in where:
        if name not in known:
            raise ConfigError(f"where.{name}", "the pool has no such column", f"its columns: {', '.join(known)}")
    return Chosen(pool=pool, record={"by": "where", "where": _in_json(where)}, where=where)


def _in_json(value: Any) -> Any:
    """A test as JSON can hold it, the same for equal ones."""
    if isinstance(value, Mapping):
        return {name: _in_json(value[name]) for name in sorted(value)}
    if isinstance(value, set | frozenset):
        return sorted((_in_json(one) for one in value), key=repr)
    if isinstance(value, list | tuple):
        return [_in_json(one) for one in value]
    return value if isinstance(value, str | bool | int | float) else str(value)
