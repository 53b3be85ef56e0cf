"""What moves from file to file is exported only as what the pool holds, whatever happened to files and pool before."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from changing_sources import KINDS, ROWS, Row, texts_in
from growing_pools import Disk, Stop, files_in, held, make
from tiers import deep_unless

import raysal
from raysal.arrow_values import numbers_of
from raysal.embedding.missing import remove_missing
from raysal.errors import BadItem, MediaLost
from raysal.exporting.media import MediaReader, source_for
from raysal.pool import Pool, open_pool
from raysal.pool.chunk import Chunk
from raysal.pool.compacting import compact
from raysal.pool.generations import generation_file
from raysal.pool.removing import remove_items
from raysal.pool.taken_files import KnownFiles, file_names_of, files_name
from raysal.sources.base import Source
from raysal.sources.table import Table
from raysal.store import read_sealed, sha256_of, write_sealed

Files = dict[str, dict[str, Row]]
"""{name: {key: row}}"""


def tables_in(folder: Path, **files: Any) -> Source:
    """As `texts_in`, of tables."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.stem not in files:
            path.unlink()
    for name, rows in files.items():
        columns = {
            "key": [r.key for r in rows],
            "text": [r.data.decode() for r in rows],
            "label": [r.label for r in rows],
        }
        table, path = pa.table(columns), folder / f"{name}.parquet"
        if not path.exists() or not pq.read_table(path).equals(table):
            path.unlink(missing_ok=True)
            pq.write_table(table, path)
    return Table(path=folder, carry=("label",))


WRITERS: dict[str, Callable[..., Source]] = {"texts": texts_in, "tables": tables_in}


def said_of(pool: Pool) -> dict[str, str | None]:
    """{key: the text that an export has of it, None if it has none}."""
    reader, found = MediaReader(pool, source_for(pool, None)), {}
    for chunk in pool.chunks:
        items = chunk.items(["id", "key"])
        keys = items["key"].to_pylist()
        for key, media in zip(keys, reader.read(chunk, numbers_of(items["id"]), keys), strict=True):
            found[key] = None if isinstance(media, BadItem) else media.content.decode()
    return found


