"""Who keeps items by id can follow those that changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from changing_sources import KINDS, ROWS, Row
from cli_tools import cli
from growing_pools import held, make
from tiers import deep_unless

from raysal.errors import Damaged
from raysal.pool import Change, changes_of, open_pool
from raysal.pool.compacting import compact
from raysal.pool.generations import links_file
from raysal.pool.removing import remove_items


def changed(rows: list[Row], *places: int, number: int) -> list[Row]:
    return [Row(row.key, number + at, row.label) if at in places else row for at, row in enumerate(rows)]


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Item 1 changed twice, item 4 once and was taken out, and one came."""
    rows = list(ROWS)
    for step in ((1, 4), (1,), ()):
        make(KINDS["folder"](tmp_path / "items", rows), tmp_path / "pool")
        rows = changed(rows, *step, number=60 + 10 * len(step))
    rows.append(Row("new.png", 99, "l0"))
    make(KINDS["folder"](tmp_path / "items", rows), tmp_path / "pool")
    remove_items(tmp_path / "pool", ["k4.png"])
    return tmp_path / "pool"


def test_every_change_is_listed_with_its_key(pool: Path) -> None:
    opened = open_pool(pool)
    before = {key: one[0] for key, one in held(open_pool(pool, 0)).items()}
    found = changes_of(opened)
    assert [(change.key, change.generation) for change in found] == [("k1.png", 1), ("k4.png", 1), ("k1.png", 2)]
    assert [found[0].old_id, found[1].old_id] == [before["k1.png"], before["k4.png"]]
    assert found[2].old_id == found[0].id, "one follows the other"
    assert held(opened)["k1.png"][0] == found[2].id
    assert changes_of(opened, since=1) == found[2:]
    assert changes_of(open_pool(pool, 1)) == found[:2]
    assert changes_of(open_pool(pool, 0)) == changes_of(opened, since=9) == []
    compact(pool)
    kept = [change._replace(key=None) if change.key == "k4.png" else change for change in found]
    assert changes_of(open_pool(pool)) == kept, "a pool that is compacted keeps no key of what was taken out"


@pytest.mark.parametrize(
    "kind", deep_unless({"csv"}, [kind for kind in KINDS if kind not in ("vectors", "images", "texts")])
)
def test_ids_that_are_followed_end_at_the_item_of_the_same_key(kind: str, tmp_path: Path) -> None:
    rows = list(ROWS)
    for step in range(4):
        make(KINDS[kind](tmp_path / "items", rows), tmp_path / "pool")
        rows = changed(rows, step, (3 * step + 1) % len(rows), number=50 + 10 * step)
    now = open_pool(tmp_path / "pool")
    following = {change.old_id: change for change in changes_of(now)}
    for number in range(now.generation):
        for key, (id, *_) in held(open_pool(tmp_path / "pool", number)).items():
            while id in following:
                assert following[id].key == key
                id = following[id].id
            assert held(now)[key][0] == id


def test_the_command_says_the_same(pool: Path) -> None:
    said = cli("pool", "changes", pool, "--json").json
    found = changes_of(open_pool(pool))
    assert [Change(**one) for one in said["changes"]] == found
    assert (said["count"], said["generation"], said["since"]) == (3, 4, 0)
    view = cli("pool", "changes", pool, "-k", 1).out
    assert "k1.png" in view
    assert "k4.png" not in view
    assert f"{pool}: 3 changes; -k 0 lists all" in view
    assert cli("pool", "changes", pool, "-k", 0, "--since", 1, "--json").json["count"] == 1
    assert "no item has changed after generation 2" in cli("pool", "changes", pool, "--since", 2).out


def test_a_table_of_links_that_was_altered_is_damaged(pool: Path) -> None:
    path = pool / links_file(1)
    content = path.read_bytes()
    path.write_bytes(content[:20] + bytes([content[20] ^ 1]) + content[21:])
    with pytest.raises(Damaged, match=links_file(1)):
        changes_of(open_pool(pool))
