"""A pool in a bucket is the pool that a directory would hold, whatever stops its writers and whatever the network does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from growing_pools import contents, held, make
from object_store import ObjectStore
from small_sources import vectors

from raysal.buckets import retries
from raysal.embedding.job import EmbedReport, embed
from raysal.embedding.precomputed import Precomputed
from raysal.errors import BucketError, Damaged, NotNow
from raysal.pool import Pool, open_pool
from raysal.pool.place import directory_of, files_of, place_of


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)


def embed_vectors(out: str | Path, n: int = 20, rows: int = 6) -> EmbedReport:
    return embed(vectors(n), Precomputed(), out, chunk_rows=rows)


def same(one: Pool, other: Pool) -> bool:
    """Whether two pools have the same identity, items and bytes of vectors."""
    digests = [
        [{name.split("/")[0]: entry["sha256"] for name, entry in record["files"].items()} for record in pool.records]
        for pool in (one, other)
    ]
    return one.fingerprint == other.fingerprint and held(one) == held(other) and digests[0] == digests[1]


def test_a_pool_in_a_bucket_is_the_pool_on_a_disk(bucket_store: ObjectStore, tmp_path: Path) -> None:
    url = f"{bucket_store.url}/pools/a"
    reports = [embed_vectors(out) for out in (url, tmp_path / "pool")]
    assert reports[0].chunks == reports[1].chunks == 4
    there, here = Pool(url), Pool(tmp_path / "pool")
    assert same(there, here)
    assert there.place == url and place_of(there.path) == url
    assert there.verify() == here.verify()
    assert not [name for name in bucket_store.names() if ".lock" in name or ".tmp" in name]
    again = embed_vectors(url)
    assert (again.embedded, again.resumed) == (0, 4)
