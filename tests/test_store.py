"""Records are JSON that reads back the same; only one process at a time can lock a directory."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any, Never

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysal.errors import Damaged, RunError
from raysal.json_text import indented, to_json
from raysal.store import digest_of, is_locked, locked, read_sealed, write_sealed

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc$", max_size=3), inner, max_size=3),
    max_leaves=8,
)


def no_json(word: str) -> Never:
    raise ValueError(f"{word} is not JSON")


def same(one: Any, two: Any) -> bool:
    """Equal, a NaN being equal to itself."""
    return repr(one) == repr(two)


@given(record=st.dictionaries(st.text("abc", max_size=3), VALUES, max_size=4))
def test_a_record_is_json_and_reads_back_the_same(record: dict[str, Any], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("record") / "r.json"
    write_sealed(path, record)
    json.loads(path.read_text(encoding="utf-8"), parse_constant=no_json)
    found = read_sealed(path)
    assert found.keys() == record.keys()
    assert all(same(found[name], json.loads(json.dumps(record[name], sort_keys=True))) for name in record)


@given(value=VALUES)
def test_the_quick_text_of_json_is_that_of_the_library(value: Any) -> None:
    """Of strings with every letter that is written as an escape, too."""
    plain = to_json(json.loads(json.dumps([value, '\x00\x1f\x7f\\"/\u2028\ud800é', [], {}, [[]], {"": {}}])))
    assert indented(plain) == json.dumps(plain, indent=1, ensure_ascii=False, sort_keys=True)


def test_infinity_in_a_record_of_an_older_build_is_read(tmp_path: Path) -> None:
    record = {"longest": math.inf, "lowest": [-math.inf], "name": "inf"}
    text = json.dumps({**record, "sha256": digest_of(record)}, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    (tmp_path / "old.json").write_text(text, encoding="utf-8")
    assert "Infinity" in text
    assert read_sealed(tmp_path / "old.json") == record
    (tmp_path / "old.json").write_text(text.replace("Infinity", "NaN", 1), encoding="utf-8")
    with pytest.raises(Damaged):
        read_sealed(tmp_path / "old.json")


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
