"""A run over a pool in a bucket makes the picks of one over the same pool on a disk, here and on Ray."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_tools import cli
from killed_runs import FIELDS, trace
from object_store import ObjectStore
from pools import make_pool, mixture

from raysal.buckets import cache, retries
from raysal.config import parse_config
from raysal.pool import open_pool
from raysal.rounds.directory import RunDir
from raysal.rounds.loop import resume, run
from raysal.rounds.session import Session


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool, and a run over it."""
    home = tmp_path_factory.mktemp("local")
    vectors, labels = mixture(240, 8, classes=3, seed=1)
    make_pool(home / "pool", vectors, chunk_rows=50, labels=labels)
    run(parse_config({**FIELDS, "pool": home / "pool"}), home / "run")
    return home


@pytest.fixture
def url(local: Path, bucket_store: ObjectStore) -> str:
    bucket_store.put_folder(local / "pool", "pool/")
    return f"{bucket_store.url}/pool"


def test_the_picks_are_those_over_the_pool_on_a_disk(local: Path, url: str, tmp_path: Path) -> None:
    run(parse_config({**FIELDS, "pool": url, "rounds": {**FIELDS["rounds"], "count": 1}}), tmp_path / "run")
    with Session(tmp_path / "run") as session:
        assert session.pool.place == url
    config = RunDir(tmp_path / "run").config()
    assert config is not None
    assert config.pool == url
    run(parse_config({**FIELDS, "pool": url}), tmp_path / "run")
    assert trace(tmp_path / "run") == trace(local / "run")
    resume(tmp_path / "run", pool=local / "pool")  # it is the same pool
    assert cli("status", tmp_path / "run", "--json").json["pool"] == str(local / "pool")
    resume(tmp_path / "run", pool=url)
    assert cli("status", tmp_path / "run", "--json").json["pool"] == url


def test_actors_of_ray_open_the_pool_by_its_url(local: Path, url: str, ray_session: None, tmp_path: Path) -> None:
    fleet = {"backend": "ray", "partitions": 2}
    run(parse_config({**FIELDS, "pool": url, "fleet": fleet}), tmp_path / "run")
    assert trace(tmp_path / "run") == trace(local / "run")


def write_shard(path: Path, start: int, count: int) -> Path:
    vectors, labels = mixture(count, 4, classes=2, seed=start)
    flat = pa.array(vectors.reshape(-1), pa.float32())
    keys = [f"item-{start + place}" for place in range(count)]
    table = {"key": keys, "vector": pa.FixedSizeListArray.from_arrays(flat, 4), "label": labels}
    pq.write_table(pa.table(table), path)
    return path


def test_the_commands_of_the_page(bucket_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embed, again with a new shard, run, and export: all by URLs, also on a machine that has nothing of it."""
    shards, pool, out = (f"{bucket_store.url}/{name}" for name in ("shards", "pool", "out"))
    for step in range(2):
        bucket_store.put(f"shards/{step}.parquet", write_shard(tmp_path / "shard.parquet", 30 * step, 30))
        monkeypatch.setenv(cache.FOLDER, str(tmp_path / f"machine{step}"))
        done = cli("embed", shards, "--out", pool, "--carry", "label", "--chunk-rows", 10)
        assert done.code == 0, done.err
        assert done.out.startswith(f"{pool}: {30 * (step + 1)} items in {3 * (step + 1)} chunks, 30 embedded now")
    config = {"oracle": {"name": "simulated"}, "rounds": {"count": 2, "k": 5, "holdout": 0}, "seed": 1}
    lines = [f'pool = "{pool}"', 'oracle = "simulated"', "seed = 1", "[rounds]", "count = 2", "k = 5", "holdout = 0"]
    (tmp_path / "config.toml").write_text("\n".join(lines), "utf-8")
    done = cli("run", tmp_path / "config.toml", "--out", tmp_path / "run")
    assert done.code == 0, done.err
    run(parse_config({**config, "pool": open_pool(pool).path, "fleet": {"backend": "local"}}), tmp_path / "again")
    assert trace(tmp_path / "run") == trace(tmp_path / "again")
    done = cli("export", pool, "--as", "parquet", "--run", tmp_path / "run", "-o", out)
    assert done.code == 0, done.err
    assert json.loads(bucket_store.get("out/manifest.json"))["pool_place"] == pool
    for words in (["pool", "info"], ["pool", "verify"], ["select", "-k", 3], ["pool", "quarantine"]):
        command = [*words[:2], pool, *words[2:]] if words[0] == "pool" else [words[0], pool, *words[1:]]
        done = cli(*command)
        assert done.code == 0, (command, done.err)
    missing = cli("pool", "info", f"{bucket_store.url}/nothing")
    assert missing.code == 2
    assert f"{bucket_store.url}/nothing: not a pool" in missing.err
