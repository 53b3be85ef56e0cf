"""A pool that cannot be written is curated all the same: what is found is kept in the cache of the machine."""

from __future__ import annotations

import json
import os
import re
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
import json, os, sys
if os.geteuid() == 0:
    os.setgroups([])
    os.setuid({NOBODY})
from raysal.cli import main
for cache, *words in json.loads(sys.argv[1]):
    os.environ["RAYSAL_CACHE"] = cache
    sys.argv = ["raysal", *words]
    print("code", main(), flush=True)
"""
"""Commands of a user to whom the pool does not belong; root could write it."""


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


def test_what_is_found_is_kept_in_the_cache_or_the_fix_is_named(place: Path, pool: Pool) -> None:
    before = names(pool.path)
    cache, closed = place / "cache", place / "closed"
    closed.mkdir(mode=0o555)
    curate = ["curate", pool.path, "--config", place / "plan.toml", "-o"]
    (place / "plan.toml").write_text('steps = ["near"]')
    commands: list[list[object]] = [
        [closed, *curate, place / "none.parquet"],
        [closed, "dedup", pool.path, "-o", place / "none.parquet"],
        [cache, *curate, place / "kept.parquet"],
        [cache, *curate, place / "again.parquet", "--json"],
        [cache, "dedup", pool.path, "-o", place / "near.parquet"],
    ]
    done = python(PROGRAM, json.dumps([[str(word) for word in words] for words in commands]))
    assert re.findall(r"^code (\d)$", done.stdout, re.MULTILINE) == ["2", "2", "0", "0", "0"], done.stderr
    assert done.stdout.count('"resumed": true') == 1
    assert done.stderr.count("(Permission denied); set RAYSAL_CACHE to a folder that can be") == 2
    assert done.stderr.count(f"{pool.path} cannot be written: what is found is kept in {cache}") == 3
    assert (names(pool.path), os.listdir(closed)) == (before, [])
    (home,) = (cache / DERIVED).iterdir()
    assert {path.name for path in home.iterdir()} == {"curations", "near"}
    shutil.copytree(pool.path, place / "other")
    (place / "other").chmod(0o755)
    assert pq.read_table(place / "kept.parquet").equals(raysal.curate(place / "other", "near").table())
    assert pq.read_table(place / "near.parquet").equals(raysal.dedup(place / "other").table())
