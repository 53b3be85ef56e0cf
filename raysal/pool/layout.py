"""The files of a pool directory.

    pool.json                 the manifest: what was embedded by which encoder, in how many chunks (sealed)
    vectors/00000.arrow       Arrow IPC, uncompressed, one record batch: fixed_size_list<float16>[dim], the vectors as
                              they were given, times the manifest's scale
    items/00000.parquet       id, key, uri, owner, and the carried columns: one row for each vector, in the same order;
                              owner is the id of what a part is of (`raysal.pool.owners`), and null for what is no part
    quarantine/00000.parquet  id, key, stage, error of the items that could not be embedded
    passed_over.json          the files of the source that are no items, when the job ran last (sealed)
    commits/00000.json        rows, the bytes and sha256 of each file of the chunk, and digests of its contents (sealed)
    keys/00000-00063.idx      keys and ids of these chunks, sorted (`raysal.pool.key_index`); may be deleted
    keys/owners/              the same of owners, in a pool of parts
    source.json               names, sizes and times of the source's files when its contents were last known (sealed)
    source/                   the items of a stream, of which the pool was made (`raysal.sources.spilled`)
    generations/, removed/, replaced/, files/
                              what the pool became since; see `raysal.pool.generations`

A chunk exists if and only if its commit record exists. Files without a record are leftovers of an interrupted job. In a
bucket the files of a chunk have the beginning of their sha256 in their names (`raysal.pool.mirror`). What is in
`source.json` saves a reading of the source, and nothing else: without it, the source's contents are read again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from raysal.errors import Damaged, PoolError, VectorsBlurred
from raysal.pool.place import files_of
from raysal.store import digest_of, read_sealed
from raysal.types import Metric, Modality, PassedOver, Stamp

VERSION, CHANGED = 1, 2
"""Versions of the format, kept in the manifest: of a pool as it was made, and of one that was changed since."""
MANIFEST = "pool.json"
PASSED_OVER = "passed_over.json"
SOURCE = "source.json"
KINDS = ("vectors", "items", "quarantine")
"""The folders that hold one file of every chunk."""
QUARANTINE_SCHEMA = pa.schema(
    [("id", pa.int64()), ("key", pa.string()), ("stage", pa.string()), ("error", pa.string())]
)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a pool holds."""

    dim: int
    """Length of a vector."""
    modality: Modality
    items: int
    """Items in the source's listing, quarantined ones included."""
    chunks: int
    chunk_rows: int
    """Items in one chunk; the last chunk may have fewer."""
    encoder: Mapping[str, Any]
    """The encoder's name, config, fingerprint and preprocessing, JSON-able. `space` is "data" where the fingerprint
    does not say which model made the vectors, so that only their own digest does."""
    source: Mapping[str, Any]
    """The source's name, config and fingerprint, JSON-able."""
    metric: Metric = "cosine"
    """The distance by which neighbours are found. Old pools do not record it; theirs is the cosine."""
    scale: float = 1.0
    """The power of two that given vectors were multiplied by (`raysal.scale`). Only one other than 1 is recorded."""
    measures: tuple[str, ...] = ()
    """What was measured of each item, as columns (`raysal.embedding.measures`). It is recorded where there is any."""
    version: int = VERSION

    @property
    def fingerprint(self) -> str:
        """The identity of a pool before it is filled: source, encoder, listing and metric, but not the chunk size."""
        identity = {
            "dim": self.dim,
            "items": self.items,
            "encoder": self.encoder["fingerprint"],
            "source": self.source["fingerprint"],
        }
        # Pools older than the metric and the scale keep the fingerprint by which runs know them.
        later = {"metric": (self.metric, "cosine"), "scale": (self.scale, 1.0)}
        return digest_of({**identity, **{name: value for name, (value, before) in later.items() if value != before}})

    def write(self, pool: Path) -> None:
        """Write the manifest of a pool directory."""
        record = asdict(self)
        if self.scale == 1:
            del record["scale"]
        if not self.measures:
            del record["measures"]
        files_of(pool).write_record(MANIFEST, record)

    @classmethod
    def read(cls, pool: Path) -> Manifest:
        """Read the manifest of a pool directory.

        Args:
            pool: the directory.

        Returns:
            The manifest.

        Raises:
            PoolError: the directory is no pool, or a pool of another version.
            Damaged: the manifest was altered, or is missing beside commit records.
        """
        path = pool / MANIFEST
        if not path.exists():
            files = files_of(pool)
            if any((pool / "commits").glob("*.json")):
                raise Damaged(files.where(MANIFEST), "the file is missing", "restore it from a copy")
            raise PoolError(
                files.where(""), "not a pool (no pool.json)", "make one with `raysal embed SOURCE --out POOL`"
            )
        record = read_sealed(path)
        if record.get("version") not in (VERSION, CHANGED):
            raise PoolError(path, f"version {record.get('version')}, this raysal reads {CHANGED}", "update raysal")
        try:
            return cls(**record | {"measures": tuple(record.get("measures", ()))})
        except TypeError as error:
            raise Damaged(path, f"not a manifest ({error})", "restore it from a copy") from None


