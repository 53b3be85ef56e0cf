"""A pool that cannot be written is curated all the same: what is found is kept in the cache of the machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from near_rows import vectors_with_copies
from pools import make_pool
from warm import python

import raysal
from raysal.curation.home import DERIVED
from raysal.pool import Pool

NOBODY = 65534
PROGRAM = f"""
import os, sys
if os.geteuid() == 0:
    os.setgroups([])
    os.setuid({NOBODY})
from raysal.cli import main
sys.argv = ["raysal", *sys.argv[1:]]
sys.exit(main())
"""
"""A command of a user to whom the pool does not belong; root could write it."""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can write and reach."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def pool(place: Path) -> Iterator[Pool]:
    made = make_pool(place / "pool", vectors_with_copies(0), chunk_rows=64)
    folders = [made.path, *(path for path in made.path.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield made
    for folder in folders:
        folder.chmod(0o755)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_what_is_found_is_kept_in_the_cache(place: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSAL_CACHE", str(place / "cache"))
    before = names(pool.path)
    curated = ("curate", pool.path, "-o", place / "kept.parquet")
    for words in (curated, ("dedup", pool.path, "-o", place / "near.parquet")):
        done = python(PROGRAM, *words)
        assert done.returncode == 0, done.stderr
        assert f"{pool.path} cannot be written: what is found is kept in {place / 'cache'}" in done.stderr
    assert names(pool.path) == before
    (home,) = (place / "cache" / DERIVED).iterdir()
    assert {path.name for path in home.iterdir()} == {"curations", "near"}
    again = python(PROGRAM, *curated, "--json")
    assert again.stdout.count('"resumed": true') == 2
    shutil.copytree(pool.path, place / "other")
    (place / "other").chmod(0o755)
    wanted = raysal.curate(place / "other")
    assert pq.read_table(place / "kept.parquet").equals(wanted.table())
    assert pq.read_table(place / "near.parquet").equals(raysal.dedup(place / "other").table())


def test_where_the_cache_cannot_be_written_either_the_fix_is_named(
    place: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "cache").mkdir(mode=0o555)
    monkeypatch.setenv("RAYSAL_CACHE", str(place / "cache"))
    for words in (("curate", pool.path, "-o", place / "kept.parquet"), ("dedup", pool.path, "-o", place / "a.csv")):
        done = python(PROGRAM, *words)
        assert done.returncode == 2
        assert "(Permission denied); set RAYSAL_CACHE to a folder that can be" in done.stderr
    assert os.listdir(place / "cache") == []
