"""A pool on a full disk, its export, the search for its items, and what its writer refuses."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pool_files import bytes_of
from pools import make_pool
from tiers import deep_unless
from tiny_pools import CHUNKS, DIM, EMPTY, content, make, manifest, stage
from warm import ended

from raysal.embedding.job import embed
from raysal.embedding.precomputed import Precomputed
from raysal.errors import ConfigError, FingerprintMismatch, LabelError, PoolError, PoolIncomplete
from raysal.pool import ChunkStage, Pool, PoolWriter, open_pool
from raysal.sources.table import Table
from raysal.store import write_file, write_sealed

# -- a full disk ------------------------------------------------------------------------------------------------------


def _limited(limit: int, path: Path, what: str) -> None:
    """In a child: commit chunk 0, then try `what` with files of at most `limit` bytes. Exit with 0 if all is right."""
    writer = PoolWriter(path, manifest())
    writer.commit(stage(path, 0))
    staged = stage(path, 1)
    before = bytes_of(path)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    attempts: dict[str, Callable[[], object]] = {
        "stage": lambda: stage(path, 2),
        "record": lambda: writer.commit(staged),
        "export": lambda: make_pool_export(path),
    }
    try:
        attempts[what]()
    except OSError:
        left = bytes_of(path)
        temporaries = [name for name in left if ".tmp-" in name]
        if what == "record":  # its files are renamed, but without a record they are no chunk
            os._exit(0 if not temporaries and 1 not in PoolWriter(path, manifest()).committed else 3)
        os._exit(0 if left == before else 4)
    os._exit(5)  # the disk was not full


def make_pool_export(path: Path) -> None:
    write_file(path / "out.parquet", lambda temporary: temporary.write_bytes(b"x" * 10**6))


@pytest.mark.parametrize(
    ("limit", "what"),
    deep_unless(
        [(700, "stage"), (300, "record"), (1000, "export")],
        [
            (0, "stage"),
            (100, "stage"),
            (700, "stage"),
            (1000, "stage"),
            (0, "record"),
            (300, "record"),
            (1000, "export"),
        ],
    ),
)
def test_a_full_disk_is_an_error_that_leaves_nothing_and_loses_nothing(tmp_path: Path, limit: int, what: str) -> None:
    assert ended(_limited, limit, tmp_path / "pool", what) == 0
    with pytest.raises(PoolIncomplete):
        Pool(tmp_path / "pool")
    writer = PoolWriter(tmp_path / "pool", manifest())
    assert set(writer.committed) == {0}
    for index in range(CHUNKS):
        writer.commit(stage(tmp_path / "pool", index))
    make(tmp_path / "whole")
    assert bytes_of(tmp_path / "pool") == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize("place", ["", "vectors", "commits"])
def test_a_file_where_a_directory_belongs(tmp_path: Path, place: str) -> None:
    path = tmp_path / "pool"
    (path / place).parent.mkdir(exist_ok=True)
    (path / place).write_bytes(b"mine")
    with pytest.raises(OSError, match=place or "pool"):
        PoolWriter(path, manifest())
    with pytest.raises(PoolError, match="not a pool"):
        Pool(path)
    assert (path / place).read_bytes() == b"mine"


def test_temporaries_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".tmp-mine").mkdir()
    (tmp_path / ".tmp-pool.json-1").write_bytes(b"half a manifest")
    PoolWriter(tmp_path, manifest())
    assert (tmp_path / ".tmp-mine").is_dir()
    assert not (tmp_path / ".tmp-pool.json-1").exists()


# -- what a writer refuses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"encoder": {"name": "made", "fingerprint": "x"}}, FingerprintMismatch, "encoder.*another directory"),
        ({"source": {"name": "made", "fingerprint": "x"}}, FingerprintMismatch, "source.*another directory"),
        ({"chunk_rows": 5}, PoolError, "begun with 4 rows per chunk, now 5; pass --chunk-rows 4"),
        ({"items": 12}, FingerprintMismatch, "its items is 12, expected 11"),
        ({"dim": 4}, FingerprintMismatch, "its dim is 4, expected 3"),
    ],
)
def test_another_job_is_refused_and_told_what_to_do(
    tmp_path: Path, changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    make(tmp_path)
    before = bytes_of(tmp_path)
    with pytest.raises(error, match=message):
        PoolWriter(tmp_path, manifest(**changed))
    assert bytes_of(tmp_path) == before


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    record = {**asdict(Pool(tmp_path).manifest), "version": 3}
    write_sealed(tmp_path / "pool.json", record)
    for opened in (Pool, lambda path: PoolWriter(path, manifest())):
        with pytest.raises(PoolError, match="version 3, this raysal reads 2; update raysal"):
            opened(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vectors": np.zeros((2, 2), np.float16)}, r"\(2, 2\) for 2 items of dim 3"),
        ({"vectors": np.zeros((2, 3), np.float32)}, "float32, not float16"),
        ({"vectors": np.full((2, 3), np.nan, np.float16)}, "not finite; quarantine it"),
        ({"ids": np.array([5, 4])}, "ids do not increase"),
        ({"ids": np.array([1, 5])}, "ids do not increase from 4"),
        ({"carried": {"key": ["a", "b"]}}, "'key' has a name of the pool's own; rename it"),
        ({"carried": {"label": ["a"]}}, "'label' has 1 values for 2 items"),
        ({"carried": {"label": ["a", 1]}}, "'label' cannot be stored .*one type"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_named(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    PoolWriter(tmp_path, manifest())
    given: dict[str, Any] = {
        "index": 1, "first_id": 4, "vectors": np.zeros((2, DIM), np.float16), "ids": np.array([4, 5]),
        "keys": ["k4", "k5"], "uris": [None, None], "carried": {}, "quarantined": [],
    }  # fmt: skip
    with pytest.raises(PoolError, match=message):
        ChunkStage(tmp_path, DIM).write(**{**given, **fields})
    assert set(bytes_of(tmp_path)) == {"pool.json"}


def test_a_chunk_that_the_pool_does_not_have_is_refused(tmp_path: Path) -> None:
    writer = PoolWriter(tmp_path, manifest(chunks=2, items=8))
    with pytest.raises(PoolError, match="chunk 2 of a pool of 2"):
        writer.commit(stage(tmp_path, 2))


# -- what a reader can ask -------------------------------------------------------------------------------------------


def test_fingerprints_tell_sources_and_encoders_apart_and_not_chunk_sizes() -> None:
    one = manifest()
    assert one.fingerprint == manifest(chunk_rows=11, chunks=1).fingerprint
    others = [
        manifest(**changed)
        for changed in (
            {"items": 12},
            {"dim": 4},
            {"encoder": {"fingerprint": "x"}},
            {"source": {"fingerprint": "x"}},
            {"metric": "l2"},
        )
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_info_counts_what_is_there(tmp_path: Path) -> None:
    info = make(tmp_path).info()
    assert (info.items, info.quarantined, info.chunks, info.dim, info.encoder) == (6, 5, 3, 3, "made")
    sizes = [len(data) for name, data in bytes_of(tmp_path).items() if not name.endswith("json")]
    assert info.bytes == sum(sizes)


def test_an_export_can_be_embedded_again(tmp_path: Path) -> None:
    pool, out = make(tmp_path / "pool"), tmp_path / "out.parquet"
    assert pool.chunks[EMPTY].rows == 0
    assert pool.export(out) == len(pool) == 6
    table = pq.read_table(out)
    assert table.schema.field("vector").type == pa.list_(pa.float16(), DIM)
    assert table["id"].to_pylist() == [0, 1, 3, 8, 9, 10]
    assert table["key"].to_pylist() == ["k0", "k1", "k3", "k8", "k9", "k10"]
    assert table["label"].to_pylist() == ["l0", "l1", "l1", "l0", "l1", "l0"]
    embed(Table(path=out, carry=("label",)), Precomputed(), tmp_path / "again", chunk_rows=4)
    again = open_pool(tmp_path / "again")
    assert np.array_equal(
        np.concatenate([chunk.vectors() for chunk in again.chunks]),
        np.concatenate([chunk.vectors() for chunk in pool.chunks]),
    )
    assert again.rows_where("label", ["l1"], ["key"])["key"].to_pylist() == ["k1", "k3", "k9"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "out.parquet", "pool"]


def test_a_text_export_lists_the_keys_without_vectors(tmp_path: Path) -> None:
    pool = make(tmp_path / "pool")
    items = {name: [row for table in pool.items([name]) for row in table[name].to_pylist()] for name in pool.columns}
    for kind in ("csv", "tsv", "jsonl", "json"):
        assert pool.export(tmp_path / f"keys.{kind}") == 6
    with open(tmp_path / "keys.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == pool.columns
    assert [row["key"] for row in rows] == items["key"]
    assert [row["label"] for row in rows] == items["label"]
    listed = json.loads((tmp_path / "keys.json").read_text())
    assert listed == [json.loads(line) for line in (tmp_path / "keys.jsonl").read_text().splitlines()]
    assert {name: [row[name] for row in listed] for name in pool.columns} == items
    with pytest.raises(ConfigError, match=r"unknown extension '\.txt'"):
        pool.export(tmp_path / "keys.txt")


def test_items_are_found_by_any_column(tmp_path: Path) -> None:
    pool = make(tmp_path)
    assert pool.columns == ["id", "key", "uri", "owner", "label"]
    assert pool.rows_where("label", ["l1", "none"])["id"].to_pylist() == [1, 3, 9]
    assert pool.rows_where("id", [9, 0, 2], ["key"]).to_pydict() == {"key": ["k0", "k9"]}
    assert pool.rows_where("id", [], ["id"]).num_rows == 0
    assert pool.keys_of(np.array([9, 2, 0, 77])) == {0: "k0", 9: "k9"}
    assert pool.keys_of(np.empty(0, np.int64)) == {}
    assert pool.ids_of(["k9", "k0", "k9"]) == {"k9": 9, "k0": 0}
    assert pool.ids_of([]) == {}
    with pytest.raises(LabelError, match=r"3 keys are not in the pool: 'k2' \(quarantined at .*\), 'x', '\\udcff'"):
        pool.ids_of(["k0", "k2", "x", "\udcff"])  # k2 was quarantined
    with pytest.raises(PoolError, match=r"no column 'lable'; its columns: id, key, uri, owner, label"):
        pool.items(["lable"])
    with pytest.raises(PoolError, match="column 'id' is int64"):
        pool.rows_where("id", ["k0"])


def test_a_chunk_lost_as_a_whole_lacks_the_carried_columns_only(tmp_path: Path) -> None:
    """Such a chunk comes from a worker that died: it has no rows and no carried columns. Here it is the first one."""
    writer = PoolWriter(tmp_path, manifest(items=8, chunks=2))
    empty: dict[str, Any] = {"keys": [], "uris": [], "carried": {}, "vectors": np.empty((0, DIM), np.float16)}
    lost = [(id, f"k{id}", "encode", "killed") for id in range(4)]
    writer.commit(
        ChunkStage(tmp_path, DIM).write(index=0, first_id=0, ids=np.empty(0, np.int64), quarantined=lost, **empty)
    )
    rows: dict[str, Any] = {"keys": list("abcd"), "uris": [None] * 4, "carried": {"label": list("xyxy")}}
    writer.commit(
        ChunkStage(tmp_path, DIM).write(
            index=1, first_id=4, ids=np.arange(4, 8), quarantined=[], vectors=np.zeros((4, DIM), np.float16), **rows
        )
    )
    pool = Pool(tmp_path)
    assert pool.columns[-1] == "label"
    assert [table["label"].to_pylist() for table in pool.items(["label"])] == [[], list("xyxy")]
    assert pool.rows_where("label", ["x"])["key"].to_pylist() == ["a", "c"]
    assert pool.export(tmp_path / "out.parquet") == 4
    assert pool.verify() == 9


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    assert make(tmp_path / "run=3" / "pool").columns == ["id", "key", "uri", "owner", "label"]


def test_a_pool_is_read_chunk_by_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 7: no method of a pool makes a table or an array of more than one chunk."""
    pool = make_pool(tmp_path / "pool", np.ones((60, DIM)), chunk_rows=10, labels=["x"] * 60)
    opened: list[str] = []
    original = pq.ParquetFile

    def watched(source: Path, *args: Any, **kwargs: Any) -> Any:
        opened.append(source.name)
        return original(source, *args, **kwargs)

    monkeypatch.setattr(pq, "ParquetFile", watched)
    tables = pool.items(["id"])
    assert opened == []
    assert next(iter(tables)).num_rows == 10
    assert opened == ["00000.parquet"]
    vectors = pool.chunks[3].vectors()
    assert not vectors.flags.writeable
    assert not vectors.flags.owndata  # mapped into memory, not read
    pool.export(tmp_path / "out.parquet")
    assert [original(tmp_path / "out.parquet").metadata.row_group(i).num_rows for i in range(6)] == [10] * 6


def test_types_that_change_between_chunks_are_named(tmp_path: Path) -> None:
    writer = PoolWriter(tmp_path, manifest(items=2, chunks=2, chunk_rows=1))
    for index, value in enumerate([1, "x"]):
        writer.commit(
            ChunkStage(tmp_path, DIM).write(
                index=index, first_id=index, ids=np.array([index]), keys=[f"k{index}"], uris=[None], quarantined=[],
                carried={"label": [value]}, vectors=np.zeros((1, DIM), np.float16),
            )
        )  # fmt: skip
    with pytest.raises(PoolError, match=r"changes its type .*label"):
        Pool(tmp_path).export(tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
    assert len(content(Pool(tmp_path))) == 2
