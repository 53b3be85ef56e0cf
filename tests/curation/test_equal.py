"""Exact copies: by bytes of files that hold one item alone, by vectors, and through others; one of each is kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_tools import cli
from near_rows import vectors_with_copies
from PIL import Image
from pools import make_pool

import raysal
from raysal.config import FleetConfig
from raysal.curation.base import Work
from raysal.curation.equal import _joined
from raysal.curation.steps.exact import Exact
from raysal.embedding.file_hashes import recorded_digests
from raysal.errors import ConfigError
from raysal.fleet import open_fleet
from raysal.pool import Pool
from raysal.pool.taken_files import KnownFiles

PIXELS = {"name": "torch:tiny_encoder:build", "size": 8}


def applied(pool: Pool, left: Any = None, partitions: int = 1, **fields: Any) -> dict[int, tuple[int, str]]:
    ids = np.concatenate([chunk.ids() for chunk in pool.chunks])
    left = np.ones(len(ids), bool) if left is None else left
    with open_fleet(pool, FleetConfig(backend="local", partitions=partitions)) as fleet:
        work = Work(pool=pool, fleet=fleet, ids=ids, left=left, folder=pool.path, key=0)
        step = Exact(**fields)
        step.check(pool)
        found = step.apply(work)
    assert np.isin(found.ids, ids[left]).all()
    assert not np.isin(found.nearest, found.ids).any()
    rows = zip(found.ids.tolist(), found.nearest.tolist(), found.reason.tolist(), strict=True)
    return {item: (nearest, found.reasons[reason]) for item, nearest, reason in rows}


@pytest.mark.parametrize(("chunk_rows", "partitions"), [(1000, 1), (33, 2), (64, 5)])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_equal_vectors_leave_the_first_that_is_left(
    tmp_path: Path, chunk_rows: int, partitions: int, metric: Any
) -> None:
    rows = vectors_with_copies(0)
    rows[[4, 50, 99]] = 0
    rows[50, 3] = -0.0
    pool = make_pool(tmp_path / "pool", rows, chunk_rows=chunk_rows, metric=metric, missing=[7])
    ids = np.setdiff1d(np.arange(len(rows)), [7])
    left = np.random.default_rng(0).random(len(ids)) < 0.8
    first: dict[bytes, int] = {}
    wanted = {}
    for item in ids[left].tolist():
        kept = first.setdefault((rows[item].astype(np.float16) + np.float16(0)).tobytes(), item)
        if kept != item:
            wanted[item] = (kept, "its vector is that of a kept item")
    assert len(wanted) > 10
    assert applied(pool, left, partitions) == wanted


@pytest.mark.parametrize("rows", [1, 500])
def test_a_pool_of_equal_vectors_leaves_one(tmp_path: Path, rows: int) -> None:
    pool = make_pool(tmp_path / "pool", np.ones((rows, 8), np.float32), chunk_rows=64)
    assert applied(pool) == dict.fromkeys(range(1, rows), (0, "its vector is that of a kept item"))
    assert applied(pool, np.zeros(rows, bool)) == {}
    found = raysal.dedup(pool, equal=True)
    assert (found.kept, found.dropped, found.groups) == (1, rows - 1, int(rows > 1))


def pictures(folder: Path) -> None:
    """Files: a, its copy, the same picture in another format, another picture, and a copy of the second format."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    first, second = (Image.fromarray(rng.integers(255, size=(8, 8, 3), dtype=np.uint8)) for _ in range(2))
    first.save(folder / "a.png")
    shutil.copy(folder / "a.png", folder / "b.png")
    first.save(folder / "c.bmp")
    second.save(folder / "d.png")
    shutil.copy(folder / "c.bmp", folder / "e.bmp")


def test_bytes_are_compared_where_the_pool_has_digests_of_files(tmp_path: Path) -> None:
    """The encoder is one of pixels: a picture in two formats has one vector."""
    pictures(tmp_path / "pictures")
    plain = raysal.embed(tmp_path / "pictures", encoder=PIXELS, out=tmp_path / "plain")
    hashed = raysal.embed(tmp_path / "pictures", encoder=PIXELS, out=tmp_path / "hashed", check="hash")
    by_vector, by_bytes = "its vector is that of a kept item", "its file has the bytes of a kept item's file"
    assert applied(plain) == {1: (0, by_vector), 2: (0, by_vector), 4: (0, by_vector)}
    assert applied(hashed) == {1: (0, by_bytes), 2: (0, by_vector), 4: (0, by_vector)}
    assert applied(hashed, np.array([False, True, False, True, True])) == {4: (1, by_vector)}
    assert "--check hash" in raysal.dedup(plain, equal=True).notes[0]
    assert raysal.dedup(hashed, equal=True).notes == ()


