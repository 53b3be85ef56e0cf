"""A pool in a bucket is the pool that a directory would hold, whatever stops its writers or the network does."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_pools
from growing_pools import held
from object_store import ObjectStore
from small_sources import vectors
from stopped_writers import cut_off_after, killed_at, started
from tiers import deep, deep_unless

from raysal.buckets import Bucket, Object, cache, lease, retries
from raysal.buckets.fsspec_transport import FsspecTransport
from raysal.buckets.lease import Lease
from raysal.embedding.job import EmbedReport, embed
from raysal.embedding.limits import check_lost
from raysal.embedding.precomputed import Precomputed
from raysal.errors import (
    BucketError,
    ConfigError,
    Damaged,
    NotNow,
    PoolError,
    PoolIncomplete,
    RaysalError,
    UserError,
)
from raysal.fleet.partition import Partition
from raysal.fleet.specs import plan_partitions
from raysal.pool import ChunkStage, Pool, PoolWriter, compacting, mirror
from raysal.pool.compacting import compact
from raysal.pool.layout import check_blurred, read_stamp
from raysal.pool.mirror import mirror_of
from raysal.pool.owners import OwnersOf
from raysal.pool.place import directory_of, files_of, place_of
from raysal.pool.quarantine import quarantine_of
from raysal.pool.removing import remove_items
from raysal.types import PassedOver


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(retries, "TRIES", 2)


@pytest.fixture
def url(bucket_store: ObjectStore) -> str:
    return f"{bucket_store.url}/pools/a"


def embed_vectors(out: str | Path, n: int = 20, rows: int = 6) -> EmbedReport:
    return embed(vectors(n), Precomputed(), out, chunk_rows=rows)


def another_machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Go on as on a machine that has nothing of the pool."""
    monkeypatch.setenv(cache.FOLDER, str(folder))


def digests(pool: Pool) -> list[dict[str, str]]:
    return [{name.split("/")[0]: entry["sha256"] for name, entry in record["files"].items()} for record in pool.records]


def same(one: Pool, other: Pool) -> bool:
    """Whether two pools have the same identity, items and bytes of every file."""
    return one.fingerprint == other.fingerprint and held(one) == held(other) and digests(one) == digests(other)


def named_in(store: ObjectStore, prefix: str) -> set[str]:
    """The objects of a pool, without the lock of its last writer."""
    names = {name.removeprefix(prefix) for name in store.names() if name.startswith(prefix)}
    return names - {lease.NAME}


# -- one pool, two places ---------------------------------------------------------------------------------------------


