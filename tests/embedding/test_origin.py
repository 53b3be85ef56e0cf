"""A pool is of one source with one content: a change is noticed and named, and what only looks so is not refused."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
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
    encoder_for,
    files_of,
    in_memory,
    key_in,
    touch,
)
from pool_files import bytes_of
from tiers import deep_unless, one_of_each

from raysal.embedding.job import EmbedReport, embed
from raysal.embedding.precomputed import Precomputed
from raysal.embedding.unit import quarantine_unit
from raysal.errors import Damaged, FingerprintMismatch, PoolError, SourceChanged, SourceError
from raysal.pool import ChunkStage, Manifest, Pool, PoolWriter, open_pool
from raysal.sources.base import Source, Stamped
from raysal.sources.digits import Digits
from raysal.sources.folder import Folder
from raysal.sources.memory import Memory
from raysal.sources.table import Table
from raysal.store import read_sealed
from raysal.types import Item, Modality, Unit

STATES = ("complete", "interrupted")
MEMORY = ("vectors", "images", "texts")
BY_CONTENT = (*MEMORY, "csv", "csvs", "jsonl")
"""Kinds whose fingerprint covers the contents."""

MEDDLING = [
    (kind, change)
    for kind in KINDS
    for change in ("all payloads", "a payload", "one more", "one less", "touched")
    if kind not in MEMORY or "payload" in change  # arrays have no times, and keep their length
]

every_change = pytest.mark.parametrize(
    ("kind", "change"), one_of_each((kind, change) for kind in KINDS for change in CHANGES if applies(kind, change))
)
every_kind = pytest.mark.parametrize("kind", KINDS)
PLAIN = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
VIEWS = pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())])

every_state = pytest.mark.parametrize("state", deep_unless({"interrupted"}, STATES))


class Stop(Exception):
    pass


def make(source: Source, out: Path, *, chunk_rows: int = CHUNK, **options: object) -> EmbedReport:
    return embed(source, encoder_for(source), out, chunk_rows=chunk_rows, **options)  # type: ignore[arg-type]


def begin(source: Source, out: Path, state: str, chunk_rows: int = CHUNK) -> None:
    """A pool, or the first chunk of one."""

    def stop(done: int, total: int) -> None:
        if state == "interrupted" and done:
            raise Stop

    try:
        make(source, out, chunk_rows=chunk_rows, report=stop)
    except Stop:
        assert len(list((out / "commits").iterdir())) == 1


def content(out: Path) -> dict[str, bytes]:
    """The files of a pool that say what is in it."""
    return {
        name: data for name, data in bytes_of(out).items() if name != "source.json" and not name.startswith("files/")
    }


def items_of(pool: Pool) -> dict[str, tuple[bytes, object]]:
    """{key: vector and carried values} of a pool."""
    found = {}
    for chunk in pool.chunks:
        table = chunk.items().drop_columns(["id", "uri", "owner"]).to_pylist()
        found |= {row["key"]: (vector.tobytes(), row) for row, vector in zip(table, chunk.vectors(), strict=True)}
    return found


@every_state
@every_kind
def test_an_unchanged_source_is_not_read_again(kind: str, state: str, tmp_path: Path) -> None:
    source = KINDS[kind](tmp_path / "items", ROWS)
    make(source, tmp_path / "whole")
    begin(source, tmp_path / "pool", state)
    report = make(KINDS[kind](tmp_path / "items", ROWS) if kind in MEMORY else source, tmp_path / "pool")
    assert report.checked == 0
    assert report.embedded == (0 if state == "complete" else len(ROWS) - CHUNK)
    assert content(tmp_path / "pool") == content(tmp_path / "whole")


@every_state
@every_kind
def test_touched_files_are_read_once_more_and_then_trusted(kind: str, state: str, tmp_path: Path) -> None:
    source = KINDS[kind](tmp_path / "items", ROWS)
    make(source, tmp_path / "whole")
    begin(source, tmp_path / "pool", state)
    touch(tmp_path / "items")
    report = make(source, tmp_path / "pool")
    assert report.checked == (0 if kind in MEMORY else 3 if state == "complete" else 1)
    assert make(source, tmp_path / "pool").checked == 0
    assert content(tmp_path / "pool") == content(tmp_path / "whole")


@every_state
@every_change
def test_a_changed_source_is_refused_by_name(kind: str, change: str, state: str, tmp_path: Path) -> None:
    """But for a finished pool of files, which takes in what changed: see `test_growing`."""
    if state == "complete" and kind not in MEMORY:
        state = "interrupted"
    begin(KINDS[kind](tmp_path / "items", ROWS), tmp_path / "pool", state)
    before = bytes_of(tmp_path / "pool")
    rows = CHANGES[change](ROWS)
    source = KINDS[kind](tmp_path / "items", rows)
    with pytest.raises(SourceChanged, match="embed into another directory") as caught:
        make(source, tmp_path / "pool")
    assert bytes_of(tmp_path / "pool") == before
    said = str(caught.value)
    if kind == "lance":  # what changed is a new fragment, behind the others
        assert re.search("(files?|bytes|items), was", said)
        return
    if len(rows) != len(ROWS):
        what = "file" if kind == "folder" else "item"
        assert f"{len(rows)} {what}s, was {len(ROWS)}" in said
    first = next((place for place in range(8) if place >= len(rows) or rows[place].key != ROWS[place].key), 8)
    if first < (8 if state == "complete" else CHUNK):
        old = repr(key_in(kind, ROWS[first].key))
        gone = first >= len(rows)
        new = (
            f"item {first} ({old}) is gone" if gone else f"item {first} is {key_in(kind, rows[first].key)!r}, was {old}"
        )
        assert new in said
    elif len(rows) == len(ROWS) and [row.key for row in rows] == [row.key for row in ROWS]:
        named = ", ".join(repr(key_in(kind, row.key)) for row in ROWS[:3])
        assert f"chunk 0 ({named}) are not those that were embedded" in said or "bytes, was" in said


@pytest.mark.parametrize("place", [4, 7])
@every_kind
def test_what_is_not_embedded_yet_may_change(kind: str, place: int, tmp_path: Path) -> None:
    """Then the whole pool is of the new contents. Where the fingerprint covers them, it is another source."""
    begin(KINDS[kind](tmp_path / "items", ROWS), tmp_path / "pool", "interrupted")
    rows = changed(ROWS, place, number=98)
    source = KINDS[kind](tmp_path / "items", rows)
    if kind in BY_CONTENT:
        with pytest.raises(SourceChanged, match=r"bytes, was|its fingerprint is \w{16}, was \w{16}"):
            make(source, tmp_path / "pool")
        return
    try:
        report = make(source, tmp_path / "pool")
    except SourceChanged as error:
        # a Parquet file of another size, or a Lance table with one fragment more
        assert re.search("bytes, was|4 files, was 3", str(error))  # noqa: PT017
        return
    assert report.checked == 1
    make(source, tmp_path / "fresh")
    assert open_pool(tmp_path / "pool").contents == open_pool(tmp_path / "fresh").contents
    assert content(tmp_path / "pool") == content(tmp_path / "fresh")


@pytest.mark.parametrize("stage", deep_unless({CHUNK}, [0, CHUNK, 6]))
@pytest.mark.parametrize(("kind", "change"), one_of_each(MEDDLING))
def test_a_change_while_the_job_reads_is_an_error_and_nothing_is_mixed(
    kind: str, change: str, stage: int, tmp_path: Path
) -> None:
    source = KINDS[kind](tmp_path / "items", ROWS)
    rows = ROWS if change == "touched" else CHANGES[change](ROWS)

    def meddle(done: int, total: int) -> None:
        if done != stage:
            return
        if change == "touched":
            touch(tmp_path / "items")
        elif not isinstance(source, Memory):
            KINDS[kind](tmp_path / "items", rows)
        elif isinstance(source.vectors, np.ndarray):
            source.vectors[:] = np.array([row.vector for row in rows])
        elif source.images is not None:
            source.images[:] = [row.data for row in rows]
        else:
            source.texts[:] = [row.data.decode() for row in rows]

    with pytest.raises(SourceError):
        make(source, tmp_path / "pool", report=meddle)
    now = source if kind in MEMORY else KINDS[kind](tmp_path / "items", rows)
    try:
        make(now, tmp_path / "pool", max_quarantine=0.2)  # a file that was listed, and gone when it was read
    except SourceChanged:
        return
    make(now, tmp_path / "fresh")
    gone = {key_in(kind, row.key) for row in ROWS} - {key_in(kind, row.key) for row in rows}  # a finished pool has them
    held = items_of(open_pool(tmp_path / "pool"))
    assert {key: value for key, value in held.items() if key not in gone} == items_of(open_pool(tmp_path / "fresh"))


@every_kind
def test_contents_depend_neither_on_chunks_nor_on_stops_nor_on_the_place(kind: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    found = set()
    for number, chunk_rows in enumerate((1, 3, 5, 100)):
        source = KINDS[kind](tmp_path / ("elsewhere/items" if number == 2 else "items"), ROWS)
        begin(source, tmp_path / f"{number}", "interrupted" if number % 2 == 0 else "complete", chunk_rows)
        make(source, tmp_path / f"{number}", chunk_rows=chunk_rows)
        pool = open_pool(tmp_path / f"{number}")
        found.add((pool.contents, pool.fingerprint, pool.vector_space))
    assert len(found) == 1


@every_change
def test_another_content_is_another_pool(kind: str, change: str, tmp_path: Path) -> None:
    make(KINDS[kind](tmp_path / "items", ROWS), tmp_path / "one")
    make(KINDS[kind](tmp_path / "items", CHANGES[change](ROWS)), tmp_path / "two")
    one, two = open_pool(tmp_path / "one"), open_pool(tmp_path / "two")
    assert one.contents != two.contents
    assert one.fingerprint != two.fingerprint


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_noticed(tmp_path: Path) -> None:
    """As `cp -p`, `tar` and `rsync --times` do it."""
    make(KINDS["arrow"](tmp_path / "items", ROWS), tmp_path / "pool")
    (file,) = files_of(tmp_path / "items")
    found = file.stat()
    source = KINDS["arrow"](tmp_path / "items", CHANGES["all payloads"](ROWS))
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (found.st_size, found.st_mtime_ns)
    assert make(source, tmp_path / "pool").replaced == len(ROWS)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_an_image_that_a_table_names_by_its_path_is_part_of_the_source(suffix: str, tmp_path: Path) -> None:
    """The table stays as it is, to the bit and to its times. Images whose bytes are in the table have no other file."""
    names = [f"{place}.bmp" for place in range(4)]
    for place, name in enumerate(names):
        (tmp_path / name).write_bytes(b"%d" % (10 + place))
    own = (tmp_path / names[0]).read_bytes()
    rows = [{"bytes": None if place else own, "path": name} for place, name in enumerate([*names, "https://far/a.jpg"])]
    kind = VIEWS if suffix == ".arrow" else PLAIN
    table = pa.table({"key": list("abcde"), "image": pa.array(rows, kind)})
    path = tmp_path / f"t{suffix}"
    if suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, path, row_group_size=1)
    assert Table(path=path).stamp().files == 1 + 3

    def again() -> tuple[int, int]:
        done = embed(Table(path=path), Bytes(modality="image"), tmp_path / "pool", chunk_rows=2, max_quarantine=1)
        return done.checked, done.replaced

    assert (again(), again()) == ((0, 0), (0, 0))
    (tmp_path / names[0]).write_bytes(b"not read")
    assert again() == (0, 0)
    (tmp_path / names[2]).touch()
    assert (again(), again()) == ((3, 0), (0, 0))
    (tmp_path / names[2]).write_bytes(b"99")
    assert again() == (3, 1)
    (tmp_path / names[2]).unlink()
    assert again()[1] == 1
    assert open_pool(tmp_path / "pool").quarantined == 2


@every_state
def test_digits_of_another_release_are_another_source(
    state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Corner(Bytes):
        def prepare(self, key: str, payload: object) -> int:
            return int(np.asarray(payload)[0, 4])

    def run() -> EmbedReport:
        def stop(done: int, total: int) -> None:
            if state == "interrupted" and 0 < done < total and not (tmp_path / "resumed").exists():
                raise Stop

        return embed(Digits(), Corner(modality="image"), tmp_path / "pool", chunk_rows=600, report=stop)

    from raysal.sources import digits

    with contextlib.suppress(Stop):
        run()
    (tmp_path / "resumed").touch()
    images, labels = digits._load()
    before = bytes_of(tmp_path / "pool")
    with monkeypatch.context() as patch:
        other = images.copy()
        other[5] = 255 - other[5]
        patch.setattr(digits, "_load", lambda: (other, labels))
        with pytest.raises(SourceChanged, match=r"chunk 0 \('digits/0000'"):
            run()
    assert bytes_of(tmp_path / "pool") == before
    assert run().checked == 0
    assert len(open_pool(tmp_path / "pool")) == 1797


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A source of a user's own that gives no stamp, and whose fingerprint knows the number of its items alone."""

    rows: tuple[Row, ...]

    @property
    def modality(self) -> Modality:
        return "image"

    def fingerprint(self) -> str:
        return f"{len(self.rows):064d}"

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        for index, start in enumerate(range(0, len(self.rows), chunk_rows)):
            keys = tuple(row.key for row in self.rows[start : start + chunk_rows])
            yield Unit(index=index, first_id=start, keys=keys)

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        for row in self.rows[unit.first_id : unit.first_id + len(unit.keys)]:
            yield Item(key=row.key, payload=row.data, carried={"label": row.label})


