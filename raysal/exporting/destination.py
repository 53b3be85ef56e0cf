"""Where an export is written: a directory, or a folder of a bucket, for which a directory on this machine works.

In a bucket each shard is put when it is finished, its record behind it, and the manifest last; so another machine may
go on with it. Files are made on this machine, and a shard's own file is deleted here when it is there.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from raysal.buckets import Bucket, Object
from raysal.buckets.cache import cache_folder
from raysal.buckets.lease import Lease
from raysal.commits import Parts, Staged
from raysal.errors import ConfigError, Damaged, PoolError, RunError
from raysal.exporting.finish import Totals, check_finished, totals_of
from raysal.exporting.layout import (
    ANEW,
    DATA,
    ITEMS,
    LOST,
    MANIFEST,
    PLAN,
    SUMS,
    USE_ANOTHER,
    WORK,
    check_place,
    parts_of,
)
from raysal.exporting.options import Options
from raysal.store import KINDS, check_bytes, check_kind, locked, read_sealed

WHOLE = (ITEMS, LOST, SUMS, MANIFEST)
"""What is put when all shards are there, in this order."""
IN_BUCKETS = ("csv", "parquet", "webdataset")
"""The forms whose shards are files of their own, so that they can be put into a bucket."""


class OnDisk:
    """An export in a directory.

    Args:
        directory: where it is made.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def place(self) -> str:
        """Where people find it."""
        return str(self.directory)

    @contextmanager
    def writing(self, options: Options) -> Iterator[None]:
        """Lock the place, with what was written there before at hand.

        Args:
            options: of the export.

        Yields:
            Once, while it is locked.

        Raises:
            ConfigError: the form cannot be written there.
            RunError: the place is of another kind, or another process is at work on it.
            PoolError: it holds something else.
        """
        del options
        check_kind(self.directory, PLAN)
        check_place(self.directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        with locked(self.directory, "export"):
            yield

    def parts(self, options: Options) -> Parts:
        """The shards, of which each counts from its record on."""
        return parts_of(self.directory, options.suffix)

    def begun(self) -> None:
        """Say that the plan is written."""

    def finished(self) -> None:
        """Say that all files are written, the manifest last. What the shards were noted in is deleted."""
        shutil.rmtree(self.directory / WORK, ignore_errors=True)

    def check_finished(self, options: Options) -> Totals:
        """Compare a finished export with what its manifest says.

        Args:
            options: of the export.

        Returns:
            What it holds.

        Raises:
            Damaged: a file is not as it was; the error names it.
        """
        return check_finished(self.directory, options)


class InBucket(OnDisk):
    """An export in a bucket.

    Args:
        url: of the folder.
    """

    def __init__(self, url: str) -> None:
        self.bucket = Bucket(url)
        name = re.sub(r"[^A-Za-z0-9.]+", "-", self.bucket.url).strip("-.")[:80]
        digest = hashlib.sha256(self.bucket.url.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        super().__init__((cache_folder() / "exports" / f"{name}-{digest}").absolute())
        self._listed: dict[str, Object] = {}
        self._lease: Lease | None = None

    @property
    def place(self) -> str:
        """The URL."""
        return self.bucket.url

    @contextmanager
    def writing(self, options: Options) -> Iterator[None]:
        """As of a directory, for all machines. The records of the shards that are there are on this machine then."""
        if options.form not in IN_BUCKETS:
            problem = f"{options.form} is written by renames, which buckets do not have"
            fix = f"export as {', '.join(IN_BUCKETS)}, or to a directory, and copy that"
            raise ConfigError("as", problem, fix)
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.directory, "export"))
            except RunError as busy:
                raise type(busy)(self.place, busy.problem, busy.fix) from None
            mark = f"{self.directory} {os.stat(self.directory).st_ino} {os.uname().nodename}"
            self._check_free(self._list())  # before a lock is written there
            self._lease = stack.enter_context(Lease(self.bucket, mark, "export"))
            self._bring()
            yield
            shutil.rmtree(self.directory, ignore_errors=True)

    def _list(self) -> dict[str, Object]:
        return {found.name: found for found in self.bucket.list() if not found.name.startswith(".")}

    def _check_free(self, listed: dict[str, Object]) -> None:
        """Refuse a folder that holds something else."""
        if PLAN in listed or not listed:
            return
        for marker, what in KINDS.items():
            if marker in listed:
                problem = f"is the place of {what} ({marker}), and an export needs one of its own"
                raise RunError(self.place, problem, USE_ANOTHER)
        raise PoolError(self.place, f"holds something else ({min(listed)})", USE_ANOTHER)

    def _bring(self) -> None:
        """Have the records of what is there, and nothing else, in the directory."""
        for entry in self.directory.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif not entry.name.startswith("."):
                entry.unlink()
        self._listed = self._list()
        for name in sorted(self._listed):
            if name in (PLAN, MANIFEST, SUMS, ITEMS, LOST) or name.startswith(f"{WORK}/"):
                found, target = self._listed[name], self.directory / name
                target.parent.mkdir(parents=True, exist_ok=True)
                self.bucket.fetch(name, target, size=found.size, etag=found.etag)

    def put(self, name: str) -> None:
        """Put a file of the directory into the bucket."""
        assert self._lease is not None
        self._lease.check()
        self._listed[name] = self.bucket.write(name, self.directory / name)

    def check_size(self, name: str, size: int) -> None:
        """Compare the size of an object with its record.

        Raises:
            Damaged: it is missing, or has another size.
        """
        found = self._listed.get(name)
        if found is None or found.size != size:
            problem = "the object is missing" if found is None else f"{found.size} bytes, its record says {size}"
            raise Damaged(self.bucket.url_of(name), problem, ANEW)

    def parts(self, options: Options) -> Parts:
        """The shards; each is put as it is committed."""
        local = super().parts(options)
        return SentParts(local.out, local.files, local.record, ANEW, self)

    def begun(self) -> None:
        """Put the plan."""
        if PLAN not in self._listed:
            self.put(PLAN)

    def finished(self) -> None:
        """Put what is of the whole export, and delete what the shards were noted in."""
        if MANIFEST not in self._listed:
            for name in WHOLE:
                if (self.directory / name).exists():
                    self.put(name)
        self.bucket.delete(sorted(name for name in self._listed if name.startswith(f"{WORK}/")))
        super().finished()

    def check_finished(self, options: Options) -> Totals:
        """As of a directory; of the shards only the sizes, as their bytes are far away."""
        del options
        manifest = read_sealed(self.directory / MANIFEST, ANEW)
        check_bytes(self.directory / SUMS, manifest["sums"], ANEW)
        with open(self.directory / SUMS, encoding="utf-8", newline="\n") as sums:
            for line in sums:
                digest, _, name = line.removesuffix("\n").partition("  ")
                if not name.startswith(f"{DATA}/"):
                    check_bytes(self.directory / name, digest, ANEW)
        for shard in manifest["shards"]:
            self.check_size(shard["name"], shard["bytes"])
        return totals_of(manifest)


@dataclass(frozen=True)
class SentParts(Parts):
    """The shards of an export in a bucket: committed here first, put then, the record last."""

    destination: InBucket

    def commit(self, staged: Staged) -> None:
        """Put the files of a shard, and then its record; its data is deleted here."""
        super().commit(staged)
        for name in sorted(file.name for file in staged.files):
            self.destination.put(name)
            if name.startswith(f"{DATA}/"):
                (self.out / name).unlink()
        self.destination.put(self.record.format(staged.part))

    def check(self, index: int, only: str | None = None) -> int:
        """Compare the record of a shard with its objects: of data the size, of what is noted the bytes."""
        del only
        record = read_sealed(self.record_of(index), self.fix)
        if record.get("index") != index or set(record["files"]) != {name.format(index) for name in self.files}:
            raise Damaged(self.destination.bucket.url_of(self.record.format(index)), "not of this part", self.fix)
        for name, entry in record["files"].items():
            self.destination.check_size(name, entry["bytes"])
            if not name.startswith(f"{DATA}/"):
                check_bytes(self.out / name, entry["sha256"], self.fix)
        return int(record["rows"])
