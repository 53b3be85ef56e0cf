"""A job that fails before its first chunk leaves nothing, and begins nowhere but where nothing else lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_tools import cli, refused
from object_store import ObjectStore
from pool_files import bytes_of
from small_sources import vectors
from source_examples import EXAMPLES

from raysal.buckets import lease
from raysal.embedding.beginning import OWN
from raysal.embedding.job import embed
from raysal.embedding.precomputed import Precomputed
from raysal.errors import EncoderError, PoolError, UserError
from raysal.pool import Pool

MODEL = ("--encoder", "torch:tiny_encoder:build", "--size", 8)
FAILURES: dict[str, tuple[object, ...]] = {
    "no such device": (*MODEL, "--device", "cuda:77"),
    "a device of a model whose dim is known": ("--encoder", "efficientnet_lite0", "--device", "cuda:77"),
    "two devices": (*MODEL, "--device", "cpu,cuda:77"),
    "a device of no kind": (*MODEL, "--device", "toaster"),
    "an encoder of no name": ("--encoder", "nobody"),
    "an encoder of other items": ("--encoder", "sentence:x"),
    "an encoder that is not installed": ("--encoder", "torch:nobody_has_this:build"),
    "a model that is not there": ("--encoder", "finetuned:/nowhere"),
    "an encoder that fails on every item": ("--encoder", "torch:tiny_encoder:broken", "--size", 8),
    "no encoder": (),
    "a scale": (*MODEL, "--scale", "3"),
    "a precision": (*MODEL, "--precision", "float8"),
    "a column": (*MODEL, "--carry", "nobody"),
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    EXAMPLES["folder"](tmp_path / "photos")
    return tmp_path / "photos"


@pytest.mark.parametrize("name", FAILURES)
def test_what_fails_before_the_work_leaves_nothing(name: str, photos: Path, tmp_path: Path) -> None:
    failed = cli("embed", photos, "--out", tmp_path / "new" / "pool", *FAILURES[name])
    assert failed.code == 2, failed.err
    assert not (tmp_path / "new").exists()


class Breaks(Precomputed):
    """Fails on every item, and says so where the first chunk is made."""

    def prepare(self, item):  # type: ignore[no-untyped-def]
        raise RuntimeError("broken")

    def check(self, columns):  # type: ignore[no-untyped-def]
        raise EncoderError("broken", "always")


@pytest.mark.parametrize("there", ["nothing", "a folder", "hidden files"])
def test_what_was_there_stays_and_nothing_else(there: str, tmp_path: Path) -> None:
    pool = tmp_path / "above" / "pool"
    if there != "nothing":
        pool.mkdir(parents=True)
    if there == "hidden files":
        (pool / ".lock").touch()
        (pool / ".notes").write_text("a person's")
    before = bytes_of(tmp_path)
    with pytest.raises(UserError):
        embed(vectors(20), Breaks(), pool, chunk_rows=6)
    assert bytes_of(tmp_path) == before
    assert pool.exists() == (there != "nothing")
    assert (tmp_path / "above").exists() == (there != "nothing")
    embed(vectors(20), Precomputed(), pool, chunk_rows=6)
    assert len(Pool(pool)) == 20


def test_in_a_bucket_nothing_but_the_ended_lock_is_left(bucket_store: ObjectStore) -> None:
    url = f"{bucket_store.url}/pool"
    with pytest.raises(UserError):
        embed(vectors(20), Breaks(), url, chunk_rows=6)
    assert bucket_store.names() == [f"pool/{lease.NAME}"]
    embed(vectors(20), Precomputed(), url, chunk_rows=6)
    assert len(Pool(url)) == 20


def test_a_pool_that_was_begun_stays_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a chunk or without one, as when the process was killed."""
    from raysal.pool import PoolWriter

    real = PoolWriter.commit

    def killed(self: PoolWriter, staged: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PoolWriter, "commit", killed)
    with pytest.raises(KeyboardInterrupt):
        embed(vectors(20), Precomputed(), tmp_path / "pool", chunk_rows=6)
    monkeypatch.setattr(PoolWriter, "commit", real)
    begun = (tmp_path / "pool" / "pool.json").read_bytes()
    with pytest.raises(UserError):
        embed(vectors(20), Breaks(), tmp_path / "pool", chunk_rows=6)
    assert (tmp_path / "pool" / "pool.json").read_bytes() == begun


@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_a_folder_of_something_else_is_refused_and_left_alone(
    where: str, tmp_path: Path, bucket_store: ObjectStore
) -> None:
    out: Path | str = tmp_path / "mine"
    if where == "disk":
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.tex").write_text("a person's")
    else:
        out = f"{bucket_store.url}/mine"
        bucket_store.put("mine/thesis.tex", b"a person's")
    with pytest.raises(PoolError, match=r"holds something else \(thesis.tex\); name a directory that is not there"):
        embed(vectors(20), Precomputed(), out)
    if where == "disk":
        assert bytes_of(tmp_path / "mine") == {"thesis.tex": b"a person's"}
    assert bucket_store.names() == ([] if where == "disk" else ["mine/thesis.tex"])


def test_all_that_a_pool_makes_is_known(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32))
    assert cli("embed", tmp_path / "x.npy", "--out", tmp_path / "pool").code == 0
    np.save(tmp_path / "x.npy", np.random.default_rng(1).normal(size=(12, 3)).astype(np.float32))
    assert cli("embed", tmp_path / "x.npy", "--out", tmp_path / "pool", "--check", "hash").code == 0
    (tmp_path / "keys.txt").write_text("1\n")
    assert cli("pool", "remove", tmp_path / "pool", "--keys", tmp_path / "keys.txt").code == 0
    assert cli("index", "build", tmp_path / "pool", "--kind", "flat").code == 0
    assert {path.name for path in (tmp_path / "pool").iterdir()} - {".lock"} <= OWN
    (tmp_path / "pool" / "pool.json").rename(tmp_path / "kept.json")
    refused(cli("embed", tmp_path / "x.npy", "--out", tmp_path / "pool"), "pool.json")
