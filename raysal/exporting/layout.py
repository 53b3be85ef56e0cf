"""What lies where in the folder of an export.

    export.json         what it is asked for: pool, choice, form and options (sealed)
    data/00000.tar      the shards (.tar, .parquet, .lance, .csv); of links and coco the files themselves
    images.json         of coco: images, categories and annotations
    items.parquet       for each item: key, id, label, uri, shard, member, bytes, sha256
    lost.csv            key, id, uri, reason of the items without media; only where there are some
    SHA256SUMS          digests of all these, as `sha256sum -c` reads them
    manifest.json       where it came from and what is in it (sealed); written last
    work/index/00000.parquet   what items.parquet is made of, shard by shard
    work/commits/00000.json    the record of a shard (sealed); `work` goes when the export is finished

An export is finished if and only if `manifest.json` is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysal.commits import Parts
from raysal.errors import Damaged, PoolError, RunError
from raysal.store import LOCK, TEMPORARY, read_sealed, remove_temporaries, write_sealed

PLAN, MANIFEST, ITEMS, LOST, SUMS, COCO = (
    "export.json", "manifest.json", "items.parquet", "lost.csv", "SHA256SUMS", "images.json",
)  # fmt: skip
DATA, WORK = "data", "work"
INDEX, COMMITS = f"{WORK}/index/{{:05d}}.parquet", f"{WORK}/commits/{{:05d}}.json"
VERSION = 1
USE_ANOTHER = "name another directory"
ANEW = "delete the directory and export anew"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an export is asked for. The files depend on it and on the media alone."""

    pool: str
    """fingerprint of the pool"""
    choice: Mapping[str, Any]
    """which items"""
    options: Mapping[str, Any]
    """form, and how it is cut"""
    items: int
    """that are chosen"""

    def write(self, out: Path) -> None:
        """Begin an export: write its export.json."""
        write_sealed(out / PLAN, {**self.__dict__, "version": VERSION})

    def check_same(self, place: str, begun: Mapping[str, Any]) -> None:
        """Refuse a directory that was begun with another plan.

        Args:
            place: the path or URL of the export, for errors.
            begun: what its export.json says.

        Raises:
            RunError: a field differs; the error names it.
            PoolError: a newer version began it.
        """
        if begun.get("version") != VERSION:
            raise PoolError(
                f"{place}/{PLAN}", f"version {begun.get('version')}, this raysal reads {VERSION}", "update raysal"
            )
        if begun.get("pool") != self.pool:
            raise RunError(place, "was begun with another pool, or with this one before it changed", USE_ANOTHER)
        for part, own in (("options", self.options), ("choice", self.choice)):
            then = begun.get(part, {})
            for name in {**then, **own}:
                was, now = then.get(name), own.get(name)
                if was != now:
                    digests = all(isinstance(value, str) and len(value) == 64 for value in (was, now))
                    said = f"other {name}" if digests else f"{name} {was!r}, now {now!r}"
                    raise RunError(place, f"was begun with {said}", USE_ANOTHER)


def begin(out: Path, plan: Plan, place: str) -> bool:
    """Begin an export, or find the one that was begun. The directory is locked.

    Args:
        out: the directory.
        plan: what it is to hold.
        place: the path or URL of the export, for errors: of one into a bucket, the directory is in a cache.

    Returns:
        Whether it is finished.

    Raises:
        RunError: it was begun with another plan.
        PoolError: a newer version began it.
        Damaged: a record was altered.
    """
    remove_temporaries(out)
    if not (out / PLAN).exists():
        plan.write(out)
    plan.check_same(place, read_sealed(out / PLAN, ANEW))
    return (out / MANIFEST).exists()


def check_place(out: Path) -> None:
    """Refuse a directory that holds other files.

    Args:
        out: where the export is to be written; it need not exist.

    Raises:
        PoolError: the directory holds something else, or is a file.
    """
    if out.exists() and not out.is_dir():
        raise PoolError(out, "is a file, and an export is a directory", USE_ANOTHER)
    if not out.is_dir() or (out / PLAN).exists():
        return
    other = sorted(e.name for e in out.iterdir() if e.name != LOCK and not e.name.startswith(TEMPORARY))
    if other:
        raise PoolError(out, f"holds something else ({other[0]})", USE_ANOTHER)


def parts_of(out: Path, suffix: str | None) -> Parts:
    """The shards of an export; of a folder of files, what is noted of them."""
    files = (INDEX,) if suffix is None else (f"{DATA}/{{:05d}}{suffix}", INDEX)
    return Parts(out, files, COMMITS, f"delete {out / COMMITS} and export again")


def committed_parts(out: Path, parts: Parts) -> dict[int, int]:
    """The shards that are there, after their bytes were compared with their records.

    Args:
        out: the directory.
        parts: its shards.

    Returns:
        {number: items of it, those that were lost included}, in ascending order.

    Raises:
        Damaged: a file or a record is not as it was written.
    """
    numbers = sorted(int(path.stem) for path in (out / COMMITS).parent.glob("*.json") if path.stem.isdecimal())
    for number in numbers:
        if parts.record_of(number).name != f"{number:05d}.json":
            raise Damaged(parts.record_of(number), "not the record of a shard", ANEW)
    return {number: parts.check(number) for number in numbers}
