"""The examples of docs/pools.md are what raysal says and does."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from changing_sources import ROWS, Bytes, changed, write_folder
from cli_tools import cli, write_vectors
from object_store import ObjectStore
from pages import ROOT, blocks, commands
from PIL import Image
from pools import mixture

import raysal
from raysal.embedding.job import embed
from raysal.errors import SourceChanged

PAGE = (ROOT / "docs" / "pools.md").read_text(encoding="utf-8")
LETTERS = tuple(changed(ROWS, place, key=f"{letter}.png")[place] for place, letter in enumerate("abcdef"))
"""Six files, `a.png` to `f.png`."""


class Stop(Exception):
    pass


def stop(done: int, total: int) -> None:
    if done:
        raise Stop


def picture(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_a_pool_grows_and_shrinks_as_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = next(line for line in PAGE.splitlines() if line.startswith("pool: ") and "embedded now" in line)
    photos = tmp_path / "photos"
    (photos / "bad").mkdir(parents=True)
    for place, name in enumerate(["a", "b", "c", "bad/1", "bad/2"]):
        picture(photos / f"{name}.jpg", place)
    words = ("embed", "photos", "--encoder", "torch:tiny_encoder:build", "--size", 16, "--out", "pool")
    assert cli(*words).code == 0
    for place, name in enumerate(["a", "d", "e", "f"]):
        picture(photos / f"{name}.jpg", 10 + place)
    said = cli(*words)
    form, numbers = re.compile(r"chunks?"), re.compile(r"[0-9][0-9,.]*(?<![,.])")
    assert numbers.sub("#", form.sub("chunk", said.out.splitlines()[0])) == numbers.sub("#", form.sub("chunk", shown))
    assert "4 embedded now" in said.out
    (photos / "b.jpg").unlink()
    said = cli(*words)
    assert "1 file of the pool is gone from the source: `raysal pool remove pool --missing`" in said.out
    asked = [line for block in blocks(PAGE, "console") for line in commands(block) if " pool " in line]
    asked = [line for line in asked if line.startswith(("raysal pool remove", "raysal pool compact"))]
    assert len(asked) == 3
    left = []
    for line in asked:
        done = cli(*shlex.split(line)[1:], "--json")
        assert done.code == 0, done
        left.append(done.json.get("items"))
    assert left == [6, 5, None]
    assert len(raysal.open_pool("pool")) == 5


def test_a_pool_in_a_bucket_as_on_the_page(
    bucket_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    section = PAGE[PAGE.index("## Pools in buckets") : PAGE.index("## A source that changes")]
    embedding, running, exporting = commands(blocks(section, "console")[0].replace("s3://bucket", bucket_store.url))
    lines = [blocks(section, "toml")[0].replace("s3://bucket", bucket_store.url), 'oracle = "simulated"']
    lines += ["[rounds]", "count = 1", "k = 5", "holdout = 0", "[fleet]", 'backend = "local"']
    (tmp_path / "config.toml").write_text("\n".join(lines), encoding="utf-8")
    for step in range(2):
        bucket_store.put(f"shards/{step}.parquet", labelled_table(tmp_path / "shard.parquet", 30 * step, 30))
        done = cli(*shlex.split(embedding)[1:], "--carry", "label", "--chunk-rows", 10)
        assert done.code == 0, done.err
        found = f"{30 * (step + 1)} items in {3 * (step + 1)} chunks, 30 embedded now"
        assert done.out.startswith(f"{bucket_store.url}/pool: {found}")
    for line in (running, exporting):
        done = cli(*shlex.split(line)[1:])
        assert done.code == 0, done.err
    manifest = json.loads(bucket_store.get("labelled/manifest.json"))
    assert (manifest["exported"], manifest["pool_place"]) == (5, f"{bucket_store.url}/pool")


def labelled_table(path: Path, start: int, count: int) -> Path:
    vectors, labels = mixture(count, 4, classes=2, seed=start)
    flat = pa.array(vectors.reshape(-1), pa.float32())
    keys = [f"item-{start + place}" for place in range(count)]
    columns = {"key": keys, "vector": pa.FixedSizeListArray.from_arrays(flat, 4), "label": labels}
    pq.write_table(pa.table(columns), path)
    return path


def test_the_refusals_are_those_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = re.findall(r"^raysal: (pool: .*)$", PAGE, flags=re.MULTILINE)
    less = (*LETTERS[:2], *LETTERS[3:])
    for expected, rows in zip(shown, (less, changed(LETTERS, 1, number=99)), strict=True):
        source = write_folder(tmp_path / "photos", LETTERS)
        pool = tmp_path / expected[:20] / "pool"
        with pytest.raises(Stop):  # a finished pool would take the change in
            embed(source, Bytes(modality="image"), pool, chunk_rows=4, report=stop)
        with pytest.raises(SourceChanged) as caught:
            embed(write_folder(tmp_path / "photos", rows), Bytes(modality="image"), pool, chunk_rows=4)
        assert str(caught.value).removeprefix(f"{pool.parent}/") == expected


def test_the_commands_of_the_page_predict_for_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = pq.read_table(write_vectors(tmp_path / "all.parquet", rows=90))
    pq.write_table(rows.slice(0, 60), "train.parquet")
    pq.write_table(rows.slice(60), "rest.parquet")
    (block,) = (block for block in blocks(PAGE, "console") if "train.parquet" in block)
    *embeds, predict = (shlex.split(line)[1:] for line in commands(block))
    for words in embeds:
        assert cli(*words).code == 0
    labels = dict(zip(rows["key"].to_pylist()[:20], rows["label"].to_pylist()[:20], strict=True))
    with raysal.Session(tmp_path / "run", "train") as session:
        session.tell(labels)
        session.query(2)
    assert cli(*predict).code == 0


def test_the_name_is_written_alike_everywhere() -> None:
    assert len(set(re.findall(r'(?:--origin |origin = "|origin": ")([\w.-]+)', PAGE)) - {"NAME"}) == 1
