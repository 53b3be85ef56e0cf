"""What finished steps found, in a folder of the pool, so that no step is done twice.

    HOME/curations/GENERATION/      one for each generation of the pool that was curated; HOME is the pool where it
                                    can be written (`raysal.curation.home`)
        STEP.json                   what the step is, what was before it, reasons and facts (sealed)
        STEP.dropped.arrow          the items that it dropped: id, reason, nearest, value
        STEP.listed.arrow           what it listed beside, if it did
        work/NAME-BEFORE/           what steps of a name keep over an interruption, of the same items

STEP is a digest of the step and of all that was before it: pool, seed and earlier steps. So the same step upon the same
items is found again, whatever comes after it. All of it is derived: lost, it is made again.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raysal.arrow_values import array_of, numbers_of
from raysal.curation.base import StepResult
from raysal.curation.home import home_of
from raysal.errors import Damaged
from raysal.pool import Pool
from raysal.store import (
    check_bytes,
    digest_of,
    locked,
    locked_if_free,
    read_sealed,
    remove_temporaries,
    sha256_of,
    write_file,
    write_sealed,
)

FOLDER = "curations"
VERSION = 1
FIX = "delete {}, and run the same command again"
_LETTERS = 16
"""Of a digest, in the name of a file."""


@dataclass(frozen=True, kw_only=True)
class FoundStep:
    """What a finished step found."""

    result: StepResult
    seconds: float
    """that it took"""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The folder of one generation of a pool."""

    folder: Path

    @classmethod
    def of(cls, pool: Pool, home: Path | None = None) -> Findings:
        """The folder of a pool; `home` is another place than that of `home_of`, for tests."""
        return cls(folder=_home_of(pool, home) / _name_of(pool.fingerprint))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder, which is made, for one process at a time.

        Yields:
            Once, while it is locked.

        Raises:
            NotNow: another process curates the pool.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, "curation"):
            remove_temporaries(self.folder)
            yield

    def forget_older(self, pool: Pool) -> None:
        """Delete the folders of the generations before that of a pool, unless a process is at work there."""
        for fingerprint in pool.ancestors - {pool.fingerprint}:
            older = self.folder.with_name(_name_of(fingerprint))
            if older.is_dir():
                with locked_if_free(older) as free:
                    if free:
                        shutil.rmtree(older, ignore_errors=True)

    def work_folder(self, name: str, before: str) -> Path:
        """Where steps of a name keep what they have done so far, of the items that are left after `before`."""
        folder = self.folder / "work" / f"{name.replace(':', '.')}-{before[:_LETTERS]}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def has(self, digest: str) -> bool:
        """Whether a step is finished, by the digest of `digest_after`."""
        return self._record_of(digest).exists()

    def read(self, digest: str) -> FoundStep:
        """Read what a finished step found.

        Args:
            digest: of `digest_after`.

        Returns:
            What was written.

        Raises:
            Damaged: a file is not as it was written.
        """
        path = self._record_of(digest)
        fix = FIX.format(self.folder)
        record = read_sealed(path, fix)
        if record.get("digest") != digest:
            raise Damaged(path, "not the record of this step", fix)
        tables = {}
        for kind, sha256 in record["files"].items():
            file = self._file_of(digest, kind)
            check_bytes(file, sha256, fix)
            with pa.OSFile(str(file)) as opened:
                tables[kind] = pa.ipc.open_file(opened).read_all()
        ids, reason, nearest, value = (numbers_of(tables["dropped"][name]) for name in _COLUMNS)
        result = StepResult(
            ids=ids, reason=reason, reasons=tuple(record["reasons"]), nearest=nearest, value=value,
            facts=record["facts"], listed=tables.get("listed"),
        )  # fmt: skip
        return FoundStep(result=result, seconds=record["seconds"])

    def write(self, digest: str, step: Mapping[str, Any], result: StepResult, seconds: float) -> None:
        """Write what a step found; it counts as finished then.

        Args:
            digest: of `digest_after`.
            step: what it is, for people who look into the folder.
            result: what it found.
            seconds: that it took.
        """
        values = (result.ids, result.reason, result.nearest, result.value)
        columns = [array_of(np.ascontiguousarray(v), kind) for v, kind in zip(values, _COLUMNS.values(), strict=True)]
        tables = {"dropped": pa.table(dict(zip(_COLUMNS, columns, strict=True)))}
        tables |= {} if result.listed is None else {"listed": result.listed}
        for kind, table in tables.items():
            write_file(self._file_of(digest, kind), partial(_write, table))
        record = {
            "version": VERSION, "digest": digest, "step": dict(step), "reasons": list(result.reasons),
            "dropped": len(result), "facts": dict(result.facts), "seconds": seconds, "finished": time.time(),
            "files": {kind: sha256_of(self._file_of(digest, kind)) for kind in tables},
        }  # fmt: skip
        write_sealed(self._record_of(digest), record)

    def _record_of(self, digest: str) -> Path:
        return self.folder / f"{digest[:_LETTERS]}.json"

    def _file_of(self, digest: str, kind: str) -> Path:
        return self.folder / f"{digest[:_LETTERS]}.{kind}.arrow"


_COLUMNS = {"id": pa.int64(), "reason": pa.uint8(), "nearest": pa.int64(), "value": pa.float64()}


def digest_at_start(pool: Pool, seed: int) -> str:
    """What is known of the items before the first step."""
    return digest_of({"version": VERSION, "pool": pool.fingerprint, "seed": seed})


def digest_after(before: str, step: Mapping[str, Any]) -> str:
    """What is known of the items after a step: what was before, and what the step is."""
    return digest_of({"before": before, "step": dict(step)})


def _home_of(pool: Pool, home: Path | None) -> Path:
    return home_of(pool) / FOLDER if home is None else home


def _name_of(fingerprint: str) -> str:
    return digest_of({"pool": fingerprint})[:_LETTERS]


def _write(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