@every_state
def test_a_source_without_a_stamp_is_always_read(state: str, tmp_path: Path) -> None:
    assert not isinstance(Plain(rows=ROWS), Stamped)
    begin(Plain(rows=ROWS), tmp_path / "pool", state)
    for name in ("a payload", "a carried value", "a key", "the order"):
        with pytest.raises(SourceChanged, match=r"'k0.png'|'k1b.png'|'k1.png'"):
            make(Plain(rows=CHANGES[name](ROWS)), tmp_path / "pool")
    assert make(Plain(rows=ROWS), tmp_path / "pool").checked == (3 if state == "complete" else 1)
    assert make(Plain(rows=ROWS), tmp_path / "pool").checked == 3


def test_progress_is_told_while_contents_are_compared(tmp_path: Path) -> None:
    make(Plain(rows=ROWS), tmp_path / "pool")
    seen: list[tuple[int, int]] = []
    make(Plain(rows=ROWS), tmp_path / "pool", checking=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 8), (3, 8), (6, 8), (8, 8)]


def test_quarantined_items_count_as_contents(tmp_path: Path) -> None:
    """Those that were read and could not be decoded, and those that could not be read."""
    source = KINDS["folder"](tmp_path / "items", ROWS)
    (tmp_path / "items" / "k1.png").write_bytes(b"none")
    (tmp_path / "items" / "k2.png").unlink()
    (tmp_path / "items" / "k2.png").symlink_to("nowhere")
    assert make(source, tmp_path / "pool", max_quarantine=1).quarantined == 2
    assert make(source, tmp_path / "pool", max_quarantine=1).checked == 0
    os.utime(tmp_path / "items" / "k0.png", (0, 0))
    assert make(source, tmp_path / "pool", max_quarantine=1).checked == 3
    (tmp_path / "items" / "k1.png").write_bytes(b"NONE")
    report = make(source, tmp_path / "pool", max_quarantine=1)
    assert (report.items, report.quarantined, report.replaced) == (len(ROWS), 2, 1)


