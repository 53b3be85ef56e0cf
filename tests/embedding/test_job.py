"""The embed job on this machine: what it quarantines and why, and the same bytes after any stop."""

from __future__ import annotations

import io
import subprocess
import sys
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pool_files import bytes_of, quarantined
from small_sources import pictures, vectors
from tiers import deep, deep_unless
from tiny_models import Deadly

from raysal.embedding.batches import LOOK_AHEAD_BATCHES
from raysal.embedding.custom import Torch
from raysal.embedding.job import embed
from raysal.embedding.precomputed import Precomputed
from raysal.errors import (
    ConfigError,
    DuplicateKeys,
    EncoderError,
    FingerprintMismatch,
    QuarantineExceeded,
    SourceError,
    UnknownName,
)
from raysal.pool import open_pool
from raysal.sources.folder import Folder
from raysal.sources.memory import Memory
from raysal.sources.text import Text


def save(path: Path, colour: Any, mode: str = "RGB", **options: Any) -> None:
    Image.new(mode, (8, 8), colour).save(path, **options)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    save(folder / "a good.png", (10, 20, 30))
    (folder / "b empty.jpg").write_bytes(b"")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    (folder / "c truncated.jpg").write_bytes(buffer.getvalue()[:-500])
    save(folder / "d cmyk.jpg", (0, 0, 0, 0), "CMYK")
    (folder / "e dangling.png").symlink_to(folder / "nothing")
    save(folder / "f black.png", (0, 0, 0))
    save(folder / "g red.png", (255, 0, 0))
    save(folder / "h clear.png", (0, 0, 0, 0), "RGBA")
    save(folder / "i grey.png", 100, "L")
    return folder


