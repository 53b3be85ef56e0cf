"""The files of a pool's index. They are derived from the pool: a lost index is built again.

    POOL/index/current.json          the name of the current generation (sealed)
    POOL/index/0001/index.json       what the index is, how it is searched, its measured recall (sealed)
    POOL/index/0001/trained.faiss    the trained index without rows
    POOL/index/0001/00000.faiss      one shard: a run of whole chunks, each row under its number in the shard

A build fills a temporary directory, puts it in place by one rename, and then replaces current.json. The generation
before it stays for those who are still reading it. A build changes nothing else in the pool.
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
REBUILD_FIX = "build it again with `raysal index build {pool}`"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of an index. It holds the chunks `first` to `last` of the pool, both included."""

    file: str
    first: int
    last: int
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class IndexLocation:
    """What a partition needs to search an index. It is small, and the same for all partitions."""

    folder: str
    """name of the generation, in the index of the partition's own pool"""
    kind: str
    metric: Metric
    encoder: str
    """fingerprint of the encoder"""
    shards: tuple[Shard, ...]


@dataclass(frozen=True, kw_only=True)
class Index:
    """One generation of an index, as its record describes it. The fields are those of index.json."""

    path: Path
    kind: str
    why: str
    """why this kind was chosen, in words"""
    factory: str
    """what FAISS was asked for"""
    metric: Metric
    dim: int
    rows: int
    encoder: str
    """fingerprint of the encoder"""
    pool: str
    """fingerprint of the pool"""
    shards: tuple[Shard, ...]
    chunks: tuple[str, ...]
    """sha256 of each vector file it covers, in the pool's order"""
    shard_rows: int
    lists: int
    """inverted lists of a shard; 0 where the kind has none"""
    probes: int
    """how much a search looks at: inverted lists of a shard, or rows in view in a graph; 0 is everything"""
    overfetch: int
    """rows fetched for each one wanted; they are then ranked by exact similarity"""
    disk_bytes: int
    build_bytes: int
    search_bytes: int
    recall: Mapping[str, float]
    """share of the exact K nearest that was found, by K ("10", "50"), with nothing excluded"""
    target_recall: float
    queries: int
    """sampled items that the recall was measured by"""
    seed: int
    training_rows: int
    trained_at: int
    """rows of the pool when it was trained"""
    trained: str
    """sha256 of trained.faiss"""
    error: float | None
    """mean squared distance of the rows trained on to their centroid; None where the kind is not trained"""
    faiss: str
    """version of FAISS"""
    built: float
    """seconds since 1970"""

    @property
    def name(self) -> str:
        """The name of its generation, as `0001`."""
        return self.path.name

    @property
    def label(self) -> str:
        """What a round's record says of it: the kind, the generation, a part of its sha256, and the recall."""
        return f"{self.kind} {self.name}-{self.trained[:12]}, recall@50 {self.recall['50']:.2f}"

    def location(self) -> IndexLocation:
        """What a partition needs to search it."""
        return IndexLocation(
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
        """Write index.json into its directory."""
        write_sealed(self.path / RECORD, self.record())

    @classmethod
    def read(cls, path: Path) -> Index:
        """Read index.json.

        Args:
            path: the directory of the generation.

        Returns:
            The index that it describes.

        Raises:
            Damaged: the record was altered or is missing.
            PoolError: it is of a newer version.
        """
        fix = REBUILD_FIX.format(pool=path.parent.parent)
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
    """Open a generation of a pool's index. Checks the sizes of its files; a partition checks every byte as it reads.

    Args:
        pool: the pool.
        name: a generation, or `current`.

    Returns:
        The index.

    Raises:
        PoolError: there is none, or it is of a newer version.
        FingerprintMismatch: it is of another encoder, dim or metric.
        Damaged: its records were altered, or a file is missing or has another size.
    """
    folder = pool.path / FOLDER
    fix = REBUILD_FIX.format(pool=pool.path)
    if name == "current":
        if not (folder / CURRENT).exists():
            raise PoolError(pool.path, "has no index", f"build one with `raysal index build {pool.path}`")
        name = current_generation(pool.path)
    elif name not in generations(pool.path):
        known = ", ".join(generations(pool.path)) or "none"
        raise PoolError(pool.path, f"has no index {name!r}", f"its generations: {known}")
    index = Index.read(folder / name)
    encoder = pool.vector_space
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
    """Use the current generation of a pool's index.

    Builds may replace the generation twice while it is in use, and then its files are gone. In that case `use` is
    called once more, with the generation that is then current.

    Args:
        pool: the pool.
        use: is called with the index.

    Returns:
        What `use` returns.

    Raises:
        Damaged: as `open_index`, which may raise its other errors, too. `use` may raise its own.
    """
    name = current_generation(pool.path)
    try:
        return use(open_index(pool))
    except Damaged:
        if not name or (pool.path / FOLDER / name).is_dir():
            raise
    return use(open_index(pool))


def current_generation(pool: Path) -> str:
    """The name of the current generation, or "" without an index. Raises Damaged where current.json was altered."""
    path = pool / FOLDER / CURRENT
    return str(read_sealed(path, REBUILD_FIX.format(pool=pool)).get("generation")) if path.exists() else ""


def generations(pool: Path) -> list[str]:
    """The names of the complete generations, oldest first."""
    found = [path.name for path in (pool / FOLDER).glob("*") if path.name.isdecimal() and path.is_dir()]
    return sorted(found, key=int)


def drop_index(pool: Path) -> int:
    """Delete the index of a pool, with all its generations. The pool stays as it is.

    Args:
        pool: the pool directory.

    Returns:
        How many generations there were.

    Raises:
        RunError: a build is at work.
    """
    folder = pool / FOLDER
    if not folder.is_dir():
        return 0
    with locked(folder, "index"):
        (folder / CURRENT).unlink(missing_ok=True)  # first, so that nobody opens a generation that is being deleted
        names = generations(pool)
        for name in names:
            shutil.rmtree(folder / name)
        remove_temporaries(folder)
    return len(names)
