"""Streams of items become pools that can be finished, grow, and give their media back."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from changing_sources import ROWS, Bytes, Row
from growing_pools import Disk, Stop, files_in, held
from PIL import Image
from tiers import deep, deep_unless

import raysal
from raysal.errors import (
    BadItem,
    ConfigError,
    DuplicateKeys,
    EncoderError,
    FingerprintMismatch,
    PoolError,
    SourceError,
)
from raysal.pool import Pool, open_pool
from raysal.sources import Batches, spilled
from raysal.sources.of_pool import read_items, source_of
from raysal.types import Item
from raysal.web.catalogue import Entry
from raysal.web.payloads import Payloads

IMAGES = Bytes(modality="image")


def arrow(rows: list[Row]) -> pa.Table:
    return pa.table({"key": [r.key for r in rows], "image": [r.data for r in rows], "label": [r.label for r in rows]})


FORMS: dict[str, Callable[[list[Row]], Any]] = {
    "tables": lambda rows: [arrow(rows[:3]), arrow(rows[3:])],
    "record batches": lambda rows: arrow(rows).to_batches(max_chunksize=2),
    "columns": lambda rows: [arrow(rows[:5]).to_pydict(), arrow(rows[5:]).to_pydict()],
    "rows": lambda rows: arrow(rows).to_pylist(),
    "items": lambda rows: [Item(key=row.key, payload=row.data, carried={"label": row.label}) for row in rows],
    "a callable": lambda rows: lambda: (arrow([row]) for row in rows),
}


def make(items: Any, out: Path, **options: Any) -> Pool:
    source = Batches(items=items, carry=("label",))
    return raysal.embed(source, IMAGES, out=out, chunk_rows=3, **options)


def numbers(pool: Pool) -> dict[str, int]:
    return {key: int(np.frombuffer(one[1], np.float16)[0]) for key, one in held(pool).items()}


def reasons(pool: Pool) -> dict[str, str]:
    return {row["key"]: row["error"] for chunk in pool.chunks for row in chunk.quarantine().to_pylist()}


def exported(pool: Pool, out: Path) -> dict[str, bytes]:
    raysal.export(pool, out=out, form="parquet")
    rows = [row for file in sorted((out / "data").glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    return {row["key"]: row["image"]["bytes"] for row in rows}


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spilled, "FILE_ROWS", 4)


BAD: dict[str, Any] = {
    "read": BadItem("b", "the row of the database is gone"),
    "floats": np.ones((4, 4, 3)),
    "four channels": np.ones((4, 4, 4), np.uint8),
    "an object": {"a": 1},
    "nothing": None,
}
"""Payloads of which nothing can be made."""


@pytest.mark.parametrize("kind", ["vectors", "images"])
@pytest.mark.parametrize("place", [0, 3, 7])
def test_bad_items_of_a_stream_are_quarantined_and_the_others_are_what_they_are_without_them(
    kind: str, place: int, tmp_path: Path
) -> None:
    encoder: Any = "precomputed" if kind == "vectors" else IMAGES

    def pool_of(bad: dict[str, Any], out: Path) -> Pool:
        payloads = [np.full(4, row.number, np.float32) if kind == "vectors" else row.data for row in ROWS]
        items = [Item(key=row.key, payload=one) for row, one in zip(ROWS, payloads, strict=True)]
        for at, (key, one) in enumerate(bad.items()):
            items.insert(place + 2 * at, Item(key=key, payload=one))
        return raysal.embed(items=items, encoder=encoder, out=out, chunk_rows=3, max_quarantine=1)

    bad = {key: one for key, one in BAD.items() if kind == "images" or np.ndim(one) < 2}
    pool, alone = pool_of(bad, tmp_path / "a"), pool_of({}, tmp_path / "b")
    assert {key: one[1] for key, one in held(pool).items()} == {key: one[1] for key, one in held(alone).items()}
    assert set(reasons(pool)) == set(bad)
    assert "the row of the database is gone" in reasons(pool)["read"]

    before = held(pool)
    assert held(pool_of(bad, tmp_path / "a")) == before  # and once more, nothing is new
    late = Item(key="late", payload=BadItem("late", "gone, too"))
    raysal.embed(items=[late], encoder=encoder, out=tmp_path / "a", max_quarantine=1)
    assert "gone, too" in reasons(open_pool(tmp_path / "a"))["late"]
    assert held(open_pool(tmp_path / "a")) == before


def test_a_run_of_bad_items_lacks_no_column_that_is_named(tmp_path: Path) -> None:
    good = [Item(key=f"{n}", payload=np.full(4, n + 1, np.float32)) for n in range(4)]
    late = Item(key="late", payload=BadItem("late", "gone, too"))
    for some in (good, [late]):
        stream = Batches(items=some, vector_column="vector")
        pool = raysal.embed(stream, out=tmp_path / "pool", max_quarantine=1)
    assert "gone, too" in reasons(pool)["late"]
    assert len(pool) == 4


def test_a_stream_of_bad_items_alone_is_refused_with_the_first_reason(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="the first one: gone"):
        raysal.embed(items=[Item(key="a", payload=BadItem("a", "gone"))], out=tmp_path / "pool")
    raysal.embed(items=[Item(key="a", payload=np.ones(3))], out=tmp_path / "pool")
    assert len(open_pool(tmp_path / "pool")) == 1


@pytest.mark.parametrize(
    ("batch", "match"),
    [
        ({"key": ["z"], "vector": [[1.0, 2.0]]}, "no column 'label'"),
        ({"key": ["z"], "text": ["a"], "label": ["x"]}, "no column 'vector'"),
        ({"key": ["z"], "vector": ["a"], "label": ["x"]}, "'vector' holds string"),
    ],
)
@pytest.mark.parametrize("first", [False, True])
def test_a_stream_whose_columns_are_others_leaves_nothing_that_stops_the_next_one(
    batch: dict[str, Any], match: str, first: bool, tmp_path: Path
) -> None:
    def embed(batch: dict[str, Any]) -> Pool:
        source = Batches(items=[batch], carry=("label",), vector_column="vector")
        return raysal.embed(source, out=tmp_path / "pool", max_quarantine=1)

    good = {"key": ["a"], "vector": [[3.0, 4.0]], "label": ["x"]}
    if not first:
        embed(good)
    with pytest.raises(SourceError, match=match):
        embed(batch)
    assert set(held(embed(good | {"key": ["b"]}))) == ({"b"} if first else {"a", "b"})


def test_a_batch_without_a_single_value_is_quarantined_and_stops_no_later_one(tmp_path: Path) -> None:
    for key, vector in (("a", [3.0, 4.0]), ("z", None), ("b", [5.0, 6.0])):
        pool = raysal.embed(items=[{"key": [key], "vector": [vector]}], out=tmp_path / "pool", max_quarantine=1)
    assert set(held(pool)) == {"a", "b"}
    assert set(reasons(pool)) == {"z"}


@pytest.mark.parametrize("form", FORMS)
def test_a_stream_becomes_a_pool_that_gives_its_media_back(form: str, tmp_path: Path) -> None:
    pool = make(FORMS[form](list(ROWS)), tmp_path / "pool")
    assert numbers(pool) == {row.key: row.number for row in ROWS}
    assert {key: one[2] for key, one in held(pool).items()} == {row.key: row.label for row in ROWS}
    assert exported(pool, tmp_path / "out") == {row.key: row.data for row in ROWS}
    wanted = {one[0]: key for key, one in held(pool).items()}
    assert {id: item.payload for id, item in read_items(pool, source_of(pool), wanted)} == {
        id: next(row.data for row in ROWS if row.key == key) for id, key in wanted.items()
    }
    page = Payloads(pool)
    assert {key: page.read(Entry(id, key, None)) for id, key in wanted.items()} == {row.key: row.data for row in ROWS}
    before = files_in(tmp_path / "pool")
    make(FORMS["a callable"](list(ROWS)), tmp_path / "pool")
    assert files_in(tmp_path / "pool") == before, "what is the same is passed over"


@pytest.mark.parametrize("seed", deep_unless({0}, range(12)))
def test_any_streams_one_after_the_other_are_one_that_gave_the_last_of_each_key(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    there: dict[str, Row] = {}
    ids: dict[int, str] = {}
    before: dict[str, tuple[Any, ...]] = {}
    for step in range(7):
        some = [Row(f"k{key}", int(rng.integers(10, 14)), "l0") for key in rng.permutation(20)[: rng.integers(1, 12)]]
        batches = [arrow(some[at : at + 3]) for at in range(0, len(some), 3)]
        there |= {row.key: row for row in some}
        pool = make(batches, tmp_path / "pool", check=["fast", "hash"][step % 2])
        assert numbers(pool) == {key: row.number for key, row in there.items()}
        now = held(pool)
        for key, one in now.items():
            assert ids.setdefault(one[0], key) == key, "an id means one item for good"
            if key in before and before[key][1] == one[1]:
                assert before[key] == one, "what is the same keeps its id"
        before = now
        assert exported(pool, tmp_path / f"out {step}") == {key: row.data for key, row in there.items()}


@pytest.mark.parametrize("at", deep_unless({0, 2, 5, 9, 17}, range(34)))
def test_a_job_that_was_stopped_at_any_rename_ends_with_the_same_bytes(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first job, and of one that takes in a stream with rows that are new, other and the same."""
    more = [*ROWS[:2], Row("k2.png", 77, "l0"), *ROWS[4:6], *(Row(f"n{place}", 50 + place, "l1") for place in range(6))]
    streams: list[Any] = [FORMS["a callable"](list(ROWS)), FORMS["a callable"](more)]
    names = ("generations", "files", "pool.json", "commits")

    def bytes_of(pool: Path) -> dict[str, bytes]:
        """Files that do not tell the times of the files in `source`."""
        return {name: data for name, data in files_in(pool).items() if not name.startswith(names)}

    for stream in streams:
        make(stream, tmp_path / "one")
    left = list(streams)
    with monkeypatch.context() as patch:
        Disk(patch, at)
        with suppress(Stop):
            while left:
                make(left[0], tmp_path / "two")
                del left[0]
    for stream in left:
        make(stream, tmp_path / "two")
    assert bytes_of(tmp_path / "two").keys() == bytes_of(tmp_path / "one").keys()
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")
    assert held(open_pool(tmp_path / "two")) == held(open_pool(tmp_path / "one"))


