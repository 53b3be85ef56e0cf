"""Several folders as one source: what each holds under its own path, in one order, and two of one path are an error."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow.parquet as pq
import pytest
from changing_sources import ROWS, Row, columns, write_folder, write_shards
from cli_tools import cli
from growing_pools import contents, held, make
from object_store import ObjectStore

import raysal
from raysal.embedding.missing import remove_missing
from raysal.errors import BadItem, ConfigError, SourceChanged, SourceError
from raysal.pool import open_pool
from raysal.sources import detect_source
from raysal.sources.base import OfFiles
from raysal.sources.folder import Folder
from raysal.sources.npy import Npy
from raysal.sources.of_pool import source_of
from raysal.sources.table import Table

HALVES = (ROWS[::2], ROWS[1::2])
MORE = (Row("k8.png", 30, "l0"), Row("a.png", 31, "l1"))


def write_table(path: Path, rows: tuple[Row, ...]) -> Table:
    path.mkdir(exist_ok=True)
    pq.write_table(columns(rows), path / f"{rows[0].key}.parquet")
    return Table(path=path, carry=("label",))


def write_shard(path: Path, rows: tuple[Row, ...]) -> Any:
    """Names of shards differ between the folders."""
    source = write_shards(path, rows)
    for file in list(path.iterdir()):
        file.rename(path / f"{rows[0].key}-{file.name}")
    return source


KINDS: dict[str, Callable[..., Any]] = {"folder": write_folder, "table": write_table, "shards": write_shard}


def several(kind: str, folder: Path, *parts: tuple[Row, ...]) -> Any:
    """A source of one folder for each part."""
    first, *others = [KINDS[kind](folder / name, rows) for name, rows in zip("bac", parts, strict=False)]
    return replace(first, also=tuple(one.path for one in others))


def key_of(kind: str, row: Row) -> str:
    return row.key.removesuffix(".png") if kind == "shards" else row.key


@pytest.mark.parametrize("kind", KINDS)
def test_the_items_are_those_of_all_folders_whatever_their_order(kind: str, tmp_path: Path) -> None:
    source = several(kind, tmp_path, *HALVES)
    whole = {item.key: item for unit in source.units(3) for item in source.read(unit)}
    assert set(whole) == {key_of(kind, row) for row in ROWS}
    turned = replace(source, path=source.also[0], also=(source.path,))
    assert [unit.keys[:] for unit in turned.units(3)] == [unit.keys[:] for unit in source.units(3)]
    assert turned.fingerprint() == source.fingerprint()
    assert isinstance(source, OfFiles)
    assert [file.name for file in source.files()] == sorted(file.name for file in source.files())
    sent = pickle.loads(pickle.dumps(source))
    assert [item.key for unit in source.units(2) for item in sent.read(unit)] == list(whole)
    assert source.passed_over().taken == sum(1 for _ in source.files())
    make(source, tmp_path / "pool")
    make(replace(source, also=()), tmp_path / "one")
    make(replace(source, path=source.also[0], also=()), tmp_path / "other")
    parts = [contents(open_pool(tmp_path / name)) for name in ("one", "other")]
    assert contents(open_pool(tmp_path / "pool")) == parts[0] | parts[1]


def test_pictures_in_one_order_are_those_of_one_folder(tmp_path: Path) -> None:
    """The same ids, whatever folder a picture lies in."""
    make(several("folder", tmp_path, *HALVES), tmp_path / "pool")
    make(write_folder(tmp_path / "all", ROWS), tmp_path / "fresh")
    assert held(open_pool(tmp_path / "pool")) == held(open_pool(tmp_path / "fresh"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_added_to_a_pool_of_one(kind: str, tmp_path: Path) -> None:
    make(several(kind, tmp_path, *HALVES[:1]), tmp_path / "pool")
    before = held(open_pool(tmp_path / "pool"))
    for parts in (HALVES, (*HALVES, MORE)):
        source = several(kind, tmp_path, *parts)
        report = make(source, tmp_path / "pool")
        assert (report.added, report.replaced, report.gone) == (len(parts[-1]), 0, 0)
        now = held(open_pool(tmp_path / "pool"))
        assert {key: now[key] for key in before} == before
    make(source, tmp_path / "fresh")
    assert contents(open_pool(tmp_path / "pool")) == contents(open_pool(tmp_path / "fresh"))
    assert source_of(open_pool(tmp_path / "pool")).fingerprint() == source.fingerprint()
    for other in (replace(source, also=()), KINDS[kind](tmp_path / "elsewhere", MORE)):
        with pytest.raises(SourceChanged, match="embed into another directory"):
            make(other, tmp_path / "pool")
    assert held(open_pool(tmp_path / "pool")) == now


def test_what_is_gone_from_one_folder_is_taken_out_as_missing(tmp_path: Path) -> None:
    source = several("folder", tmp_path, *HALVES)
    make(source, tmp_path / "pool")
    (tmp_path / "a" / "k3.png").unlink()
    report = make(source, tmp_path / "pool")
    assert (report.gone, report.embedded) == (1, 0)
    remove_missing(tmp_path / "pool", most=0.5)
    assert set(held(open_pool(tmp_path / "pool"))) == {row.key for row in ROWS} - {"k3.png"}


def test_a_folder_that_is_not_named_any_more_is(tmp_path: Path) -> None:
    source = several("folder", tmp_path, *HALVES)
    make(source, tmp_path / "pool")
    with pytest.raises(SourceChanged, match=r"/a is not named; 4 files, was 8"):
        make(replace(source, also=()), tmp_path / "pool")


@pytest.mark.parametrize("kind", KINDS)
def test_folders_that_were_moved_are_the_same_source(kind: str, tmp_path: Path) -> None:
    source = several(kind, tmp_path, *HALVES)
    make(source, tmp_path / "pool")
    for name in "ab":
        shutil.move(tmp_path / name, tmp_path / f"moved {name}")
    moved = replace(source, path=tmp_path / "moved a", also=(tmp_path / "moved b",))
    assert make(moved, tmp_path / "pool").embedded == 0
    for name in "ab":
        shutil.move(tmp_path / f"moved {name}", tmp_path / name)
    grown = several(kind, tmp_path, *HALVES, MORE)
    assert make(grown, tmp_path / "pool").added == len(MORE)
    shutil.move(tmp_path / "c", tmp_path / "moved c")
    assert make(replace(grown, also=(*source.also, tmp_path / "moved c")), tmp_path / "pool").embedded == 0


@pytest.mark.parametrize("kind", KINDS)
def test_two_files_of_one_path_are_an_error_that_names_both(kind: str, tmp_path: Path) -> None:
    source = several(kind, tmp_path, ROWS[:2], ROWS[:2])
    with pytest.raises(SourceError, match=r"/b/k0\.png\S* ?.*: \S*/a/k0\.png.* the folder above both") as caught:
        make(source, tmp_path / "pool")
    assert not (tmp_path / "pool").exists()
    assert "rename one" in str(caught.value)
    shutil.rmtree(tmp_path / "a")
    source = several(kind, tmp_path, *HALVES)
    make(source, tmp_path / "pool")
    shutil.copytree(tmp_path / "b", tmp_path / "a", dirs_exist_ok=True)
    before = held(open_pool(tmp_path / "pool"))
    with pytest.raises(SourceError, match="the folder above both"):
        make(source, tmp_path / "pool")
    assert held(open_pool(tmp_path / "pool")) == before


def test_the_same_key_in_two_tables_is_an_error(tmp_path: Path) -> None:
    source = several("table", tmp_path, ROWS[:3], (ROWS[4], ROWS[1]))
    with pytest.raises(SourceError, match=r"duplicate keys: k1\.png"):
        make(source, tmp_path / "pool")


def test_a_folder_within_another_one_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", ROWS[:2])
    write_folder(tmp_path / "a" / "b", ROWS[2:4])
    for paths in (("a", "a/b"), ("a/b", "a"), ("a", "a")):
        with pytest.raises(SourceError, match="which is named, too"):
            list(detect_source([tmp_path / path for path in paths]).units(1))


def test_paths_of_several_kinds_or_of_a_source_that_takes_one_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", ROWS[:2])
    write_table(tmp_path / "t", ROWS[:2])
    with pytest.raises(ConfigError, match=r"several kinds: .*a is read as folder, .*t is read as table"):
        detect_source([tmp_path / "a", tmp_path / "t"])
    with pytest.raises(ConfigError, match="no path is given"):
        detect_source([])
    for name in ("x.npy", "y.npy"):
        np.save(tmp_path / name, np.ones((2, 2), np.float32))
    with pytest.raises(ConfigError, match=r"2 paths, and the source 'npy' takes one; name a folder that holds all"):
        detect_source([tmp_path / "x.npy", tmp_path / "y.npy"])
    assert detect_source([tmp_path / "x.npy"]) == Npy(path=tmp_path / "x.npy")
    for name in ("1.lance", "2.lance"):
        lance.write_dataset(columns(ROWS), tmp_path / name)
    with pytest.raises(ConfigError, match="a Lance table is one folder"):
        detect_source([tmp_path / "1.lance", tmp_path / "2.lance"])


def test_files_by_name_and_patterns_are_roots_too(tmp_path: Path) -> None:
    for name, rows in zip("ba", HALVES, strict=True):
        pq.write_table(columns(rows), tmp_path / f"{name}.parquet")
    (tmp_path / "more").mkdir()
    pq.write_table(columns(MORE), tmp_path / "more" / "c.parquet")
    source = detect_source([tmp_path / "b.parquet", tmp_path / "a.parquet", tmp_path / "mo*" / "*.parquet"])
    keys = [key for unit in source.units(100) for key in unit.keys]
    assert keys == [row.key for row in (*HALVES[1], *HALVES[0], *MORE)]
    numbered = replace(source, key_column="#")  # type: ignore[type-var]
    assert [key for unit in numbered.units(100) for key in unit.keys][:5] == [
        *(f"a.parquet:{row}" for row in range(4)), "b.parquet:0",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_folders_of_buckets_are_as_those_of_a_disk(kind: str, tmp_path: Path, bucket_store: ObjectStore) -> None:
    on_disk = several(kind, tmp_path, *HALVES)
    for name in "ab":
        bucket_store.put_folder(tmp_path / name, f"in/{name}/")
    in_bucket = replace(on_disk, path=f"{bucket_store.url}/in/b", also=(f"{bucket_store.url}/in/a",))
    items = [item for unit in in_bucket.units(3) for item in in_bucket.read(unit)]
    expected = [item for unit in on_disk.units(3) for item in on_disk.read(unit)]
    assert [(item.key, item.carried) for item in items] == [(item.key, item.carried) for item in expected]
    make(on_disk, tmp_path / "pool")
    make(in_bucket, tmp_path / "other")
    assert held(open_pool(tmp_path / "other")) == held(open_pool(tmp_path / "pool"))
    with pytest.raises(SourceError, match="some places are on a disk"):
        list(replace(in_bucket, also=on_disk.also).units(3))
    if kind == "folder":
        (uri,) = {item.uri for item in items if item.key == "k1.png"}
        assert uri == f"{bucket_store.url}/in/a/k1.png"
        unit = next(in_bucket.units(100))
        bucket_store.take_away("in/a/k1.png")
        bad = [item for item in in_bucket.read(unit) if isinstance(item.payload, BadItem)]
        assert [item.key for item in bad] == ["k1.png"]


def test_by_the_command_a_config_and_an_export(tmp_path: Path) -> None:
    pictures = several("table", tmp_path, *HALVES)
    paths = [str(pictures.path), str(pictures.also[0])]
    found = cli("embed", *paths, "--out", str(tmp_path / "pool"), "--carry", "label", "--json")
    assert found.json["items"] == len(ROWS)
    from_python = raysal.embed(paths, out=tmp_path / "python")
    config = {"name": "table", "path": paths[0], "also": paths[1:]}
    from_config = raysal.embed(config, out=tmp_path / "config")
    expected = {key: value[0] for key, value in contents(open_pool(tmp_path / "pool")).items()}  # type: ignore[index]
    for pool in (from_python, from_config):
        assert {key: value[0] for key, value in contents(pool).items()} == expected  # type: ignore[index]
    with pytest.raises(ConfigError, match="lies in the source"):
        raysal.embed(paths, out=Path(paths[1]) / "pool")


def test_media_of_all_folders_go_out(tmp_path: Path) -> None:
    source = several("folder", tmp_path, *HALVES)
    make(source, tmp_path / "pool")
    raysal.export(tmp_path / "pool", out=tmp_path / "out", form="links")
    found = {path.name: path.resolve() for path in (tmp_path / "out" / "data").rglob("*.png")}
    assert {path.parent.name for path in found.values()} == {"a", "b"}
    assert len(found) == len(ROWS)
    assert isinstance(source_of(open_pool(tmp_path / "pool")), Folder)
