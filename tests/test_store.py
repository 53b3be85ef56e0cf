"""Only one process at a time can lock a directory."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from raysal.errors import RunError
from raysal.store import is_locked, locked


def test_a_directory_is_held_by_one_and_seen_to_be(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    with locked(tmp_path, "run"):
        assert is_locked(tmp_path)
        with pytest.raises(RunError, match="another process is at work on this run"), locked(tmp_path, "run"):
            pass
        assert is_locked(tmp_path), "whoever was refused has let go of nothing"
    assert not is_locked(tmp_path)


def test_to_be_looked_at_is_not_to_be_held(tmp_path: Path) -> None:
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            is_locked(tmp_path)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3000):
            with locked(tmp_path, "run"):
                pass
    finally:
        done.set()
        for thread in threads:
            thread.join()
