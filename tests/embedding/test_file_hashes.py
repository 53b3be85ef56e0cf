"""With `check="hash"` it is bytes that say what changed, whatever the times of files say."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from changing_sources import CHANGES, KINDS, ROWS, Row, applies, changed, touch
from cli_tools import cli
from growing_pools import Disk, Stop, contents, files_in, held, make
from tiers import deep, deep_unless, one_of_each

import raysal
from raysal.config import RunConfig
from raysal.embedding.file_hashes import TABLE, digest_of_file
from raysal.errors import Damaged, UnknownName
from raysal.pool import open_pool
from raysal.pool.removing import remove_items
from raysal.pool.taken_files import files_name
from raysal.sources.base import OfFiles
from raysal.sources.listing import look_at
from raysal.types import SourceFile

FILES = [kind for kind in KINDS if kind not in ("vectors", "images", "texts")]


@pytest.fixture
def times_that_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that tells one time for all files, and so does what looks at them."""
    real = os.stat

    def stat(path: object, **how: object) -> os.stat_result:
        found = real(path, **how)  # type: ignore[call-overload]
        facts = list(found)
        facts[7:10] = [1_000_000_000] * 3
        whole = dict.fromkeys(("st_atime_ns", "st_mtime_ns", "st_ctime_ns"), 10**18)
        return os.stat_result(facts, whole)

    monkeypatch.setattr(os, "stat", stat)


@pytest.mark.usefixtures("times_that_lie")
@pytest.mark.parametrize("kind", deep_unless({"folder", "tables", "csvs"}, FILES))
def test_a_file_that_changed_under_its_size_and_time_is_found(kind: str, tmp_path: Path) -> None:
    make(KINDS[kind](tmp_path / "items", ROWS), tmp_path / "pool", check="hash")
    source = KINDS[kind](tmp_path / "items", changed(ROWS, 1, number=99))
    before = held(open_pool(tmp_path / "pool"))
    if kind not in ("hdf5", "zarr", "lance"):  # of these, as written here, the sizes differ
        assert make(source, tmp_path / "pool").embedded == 0, "sizes and times say nothing"
        assert held(open_pool(tmp_path / "pool")) == before
    assert make(source, tmp_path / "pool", check="hash").replaced == 1
    make(source, tmp_path / "fresh")
    assert contents(open_pool(tmp_path / "pool")) == contents(open_pool(tmp_path / "fresh"))
    files = files_in(tmp_path / "pool")
    again = make(source, tmp_path / "pool", check="hash")
    assert (again.embedded, again.checked) == (0, 0)
    assert files_in(tmp_path / "pool") == files


@pytest.mark.parametrize("kind", deep_unless({"folder", "csvs"}, FILES))
@pytest.mark.parametrize("first", ["fast", "hash"])
def test_a_file_that_was_only_touched_is_neither_listed_nor_embedded(first: str, kind: str, tmp_path: Path) -> None:
    make(KINDS[kind](tmp_path / "items", ROWS[:5]), tmp_path / "pool", check=first)
    source = KINDS[kind](tmp_path / "items", ROWS)
    make(source, tmp_path / "pool", check=first)
    before = held(open_pool(tmp_path / "pool"))
    report = make(source, tmp_path / "pool", check="hash")
    assert (report.added, report.replaced) == (0, 0)
    assert (report.checked > 0) == (first == "fast"), "where no digest is recorded, contents are compared once"
    touch(tmp_path / "items")
    listed: list[list[str]] = []
    real: Callable[..., object] = type(source).units_in

    def units_in(self: object, names: object, rows: int) -> object:
        listed.append(list(names))  # type: ignore[call-overload]
        return real(self, listed[-1], rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(source), "units_in", units_in)
        report = make(source, tmp_path / "pool", check="hash")
    assert not any(listed)
    assert (report.embedded, report.checked) == (0, 0)
    assert held(open_pool(tmp_path / "pool")) == before


@pytest.mark.parametrize(
    ("kind", "change"), one_of_each((kind, change) for kind in FILES for change in CHANGES if applies(kind, change))
)
@deep
def test_both_ways_find_the_same_where_times_are_true(kind: str, change: str, tmp_path: Path) -> None:
    found = []
    for check in ("fast", "hash"):
        make(KINDS[kind](tmp_path / "items", ROWS), tmp_path / check, check=check)
    source = KINDS[kind](tmp_path / "items", CHANGES[change](ROWS))
    for check in ("fast", "hash"):
        report = make(source, tmp_path / check, check=check)
        pool = open_pool(tmp_path / check)
        found.append((report.added, report.replaced, report.gone, contents(pool), pool.contents))
    assert found[0] == found[1]