def test_a_chunk_that_was_given_up_is_no_reason_to_refuse(tmp_path: Path) -> None:
    """Its items were never read; none of them is in the pool."""
    source = KINDS["folder"](tmp_path / "items", ROWS)
    begin(source, tmp_path / "pool", "interrupted")
    writer = PoolWriter(tmp_path / "pool", Manifest.read(tmp_path / "pool"))
    lost = list(source.units(CHUNK))[1]
    writer.commit(quarantine_unit(lost, ChunkStage(tmp_path / "pool", 2), "worker died 3 times", 3))
    touch(tmp_path / "items")
    report = make(source, tmp_path / "pool", max_quarantine=1)
    assert (report.checked, report.quarantined) == (2, 3)
    assert open_pool(tmp_path / "pool").contents is not None


@every_state
def test_without_the_remembered_stamp_contents_are_read(state: str, tmp_path: Path) -> None:
    source = KINDS["folder"](tmp_path / "items", ROWS)
    begin(source, tmp_path / "pool", state)
    stamp = (tmp_path / "pool" / "source.json").read_bytes()
    (tmp_path / "pool" / "source.json").unlink()
    assert make(source, tmp_path / "pool").checked > 0
    assert (tmp_path / "pool" / "source.json").read_bytes() == stamp
    (tmp_path / "pool" / "source.json").write_bytes(stamp.replace(b'"files": 8', b'"files": 9'))
    with pytest.raises(Damaged, match=r"source.json: .*; delete it"):
        make(source, tmp_path / "pool")


