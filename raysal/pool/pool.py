"""Read a pool: open, describe, verify and export it, and find items. Vectors are mapped into memory, not loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrays import column_of
from raysal.arrow_values import array_of
from raysal.errors import Damaged, LabelError, PoolError
from raysal.pool.ahead import fetched_ahead
from raysal.pool.chunk import Chunk
from raysal.pool.committed import finished_chunks, quarantined_in
from raysal.pool.contents import maker_of, total_of
from raysal.pool.exported import as_schema, one_schema, write_items
from raysal.pool.finding import Finder
from raysal.pool.generations import Generation, Removed, ancestors_of, number_of
from raysal.pool.info import PoolInfo
from raysal.pool.layout import MANIFEST, Manifest, check_blurred, read_passed_over
from raysal.pool.place import directory_of, place_of
from raysal.pool.verifying import verify_chunks, verify_generations
from raysal.scale import space_of
from raysal.store import Written, digest_of
from raysal.types import POOL_COLUMNS, Metric, PassedOver


class Pool:
    """One generation of a finished pool. In memory it is the manifest and one record per chunk.

    Attributes:
        path: The directory; of a pool in a bucket the one on this machine that stands for it.
        generation: The number of the generation; 0 for a pool that never changed.
        manifest: What was embedded by which encoder; its source and its counts are those of the generation.
        chunks: The chunks in order of their ids.
    """

    def __init__(self, path: str | Path, generation: int | None = None) -> None:
        """Open a finished pool. This checks the sizes of its files; `verify` reads every byte.

        Args:
            path: the directory, or the URL of a pool in a bucket.
            generation: which one; None for the newest. It stays the same while the pool grows and shrinks.

        Raises:
            PoolError: the directory is no pool, or a pool of another version, or has no such generation any more.
            PoolIncomplete: its embed job has not finished.
            Damaged: the manifest or a record was altered, or a file is missing or has another size.
            BucketError: the bucket cannot be listed or read.
        """
        self.path = directory_of(path)
        self.generation, found = finished_chunks(self.path, generation)
        self._committed, self._changed, self._records = found, found.changed, list(found.records.values())
        self.chunks: Sequence[Chunk] = found.chunks
        self.manifest = found.manifest
        if self._changed is not None:
            self.manifest = replace(
                found.manifest,
                items=self._changed.items,
                source=self._changed.source,
                chunks=sum(map(len, found.wanted)),
            )

    def _files(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Path and record of every file of every chunk."""
        for record in self._records:
            yield from record["files"].items()

    def __len__(self) -> int:
        """Items with a vector."""
        return sum(chunk.rows for chunk in self.chunks)

    @property
    def stored(self) -> Pool:
        """The pool whose items its files hold: itself, unless its items are owners (`raysal.pool.owners.OwnersOf`)."""
        return self

    @property
    def place(self) -> str:
        """What the pool is known by on every machine: an absolute path, or a URL."""
        return place_of(self.path)

    @property
    def records(self) -> Sequence[Mapping[str, Any]]:
        """The commit records of its chunks, in the same order."""
        return self._records

    @property
    def changed(self) -> Generation | None:
        """The record of its generation; None for a pool that never changed."""
        return self._changed

    @property
    def removed(self) -> Removed:
        """The items that its chunks hold and that it lacks."""
        return self._committed.removed

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.manifest.dim

    @property
    def metric(self) -> Metric:
        """The distance by which neighbours are found."""
        return self.manifest.metric

    @property
    def scale(self) -> float:
        """What given vectors were multiplied by before they became float16: a power of two, mostly 1."""
        return self.manifest.scale

    @cached_property
    def contents(self) -> str | None:
        """Digest of all that was read of the source: ids, keys, payloads and carried values.

        None for older pools, and for those that changed.
        """
        return total_of(self._records, "items") if self._changed is None else None

    @cached_property
    def fingerprint(self) -> str:
        """The pool's identity: it depends on source, encoder, metric and contents, but not on the chunk size.

        Each generation has its own; see `ancestors`.
        """
        if self._changed is not None:
            return self._changed.fingerprint
        identity = self.manifest.fingerprint
        # Pools older than the digests of contents keep the fingerprint by which runs know them.
        return identity if self.contents is None else digest_of({"pool": identity, "contents": self.contents})

    @cached_property
    def vector_space(self) -> str:
        """Identifies what a number of a vector means: heads and indexes hold for pools of one vector space.

        It says which model made them, or which vectors they are (`raysal.pool.contents.maker_of`), and the scale. All
        generations have that of the first.
        """
        if self._changed is not None:
            return self._changed.vector_space
        return space_of(maker_of(self.manifest.encoder, self._records), self.scale)

    @cached_property
    def ancestors(self) -> frozenset[str]:
        """The fingerprints of this generation and of all before it: an id means the same item in each that has it."""
        before = () if self._changed is None else ancestors_of(self.path, self._changed)
        return frozenset([self.fingerprint, *before])

    def at(self, fingerprint: str) -> Pool:
        """The generation that has a fingerprint, of those that `ancestors` lists; the last one that has it.

        Args:
            fingerprint: one of them.

        Returns:
            The pool of that generation.

        Raises:
            PoolError: it was compacted away.
        """
        return Pool(self.path, number_of(self.path, self._changed, fingerprint))

    @property
    def next_id(self) -> int:
        """The first id that no item has had."""
        return self.manifest.items if self._changed is None else self._changed.next_id

    def first_new_id(self, since: str | None = None) -> int:
        """From which id on items are new.

        Args:
            since: the fingerprint of the generation that was seen last; None is the one before the pool grew last.

        Returns:
            The id; 0 where all items are new, because the pool has not grown.
        """
        if since is not None:
            if since not in self.ancestors:
                return 0
            number = number_of(self.path, self._changed, since)
        else:
            found = self._changed
            while found is not None and found.what != "grown":
                found = Generation.read(self.path, found.number - 1) if found.number > 1 else None
            if found is None:
                return 0
            number = found.number - 1
        # The records tell it, also of a generation that was compacted away.
        return Generation.read(self.path, number).next_id if number else Manifest.read(self.path).items

    def info(self) -> PoolInfo:
        """What the pool is, in numbers and names."""
        return PoolInfo(
            items=len(self),
            dim=self.dim,
            dtype="float16",
            scale=self.scale,
            metric=self.metric,
            chunks=len(self.chunks),
            encoder=str(self.manifest.encoder["name"]),
            quarantined=self.quarantined,
            bytes=sum(entry["bytes"] for _, entry in self._files()),
            passed_over=None if (passed := self.passed_over()) is None else passed.counts,
            generation=self.generation,
            removed=len(self._committed.removed.ids),
        )

    @property
    def quarantined(self) -> int:
        """Items that could not be embedded."""
        return quarantined_in(self._committed)

    def passed_over(self) -> PassedOver | None:
        """The files that the source left out; see `raysal.pool.layout.read_passed_over`."""
        return read_passed_over(self.path)

    @property
    def columns(self) -> list[str]:
        """Names of the items' columns: the pool's own, then the carried ones. It reads one chunk's items."""
        # A chunk without rows may lack the carried columns.
        chunk = next((chunk for chunk in self.chunks if chunk.rows), None) or next(iter(self.chunks), None)
        return list(chunk.items().column_names) if chunk else []

    def verify(self) -> int:
        """Read every file of the pool, and compare it with its record.

        Returns:
            How many files were read, the manifest and the records included.

        Raises:
            Damaged: a file differs. The error names the first one.
        """
        if Pool(self.path, self.generation).manifest != self.manifest:
            raise Damaged(self.path / MANIFEST, "belongs to another pool now", "open the pool again")
        counted = self.passed_over() is not None
        verify_chunks(self.path, self.chunks, self._records)
        own = verify_generations(self.path, self.generation)
        return 1 + own + counted + len(self._records) + sum(1 for _ in self._files())

    def check_blurred(self) -> None:
        """Raise `VectorsBlurred` if half of the vectors differ by less than float16 can tell."""
        check_blurred(self.path, self._records)

    def export(self, out: str | Path, *, overwrite: bool = False) -> int:
        """Write the items' columns into one file, chunk by chunk; into a Parquet file their vectors, too.

        Vectors have the magnitude they were given with: float16 as they are in a pool of scale 1, otherwise float32, or
        float64 where that cannot hold them. Each chunk is one row group.

        Args:
            out: the file to write, with an extension of `raysal.tables.KINDS`.
            overwrite: replace the file that is there; it is kept as `NAME.1`, `NAME.2` ...

        Returns:
            The number of rows.

        Raises:
            ConfigError: the file has another extension.
            PoolError: the chunks hold a carried column in types that no single type can hold.
            OutputExists: another file is there, and `overwrite` is false.
            OSError: `out` cannot be written; nothing is left there.
        """
        self.export_file(out, overwrite=overwrite)
        return len(self)

    def export_file(self, out: str | Path, *, overwrite: bool = False) -> Written:
        """As `export`, but says what became of the file that was there."""
        return write_items(self.path, self.chunks, self.scale, Path(out), overwrite)

    def items(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The items, chunk by chunk.

        Args:
            columns: names of columns. None for all.

        Returns:
            One table for each chunk; a chunk is read when its table is asked for.

        Raises:
            PoolError: the pool has no such column.
        """
        if columns is not None:
            self._check_columns(columns)
        return (chunk.items(columns) for chunk in fetched_ahead(self.chunks, "items"))

    def rows_where(self, column: str, values: Sequence[Any], columns: Sequence[str] | None = None) -> pa.Table:
        """The items whose value in a column is one of the given values.

        It reads the items once; for a key or an id and columns of the pool's own only the chunks that have them. Memory
        grows with the items that are found.

        Args:
            column: the column to look in.
            values: the values to look for.
            columns: names of the columns to return. None for all.

        Returns:
            A table of these columns, in order of id.

        Raises:
            PoolError: the pool has no such column, or a value cannot have the column's type.
        """
        import pyarrow.compute as pc  # a tenth of the time of `raysal pool info`

        names = self.columns if columns is None else list(dict.fromkeys(columns))
        self._check_columns([column, *names])
        found = []
        for chunk in self._finder.chunks_with(column, values, names):
            table = chunk.items([column, *names])
            try:
                kind = table[column].type  # in a chunk where a column is all null, it has no type
                wanted = array_of([v for v in values if v is None] if pa.types.is_null(kind) else values, kind)
                found.append(table.filter(pc.is_in(table[column], value_set=wanted)).select(names))
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                raise PoolError(
                    self.path, f"column {column!r} is {kind}: {error}", "ask for values of that type"
                ) from None
        schema = one_schema(self.path, [table.schema for table in found])
        return pa.concat_tables([as_schema(self.path, schema, table) for table in found])

    def keys_of(self, ids: NDArray[np.int64]) -> dict[int, str]:
        """The keys of items, by id: some pages of the key index for each, or the items of the chunks that have them.

        It needs no `pyarrow.compute`.

        Args:
            ids: int64 [m]; those that the pool does not have are passed over.

        Returns:
            {id: key}.
        """
        return self._finder.keys_of(ids)

    def ids_of(self, keys: Sequence[str]) -> dict[str, int]:
        """The ids of items, by key: some pages of the key index for each. Without an index, it reads the items once.

        Args:
            keys: the items' keys.

        Returns:
            {key: id}.

        Raises:
            LabelError: a key is not in the pool. It says which were lost in embedding, and which are spelled alike.
            ConfigError: the keys are no column of values.
        """
        asked = list(dict.fromkeys(column_of("keys", keys)))
        found = self.ids_there(asked)
        missing = [key for key in asked if key not in found]
        if missing:
            from raysal.pool.absent import words_of_absent

            raise LabelError(self.path, *words_of_absent(self.path, missing, self.items(["key"])))
        return found

    def ids_there(self, keys: Sequence[str]) -> dict[str, int]:
        """The ids of those among some keys that the pool has.

        It reads some pages of the key index for each, and the items once if a key is not found so.

        Args:
            keys: keys of items, of this pool or not.

        Returns:
            {key: id}.
        """
        return self._finder.ids_of(keys)

    def chunks_of(self, ids: Sequence[int]) -> list[Chunk]:
        """The chunks in which items with some ids would be, in order."""
        return self._finder.chunks_of(ids)

    @cached_property
    def _finder(self) -> Finder:
        firsts = [record["first_id"] for record in self._records]
        return Finder(self.path, self.chunks, firsts, self._committed.removed.ids)

    def _check_columns(self, columns: Sequence[str]) -> None:
        """Raise an error if the pool lacks one of these columns."""
        known = None
        for name in columns:
            if name not in POOL_COLUMNS and name not in (known := known or self.columns):
                raise PoolError(self.path, f"has no column {name!r}", f"its columns: {', '.join(known)}")


def open_pool(path: str | Path, generation: int | None = None) -> Pool:
    """Open a finished pool; `Pool` says what is checked and which errors it raises."""
    return Pool(path, generation)
