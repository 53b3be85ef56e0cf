"""Notes and ratings only grow, the newest counts, and every process sees them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from raysal.errors import Damaged, LabelError
from raysal.labels.remarks import FILE, LONGEST_NOTE, Remark, Remarks


def test_the_newest_counts_and_everybody_sees_it(tmp_path: Path):
    one, other = Remarks(tmp_path), Remarks(tmp_path)
    assert one.add("ann", [("a", Remark(" blurred ", 3)), ("b", Remark(rating=0))]) == 2
    assert other.of("a") == {"ann": Remark("blurred", 3)}
    assert other.add("bob", [("a", Remark("sharp", 5, disputed=True))]) == 1
    assert one.add("ann", [("a", Remark("blurred", 3))]) == 0  # nothing new
    assert one.add("ann", [("a", Remark("", None))]) == 1
    assert one.of("a") == {"ann": Remark(), "bob": Remark("sharp", 5, True)}
    one.close()
    other.close()
    assert Remarks(tmp_path).of_all(["a", "b", "c"]) == {
        "a": {"ann": Remark(), "bob": Remark("sharp", 5, True)}, "b": {"ann": Remark(rating=0)}, "c": {},
    }  # fmt: skip


def test_nothing_of_it_is_ever_changed(tmp_path: Path):
    Remarks(tmp_path).add("ann", [("a", Remark("x"))])
    with sqlite3.connect(tmp_path / FILE) as db:
        for statement in ("UPDATE remarks SET note = 'y'", "DELETE FROM remarks"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                db.execute(statement)


REFUSED = [Remark("x" * (LONGEST_NOTE + 1)), Remark("\ud800"), *(Remark(rating=one) for one in (6, -1, True))]


@pytest.mark.parametrize("remark", REFUSED)
def test_what_cannot_be_kept_is_refused_with_all_of_its_call(tmp_path: Path, remark: Remark):
    remarks = Remarks(tmp_path)
    with pytest.raises(LabelError, match="'b'"):
        remarks.add("ann", [("a", Remark("fine")), ("b", remark)])
    assert remarks.of("a") == {}


def test_a_broken_file_is_named_and_stays(tmp_path: Path):
    (tmp_path / FILE).write_bytes(b"somebody's work" * 100)
    with pytest.raises(Damaged, match=FILE):
        Remarks(tmp_path)
    assert (tmp_path / FILE).read_bytes() == b"somebody's work" * 100
