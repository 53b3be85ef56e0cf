"""The sheet of a run: items for a label tool, with what rounds, heads and people said of them.

Which items: those with labels, those that wait, held-out ones, or the whole pool. Memory for the items that are named;
of the whole pool for one chunk, and for the items that people answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import array_of, numbers_of
from raysal.errors import FingerprintMismatch, RaysalError
from raysal.labels import Sheet
from raysal.labels.formats.base import COLUMNS, FACTS, PREDICTION, places_of
from raysal.labels.remarks import ByItem
from raysal.models.head import Head
from raysal.numerics import one_thread
from raysal.pool import Pool
from raysal.pool.chunk import Chunk
from raysal.pool.owner_chunk import OwnersChunk, parts_by_owner
from raysal.prediction.sampling import map_axes
from raysal.rounds.directory import RunDir
from raysal.rounds.run_labels import RunLabels
from raysal.rounds.searching import NEGATIVE
from raysal.sources.of_pool import source_of
from raysal.sources.text import text_of_parts
from raysal.types import Label, Unit

BLOCK_ROWS = 4_096
ALWAYS = ("key", "uri", *FACTS)
"""Columns that every sheet has."""


@dataclass(frozen=True, kw_only=True)
class Seer:
    """What a head says of items, or nothing where there is no head."""

    head: Head | None

    @classmethod
    def of(cls, pool: Pool, head: Head | None) -> Seer:
        """By a head; by none where it is of another kind of vectors."""
        if head is not None:
            try:
                head.check(pool)
            except FingerprintMismatch:  # the labels were matched with this pool after the last round
                head = None
        return cls(head=head)

    @property
    def model(self) -> str:
        """The head's name for label tools; empty without one."""
        return "" if self.head is None else f"raysal-{self.head.version}-{self.head.digest()[:8]}"

    def predict(self, vectors: NDArray[np.floating[Any]]) -> tuple[list[str | None], list[float | None]]:
        """The label that is predicted, and its probability where labels exclude one another.

        Args:
            vectors: [n, d] of the pool.

        Returns:
            Two lists of n.
        """
        head = self.head
        if head is None:
            return [None] * len(vectors), [None] * len(vectors)
        texts: list[str | None] = []
        sure: list[float | None] = []
        for start in range(0, len(vectors), BLOCK_ROWS):
            with one_thread(numpy=True):
                seen = head.see(vectors[start : start + BLOCK_ROWS].astype(np.float32)).astype(np.float64)
                # Not by BLAS, whose bits depend on the rows beside a row.
                outputs = np.einsum("nd,cd->nc", seen, head.weight) + head.bias
                responses = head.likelihood.responses(outputs / head.temperature)
            texts += head.likelihood.texts(responses, head.classes)
            exclusive = head.likelihood.exclusive and head.likelihood.discrete
            sure += responses.max(axis=1).tolist() if exclusive else [None] * len(responses)
        return texts, sure


