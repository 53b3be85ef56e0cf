"""What `raysal embed` says of the files that a source leaves out: text, JSON, the pool and the exit code agree."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from cli_tools import cli
from pool_files import quarantined
from tiers import deep_unless
from trees import picture, plant

import raysal
from raysal.defaults import MAX_PASSED_OVER
from raysal.embedding.custom import Torch
from raysal.embedding.job import EmbedReport, embed
from raysal.errors import Damaged, FingerprintMismatch, PassedOverExceeded, QuarantineExceeded, SourceError
from raysal.pool import open_pool
from raysal.pool.layout import MANIFEST, PASSED_OVER
from raysal.rounds.loop import run
from raysal.sources.folder import Folder
from raysal.sources.kinds import FIRST_IMAGES
from raysal.sources.table import Table
from raysal.store import read_sealed, write_sealed

ENCODER = ("--encoder", "torch:tiny_encoder:build", "--size", 4)
TINY = Torch(arg="tiny_encoder:build", size=4)


def made(pool: Path) -> list[str]:
    return [key for table in open_pool(pool).items(["key"]) for key in table["key"].to_pylist()]


def photos(root: Path, **files: int) -> Path:
    """A folder with so many files of each suffix; those that raysal reads are pictures."""
    root.mkdir()
    for suffix, count in files.items():
        for number in range(count):
            (root / f"{suffix}-{number}.{suffix}").write_bytes(picture("JPEG") if suffix == "jpg" else b"what it is")
    return root


@pytest.mark.parametrize("seed", deep_unless((0, 1), range(6)))
@pytest.mark.parametrize("chunk_rows", [3, 0])
def test_every_file_is_embedded_quarantined_or_passed_over(tmp_path: Path, seed: int, chunk_rows: int) -> None:
    tree = plant(tmp_path / "tree", seed, other=(".svg", ".cr2", ".dcm", ".fits.gz", ".npz"))
    words = ("embed", tree.root, *ENCODER, "--out", tmp_path / "pool", "--max-quarantine", 1, "--max-passed-over", 1)
    answer = cli(*words, "--chunk-rows", chunk_rows, "--json")
    assert answer.code == 0, answer
    pool = open_pool(tmp_path / "pool")
    assert made(pool.path) == sorted(key for key, good in tree.items.items() if good)
    assert set(quarantined(pool.path)) == {key for key, good in tree.items.items() if not good}
    counts = dict(Counter(tree.passed.values()))
    assert answer.json["passed_over"] == counts
    assert answer.json["items"] + sum(counts.values()) == sum(1 for file in tree.root.rglob("*") if file.is_file())
    assert cli("pool", "info", pool.path, "--json").json["passed_over"] == counts
    assert pool.info().passed_over == counts
    said = str(Folder(path=tree.root).passed_over())
    assert said in cli(*words, "--chunk-rows", chunk_rows).out
    assert said in cli("pool", "info", pool.path).out
    pool.verify()


@pytest.mark.parametrize("read", [1, 2, 5, 10, 30])
@pytest.mark.parametrize("unread", [0, 1, 2, 3])
@pytest.mark.parametrize("side", [0, 50])
@pytest.mark.parametrize("allowed", deep_unless({None}, [None, 0, 0.5, 1]))
def test_the_exit_code_follows_the_share_of_what_looks_like_an_item(
    tmp_path: Path, read: int, unread: int, side: int, allowed: float | None
) -> None:
    root = photos(tmp_path / "p", jpg=read, svg=unread, txt=side)
    options = () if allowed is None else ("--max-passed-over", allowed)
    words = ("embed", root, *ENCODER, "--out", tmp_path / "pool", *options)
    lost = unread / (read + unread) > (MAX_PASSED_OVER if allowed is None else allowed)
    answer, again = cli(*words, "--json"), cli(*words)
    assert answer.code == again.code == (3 if lost else 0)
    counts = {suffix: count for suffix, count in ((".svg", unread), (".txt", side)) if count}
    assert answer.json["passed_over"] == counts
    assert len(made(tmp_path / "pool")) == read, "the pool is committed all the same"
    for suffix, count in counts.items():
        assert f"{count} {suffix} (" in (again.err if lost else again.out)
    if lost:
        assert answer.json["type"] == "PassedOverExceeded"
        assert answer.err == again.err
        assert answer.err.count("\n") == 1
        assert "--max-passed-over" in answer.err


def test_both_losses_are_told_at_once(tmp_path: Path) -> None:
    root = photos(tmp_path / "p", jpg=3, svg=3, png=2)
    answer = cli("embed", root, *ENCODER, "--out", tmp_path / "pool", "--json")
    assert answer.code == 3
    assert answer.json["type"] == "QuarantineExceeded"
    assert (answer.json["quarantined"], answer.json["passed_over"]) == (2, {".svg": 3})
    assert "3 files passed over: 3 .svg" in answer.err


def test_pictures_without_a_suffix_are_a_loss(tmp_path: Path) -> None:
    root = photos(tmp_path / "p", jpg=3)
    for number in range(2):
        (root / f"download {number}").write_bytes(picture("WEBP"))
    (root / "LICENSE").write_text("no picture")
    answer = cli("embed", root, *ENCODER, "--out", tmp_path / "pool", "--json")
    assert (answer.code, answer.json["passed_over"]) == (3, {"no suffix": 3})


def test_in_python(tmp_path: Path) -> None:
    root = photos(tmp_path / "p", jpg=3, svg=3)
    with pytest.raises(PassedOverExceeded) as caught:
        raysal.embed(root, {"name": "torch:tiny_encoder:build", "size": 4}, out=tmp_path / "pool")
    assert caught.value.passed_over == {".svg": 3}
    pool = raysal.embed(
        root, {"name": "torch:tiny_encoder:build", "size": 4}, out=tmp_path / "pool", max_passed_over=0.5
    )
    assert pool.info().passed_over == {".svg": 3}
    report = embed(Folder(path=root), TINY, tmp_path / "pool", max_passed_over=1)
    assert isinstance(report, EmbedReport)
    assert report.passed_over == {".svg": 3}


def test_a_run_says_it_too(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "pool": str(tmp_path / "pool"),
        "source": {"name": "folder", "path": str(photos(tmp_path / "p", jpg=6, svg=6))},
        "encoder": {"name": "torch:tiny_encoder:build", "size": 4},
        "fleet": {"backend": "local"},
        "rounds": {"count": 1, "k": 2},
    }
    config = raysal.config.parse_config(fields)
    for _ in range(2):
        with pytest.raises(PassedOverExceeded):
            run(config, tmp_path / "run")
    allowed = raysal.config.parse_config({**fields, "embed": {"max_passed_over": 0.5}})
    assert run(allowed, tmp_path / "run").waiting == 2


# pools


def test_the_record_is_of_the_last_job(tmp_path: Path) -> None:
    root, out = photos(tmp_path / "p", jpg=3), tmp_path / "pool"
    embed(Folder(path=root), TINY, out)
    (root / "more.txt").write_text("")
    assert open_pool(out).info().passed_over == {}
    embed(Folder(path=root), TINY, out)
    assert open_pool(out).info().passed_over == {".txt": 1}
    files = open_pool(out).verify()
    record = out / PASSED_OVER
    record.write_bytes(record.read_bytes().replace(b".txt", b".csv"))
    for look in (open_pool(out).info, open_pool(out).verify):
        with pytest.raises(Damaged, match=PASSED_OVER):
            look()
    record.unlink()
    assert open_pool(out).info().passed_over is None
    assert open_pool(out).verify() == files - 1


def as_before(pool: Path, *fields: str) -> None:
    """Make a pool into one of a raysal that did not record these fields of the source, and counted nothing."""
    manifest = read_sealed(pool / MANIFEST)
    for field in fields:
        del manifest["source"]["config"][field]
    write_sealed(pool / MANIFEST, manifest)
    (pool / PASSED_OVER).unlink(missing_ok=True)


def test_an_old_pool_of_images_goes_on_with_the_suffixes_of_its_time(tmp_path: Path) -> None:
    root, out = photos(tmp_path / "p", jpg=3, png=1), tmp_path / "pool"
    (root / "a.jfif").write_bytes(picture("JPEG"))
    embed(Folder(path=root, suffixes=FIRST_IMAGES), TINY, out, chunk_rows=2, max_quarantine=1, max_passed_over=1)
    as_before(out, "suffixes")
    (out / "commits" / "00001.json").unlink()  # the job was interrupted
    answer = cli(
        "embed",
        root,
        *ENCODER,
        "--out",
        out,
        "--chunk-rows",
        2,
        "--max-quarantine",
        1,
        "--json",
        "--max-passed-over",
        1,
    )
    assert answer.code == 0, answer
    assert (answer.json["items"], answer.json["resumed"], answer.json["embedded"]) == (4, 1, 2)
    assert answer.json["passed_over"] == {".jfif": 1}
    strict = cli("embed", root, *ENCODER, "--out", out, "--chunk-rows", 2, "--max-quarantine", 1)
    assert strict.code == 3
    assert ".jfif (a.jfif)" in strict.err
    with pytest.raises(FingerprintMismatch):
        embed(Folder(path=root, suffixes=(".jpg", ".jfif")), TINY, out, chunk_rows=2)
    fresh = tmp_path / "new"
    embed(Folder(path=root), TINY, fresh, max_quarantine=1)
    assert "a.jfif" in made(fresh)


def test_an_old_pool_of_tables_goes_on_without_the_directories_inside(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    root, out = tmp_path / "t", tmp_path / "pool"
    for name in ("a.parquet", "sub/b.parquet"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"key": [name], "vector": [[1.0, 2.0]]}), root / name)
    assert cli("embed", root, "--out", tmp_path / "new", "--json").json["items"] == 2
    embed(Table(path=root, recursive=False), raysal.embedding.precomputed.Precomputed(dim=2), out)
    as_before(out, "recursive")
    answer = cli("embed", root, "--out", out, "--json")
    assert (answer.code, answer.json["items"], answer.json["passed_over"]) == (0, 1, {"in folders inside": 1})


def test_a_source_in_one_file_keeps_no_record(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text(json.dumps({"key": "a", "text": "b"}))
    with pytest.raises(SourceError):
        raysal.embed(tmp_path / "none", out=tmp_path / "pool")
    assert not (tmp_path / "pool").exists()
    assert QuarantineExceeded.exit_code == PassedOverExceeded.exit_code == 3