def mark_changed(pool: Path) -> None:
    """Let an older raysal refuse a pool that it would read wrongly, before it changes."""
    manifest = Manifest.read(pool)
    if manifest.version != CHANGED:
        replace(manifest, version=CHANGED).write(pool)


def write_passed_over(pool: Path, passed: PassedOver) -> None:
    """Keep the count of files that the source of a pool left out."""
    files_of(pool).write_record(PASSED_OVER, asdict(passed))


def read_passed_over(pool: Path) -> PassedOver | None:
    """The count of files that the source of a pool left out.

    Args:
        pool: the directory.

    Returns:
        The count; None in pools that do not keep it.

    Raises:
        Damaged: the file was altered.
    """
    path, fix = pool / PASSED_OVER, "delete it, and embed again to count anew"
    if not path.exists():
        return None
    try:
        return PassedOver(**read_sealed(path, fix))
    except TypeError as error:
        raise Damaged(path, f"not a count of files ({error})", fix) from None


def check_blurred(pool: str | Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Refuse a pool of which half the vectors differ by less than float16 can tell.

    Args:
        pool: the directory, for the error.
        records: the commit records of all its chunks.

    Raises:
        VectorsBlurred: as said.
    """
    rows, blurred = 0, 0
    for record in records:
        rows, blurred = rows + record["rows"], blurred + record.get("blurred", 0)
    if blurred and 2 * blurred >= rows:
        raise VectorsBlurred(pool, blurred, rows)


def scale_in(pool: Path) -> float | None:
    """The scale of the pool in a directory, finished or not; None if none was begun there."""
    return Manifest.read(pool).scale if (pool / MANIFEST).exists() else None


def measures_in(pool: Path) -> tuple[str, ...]:
    """What is measured of the items of the pool in a directory, finished or not; nothing if none was begun there."""
    return Manifest.read(pool).measures if (pool / MANIFEST).exists() else ()


def write_stamp(pool: Path, stamp: Stamp) -> None:
    """Remember a source as it is now: what was read of it so far is what the pool holds."""
    facts = asdict(stamp)
    files_of(pool).write_record(SOURCE, {name: facts[name] for name in ("digest", "files", "bytes")})


def read_stamp(pool: Path) -> Stamp | None:
    """The source as it was remembered.

    Args:
        pool: the directory.

    Returns:
        The stamp, without its time; None if none was written.

    Raises:
        Damaged: the file was altered.
    """
    fix = "delete it: the contents of the source are then read again"
    if not (pool / SOURCE).exists():
        return None
    try:
        return Stamp(**read_sealed(pool / SOURCE, fix))
    except TypeError as error:
        raise Damaged(pool / SOURCE, f"not a stamp ({error})", fix) from None


def read_records(pool: Path, manifest: Manifest, chunks: Sequence[range] | None = None) -> dict[int, dict[str, Any]]:
    """Read the commit records, and check the sizes of the files that they list.

    Args:
        pool: the directory.
        manifest: its manifest.
        chunks: the numbers of the chunks to read; None for those that the pool was made of.

    Returns:
        {index of the chunk: record}, in the order of `chunks`, without those that are not committed.

    Raises:
        Damaged: a record was altered or belongs to another chunk, or a file it lists is missing or has another size.
    """
    records = {}
    grown = manifest.version != VERSION
    wanted = [range(manifest.chunks)] if chunks is None else chunks
    known = {index for some in wanted for index in some}
    commits = pool / "commits"
    for name in os.listdir(commits) if commits.is_dir() else ():
        # Order by number: as text, 100000 comes before 99999. Files with other names are not ours.
        number = int(name[:-5]) if name.endswith(".json") and name[:-5].isdecimal() else -1
        ours = number >= 0 and f"commits/{name}" == chunk_file("commits", number)
        if ours and (number in known or not grown):
            records[number] = read_sealed(commits / name, "restore it, or delete it and embed again")
    files = files_of(pool)
    sizes = {kind: files.sizes(kind) for kind in KINDS} if records else {}
    for index, record in sorted(records.items()):
        if not grown and index >= manifest.chunks:
            raise Damaged(
                files.where(chunk_file("commits", index)),
                f"the pool has {manifest.chunks} chunks, not this one",
                "restore pool.json or delete it",
            )
        if record.get("index") != index or not are_files_of(record.get("files", ()), index):
            path = files.where(chunk_file("commits", index))
            raise Damaged(path, "not the record of this chunk", "restore it, or delete it and embed again")
        for name, entry in record["files"].items():
            kind, _, file = name.partition("/")
            if sizes[kind].get(file) != entry["bytes"]:
                files.check_size(name, entry["bytes"], how_to_repair(index))
    return {index: records[index] for some in wanted for index in some if index in records}


def how_to_repair(index: int) -> str:
    """What an error says to do about a damaged file of a committed chunk."""
    return f"restore it, or delete {chunk_file('commits', index)} and embed again"


@dataclass(frozen=True, kw_only=True)
class StagedChunk:
    """A chunk's files, complete under temporary names. They are no part of the pool until they are committed."""

    index: int
    """Number of the chunk, from 0."""
    first_id: int
    """Id of the chunk's first item in the source's listing."""
    rows: int
    """Items with a vector."""
    quarantined: int
    """Items without a vector."""
    attempt: int
    """How many times the chunk was tried before."""
    blurred: int = 0
    """Items that float16 tells too little apart from the others; see `raysal.embedding.rounding`."""
    files: Mapping[str, Mapping[str, Any]]
    """{final path relative to the pool: {temporary, bytes, sha256}}; `temporary` is None for one that lies there."""
    contents: Mapping[str, str] | None = None
    """Digests of what was read and of what was kept; see `raysal.pool.contents`. None if they are not known."""
    parts: int = 0
    """Items with a vector that are parts of an owner; see `raysal.pool.owners`."""


SUFFIXES = {"vectors": "arrow", "items": "parquet", "quarantine": "parquet", "commits": "json"}
TAG = 16
"""Letters of a digest in the name of a file: see `chunk_file`."""
_NAME = re.compile(rf"([0-9]{{5,}})(?:-[0-9a-f]{{{TAG}}})?\.[a-z]+")


def chunk_file(kind: str, index: int, sha256: str = "") -> str:
    """The path of a chunk's file, relative to the pool.

    Args:
        kind: vectors, items, quarantine or commits.
        index: number of the chunk.
        sha256: hex digest of its bytes. In a bucket, where nothing can be renamed, it is in the name: so of two writers
            neither overwrites what the record of the other names. The record says which names a chunk's files have.

    Returns:
        The path.
    """
    tag = f"-{sha256[:TAG]}" if sha256 else ""
    return f"{kind}/{index:05d}{tag}.{SUFFIXES[kind]}"


def number_in(name: str) -> int:
    """The number of the chunk that a file is of by its name, without a folder; -1 if it is of none."""
    found = _NAME.fullmatch(name)
    number = -1 if found is None else int(found[1])
    return number if found is not None and found[1] == f"{number:05d}" else -1


def are_files_of(names: Iterable[str], index: int) -> bool:
    """Whether these are the names of all files of a chunk."""
    kinds = {}
    for name in names:
        kind, _, file = name.partition("/")
        if kind not in KINDS or number_in(file) != index or not file.endswith(f".{SUFFIXES[kind]}"):
            return False
        kinds[kind] = name
    return len(kinds) == len(KINDS)


def vector_schema(dim: int) -> pa.Schema:
    """The schema of a chunk's vectors file."""
    return pa.schema([pa.field("vector", pa.list_(pa.float16(), dim), nullable=False)])
