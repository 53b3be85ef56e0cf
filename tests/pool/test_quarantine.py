"""What a pool lost can be looked at: every item once, counted by reason, in any file, also before the pool is whole."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_pools
from cli_tools import cli, refused, write_vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from raysal.pool import ChunkStage, PoolWriter
from raysal.pool.quarantine import quarantine_of, write_quarantine

KINDS = ["not finite", "{n} pixels, at most 99", "{key} cannot be read", 'a\nline, and "quotes"', "", "é ✓"]
lost_items = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(["decode", "encode"])) | st.none(), max_size=30)


def make(path: Path, items: list[Any], rows: int = 7) -> list[dict[str, Any]]:
    """A pool in which item i is good where `items[i]` is None; what it lost, in order."""
    chunks = -(-len(items) // rows)
    writer = PoolWriter(path, tiny_pools.manifest(items=len(items), chunks=chunks, chunk_rows=rows))
    every = []
    for index in range(chunks):
        low, high = index * rows, min((index + 1) * rows, len(items))
        good = [i for i in range(low, high) if items[i] is None]
        lost = [
            (i, f"k{i}", items[i][1], items[i][0].format(n=i * 1000, key=f"k{i}"))
            for i in range(low, high)
            if items[i] is not None
        ]
        every += [dict(zip(("id", "key", "stage", "error"), row, strict=True)) for row in lost]
        staged = ChunkStage(path, tiny_pools.DIM).write(
            index=index, first_id=low, vectors=np.zeros((len(good), tiny_pools.DIM), np.float16),
            ids=np.array(good, np.int64), keys=[f"k{i}" for i in good], uris=[None] * len(good), carried={},
            quarantined=lost,
        )  # fmt: skip
        writer.commit(staged)
    return every


@settings(max_examples=30)
@given(items=lost_items, stage=st.sampled_from([None, "decode", "encode"]), k=st.integers(0, 40))
def test_every_lost_item_is_listed_once_and_counted_by_its_reason(
    items: list[Any], stage: str | None, k: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pool = tmp_path_factory.mktemp("lost") / "pool"
    every = make(pool, items)
    wanted = [row for row in every if stage in (None, row["stage"])]
    if every and not wanted:
        return  # refused; see below
    found = quarantine_of(pool, stage=stage, k=k)
    assert list(found.rows) == wanted[:k]
    assert (found.items, found.quarantined) == (len(items), len(wanted))
    kinds = [item for item in items if item is not None and stage in (None, item[1])]
    assert sorted(reason.items for reason in found.reasons) == sorted(kinds.count(kind) for kind in set(kinds))
    assert [reason.items for reason in found.reasons] == sorted((r.items for r in found.reasons), reverse=True)
    for reason in found.reasons:
        assert any((row["stage"], row["error"]) == (reason.stage, reason.error) for row in wanted)
    for suffix in (".csv", ".jsonl", ".parquet"):
        out = pool.with_name(f"lost{suffix}")
        assert write_quarantine(pool, out, stage=stage) == (len(wanted), (False, None))
        assert read(out) == wanted


def read(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".parquet":
        return list(pq.read_table(file).to_pylist())
    with open(file, encoding="utf-8", newline="") as opened:
        if file.suffix == ".jsonl":
            return [json.loads(line) for line in opened]
        return [{**row, "id": int(row["id"])} for row in csv.DictReader(opened)]


def test_a_pool_that_is_not_finished_can_be_looked_at(tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    writer = PoolWriter(pool, tiny_pools.manifest())
    writer.commit(tiny_pools.stage(pool, tiny_pools.EMPTY))
    found = quarantine_of(pool)
    assert (found.items, found.quarantined, len(found.rows)) == (4, 4, 4)
    assert found.reasons[0].error == "broken"


def test_from_the_command_line(tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    answer = cli("embed", write_vectors(tmp_path / "items.parquet", rows=40, bad=3), "--out", pool)
    assert answer.code == 3
    assert f"`raysal pool quarantine {pool}`" in answer.err
    shown = cli("pool", "quarantine", pool, "-k", 2)
    assert shown.code == 0
    assert "3 of 40 items are quarantined" in shown.out
    assert "item-0001" in shown.out
    assert "item-0002" not in shown.out
    assert "not finite" in shown.out
    found = cli("pool", "quarantine", pool, "--json").json
    assert (found["items"], found["quarantined"]) == (40, 3)
    assert [row["key"] for row in found["rows"]] == ["item-0000", "item-0001", "item-0002"]
    (reason,) = found["reasons"]
    assert reason["items"] == 3
    out = tmp_path / "lost.csv"
    assert cli("pool", "quarantine", pool, "-o", out).code == 0
    assert [row["key"] for row in read(out)] == ["item-0000", "item-0001", "item-0002"]
    assert cli("pool", "quarantine", pool, "-o", out).code == 0  # the same content again
    out.write_text("my notes\n")
    refused(cli("pool", "quarantine", pool, "-o", out), "lost.csv")
    refused(cli("pool", "quarantine", pool, "-o", tmp_path / "lost.txt"), "unknown extension")
    stage = "encode" if reason["stage"] == "decode" else "decode"
    refused(cli("pool", "quarantine", pool, "--stage", stage), f"nothing was lost in '{stage}'")
    refused(cli("pool", "quarantine", tmp_path), "not a pool")
    whole = tmp_path / "whole"
    cli("embed", write_vectors(tmp_path / "good.parquet", rows=20), "--out", whole)
    assert "0 of 20 items are quarantined" in cli("pool", "quarantine", whole).out
