"""What lies where in the index of a pool; everything here is derived, and a lost index is built again.

    POOL/index/current.json          the generation in force (sealed)
    POOL/index/0001/index.json       what the index is, how it is searched, what it was measured to find (sealed)
    POOL/index/0001/trained.faiss    the trained index without rows
    POOL/index/0001/00000.faiss      one shard: a run of whole chunks, each row under its number in the shard

A build fills a temporary directory, puts it in place by one rename, and then replaces current.json. The generation
before it is kept for those who are still reading it. Nothing else of the pool is touched.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from raysal.errors import Damaged, FingerprintMismatch, PoolError
from raysal.pool import Pool
from raysal.store import check_size, locked, read_sealed, remove_temporaries, write_sealed
from raysal.types import Metric

R = TypeVar("R")

VERSION = 1
FOLDER = "index"
CURRENT = "current.json"
RECORD = "index.json"
TRAINED = "trained.faiss"
AGAIN = "build it again with `raysal index build {pool}`"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of an index: the chunks `first` to `last` of the pool, inclusive."""

    file: str
    first: int
    last: int
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Located:
    """What a partition needs to search an index: small, and the same for all of them."""

    folder: str
    """in the index of the partition's own pool"""
    kind: str
    metric: Metric
    encoder: str
    """fingerprint of the encoder"""
    shards: tuple[Shard, ...]


@dataclass(frozen=True, kw_only=True)
class Index:
    """One generation of an index, as its record describes it.

    `chunks` are the sha256 of the vector files it covers, in order of the pool. `probes` is how much a search looks
    at: lists of an inverted file, or the breadth of a graph search; 0 where everything is looked at. `overfetch`
    times as many rows as wanted are fetched, and ranked by their exact similarity. `recall` is what share of the
    exact K nearest was found, at K = 10 and 50, by `queries` sampled items, nothing excluded; `error` is the mean
    squared distance of the rows trained on to their centroid (None where nothing is trained).
    """

    path: Path
    kind: str
    why: str
    factory: str
    metric: Metric
    dim: int
    rows: int
    encoder: str
    pool: str
    shards: tuple[Shard, ...]
    chunks: tuple[str, ...]
    shard_rows: int
    lists: int
    probes: int
    overfetch: int
    disk_bytes: int
    build_bytes: int
    search_bytes: int
    recall: Mapping[str, float]
    target_recall: float
    queries: int
    seed: int
    training_rows: int
    trained_at: int
    """rows of the pool when it was trained"""
    trained: str
    """sha256 of trained.faiss"""
    error: float | None
    faiss: str
    built: float
    """seconds since 1970"""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def label(self) -> str:
        """What a search says of it: the kind, the generation, and the beginning of what was trained."""
        return f"{self.kind} {self.name}-{self.trained[:12]}, recall@50 {self.recall['50']:.2f}"

    def located(self) -> Located:
        return Located(
            folder=self.path.name,
            kind=self.kind,
            metric=self.metric,
            encoder=self.encoder,
            shards=self.shards,
        )

    def record(self) -> dict[str, Any]:
        """What index.json holds."""
        return {**{name: value for name, value in asdict(self).items() if name != "path"}, "version": VERSION}

    def write(self) -> None:
        write_sealed(self.path / RECORD, self.record())

    @classmethod
    def read(cls, path: Path) -> Index:
        """Raises: Damaged: the record was altered or is missing. PoolError: it is of a newer version."""
        fix = AGAIN.format(pool=path.parent.parent)
        record = read_sealed(path / RECORD, fix)
        version = record.pop("version", None)
        if version != VERSION:
            newer = f"version {version}, this raysal reads {VERSION}"
            raise PoolError(path / RECORD, newer, f"update raysal, or {fix}")
        try:
            shards = tuple(Shard(**shard) for shard in record.pop("shards"))
            return cls(path=path, shards=shards, chunks=tuple(record.pop("chunks")), **record)
        except (TypeError, KeyError) as error:
            raise Damaged(path / RECORD, f"not the record of an index ({error})", fix) from None


def open_index(pool: Pool, name: str = "current") -> Index:
    """The index of a pool: the generation in force, or the one called `name`. Sizes are checked here; every byte is
    when a partition first reads it.

    Raises:
        PoolError: there is none, or it is of a newer version.
        FingerprintMismatch: it is of another encoder, dim or metric.
        Damaged: its records were altered, or a file is missing or has another size.
    """
    folder = pool.path / FOLDER
    fix = AGAIN.format(pool=pool.path)
    if name == "current":
        if not (folder / CURRENT).exists():
            raise PoolError(pool.path, "has no index", f"build one with `raysal index build {pool.path}`")
        name = in_force(pool.path)
    elif name not in generations(pool.path):
        known = ", ".join(generations(pool.path)) or "none"
        raise PoolError(pool.path, f"has no index {name!r}", f"its generations: {known}")
    index = Index.read(folder / name)
    encoder = str(pool.manifest.encoder["fingerprint"])
    for what, found, expected in (
        ("its encoder's fingerprint", index.encoder, encoder),
        ("its dim", str(index.dim), str(pool.dim)),
        ("its metric", index.metric, pool.metric),
    ):
        if found != expected:
            raise FingerprintMismatch(index.path, what, expected, found, fix)
    for shard in index.shards:
        check_size(index.path / shard.file, shard.bytes, fix)
    return index


def with_index(pool: Pool, use: Callable[[Index], R]) -> R:
    """What `use` makes of the index in force; or of the one that is in force by then, once, where that was exchanged
    so often meanwhile that its files are gone.

    Raises:
        as `open_index`, and what `use` raises.
    """
    name = in_force(pool.path)
    try:
        return use(open_index(pool))
    except Damaged:
        if not name or (pool.path / FOLDER / name).is_dir():
            raise
    return use(open_index(pool))


def in_force(pool: Path) -> str:
    """The name of the generation in force; "" if there is none. Raises: Damaged: the record of it was altered."""
    path = pool / FOLDER / CURRENT
    return str(read_sealed(path, AGAIN.format(pool=pool)).get("generation")) if path.exists() else ""


def generations(pool: Path) -> list[str]:
    """Names of the generations that are whole, oldest first."""
    found = [path.name for path in (pool / FOLDER).glob("*") if path.name.isdecimal() and path.is_dir()]
    return sorted(found, key=int)


def drop_index(pool: Path) -> int:
    """Delete the index of a pool, every generation of it; returns how many there were. The pool stays as it is.

    Raises:
        RunError: a build is under way.
    """
    folder = pool / FOLDER
    if not folder.is_dir():
        return 0
    with locked(folder, "index"):
        (folder / CURRENT).unlink(missing_ok=True)  # first, so that nobody is sent to what is going
        names = generations(pool)
        for name in names:
            shutil.rmtree(folder / name)
        remove_temporaries(folder)
    return len(names)