@pytest.mark.usefixtures("times_that_lie")
@pytest.mark.parametrize("seed", deep_unless({0}, range(8)))
@pytest.mark.parametrize("kind", deep_unless({"csvs"}, ["folder", "csvs", "tables"]))
def test_any_history_on_a_disk_whose_times_lie_ends_in_what_the_source_holds(
    kind: str, seed: int, tmp_path: Path
) -> None:
    """Also where some jobs look at times alone, items are taken out, and what is recorded is deleted."""
    rng = np.random.default_rng(seed)
    rows, pool, out = {row.key: row for row in ROWS}, tmp_path / "pool", set[str]()
    there: dict[str, int] = {}
    for number in range(101, 109):
        source = KINDS[kind](tmp_path / "items", list(rows.values()))
        if rng.integers(3) == 0 or not there:
            make(source, pool)
        make(source, pool, check="hash")
        there |= {row.key: row.number for row in rows.values() if row.key not in out}
        now = {key: int(np.frombuffer(one[1], np.float16)[0]) for key, one in held(open_pool(pool)).items()}
        assert now == there
        some = sorted(rows)[int(rng.integers(len(rows)))]
        match rng.integers(5):
            case 0 | 1:
                rows[some] = Row(some, number, "l0")
            case 2:
                rows[f"n{number}.png"] = Row(f"n{number}.png", number, "l0")
            case 3 if len(there) > 4:
                out.add(one := sorted(there)[int(rng.integers(len(there)))])
                del there[one]
                remove_items(pool, [one])
            case 4:
                (pool / TABLE).unlink(missing_ok=True)


@pytest.mark.parametrize("kind", ["folder", "csvs"])
@pytest.mark.parametrize("first", ["fast", "hash"])
def test_a_digest_of_what_was_taken_in_before_says_nothing(first: str, kind: str, tmp_path: Path) -> None:
    make(KINDS[kind](tmp_path / "items", ROWS), tmp_path / "pool", check=first)
    make(KINDS[kind](tmp_path / "items", ROWS), tmp_path / "pool", check="hash")
    other = changed(ROWS, 1, number=99)
    assert make(KINDS[kind](tmp_path / "items", other), tmp_path / "pool").replaced == 1
    assert make(KINDS[kind](tmp_path / "items", ROWS), tmp_path / "pool", check="hash").replaced == 1
    assert make(KINDS[kind](tmp_path / "items", other), tmp_path / "pool", check="hash").replaced == 1


@pytest.mark.parametrize("at", deep_unless({4, 13}, range(18)))
def test_a_job_that_was_stopped_at_any_rename_goes_on_to_the_same_bytes(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = [tmp_path / "one", tmp_path / "two"]
    source = KINDS["csvs"](tmp_path / "items", ROWS)
    for pool in pools:
        make(source, pool, check="hash")
    source = KINDS["csvs"](tmp_path / "items", (*changed(ROWS, 1, number=99), Row("z.png", 70, "l0")))
    make(source, pools[0], check="hash")
    with monkeypatch.context() as patch:
        Disk(patch, at)
        with suppress(Stop):
            make(source, pools[1], check="hash")
    make(source, pools[1], check="hash")
    assert files_in(pools[1]) == files_in(pools[0])


def test_the_digest_of_a_file_is_its_sha256_and_knows_all_its_parts(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    alone = look_at("a", tmp_path / "a")
    assert digest_of_file(alone) == hashlib.sha256(b"one").digest()
    both = SourceFile(name="a", bytes=3, changed_ns=0, parts=(tmp_path / "a", tmp_path / "b"))
    before = digest_of_file(both)
    (tmp_path / "b").write_bytes(b"six")
    assert digest_of_file(both) not in (before, None)
    (tmp_path / "b").unlink()
    assert digest_of_file(both) is None
    assert digest_of_file(SourceFile(name="a", bytes=3, changed_ns=0)) is None


@pytest.mark.parametrize("kind", FILES)
def test_every_source_says_which_files_its_contents_are_in(kind: str, tmp_path: Path) -> None:
    source = KINDS[kind](tmp_path / "items", ROWS)
    assert isinstance(source, OfFiles)
    assert all(digest_of_file(file) is not None for file in source.files())


def test_a_table_of_digests_that_is_damaged_is_named(tmp_path: Path) -> None:
    source = KINDS["folder"](tmp_path / "items", ROWS)
    make(source, tmp_path / "pool")
    make(source, tmp_path / "pool", check="hash")
    assert pq.read_table(tmp_path / "pool" / TABLE).num_rows == len(ROWS)
    (tmp_path / "pool" / TABLE).write_bytes(b"PAR1")
    with pytest.raises(Damaged, match=r"sha256\.parquet.*delete it"):
        make(source, tmp_path / "pool", check="hash")
    (tmp_path / "pool" / TABLE).unlink()
    assert make(source, tmp_path / "pool", check="hash").embedded == 0


def test_the_command_the_config_and_python_take_the_same_word(tmp_path: Path) -> None:
    KINDS["tables"](tmp_path / "items", ROWS)
    done = cli("embed", tmp_path / "items", "--out", tmp_path / "pool", "--check", "hash")
    assert done.code == 0
    assert None not in pq.read_table(tmp_path / "pool" / files_name(0))["sha256"].to_pylist()
    pool = raysal.embed(tmp_path / "items", out=tmp_path / "other", check="hash")
    assert pq.read_table(pool.path / files_name(0)).equals(pq.read_table(tmp_path / "pool" / files_name(0)))
    assert cli("embed", tmp_path / "items", "--out", tmp_path / "pool", "--check", "slow").code == 2
    with pytest.raises(UnknownName, match=r"embed\.check"):
        make(KINDS["tables"](tmp_path / "items", ROWS), tmp_path / "pool", check="slow")
    assert RunConfig.model_fields["embed"].get_default(call_default_factory=True).check == "fast"
