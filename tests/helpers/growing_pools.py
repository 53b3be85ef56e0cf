"""Pools of small sources that change, what they hold, and a disk that fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from changing_sources import CHUNK, encoder_for
from pool_files import bytes_of

from raysal.embedding.job import EmbedReport, embed
from raysal.pool import Pool
from raysal.sources.base import Source


class Stop(Exception):
    pass


def make(source: Source, out: Path, **options: object) -> EmbedReport:
    options = {"chunk_rows": CHUNK, "max_quarantine": 1.0, **options}
    return embed(source, encoder_for(source), out, **options)  # type: ignore[arg-type]


def held(pool: Pool) -> dict[str, tuple[int, bytes, object]]:
    """{key: id, vector and carried values}."""
    found = {}
    for chunk in pool.chunks:
        rows = zip(chunk.items().to_pylist(), chunk.vectors(), strict=True)
        found |= {row["key"]: (row["id"], vector.tobytes(), row.get("label")) for row, vector in rows}
    return found


def contents(pool: Pool) -> dict[str, object]:
    return {key: value[1:] for key, value in held(pool).items()}


def files_in(pool: Path) -> dict[str, bytes]:
    """The files of a pool, without what tells times."""
    return {name: data for name, data in bytes_of(pool).items() if name not in ("source.json", ".lock")}


class Disk:
    """Fails at one of the renames by which files appear."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.left, real = at, os.replace

        def replace(source: object, target: object) -> None:
            if self.left == 0:
                raise Stop
            self.left -= 1
            real(source, target)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "replace", replace)