def test_what_was_begun_is_finished_with_what_was_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        Disk(patch, 8)
        with pytest.raises(Stop):
            make(FORMS["tables"](list(ROWS)), tmp_path / "pool")
    assert (tmp_path / "pool" / "pool.json").exists()
    pool = make(FORMS["tables"]([Row("k1.png", 99, "l0"), Row("z", 88, "l0")]), tmp_path / "pool")
    assert numbers(pool) == {**{row.key: row.number for row in ROWS}, "k1.png": 99, "z": 88}
    assert numbers(Pool(tmp_path / "pool", 0)) == {row.key: row.number for row in ROWS}


def test_a_pool_of_a_stream_may_be_moved_and_grows_there(tmp_path: Path) -> None:
    make(FORMS["tables"](list(ROWS)), tmp_path / "pool")
    (tmp_path / "pool").rename(tmp_path / "other")
    assert exported(open_pool(tmp_path / "other"), tmp_path / "out") == {row.key: row.data for row in ROWS}
    pool = make(FORMS["tables"]([Row("z", 88, "l0")]), tmp_path / "other")
    assert numbers(pool) == {**{row.key: row.number for row in ROWS}, "z": 88}


def test_a_stream_is_never_held_as_a_whole(tmp_path: Path) -> None:
    """When a batch is asked for, those that fill a file before it lie on the disk."""
    seen: list[int] = []

    def stream() -> Iterator[pa.Table]:
        for place in range(40):
            seen.append(len(list((tmp_path / "pool" / "source").glob("*.parquet"))))
            yield arrow([Row(f"k{place}", 10 + place, "l0")])

    make(stream, tmp_path / "pool")
    assert seen == [max(place - 1, 0) // 4 for place in range(40)]


def test_it_does_not_matter_how_a_stream_is_cut_into_batches(tmp_path: Path) -> None:
    found = set()
    for size in (1, 3, 8):
        make([arrow(list(ROWS[at : at + size])) for at in range(0, len(ROWS), size)], tmp_path / f"{size}")
        files = sorted((tmp_path / f"{size}" / "source").iterdir())
        found.add(tuple((file.name, file.read_bytes()) for file in files))
    assert len(found) == 1


def test_vectors_and_texts_and_pixels(tmp_path: Path) -> None:
    vectors = np.arange(24, dtype=np.float32).reshape(6, 4)
    pool = raysal.embed(items=[{"key": np.arange(6), "vector": vectors}], out=tmp_path / "vectors")
    assert np.concatenate([chunk.vectors() for chunk in pool.chunks]).tolist() == vectors.tolist()
    assert [key for table in pool.items(["key"]) for key in table["key"].to_pylist()] == [*"012345"]
    items = [{"key": row.key, "text": row.data.decode()} for row in ROWS]
    assert numbers(raysal.embed(items=items, encoder=Bytes(modality="text"), out=tmp_path / "texts"))["k3.png"] == 13
    pixels = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    encoder = {"name": "torch:tiny_encoder:build", "size": 12}
    for name, given in (
        ("tensors", [{"key": ["a", "b"], "image": pixels}]),
        ("items", [Item(key=key, payload=picture) for key, picture in zip("ab", pixels, strict=True)]),
    ):
        pool = raysal.embed(items=given, encoder=encoder, out=tmp_path / name)
        found = exported(pool, tmp_path / f"out {name}")
        assert np.asarray(Image.open(io.BytesIO(found["b"]))).tolist() == pixels[1].tolist()


@pytest.mark.parametrize(
    ("items", "error", "match"),
    [
        ([], SourceError, "no item"),
        ([{"id": ["a"], "text": ["b"]}], SourceError, "not one column 'key'.*key_column"),
        ([{"key": ["a", "b"], "text": ["b"]}], SourceError, "batch 0"),
        ([{"key": ["a", None], "text": ["b", "c"]}], SourceError, "item 1: the key is null"),
        ([{"key": ["a", "a"], "text": ["b", "c"]}], DuplicateKeys, "duplicate keys: a;"),
        ([{"key": ["a"], "text": ["b"]}, {"key": ["a"], "text": ["c"]}], DuplicateKeys, "duplicate keys: a;"),
        ([{"key": ["a"], "text": ["b"]}, {"key": ["c"], "text": [1]}], SourceError, "several types"),
        ([7], SourceError, "batch 0 is a int"),
        (7, ConfigError, "no stream"),
        ({"key": ["a"], "text": ["b"]}, ConfigError, "expected many batches"),
        ([{"key": ["a"], "text": ["b"], "raysal.digest": ["c"]}], ConfigError, "rename the column"),
    ],
)
def test_what_is_no_stream_of_items_is_refused_by_name(
    items: Any, error: type[Exception], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        raysal.embed(items=items, encoder=Bytes(modality="text"), out=tmp_path / "pool")
    assert not (tmp_path / "pool").exists()
    good = [{"key": ["a", "c"], "text": ["0001", "0002"]}]
    pool = raysal.embed(items=good, encoder=Bytes(modality="text"), out=tmp_path / "pool")
    assert numbers(pool) == {"a": 1, "c": 2}, "a stream that is mended goes on"


def test_a_batch_without_a_column_that_is_named_is_refused_before_it_is_written(tmp_path: Path) -> None:
    make([arrow(list(ROWS[:2]))], tmp_path / "pool")
    with pytest.raises(SourceError, match="batch 0 has no column 'label'"):
        make([arrow(list(ROWS[2:4])).drop_columns(["label"])], tmp_path / "pool")
    assert set(numbers(make([arrow(list(ROWS[4:6]))], tmp_path / "pool"))) == {
        row.key for row in (*ROWS[:2], *ROWS[4:6])
    }
    single = [Item(key=ROWS[6].key, payload=ROWS[6].data)]  # of one item there may be nothing to carry
    assert held(make(single, tmp_path / "pool"))[ROWS[6].key][2] is None


def test_a_key_of_the_pool_that_comes_twice_is_refused(tmp_path: Path) -> None:
    make(FORMS["tables"](list(ROWS)), tmp_path / "pool")
    for stream in ([*ROWS[:2], ROWS[0]], [Row("k0.png", 99, "l0"), ROWS[0]]):
        with pytest.raises(DuplicateKeys, match=r"k0\.png"):
            make([arrow([row]) for row in stream], tmp_path / "pool")
        with pytest.raises(DuplicateKeys, match=r"k0\.png"):
            make([arrow(stream)], tmp_path / "pool")
    assert numbers(make(FORMS["tables"](list(ROWS)), tmp_path / "pool")) == {row.key: row.number for row in ROWS}


TWICE = [*(Row(f"wrong{i}", 60 + i, "l0") for i in range(9)), ROWS[0], ROWS[0]]
"""More than a file of rows, and then a key that comes twice."""
REFUSALS: dict[str, Callable[[], Any]] = {
    "a key twice, far apart": lambda: [arrow([row]) for row in TWICE],
    "a key twice in a batch": lambda: [arrow(TWICE)],
    "a batch without a column": lambda: [arrow(TWICE[:9]), arrow(TWICE[9:]).drop_columns(["label"])],
    "a batch that is none": lambda: [arrow(TWICE[:9]), 7],
}


@pytest.mark.parametrize("why", REFUSALS)
def test_of_a_stream_that_is_refused_nothing_stays(why: str, tmp_path: Path) -> None:
    """Of a first one, and of one into a pool that is there: what is mended is taken as if it were the first."""
    out = tmp_path / "pool"
    with pytest.raises((DuplicateKeys, SourceError)):
        make(REFUSALS[why](), out)
    assert not out.exists()
    make(FORMS["tables"](list(ROWS)), out)
    before = files_in(out)
    with pytest.raises((DuplicateKeys, SourceError)):
        make(REFUSALS[why](), out)
    assert files_in(out) == before
    mended = make([arrow([Row("right", 80, "l0"), *ROWS[:2]])], out)
    assert numbers(mended) == {**{row.key: row.number for row in ROWS}, "right": 80}


def test_a_stream_whose_items_the_encoder_does_not_take_leaves_nothing(tmp_path: Path) -> None:
    for encoder in (Bytes(modality="text"), None):
        with pytest.raises(EncoderError):
            raysal.embed(items=[arrow(list(ROWS))], encoder=encoder, out=tmp_path / "new" / "pool")
        assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("a person's")
    with pytest.raises(PoolError, match="holds something else"):
        make([arrow(list(ROWS))], tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_what_a_stream_gave_before_its_own_code_failed_is_kept(tmp_path: Path) -> None:
    def stream(fails: bool) -> Iterator[pa.Table]:
        yield arrow(list(ROWS[:5]))
        if fails:
            raise ConnectionError("the database went away")
        yield arrow(list(ROWS[5:]))

    with pytest.raises(ConnectionError):
        make(lambda: stream(True), tmp_path / "pool")
    written = [path.name for path in (tmp_path / "pool" / "source").iterdir()]
    assert written == ["00000.parquet"]
    assert numbers(make(lambda: stream(False), tmp_path / "pool")) == {row.key: row.number for row in ROWS}


def test_a_pool_of_another_source_is_refused(tmp_path: Path) -> None:
    raysal.embed(raysal.sources.Memory(keys=["a"], vectors=np.ones((1, 2), np.float32)), out=tmp_path / "pool")
    with pytest.raises(FingerprintMismatch, match=r"the source is a stream, expected memory"):
        raysal.embed(items=[{"key": ["a"], "vector": np.ones((1, 2), np.float32)}], out=tmp_path / "pool")
    assert not (tmp_path / "pool" / "source").exists()
    with pytest.raises(ConfigError, match="either a source or items"):
        raysal.embed(out=tmp_path / "other")


@pytest.mark.usefixtures("ray_session")
@deep
def test_a_dataset_of_ray_data_is_a_stream(tmp_path: Path) -> None:
    import ray.data

    dataset = ray.data.range(50, override_num_blocks=5).map(
        lambda row: {"key": f"k{row['id']}", "vector": np.array([row["id"], 1], np.float32), "label": "l0"}
    )
    pool = raysal.embed(Batches(items=dataset, carry=("label",)), out=tmp_path / "pool", chunk_rows=7)
    assert numbers(pool) == {f"k{number}": number for number in range(50)}
    before = held(pool)
    pool = raysal.embed(Batches(items=dataset.limit(20), carry=("label",)), out=tmp_path / "pool", chunk_rows=7)
    assert held(pool) == before
    pictures = ray.data.range(6).map(
        lambda row: {"key": str(row["id"]), "image": np.full((4, 5, 3), row["id"], np.uint8)}
    )
    encoder = {"name": "torch:tiny_encoder:build", "size": 12}
    pool = raysal.embed(items=pictures, encoder=encoder, out=tmp_path / "pictures")
    found = exported(pool, tmp_path / "out")
    assert {key: int(np.asarray(Image.open(io.BytesIO(data))).mean()) for key, data in found.items()} == {
        str(number): number for number in range(6)
    }