def test_only_columns_that_are_read_differ(tmp_path: Path) -> None:
    source = KINDS["parquet"](tmp_path / "items", ROWS)
    make(source, tmp_path / "pool")
    from raysal.sources.table import Table

    bare = Table(path=tmp_path / "items.parquet")
    with pytest.raises(SourceChanged, match=r"source changed: its carry is \[\], was \['label'\]; embed"):
        make(bare, tmp_path / "pool")
    with pytest.raises(SourceChanged, match="it is folder, was table"):
        embed(KINDS["folder"](tmp_path / "photos", ROWS), Bytes(modality="image"), tmp_path / "pool", chunk_rows=CHUNK)


# pools of older builds


@every_state
@every_kind
def test_an_older_pool_goes_on_while_no_file_is_newer(kind: str, state: str, tmp_path: Path) -> None:
    source = KINDS[kind](tmp_path / "items", ROWS)
    begin(source, tmp_path / "pool", state)
    as_older(tmp_path / "pool")
    report = make(source, tmp_path / "pool")
    assert report.checked == 0
    assert report.embedded == (0 if state == "complete" else len(ROWS) - CHUNK)
    pool = open_pool(tmp_path / "pool")
    assert pool.contents is None
    assert pool.fingerprint == pool.manifest.fingerprint
    assert pool.vector_space == pool.manifest.encoder["fingerprint"]
    assert pool.verify() > 0


