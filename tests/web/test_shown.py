"""Records of items: texts, tables and what is carried."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import raysal
from raysal.embedding.job import embed
from raysal.embedding.precomputed import Precomputed
from raysal.labels.records import Said
from raysal.labels.remarks import Remark
from raysal.pool import Pool, open_pool
from raysal.sources.table import Table
from raysal.sources.text import Text
from raysal.types import SKIP
from raysal.web.catalogue import Catalogue
from raysal.web.media import MAX_TEXT, Media
from raysal.web.payloads import Payloads
from raysal.web.places import Place
from raysal.web.shown import MOST_LETTERS, Shown


def text_pool(folder: Path, count: int) -> Pool:
    from served_runs import Lengths

    rows = "".join(f"t{i},the text of number {i} {'x' * 400}\n" for i in range(count))
    (folder / "texts.csv").write_text(f"key,text\n{rows}", encoding="utf-8")
    raysal.embed(Text(path=folder / "texts.csv"), Lengths(), out=folder / "pool", chunk_rows=4)  # type: ignore[arg-type]
    return open_pool(folder / "pool")


def shown_of(pool: Pool) -> tuple[Shown, Catalogue, Media]:
    payloads = Payloads(pool)
    media = Media(pool, payloads)
    return Shown(pool, Catalogue(pool), media, payloads), Catalogue(pool), media


def test_a_text_is_cut_in_a_list_and_whole_by_itself(tmp_path: Path):
    shown, catalogue, media = shown_of(text_pool(tmp_path, 5))
    entry = catalogue.entries([3])[3]
    record = shown.item(entry, None, {}, "ann", 0.25, Place(7, 0.5, "margin", "why"))
    assert (record["kind"], record["state"], record["mine"], record["broken"]) == ("text", "unlabeled", None, None)
    assert (record["rank"], record["score"], record["score_name"], record["reason"]) == (7, 0.5, "margin", "why")
    assert record["text"].startswith("the text of number 3 x")
    assert len(record["text"]) == 280
    assert len(media.text(entry)) > 400
    (tmp_path / "texts.csv").write_text("key,text\nt0,another file\n", encoding="utf-8")
    gone = shown_of(open_pool(tmp_path / "pool"))[0].item(entry, None, {}, "ann", None, Place())
    assert gone["text"] is None
    assert "in its place now" in gone["broken"]


def test_a_row_of_a_table_shows_what_it_carries(tmp_path: Path):
    columns = {
        "key": ["a", "b"], "vector": [[1.0, 0.0], [0.0, 1.0]], "note": ["n" * 500, "short"],
        "mass": [1.5, float("nan")], "when": pa.array([1, 2], pa.date32()),
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    embed(Table(path=tmp_path / "t.parquet", carry=("note", "mass", "when")), Precomputed(), tmp_path / "pool")
    shown, catalogue, _ = shown_of(open_pool(tmp_path / "pool"))
    entry = catalogue.entries([0])[0]
    record = shown.item(entry, None, {}, "ann", None, Place())
    assert record["kind"] == "table"
    assert record["text"] == "n" * (MAX_TEXT - 1) + "…", "the longest column of texts is what people read"
    assert "note" not in record["carried"]
    assert (record["carried"]["mass"], record["carried"]["when"]) == (1.5, "1970-01-02")
    whole = shown.details(entry)
    assert (whole["text"], whole["carried"]["mass"]) == ("n" * 500, 1.5)


def test_a_name_among_other_values_is_no_text_to_read(tmp_path: Path):
    columns = {"key": ["a", "b"], "vector": [[1.0, 0.0], [0.0, 1.0]], "city": ["Bonn", "Ulm"], "mass": [1.5, 2.0]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    for carry, text in ((("city", "mass"), None), (("city",), "Bonn")):
        pool = tmp_path / f"pool{len(carry)}"
        embed(Table(path=tmp_path / "t.parquet", carry=carry), Precomputed(), pool)
        shown, catalogue, _ = shown_of(open_pool(pool))
        record = shown.item(catalogue.entries([0])[0], None, {}, "ann", None, Place())
        assert record["text"] == text
        assert record["carried"] == ({"city": "Bonn", "mass": 1.5} if text is None else {})


def test_a_carried_value_is_cut_in_a_list(tmp_path: Path):
    columns = {
        "key": ["a"], "vector": [[1.0, 0.0]], "short": ["s" * 400], "long": ["l" * 500],
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    embed(Table(path=tmp_path / "t.parquet", carry=("short", "long")), Precomputed(), tmp_path / "pool")
    shown, catalogue, _ = shown_of(open_pool(tmp_path / "pool"))
    record = shown.item(catalogue.entries([0])[0], None, {}, "ann", None, Place())
    assert len(record["carried"]["short"]) == MOST_LETTERS


def test_who_said_what_is_told_apart(tmp_path: Path):
    embed(table_of(tmp_path), Precomputed(), tmp_path / "pool")
    shown, catalogue, _ = shown_of(open_pool(tmp_path / "pool"))
    entry = catalogue.entries([0])[0]
    said = Said(
        state="labeled", answers={"ann": "x", "bob": "x", "cid": SKIP}, weights={"ann": 1.0, "bob": 1.0}, round=0
    )
    record = shown.item(entry, said, {"ann": Remark("n", 4)}, "ann", None, Place())
    assert record["mine"] == {"label": "x", "note": "n", "rating": 4, "disputed": False}
    assert (record["others"], record["state"], record["kind"]) == (2, "labeled", "vector")
    assert shown.item(entry, said, {}, "dee", None, Place())["mine"] is None
    doubted = shown.item(entry, said, {"cid": Remark(disputed=True)}, "ann", None, Place())
    assert doubted["state"] == "disputed"
    over = shown.item(entry, said, {"bob": Remark(disputed=True)}, "ann", None, Place())
    assert over["state"] == "labeled"  # bob has given a label since


def table_of(folder: Path) -> Table:
    pq.write_table(pa.table({"key": ["a"], "vector": [np.ones(2).tolist()]}), folder / "t.parquet")
    return Table(path=folder / "t.parquet")
