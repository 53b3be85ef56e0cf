"""A whole run: what it refuses to mix, what it says when items were lost, and one writer per pool."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from changing_sources import as_older
from PIL import Image
from pool_files import bytes_of

from raysal.config import parse_config
from raysal.embedding.job import embed
from raysal.embedding.precomputed import Precomputed
from raysal.errors import ConfigError, FingerprintMismatch, PoolError, QuarantineExceeded, RunError, SourceChanged
from raysal.pool import open_pool
from raysal.rounds.arms import validate
from raysal.rounds.loop import resume, run
from raysal.rounds.plan import plan_run
from raysal.rounds.session import Session
from raysal.sources.memory import Memory


def backbone() -> torch.nn.Module:
    """Four colours of an image: as `torch:test_run:backbone`."""
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())


def backbone_too() -> torch.nn.Module:
    return backbone()


def pictures(folder: Path, count: int, seed: int = 0) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def fields(home: Path, folder: Path, **encoder: Any) -> dict[str, Any]:
    return {
        "pool": str(home / "pool"),
        "source": {"name": "folder", "path": str(folder)},
        "encoder": {"name": "torch:test_run:backbone", "size": 8, **encoder},
        "rounds": {"count": 1, "k": 2},
        "fleet": {"backend": "local"},
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of images, the pool of it, and a run that waits for labels."""
    waiting = run(parse_config(fields(tmp_path, pictures(tmp_path / "images", 6))), tmp_path / "run")
    assert waiting.waiting == 2
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 12}, "the encoder's size is 12, expected 8"),
        ({"mean": (0.5, 0.5, 0.5)}, "the encoder's mean"),
        ({"name": "torch:test_run:backbone_too"}, "the encoder is torch:test_run:backbone_too, expected"),
        ({"name": "efficientnet_lite0", "size": 32}, "the encoder is efficientnet_lite0, expected"),
    ],
)
def test_a_pool_of_another_encoder_is_refused(home: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(FingerprintMismatch, match=message):
        run(parse_config(fields(home, home / "images", **change)), home / "other")
    assert not (home / "other").exists(), "the next try may have another config"


def test_a_pool_of_another_source_is_refused(home: Path) -> None:
    with pytest.raises(
        FingerprintMismatch, match=r"7 files, was 6; item 6 \('6.png'\) is new; take it in with `raysal embed`"
    ):
        run(parse_config(fields(home, pictures(home / "more", 7, seed=1))), home / "other")
    config = fields(home, home / "images")
    with pytest.raises(FingerprintMismatch, match="the source is digits, expected folder"):
        run(parse_config({**config, "source": {"name": "digits"}}), home / "other")
    config["source"]["path"] = str(home / "nowhere")
    config["source"]["recursive"] = False
    with pytest.raises(FingerprintMismatch, match="source's recursive is False, expected True"):
        run(parse_config(config), home / "other")


def test_a_pool_of_another_metric_is_refused(home: Path) -> None:
    config = {**fields(home, home / "images"), "embed": {"metric": "l2"}}
    with pytest.raises(FingerprintMismatch, match=r"metric is l2, expected cosine; .*embed.metric = 'cosine'"):
        run(parse_config(config), home / "other")
    run(parse_config({**config, "pool": str(home / "pool-l2")}), home / "other")
    assert open_pool(home / "pool-l2").metric == "l2"


def test_the_same_source_elsewhere_or_out_of_reach_is_not(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(home / "images", home / "copy")
    assert run(parse_config(fields(home, home / "copy")), home / "copied").waiting == 2
    monkeypatch.chdir(home)
    assert run(parse_config(fields(home, Path("images"))), home / "relative").waiting == 2
    (home / "images").rename(home / "gone")
    assert resume(home / "run").waiting == 2
    assert run(parse_config(fields(home, home / "images")), home / "run").waiting == 2


def repaint(folder: Path) -> None:
    """Another picture under the same name, of the same size."""
    file = folder / "4.png"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_a_picture_that_changed_under_its_name_is_noticed(home: Path) -> None:
    config = fields(home, home / "images")
    before = bytes_of(home / "pool")
    repaint(home / "images")
    doors = (
        lambda: resume(home / "run"),
        lambda: run(parse_config(config), home / "other"),
        lambda: plan_run(parse_config(config), home / "other"),
    )
    for door in doors:
        with pytest.raises(SourceChanged, match=r"contents of chunk 0 \('0.png', .*take `source` and `encoder` out"):
            door()
    assert bytes_of(home / "pool") == before
    del config["source"], config["encoder"]
    assert run(parse_config(config), home / "run").waiting == 2, "as the error says"


def test_touched_pictures_are_read_once(home: Path) -> None:
    config, stamp = parse_config(fields(home, home / "images")), home / "pool" / "source.json"
    before = stamp.read_bytes()
    os.utime(home / "images" / "4.png", (0, 0))
    plan_run(config, home / "other")
    assert stamp.read_bytes() == before, "a plan writes nothing"
    checked: list[int] = []

    def count(stage: str, done: int, total: int) -> None:
        checked.extend([done] if stage == "check" else [])

    assert run(config, home / "run", report=count).waiting == 2
    assert checked == [0, 6]
    assert stamp.read_bytes() != before
    assert run(config, home / "run", report=count).waiting == 2
    assert checked == [0, 6]


def test_an_older_pool_stays_what_it_was(home: Path) -> None:
    """Nothing says what its contents were; it is of the names and sizes that it says."""
    config = fields(home, home / "images")
    run(parse_config({**config, "pool": str(home / "old")}), home / "first")
    as_older(home / "old")
    repaint(home / "images")
    assert run(parse_config({**config, "pool": str(home / "old")}), home / "second").waiting == 2
    shutil.copytree(home / "images", home / "copy")
    moved = {**fields(home, home / "copy"), "pool": str(home / "old")}
    assert run(parse_config(moved), home / "third").waiting == 2


def test_ready_vectors_are_compared_whatever_their_length_is_said_to_be(tmp_path: Path) -> None:
    config = lossy(tmp_path, bad=0)
    run(parse_config(config), tmp_path / "run")
    assert resume(tmp_path / "run").finished
    config["encoder"] = {"name": "precomputed", "dim": 5}
    with pytest.raises(FingerprintMismatch, match="dim is 5, expected 3"):
        run(parse_config(config), tmp_path / "five")
    config["encoder"] = {"name": "precomputed", "origin": "another model"}
    with pytest.raises(FingerprintMismatch, match="origin is another model"):
        run(parse_config(config), tmp_path / "origin")


def lossy(home: Path, bad: int) -> dict[str, Any]:
    """A config over a table of 40 labelled vectors, the first `bad` of them not finite."""
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    x[:bad] = np.nan
    columns = {
        "key": [f"k{i}" for i in range(40)],
        "vector": pa.FixedSizeListArray.from_arrays(x.ravel(), 3),
        "label": [str(i % 2) for i in range(40)],
    }
    pq.write_table(pa.table(columns), home / "table.parquet")
    return {
        "pool": str(home / "pool"),
        "source": {"name": "table", "path": str(home / "table.parquet"), "carry": ["label"]},
        "encoder": "precomputed",
        "oracle": "simulated",
        "rounds": {"count": 2, "k": 5},
        "fleet": {"backend": "local"},
    }


def test_a_run_that_lost_too_much_does_its_rounds_and_says_so_every_time(tmp_path: Path) -> None:
    config, out = parse_config(lossy(tmp_path, bad=4)), tmp_path / "run"
    for again in (lambda: run(config, out), lambda: resume(out), lambda: run(config, out)):
        with pytest.raises(QuarantineExceeded) as caught:
            again()
        assert (caught.value.quarantined, caught.value.items, caught.value.allowed) == (4, 40, 0.01)
        with Session(out) as session:
            status = session.status()
        assert (status.rounds, status.labeled, status.finished) == (2, 10, True)
    with pytest.raises(QuarantineExceeded):
        run(config, tmp_path / "second over the pool that is there")


def test_a_run_that_lost_what_it_may_is_fine(tmp_path: Path) -> None:
    config = parse_config({**lossy(tmp_path, bad=4), "embed": {"max_quarantine": 0.1}})
    assert run(config, tmp_path / "run").finished
    assert resume(tmp_path / "run").finished


def test_a_pool_that_nothing_was_said_about_is_taken_as_it_is(tmp_path: Path) -> None:
    """Whoever embedded it allowed for what is lost."""
    config = lossy(tmp_path, bad=4)
    with pytest.raises(QuarantineExceeded):
        run(parse_config(config), tmp_path / "run")
    del config["source"], config["encoder"]
    assert run(parse_config(config), tmp_path / "plain").finished


def test_a_control_arm_of_people_is_found_before_any_work(tmp_path: Path) -> None:
    config = parse_config({"pool": str(tmp_path / "none"), "rounds": {"control": True}, "oracle": "files"})
    with pytest.raises(ConfigError, match=r"rounds\.control"):
        validate(config)


def test_without_a_pool_no_run_is_begun(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="not a pool"):
        run(parse_config({"pool": str(tmp_path / "none")}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_pool_has_one_writer_at_a_time(tmp_path: Path) -> None:
    source = Memory(vectors=np.random.default_rng(0).normal(size=(20, 3)), keys=range(20))
    refused = []

    def meddle(done: int, total: int) -> None:
        if 0 < done < total:
            with pytest.raises(RunError, match="another process is at work on this pool") as caught:
                embed(source, Precomputed(), tmp_path / "pool", chunk_rows=5)
            refused.append(caught.value)

    embed(source, Precomputed(), tmp_path / "pool", chunk_rows=5, report=meddle)
    assert len(refused) == 3
    pool = open_pool(tmp_path / "pool")
    pool.verify()
    assert len(pool) == 20
    assert embed(source, Precomputed(), tmp_path / "pool", chunk_rows=5).embedded == 0, "the lock is let go of"