@every_state
@every_kind
def test_an_older_pool_of_a_source_that_was_written_since_is_refused(kind: str, state: str, tmp_path: Path) -> None:
    source = KINDS[kind](tmp_path / "items", ROWS)
    begin(source, tmp_path / "pool", state)
    as_older(tmp_path / "pool")
    before = bytes_of(tmp_path / "pool")
    if kind in BY_CONTENT:  # an equal fingerprint says enough
        touch(tmp_path / "items")
        assert make(source, tmp_path / "pool").checked == 0
        return
    source = KINDS[kind](tmp_path / "items", CHANGES["all payloads"](ROWS))
    if state == "complete" and kind not in MEMORY:  # it takes the changes in
        assert make(source, tmp_path / "pool").replaced == len(ROWS)
        return
    with pytest.raises((PoolError, FingerprintMismatch), match="embed into another directory"):
        make(source, tmp_path / "pool")
    assert bytes_of(tmp_path / "pool") == before


def test_an_older_pool_of_a_source_that_tells_no_time_is_refused(tmp_path: Path) -> None:
    begin(Plain(rows=ROWS), tmp_path / "pool", "interrupted")
    as_older(tmp_path / "pool")
    with pytest.raises(PoolError, match="the source cannot tell its age; embed into another directory"):
        make(Plain(rows=ROWS), tmp_path / "pool")


def test_a_pool_whose_contents_are_known_by_another_method_is_not_gone_on_with(tmp_path: Path) -> None:
    from raysal.store import write_sealed

    begin(Plain(rows=ROWS), tmp_path / "pool", "interrupted")
    path = tmp_path / "pool" / "commits" / "00000.json"
    record = read_sealed(path)
    write_sealed(path, {**record, "contents": {**record["contents"], "algorithm": "later"}})
    with pytest.raises(PoolError, match=r"another method than .*; update raysal"):
        make(Plain(rows=ROWS), tmp_path / "pool")


def test_a_copied_folder_is_the_same_source(tmp_path: Path) -> None:
    make(KINDS["folder"](tmp_path / "items", ROWS), tmp_path / "pool")
    shutil.copytree(tmp_path / "items", tmp_path / "copy")
    assert make(Folder(path=tmp_path / "copy"), tmp_path / "pool").checked == 3


def test_one_kind_of_ready_vectors_in_any_container_is_one_space(tmp_path: Path) -> None:
    spaces = set()
    for kind in ("parquet", "arrow", "tables", "npy", "vectors"):
        make(KINDS[kind](tmp_path / kind, ROWS), tmp_path / f"pool-{kind}")
        spaces.add(open_pool(tmp_path / f"pool-{kind}").vector_space)
    doubles = in_memory("vectors", lambda rows: [row.vector for row in rows])
    make(doubles(tmp_path, ROWS), tmp_path / "doubles")
    spaces.add(open_pool(tmp_path / "doubles").vector_space)
    for number, name in enumerate(("a key", "the order", "a carried value")):
        embed(KINDS["vectors"](tmp_path, CHANGES[name](ROWS)), Precomputed(), tmp_path / f"same-{number}")
        spaces.add(open_pool(tmp_path / f"same-{number}").vector_space)
    assert len(spaces) == 1
    for number, name in enumerate(("a payload", "one more", "one less")):
        embed(KINDS["vectors"](tmp_path, CHANGES[name](ROWS)), Precomputed(), tmp_path / f"other-{number}")
        spaces.add(open_pool(tmp_path / f"other-{number}").vector_space)
    assert len(spaces) == 4