def test_bytes_are_equal_if_all_of_a_digest_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each half of a digest is looked at, and both must be those of one other item."""
    rng = np.random.default_rng(1)
    (tmp_path / "pictures").mkdir()
    for name in "abcde":
        Image.fromarray(rng.integers(255, size=(8, 8, 3), dtype=np.uint8)).save(tmp_path / "pictures" / f"{name}.png")
    pool = raysal.embed(tmp_path / "pictures", encoder=PIXELS, out=tmp_path / "pool", check="hash")
    first, second, third, fourth = rng.integers(255, size=(4, 16), dtype=np.uint8)
    halves = [(first, second), (first, third), (fourth, second), (fourth, third), (first, second)]
    told = np.stack([np.concatenate(pair) for pair in halves])

    def digests(path: Path, known: KnownFiles) -> Any:
        found, has = recorded_digests(path, known)
        assert (found.shape, has.all()) == (told.shape, True)
        found[known.file_of(np.arange(5))] = told
        return found, has

    monkeypatch.setattr("raysal.curation.equal.recorded_digests", digests)
    assert applied(pool) == {4: (0, "its file has the bytes of a kept item's file")}


def test_digests_that_a_pool_got_later_count(tmp_path: Path) -> None:
    """What was found before is not read again: the pool has the same items, and knows more of them."""
    pictures(tmp_path / "pictures")
    raysal.embed(tmp_path / "pictures", encoder=PIXELS, out=tmp_path / "pool")
    assert sum(raysal.curate(tmp_path / "pool", "exact").steps[0].reasons.values()) == 3
    raysal.embed(tmp_path / "pictures", encoder=PIXELS, out=tmp_path / "pool", check="hash")
    (step,) = raysal.curate(tmp_path / "pool", "exact").steps
    assert step.reasons["its file has the bytes of a kept item's file"] == 1
    assert raysal.curate(tmp_path / "pool", "exact").steps[0].resumed


def test_rows_of_one_file_are_not_equal_for_that(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    rows = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    for name in ("a", "b"):  # two files of equal bytes, three rows each
        table = pa.table({"vector": list(rows[:3])})
        pq.write_table(table, tmp_path / "data" / f"{name}.parquet")
    pool = raysal.embed(
        {"name": "table", "path": str(tmp_path / "data"), "key_column": "#"}, out=tmp_path / "pool", check="hash"
    )
    assert {item: near for item, (near, _) in applied(pool).items()} == {3: 0, 4: 1, 5: 2}
    assert "no file holds one item alone" in raysal.dedup(pool, equal=True).notes[0]


def test_a_column_says_which_copy_is_kept_and_missing_values_come_last(tmp_path: Path) -> None:
    rows = np.ones((200, 4), np.float32)
    labels: list[Any] = [None] * 64 + ["b"] * 64 + ["c"] * 64 + [None] * 8  # a chunk without any value
    pool = make_pool(tmp_path / "pool", rows, labels=labels, chunk_rows=64)
    assert set(applied(pool, keep="label").values()) == {(128, "its vector is that of a kept item")}
    assert {near for near, _ in applied(pool, keep="label", prefer="smallest").values()} == {64}
    assert raysal.dedup(pool, equal=True, keep="label").found.kept.nonzero()[0].tolist() == [128]
    with pytest.raises(ConfigError, match=r"no column 'size'; its columns: .*label"):
        applied(pool, keep="size")


def test_copies_of_copies_are_one_group() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 30, 150):
        one, other = rng.integers(n, size=n), rng.integers(n, size=n)
        groups = _joined(one, other)
        near = (one[:, None] == one) | (other[:, None] == other)
        reached = np.eye(n, dtype=bool)
        for _ in range(n):
            further = (reached.astype(int) @ near) > 0
            if (further == reached).all():
                break
            reached = further
        assert np.array_equal(groups[:, None] == groups, reached)
    chain = np.arange(3000)
    assert len(np.unique(_joined(chain // 2, (chain + 1) // 2))) == 1


def test_the_command_finds_exact_duplicates_alone(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", vectors_with_copies(1))
    out = tmp_path / "equal.csv"
    done = cli("dedup", pool.path, "--equal", "-o", out, "--json")
    assert done.json["threshold"] is None
    assert "--check hash" in done.json["notes"][0]
    assert done.json["dropped_items"] == len(applied(pool)) > 10
    assert out.read_text().splitlines()[0] == "key,kept,group,nearest_kept,similarity"
    words = cli("dedup", pool.path, "--equal", "-o", tmp_path / "again.csv").out
    assert f"{len(applied(pool))} exact duplicates of" in words
    refused = cli("dedup", pool.path, "--equal", "--mode", "clusters", "-o", tmp_path / "other.csv")
    assert refused.code == 2
    assert "exactly" in refused.err