PICKY = Torch(arg="tiny_models:picky", size=4, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.mark.parametrize("batch_size", [1, 2, 64])
@pytest.mark.parametrize("chunk_rows", [2, 0])
def test_bad_items_are_set_aside_with_the_reason_and_the_rest_is_right(
    images: Path, tmp_path: Path, batch_size: int, chunk_rows: int
) -> None:
    out = tmp_path / "pool"
    with pytest.raises(QuarantineExceeded) as caught:
        embed(Folder(path=images), PICKY, out, batch_size=batch_size, chunk_rows=chunk_rows, threads=1)
    assert (caught.value.quarantined, caught.value.items) == (7, 9)
    lost = quarantined(out)
    assert lost["b empty.jpg"] == ("decode", "empty file")
    assert lost["c truncated.jpg"][0] == "decode"
    assert "truncated" in lost["c truncated.jpg"][1]
    assert lost["e dangling.png"][0] == "decode"
    assert "cannot be read" in lost["e dangling.png"][1]
    assert lost["f black.png"] == ("encode", "RuntimeError: a black image")
    assert lost["g red.png"][0] == "encode"
    assert lost["g red.png"][1].startswith("a value of 1e+06 does not fit float16 (at most 65504); ")
    for white in ("d cmyk.jpg", "h clear.png"):
        assert lost[white] == ("encode", "the vector is not finite")
    pool = open_pool(out)
    pool.verify()
    items = [row for table in pool.items() for row in table.to_pylist()]
    assert [(row["id"], row["key"]) for row in items] == [(0, "a good.png"), (8, "i grey.png")]
    assert items[0]["uri"] == str(images / "a good.png")
    rows = np.concatenate([chunk.vectors() for chunk in pool.chunks])
    np.testing.assert_allclose(rows, np.array([[10, 20, 30], [100, 100, 100]]) / 255, atol=1e-3)


def test_a_job_within_the_allowance_reports_what_it_lost(images: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = embed(
        Folder(path=images),
        PICKY,
        tmp_path / "pool",
        chunk_rows=4,
        max_quarantine=0.8,
        report=lambda done, total: seen.append((done, total)),
    )
    assert (report.items, report.quarantined, report.chunks, report.resumed, report.embedded) == (
        9,
        7,
        3,
        0,
        9,
    )
    assert seen == [(0, 9), (4, 9), (8, 9), (9, 9)]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_broken_encoder_stops_the_job(tmp_path: Path, batch_size: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 5), dtype=np.uint8)
    source = Memory(images=list(pixels), keys=range(6))
    with pytest.raises(EncoderError, match="fails on every item: RuntimeError: wires crossed"):
        embed(source, Torch(arg="tiny_models:broken", size=4), tmp_path / "pool", batch_size=batch_size)
    assert not (tmp_path / "pool").exists()


def test_vectors_are_copied_and_bad_ones_quarantined(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float64).reshape(6, 2)
    values[1, 0], values[2, 1], values[3, 0], values[4, 1] = np.nan, np.inf, 1e300, 7e4
    source = Memory(vectors=values, keys=range(6))
    report = embed(source, Precomputed(), tmp_path / "pool", max_quarantine=1, scale=1)
    assert report.quarantined == 4
    lost = quarantined(tmp_path / "pool")
    assert [lost[key][0] for key in "1234"] == ["decode", "decode", "encode", "encode"]
    assert np.array_equal(open_pool(tmp_path / "pool").chunks[0].vectors(), values[[0, 5]].astype(np.float16))


def test_vectors_of_another_length_are_quarantined(tmp_path: Path) -> None:
    source = Memory(vectors=[[1.0, 2.0], [1.0], [1.0, 2.0, 3.0], [3.0, 4.0]], keys=list("abcd"))
    embed(source, Precomputed(), tmp_path / "pool", max_quarantine=1)
    assert set(quarantined(tmp_path / "pool")) == {"b", "c"}


def test_the_bytes_depend_on_neither_decode_threads_nor_a_second_run(images: Path, tmp_path: Path) -> None:
    made = []
    for threads in (1, 4):
        out = tmp_path / f"pool-{threads}"
        options: dict[str, Any] = {"chunk_rows": 4, "batch_size": 3, "max_quarantine": 1, "threads": 1}
        embed(Folder(path=images), PICKY, out, decode_threads=threads, **options)
        before = bytes_of(out)
        assert embed(Folder(path=images), PICKY, out, **options).resumed == 3
        assert bytes_of(out) == before
        made.append(before)
    assert made[0] == made[1]


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from raysal.embedding.job import embed
from raysal.embedding.precomputed import Precomputed
from small_sources import vectors

step, count, replace = int(sys.argv[2]), 0, os.replace

def deadly(source, target):
    global count
    count += 1
    if count == step:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = deadly
embed(vectors(), Precomputed(), sys.argv[1], chunk_rows=5)
"""


@pytest.mark.parametrize("step", deep_unless([4], [1, 2, 4, 5, 9]))
def test_a_job_killed_at_any_rename_ends_with_the_same_bytes(tmp_path: Path, step: int) -> None:
    """Renames: the manifest, then for each chunk its three files and its record."""
    whole, out = tmp_path / "whole", tmp_path / "pool"
    embed(vectors(), Precomputed(), whole, chunk_rows=5)
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(out), str(step)],
        env={"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert child.returncode == -9
    report = embed(vectors(), Precomputed(), out, chunk_rows=5)
    assert report.resumed == max(0, (step - 2) // 4)
    assert bytes_of(out) == bytes_of(whole)


RUNNING = """
import sys
from raysal.embedding.custom import Torch
from raysal.embedding.job import embed
from small_sources import pictures

def stop_at_120(done, total):
    print(done, flush=True)
    if done >= 120:
        sys.stdin.read()  # waits until it is killed

embed(pictures(), Torch(arg="tiny_models:weighted", size=8), sys.argv[1], chunk_rows=8, threads=1, report=stop_at_120)
"""


@deep
def test_a_job_killed_while_it_works_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """The job is killed with SIGKILL soon after its second commit, wherever it then is."""
    whole, out = tmp_path / "whole", tmp_path / "pool"
    encoder = Torch(arg="tiny_models:weighted", size=8)
    embed(pictures(), encoder, whole, chunk_rows=8, threads=1)
    with subprocess.Popen(
        [sys.executable, "-c", RUNNING, str(out)],
        env={"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert [child.stdout.readline() for _ in range(3)] == ["0\n", "8\n", "16\n"]
        child.kill()
    assert child.returncode == -9
    report = embed(pictures(), encoder, out, chunk_rows=8, threads=1)
    assert 2 <= report.resumed < 20
    assert bytes_of(out) == bytes_of(whole)


def test_ctrl_c_leaves_a_pool_that_can_be_gone_on_with(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(vectors(), Precomputed(), tmp_path / "pool", chunk_rows=5, report=interrupt)
    assert embed(vectors(), Precomputed(), tmp_path / "pool", chunk_rows=5).resumed == 2
    embed(vectors(), Precomputed(), tmp_path / "whole", chunk_rows=5)
    assert bytes_of(tmp_path / "pool") == bytes_of(tmp_path / "whole")


def test_a_pool_of_another_encoder_or_source_is_not_mixed(tmp_path: Path) -> None:
    out = tmp_path / "pool"
    embed(vectors(), Precomputed(origin="a"), out)
    with pytest.raises(FingerprintMismatch, match="encoder"):
        embed(vectors(), Precomputed(origin="b"), out)
    with pytest.raises(FingerprintMismatch, match="source"):
        embed(vectors(21), Precomputed(origin="a"), out)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, ConfigError, "embed.batch_size"),
        ({"chunk_rows": 10**6}, ConfigError, "embed.chunk_rows"),
        ({"max_quarantine": float("nan")}, ConfigError, "embed.max_quarantine"),
        ({"decode_threads": 0}, ConfigError, "embed.decode_threads"),
        ({"backend": "dask"}, UnknownName, "local, ray"),
    ],
)
def test_arguments_out_of_range_are_named(tmp_path: Path, options: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        embed(vectors(), Precomputed(), tmp_path / "pool", **options)
    assert not (tmp_path / "pool").exists()


def test_a_source_that_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "pool"
    with pytest.raises(EncoderError, match="takes images, the source gives vectors"):
        embed(vectors(), PICKY, out)
    with pytest.raises(DuplicateKeys, match="twice"):
        embed(Memory(vectors=np.ones((3, 2)), keys=["a", "twice", "twice"]), Precomputed(), out)
    assert not out.exists()


def test_a_source_that_changes_under_the_job_is_an_error(tmp_path: Path) -> None:
    class Shrinking(Folder):
        def read(self, unit: Any, only: Any = None) -> Any:
            return list(super().read(unit, only))[:-1]

    save(tmp_path / "a.png", (1, 2, 3))
    save(tmp_path / "b.png", (1, 2, 3))
    with pytest.raises(SourceError, match=r"b.png: was listed, and is gone"):
        embed(Shrinking(path=tmp_path), PICKY, tmp_path / "pool")


def test_carried_columns_lie_beside_the_vectors(tmp_path: Path) -> None:
    embed(vectors(), Precomputed(), tmp_path / "pool", chunk_rows=7)
    table = pq.read_table(tmp_path / "pool" / "items" / "00002.parquet")
    assert table["key"].to_pylist() == [f"k{i}" for i in range(14, 20)]
    assert table["label"].to_pylist() == [str(i % 3) for i in range(14, 20)]


def test_texts_without_content_do_not_reach_the_model(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text('{"key": 1, "text": "a"}\n{"key": 2, "text": null}\n{"key": 3, "text": 5}\n', encoding="utf-8")
    items = list(Text(path=file).read(next(Text(path=file).units(10))))
    assert [type(item.payload).__name__ for item in items] == ["str", "BadItem", "BadItem"]


def test_the_deadly_encoder_of_the_ray_tests_works_without_markers(tmp_path: Path) -> None:
    """Without this, those tests would have nothing to compare with."""
    (tmp_path / "markers").mkdir()
    source = Memory(vectors=np.full((3, 2), 13.0), keys=list("abc"))
    assert embed(source, Deadly(markers=tmp_path / "markers"), tmp_path / "pool").quarantined == 0


def test_a_carried_column_may_be_empty_in_some_chunks(tmp_path: Path) -> None:
    labels = [None, None, "x", None, None, None]
    source = Memory(vectors=np.ones((6, 2)), keys=list("abcdef"), carry={"label": labels})
    embed(source, Precomputed(), tmp_path / "pool", chunk_rows=2)
    pool = open_pool(tmp_path / "pool")
    assert pool.rows_where("key", ["a", "c", "f"])["label"].to_pylist() == [None, "x", None]
    assert pool.export(tmp_path / "out.parquet") == 6
    assert pq.read_table(tmp_path / "out.parquet")["label"].to_pylist() == labels


def test_prepared_items_are_let_go_once_they_are_embedded(tmp_path: Path) -> None:
    """Else a chunk of images would be in memory as pixels until it is written."""
    prepared: list[weakref.ref[Any]] = []
    alive: list[int] = []

    @dataclass(frozen=True)
    class Counting:
        modality = "text"
        dim = 2

        def fingerprint(self) -> str:
            return "counting"

        def preprocessing(self) -> dict[str, Any]:
            return {}

        def prepare(self, key: str, payload: Any) -> Any:
            value = np.ones(2, np.float32)
            prepared.append(weakref.ref(value))
            return value

        def encode(self, values: Any) -> Any:
            alive.append(sum(one() is not None for one in prepared))
            return np.stack(values)

    source = Memory(keys=range(60), texts=["a"] * 60)
    embed(source, Counting(), tmp_path / "pool", batch_size=2, chunk_rows=60)
    assert len(alive) == 30
    assert max(alive) <= 2 * (LOOK_AHEAD_BATCHES + 2)
