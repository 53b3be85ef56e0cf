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
from raysal.store import digest_of, read_sealed, write_sealed
from raysal.types import Modality

VERSION = 1
MANIFEST = "pool.json"
QUARANTINE_SCHEMA = pa.schema([("id", pa.int64()), ("key", pa.string()), ("stage", pa.string()), ("error", pa.string())])


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a pool holds. `encoder` and `source` are JSON-able: their config, fingerprint, and for the encoder its
    preprocessing. `items` counts the source's listing, quarantined ones included."""

    dim: int
    modality: Modality
    items: int
    chunks: int
    chunk_rows: int
    encoder: Mapping[str, Any]
    source: Mapping[str, Any]
    version: int = VERSION

    @property
    def fingerprint(self) -> str:
        """Identity of the pool: equal for equal source, encoder and listing, whatever the chunk size."""
        return digest_of({"dim": self.dim, "items": self.items, "encoder": self.encoder["fingerprint"],
                          "source": self.source["fingerprint"]})

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
