"""A finished pool takes in what is new and changed: as one made anew would have it, and no id means two items."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from changing_sources import (
    CHANGES,
    CHUNK,
    KINDS,
    ROWS,
    Bytes,
    Row,
    applies,
    as_older,
    changed,
    key_in,
    texts_in,
    touch,
)
from growing_pools import Disk, Stop, contents, files_in, held, make
from tiers import deep, deep_unless, one_of_each

from raysal.embedding.changes import check_taken_in
from raysal.embedding.job import embed
from raysal.embedding.missing import remove_missing
from raysal.errors import (
    Damaged,
    DuplicateKeys,
    EncoderError,
    FingerprintMismatch,
    LabelError,
    PoolError,
    SourceChanged,
)
from raysal.pool import Pool, open_pool
from raysal.pool.chunk import Chunk
from raysal.pool.compacting import compact
from raysal.pool.generations import newest_generation
from raysal.pool.growth import BEGUN, read_begun
from raysal.pool.links import links_of
from raysal.pool.removing import remove_items
from raysal.pool.taken_files import SHA256_TABLE, files_name
from raysal.sources.npy import Npy
from raysal.sources.of_pool import read_items, source_of
from raysal.web.catalogue import Entry
from raysal.web.payloads import Payloads

FILES = [kind for kind in KINDS if kind not in ("vectors", "images", "texts")]
SINGLE = ("folder",)
"""Kinds of which each file is one item."""


@pytest.mark.parametrize("chunk_rows", deep_unless({CHUNK}, [1, CHUNK, 100]))
@pytest.mark.parametrize(
    ("kind", "change"), one_of_each((kind, change) for kind in FILES for change in CHANGES if applies(kind, change))
)
def test_a_changed_source_is_taken_in_as_one_made_anew_has_it(
    kind: str, change: str, chunk_rows: int, tmp_path: Path
) -> None:
    make(KINDS[kind](tmp_path / "items", ROWS), tmp_path / "pool", chunk_rows=chunk_rows)
    first = open_pool(tmp_path / "pool")
    before = held(first)
    rows = CHANGES[change](ROWS)
    source = KINDS[kind](tmp_path / "items", rows)
    report = make(source, tmp_path / "pool", chunk_rows=chunk_rows)
    make(source, tmp_path / "fresh")

    grown = open_pool(tmp_path / "pool")
    now = held(grown)
    gone = {key_in(kind, row.key) for row in ROWS} - {key_in(kind, row.key) for row in rows}
    assert {key: one for key, one in contents(grown).items() if key not in gone} == contents(
        open_pool(tmp_path / "fresh")
    )
    same = {key for key in before if key in gone or before[key][1:] == now[key][1:]}
    assert {key: now[key] for key in same} == {key: before[key] for key in same}, "what is the same keeps its id"
    news = [now[key][0] for key in now if key not in same]
    assert all(id >= len(ROWS) for id in news), "no id is given twice"
    assert len(set(news)) == len(news)
    assert links_of(grown) == {now[key][0]: before[key][0] for key in before if key not in same}
    assert (report.added, report.replaced) == (len(now.keys() - before.keys()), len(before.keys() - same))
    assert (report.items, len(grown)) == (len(now), len(now))
    assert grown.verify() > 0
    assert held(Pool(tmp_path / "pool", 0)) == before, "an older generation stays what it was"
    assert (grown.fingerprint == first.fingerprint) == (now == before)
    assert first.fingerprint in grown.ancestors
    assert grown.vector_space == first.vector_space

    files = files_in(tmp_path / "pool")
    again = make(source, tmp_path / "pool", chunk_rows=chunk_rows)
    assert (again.embedded, again.added, again.replaced) == (0, 0, 0)
    assert files_in(tmp_path / "pool") == files


@pytest.mark.parametrize("kind", deep_unless({"folder", "csv"}, FILES))
def test_it_does_not_matter_how_a_pool_is_cut(kind: str, tmp_path: Path) -> None:
    found = set()
    for chunk_rows in (1, CHUNK, 100):
        out = tmp_path / f"{chunk_rows}"
        make(KINDS[kind](tmp_path / "items", ROWS), out, chunk_rows=chunk_rows)
        for change in ("one more", "a payload"):
            make(KINDS[kind](tmp_path / "items", CHANGES[change](ROWS)), out, chunk_rows=chunk_rows)
        pool = open_pool(out)
        assert pool.manifest.items == 9
        found.add((frozenset(contents(pool).items()), pool.vector_space))
    assert len(found) == 1


class Model:
    """What a pool is to hold: ids are given in the order of the listing, and never twice."""

    def __init__(self) -> None:
        self.there: dict[str, int] = {}
        self.out: set[str] = set()
        self.ids: dict[int, str] = {}

    def check(self, pool: Pool) -> None:
        now = held(pool)
        assert {key: int(np.frombuffer(one[1], np.float16)[0]) for key, one in now.items()} == self.there
        for key, one in now.items():
            assert self.ids.setdefault(one[0], key) == key, "an id means one item for good"
        ids = [one[0] for one in now.values()]
        assert ids == sorted(ids)


@pytest.mark.parametrize("seed", deep_unless({0, 1}, range(8)))
@pytest.mark.parametrize("kind", deep_unless({"folder", "tables"}, ["folder", "tables", "csvs", "parquet", "jsonl"]))
def test_any_history_ends_in_what_the_source_holds(kind: str, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    rows: dict[str, Row] = {row.key: row for row in ROWS}
    model, pool, number = Model(), tmp_path / "pool", 100
    for _ in range(8):
        source = KINDS[kind](tmp_path / "items", list(rows.values()))
        begun: list[int] = []

        def stop(done: int, total: int, begun: list[int] = begun) -> None:
            begun.append(done)
            if len(begun) == 2 and done < total and rng.integers(2):
                raise Stop

        try:
            make(source, pool, report=stop)
        except Stop:
            make(KINDS[kind](tmp_path / "items", list(rows.values())), pool)
        model.there |= {row.key: row.number for row in rows.values() if row.key not in model.out}
        model.check(open_pool(pool))
        for _ in range(rng.integers(1, 4)):
            number += 1
            some = sorted(rows)[int(rng.integers(len(rows)))]
            match rng.integers(5):
                case 0 | 1:
                    rows[f"n{number}.png"] = Row(f"n{number}.png", number, "l0")
                case 2:
                    rows[some] = Row(some, number, "l0")
                case 3 if len(rows) > 4:
                    del rows[some]
                case 4 if len(model.there) > 4:
                    out = sorted(model.there)[int(rng.integers(len(model.there)))]
                    remove_items(pool, [out])
                    model.out.add(out)
                    del model.there[out]
                    model.check(open_pool(pool))
        if rng.integers(3) == 0:
            touch(tmp_path / "items")


@pytest.mark.parametrize("at", deep_unless({1, 6, 13}, range(16)))
@pytest.mark.parametrize("kind", deep_unless({"folder"}, ["folder", "csvs"]))
def test_a_growth_that_was_stopped_at_any_rename_goes_on_to_the_same_bytes(
    kind: str, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = (*changed(ROWS, 1, number=99), *(Row(f"n{place}.png", 50 + place, "l0") for place in range(5)))
    pools = [tmp_path / "one", tmp_path / "two"]
    source = KINDS[kind](tmp_path / "items", ROWS)
    for pool in pools:
        make(source, pool)
    before = held(open_pool(pools[0]))
    source = KINDS[kind](tmp_path / "items", more)
    make(source, pools[0])
    with monkeypatch.context() as patch:
        Disk(patch, at)
        try:
            make(source, pools[1])
        except Stop:
            assert held(open_pool(pools[1])) in (before, held(open_pool(pools[0]))), (
                "a reader sees all of it or nothing"
            )
    make(source, pools[1])
    assert files_in(pools[1]) == files_in(pools[0])


@pytest.mark.parametrize("kind", deep_unless({"folder", "parquet"}, FILES))
def test_a_growth_that_was_begun_is_finished_before_another_one(kind: str, tmp_path: Path) -> None:
    make(KINDS[kind](tmp_path / "items", ROWS), tmp_path / "pool")
    rows = (*ROWS, *(Row(f"n{place}.png", 50 + place, "l0") for place in range(5)))

    def stop(done: int, total: int) -> None:
        if done:
            raise Stop

    with pytest.raises(Stop):
        make(KINDS[kind](tmp_path / "items", rows), tmp_path / "pool", report=stop)
    assert read_begun(tmp_path / "pool") is not None
    assert len(open_pool(tmp_path / "pool")) == len(ROWS)
    rows = (*changed(rows, 9, number=97), Row("z.png", 98, "l1"))
    make(KINDS[kind](tmp_path / "items", rows), tmp_path / "pool")
    make(KINDS[kind](tmp_path / "items", rows), tmp_path / "fresh")
    assert contents(open_pool(tmp_path / "pool")) == contents(open_pool(tmp_path / "fresh"))
    assert read_begun(tmp_path / "pool") is None


def test_a_growth_is_taken_in_once(tmp_path: Path) -> None:
    """Also where a stop came right after that."""
    make(KINDS["folder"](tmp_path / "items", ROWS), tmp_path / "pool")
    source = KINDS["folder"](tmp_path / "items", CHANGES["one more"](ROWS))
    begun: list[bytes] = []

    def look(done: int, total: int) -> None:
        begun.append((tmp_path / "pool" / BEGUN).read_bytes())

    make(source, tmp_path / "pool", report=look)
    before = held(open_pool(tmp_path / "pool"))
    (tmp_path / "pool" / BEGUN).write_bytes(begun[-1])
    touch(tmp_path / "items")
    make(source, tmp_path / "pool")
    assert held(open_pool(tmp_path / "pool")) == before
    assert not (tmp_path / "pool" / BEGUN).exists()


def test_nothing_is_removed_while_a_growth_is_not_finished(tmp_path: Path) -> None:
    make(KINDS["folder"](tmp_path / "items", ROWS), tmp_path / "pool")

    def stop(done: int, total: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        make(KINDS["folder"](tmp_path / "items", CHANGES["one more"](ROWS)), tmp_path / "pool", report=stop)
    for change in (lambda pool: remove_items(pool, ["k1.png"]), remove_missing, compact):
        with pytest.raises(PoolError, match="begun and not finished; finish it"):
            change(tmp_path / "pool")


@pytest.mark.parametrize("kind", deep_unless({"folder", "jsonl"}, FILES))
def test_a_pool_of_an_older_build_grows(kind: str, tmp_path: Path) -> None:
    make(KINDS[kind](tmp_path / "items", ROWS), tmp_path / "pool")
    as_older(tmp_path / "pool")
    before = held(open_pool(tmp_path / "pool"))
    rows = CHANGES["one more"](ROWS)
    source = KINDS[kind](tmp_path / "items", rows)
    assert make(source, tmp_path / "pool").added == 1
    now = held(open_pool(tmp_path / "pool"))
    assert {key: now[key] for key in before} == before
    assert make(source, tmp_path / "pool").embedded == 0


def test_only_what_is_new_goes_through_the_model(tmp_path: Path) -> None:
    """Also where a file of many items became longer."""
    seen: list[int] = []

    class Counting(Bytes):
        def prepare(self, key: str, payload: object) -> int:
            seen.append(1)
            return super().prepare(key, payload)

    for kind in ("folder", "jsonl", "csvs"):
        for rows in (ROWS[:6], (*ROWS[:6], Row("n.png", 77, "l0"))):
            source = KINDS[kind](tmp_path / kind, rows)
            seen.clear()
            embed(source, Counting(modality=source.modality), tmp_path / f"pool {kind}", chunk_rows=CHUNK)
        assert len(seen) == 1, kind


@pytest.mark.parametrize("older", [False, True])
def test_a_key_of_another_file_is_refused(older: bool, tmp_path: Path) -> None:
    source = KINDS["csvs"](tmp_path / "items", ROWS)
    make(source, tmp_path / "pool")
    if older:
        as_older(tmp_path / "pool")
    before = files_in(tmp_path / "pool")
    (tmp_path / "items" / "part 9").mkdir()
    KINDS["csv"](tmp_path / "items" / "part 9" / "texts", ROWS[:1])
    with pytest.raises(DuplicateKeys, match=r"k0\.png"):
        make(source, tmp_path / "pool")
    assert files_in(tmp_path / "pool") == before


def test_another_encoder_chunk_size_metric_or_scale_is_refused(tmp_path: Path) -> None:
    make(KINDS["folder"](tmp_path / "items", ROWS), tmp_path / "pool")
    source = KINDS["folder"](tmp_path / "items", CHANGES["one more"](ROWS))
    before = files_in(tmp_path / "pool")
    for options in ({"chunk_rows": 5}, {"metric": "l2"}, {"scale": "2^3"}):
        with pytest.raises((PoolError, FingerprintMismatch)):
            make(source, tmp_path / "pool", **options)
    with pytest.raises(EncoderError):
        embed(source, Bytes(modality="text"), tmp_path / "pool")
    assert files_in(tmp_path / "pool") == before


@pytest.mark.parametrize("at", deep_unless({2}, range(8)))
def test_a_growth_that_was_stopped_before_it_was_begun_leaves_nothing_known(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(KINDS["folder"](tmp_path / "items", ROWS), tmp_path / "pool")
    source = KINDS["folder"](tmp_path / "items", CHANGES["one more"](ROWS))
    with monkeypatch.context() as patch:
        Disk(patch, at)
        with suppress(Stop):
            make(source, tmp_path / "pool")
    with suppress(PoolError):  # the growth was begun
        remove_items(tmp_path / "pool", ["k1.png"])
    make(source, tmp_path / "pool")
    assert "k9.png" in held(open_pool(tmp_path / "pool"))


@pytest.mark.parametrize("kind", ["folder", "csvs", "parquet"])
def test_a_source_that_was_only_touched_is_not_refused(kind: str, tmp_path: Path) -> None:
    """The job finds nothing that comes, so it keeps no files: what it saw is known by the stamp of the source."""
    make(KINDS[kind](tmp_path / "items", ROWS[:6]), tmp_path / "pool")
    source = KINDS[kind](tmp_path / "items", ROWS)
    make(source, tmp_path / "pool")
    touch(tmp_path / "items")
    with pytest.raises(SourceChanged):
        check_taken_in(open_pool(tmp_path / "pool"), source, "embed it")
    assert make(source, tmp_path / "pool").embedded == 0
    check_taken_in(open_pool(tmp_path / "pool"), source, "embed it")


def test_what_quarantine_holds_is_read_once_for_all_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row(f"k{place:02}.png", place, "l0") for place in range(40)]
    source = KINDS["folder"](tmp_path / "items", rows[:20])
    (tmp_path / "items" / "k01.png").write_bytes(b"none")
    make(source, tmp_path / "pool", chunk_rows=1)
    source = KINDS["folder"](tmp_path / "items", rows)
    read: list[int] = []
    real = Chunk.quarantine

    def quarantine(chunk: Chunk) -> pa.Table:
        read.append(chunk.index)
        return real(chunk)

    monkeypatch.setattr(Chunk, "quarantine", quarantine)
    make(source, tmp_path / "pool", chunk_rows=1)
    assert open_pool(tmp_path / "pool").manifest.items == 40
    assert read.count(1) <= 3


# items that go from one file to another


def test_an_item_that_was_moved_to_another_file_is_no_item_of_two_files(tmp_path: Path) -> None:
    items, pool = tmp_path / "items", tmp_path / "pool"
    make(texts_in(items, a=ROWS[:3], b=ROWS[3:]), pool)
    before = held(open_pool(pool))
    make(texts_in(items, a2=ROWS[:3], b=ROWS[3:]), pool)
    make(texts_in(items, a=[Row("q", 5, "l0")], a2=ROWS[:3], b=ROWS[3:]), pool)
    make(texts_in(items, a=[Row("q", 5, "l0")], a2=[*ROWS[:3], Row("z", 6, "l0")], b=ROWS[3:]), pool)
    now = held(open_pool(pool))
    assert {key: now[key] for key in before} == before
    assert now.keys() - before.keys() == {"q", "z"}
    before = files_in(pool)
    with pytest.raises(DuplicateKeys, match="k1"):
        make(texts_in(items, a=[Row("q", 5, "l0")], a2=[*ROWS[:3], Row("z", 6, "l0")], b=ROWS[3:], c=ROWS[1:2]), pool)
    assert files_in(pool) == before


def test_items_of_a_file_that_was_renamed_are_read_from_it(tmp_path: Path) -> None:
    items, path = tmp_path / "items", tmp_path / "pool"
    make(texts_in(items, a=ROWS[:3], b=ROWS[3:]), path)
    make(texts_in(items, b=ROWS[3:], c=ROWS[:3]), path)
    pool = open_pool(path)
    wanted = {one[0]: key for key, one in held(pool).items()}
    found = {id: (item.key, item.payload) for id, item in read_items(pool, source_of(pool), wanted)}
    assert found == {id: (key, f"{int(key[1]) + 10:04d}") for id, key in wanted.items()}
    payloads = Payloads(pool)
    assert {id: (key, payloads.read(Entry(id, key, None))) for id, key in wanted.items()} == found


def test_rows_keep_their_keys_where_a_matrix_between_is_as_it_was(tmp_path: Path) -> None:
    """One file has the keys of all matrices."""
    (tmp_path / "items").mkdir()

    def matrix(name: str, *numbers: int) -> None:
        np.save(tmp_path / "items" / name, np.array([[number, 1] for number in numbers], np.float32))

    for name, first in (("a", 1), ("b", 3), ("c", 5)):
        matrix(name, first, first + 1)
    (tmp_path / "keys.txt").write_text("a1\na2\nb1\nb2\nc1\nc2\n")
    source = Npy(path=tmp_path / "items", keys=tmp_path / "keys.txt")
    assert [list(unit.keys) for unit in source.units_in(["a.npy", "c.npy"], 3)] == [["a1", "a2", "c1"], ["c2"]]
    make(source, tmp_path / "pool", chunk_rows=100)
    matrix("a", 11, 12)
    matrix("c", 15, 16)
    make(Npy(path=tmp_path / "items", keys=tmp_path / "keys.txt"), tmp_path / "pool", chunk_rows=100)
    now = {key: float(np.frombuffer(one[1], np.float16)[0]) for key, one in held(open_pool(tmp_path / "pool")).items()}
    assert now == {"a1": 11, "a2": 12, "b1": 3, "b2": 4, "c1": 15, "c2": 16}


# items that are taken out


@pytest.mark.parametrize("kind", deep_unless({"folder", "arrow"}, FILES))
def test_removed_items_are_nowhere_and_stay_out(kind: str, tmp_path: Path) -> None:
    source = KINDS[kind](tmp_path / "items", ROWS)
    make(source, tmp_path / "pool")
    before = held(open_pool(tmp_path / "pool"))
    first, other, second, typo = (key_in(kind, f"k{number}.png") for number in (1, 2, 6, 11))
    done = remove_items(tmp_path / "pool", [first, second])
    assert (done.removed, done.items, done.generation) == (2, 6, 1)
    pool = open_pool(tmp_path / "pool")
    assert held(pool) == {key: one for key, one in before.items() if key not in (first, second)}
    assert pool.info().removed == 2
    with pytest.raises(LabelError, match=f"'{first}'"):
        pool.ids_of([first])
    assert remove_items(tmp_path / "pool", [first]).before == 1
    with pytest.raises(LabelError, match=f"'{typo}'"):
        remove_items(tmp_path / "pool", [other, typo])
    assert held(open_pool(tmp_path / "pool")) == held(pool)
    touch(tmp_path / "items")
    make(source, tmp_path / "pool")
    assert held(open_pool(tmp_path / "pool")) == held(pool)
    make(KINDS[kind](tmp_path / "items", CHANGES["all payloads"](ROWS)), tmp_path / "pool")
    assert first not in held(open_pool(tmp_path / "pool"))
    assert held(Pool(tmp_path / "pool", 0)) == before


def test_a_pool_keeps_an_item(tmp_path: Path) -> None:
    make(KINDS["folder"](tmp_path / "items", ROWS), tmp_path / "pool")
    with pytest.raises(PoolError, match="all its 8 items would be removed"):
        remove_items(tmp_path / "pool", [row.key for row in ROWS])
    assert newest_generation(tmp_path / "pool") == 0


def test_a_quarantined_item_whose_file_was_mended_is_taken_in(tmp_path: Path) -> None:
    source = KINDS["folder"](tmp_path / "items", ROWS)
    (tmp_path / "items" / "k1.png").write_bytes(b"none")
    make(source, tmp_path / "pool")
    assert open_pool(tmp_path / "pool").quarantined == 1
    report = make(KINDS["folder"](tmp_path / "items", ROWS), tmp_path / "pool")
    pool = open_pool(tmp_path / "pool")
    assert (report.items, report.quarantined, pool.quarantined) == (8, 0, 0)
    assert len(held(pool)) == 8
    assert [chunk.quarantine().num_rows for chunk in pool.chunks] == [0] * len(pool.chunks)


@deep
@pytest.mark.parametrize("harm", ["generations/00001.json", "removed/00001.arrow"])
def test_every_flipped_byte_of_a_generation_is_named(harm: str, tmp_path: Path) -> None:
    make(KINDS["folder"](tmp_path / "items", ROWS), tmp_path / "pool")
    remove_items(tmp_path / "pool", ["k1.png"])
    path = tmp_path / "pool" / harm
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(PoolError, match=Path(harm).name):
            open_pool(tmp_path / "pool")
    path.write_bytes(content)
    assert open_pool(tmp_path / "pool").verify() > 0


@pytest.mark.parametrize("harm", ["short", "other", "gone"])
def test_what_was_taken_out_does_not_come_back_where_the_list_of_it_is_damaged(harm: str, tmp_path: Path) -> None:
    make(KINDS["folder"](tmp_path / "items", ROWS), tmp_path / "pool")
    remove_items(tmp_path / "pool", ["k1.png"])
    path = tmp_path / "pool" / "removed" / "00001.parquet"
    content = path.read_bytes()
    source = KINDS["folder"](tmp_path / "items", CHANGES["a payload"](ROWS))
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(content.replace(b"k1.png", b"k9.png") if harm == "other" else content[:20] + content[21:])
    touch(tmp_path / "items")
    with pytest.raises(Damaged, match=r"removed/00001\.parquet"):
        make(source, tmp_path / "pool")
    path.write_bytes(content)
    make(source, tmp_path / "pool")
    assert "k1.png" not in held(open_pool(tmp_path / "pool"))


def test_verifying_looks_at_all_that_generations_have(tmp_path: Path) -> None:
    make(KINDS["folder"](tmp_path / "items", ROWS), tmp_path / "pool")
    make(KINDS["folder"](tmp_path / "items", CHANGES["a payload"](ROWS)), tmp_path / "pool")
    remove_items(tmp_path / "pool", ["k1.png"])
    pool = open_pool(tmp_path / "pool")
    read = pool.verify()
    compact(tmp_path / "pool")
    pool = open_pool(tmp_path / "pool")
    for name in ("files/00001.parquet", "replaced/00001.parquet", "removed/00001.arrow", "removed/00002.parquet"):
        path = tmp_path / "pool" / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(Damaged, match=name):
            pool.verify()
        path.unlink()
        with pytest.raises(Damaged, match=name):
            pool.verify()
        path.write_bytes(content)
    assert 0 < pool.verify() <= read + 1


@pytest.mark.parametrize("name", [files_name(0), SHA256_TABLE])
def test_a_flipped_byte_of_a_table_that_no_record_names_is_noticed(name: str, tmp_path: Path) -> None:
    source = KINDS["folder"](tmp_path / "items", ROWS)
    make(source, tmp_path / "pool")
    assert make(source, tmp_path / "pool", check="hash").added == 0
    path = tmp_path / "pool" / name
    content = path.read_bytes()
    read = open_pool(tmp_path / "pool").verify()
    for at in range(0, len(content), len(content) // 20):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(Damaged, match=name):
            open_pool(tmp_path / "pool").verify()
        touch(tmp_path / "items")
        with pytest.raises(Damaged, match=name):
            make(source, tmp_path / "pool", check="hash")
    path.unlink()
    assert open_pool(tmp_path / "pool").verify() == read - 1
    assert make(source, tmp_path / "pool", check="hash").added == 0


def test_a_pool_of_an_older_raysal_whose_table_has_no_digest_grows(tmp_path: Path) -> None:
    make(KINDS["folder"](tmp_path / "items", ROWS), tmp_path / "pool")
    path = tmp_path / "pool" / files_name(0)
    pq.write_table(pq.read_table(path), path)
    open_pool(tmp_path / "pool").verify()
    make(KINDS["folder"](tmp_path / "items", CHANGES["a payload"](ROWS)), tmp_path / "pool")
    assert open_pool(tmp_path / "pool").generation == 1


@pytest.mark.parametrize("kind", deep_unless({"folder", "csv"}, FILES))
def test_what_was_only_touched_is_the_same_also_beside_what_was_taken_out(kind: str, tmp_path: Path) -> None:
    source = KINDS[kind](tmp_path / "items", ROWS)
    make(source, tmp_path / "pool")
    before = held(open_pool(tmp_path / "pool"))
    remove_items(tmp_path / "pool", [list(before)[1]])
    touch(tmp_path / "items")
    report = make(source, tmp_path / "pool")
    assert (report.embedded, report.added, report.replaced) == (0, 0, 0)
    assert held(open_pool(tmp_path / "pool")) == {key: before[key] for key in before if key != list(before)[1]}
