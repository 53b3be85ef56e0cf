"""Probabilities from outside of a check of labels: they are where the items are, and in no process as a whole."""

from __future__ import annotations

import os
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_tools import cli
from numpy.typing import NDArray
from pools import make_pool, mixture
from programs import random_head
from tiers import deep

import raysal
from raysal.api.curate import run_step, run_steps
from raysal.config import FleetConfig
from raysal.curation.folder import FOLDER
from raysal.curation.labels import outside
from raysal.curation.labels.outside import digest_of_outside, laid_beside, outside_blocks, place_outside
from raysal.errors import ConfigError, PoolError
from raysal.fleet import Partition, open_fleet
from raysal.pool import Pool, lanes
from raysal.rounds.given_probabilities import read_probabilities
from raysal.store import temporary_name
from raysal.tables import write_tables

N, CLASSES = 150, ("cat", "dog", "eel")
LACKING, QUARANTINED = (5, 149), (3, 77)


def table_of(n: int = N, c: int = 3, *, without: Any = (*LACKING, *QUARANTINED), seed: int = 0) -> pa.Table:
    """Probabilities of items in any order; those of the first ones are whole numbers."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.setdiff1d(np.arange(n), without))
    p = rng.dirichlet(np.ones(c), len(rows))
    p[:10] = np.eye(c)[np.arange(10) % c]
    names = CLASSES if c == 3 else [f"class-{i}" for i in range(c)]
    return pa.table({"key": [f"item-{i:06d}" for i in rows], **{name: p[:, i] for i, name in enumerate(names)}})


def written(path: Path, table: pa.Table) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        write_tables(path, path.suffix[1:], table.schema, [table])
    return path


def pool_of(path: Path, n: int = N, **options: Any) -> Pool:
    x, names = mixture(n, 6, classes=3)
    return make_pool(path, x, labels=[CLASSES[int(name[-1])] for name in names], **options)


def blocks(partition: Partition) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    every = np.arange(len(partition))
    return [(partition.ids[rows], p.copy()) for rows, p in outside_blocks(partition, every)]


@pytest.mark.parametrize(
    ("form", "piece_rows", "partitions"), [("p.csv", 10**6, 1), ("p.tsv", 10**6, 2), ("p.parquet", 7, 5)]
)
def test_each_row_is_beside_its_item_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, piece_rows: int, partitions: int
) -> None:
    monkeypatch.setattr("raysal.rounds.probability_tables.PIECE_ROWS", piece_rows)
    pool = pool_of(tmp_path / "pool", chunk_rows=33, missing=QUARANTINED)
    given = written(tmp_path / form, table_of())
    whole = read_probabilities(pool, given)
    with (
        open_fleet(pool, FleetConfig(backend="local", partitions=partitions)) as fleet,
        laid_beside(pool, given, tmp_path) as laid,
    ):
        fleet.each(place_outside, laid)
        found = [block for part in fleet.each(blocks) for block in part]
    np.testing.assert_array_equal(np.concatenate([ids for ids, _ in found]), whole.ids)
    np.testing.assert_array_equal(np.concatenate([p for _, p in found]), whole.values)
    assert not set(whole.ids.tolist()) & {*LACKING, *QUARANTINED}
    assert laid.classes == CLASSES == whole.classes
    assert not list(tmp_path.glob(f"*{outside.FILE}*"))


def test_what_is_found_is_that_of_any_order_and_any_form(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", missing=QUARANTINED)
    table = table_of()
    found = [
        run_step(pool, {"name": "check", "probabilities": str(written(tmp_path / form, rows))}).steps[0].result
        for form, rows in (("a.csv", table), ("b.parquet", table.sort_by("key")))
    ]
    assert found[0].listed is not None
    assert found[0].listed.num_rows > 5
    assert found[0].listed.equals(found[1].listed)
    assert found[0].facts == found[1].facts
    assert found[0].facts["judged"] == N - len(LACKING) - len(QUARANTINED)


def test_labelled_items_without_any_are_counted_and_where_all_are_nothing_is_estimated(tmp_path: Path) -> None:
    pool, out = pool_of(tmp_path / "pool", missing=QUARANTINED), tmp_path / "suspects.csv"
    some, none = (written(tmp_path / name, table) for name, table in (("a.csv", table_of()), ("b.csv", table_of()[:0])))
    words = cli("check", pool.path, "--probabilities", some, "-o", out).out
    assert f"\n2 of {N - 2} labelled items not judged: they have no probabilities\n" in words
    words = cli("check", pool.path, "--probabilities", none, "-o", out, "--force").out
    assert words.startswith(f"{out}: 0 of {N - 2} labels look wrong\n")
    assert f"nothing was judged by probabilities: no labelled item has one for its class in {none}" in words
    assert raysal.check(pool, probabilities=none).error_rate is None
    every = written(tmp_path / "c.csv", table_of(without=QUARANTINED))
    assert not any("no probabilities" in note for note in raysal.check(pool, probabilities=every).notes)


@deep
def test_ray_finds_the_same(tmp_path: Path, ray_session: None) -> None:
    pool = pool_of(tmp_path / "pool", chunk_rows=33, missing=QUARANTINED)
    step = {"name": "check", "probabilities": str(written(tmp_path / "p.csv", table_of()))}
    here = run_step(pool, step).steps[0].result
    other = pool_of(tmp_path / "other", chunk_rows=64, missing=QUARANTINED)
    there = run_step(other, step, backend="ray", partitions=2).steps[0].result
    assert here.listed is not None
    assert here.listed.equals(there.listed)
    assert here.facts == there.facts


def test_no_step_is_begun_where_they_are_not_there(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool")
    with pytest.raises(ConfigError, match=r"check\.probabilities: .*nowhere\.csv: no such file"):
        run_steps(pool, ["exact", {"name": "check", "probabilities": str(tmp_path / "nowhere.csv")}])
    assert not (pool.path / FOLDER).exists()


def test_predictions_of_a_head_are_read_chunk_by_chunk(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", chunk_rows=40, missing=QUARANTINED)
    head = replace(random_head(6, 3), encoder=pool.vector_space)
    raysal.predict(pool, out=tmp_path / "all", head=head, top="all")
    whole = read_probabilities(pool, tmp_path / "all")
    with open_fleet(pool, FleetConfig(backend="local")) as fleet, laid_beside(pool, tmp_path / "all", tmp_path) as laid:
        fleet.each(place_outside, laid)
        ((_, p),) = fleet.each(blocks)[0]
    np.testing.assert_array_equal(p, whole.values)
    before = digest_of_outside(tmp_path / "all")
    raysal.predict(pool, out=tmp_path / "other", head=replace(head, mean=head.mean + 1), top="all")
    assert digest_of_outside(tmp_path / "other") != before == digest_of_outside(tmp_path / "all")


def test_memory_does_not_grow_with_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 classes are 256 bytes an item, and 512 as they are read. A check holds fewer, and as many with few classes."""
    monkeypatch.setattr("raysal.rounds.probability_tables.PIECE_ROWS", 500)
    monkeypatch.setattr("raysal.curation.labels.outside.BLOCK_ROWS", 500)
    peaks = []
    for n in (100, 1000, 6000):  # the first for what is imported
        pool = pool_of(tmp_path / f"pool-{n}", n, chunk_rows=500)
        table = table_of(n, 64, without=())
        table = table.rename_columns(["key", *CLASSES, *table.column_names[4:]])
        given = written(tmp_path / f"{n}.parquet", table)
        tracemalloc.start()
        try:
            found = run_step(pool, {"name": "check", "probabilities": str(given)}).steps[0].result
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert found.facts["judged"] == n
    assert (peaks[2] - peaks[1]) / 5000 < 256


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("twice", "keys with several rows: 'item-000020'"),
        ("foreign", "1 key is not in the pool: 'item-nobody'"),
        ("logits", "those of 'item-000020' add up to"),
        ("nan", "the row of 'item-000020' has no number"),
        ("text", "the column 'dog' holds something else than numbers"),
        ("no key", "there is no column key"),
        ("same names", "two columns have the same name"),
        ("nowhere", "no such file or folder"),
    ],
)
@pytest.mark.parametrize("form", ["p.csv", "p.parquet"])
def test_what_is_wrong_with_them_is_named_and_no_file_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, how: str, words: str
) -> None:
    monkeypatch.setattr("raysal.rounds.probability_tables.PIECE_ROWS", 40)
    pool = pool_of(tmp_path / "pool", missing=QUARANTINED)
    columns: dict[str, list[Any]] = table_of().to_pydict()
    row = columns["key"].index("item-000020")
    if how == "twice":
        columns = {name: [*values, values[row]] for name, values in columns.items()}
    elif how == "foreign":
        columns["key"][row] = "item-nobody"
    elif how == "logits":
        columns["cat"][row] += 2.0
    elif how == "nan":
        columns["cat"][row] = None
    elif how == "text":
        columns["dog"] = ["high"] * len(columns["dog"])
    elif how == "no key":
        columns["name"] = columns.pop("key")
    table = pa.table(columns)
    if how == "same names":
        table = table.rename_columns(["key", "cat", "cat", "eel"])
    given = tmp_path / form if how == "nowhere" else written(tmp_path / form, table)
    if how == "same names" and form == "p.csv":
        given.write_text("key,cat,cat,eel\nitem-000020,0.5,0.25,0.25\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"probabilities: .*{words}"):
        run_step(pool, {"name": "check", "probabilities": str(given)})
    assert not list(pool.path.glob(f"**/*{outside.FILE}*"))


def test_a_machine_that_does_not_see_the_file_says_so(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool")
    given = written(tmp_path / "p.csv", table_of())
    with open_fleet(pool, FleetConfig(backend="local")) as fleet:
        with laid_beside(pool, given, tmp_path) as laid:
            pass
        with pytest.raises(PoolError, match="not there on this machine"):
            fleet.each(place_outside, laid)


def test_keys_are_told_apart_where_half_of_a_hash_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(tmp_path / "pool", missing=QUARANTINED)
    keys = pa.array(["item-000149", "nobody", "item-000000", "item-000020"])
    whole = lanes.text_hashes_128

    def halved(texts: pa.Array) -> Any:
        hashes = whole(texts)
        hashes[:, 0] %= 3
        return hashes

    monkeypatch.setattr(outside, "text_hashes_128", halved)
    assert outside._Places(pool).of(keys).tolist() == [147, -1, 0, 19]


def test_what_a_killed_process_left_is_gone_after_the_next_run(tmp_path: Path) -> None:
    """A process writes as much as the table again; those of a plan that is killed often would fill the disk."""
    pool = pool_of(tmp_path / "pool")
    given = written(tmp_path / "p.csv", table_of())
    for name in (outside.FILE, temporary_name(tmp_path / outside.FILE, "-killed").name):
        (tmp_path / name).write_bytes(b"half of it")
    with laid_beside(pool, given, tmp_path):
        assert [path.name for path in tmp_path.iterdir() if outside.FILE in path.name] == [outside.FILE]
    assert not [path for path in tmp_path.iterdir() if outside.FILE in path.name]


def test_a_full_disk_is_an_error_that_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(tmp_path / "pool")
    given = written(tmp_path / "p.csv", table_of())

    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"), laid_beside(pool, given, tmp_path):
        pass
    assert not [path for path in tmp_path.iterdir() if outside.FILE in path.name]
