"""A pool after any history: a reader gets what was committed, or an error that names the damaged file."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pool_files import bytes_of
from tiers import deep_unless
from tiny_pools import CHUNKS, content, make, manifest, stage

from raysal.errors import Damaged, PoolError, PoolIncomplete
from raysal.pool import Pool, PoolWriter
from raysal.pool.layout import KINDS, chunk_file
from raysal.store import write_sealed


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("pool") / "whole").path


NAMES = ["pool.json", *(chunk_file(kind, index) for kind in (*KINDS, "commits") for index in range(CHUNKS))]


class AnyHistory(RuleBasedStateMachine):
    """A pool that is written, crashed, damaged and repaired. A model knows the committed chunks and damaged files."""

    truth: list[Any]
    expected: dict[str, bytes]

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.path = self.root / "pool"
        self.committed: set[int] = set()
        self.hurt: set[str] = set()
        self.writer: PoolWriter | None = None
        self.reopen()

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    @rule()
    def reopen(self) -> None:
        """Start a new job. It starts, or it names a damaged file that it needs."""
        try:
            self.writer = PoolWriter(self.path, manifest())
        except Damaged as error:
            assert str(Path(error.where).relative_to(self.path)) in self.hurt  # noqa: PT017
            self.writer = None
            return
        assert set(self.writer.committed) == self.committed
        if not self.committed:
            self.hurt.discard("pool.json")  # without a committed chunk it is written again
        assert not list(self.path.rglob(".tmp-*"))

    @precondition(lambda self: self.writer is not None)
    @rule(index=st.integers(0, CHUNKS - 1))
    def commit(self, index: int) -> None:
        assert self.writer is not None
        self.writer.commit(stage(self.path, index))  # a committed chunk stays as it is
        self.committed.add(index)

    @rule(index=st.integers(0, CHUNKS - 1), renamed=st.integers(0, 3))
    def crash(self, index: int, renamed: int) -> None:
        """End the process after some of the renames of a commit, before the record."""
        if index in self.committed or any(chunk_file(kind, index) in self.hurt for kind in KINDS):
            return
        staged = stage(self.path, index)
        for final, entry in list(staged.files.items())[:renamed]:
            target = self.path / final
            target.with_name(entry["temporary"]).rename(target)
        self.reopen()

    @rule(name=st.sampled_from(NAMES), how=st.sampled_from(["flip", "cut", "delete"]), data=st.data())
    def damage(self, name: str, how: str, data: st.DataObject) -> None:
        file = self.path / name
        counts = name == "pool.json" or int(file.stem) in self.committed
        if not counts or name in self.hurt or not file.exists():
            return
        before = file.read_bytes()
        if how == "delete":
            file.unlink()
            if name.startswith("commits/"):  # then the chunk is not committed: its other files are leftovers
                self.committed.discard(int(file.stem))
                self.hurt -= {chunk_file(kind, int(file.stem)) for kind in KINDS}
                self.writer = None
                return
        elif how == "cut":
            file.write_bytes(before[: data.draw(st.integers(0, len(before) - 1))])
        else:
            place = data.draw(st.integers(0, len(before) - 1))
            flipped = bytearray(before)
            flipped[place] ^= data.draw(st.integers(1, 255))
            file.write_bytes(flipped)
        self.hurt.add(name)
        self.writer = None

    @rule()
    def mend(self) -> None:
        """Put the files back, as the message says."""
        for name in self.hurt:
            (self.path / name).write_bytes(self.expected[name])
        self.hurt.clear()

    @invariant()
    def a_reader_gets_what_was_committed_or_is_told(self) -> None:
        try:
            pool = Pool(self.path)
            found = content(pool)
            pool.verify()
        except PoolIncomplete as error:
            assert (error.committed, error.planned) == (len(self.committed), CHUNKS)  # noqa: PT017
            assert len(self.committed) < CHUNKS
        except Damaged as error:
            assert str(Path(error.where).relative_to(self.path)) in self.hurt  # noqa: PT017
        except PoolError:
            assert "pool.json" in self.hurt
            assert not self.committed
        else:
            assert not self.hurt
            assert found == self.truth


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
def test_any_history(whole: Path) -> None:
    AnyHistory.truth, AnyHistory.expected = content(Pool(whole)), bytes_of(whole)
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        AnyHistory,
        settings=settings(
            max_examples=30, stateful_step_count=15, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


@pytest.mark.parametrize("name", deep_unless(["pool.json", "commits/00000.json", "vectors/00000.arrow"], NAMES))
def test_every_flipped_byte_is_found_and_named(whole: Path, tmp_path: Path, name: str) -> None:
    """Change every byte of a file; in text also one kind of space for another."""
    shutil.copytree(whole, tmp_path / "pool")
    file = tmp_path / "pool" / name
    before, opened = file.read_bytes(), Pool(tmp_path / "pool")
    for place in range(len(before)):
        flips = {1 << place % 8}
        if name.endswith("json") and before[place : place + 1].isspace():  # the same JSON, written in another way
            flips |= {before[place] ^ other for other in b" \t\r\n"} - {0}
        for flip in sorted(flips):
            altered = bytearray(before)
            altered[place] ^= flip
            file.write_bytes(altered)
            with pytest.raises(Damaged) as caught:
                opened.verify()  # opened before the damage
            assert caught.value.where == str(file), (place, flip)
    file.write_bytes(before)
    assert opened.verify() == len(NAMES)


@pytest.mark.parametrize("name", [chunk_file(kind, 0) for kind in KINDS])
def test_every_read_notices_damage(whole: Path, tmp_path: Path, name: str) -> None:
    """Not only `verify` checks: Arrow would return other numbers from an altered file, or crash the process."""
    shutil.copytree(whole, tmp_path / "pool")
    file = tmp_path / "pool" / name
    before = file.read_bytes()
    chunk = Pool(tmp_path / "pool").chunks[0]
    read = {"vectors": chunk.vectors, "items": chunk.ids, "quarantine": chunk.quarantine}[file.parent.name]
    for place in range(0, len(before), 5):
        altered = bytearray(before)
        altered[place] ^= 0x80
        file.write_bytes(altered)
        with pytest.raises(Damaged, match=file.name) as caught:
            read()
        assert "commits/00000.json" in caught.value.fix
    file.unlink()
    with pytest.raises(Damaged, match="missing"):
        read()


def test_what_the_message_advises_gives_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    """Delete the commit record of a damaged chunk and embed again."""
    path = tmp_path / "pool"
    shutil.copytree(whole, path)
    (path / chunk_file("vectors", 2)).write_bytes(b"short")
    with pytest.raises(Damaged, match=r"vectors.00002"):
        PoolWriter(path, manifest())
    (path / chunk_file("commits", 2)).unlink()
    PoolWriter(path, manifest()).commit(stage(path, 2))
    assert bytes_of(path) == bytes_of(whole)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2, 1, 0)])
def test_the_order_of_commits_and_their_repetition_do_not_matter(
    whole: Path, tmp_path: Path, order: tuple[int, ...]
) -> None:
    writer = PoolWriter(tmp_path, manifest())
    for attempt, staged in enumerate([stage(tmp_path, index) for index in order]):
        writer.commit(replace(staged, attempt=0 if attempt < CHUNKS else attempt))  # the first commit stays
    assert bytes_of(tmp_path) == bytes_of(whole)


def test_a_record_under_another_chunks_name_is_not_believed(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "pool"
    shutil.copytree(whole, path)
    shutil.copy(path / chunk_file("commits", 0), path / chunk_file("commits", 1))
    with pytest.raises(Damaged, match=r"00001.json: not the record of this chunk"):
        Pool(path)
    shutil.copy(whole / chunk_file("commits", 1), path / chunk_file("commits", 1))
    shutil.copy(path / chunk_file("commits", 0), path / "commits" / "00000 (copy).json")  # the record of no chunk
    assert content(Pool(path)) == content(Pool(whole))
    shutil.copy(path / chunk_file("commits", 0), path / chunk_file("commits", 3))
    with pytest.raises(Damaged, match=r"00003.json: the pool has 3 chunks"):
        Pool(path)


def test_chunks_are_in_order_of_their_number_beyond_five_digits(tmp_path: Path) -> None:
    """As text, 100000 comes before 99999. For so many chunks the test writes records without files."""
    from raysal.pool.layout import read_records

    PoolWriter(tmp_path, manifest())
    for index in (100001, 9, 100000, 99999):
        staged = stage(tmp_path, 0)
        for (final, entry), kind in zip(staged.files.items(), KINDS, strict=True):
            (tmp_path / final).with_name(entry["temporary"]).rename(tmp_path / chunk_file(kind, index))
        files = {chunk_file(kind, index): dict(staged.files[chunk_file(kind, 0)]) for kind in KINDS}
        write_sealed(tmp_path / chunk_file("commits", index), {"index": index, "files": files})
    assert list(read_records(tmp_path, manifest(chunks=10**6))) == [9, 99999, 100000, 100001]
