"""What lies where in a pool directory.

    pool.json                 the manifest: what was embedded by which encoder, in how many chunks (sealed)
    vectors/00000.arrow       Arrow IPC, uncompressed, one record batch: fixed_size_list<float16>[dim]
    items/00000.parquet       id, key, uri, owner, and the carried columns, row for row beside the vectors
    quarantine/00000.parquet  id, key, stage, error of the items that could not be embedded
    commits/00000.json        rows, and the bytes and sha256 of each file of the chunk (sealed)

A chunk exists if and only if its commit record does. Files without a record are leftovers of an interrupted job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from raysal.errors import Damaged, PoolError
from raysal.store import check_size, digest_of, read_sealed, write_sealed
from raysal.types import Metric, Modality

VERSION = 1
MANIFEST = "pool.json"
KINDS = ("vectors", "items", "quarantine")
QUARANTINE_SCHEMA = pa.schema(
    [("id", pa.int64()), ("key", pa.string()), ("stage", pa.string()), ("error", pa.string())]
)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a pool holds. `encoder` and `source` are JSON-able: their config, fingerprint, and for the encoder its
    preprocessing. `items` counts the source's listing, quarantined ones included. `metric` is what neighbours are found
    by; pools made before it was recorded have the cosine."""

    dim: int
    modality: Modality
    items: int
    chunks: int
    chunk_rows: int
    encoder: Mapping[str, Any]
    source: Mapping[str, Any]
    metric: Metric = "cosine"
    version: int = VERSION

    @property
    def fingerprint(self) -> str:
        """Identity of the pool: equal for equal source, encoder, listing and metric, whatever the chunk size."""
        identity = {
            "dim": self.dim,
            "items": self.items,
            "encoder": self.encoder["fingerprint"],
            "source": self.source["fingerprint"],
        }
        # Pools from before the metric was recorded keep the fingerprint that runs know them by.
        return digest_of(identity if self.metric == "cosine" else {**identity, "metric": self.metric})

    def write(self, pool: Path) -> None:
        write_sealed(pool / MANIFEST, asdict(self))

    @classmethod
    def read(cls, pool: Path) -> Manifest:
        """Raises: PoolError: no pool there, or one of a newer version. Damaged: the manifest was altered."""
        path = pool / MANIFEST
        if not path.exists():
            if any((pool / "commits").glob("*.json")):
                raise Damaged(path, "the file is missing", "restore it from a copy")
            raise PoolError(pool, "not a pool (no pool.json)", "make one with `raysal embed SOURCE --out POOL`")
        record = read_sealed(path)
        if record.get("version") != VERSION:
            raise PoolError(path, f"version {record.get('version')}, this raysal reads {VERSION}", "update raysal")
        try:
            return cls(**record)
        except TypeError as error:
            raise Damaged(path, f"not a manifest ({error})", "restore it from a copy") from None


def read_records(pool: Path, manifest: Manifest) -> dict[int, dict[str, Any]]:
    """The commit records by chunk, in order of the chunks. The sizes of the files they list are checked.

    Raises:
        Damaged: a record was altered or is another chunk's, or a file it lists is missing or of another size.
    """
    records = {}
    for path in (pool / "commits").glob("*.json"):
        # By number: as text, 100000 comes before 99999. Names that no chunk has are not ours to read.
        if path.stem.isdecimal() and path.name == Path(chunk_file("commits", int(path.stem))).name:
            records[int(path.stem)] = read_sealed(path, "restore it, or delete it and embed again")
    for index, record in sorted(records.items()):
        path = pool / chunk_file("commits", index)
        if index >= manifest.chunks:
            raise Damaged(
                path, f"the pool has {manifest.chunks} chunks, not this one", "restore pool.json or delete it"
            )
        if record.get("index") != index or set(record.get("files", ())) != {chunk_file(k, index) for k in KINDS}:
            raise Damaged(path, "not the record of this chunk", "restore it, or delete it and embed again")
        for relative, entry in record["files"].items():
            check_size(pool / relative, entry["bytes"], to_mend(index))
    return dict(sorted(records.items()))


def damaged(file: Path, problem: str, index: int) -> Damaged:
    """The error for a file of a committed chunk."""
    return Damaged(file, problem, to_mend(index))


def to_mend(index: int) -> str:
    """What to do about a damaged file of a committed chunk."""
    return f"restore it, or delete {chunk_file('commits', index)} and embed again"


@dataclass(frozen=True, kw_only=True)
class StagedChunk:
    """A chunk's files, complete under temporary names; they count for nothing until committed."""

    index: int
    first_id: int
    rows: int
    quarantined: int
    attempt: int
    files: Mapping[str, Mapping[str, Any]]
    """final path relative to the pool -> {temporary, bytes, sha256}"""


def chunk_file(kind: str, index: int) -> str:
    """Relative path of a chunk's file; `kind` is vectors, items, quarantine or commits."""
    suffix = {"vectors": "arrow", "items": "parquet", "quarantine": "parquet", "commits": "json"}[kind]
    return f"{kind}/{index:05d}.{suffix}"


def vector_schema(dim: int) -> pa.Schema:
    return pa.schema([pa.field("vector", pa.list_(pa.float16(), dim), nullable=False)])
