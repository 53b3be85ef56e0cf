"""A file of a pool is compared with its sha256 once in a process, and again when it changed."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pools import make_pool, mixture

import raysal.pool.intact as module
from raysal.errors import Damaged
from raysal.pool import Pool
from raysal.pool.intact import INTACT, IntactFiles
from raysal.store import check_bytes, sha256_of


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were compared, one for each comparison."""
    names: list[str] = []

    def watched(path: Path, *args: Any) -> None:
        names.append(path.name)
        check_bytes(path, *args)

    monkeypatch.setattr(module, "check_bytes", watched)
    return names


def test_a_file_is_compared_once_whoever_asks_and_how_many_at_a_time(tmp_path: Path, compared: list[str]) -> None:
    path, files = tmp_path / "a", IntactFiles(settled_ns=0)
    path.write_bytes(b"x" * 10**6)
    digest, ready = sha256_of(path), threading.Barrier(8)

    def ask(_: int) -> None:
        ready.wait()
        files.check(path, digest, "mend it")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(8)))
    assert compared == ["a"]
    with pytest.raises(Damaged, match="sha256 in its record; mend it"):  # as another record says
        files.check(path, "0" * 64, "mend it")
    files.check(path, digest, "mend it", anew=True)
    assert compared == ["a"] * 3
    assert not files._busy


@pytest.mark.parametrize("how", ["written", "replaced", "same times", "cut"])
def test_a_file_that_changed_is_compared_again(tmp_path: Path, how: str) -> None:
    path, files = tmp_path / "a", IntactFiles(settled_ns=0)
    path.write_bytes(b"before")
    digest, times = sha256_of(path), path.stat()
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns - 10**9))  # so that the next write has another time
    times = path.stat()
    files.check(path, digest, "")
    if how == "replaced":
        (tmp_path / "b").write_bytes(b"beyond")
        os.utime(tmp_path / "b", ns=(times.st_atime_ns, times.st_mtime_ns))
        (tmp_path / "b").replace(path)
    else:
        path.write_bytes(b"be" if how == "cut" else b"beyond")
    if how == "same times":
        while path.stat().st_ctime_ns == times.st_ctime_ns:
            path.write_bytes(b"beyond")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    for _ in range(2):  # what differs is not remembered
        with pytest.raises(Damaged):
            files.check(path, digest, "")
    path.unlink()
    with pytest.raises(Damaged, match="cannot be read"):
        files.check(path, digest, "")


def test_a_file_that_was_just_written_is_not_trusted_yet(tmp_path: Path, compared: list[str]) -> None:
    path, files = tmp_path / "a", IntactFiles(settled_ns=3600 * 10**9)
    path.write_bytes(b"x")
    for _ in range(3):
        files.check(path, sha256_of(path), "")
    assert compared == ["a"] * 3


def test_what_is_remembered_has_a_limit(tmp_path: Path, compared: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    files = IntactFiles(settled_ns=0)
    for name in "abcbca":
        (tmp_path / name).touch()
        os.utime(tmp_path / name, ns=(0, 0))
    for name in "abcbca":
        files.check(tmp_path / name, sha256_of(tmp_path / name), "")
    assert compared == ["a", "b", "c", "a"]


def test_a_pool_is_compared_once_and_by_verify_each_time(
    tmp_path: Path, compared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(INTACT, "settled_ns", 0)
    path = make_pool(tmp_path / "pool", mixture(6, 2)[0], chunk_rows=3).path
    every = ["00000.arrow", "00000.parquet", "00000.parquet", "00001.arrow", "00001.parquet", "00001.parquet"]
    for _ in range(2):
        for chunk in Pool(path).chunks:
            chunk.vectors(), chunk.items(), chunk.quarantine()
    assert sorted(compared) == every
    compared.clear()
    Pool(path).verify()
    assert sorted(compared) == every
