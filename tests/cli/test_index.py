"""`raysal index`: what is planned is said before it is built, and what was built is shown."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from cli_tools import cli, refused, write_vectors
from tiers import deep

from raysal.index import open_index, rebuild_in_background
from raysal.pool import open_pool
from raysal.store import locked


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("index")
    answer = cli("embed", write_vectors(home / "v.parquet"), "--out", home / "pool", "--chunk-rows", 50)
    assert answer.code == 0, answer
    return home / "pool"


@pytest.fixture
def pool(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "pool"))


def test_build_info_drop(pool: Path) -> None:
    built = cli("index", "build", pool, "--kind", "ivf_sq8", "--shard-rows", 100, "--partitions", 2, "--json").json
    assert (built["kind"], built["rows"], built["shards"], built["built"]) == ("ivf_sq8", 300, 3, True)
    info = cli("index", "info", pool, "--json").json
    same = built.keys() - {"age_s", "built"}
    assert {name: info[name] for name in same} == {name: built[name] for name in same}
    assert (info["stale"], info["missing_rows"], info["covered_rows"], info["drift"]) == (False, 0, 300, 1.0)
    assert info["recall"] == dict(open_index(open_pool(pool)).recall)
    assert cli("index", "drop", pool, "--json").json["generations"] == 1
    refused(cli("index", "info", pool), "has no index", "raysal index build")


def test_info_is_for_people(pool: Path) -> None:
    cli("index", "build", pool, "--kind", "ivf_flat")
    answer = cli("index", "info", pool)
    assert answer.code == 0
    lines = dict(line.split(maxsplit=1) for line in answer.out.splitlines())
    assert list(lines) == [
        "pool", "generation", "kind", "why", "metric", "rows", "bytes", "memory", "recall", "looks", "covers", "age",
    ]  # fmt: skip
    assert lines["kind"].startswith("ivf_flat (IVF7,Flat)")
    assert lines["covers"] == "all rows"
    assert "@10" in lines["recall"]
    assert "@50" in lines["recall"]


def test_the_plan_is_said_before_and_a_dry_run_builds_nothing(pool: Path) -> None:
    plan = cli("index", "build", pool, "--dry-run", "--json").json
    assert (plan["kind"], plan["built"]) == ("flat", False)
    assert "exact search is as quick" in plan["why"]
    assert plan["disk_bytes"] == 300 * 8 * 4
    parts = [("--partitions", 2, "--backend", name, "--shard-rows", 50) for name in ("local", "ray")]
    here, actors = (cli("index", "build", pool, *words, "--dry-run", "--json").json for words in parts)
    assert actors["search_bytes"] < here["search_bytes"], "what is in one process is there together"
    assert not (pool / "index").exists()
    said = cli("index", "build", pool)
    assert "on disk" in said.err
    assert "in memory to build" in said.err


def test_what_does_not_fit_is_not_built(pool: Path) -> None:
    refused(cli("index", "build", pool, "--kind", "hnsw", "--memory", "10kB"), "10 kB allowed", "hnsw needs")
    for size in ("much", "-1GB", "GB", "0", "1e999GB", "nanGB"):
        refused(cli("index", "build", pool, "--memory", size), "--memory", "8GB")
    assert not (pool / "index").exists()
    assert cli("index", "build", pool, "--kind", "hnsw", "--memory", "1GiB").code == 0


def test_damage_is_an_error_that_names_the_file(pool: Path) -> None:
    cli("index", "build", pool, "--kind", "flat")
    shard = pool / "index" / "0001" / "00000.faiss"
    shard.write_bytes(shard.read_bytes()[:-1])
    refused(cli("index", "info", pool), "00000.faiss", f"raysal index build {pool}")
    assert cli("index", "build", pool, "--kind", "flat").code == 0
    assert cli("index", "info", pool).code == 0


@deep
def test_a_build_in_the_background_takes_its_place_when_it_is_done(pool: Path) -> None:
    assert cli("index", "build", pool, "--kind", "flat").code == 0
    words = ("--kind", "ivf_flat", "--shard-rows", 100, "--memory", "1GB", "--target-recall", 0.5, "--seed", 3)
    answer = cli("index", "build", pool, *words, "--fresh", "--background", "--json").json
    assert (answer["kind"], answer["built"]) == ("ivf_flat", False)
    _, status = os.waitpid(answer["process"], 0)
    assert status == 0, (pool / "index" / "build.log").read_text(encoding="utf-8")
    index = open_index(open_pool(pool))
    assert (index.name, index.kind, index.seed, len(index.shards)) == ("0002", "ivf_flat", 3, 3)
    assert "recall@50" in (pool / "index" / "build.log").read_text(encoding="utf-8")
    assert cli("index", "info", pool, "--json").json["failed"] is None


@deep
def test_info_shows_a_build_that_is_under_way_and_one_that_failed(pool: Path) -> None:
    assert cli("index", "build", pool, "--kind", "flat").code == 0
    info = cli("index", "info", pool, "--json").json
    assert (info["building"], info["failed"]) == (False, None)
    left = pool / "index" / ".tmp-0002-1"
    left.mkdir()  # by a build that died
    assert cli("index", "info", pool, "--json").json["building"] is False
    with locked(pool / "index", "index"):
        assert cli("index", "info", pool, "--json").json["building"] is True
        assert "build       one is under way" in cli("index", "info", pool).out
        left.rmdir()
        child = rebuild_in_background(open_pool(pool), "--kind=flat")
        assert child.wait() == 2
    failed = cli("index", "info", pool, "--json").json["failed"]
    assert "another process is at work on this index" in failed
    assert f"the last one in the background failed: {failed}" in cli("index", "info", pool).out
    assert cli("index", "build", pool, "--kind", "flat").code == 0
    assert cli("index", "info", pool, "--json").json["failed"] is None
    (pool / "index" / "current.json").unlink()
    os.utime(pool / "index" / "build.log")
    refused(cli("index", "info", pool), "has no index; the last one in the background failed", "raysal index build")


def test_a_folder_that_is_no_pool(tmp_path: Path) -> None:
    for command in ("build", "info", "drop"):
        refused(cli("index", command, tmp_path), "not a pool")
    assert list(tmp_path.iterdir()) == []
