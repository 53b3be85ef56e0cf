"""A pool in a bucket grows as one in a directory does, whatever stops it."""

from __future__ import annotations

from pathlib import Path

import pytest
from changing_sources import KINDS, ROWS, Row
from growing_pools import held, make
from object_store import ObjectStore
from small_sources import vectors
from stopped_writers import cut_off_after
from tiers import deep, deep_unless

from raysal.buckets import cache, lease, retries
from raysal.embedding.file_hashes import TABLE
from raysal.embedding.job import embed
from raysal.embedding.missing import remove_missing
from raysal.embedding.precomputed import Precomputed
from raysal.pool import open_pool
from raysal.pool.compacting import compact
from raysal.pool.links import links_of

FILES = [kind for kind in KINDS if kind not in ("vectors", "images", "texts")]
MORE = (
    *ROWS[:2],
    Row(ROWS[2].key, 99, "l1"),
    *ROWS[3:],
    *(Row(f"n{place}.png", 50 + place, "l0") for place in range(5)),
)
"""One item changed, and five new ones."""


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(retries, "TRIES", 2)


def objects(store: ObjectStore, prefix: str) -> dict[str, bytes]:
    """What a pool holds, without what tells times and writers."""
    told = ("source.json", lease.NAME)
    names = (name for name in store.names() if name.startswith(f"{prefix}/") and not name.endswith(told))
    return {name.removeprefix(f"{prefix}/"): store.get(name) for name in names}


def test_a_repair_forgets_the_hashes_of_files_that_it_takes_in_anew(bucket_store: ObjectStore, tmp_path: Path) -> None:
    """Otherwise a file that is what it was before the repair would count as what the pool took in then."""
    url, here = f"{bucket_store.url}/pool", tmp_path / "pool"
    for place in (url, str(here)):
        source = KINDS["folder"](tmp_path / "items", ROWS)
        make(source, place)
        assert make(source, place, check="hash").added == 0
    assert f"pool/{TABLE}" in bucket_store.names()
    assert (here / TABLE).exists()
    bucket_store.take_away("pool/commits/00000.json")
    (here / "commits" / "00000.json").unlink()
    changed = (Row(ROWS[0].key, 99, ROWS[0].label), *ROWS[1:])
    for place in (url, str(here)):
        make(KINDS["folder"](tmp_path / "items", changed), place)
        again = make(KINDS["folder"](tmp_path / "items", ROWS), place, check="hash")
        assert again.replaced == 1


@pytest.mark.parametrize("kind", deep_unless({"folder"}, FILES))
def test_it_grows_shrinks_and_is_compacted_as_on_a_disk(
    kind: str, bucket_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change on another machine."""
    places = [f"{bucket_store.url}/pool", str(tmp_path / "pool")]
    for step, rows in enumerate((ROWS, MORE, MORE[2:])):
        monkeypatch.setenv(cache.FOLDER, str(tmp_path / f"machine{step}"))
        reports = [make(KINDS[kind](tmp_path / "items", rows), place) for place in places]
        there, here = map(open_pool, places)
        assert [(one.added, one.replaced, one.gone) for one in reports[:1]] == [
            (one.added, one.replaced, one.gone) for one in reports[1:]
        ]
        assert held(there) == held(here)
        assert there.fingerprint == here.fingerprint
        assert links_of(there) == links_of(here)
        assert there.verify() == here.verify()
    for change in (remove_missing, compact):
        for place in places:
            change(place)  # type: ignore[operator]
        there, here = map(open_pool, places)
        assert held(there) == held(here)
        assert there.fingerprint == here.fingerprint
    assert there.ancestors == here.ancestors


@pytest.mark.parametrize("writes", deep_unless({10}, range(1, 24)))
def test_a_growth_that_was_cut_off_at_any_write_goes_on_to_the_same_objects(
    writes: int, bucket_store: ObjectStore, tmp_path: Path
) -> None:
    source = KINDS["folder"](tmp_path / "items", ROWS)
    one, two = f"{bucket_store.url}/one", f"{bucket_store.url}/two"
    for place in (one, two):
        make(source, place)  # type: ignore[arg-type]
    before = held(open_pool(two))
    source = KINDS["folder"](tmp_path / "items", MORE)
    make(source, one)  # type: ignore[arg-type]
    with cut_off_after(bucket_store, writes):
        make(source, two)  # type: ignore[arg-type]
    assert held(open_pool(two)) in (before, held(open_pool(one))), "a reader sees all of it or nothing"
    make(source, two)  # type: ignore[arg-type]
    assert objects(bucket_store, "one") == objects(bucket_store, "two")


@deep
def test_workers_of_ray_embed_into_a_bucket(ray_session: None, bucket_store: ObjectStore, tmp_path: Path) -> None:
    """They write the data themselves, from a cache of their own; the driver commits it."""
    places = f"{bucket_store.url}/pool", tmp_path / "pool"
    reports = [
        embed(vectors(40), Precomputed(), place, chunk_rows=8, backend=backend, workers=2)  # type: ignore[arg-type]
        for place, backend in zip(places, ("ray", "local"), strict=True)
    ]
    assert [report.embedded for report in reports] == [40, 40]
    there, here = map(open_pool, places)
    assert held(there) == held(here)
    assert there.fingerprint == here.fingerprint
    assert there.verify() == here.verify()
