"""The sha256 of a source's files, beside those of what a pool took in: for disks whose times tell little.

The table of the files that a generation takes in has them, if the job hashed. What a job learns of files that it need
not take in again, as their contents are the same, is in a table of its own:

    files/sha256.parquet      of files, by the hashes of their names: the generation that took each in last, and the
                              sha256 of its bytes. It saves a comparison of contents, and nothing else; may be deleted
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysal.arrow_values import array_of, numbers_of, text_array
from raysal.embedding.origin import Progress, no_progress
from raysal.errors import Damaged
from raysal.pool.lanes import text_hashes
from raysal.pool.place import files_of
from raysal.pool.sealed_table import check_seal, write_sealed_table
from raysal.pool.taken_files import SHA256, SHA256_TABLE, KnownFiles, digests_in
from raysal.store import sha256_of
from raysal.types import SourceFile

TABLE = SHA256_TABLE
THREADS = 8
"""Threads that hash: a disk in a network answers several at once, and one core hashes 1 to 2 GB/s."""
_SOME = 1 << 10
"""Files whose digests are held at a time."""
_SCHEMA = pa.schema([("name", pa.int64()), ("generation", pa.int64()), SHA256])


def hashed(
    files: Iterable[SourceFile], report: Progress = no_progress, done: int = 0
) -> Iterator[tuple[SourceFile, bytes | None]]:
    """Hash files, several at a time.

    Args:
        files: of a source.
        report: called with (files hashed, 0).
        done: files that were hashed before.

    Yields:
        Each file, without the paths of its parts, and its digest as of `digest_of_file`.
    """
    stream = iter(files)
    with ThreadPoolExecutor(THREADS) as threads:
        while some := list(islice(stream, _SOME)):
            for file, digest in zip(some, threads.map(digest_of_file, some), strict=True):
                done += 1
                report(done, 0)
                yield replace(file, parts=()), digest


def digest_of_file(file: SourceFile) -> bytes | None:
    """The sha256 of a file's bytes; of one of several parts, of the names and digests of these.

    Of an object in a bucket it is that of its etag, which changes with its bytes: nothing is read.

    Args:
        file: of a source.

    Returns:
        32 bytes; None where the source does not say what its parts are, or one cannot be read.
    """
    if not file.parts:
        return None if file.etag is None else sha256(f"etag {file.etag}".encode()).digest()
    try:
        if len(file.parts) == 1:
            return bytes.fromhex(sha256_of(Path(os.fsdecode(file.parts[0]))))
        main = os.path.dirname(os.fsencode(file.parts[0]))
        state = sha256()
        for part in map(os.fsencode, file.parts):
            state.update(os.path.relpath(part, main) + b"\0" + sha256_of(Path(os.fsdecode(part))).encode() + b"\n")
        return state.digest()
    except OSError:
        return None


def recorded_digests(pool: Path, known: KnownFiles) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """What a pool knows of the bytes of its files.

    Args:
        pool: the directory.
        known: the files that it took in, n of them.

    Returns:
        The digests uint8 [n, 32], as of `digest_of_file`, and of which files they are known, bool [n].

    Raises:
        Damaged: the table of the pool cannot be read.
    """
    recorded, has = known.sha256.copy(), known.has_sha256.copy()
    table = files_of(pool).find(TABLE)
    if len(known) and table.exists():
        names, numbers, digests = _read(table, files_of(pool).where(TABLE))
        places = known.places_of_hashes(names)
        rows = np.flatnonzero(places >= 0)
        rows = rows[known.generations[places[rows]] == numbers[rows]]
        recorded[places[rows]], has[places[rows]] = digests[rows], True
    return recorded, has


class FileHashes:
    """Hashes the files of a source as they are met. Memory: 40 bytes a file, and 33 for each that the pool took in."""

    def __init__(self, pool: Path, known: KnownFiles, report: Progress = no_progress) -> None:
        """Read what is recorded.

        Args:
            pool: the directory.
            known: the files that it took in.
            report: called with (files hashed, 0).

        Raises:
            Damaged: the table of the pool cannot be read.
        """
        self._report, self._known, self._done = report, known, 0
        self._recorded, self._has = recorded_digests(pool, known)
        self._names: list[NDArray[np.int64]] = []
        self._found: list[NDArray[np.uint8]] = []

    def same(
        self, files: Sequence[SourceFile], places: NDArray[np.int64]
    ) -> tuple[list[SourceFile], NDArray[np.bool_]]:
        """Hash files, and compare them with what is recorded.

        Args:
            files: n of the source. Each is read once.
            places: of these among the known files [n], -1 for new ones.

        Returns:
            The files, without the paths of their parts. And whether they have the bytes that the pool took in, bool
            [n]; false where that is not recorded.
        """
        whole, digests = zip(*hashed(files, self._report, self._done), strict=True)
        self._done += len(files)
        found = np.frombuffer(b"".join(digest or bytes(32) for digest in digests), np.uint8).reshape(-1, 32)
        read = np.array([digest is not None for digest in digests], bool)
        self._names.append(text_hashes(text_array([file.name for file in files]))[read])
        self._found.append(found[read])
        met = np.flatnonzero(read & (places >= 0))
        met = met[self._has[places[met]]]
        same = np.zeros(len(files), bool)
        same[met] = (self._recorded[places[met]] == found[met]).all(1)
        return list(whole), same

    def digests(self, files: Sequence[SourceFile]) -> list[bytes | None]:
        """The digests of files that were met; None for one that could not be read."""
        names, found = self._met()
        wanted = text_hashes(text_array([file.name for file in files]))
        rows = np.searchsorted(names, wanted).clip(max=max(len(names) - 1, 0))
        there = names[rows] == wanted if len(names) else np.zeros(len(wanted), bool)
        return [found[row].tobytes() if one else None for row, one in zip(rows.tolist(), there.tolist(), strict=True)]

    def write(self, pool: Path) -> None:
        """Record what was met, if nothing of it is to be taken in: it is what the pool holds."""
        names, found = self._met()
        places = self._known.places_of_hashes(names)
        rows = np.flatnonzero(places >= 0)
        at = places[rows]
        if (self._has[at] & (self._recorded[at] == found[rows]).all(1)).all():
            return
        values = pa.py_buffer(np.ascontiguousarray(found[rows]))
        columns = [
            array_of(names[rows], pa.int64()),
            array_of(self._known.generations[at], pa.int64()),
            pa.FixedSizeBinaryArray.from_buffers(SHA256.type, len(rows), [None, values]),
        ]
        table = pa.Table.from_arrays(columns, schema=_SCHEMA)
        files_of(pool).write(TABLE, lambda temporary: write_sealed_table(temporary, _SCHEMA, [table]))

    def _met(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """The hashes of the names of what was met, ascending, and the digests."""
        names = np.concatenate([np.empty(0, np.int64), *self._names])
        found = np.concatenate([np.empty((0, 32), np.uint8), *self._found])
        order = np.argsort(names, kind="stable")
        self._names, self._found = [names[order]], [found[order]]
        return self._names[0], self._found[0]


def _read(path: Path, where: Path | str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Names, generations and digests of the table."""
    fix = "delete it: contents are compared then, and it is made anew"
    check_seal(path, where, fix)
    try:
        table = pq.read_table(path, schema=_SCHEMA)
        return numbers_of(table["name"]), numbers_of(table["generation"]), digests_in(table)[0]
    except (pa.ArrowException, OSError, TypeError, ValueError) as error:
        raise Damaged(where, f"cannot be read ({error})", fix) from None
