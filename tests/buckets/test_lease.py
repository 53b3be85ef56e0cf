"""The lock on a folder of a bucket: one holder at a time is sure of it, and who lost it finds out."""

from __future__ import annotations

import json
import os

import pytest
from object_store import ObjectStore

from raysal.buckets import Bucket, lease, retries
from raysal.buckets.lease import NAME, Lease
from raysal.errors import BucketError, NotNow

PLACES = ["s3", "memory"]


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(retries, "TRIES", 2)


@pytest.fixture(params=PLACES)
def folder(request: pytest.FixtureRequest, bucket_store: ObjectStore) -> Bucket:
    """A folder of a service that has versions, and of one that has none."""
    if request.param == "memory":
        pytest.importorskip("fsspec")
    return Bucket(f"{bucket_store.url}/a" if request.param == "s3" else f"memory://{bucket_store.bucket}/a")


def test_one_holds_it_and_gives_it_back(folder: Bucket) -> None:
    with Lease(folder, "one", "pool") as held:
        held.check()
        with (
            pytest.raises(NotNow, match=f"process {os.getpid()} on .* runs out 120 s after"),
            Lease(folder, "two", "pool"),
        ):
            pass
        held.check()
    assert has_ended(folder)
    with Lease(folder, "two", "pool") as held:
        held.check()
        assert not has_ended(folder)


def test_who_is_done_leaves_the_lock_of_another_alone(bucket_store: ObjectStore) -> None:
    """Whichever request it takes over before: the first one found its lock, and is about to give it back."""
    folder = Bucket(f"{bucket_store.url}/a")
    for method in ("HEAD", "GET", "PUT", "DELETE", "POST"):
        first, second = Lease(folder, "one", "pool"), Lease(folder, "one", "pool")
        first.__enter__()
        bucket_store.before(method, f"*{NAME}" if method != "POST" else "*", second.__enter__)
        first.__exit__(None, None, None)
        if second._held is not None:
            second.check()
            second._renewed = -1e9
            second.check()
            assert not has_ended(folder), method
            second.__exit__(None, None, None)
        bucket_store.proxy.forget()


def has_ended(folder: Bucket) -> bool:
    return bool(json.loads(folder.read(NAME)).get("ended"))


def test_of_an_ended_process_on_the_same_directory_it_is_taken_over(folder: Bucket) -> None:
    left = Lease(folder, "one", "pool")
    left.__enter__()  # and it never gives it back
    with Lease(folder, "one", "pool") as held:
        held.check()
        left._renewed = -1e9
        with pytest.raises(NotNow, match="took over the lock"):
            left.check()
        left.__exit__(None, None, None)
        assert not has_ended(folder), "it is another one's"
        held.check()


def test_it_is_renewed(folder: Bucket) -> None:
    with Lease(folder, "one", "pool", seconds=0.0) as held:  # all the time
        counts = (json.loads(folder.read(NAME))["count"] for _ in range(10_000))
        assert any(count > 3 for count in counts)
        held.check()


def test_a_renewal_whose_answers_were_all_lost_is_no_loss_of_the_lock(bucket_store: ObjectStore) -> None:
    folder = Bucket(f"{bucket_store.url}/a")
    with Lease(folder, "one", "pool") as held:
        held._renewed = -1e9
        bucket_store.fail("lost answer", method="PUT", name=f"*{NAME}", times=retries.TRIES)
        with pytest.raises(BucketError, match="times in turn"):
            held.check()
        assert json.loads(folder.read(NAME))["count"] == 2, "it was written all the same"
        held.check()
        assert json.loads(folder.read(NAME))["count"] > 2, "it is renewed over that version"
    assert has_ended(folder)


def test_what_ran_out_is_taken_over_by_the_clock_of_the_service(
    folder: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write(NAME, b'{"holder": "somebody", "mark": "gone", "token": "x", "seconds": 10}')
    with pytest.raises(NotNow, match="somebody"), Lease(folder, "two", "pool"):
        pass
    monkeypatch.setattr(lease, "SLACK_S", -11.0)  # as if so much more time had gone by
    with Lease(folder, "two", "pool") as held:
        held.check()
    assert [found.name for found in folder.list()] == [NAME]


def test_a_lock_that_cannot_be_read_holds_as_long_as_any(folder: Bucket) -> None:
    folder.write(NAME, b"\xff not JSON")
    with pytest.raises(NotNow, match="unknown"), Lease(folder, "two", "pool"):
        pass