class Memory:
    """Remembers each version of each file, and in which one the pool met each item last."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        self.written: dict[str, list[Row]] = {}
        self.met: dict[str, tuple[str, int]] = {}
        self.generation = -1
        self.first: Files = {}

    def touched(self, name: str) -> None:
        self.versions[name] = self.versions.get(name, 0) + 1

    def wrote(self, files: Files) -> None:
        """The files are there now; one whose rows are what they were is left alone."""
        now = {name: list(rows.values()) for name, rows in files.items()}
        for name, rows in now.items():
            if self.written.get(name) != rows:
                self.touched(name)
        self.written = now

    def embedded(self, pool: Pool, files: Files) -> None:
        """A job ended. One that found nothing to take in keeps no files, but of a pool that never changed."""
        if self.generation < 0:
            self.first = {name: dict(rows) for name, rows in files.items()}
        if pool.generation != self.generation or (pool.generation == 0 and self.first == files):
            self.met = {key: (name, self.versions[name]) for name, rows in files.items() for key in rows}
        self.generation = pool.generation

    def expected(self, pool: Pool, files: Files) -> dict[str, str | None]:
        now = {key: row for rows in files.values() for key, row in rows.items()}
        found: dict[str, str | None] = {}
        for chunk, record in zip(pool.chunks, pool.records, strict=True):
            as_it_was = "contents" in record and all(
                key in now and (now[key].data.decode(), now[key].label) == one
                for key, one in self._made_of(pool, record).items()
            )
            for key in chunk.items(["key"])["key"].to_pylist():
                name, version = self.met.get(key, ("", -1))
                sure = name in files and self.versions[name] == version and key in files[name]
                found[key] = self._made_of(pool, record)[key][0] if sure or as_it_was else None
        return found

    @staticmethod
    def _made_of(pool: Pool, record: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
        """{key: text and label} of all that a chunk was made of, as its vectors tell."""
        whole = Chunk.of(pool.path, record, pool.dim)
        rows = zip(whole.items().to_pylist(), whole.vectors(), strict=True)
        return {row["key"]: (f"{int(vector[0]):04d}", row["label"]) for row, vector in rows}


@pytest.mark.parametrize("seed", deep_unless({0}, range(16)))
@pytest.mark.parametrize("kind", deep_unless({"texts"}, WRITERS))
def test_an_export_agrees_with_one_who_remembers_every_file(kind: str, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng([seed, len(kind)])
    files: Files = {"a": {row.key: row for row in ROWS[:4]}, "b": {row.key: row for row in ROWS[4:]}}
    memory, path, number = Memory(), tmp_path / "pool", 100
    out: set[str] = set()

    def write() -> Source:
        memory.wrote(files)
        return WRITERS[kind](tmp_path / "items", **{name: list(rows.values()) for name, rows in files.items()})

    def embed() -> None:
        if rng.integers(3) == 0 and memory.generation >= 0:
            reports: list[int] = []

            def stop(done: int, total: int) -> None:
                reports.append(done)
                if len(reports) == 2 and done < total:
                    raise Stop

            try:
                make(write(), path, report=stop)
            except Stop:
                make(write(), path)
        else:
            make(write(), path)
        memory.embedded(open_pool(path), files)

    def pick(names: list[str]) -> str:
        return names[int(rng.integers(len(names)))]

    embed()
    for _ in range(12):
        for _ in range(rng.integers(1, 4)):
            number += 1
            if not (some := sorted(name for name, rows in files.items() if len(rows) > 1)):
                break
            name = pick(some)
            key = pick(sorted(files[name]))
            match rng.integers(6):
                case 0 | 1:  # a move
                    other = pick(["a", "b", "c", "d"])
                    if other != name:
                        files.setdefault(other, {})[key] = files[name].pop(key)
                case 2:
                    files[name][key] = Row(key, number, "l0")
                case 3:  # one more, or one that was there before and is another one now
                    gone = sorted({*held(open_pool(path))} - {key for rows in files.values() for key in rows})
                    key = pick([f"n{number}", *gone])
                    files[name][key] = Row(key, number, "l1")
                case 4 if sum(map(len, files.values())) > 4:
                    del files[name][key]
                case 5 if len(files) > 1:  # the file gets another name
                    if (other := pick(["c", "d", "e"])) not in files:
                        files[other] = files.pop(name)
        write()
        if rng.integers(4) == 0:
            name = pick(sorted(files))
            place = next((tmp_path / "items").glob(f"{name}.*"))
            os.utime(place, ns=(place.stat().st_atime_ns, place.stat().st_mtime_ns + 5_000_000_000))
            memory.touched(name)
        match rng.integers(8):
            case 0 | 1 | 2 | 3:
                embed()
            case 4:
                if len(open_pool(path)) > 4:
                    out.add(key := pick(sorted(held(open_pool(path)))))
                    remove_items(path, [key])
            case 5:
                listed = {key for rows in files.values() for key in rows}
                if there := {*held(open_pool(path))} & listed:
                    remove_missing(path, most=1.0)
                    assert {*held(open_pool(path))} == there, "what lies in another file is not missing"
            case 6:
                compact(path)
        memory.generation = open_pool(path).generation
        pool = open_pool(path)
        assert said_of(pool) == memory.expected(pool, files), "the export, and what is remembered"
        assert out.isdisjoint(held(pool))


def test_a_row_that_moved_and_then_changed_is_not_exported_as_it_was(tmp_path: Path) -> None:
    items, path = tmp_path / "items", tmp_path / "pool"
    make(texts_in(items, a=ROWS[:4], b=ROWS[4:]), path)
    make(texts_in(items, a=ROWS[1:4], b=[*ROWS[4:], ROWS[0], Row("new", 50, "l0")]), path)
    pool = open_pool(path)
    assert held(pool)["k0.png"][0] == 0, "it kept its id"
    assert said_of(pool)["k0.png"] == "0010"
    texts_in(items, a=ROWS[1:4], b=[*ROWS[4:], Row("k0.png", 77, "l0"), Row("new", 50, "l0")])
    assert said_of(pool)["k0.png"] is None
    with pytest.raises(MediaLost) as caught:
        raysal.export(pool, out=tmp_path / "out", form="parquet")
    assert "k0.png" in caught.value.lost
    assert {"k1.png", "k2.png", "k3.png"} <= {*pq.read_table(tmp_path / "out" / "items.parquet")["key"].to_pylist()}


def test_a_row_that_was_gone_and_came_back_as_another_one_is_not_exported(tmp_path: Path) -> None:
    """The file that it was in is as the pool knows it, and does not have it."""
    items, path = tmp_path / "items", tmp_path / "pool"
    make(texts_in(items, a=ROWS[:4], b=ROWS[4:]), path)
    make(texts_in(items, a=ROWS[1:4], b=ROWS[4:]), path)
    texts_in(items, a=ROWS[1:4], b=ROWS[4:], c=[Row("k0.png", 77, "l0")])
    said = said_of(open_pool(path))
    assert said["k0.png"] is None
    assert said["k1.png"] == "0011"


def test_a_touched_pool_knows_its_rows_where_they_are(tmp_path: Path) -> None:
    """The listing is the same to the byte, and so are all sizes: a row went from the end of a file to the next one."""
    rows = [Row(f"k{place}.png", 10 + place, f"l{place % 2}") for place in range(6)]
    source = KINDS["shards"](tmp_path / "items", rows)
    for shard in (tmp_path / "items").iterdir():
        os.truncate(shard, 10240)
    make(source, tmp_path / "pool")
    names = file_names_of(tmp_path / "pool", 0, range(6))
    assert names == {place: f"part-{place // 3 * 3}.tar" for place in range(6)}
    content = {shard.name: shard.read_bytes() for shard in (tmp_path / "items").iterdir()}
    moved = content["part-0.tar"][4096:6144]
    first = content["part-0.tar"][:4096].ljust(10240, b"\0")
    second = (moved + content["part-3.tar"][:6144]).ljust(10240, b"\0")
    (tmp_path / "items" / "part-0.tar").write_bytes(first)
    (tmp_path / "items" / "part-3.tar").write_bytes(second)
    assert make(source, tmp_path / "pool").checked == 2
    assert file_names_of(tmp_path / "pool", 0, [1, 2]) == {1: "part-0.tar", 2: "part-3.tar"}


@pytest.mark.parametrize("at", deep_unless({1, 6, 12}, range(16)))
def test_a_move_that_was_stopped_at_any_rename_goes_on_to_the_same_bytes(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, pools = tmp_path / "items", [tmp_path / "one", tmp_path / "two"]
    source = texts_in(items, a=ROWS[:4], b=ROWS[4:])
    for pool in pools:
        make(source, pool)
    source = texts_in(items, a=ROWS[1:4], b=[*ROWS[4:], ROWS[0], Row("new", 50, "l0")])
    make(source, pools[0])
    with monkeypatch.context() as patch:
        Disk(patch, at)
        with suppress(Stop):
            make(source, pools[1])
    make(source, pools[1])
    assert files_in(pools[1]) == files_in(pools[0])
    known = KnownFiles(pools[1], 1)
    assert known.file_of(np.array([0])) == known.places_of(["b.csv"])


@pytest.mark.parametrize("without", ["the files of growths", "all files"])
def test_a_pool_of_an_older_raysal_grows_and_trusts_no_row_that_may_have_moved(without: str, tmp_path: Path) -> None:
    items, path = tmp_path / "items", tmp_path / "pool"
    make(texts_in(items, a=ROWS[:4], b=ROWS[4:]), path)
    make(texts_in(items, a=ROWS[1:4], b=[*ROWS[4:], ROWS[0], Row("new", 50, "l0")]), path)
    as_written_before(path, first=without == "all files")
    assert said_of(open_pool(path))["k0.png"] == "0010", "its chunk is as it was"
    texts_in(items, a=ROWS[1:4], b=[*ROWS[4:], Row("k0.png", 77, "l0"), Row("new", 50, "l0")])
    assert said_of(open_pool(path))["k0.png"] is None
    make(texts_in(items, a=ROWS[1:4], b=[*ROWS[4:], ROWS[0], Row("newer", 51, "l0")]), path)
    assert {*held(open_pool(path))} == {*(row.key for row in ROWS), "new", "newer"}
    assert said_of(open_pool(path))["k0.png"] == "0010"


def as_written_before(pool: Path, *, first: bool) -> None:
    """Take out of the files of growth 1 what an older raysal did not write, and with `first` those of the pool."""
    path = pool / files_name(1)
    table = pq.read_table(path)
    new = read_sealed(pool / generation_file(1))
    old = pc.less(table["first_id"], 8)
    came = pc.or_(pc.equal(table["items"], 0), pc.invert(old))
    assert came.to_pylist().count(False) > 0, "it tells which items of before its files have"
    pq.write_table(table.filter(came), path)
    write_sealed(pool / generation_file(1), {**new, "files": sha256_of(path)})
    if first:
        (pool / files_name(0)).unlink()
