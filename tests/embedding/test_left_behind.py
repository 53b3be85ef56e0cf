"""A file counts as gone while the pool has items that only it had: then there is something to take out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from changing_sources import KINDS, ROWS, Row, texts_in
from growing_pools import held, make
from tiers import deep_unless

from raysal.embedding.missing import remove_missing
from raysal.pool import open_pool
from raysal.pool.compacting import compact
from raysal.pool.removing import remove_items

FILES = "abc"


def takes_out(pool: Path) -> int:
    """How many items `raysal pool remove --missing` would take out, of a copy."""
    copy = pool.with_name("copy")
    shutil.copytree(pool, copy)
    try:
        return remove_missing(copy, most=1.0).removed
    finally:
        shutil.rmtree(copy)


@pytest.mark.parametrize("seed", deep_unless({0, 1}, range(12)))
def test_a_hint_is_never_at_nothing(seed: int, tmp_path: Path) -> None:
    """Rows go from file to file, change, come, and go with their file; items are taken out, the pool is compacted."""
    rng = np.random.default_rng(seed)
    rows = list(ROWS)
    place = {row.key: FILES[i % 3] for i, row in enumerate(rows)}
    pool = tmp_path / "pool"
    for step in range(10):
        files = {name: [row for row in rows if place[row.key] == name] for name in sorted({*place.values()})}
        report = make(texts_in(tmp_path / "items", **{name: some for name, some in files.items() if some}), pool)
        assert not report.gone or takes_out(pool)
        what = rng.integers(6)
        at = int(rng.integers(len(rows)))
        if what <= 1:  # all rows of a file go to another one
            old, new = rng.choice([*FILES], 2, replace=False)
            place = {key: str(new) if name == old else name for key, name in place.items()}
        elif what == 2:
            rows[at] = Row(rows[at].key, 50 + step, rows[at].label)
        elif what == 3:
            rows.append(Row(f"n{step}.png", 60 + step, "l0"))
            place[rows[-1].key] = str(rng.choice([*FILES]))
        elif what == 4 and len({*place.values()}) > 1:
            rows = [row for row in rows if place[row.key] != place[rows[at].key]]
            place = {row.key: place[row.key] for row in rows}
        elif (key := rows[at].key) in held(open_pool(pool)):
            remove_items(pool, [key])
            if rng.integers(2):
                compact(pool)


def grown(tmp_path: Path, *states: dict[str, list[Row]]) -> int:
    tmp_path.mkdir(exist_ok=True)
    return [make(texts_in(tmp_path / "items", **state), tmp_path / "pool") for state in states][-1].gone


def test_rows_that_were_moved_leave_no_file_behind(tmp_path: Path) -> None:
    before, new = {"a": ROWS[:3], "b": ROWS[3:]}, [Row("new", 9, "l0")]
    for name, after in {
        "into one that was there": {"b": ROWS},
        "by a new name": {"c": ROWS[:3], "b": ROWS[3:]},
    }.items():
        assert grown(tmp_path / name, before, after) == 0
        assert grown(tmp_path / name, {**after, "d": new}) == 0, "nor when the next ones come"


def test_what_is_gone_is_said_again_until_it_is_taken_out(tmp_path: Path) -> None:
    state = {"b": ROWS[3:]}
    assert grown(tmp_path, {"a": ROWS[:3], **state}, state) == 1
    state["d"] = [Row("new", 9, "l0")]
    assert grown(tmp_path, state) == 1
    remove_items(tmp_path / "pool", [row.key for row in ROWS[:2]])
    compact(tmp_path / "pool")
    state["e"] = [Row("newer", 9, "l0")]
    assert grown(tmp_path, state) == 1, "one of its items is there"
    remove_items(tmp_path / "pool", [ROWS[2].key])
    state["f"] = [Row("newest", 9, "l0")]
    assert grown(tmp_path, state) == 0
    compact(tmp_path / "pool")
    state["g"] = [Row("last", 9, "l0")]
    assert grown(tmp_path, state) == 0


def test_files_that_are_items_count_one_by_one(tmp_path: Path) -> None:
    make(KINDS["folder"](tmp_path / "items", ROWS), tmp_path / "pool")
    assert make(KINDS["folder"](tmp_path / "items", ROWS[3:]), tmp_path / "pool").gone == 3
    assert takes_out(tmp_path / "pool") == 3
