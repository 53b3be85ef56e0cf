"""The files of a ranking.

    ranking.json                    the pool that all versions are of (sealed)
    versions/0000/version.json      the head, the score and the options (sealed)
    versions/0000/head.safetensors  the head, so that the version can be finished whatever labels came since
    versions/0000/states.arrow      id, state, label of the items that the ledger knew when the version was begun
    versions/0000/cuts.json         which places go to which page (sealed)
    versions/0000/pages/00000.arrow id, key, score, ... best first: the first 65,536 items, or so
    versions/0000/ids/00000.arrow   id, place of the items of some chunks of the pool, in order of id
    versions/0000/keys/00000.arrow  hash of the key, place: those of the lowest hashes, in that order
    versions/0000/runs/00000.arrow  as pages and keys, of some chunks; deleted when the version is finished
    versions/0000/commits/          a record of every file of these four kinds, with its bytes and sha256 (sealed)

A version is finished if and only if `cuts.json` and the records of all pages and keys are there. It is of one head, one
score and one set of options, and never changes then. All tables are uncompressed Arrow IPC of one record batch, so that
they are mapped into memory, and a page is read without the others.

A **place** is a number that says where an item stands: the lower the better. Its upper 32 bits are those of the score,
in their order; its lower 32 bits are the first of `raysal.rng.item_order`, so that equal scores go by a hash of the
item and not by the order of files. Items of one place go by the rest of that order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.commits import Parts
from raysal.errors import Damaged, FingerprintMismatch, PoolError
from raysal.numerics import ceil_div
from raysal.rng import derive
from raysal.store import LOCK, TEMPORARY, read_sealed, write_sealed

VERSION = 1
MANIFEST, VERSIONS = "ranking.json", "versions"
PLAN, STATES, CUTS = "version.json", "states.arrow", "cuts.json"
RUNS = "runs"
RUN_FILE, ID_FILE = "runs/{:05d}.arrow", "ids/{:05d}.arrow"
PAGE_ROWS = 2**16
"""Items of a page file, about 4 MB: to compare it with its record takes some ms."""
RUN_ROWS = 2**18
"""Rows of a run, or more: chunks of images have 1,024, and a merge looks into every run."""
TIES = derive(0, "ranking")
"""Key of the hash that orders items of equal score."""
IDENTITY = ("head", "score", "novelty", "target", "top", "draws", "seed")
"""The fields of a plan by which versions differ."""
RANK_ANEW = "rank again with another --out"
USE_ANOTHER = "use another directory for --out"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What all versions of a ranking have in common, as ranking.json records it."""

    pool: str
    """fingerprint"""
    encoder: str
    """the pool's vector space"""
    place: str
    """where the pool was when the ranking was begun; not a part of what it is"""
    before: tuple[str, ...] = ()
    """fingerprints that the pool had when earlier versions were made, before it grew or shrank"""
    version: int = VERSION

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read the manifest of a ranking.

        Args:
            path: the ranking.

        Returns:
            The manifest.

        Raises:
            PoolError: there is no ranking, or a newer raysal made it.
            Damaged: it is missing beside versions, or was altered.
        """
        file = path / MANIFEST
        if not file.exists():
            if any((path / VERSIONS).glob("*/" + PLAN)):
                raise Damaged(file, "the file is missing", f"restore it from a copy, or {RANK_ANEW}")
            raise PoolError(path, "holds no ranking", "make one with `raysal rank RUN --out DIRECTORY`")
        record = read_sealed(file, f"restore it from a copy, or {RANK_ANEW}")
        if record.get("version") != VERSION:
            raise PoolError(file, f"version {record.get('version')}, this raysal reads {VERSION}", "update raysal")
        try:
            return cls(**{**record, "before": tuple(record.get("before", ()))})
        except TypeError as error:
            raise Damaged(file, f"not a ranking ({error})", RANK_ANEW) from None

    @property
    def pools(self) -> frozenset[str]:
        """Fingerprints of the pool, now and before."""
        return frozenset([self.pool, *self.before])

    def _write(self, path: Path) -> None:
        record = asdict(self)
        if not self.before:
            del record["before"]
        write_sealed(path / MANIFEST, record)

    def begin(self, path: Path, ancestors: Collection[str] = ()) -> None:
        """Begin a ranking, or go on with one of the same pool. For the one writer.

        Args:
            path: the ranking; the directory exists.
            ancestors: fingerprints that the pool had before it grew or shrank.

        Raises:
            FingerprintMismatch: it is of another pool or encoder.
            Damaged: its ranking.json was altered.
        """
        if not (path / MANIFEST).exists() and not any((path / VERSIONS).glob("*/" + PLAN)):
            self._write(path)
        begun = Manifest.read(path)
        if begun.pool != self.pool and begun.pool in ancestors and begun.encoder == self.encoder:
            begun = replace(begun, pool=self.pool, before=(*begun.before, begun.pool))
            begun._write(path)
        for name, what in (("encoder", "the encoder of its pool"), ("pool", "the pool's fingerprint")):
            if getattr(begun, name) != getattr(self, name):
                raise FingerprintMismatch(path, what, getattr(begun, name), getattr(self, name), USE_ANOTHER)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a version holds, as its version.json records it. The same plan makes the same bytes."""

    pool: str
    """fingerprint"""
    items: int
    """items with a vector: all of them are scored"""
    chunks: int
    chunk_rows: int
    head: str | None
    """digest; None for novelty, which needs none"""
    head_version: int | None
    labels: int | None
    """that the head had learnt from"""
    link: str | None
    """name of the head's likelihood"""
    classes: tuple[str, ...]
    score: str
    """a name of `SCORES`, or `novelty`"""
    novelty: Mapping[str, Any] | None
    """name and fields of the novelty"""
    target: tuple[str, ...]
    """the classes that are looked for, in order of name"""
    top: int | None
    """how many of the best items there are; None for all"""
    draws: int | None
    """samples of the posterior; None for a score without"""
    seed: int | None
    """of these samples, or of the sample that novelty goes by"""
    states: str
    """sha256 of states.arrow"""
    held_out: tuple[int, float] | None
    """key and share of the items that the run holds out"""
    page_rows: int = PAGE_ROWS
    run_rows: int = RUN_ROWS
    version: int = VERSION
    head_from: str | None = None
    """whose head it is, for people: of which round, or of all labels there were"""
    labels_digest: str | None = None
    """digest of the labels behind the head; None where they are not known"""

    @property
    def identity(self) -> dict[str, Any]:
        """What makes a version another one: head, score and options."""
        return {name: getattr(self, name) for name in IDENTITY}

    @property
    def total(self) -> int:
        """How many items the version has."""
        return self.items if self.top is None else min(self.top, self.items)

    @property
    def pages(self) -> int:
        """How many pages it has."""
        return max(ceil_div(self.total, self.page_rows), 1)

    def units(self) -> list[range]:
        """The chunks of each run: enough of them that a run has `run_rows` rows."""
        step = max(self.run_rows // self.chunk_rows, 1)
        return [range(first, min(first + step, self.chunks)) for first in range(0, self.chunks, step)]

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read the plan of a version.

        Args:
            path: the directory of the version.

        Returns:
            The plan.

        Raises:
            Damaged: it was altered.
        """
        fix = _anew(path)
        record = read_sealed(path / PLAN, fix)
        names = {field.name for field in fields(cls)}
        if record.get("version") != VERSION or {*record, "head_from", "labels_digest"} != names:
            raise Damaged(path / PLAN, "not the plan of a version", fix)
        held = record["held_out"]
        lists = {name: tuple(record[name]) for name in ("classes", "target")}
        return cls(**{**record, **lists, "held_out": None if held is None else (int(held[0]), float(held[1]))})

    def write(self, path: Path) -> None:
        """Write it into the directory of a version, which exists from then on."""
        write_sealed(path / PLAN, asdict(self))


@dataclass(frozen=True)
class Cuts:
    """Which places go to which page. Page p has those from `first[p]` on, up to `first[p + 1]`."""

    first: tuple[int, ...]
    """[pages]"""
    starts: tuple[int, ...]
    """[pages] how many items stand before each page"""
    last: int
    """the place of the last item; the last page ends with it"""
    ids: tuple[int, ...]
    """[runs] the lowest id of each run; of one without items, that of the next"""

    @classmethod
    def read(cls, path: Path) -> Cuts:
        """Those of a version, from its cuts.json; Damaged where they were altered."""
        record = read_sealed(path / CUTS, _anew(path))
        return cls(tuple(record["first"]), tuple(record["starts"]), record["last"], tuple(record["ids"]))

    def write(self, path: Path) -> None:
        """Write them into the directory of a version."""
        write_sealed(path / CUTS, asdict(self))


def _anew(version: Path) -> str:
    """What an error says to do about a damaged version."""
    return f"delete {version.parent.name}/{version.name} and rank again".replace("{", "{{").replace("}", "}}")


def run_parts(version: Path) -> Parts:
    """The runs of a version, and the places by id beside them."""
    return Parts(version, (RUN_FILE, ID_FILE), "commits/runs/{:05d}.json", _anew(version))


def page_parts(version: Path) -> Parts:
    """The pages of a version."""
    return Parts(version, ("pages/{:05d}.arrow",), "commits/pages/{:05d}.json", _anew(version))


def key_parts(version: Path) -> Parts:
    """The places by key of a version."""
    return Parts(version, ("keys/{:05d}.arrow",), "commits/keys/{:05d}.json", _anew(version))


def is_finished(version: Path, plan: Plan) -> bool:
    """Whether a version is complete. No table is read."""
    if not (version / CUTS).exists() or page_parts(version).missing(plan.pages):
        return False
    return not key_parts(version).missing(key_files(plan))


def key_files(plan: Plan) -> int:
    """How many files the places by key are in."""
    return max(ceil_div(plan.items, plan.run_rows), 1)


def versions_of(path: Path) -> Iterator[Path]:
    """The directories of the versions of a ranking that were begun, in that order."""
    numbered = [file.parent for file in (path / VERSIONS).glob("*/" + PLAN) if file.parent.name.isdecimal()]
    yield from sorted(numbered, key=lambda version: int(version.name))


def check_place(out: Path) -> None:
    """Refuse a directory that holds other files than a ranking.

    Args:
        out: where a ranking is to be written; it need not exist.

    Raises:
        PoolError: the directory holds something else.
    """
    if out.exists() and not out.is_dir():
        raise PoolError(out, "is a file", USE_ANOTHER)
    if not out.is_dir() or (out / MANIFEST).exists():
        return
    ours = {LOCK, VERSIONS}
    other = sorted(e.name for e in out.iterdir() if e.name not in ours and not e.name.startswith(TEMPORARY))
    if other:
        raise PoolError(out, f"holds something else ({other[0]})", USE_ANOTHER)


def write_batch(path: Path, columns: Mapping[str, pa.Array]) -> None:
    """Write columns as one uncompressed record batch of Arrow IPC."""
    batch = pa.record_batch(list(columns.values()), names=list(columns))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def read_batch(path: Path) -> pa.RecordBatch:
    """Map the record batch of a file into memory. The file was compared with its record before.

    Args:
        path: the file.

    Returns:
        The batch.

    Raises:
        Damaged: it is no such file.
    """
    try:
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).get_batch(0)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Damaged(path, f"cannot be read ({error})", RANK_ANEW) from None


def key_cuts(files: int) -> NDArray[np.uint64]:
    """The lowest hash of each file of the places by key, uint64 [files]."""
    return np.array([ceil_div(file * 2**64, files) for file in range(files)], np.uint64)


def dictionary_of(codes: NDArray[np.integer[Any]], names: Sequence[str]) -> pa.Array:
    """Names by their places in a list, as an array of Arrow that holds each name once."""
    kind = pa.int8() if len(names) <= 2**7 else pa.int32()
    values = pa.array(np.ascontiguousarray(codes.astype(kind.to_pandas_dtype())), kind)
    return pa.DictionaryArray.from_arrays(values, pa.array(list(names), pa.string()))


def unfinished(path: Path) -> list[tuple[Path, Plan]]:
    """The versions of a ranking that an interrupted job left, with their plans; none where there is no ranking."""
    plans = [(version, Plan.read(version)) for version in versions_of(path)]
    return [(version, plan) for version, plan in plans if not is_finished(version, plan)]
