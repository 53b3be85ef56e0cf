"""The key index says what reading all items says, whatever became of its files, and touches little of them."""

from __future__ import annotations

import resource
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import make_pool
from tiers import deep

from raysal.embedding.job import embed
from raysal.embedding.precomputed import Precomputed
from raysal.errors import LabelError
from raysal.pool import Pool, key_index, key_shard
from raysal.pool.chunk import Chunk
from raysal.pool.compacting import compact
from raysal.pool.finding import Finder
from raysal.pool.key_index import FOLDER, LARGE, LEAST, KeyIndex, extend
from raysal.pool.layout import chunk_file
from raysal.pool.removing import remove_items
from raysal.sources.memory import Memory
from raysal.sources.table import Table
from raysal.store import locked, read_sealed, sha256_of, write_sealed

N, CHUNK = 60, 7
LOST = (0, 13, 14, 15, 16, 17, 18, 19, 20, 59)
"""Quarantined items: one chunk is lost as a whole, and ids are missing at both ends."""
KEYS = [f"{'same/prefix/' * (i % 3)}ключ-{i * 37}{'-long' * (i % 5) * 7}" for i in range(N)]


def pool_of(path: Path, keys: Sequence[str] = KEYS, lost: Sequence[int] = LOST, chunk_rows: int = CHUNK) -> Pool:
    return make_pool(path, np.ones((len(keys), 2)), chunk_rows=chunk_rows, keys=keys, missing=lost)


def truth(pool: Pool) -> dict[str, int]:
    """By the slow way: {key: id} of all items."""
    tables = [chunk.items(["id", "key"]) for chunk in pool.chunks]
    return {key: id for table in tables for id, key in zip(*table.to_pydict().values(), strict=True)}


