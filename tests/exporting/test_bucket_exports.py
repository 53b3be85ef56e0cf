"""An export into a bucket has the bytes of one into a directory, whenever it was stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_tools import cli, refused, write_images
from object_store import ObjectStore
from pools import make_pool
from tiers import deep_unless

from raysal.api.export import export
from raysal.buckets import lease, retries
from raysal.errors import BucketError, Damaged, PoolError, RunError
from raysal.pool import Pool

FORMS = ("parquet", "csv")


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(retries, "TRIES", 2)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    vectors = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    return make_pool(
        tmp_path_factory.mktemp("pools") / "pool", vectors, chunk_rows=7, labels=[f"l{i}" for i in range(20)]
    )


def files_in(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def objects_in(store: ObjectStore) -> dict[str, bytes]:
    found = {name.removeprefix("out/"): store.get(name) for name in store.names() if name.startswith("out/")}
    return {name: data for name, data in found.items() if name != lease.NAME}


def test_photos_are_exported_to_a_bucket(bucket_store: ObjectStore, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 7)
    words = ("embed", tmp_path / "photos", "--encoder", "torch:tiny_encoder:build", "--size", 12)
    assert cli(*words, "--out", f"{bucket_store.url}/pool").code == 0
    for out in (f"{bucket_store.url}/out", tmp_path / "out"):
        done = cli("export", f"{bucket_store.url}/pool", "--as", "webdataset", "-o", out, "--shard-items", 3)
        assert done.code == 0, done.err
        assert done.out.startswith(f"{out}: 7 items as webdataset in 3 shards")
    assert objects_in(bucket_store) == files_in(tmp_path / "out")
    words = ("export", f"{bucket_store.url}/pool", "--as", "webdataset", "-o", f"{bucket_store.url}/out")
    again = cli(*words, "--shard-items", 3)
    assert "nothing to do" in again.out
    elsewhere = f"{bucket_store.url}/other"
    refused(cli("export", f"{bucket_store.url}/pool", "--as", "coco", "-o", elsewhere), "csv, parquet, webdataset")
    assert not [name for name in bucket_store.names() if name.startswith("other")]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("at", deep_unless({6}, range(1, 16)))
def test_an_export_that_was_stopped_at_any_write_goes_on_to_the_same_bytes(
    form: str, at: int, pool: Pool, bucket_store: ObjectStore, tmp_path: Path
) -> None:
    words = {"form": form, "shard_items": 8}
    export(pool, out=tmp_path / "out", **words)  # type: ignore[arg-type]
    url = f"{bucket_store.url}/out"
    seen = 0

    def stop() -> None:
        nonlocal seen
        seen += 1
        if seen == at:
            bucket_store.fail("busy", times=-1)
        else:
            bucket_store.before("PUT", "out/[!.]*", stop)

    bucket_store.before("PUT", "out/[!.]*", stop)
    try:
        export(pool, out=url, **words)  # type: ignore[arg-type]
    except BucketError:
        assert seen == at
    else:
        assert seen < at
    bucket_store.proxy.forget()
    report = export(pool, out=url, **words)  # type: ignore[arg-type]
    assert report.out == url
    assert objects_in(bucket_store) == files_in(tmp_path / "out")


def test_what_is_there_is_compared(pool: Pool, bucket_store: ObjectStore) -> None:
    url = f"{bucket_store.url}/out"
    assert export(pool, out=url, form="parquet", shard_items=8).made
    assert not export(pool, out=url, form="parquet", shard_items=8).made
    with pytest.raises(RunError, match=f"{url}: was begun with"):
        export(pool, out=url, form="parquet", shard_items=9)
    bucket_store.put("out/data/00001.parquet", b"short")
    with pytest.raises(Damaged, match=f"{url}/data/00001.parquet: 5 bytes"):
        export(pool, out=url, form="parquet", shard_items=8)


def test_a_place_that_holds_something_else_is_refused(pool: Pool, bucket_store: ObjectStore) -> None:
    bucket_store.put("out/photo.jpg", b"photo")
    with pytest.raises(PoolError, match="holds something else"):
        export(pool, out=f"{bucket_store.url}/out", form="csv")
    bucket_store.put("out/pool.json", b"{}")
    with pytest.raises(RunError, match="is the place of a pool"):
        export(pool, out=f"{bucket_store.url}/out", form="csv")
    assert bucket_store.names() == ["out/photo.jpg", "out/pool.json"]