def sheet_of(
    run: RunDir,
    held: RunLabels,
    keys: Sequence[str] | None,
    answers: Iterable[Label],
    *,
    head: Head | None,
    remarks: ByItem | None = None,
    url: str | None = None,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> Sheet:
    """Gather a sheet.

    Args:
        run: the run.
        held: its labels.
        keys: the items, in order; None for the whole pool, with the coordinates of a map.
        answers: what people said, of any items.
        head: what predicts; without one there is no prediction.
        remarks: their notes and ratings, of any items.
        url: what stands before the keys in the places of the items; by default they are where the pool says.
        facts: rank, score and reason of the items by key; by default those of the round that asked for them last.

    Returns:
        The sheet. Its tables are read from the pool whenever they are asked for.

    Raises:
        PoolError, FingerprintMismatch: the run's pool cannot be opened.
    """
    pool = held.pool()
    seer = Seer.of(pool, head)
    said: dict[str, list[Label]] = {}
    for answer in answers:
        said.setdefault(answer.key, []).append(answer)
    source = Sources(pool, url)
    names = [*ALWAYS, *(["text"] if source.has_texts else []), *([PREDICTION, "probability"] if seer.model else [])]
    names += ["state", "projection_x", "projection_y"] if keys is None else []
    schema = pa.schema([(name, kind) for name, kind in COLUMNS.items() if name in names])
    tables: Callable[[], Iterable[pa.Table]]
    if keys is None:
        tables = lambda: _whole(run, held, pool, seer, source, schema)  # noqa: E731
    else:
        rows = _some(run, pool, seer, source, list(dict.fromkeys(keys)), facts)
        table = _table({name: [row.get(name) for row in rows] for name in schema.names}, schema)
        tables = lambda: [table]  # noqa: E731
    likelihood = held.likelihood
    classes: set[str] = set()
    if likelihood.discrete:
        classes = {name for text in held.ledger.texts for name in likelihood.names_in(text)}
        config = run.require_config()
        classes |= {*config.update.classes, *config.target, *(() if seer.head is None else seer.head.classes)}
        if config.target and classes <= set(config.target):
            classes.add(NEGATIVE)  # somebody must be able to say that an item is not looked for
    return Sheet(
        name=run.path.resolve().name,
        schema=schema,
        tables=tables,
        answers=said,
        remarks=remarks or {},
        pool=pool.fingerprint,
        # Ready vectors are mostly of images; who says where the items are wants them shown.
        modality="image" if url is not None and pool.manifest.modality == "vector" else pool.manifest.modality,
        classes=tuple(sorted(classes)),
        several=likelihood.discrete and not likelihood.exclusive,
        model=seer.model,
        url=url or "",
        problems=source.problems,
    )


def _table(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """Columns of Arrow as they are, and of values."""
    arrow = (pa.Array, pa.ChunkedArray)
    found = [(columns[field.name], field.type) for field in schema]
    cells = [column if isinstance(column, arrow) else array_of(column, kind) for column, kind in found]
    return pa.table(cells, names=schema.names).cast(schema)


class Sources:
    """Where the items of a pool are, and the texts of a pool of texts."""

    def __init__(self, pool: Pool, url: str | None) -> None:
        self._pool, self._url = pool, url
        self.problems: list[str] = []
        self._source: Any = None
        if pool.manifest.modality == "text":
            try:
                self._source = source_of(pool)
            except RaysalError as error:  # of a pool made in memory
                self.problems.append(str(error))

    @property
    def moves(self) -> bool:
        """Whether items are elsewhere than the pool says."""
        return self._url is not None

    @property
    def has_texts(self) -> bool:
        """Whether texts can be read."""
        return self._source is not None

    def place(self, key: str, uri: str | None) -> str | None:
        """Where an item is, for a label tool."""
        return uri if self._url is None else self._url + quote(key)

    def reader(self) -> Callable[[Chunk, Mapping[int, str]], dict[int, str]]:
        """A function that reads texts chunk by chunk, in the order of the chunks. It lists the source once.

        Returns:
            A function of a chunk and {id: key} of some of its items, which returns {id: text}; without those that the
            source has no more. The text of an owner is that of its parts together.
        """
        of_parts = self._reader_of_parts()

        def read(chunk: Chunk, keys: Mapping[int, str]) -> dict[int, str]:
            if self._source is None or not isinstance(chunk, OwnersChunk):
                return of_parts(chunk, keys)
            parts = parts_by_owner(chunk.parts, keys)
            texts = of_parts(chunk, {id: key for own in parts.values() for id, key in own.items()})
            overlap = getattr(self._source, "overlap", 0)
            there = {
                owner: [(key, texts[id]) for id, key in own.items() if id in texts] for owner, own in parts.items()
            }
            return {owner: text_of_parts(own, overlap) for owner, own in there.items() if own}

        return read

    def _reader_of_parts(self) -> Callable[[Chunk, Mapping[int, str]], dict[int, str]]:
        units: Iterator[Unit] | None = None

        def read(chunk: Chunk, keys: Mapping[int, str]) -> dict[int, str]:
            nonlocal units
            if self._source is None or self.problems:
                return {}
            try:
                units = units or iter(self._source.units(self._pool.manifest.chunk_rows))
                unit = next(unit for unit in units if unit.index == chunk.index)
                found = list(zip(sorted(keys), self._source.read(unit, only=frozenset(keys)), strict=True))
            except (RaysalError, OSError, StopIteration, ValueError) as error:
                self.problems.append(str(error) or "the source is shorter now")
                return {}
            return {id: item.payload for id, item in found if item.key == keys[id] and isinstance(item.payload, str)}

        return read


def _facts(run: RunDir, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Rank, score and reason of items, as the last round that asked for them said."""
    left, found = set(keys), {}
    for round in reversed(range(run.rounds)):
        if not left:
            break
        for row in run.batch(round).table.select(["key", *FACTS]).to_pylist():
            if row["key"] in left:
                left.discard(row["key"])
                found[row["key"]] = row
    return found


def _some(
    run: RunDir,
    pool: Pool,
    seer: Seer,
    source: Sources,
    keys: list[str],
    facts: Mapping[str, Mapping[str, Any]] | None,
) -> list[dict[str, Any]]:
    """The rows of some items, in the order of their keys. An item that the pool does not have has its key alone."""
    facts = _facts(run, keys) if facts is None else facts
    rows: dict[str, dict[str, Any]] = {key: {**facts.get(key, {}), "key": key} for key in keys}
    if not keys:
        return []
    found = {item["id"]: item for item in pool.rows_where("key", keys, ["id", "key", "uri"]).to_pylist()}
    for item in found.values():
        rows[item["key"]]["uri"] = source.place(item["key"], item["uri"])
    texts, left = source.reader(), np.array(sorted(found), np.int64)
    for chunk in pool.chunks if seer.model or source.has_texts else ():
        ids = chunk.ids()
        places = np.flatnonzero(np.isin(ids, left))
        if not len(places):
            continue
        here = {id: found[id]["key"] for id in ids[places].tolist()}
        labels, sure = seer.predict(chunk.vectors()[places])
        read = texts(chunk, here)
        for (id, key), label, probability in zip(here.items(), labels, sure, strict=True):
            rows[key] |= {PREDICTION: label, "probability": probability, "text": read.get(id)}
    return list(rows.values())


def _whole(
    run: RunDir, held: RunLabels, pool: Pool, seer: Seer, source: Sources, schema: pa.Schema
) -> Iterator[pa.Table]:
    """The rows of the whole pool, chunk by chunk. What is known of few items is looked up for these alone."""
    centre, axes = map_axes(pool, run.require_config().seed)
    facts = _facts(run, {key for round in range(run.rounds) for key in run.batch(round).keys})
    states, texts = held.ledger.states(), source.reader()
    known = np.array(sorted(states), np.int64)
    for chunk in pool.chunks:
        items = chunk.items(["id", "key", "uri"])
        ids = numbers_of(items["id"])
        vectors = chunk.vectors()
        labels, sure = seer.predict(vectors)
        points = _points(vectors, centre, axes)
        columns: dict[str, Any] = {"key": items["key"], "uri": items["uri"], PREDICTION: labels, "probability": sure}
        if source.moves:
            columns["uri"] = [source.place(key, None) for key in items["key"].to_pylist()]
        if source.has_texts:
            here = texts(chunk, dict(zip(ids.tolist(), items["key"].to_pylist(), strict=True)))
            columns["text"] = [here.get(id) for id in ids.tolist()]
        state: list[str] = ["unlabeled"] * len(ids)
        for place in np.flatnonzero(np.isin(ids, known)).tolist():
            state[place] = states[int(ids[place])]
        of_rounds: dict[str, list[Any]] = {name: [None] * len(ids) for name in FACTS}
        for place in places_of(items["key"], facts):
            row = facts[items["key"][place].as_py()]
            for name in FACTS:
                of_rounds[name][place] = row[name]
        columns |= {"state": state, "projection_x": points[:, 0], "projection_y": points[:, 1], **of_rounds}
        yield _table(columns, schema)


def _points(
    vectors: NDArray[np.float16], centre: NDArray[np.float64], axes: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Where rows are on the map, [n, 2]."""
    blocks = [vectors[start : start + BLOCK_ROWS] for start in range(0, len(vectors), BLOCK_ROWS)]
    found = [np.einsum("nd,dc->nc", block.astype(np.float64) - centre, axes).astype(np.float32) for block in blocks]
    return np.concatenate(found) if found else np.zeros((0, 2), np.float32)