def check_answers(pool: Pool, known: dict[str, int]) -> None:
    """Every key and id is found as it is in the pool, alone and all at once, and nothing else is."""
    asked = [*known, "absent", *(key[:-1] for key in known), ""]
    there = {key: known[key] for key in asked if key in known}
    assert pool.ids_there(asked[::-1]) == there
    assert list(pool.ids_there(asked[::-1])) == sorted(there, key=known.__getitem__)
    assert pool.ids_there(["absent"]) == pool.ids_there([]) == {}
    ids = {id: key for key, id in known.items()}
    assert pool.keys_of(np.arange(-2, max(ids, default=0) + 3)) == ids
    assert list(pool.keys_of(np.array(sorted(ids, reverse=True), np.int64))) == sorted(ids)
    for key, id in list(known.items())[:: len(known) // 6 + 1]:
        assert pool.ids_of([key]) == {key: id}
        assert pool.keys_of(np.array([id])) == {id: key}
        rows = pool.rows_where("key", [key, "absent"], ["id", "key", "uri"]).to_pylist()
        assert rows == [{"id": id, "key": key, "uri": None}]
        assert pool.rows_where("id", [id, -1, 10**12], ["key"]).to_pydict() == {"key": [key]}
    with pytest.raises(LabelError, match="1 key is not in the pool: 'absent'"):
        pool.ids_of([*known, "absent"])


class ReadAll(Exception):
    """The items were read."""


def no_reading(*_: Any) -> None:
    raise ReadAll


def by_index_alone(pool: Pool, known: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the index knows every item of a pool, so that none of its items is read."""
    with monkeypatch.context() as patched:
        patched.setattr(Chunk, "items", no_reading)
        try:
            found = Pool(pool.path).ids_of(list(known)), Pool(pool.path).keys_of(np.array(list(known.values())))
        except ReadAll:
            return False
    return found == (known, {id: key for key, id in known.items()})


# -- the same answers --------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    keys=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1, max_size=40, unique=True),
    chunk_rows=st.integers(1, 12),
    most=st.integers(12, 60),
    lost=st.sets(st.integers(0, 39), max_size=12),
)
def test_by_the_index_is_as_by_reading(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], chunk_rows: int, most: int, lost: set[int]
) -> None:
    pool = pool_of(tmp_path_factory.mktemp("pool"), keys, [id for id in lost if id < len(keys)], chunk_rows)
    known = truth(pool)
    check_answers(pool, known)
    assert extend(pool.path, pool.chunks, least=1, most=most) >= (len(known) > 0)
    check_answers(Pool(pool.path), known)
    with pytest.MonkeyPatch.context() as patch:
        assert by_index_alone(pool, known, patch)


@pytest.mark.parametrize("hashes", [1, 2, 300])
def test_keys_of_one_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashes: int) -> None:
    """More than are looked at at once have the same hash, or those of a few hashes lie unevenly."""
    original = key_shard.hashes_of

    def narrow(keys: pa.Array, *facts: Any) -> Any:
        found, checks = original(keys, *facts)
        return (found % np.uint64(hashes)) << np.uint64(30), checks

    monkeypatch.setattr(key_shard, "hashes_of", narrow)
    pool = pool_of(tmp_path, [f"k{i}" for i in range(300)], range(3, 300, 50), 100)
    assert extend(pool.path, pool.chunks, least=1) == 1
    assert by_index_alone(pool, truth(pool), monkeypatch)
    check_answers(Pool(tmp_path), truth(pool))


def test_many_keys_are_found_as_few_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many at once the places are found in another way."""
    keys = [f"item {i}" for i in range(9000)]
    pool = pool_of(tmp_path, keys, (), 3000)
    extend(tmp_path, pool.chunks)
    assert not (tmp_path / FOLDER).exists(), f"of fewer than {LEAST} none is made"
    assert extend(tmp_path, pool.chunks, least=1) == 1
    assert by_index_alone(pool, truth(pool), monkeypatch)
    index = KeyIndex(tmp_path, pool.chunks)
    for some in ([], keys[:1], keys[::20], keys):
        assert [(item.key, item.id) for item in index.find(some)[0]] == [(key, keys.index(key)) for key in some]


def test_of_several_items_of_one_key_the_living_one_is_found(tmp_path: Path) -> None:
    """An item that changed has its key under two ids, of which a reader sees one."""
    pool = pool_of(tmp_path, ["a", "b", "a", "c"], (), 2)
    extend(tmp_path, pool.chunks, least=1)
    for gone, id in ((0, 2), (2, 0)):
        finder = Finder(tmp_path, pool.chunks, [0, 2], np.array([gone]))
        assert finder._index.find(["a"])[0][0].id == 0
        assert finder.ids_of(["a", "b"]) == {"a": id, "b": 1}


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pool = pool_of(tmp_path_factory.mktemp("pool") / "pool")
    assert extend(pool.path, pool.chunks, least=1, most=30) == 2
    return pool.path


@pytest.mark.parametrize("step", [53, pytest.param(1, marks=deep)])
def test_a_flipped_byte_hides_a_key_and_gives_no_other_id(indexed: Path, tmp_path: Path, step: int) -> None:
    path = tmp_path / "pool"
    shutil.copytree(indexed, path)
    known = truth(Pool(path))
    ids = {id: key for key, id in known.items()}
    hidden = 0
    for file in sorted((path / FOLDER).iterdir()):
        before = file.read_bytes()
        for place in range(0, len(before), step):
            altered = bytearray(before)
            altered[place] ^= 1 << place % 8
            file.write_bytes(altered)
            pool = Pool(path)
            index = KeyIndex(path, pool.chunks)
            found = index.find([*known, "absent"])[0]
            assert {item.key: item.id for item in found}.items() <= known.items(), place
            assert {item.id: item.key for item in index.keys_of(np.arange(N))}.items() <= ids.items(), place
            hidden += len(found) < len(known)
            if place % 4 == 0:
                assert pool.ids_of(list(known)) == known
                assert pool.keys_of(np.arange(N)) == ids
        file.write_bytes(before)
    assert hidden


@pytest.mark.parametrize("how", ["cut", "longer", "empty", "header", "other magic", "folder", "deleted", "all deleted"])
def test_an_index_that_is_not_whole_is_as_none_and_is_made_again(indexed: Path, tmp_path: Path, how: str) -> None:
    path = tmp_path / "pool"
    shutil.copytree(indexed, path)
    first, second = sorted((path / FOLDER).iterdir())
    content = first.read_bytes()
    damaged: dict[str, Callable[[], object]] = {
        "cut": lambda: first.write_bytes(content[:-1]),
        "longer": lambda: first.write_bytes(content + b"\0"),
        "empty": lambda: first.write_bytes(b""),
        "header": lambda: first.write_bytes(content[:50]),
        "other magic": lambda: first.write_bytes(b"RAYSKEY0" + content[8:]),
        "folder": lambda: (first.unlink(), (path / FOLDER / "00007-00008.idx").mkdir()),
        "deleted": first.unlink,
        "all deleted": lambda: (first.unlink(), second.unlink()),
    }
    damaged[how]()
    pool = Pool(path)
    known = truth(pool)
    check_answers(pool, known)
    assert pool.verify() == 1 + 4 * len(pool.chunks), "it is no part of what is verified"
    if how == "folder":
        (path / FOLDER / "00007-00008.idx").rmdir()
    assert extend(path, pool.chunks, least=1, most=30) >= 1
    assert KeyIndex(path, pool.chunks).trusted() == set(range(len(pool.chunks)))
    check_answers(Pool(path), known)


def test_a_chunk_that_was_embedded_anew_is_not_taken_for_what_it_was(
    indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two items swapped their keys, and the index is still that of before."""
    path = tmp_path / "pool"
    shutil.copytree(indexed, path)
    swapped = list(KEYS)
    swapped[21], swapped[22] = KEYS[22], KEYS[21]
    other = pool_of(tmp_path / "other", swapped)
    name = chunk_file("items", 3)
    shutil.copy(other.path / name, path / name)
    record = read_sealed(path / chunk_file("commits", 3))
    record["files"][name] = {"bytes": (path / name).stat().st_size, "sha256": sha256_of(path / name)}
    write_sealed(path / chunk_file("commits", 3), record)
    pool = Pool(path)
    assert {item.chunk for item in KeyIndex(path, pool.chunks).find(KEYS)[0]} == {0, 1, 4, 5, 6, 7, 8} - {2}
    assert pool.ids_of([KEYS[21], KEYS[22]]) == {KEYS[21]: 22, KEYS[22]: 21}
    check_answers(pool, truth(pool))
    assert extend(path, pool.chunks, least=1, most=30) >= 1
    assert by_index_alone(pool, truth(pool), monkeypatch)


def test_the_index_of_another_pool_says_nothing(indexed: Path, tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", [f"other {i}" for i in range(N)])
    shutil.copytree(indexed / FOLDER, pool.path / FOLDER)
    index = KeyIndex(pool.path, pool.chunks)
    assert index.shards
    assert index.trusted() == {2}, "a chunk without items is the same in both"
    assert index.find(KEYS)[0] == index.keys_of(np.arange(N)) == []
    check_answers(pool, truth(pool))


# -- when it is made ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_a_pool_that_grows_gets_few_files_and_each_chunk_is_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    pool = pool_of(tmp_path, [f"k{i}" for i in range(96)], (), 2)
    written: list[int] = []
    original = key_index.write_shard

    def counted(path: Path, chunks: Sequence[tuple[int, int]], read: Any) -> None:
        written.append(sum(rows for _, rows in chunks))
        original(path, chunks, read)

    monkeypatch.setattr(key_index, "write_shard", counted)
    for count in range(at_a_time, len(pool.chunks) + 1, at_a_time):
        chunks = pool.chunks[:count]
        extend(tmp_path, chunks, least=6, most=40)
        index = KeyIndex(tmp_path, chunks)
        numbers = [number for shard in index.shards for number in shard.numbers.tolist()]
        assert len(numbers) == len(set(numbers)) >= count - 2
        assert set(numbers) <= set(range(count))
        assert all(shard.rows <= 40 for shard in index.shards)
        assert len(index.shards) <= 2 + 96 // 20
        assert key_index._files_in(tmp_path / FOLDER) == [shard.path for shard in index.shards]
        assert Finder(tmp_path, chunks, [2 * chunk.index for chunk in chunks]).ids_of(["k0", "k95", "k1"]) == {
            key: id for key, id in (("k0", 0), ("k1", 1), ("k95", 95)) if id < 2 * count
        }
    assert sum(written) <= 96 * 5, "each item is written a few times, not once for each growth"


def test_who_sees_fewer_chunks_finds_their_items_alone(indexed: Path) -> None:
    """A reader of an older generation."""
    chunks = Pool(indexed).chunks[:2]
    finder = Finder(indexed, chunks, [0, CHUNK])
    assert finder.ids_of([KEYS[1], KEYS[30]]) == {KEYS[1]: 1}
    assert finder.keys_of(np.array([1, 30])) == {1: KEYS[1]}
    assert key_index.plan([key_index.Held(0, 6, key_index.mark_of_chunk(chunks[0]))], KeyIndex(indexed, chunks).shards,
                          1, 30)[0] == []  # fmt: skip


def test_where_it_cannot_be_written_there_is_none_and_no_error(tmp_path: Path) -> None:
    pool = pool_of(tmp_path)
    (tmp_path / FOLDER).write_bytes(b"mine")
    assert extend(tmp_path, pool.chunks, least=1) == 0
    check_answers(Pool(tmp_path), truth(pool))
    assert (tmp_path / FOLDER).read_bytes() == b"mine"
    (tmp_path / FOLDER).unlink()
    (tmp_path / chunk_file("items", 4)).write_bytes(b"\0" * pool.chunks[4].files[chunk_file("items", 4)]["bytes"])
    assert extend(tmp_path, pool.chunks, least=1) == 0
    assert list((tmp_path / FOLDER).iterdir()) == []
    assert extend(tmp_path, [replace(pool.chunks[0], stored=99)], least=1) == 0


def test_a_full_disk_leaves_nothing(indexed: Path, tmp_path: Path) -> None:
    path = tmp_path / "pool"
    shutil.copytree(indexed, path)
    first, second = sorted((path / FOLDER).iterdir())
    second.unlink()
    before, whole = first.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    was = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for limit in (0, 300, 900):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, whole[1]))
            assert extend(path, Pool(path).chunks, least=1, most=30) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, whole)
        signal.signal(signal.SIGXFSZ, was)
    assert [file.read_bytes() for file in (path / FOLDER).iterdir()] == [before]
    check_answers(Pool(path), truth(Pool(path)))


def test_an_embed_job_leaves_it_and_asks_for_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Memory(keys=[f"k{i}" for i in range(LEAST)], vectors=np.ones((LEAST, 2), np.float32))
    embed(source, Precomputed(), tmp_path, chunk_rows=8000)
    (file,) = (tmp_path / FOLDER).iterdir()
    before = file.read_bytes()
    assert by_index_alone(Pool(tmp_path), {f"k{i}": i for i in range(0, LEAST, 100)}, monkeypatch)
    monkeypatch.setattr(key_index, "write_shard", no_reading)
    embed(source, Precomputed(), tmp_path, chunk_rows=8000)
    monkeypatch.undo()
    file.unlink()
    embed(source, Precomputed(), tmp_path, chunk_rows=8000)
    assert file.read_bytes() == before


def test_a_large_pool_without_one_gets_it_when_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"k{i}" for i in range(LARGE)]
    pool = pool_of(tmp_path, keys, (), LARGE // 2)
    with locked(tmp_path, "pool"):
        assert pool.ids_of(["k7"]) == {"k7": 7}
        assert not (tmp_path / FOLDER).exists(), "somebody writes the pool"
    assert Pool(tmp_path).ids_of(["k7"]) == {"k7": 7}
    assert by_index_alone(pool, {"k7": 7, f"k{LARGE - 1}": LARGE - 1}, monkeypatch)


# -- what is read ------------------------------------------------------------------------------------------------------


def test_only_chunks_that_may_have_an_item_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(tmp_path)
    read: list[int] = []
    original = Chunk.items

    def watched(chunk: Chunk, columns: Sequence[str] | None = None) -> pa.Table:
        read.append(chunk.index)
        return original(chunk, columns)

    monkeypatch.setattr(Chunk, "items", watched)

    def reads(ask: Callable[[], object]) -> list[int]:
        read.clear()
        ask()
        return sorted(read)

    assert reads(lambda: pool.keys_of(np.array([8, 30, 9]))) == [1, 4]
    assert reads(lambda: pool.rows_where("id", [8, 30], ["key"])) == [1, 4]
    assert reads(lambda: pool.ids_there([KEYS[8]])) == list(range(9))
    extend(tmp_path, pool.chunks[:8], least=1)
    pool = Pool(tmp_path)
    assert reads(lambda: pool.ids_there([KEYS[8]])) == []
    assert reads(lambda: pool.rows_where("key", [KEYS[8]], ["key", "uri"])) == [1]
    assert reads(lambda: pool.ids_there([KEYS[8], KEYS[58]])) == [8], "the index is not of this chunk"
    assert reads(lambda: pool.ids_there(["absent"])) == [8], "an intact index knows what it has not"
    (file,) = (tmp_path / FOLDER).iterdir()
    intact = file.read_bytes()
    known = truth(pool)
    hidden = [key for key, id in known.items() if id < 56][-1]
    for place, absent in ((len(intact) - 1, [8]), (key_shard._SPACE + 24 * 8, list(range(9)))):
        content = bytearray(intact)
        content[place] ^= 1
        file.write_bytes(content)
        pool = Pool(tmp_path)
        assert reads(lambda pool=pool: pool.ids_there(["absent"])) == absent, "its hash is in no entry"
        if len(absent) == 1:
            assert reads(lambda pool=pool: pool.ids_there([hidden])) == list(range(9)), "its entry leads to other bytes"


def test_a_key_is_found_where_its_hash_says(tmp_path: Path) -> None:
    """Not by a search through all of them: few entries are looked at, of few keys and of many."""
    pool = pool_of(tmp_path, [f"k{i}" for i in range(40_000)], (), 20_000)
    extend(tmp_path, pool.chunks)
    (shard,) = KeyIndex(tmp_path, pool.chunks).shards
    searched: list[int] = []
    shard._searched = lambda low, high: searched.append(len(low))  # type: ignore[assignment]
    marks = {chunk.index: key_index.mark_of_chunk(chunk) for chunk in pool.chunks}
    found = shard.find(pa.array([f"k{i}" for i in range(0, 40_000, 20)]), marks).found
    assert [item.id for item in found] == list(range(0, 40_000, 20))
    assert searched == []


# -- generations -------------------------------------------------------------------------------------------------------


def test_every_generation_finds_its_own_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items are new, change, are taken out; the index holds them all, under every id, whenever it was made."""
    folder, path = tmp_path / "in", tmp_path / "pool"
    folder.mkdir()

    def write(name: str, keys: Sequence[str], number: float) -> None:
        vectors = np.full((len(keys), 2), number, np.float32)
        vectors[:, 1] = np.arange(len(keys))
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 2)
        pq.write_table(pa.table({"key": keys, "vector": column}), folder / name)

    def grow() -> None:
        embed(Table(path=folder), Precomputed(), path, chunk_rows=3)
        extend(path, Pool(path).chunks, least=1)

    write("a.parquet", [f"a{i}" for i in range(8)], 1)
    grow()
    write("b.parquet", [f"b{i}" for i in range(5)], 1)
    grow()
    write("a.parquet", [f"a{i}" for i in range(7)], 2)  # all items changed, and a7 is gone from the file
    grow()
    remove_items(path, ["a3", "b2"])
    known = []
    for number in range(Pool(path).generation + 1):
        pool = Pool(path, number)
        known.append(truth(pool))
        check_answers(pool, known[-1])
        assert len(pool.ids_there([f"{name}{i}" for name in "ab" for i in range(8)])) == len(pool)
    assert known[0]["a0"] == known[1]["a0"] < known[2]["a0"] == known[3]["a0"]
    assert "b0" not in known[0]
    assert "a3" in known[2].keys() - known[3].keys()
    assert by_index_alone(Pool(path), known[-1], monkeypatch)
    compact(path)
    check_answers(Pool(path), known[-1])
    extend(path, Pool(path).chunks, least=1)
    check_answers(Pool(path), known[-1])
    assert by_index_alone(Pool(path), known[-1], monkeypatch)
