"""A pool that grew and shrank comes out as it is now, and only what is still what was embedded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_tools import cli, write_images

import raysal
from raysal.errors import MediaLost, RunError
from raysal.pool import Pool, open_pool
from raysal.pool.removing import remove_items

TINY = ("--encoder", "torch:tiny_encoder:build", "--size", 12)


def embed(home: Path, source: str = "photos") -> Pool:
    assert cli("embed", home / source, *TINY, "--out", home / "pool", "--chunk-rows", 5).code == 0
    return open_pool(home / "pool")


def keys_of(pool: Pool) -> list[str]:
    return [key for table in pool.items(["key"]) for key in table["key"].to_pylist()]


def exported(out: Path) -> list[str]:
    keys: list[str] = pq.read_table(out / "items.parquet")["key"].to_pylist()
    return keys


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Photos of which a pool took in some, then more, then other ones; some were removed."""
    write_images(tmp_path / "photos", 16)
    late = [tmp_path / "photos" / "even" / "04.jpg", tmp_path / "photos" / "odd" / "03.jpg"]
    kept = {path: path.read_bytes() for path in late}
    for path in late:
        path.unlink()
    embed(tmp_path)
    for path, content in kept.items():
        path.write_bytes(content)
    embed(tmp_path)
    other = tmp_path / "photos" / "even" / "08.jpg"
    other.write_bytes((tmp_path / "photos" / "odd" / "09.jpg").read_bytes())
    embed(tmp_path)
    remove_items(tmp_path / "pool", ["odd/11.jpg", "even/00.jpg"])
    return tmp_path


@pytest.mark.parametrize("form", ["webdataset", "links"])
def test_what_the_pool_has_now_comes_out_with_its_media(home: Path, form: str) -> None:
    pool = open_pool(home / "pool")
    done = raysal.export(pool, out=home / "out", form=form, shard_items=4)
    assert (done.lost, done.exported) == (0, 14)
    assert exported(home / "out") == keys_of(pool)
    assert {"odd/11.jpg", "even/00.jpg"}.isdisjoint(exported(home / "out"))
    rows = pq.read_table(home / "out" / "items.parquet", columns=["key", "bytes"]).to_pylist()
    assert all((home / "photos" / row["key"]).stat().st_size == row["bytes"] for row in rows)


def test_in_a_chunk_with_removed_items_a_touched_file_is_no_loss_and_a_changed_one_is(home: Path) -> None:
    for key in ("odd/03.jpg", "odd/13.jpg"):
        content = (home / "photos" / key).read_bytes()
        (home / "photos" / key).unlink()
        (home / "photos" / key).write_bytes(content)
    (home / "photos" / "new.jpg").write_bytes(content)
    assert raysal.export(home / "pool", out=home / "touched", form="parquet").lost == 0
    (home / "photos" / "odd" / "13.jpg").write_bytes(b"\xff\xd8\xff another picture")
    with pytest.raises(MediaLost) as caught:
        raysal.export(home / "pool", out=home / "changed", form="parquet")
    assert "odd/13.jpg" in caught.value.lost
    assert {"even/02.jpg", "even/04.jpg", "odd/09.jpg", "even/08.jpg"} <= {*exported(home / "changed")}


def test_an_older_generation_has_what_is_still_there(home: Path) -> None:
    first = open_pool(home / "pool", 0)
    with pytest.raises(MediaLost) as caught:
        raysal.export(first, out=home / "out", form="webdataset")
    assert {*caught.value.lost} == {"even/08.jpg"}
    assert exported(home / "out") == [key for key in keys_of(first) if key != "even/08.jpg"]


def test_an_export_is_of_one_generation(home: Path) -> None:
    raysal.export(home / "pool", out=home / "out", form="csv")
    shutil.copy(home / "photos" / "odd" / "01.jpg", home / "photos" / "odd" / "99.jpg")
    embed(home)
    with pytest.raises(RunError, match="another pool, or with this one before it changed"):
        raysal.export(home / "pool", out=home / "out", form="csv")


def test_tables_that_came_later_are_read_where_they_are(tmp_path: Path) -> None:
    photos = sorted(write_images(tmp_path / "photos", 18).rglob("*.jpg"))
    content = {path.stem: path.read_bytes() for path in photos}
    (tmp_path / "tables").mkdir()

    def write(name: str, keys: list[str]) -> None:
        table = pa.table({"key": keys, "image": pa.array([content[key] for key in keys], pa.binary())})
        pq.write_table(table, tmp_path / "tables" / name)

    names = sorted(content)
    write("m.parquet", names[:7])
    embed(tmp_path, "tables")
    write("a.parquet", names[7:12])
    embed(tmp_path, "tables")
    write("z.parquet", names[12:])
    pool = embed(tmp_path, "tables")
    assert keys_of(pool) == names
    raysal.export(pool, out=tmp_path / "out", form="links", copy=True, shard_items=4)
    for row in pq.read_table(tmp_path / "out" / "items.parquet", columns=["key", "member"]).to_pylist():
        assert (tmp_path / "out" / "data" / row["member"]).read_bytes() == content[row["key"]]
    write("a.parquet", names[12:7:-1] + names[7:8])  # an item of z came here, too, and others moved
    (tmp_path / "tables" / "z.parquet").unlink()
    with pytest.raises(MediaLost) as caught:
        raysal.export(pool, out=tmp_path / "less", form="links", copy=True)
    assert exported(tmp_path / "less") == names[:12]
    assert {*caught.value.lost} == {*names[12:]}
