"""A run over a pool in a bucket makes the picks of one over the same pool on a disk, here and on Ray."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_tools import cli
from killed_runs import FIELDS, trace
from object_store import ObjectStore
from part_pools import make_part_pool, owners_by_size
from pools import make_pool, mixture
from tiers import deep

from raysal.buckets import retries
from raysal.config import parse_config
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


@pytest.mark.parametrize("parts", [{"by": "owner"}, {"by": "owner", "labels_of": "part"}])
def test_a_run_by_owner_picks_there_as_on_a_disk(parts: dict[str, str], bucket_store: ObjectStore, tmp_path: Path):
    owners = owners_by_size([1, 3, 2] * 20)
    vectors, labels = mixture(len(owners), 8, classes=3, seed=1)
    carried = {"label": [labels[owners.index(owner)] for owner in owners]}
    make_part_pool(tmp_path / "pool", vectors, owners, chunk_rows=50, carried=carried)
    bucket_store.put_folder(tmp_path / "pool", "owners/")
    own = {**FIELDS, "parts": parts, "narrow": "none", "rounds": {"count": 2, "k": 5, "holdout": 0.2}}
    for name, pool in (("here", str(tmp_path / "pool")), ("there", f"{bucket_store.url}/owners")):
        run(parse_config({**own, "pool": pool}), tmp_path / name)
    assert trace(tmp_path / "here") == trace(tmp_path / "there")


@deep
def test_actors_of_ray_open_the_pool_by_its_url(local: Path, url: str, ray_session: None, tmp_path: Path) -> None:
    fleet = {"backend": "ray", "partitions": 2}
    run(parse_config({**FIELDS, "pool": url, "fleet": fleet}), tmp_path / "run")
    assert trace(tmp_path / "run") == trace(local / "run")


def test_a_run_makes_its_pool_in_a_bucket(bucket_store: ObjectStore, tmp_path: Path) -> None:
    vectors, labels = mixture(40, 4, classes=2)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1), pa.float32()), 4)
    table = {"key": [f"item-{place}" for place in range(40)], "vector": flat, "label": labels}
    pq.write_table(pa.table(table), tmp_path / "items.parquet")
    source = {"name": "table", "path": str(tmp_path / "items.parquet"), "carry": ["label"]}
    fields = {**FIELDS, "rounds": {"count": 1, "k": 4, "holdout": 0.2}, "source": source, "encoder": "precomputed"}
    places = f"{bucket_store.url}/pool", str(tmp_path / "pool")
    for place, out in zip(places, ("there", "here"), strict=True):
        result = run(parse_config({**fields, "pool": place}), tmp_path / out)
        assert result.embedded is not None
        assert run(parse_config({**fields, "pool": place}), tmp_path / out).embedded is None
    assert trace(tmp_path / "there") == trace(tmp_path / "here")


def test_commands_take_the_url(url: str) -> None:
    for words in (
        ["pool", "info"],
        ["pool", "verify"],
        ["pool", "quarantine"],
        ["select", "-k", 3],
        ["index", "build"],
    ):
        done = cli(*words, url)
        assert done.code == 0, (words, done.err)
    assert cli("index", "info", url, "--json").json["pool"] == url
    for words in (["pool", "info"], ["select", "-k", 3], ["pool", "compact"]):
        missing = cli(*words, f"{url}/nothing")
        assert missing.code == 2
        assert missing.err.startswith(f"raysal: {url}/nothing: not a pool")
