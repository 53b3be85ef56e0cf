"""Write a pool: any number of workers stage chunks, and one driver commits them.

Only the driver renames files. So a worker that the driver has replaced, but that still runs, cannot overwrite a
committed file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysal.arrow_values import array_of, empty_table
from raysal.errors import Damaged, FingerprintMismatch, PoolError
from raysal.pool.contents import ALGORITHM, record_of
from raysal.pool.files import facts_of_file
from raysal.pool.layout import (
    KINDS,
    MANIFEST,
    QUARANTINE_SCHEMA,
    SOURCE,
    Manifest,
    StagedChunk,
    chunk_file,
    read_records,
    vector_schema,
)
from raysal.pool.place import directory_of, files_of, place_of
from raysal.real_numbers import finite_rows
from raysal.scale import scale_words
from raysal.store import check_kind, fsync_path, remove_temporaries, temporary_name
from raysal.types import RESERVED_COLUMNS


class ChunkStage:
    """Writes the files of chunks under temporary names. It runs in a worker."""

    def __init__(self, pool: Path, dim: int) -> None:
        """`pool` is its directory. A worker on another machine finds that of a pool in a bucket by its URL."""
        self.place, self.dim = place_of(pool), dim

    @property
    def pool(self) -> Path:
        """The directory on this machine."""
        return directory_of(self.place, synced=False)

    def write(
        self,
        *,
        index: int,
        first_id: int,
        vectors: NDArray[np.float16],
        ids: NDArray[np.int64],
        keys: Sequence[str],
        uris: Sequence[str | None] | None,
        carried: Mapping[str, Sequence[Any]],
        quarantined: Sequence[tuple[int, str, str, str]],
        blurred: int = 0,
        attempt: int = 0,
        contents: int | None = None,
        method: str = ALGORITHM,
        vectors_digest: int | None = None,
        owners: pa.Array | None = None,
    ) -> StagedChunk:
        """Write one chunk's files under temporary names, with n items that have a vector.

        Args:
            index: number of the chunk, from 0.
            first_id: id of the chunk's first item in the source's listing.
            vectors: float16 [n, dim], finite.
            ids: int64 [n], strictly increasing, from `first_id` or later.
            keys: the items' keys [n], also as an array of Arrow.
            uris: where each item lies [n], if that is known; None if it is of no item.
            carried: {column: values [n]}, also as arrays of Arrow.
            quarantined: (id, key, stage, error) of each item that could not be embedded.
            blurred: items that float16 tells too little apart from the others.
            attempt: how many times this chunk was tried before.
            contents: the sum of the digests of the chunk's items as the source gave them, those that could not be
                embedded included (`raysal.pool.contents`). None if they are not known.
            method: by which these digests were computed.
            vectors_digest: the digest of the vectors by that method, if it is known already.
            owners: int64 [n], the id of the owner that each item is a part of, null for one that is no part
                (`raysal.pool.owners`); None if none is.

        Returns:
            The names, sizes and digests of the files, for `PoolWriter.commit`.

        Raises:
            PoolError: the shapes disagree, ids do not increase, vectors are not finite float16, or a carried column
                mixes types or has a name that the pool itself uses.
            OSError: the disk is full or cannot be written. The temporary files are removed.
        """
        n = len(ids)
        if vectors.shape != (n, self.dim) or len(keys) != n or len(uris if uris is not None else ids) != n:
            raise PoolError(self.pool, f"chunk {index}: vectors {vectors.shape} for {n} items of dim {self.dim}")
        if vectors.dtype != np.float16:
            raise PoolError(self.pool, f"chunk {index}: vectors are {vectors.dtype}, not float16", "convert them")
        if n and (ids[0] < first_id or (ids[1:] <= ids[:-1]).any()):
            raise PoolError(self.pool, f"chunk {index}: ids do not increase from {first_id}", "stage them in order")
        if owners is not None and len(owners) != n:
            raise PoolError(self.pool, f"chunk {index}: {len(owners)} owners for {n} items")
        if not finite_rows(vectors).all():
            raise PoolError(self.pool, f"chunk {index}: a vector is not finite", "quarantine it instead")
        flat = array_of(vectors.reshape(-1), pa.float16())
        column = pa.FixedSizeListArray.from_arrays(flat, self.dim)
        schema = vector_schema(self.dim)
        items = pa.table(
            {
                "id": array_of(ids, pa.int64()),
                "key": keys if isinstance(keys, pa.Array) else array_of(keys, pa.string()),
                "uri": pa.nulls(n, pa.string()) if uris is None else array_of(uris, pa.string()),
                "owner": pa.nulls(n, pa.int64()) if owners is None else owners,
                **{name: self._column(index, name, values, n) for name, values in carried.items()},
            }
        )
        rows = [dict(zip(QUARANTINE_SCHEMA.names, row, strict=True)) for row in quarantined]
        lost = pa.Table.from_pylist(rows, QUARANTINE_SCHEMA) if rows else empty_table(QUARANTINE_SCHEMA)

        def write_vectors(path: Path) -> None:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                writer.write_batch(pa.record_batch([column], schema=schema))

        writers: dict[str, Callable[[Path], object]] = {
            "vectors": write_vectors,
            "items": lambda path: pq.write_table(items, path),
            "quarantine": lambda path: pq.write_table(lost, path),
        }
        pool = self.pool
        files = files_of(pool)
        finals = {kind: pool / chunk_file(kind, index) for kind in KINDS}
        temporaries = {kind: temporary_name(final, f"-{os.urandom(4).hex()}") for kind, final in finals.items()}

        def write_kind(kind: str) -> tuple[str, dict[str, Any]]:
            path = temporaries[kind]
            path.parent.mkdir(exist_ok=True)
            writers[kind](path)
            flushed = helpers.submit(fsync_path, path)  # while the disk writes, the digest is computed
            facts = facts_of_file(path)
            flushed.result()
            return files.stage(path, facts, partial(chunk_file, kind, index))

        try:
            with ThreadPoolExecutor(2 * len(KINDS)) as helpers:
                waiting = [helpers.submit(write_kind, kind) for kind in KINDS]
                held = vectors if vectors_digest is None else vectors_digest
                known = None if contents is None else record_of(contents, held, method)
                staged = dict(done.result() for done in waiting)
        except BaseException:
            for path in temporaries.values():
                path.unlink(missing_ok=True)
            raise
        return StagedChunk(
            index=index,
            first_id=first_id,
            rows=n,
            quarantined=len(quarantined),
            attempt=attempt,
            blurred=blurred,
            files=staged,
            contents=known,
            parts=0 if owners is None else n - owners.null_count,
        )

    def _column(self, index: int, name: str, values: Sequence[Any], n: int) -> pa.Array:
        """A carried column as an Arrow array, after a check of its name, length and type."""
        where = f"chunk {index}: carried column {name!r}"
        if name in RESERVED_COLUMNS:
            raise PoolError(self.pool, f"{where} has a name of the pool's own", "rename it")
        if len(values) != n:
            raise PoolError(self.pool, f"{where} has {len(values)} values for {n} items")
        if isinstance(values, pa.Array):  # one without a value has no type, as if it were a list
            return pa.nulls(n) if values.null_count == n else values
        try:
            return pa.array(values)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise PoolError(self.pool, f"{where} cannot be stored ({error})", "carry values of one type") from None


class PoolWriter:
    """The only writer of a pool directory: it starts or resumes the pool, and commits staged chunks."""

    def __init__(self, path: Path, manifest: Manifest, chunks: range | None = None) -> None:
        """Start a pool, or resume one of the same source and encoder. It removes the files of an interrupted writer.

        Args:
            path: the directory; made if it is missing.
            manifest: what the pool shall hold.
            chunks: the numbers of the chunks to write; None for those that the pool is made of. Others are for a pool
                that grows, whose manifest this is.

        Raises:
            FingerprintMismatch: the directory holds a pool of another source or encoder.
            PoolError: it holds a pool with another chunk size or scale, or of another version.
            RunError: the directory is that of a run, or of predictions.
            Damaged: its manifest or a commit record was altered, or a committed file is missing or has another size.
            OSError: the directory cannot be written.
        """
        check_kind(path, MANIFEST)
        self.path, self.manifest = path, manifest
        self.chunks = range(manifest.chunks) if chunks is None else chunks
        for kind in (*KINDS, "commits"):
            (path / kind).mkdir(parents=True, exist_ok=True)
            remove_temporaries(path / kind)
        for name in (MANIFEST, SOURCE):  # other temporary files beside them are not the pool's
            remove_temporaries(path, name)
        if chunks is None and ((path / MANIFEST).exists() or any((path / "commits").glob("*.json"))):
            self._check_same(Manifest.read(path))
        elif chunks is None:
            manifest.write(path)
        self.committed = read_records(path, manifest, [self.chunks])

    def _check_same(self, begun: Manifest) -> None:
        """Raise an error if the pool in the directory is not the one that the manifest describes."""
        for what in ("encoder", "source"):
            old, new = getattr(begun, what)["fingerprint"], getattr(self.manifest, what)["fingerprint"]
            if old != new:
                raise FingerprintMismatch(
                    self.path, f"the {what}'s fingerprint", old, new, "embed into another directory"
                )
        if begun.chunk_rows != self.manifest.chunk_rows:
            raise PoolError(
                self.path,
                f"was begun with {begun.chunk_rows} rows per chunk, now {self.manifest.chunk_rows}",
                f"pass --chunk-rows {begun.chunk_rows}",
            )
        if begun.scale != self.manifest.scale:
            own = scale_words(begun.scale)
            problem = f"was begun with the scale {own}, now {scale_words(self.manifest.scale)}"
            raise PoolError(self.path, problem, f"pass --scale {own}, or embed into another directory")
        if begun.measures != self.manifest.measures:
            then, now = (", ".join(one.measures) or "none" for one in (begun, self.manifest))
            problem = f"was begun with the measures {then}, now {now}"
            raise PoolError(self.path, problem, "name no measures, or embed into another directory")
        for what in ("dim", "modality", "items", "chunks", "metric"):
            old, new = str(getattr(begun, what)), str(getattr(self.manifest, what))
            if old != new:
                raise FingerprintMismatch(self.path, f"its {what}", old, new, "embed into another directory")

    def commit(self, staged: StagedChunk) -> None:
        """Rename a staged chunk's files, then write its commit record.

        If the chunk is committed already, this removes the staged files and changes nothing else.

        Args:
            staged: what `ChunkStage.write` returned.

        Raises:
            PoolError: the pool has no such chunk.
            Damaged: a staged file is gone; the chunk is not committed.
            OSError: the record cannot be written; the chunk is not committed.
        """
        if staged.index in self.committed:
            for final, entry in staged.files.items():
                if entry["temporary"] is not None:
                    (self.path / final).with_name(entry["temporary"]).unlink(missing_ok=True)
            return
        if staged.index not in self.chunks:
            raise PoolError(self.path, f"chunk {staged.index} of a pool of {self.chunks.stop} chunks")
        for final, entry in staged.files.items():
            if entry["temporary"] is None:
                continue
            target = self.path / final
            source = target.with_name(entry["temporary"])
            if not source.exists():
                raise Damaged(source, "a staged file is gone", "run the job again")
            os.replace(source, target)
            fsync_path(target.parent)
        record = {
            "index": staged.index,
            "first_id": staged.first_id,
            "rows": staged.rows,
            "quarantined": staged.quarantined,
            "attempt": staged.attempt,
            **({"blurred": staged.blurred} if staged.blurred else {}),  # records of other chunks are as they were
            **({"parts": staged.parts} if staged.parts else {}),
            "files": {
                final: {"bytes": entry["bytes"], "sha256": entry["sha256"]} for final, entry in staged.files.items()
            },
            **({} if staged.contents is None else {"contents": dict(staged.contents)}),
        }
        files_of(self.path).write_record(chunk_file("commits", staged.index), record)
        self.committed[staged.index] = record