def test_a_pool_in_a_bucket_is_the_pool_on_a_disk(
    bucket_store: ObjectStore, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = [embed_vectors(out) for out in (url, tmp_path / "pool")]
    assert reports[0].chunks == reports[1].chunks == 4
    another_machine(monkeypatch, tmp_path / "other")
    there, here = Pool(url), Pool(tmp_path / "pool")
    assert same(there, here)
    assert there.place == place_of(there.path) == url
    assert there.verify() == here.verify()
    assert there.ids_of(["k7"]) == {"k7": 7}
    assert quarantine_of(there.path).quarantined == 0
    again = embed_vectors(url)
    assert (again.embedded, again.resumed) == (0, 4)
    listed = {name for record in there.records for name in record["files"]}
    records = {f"commits/{index:05d}.json" for index in range(4)} | {"pool.json", "source.json"}
    assert named_in(bucket_store, "pools/a/") == listed | records


def test_pools_are_copied_both_ways(bucket_store: ObjectStore, url: str, tmp_path: Path) -> None:
    """By any tool that copies files: a pool of a disk opens in a bucket, and is gone on with there, and the reverse."""
    embed_vectors(tmp_path / "pool")
    bucket_store.put_folder(tmp_path / "pool", "pools/a/")
    assert same(Pool(url), Pool(tmp_path / "pool"))
    remove_items(url, ["k3"])
    compact(url)
    for name in named_in(bucket_store, "pools/a/"):
        target = tmp_path / "back" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(bucket_store.get(f"pools/a/{name}"))
    assert same(Pool(tmp_path / "back"), Pool(url))
    assert Pool(tmp_path / "back").verify()
    remove_items(tmp_path / "back", ["k4"])
    compact(tmp_path / "back")
    assert len(Pool(tmp_path / "back")) == 18


def test_what_was_removed_and_compacted_is_so_everywhere(
    bucket_store: ObjectStore, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "pool"
    for place in (url, here):
        embed_vectors(place)
        assert remove_items(place, ["k3", "k17"]).items == 18
    reader = Pool(url)
    another_machine(monkeypatch, tmp_path / "other")
    assert same(Pool(url), Pool(here))
    for place in (url, here):
        compact(place)
    assert same(Pool(url), Pool(here))
    assert {name for name in named_in(bucket_store, "pools/a/") if name[0] in "viq"} == {
        name for record in Pool(url).records for name in record["files"]
    }
    for folder in ("cache of objects", "other"):
        shutil.rmtree(tmp_path / folder / "objects")
    with pytest.raises(PoolError, match="was compacted since it was opened"):
        reader.chunks[0].ids()
    assert compact(url).generation == compact(here).generation == 2


def test_a_file_system_without_versions_holds_a_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of fsspec in memory. A lock is one all the same."""
    pytest.importorskip("fsspec")
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "cache"))
    url = "memory://pools/a"
    for place in (url, tmp_path / "pool"):
        embed_vectors(place)
        remove_items(place, ["k3"])
    with files_of(directory_of(url)).writing():
        another_machine(monkeypatch, tmp_path / "other")
        with pytest.raises(NotNow, match="another process is at work"):
            compact(url)
    for place in (url, tmp_path / "pool"):
        compact(place)
    assert same(Pool(url), Pool(tmp_path / "pool"))
    assert Pool(url).verify() == Pool(tmp_path / "pool").verify()


def test_records_of_a_file_system_that_tells_nothing_but_sizes_are_brought_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec")
    whole = FsspecTransport._object
    monkeypatch.setattr(FsspecTransport, "_object", lambda *given: whole(*given)._replace(etag=None, changed_ns=0))
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "cache"))
    url = "memory://pools/sizes"
    embed_vectors(url)
    there = directory_of(url)
    files_of(there).sync()
    bucket = Bucket(url)
    other = (
        bucket.read("commits/00001.json")
        .replace(b'"attempt": 0', b'"attempt": 1')
        .replace(b'"attempt":0', b'"attempt":1')
    )
    bucket.write("commits/00001.json", other)  # another machine made the chunk anew
    files_of(directory_of(url)).sync()
    assert (there / "commits/00001.json").read_bytes() == other


# -- stops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writes", deep_unless({7}, range(1, 22)))
def test_a_job_that_was_cut_off_at_any_write_goes_on_to_the_same_objects(
    writes: int, bucket_store: ObjectStore, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_vectors(f"{bucket_store.url}/pools/whole")
    with cut_off_after(bucket_store, writes):
        embed_vectors(url)
    if f"pools/a/{lease.NAME}" not in bucket_store.names():
        another_machine(monkeypatch, tmp_path / "other")
    embed_vectors(url)
    assert same(Pool(url), Pool(f"{bucket_store.url}/pools/whole"))
    names = named_in(bucket_store, "pools/a/")
    assert names == named_in(bucket_store, "pools/whole/")
    assert all(bucket_store.get(f"pools/a/{name}") == bucket_store.get(f"pools/whole/{name}") for name in names)


def change(place: str) -> None:
    remove_items(place, ["k3", "k4", "k5"])
    compact(place)


@pytest.mark.parametrize("writes", deep_unless({12}, range(1, 24)))
def test_a_change_that_was_cut_off_at_any_write_loses_nothing(
    writes: int, bucket_store: ObjectStore, url: str, tmp_path: Path
) -> None:
    for place in (url, f"{bucket_store.url}/pools/whole"):
        embed_vectors(place)
    whole = held(Pool(url))
    with cut_off_after(bucket_store, writes):
        change(url)
    left = held(Pool(url))
    assert left == {key: value for key, value in whole.items() if len(left) == 20 or key not in ("k3", "k4", "k5")}
    Pool(url).verify()
    if len(left) == 20:
        change(url)
    else:
        compact(url)
    change(f"{bucket_store.url}/pools/whole")
    assert same(Pool(url), Pool(f"{bucket_store.url}/pools/whole"))
    assert named_in(bucket_store, "pools/a/") == named_in(bucket_store, "pools/whole/")


@pytest.mark.parametrize("write", deep_unless({8}, (1, 2, 3, 8, 11, 17)))
def test_a_process_that_was_killed_leaves_no_lock_to_its_machine(write: int, url: str, tmp_path: Path) -> None:
    assert killed_at(write, embed_vectors, url)
    embed_vectors(url)
    embed_vectors(tmp_path / "pool")
    assert same(Pool(url), Pool(tmp_path / "pool"))


def test_leftovers_of_other_contents_go_when_the_chunk_is_there(bucket_store: ObjectStore, url: str) -> None:
    bucket_store.put("pools/a/vectors/00001-0123456789abcdef.arrow", b"of a writer that was stopped")
    embed_vectors(url)
    bucket_store.put("pools/a/notes.txt", b"a person's")
    remove_items(url, ["k1"])
    left = named_in(bucket_store, "pools/a/")
    assert "vectors/00001-0123456789abcdef.arrow" not in left
    assert "notes.txt" in left


# -- writers ----------------------------------------------------------------------------------------------------------


def test_a_second_writer_is_refused_and_told_of_the_first(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_vectors(url)
    with files_of(directory_of(url)).writing():
        for _ in range(2):  # on this machine, and on another one
            with pytest.raises(NotNow, match=f"{url}: another process is at work.*process {os.getpid()} on "):
                remove_items(url, ["k1"])
            another_machine(monkeypatch, tmp_path / "other")
    assert remove_items(url, ["k1"]).removed == 1


def test_a_lock_that_nobody_renewed_is_taken_over_and_its_holder_stops(
    bucket_store: ObjectStore, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_vectors(url)
    monkeypatch.setattr(lease, "SLACK_S", -1.0)
    monkeypatch.setattr(Lease, "_keep", lambda self: None)
    monkeypatch.setattr(mirror, "Lease", lambda *args: Lease(*args, seconds=0.0))
    first = files_of(directory_of(url))
    with first.writing():
        another_machine(monkeypatch, tmp_path / "other")
        assert remove_items(url, ["k1"]).removed == 1
        with pytest.raises(NotNow, match="took over the lock"):
            first.write_record("generations/00002.json", {})
    assert held(Pool(url)).keys() == {f"k{i}" for i in range(20)} - {"k1"}


def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lease, "__enter__", lambda self: self)
    monkeypatch.setattr(Lease, "__exit__", lambda *args: None)
    monkeypatch.setattr(Lease, "check", lambda self: None)


def test_of_two_writers_that_both_believe_to_be_alone_one_wins(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any lock, as after a pause at the worst moment: what one has written, the other does not overwrite."""
    embed_vectors(url)
    without_locks(monkeypatch)
    with files_of(directory_of(url)).writing():
        mine = files_of(directory_of(url, synced=False))
        another_machine(monkeypatch, tmp_path / "other")
        remove_items(url, ["k1"])
        with pytest.raises(NotNow, match="another process wrote it meanwhile"):
            mine.write_record("generations/00001.json", {"number": 1})
    assert held(Pool(url)).keys() == {f"k{i}" for i in range(20)} - {"k1"}


def test_data_of_one_writer_is_not_overwritten_by_another(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that was taken for dead goes on to stage other contents of a chunk that is committed."""
    without_locks(monkeypatch)
    with files_of(directory_of(url)).writing():
        late = PoolWriter(directory_of(url), tiny_pools.manifest())
        another_machine(monkeypatch, tmp_path / "other")
        directory = directory_of(url)
        with files_of(directory).writing():
            writer = PoolWriter(directory, tiny_pools.manifest())
            for index in range(tiny_pools.CHUNKS):
                writer.commit(tiny_pools.stage(directory, index))
        whole = tiny_pools.content(Pool(directory))
        staged = tiny_pools.stage(late.path, 0, shift=1)
        with pytest.raises(NotNow, match="another process wrote it meanwhile"):
            late.commit(staged)
    assert tiny_pools.content(Pool(url)) == whole
    assert Pool(url).verify()


@deep
def test_writers_at_once_make_one_pool(
    url: str, bucket_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in a process on a machine of its own: those that are not refused find all done, or do it."""
    children = [started(embed_as, str(tmp_path / f"machine{i}"), url) for i in range(3)]
    for child in children:
        child.join()
    codes = [child.exitcode for child in children]
    assert 0 in codes
    assert set(codes) <= {0, 4}
    embed_vectors(tmp_path / "pool")
    assert same(Pool(url), Pool(tmp_path / "pool"))
    left = [name for name in bucket_store.names() if "/." in name]
    assert left == [f"pools/a/{lease.NAME}"]
    assert json.loads(bucket_store.get(left[0]))["ended"]


def embed_as(folder: str, url: str) -> None:
    os.environ[cache.FOLDER] = folder
    try:
        embed_vectors(url)
    except NotNow:
        os._exit(4)


def test_only_who_has_locked_a_pool_writes_it(url: str) -> None:
    embed_vectors(url)
    with pytest.raises(PermissionError):
        files_of(directory_of(url)).write_record("pool.json", {})


# -- readers ----------------------------------------------------------------------------------------------------------


def test_who_opens_a_pool_while_it_is_compacted_sees_a_whole_one(
    url: str, bucket_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each write, on another machine: never a generation without its chunks."""
    embed_vectors(url)
    remove_items(url, ["k3"])
    before, seen = held(Pool(url)), []
    another_machine(monkeypatch, tmp_path / "other")
    reader = mirror_of(url)

    def look() -> None:
        reader.sync()
        seen.append(held(Pool(reader.directory)))
        bucket_store.before("PUT", "pools/a/[!.]*", look)

    bucket_store.before("PUT", "pools/a/[!.]*", look)
    bucket_store.before("POST", "*", look)  # which deletes
    another_machine(monkeypatch, tmp_path / "cache of objects")
    compact(url)
    assert len(seen) >= 4
    assert all(found == before for found in seen)


def test_a_pool_that_changes_between_two_listings_is_listed_again(
    url: str, bucket_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_vectors(url)
    home = mirror_of(url).directory
    another_machine(monkeypatch, tmp_path / "other")

    def interrupt() -> None:
        remove_items(home, ["k3"])
        compact(home)

    bucket_store.before("GET", "pools/a/commits/00000.json", interrupt)
    assert held(Pool(url)).keys() == {f"k{i}" for i in range(20)} - {"k3"}


def read_all(url: str) -> None:
    for chunk in Pool(url).chunks:
        chunk.vectors(), chunk.ids(), chunk.quarantine()


@pytest.mark.parametrize("kind", deep_unless({"vectors"}, ("vectors", "items", "quarantine")))
@pytest.mark.parametrize("harm", ["flipped", "truncated", "gone"])
def test_a_damaged_object_is_named(
    kind: str, harm: str, url: str, bucket_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_vectors(url)
    name = next(name for name in named_in(bucket_store, "pools/a/") if name.startswith(f"{kind}/00002"))
    content = bytearray(bucket_store.get(f"pools/a/{name}"))
    content[len(content) // 2] ^= 1
    if harm == "gone":
        bucket_store.take_away(f"pools/a/{name}")
    else:
        bucket_store.put(f"pools/a/{name}", bytes(content[: -1 if harm == "truncated" else None]))
    with pytest.raises(Damaged, match=f"{url}/{name}: .*commits/00002.json"):  # the copies here do not hide it
        Pool(url).verify()
    another_machine(monkeypatch, tmp_path / "other")
    with pytest.raises(Damaged, match=f"{url}/{name}"):  # at once, but for what only its bytes show
        read_all(url)


def test_a_copy_that_went_bad_is_fetched_again(url: str, bucket_store: ObjectStore) -> None:
    embed_vectors(url)
    whole = held(Pool(url))
    for path in (Path(os.environ[cache.FOLDER]) / "objects").rglob("*.*"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    assert held(Pool(url)) == whole


def test_a_record_that_was_altered_is_damaged(url: str, bucket_store: ObjectStore) -> None:
    embed_vectors(url)
    content = bucket_store.get("pools/a/commits/00001.json")
    bucket_store.put("pools/a/commits/00001.json", content.replace(b"6", b"7", 1))
    with pytest.raises(Damaged, match=r"commits/00001\.json"):
        Pool(url)


def errors_of(pool: Pool) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is refused of a pool, by its directory here: its name in texts, and the call."""
    here, files = pool.path, files_of(pool.path)
    yield "a column", lambda: pool.rows_where("none", [1])
    yield "a key", lambda: pool.ids_of(["nobody"])
    yield "a generation", lambda: Pool(here, 7)
    yield "all items", lambda: remove_items(here, list(pool_keys(pool)))
    yield "another encoder", lambda: embed(vectors(20, 5), Precomputed(), here, chunk_rows=6)
    yield "another metric", lambda: embed(vectors(20), Precomputed(), here, chunk_rows=6, metric="l2")
    yield "another chunk size", lambda: embed_vectors(here, rows=7)
    yield "another source", lambda: embed_vectors(here, 21)
    yield "a record", lambda: read_broken(here, "commits/00001.json")
    yield "a manifest", lambda: read_broken(here, "pool.json")
    yield "a change", lambda: read_broken(here, "source.json")
    yield "no lock", lambda: files.write_record("pool.json", {})
    yield "blurred", lambda: check_blurred(here, [{"rows": 2, "blurred": 2}])
    yield "lost", lambda: check_lost(here, 5, 20, PassedOver(), max_quarantine=0.0, max_passed_over=0.0)
    yield "no owners", lambda: OwnersOf(pool)


def test_every_error_names_the_url_and_never_the_directory_here(url: str) -> None:
    embed_vectors(url)
    pool = Pool(url)
    for name, call in errors_of(pool):
        error = raised_by(call)
        assert error is not None, name
        for one in (error, pickle.loads(pickle.dumps(error))):
            texts = [str(one), repr(one), *(str(value) for value in vars(one).values())]
            assert url in str(one), name
            assert not [text for text in texts if str(pool.path) in text], name
        files_of(pool.path).sync()
    index = UserError(f"{pool.path}/index/00001", "is damaged", f"build it for {pool.path}")
    assert str(index) == f"{pool.path}/index/00001: is damaged; build it for {url}", "it lies on this machine alone"


def raised_by(call: Callable[[], object]) -> Exception | None:
    try:
        call()
    except (RaysalError, PermissionError) as error:
        return error
    return None


def pool_keys(pool: Pool) -> Iterator[str]:
    for table in pool.items(["key"]):
        yield from table["key"].to_pylist()


def read_broken(pool: Path, name: str) -> None:
    """Open a pool of which a record was altered here."""
    content = (pool / name).read_bytes()
    (pool / name).write_bytes(content.replace(b":", b";", 1))
    try:
        read_stamp(pool)
        Pool(pool)
    finally:
        (pool / name).write_bytes(content)


def test_a_pool_that_is_not_there_or_not_finished_is_refused(url: str, bucket_store: ObjectStore) -> None:
    with pytest.raises(PoolError, match="not a pool"):
        Pool(url)
    assert bucket_store.names() == []
    with cut_off_after(bucket_store, 7):
        embed_vectors(url)
    with pytest.raises(PoolIncomplete):
        Pool(url)
    bucket_store.fail("forbidden", times=-1)
    with pytest.raises(BucketError, match="may not be listed"):
        Pool(url)
    with pytest.raises(ConfigError, match="pass it as text"):
        Pool(Path(url))
    bucket_store.proxy.forget()
    with pytest.raises(BucketError, match="there is no such bucket"):
        Pool("s3://nobody-has-this/pool")


def test_only_new_records_are_fetched(url: str, bucket_store: ObjectStore) -> None:
    embed_vectors(url)
    bucket_store.forget_requests()
    Pool(url)
    assert [method for method, name in bucket_store.requests() if name] == []
    remove_items(url, ["k1"])
    bucket_store.forget_requests()
    held(Pool(url))
    assert not bucket_store.requests("GET", "pools/a/*")  # what this machine wrote, it has


def test_a_cache_that_is_smaller_than_the_pool_sweeps_right(
    url: str, bucket_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = vectors(200, 64)
    for place in (url, tmp_path / "pool"):
        embed(source, Precomputed(), place, chunk_rows=10)
    another_machine(monkeypatch, tmp_path / "other")
    monkeypatch.setenv(cache.SIZE, "2e-5")  # of some 80 kB
    monkeypatch.setattr(cache, "HELD", 4)
    monkeypatch.setattr("raysal.fleet.parts.MAPPED", 3)
    norms = []
    for place in (url, tmp_path / "pool"):
        partition = Partition(plan_partitions(Pool(place), 1)[0])
        for _ in range(2):
            norms.append(
                np.concatenate([block.features[: block.n].numpy().copy() for block in partition.blocks(size=64)])
            )
        some = np.arange(0, 200, 7)
        norms.append(partition.gather(some).astype(np.float32))
        if place == url:
            assert sum(part._tensor is not None for part in partition._parts) <= 3
    assert (norms[0] == norms[3]).all()
    assert (norms[1] == norms[3]).all()
    assert (norms[2] == norms[5]).all()


def test_a_pass_fetches_the_next_files_while_one_is_read(
    url: str, bucket_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one, and a later one that finds the files deleted from the cache."""
    embed_vectors(url, 40, 5)
    another_machine(monkeypatch, tmp_path / "other")
    spec = plan_partitions(Pool(url), 1)[0]
    assert spec.pool == url
    partition = Partition(spec)
    for _ in range(2):
        there = threading.Barrier(3)

        def arrive(there: threading.Barrier = there) -> None:
            there.wait(10)  # until three are on their way at once

        for index in (5, 6, 7):
            bucket_store.before("GET", f"pools/a/vectors/{index:05d}*", arrive)
        assert sum(block.n for block in partition.blocks()) == 40
        assert not there.broken
        for part in partition._parts:
            part.let_go()
        shutil.rmtree(tmp_path / "other" / "objects")


def test_a_generation_that_comes_within_a_listing_is_not_seen_without_its_chunks(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing of many pages shows the records of chunks as they were before those of generations."""
    monkeypatch.setattr(compacting, "_clear_others", lambda pool: None)  # whose deletions would be noticed in any case
    embed_vectors(url)
    remove_items(url, ["k3"])
    home = mirror_of(url).directory
    another_machine(monkeypatch, tmp_path / "other")
    listing, calls = Bucket.list, []

    def in_pages(self: Bucket, prefix: str = "") -> Iterator[Object]:
        before = list(listing(self, prefix))
        if prefix == "" and not calls:
            calls.append(1)
            compact(home)
            before = [found for found in before if found.name < "generations"]
            before += [found for found in listing(self) if found.name >= "generations"]
        yield from before

    monkeypatch.setattr(Bucket, "list", in_pages)
    assert held(Pool(url)).keys() == {f"k{i}" for i in range(20)} - {"k3"}
    assert calls


def test_a_writer_goes_on_from_what_another_machine_wrote(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_vectors(url)
    home = directory_of(url)
    another_machine(monkeypatch, tmp_path / "other")
    remove_items(url, ["k1"])
    assert remove_items(home, ["k2"]).generation == 2
    assert held(Pool(url)).keys() == {f"k{i}" for i in range(20)} - {"k1", "k2"}


def test_a_worker_on_another_machine_has_a_directory_of_its_own(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = ChunkStage(directory_of(url), 3)
    another_machine(monkeypatch, tmp_path / "other")
    arrived = pickle.loads(pickle.dumps(stage))
    assert arrived.pool.is_relative_to(tmp_path / "other")
    assert place_of(arrived.pool) == url
