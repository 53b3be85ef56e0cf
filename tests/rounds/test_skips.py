"""What nobody can label is not asked for again, however that was said. A file can hold all that people said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cli_tools import cli, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import make_pool, mixture
from tiers import deep_unless

import raysal
from raysal.errors import LabelError
from raysal.labels import Ledger, read_labels, write_labels
from raysal.labels.events import EventLog, PendingEvent
from raysal.pool import Pool
from raysal.tables import KINDS
from raysal.types import SKIP, Label

ITEMS = 12
KEYS = [f"item-{row:06d}" for row in range(ITEMS)]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return make_pool(tmp_path_factory.mktemp("pool") / "pool", mixture(ITEMS, 4, classes=2)[0])


def written(path: Path, rows: list[tuple[str, str]]) -> Path:
    lines = [f"{key},{label}\n" for key, label in rows]
    path.write_text("key,label\n" + "".join(lines))
    return path


def by_file(suffix: str) -> Callable[[Path, str], None]:
    def skip(run: Path, key: str) -> None:
        path = run.with_name(f"skips{suffix}")
        write_labels(path, [Label(key=key, label=SKIP)])
        assert cli("label", "import", run, path, "--json").json["skipped"] == 1

    return skip


def by_command(run: Path, key: str) -> None:
    assert cli("label", "skip", run, key, "--json").json["skipped"] == 1


def by_method(run: Path, key: str) -> None:
    with raysal.Session.open(run) as session:
        assert session.skip([key]) == 1


def by_telling(run: Path, key: str) -> None:
    with raysal.Session.open(run) as session:
        assert session.tell({key: " !Skip "}).skipped == 1


DOORS: dict[str, Callable[[Path, str], None]] = {
    "raysal label skip": by_command, "Session.skip": by_method, "Session.tell": by_telling,
    **{suffix: by_file(suffix) for suffix in KINDS},
}  # fmt: skip


@pytest.mark.parametrize(
    "door", deep_unless({"raysal label skip", "Session.skip", "Session.tell", ".csv", ".parquet"}, DOORS)
)
def test_a_skipped_item_is_not_asked_for_again(pool: Pool, tmp_path: Path, door: str) -> None:
    run = tmp_path / "run"
    with raysal.Session(run, pool, select="random", start="random") as session:
        batch = session.query(3)
        session.tell({batch.keys[1]: "a", batch.keys[2]: "b"})
    DOORS[door](run, batch.keys[0])
    asked = set(batch.keys)
    status = cli("status", run, "--json").json
    assert (status["skipped"], status["waiting"], status["labeled"]) == (1, 0, 2)
    for _ in range(2):
        table = raysal.select(pool, k=ITEMS - len(asked), labels=run)
        assert asked.isdisjoint(table["key"].to_pylist())
        with raysal.Session.open(run) as session:
            batch_of_round = session.query(3)
        assert asked.isdisjoint(batch_of_round.keys)
        asked |= set(batch_of_round.keys)
    with raysal.Session.open(run) as session:
        assert session.query(3).keys
        assert session.withdraw([batch.keys[0]]) == 1  # then the round that asked for it waits for it again
        assert batch.keys[0] in {key for _, key in session.ledger.outstanding(round=0)}


@pytest.mark.parametrize("suffix", KINDS)
def test_select_leaves_out_what_a_file_skips(pool: Pool, tmp_path: Path, suffix: str) -> None:
    told = [Label(key=KEYS[0], label="a"), Label(key=KEYS[1], label="b"), Label(key=KEYS[2], label=SKIP)]
    write_labels(tmp_path / f"labels{suffix}", told)
    table = raysal.select(pool, k=ITEMS - 3, labels=tmp_path / f"labels{suffix}")
    assert set(table["key"].to_pylist()) == set(KEYS[3:])
    assert table.equals(raysal.select(pool, k=ITEMS - 3, labels={label.key: label.label for label in told}))
    with raysal.Session(tmp_path / "run", pool) as session:
        session.tell(told)
    assert table.equals(raysal.select(pool, k=ITEMS - 3, labels=tmp_path / "run"))  # a skip teaches nothing
    with pytest.raises(raysal.RaysalError):
        raysal.select(pool, k=ITEMS - 2, labels=told)
    votes = [*told, Label(key=KEYS[2], label="a", annotator="ann")]  # somebody could label it
    assert set(raysal.select(pool, k=ITEMS - 3, labels=votes)["key"].to_pylist()) == set(KEYS[3:])


def test_the_readme_way_ends(pool: Pool, tmp_path: Path) -> None:
    """Batch after batch with a person who cannot label some items: each item is asked for once, until none is left."""
    run, asked = tmp_path / "run", []
    for number in range(ITEMS // 3):
        batch = tmp_path / f"batch-{number}.csv"
        labels = ("--labels", run) if number else ()
        assert cli("select", pool.path, "-k", 3, "--strategy", "coreset", *labels, "-o", batch).code == 0
        keys = [line.split(",")[1] for line in batch.read_text().splitlines()[1:]]
        asked += keys
        written(batch, [(key, SKIP if place == 0 else "ab"[place % 2]) for place, key in enumerate(keys)])
        assert cli("label", "import", run, batch, "--pool", pool.path).code == 0
    assert sorted(asked) == KEYS


def what_people_said(ledger: Ledger) -> tuple[object, ...]:
    """The state of a ledger, without the items that have events and no answer."""
    trains = [replace(item, seq=0, since=0) for item in ledger.labels(votes=True)]
    return ledger.answers(skips=True), ledger.texts, {**ledger.counts(), "unlabeled": 0}, trains


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(KEYS[:4]), st.sampled_from(["", "ann", "bob"]), st.sampled_from(["a", "b", SKIP, "withdraw"])
    ),
    max_size=14,
)


@given(events=EVENTS, suffix=st.sampled_from(list(KINDS)))
@settings(max_examples=6, deadline=None)
def test_an_export_with_skips_makes_the_same_ledger(
    pool: Pool, tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, str, str]], suffix: str
) -> None:
    home = tmp_path_factory.mktemp("export")
    with raysal.Session(home / "run", pool) as session:
        for key, annotator, what in events:
            if what == "withdraw":
                session.withdraw([key], annotator)
            else:
                session.tell([Label(key=key, label=what, annotator=annotator)])
        before = what_people_said(session.ledger)
    out = home / f"all{suffix}"
    assert cli("label", "export", home / "run", "-o", out, "--skips").code == 0
    assert read_labels(out).labels == before[0] if before[0] or suffix not in (".jsonl", ".ndjson") else True
    again = cli("label", "import", home / "run", out, "--json").json
    assert (again["new"], again["corrected"], again["skipped"]) == (0, 0, 0)
    assert cli("label", "import", home / "new", out, "--pool", pool.path).code == 0
    with Ledger(home / "new" / "ledger.sqlite") as ledger:
        assert what_people_said(ledger) == before


def test_a_blank_takes_back_where_asked_for(pool: Pool, tmp_path: Path) -> None:
    run = tmp_path / "run"
    one, two, three, *_ = KEYS
    first = written(tmp_path / "first.csv", [(one, "a"), (two, SKIP), (three, "b")])
    cli("label", "import", run, first, "--pool", pool.path)
    second = written(tmp_path / "second.csv", [(one, ""), (two, " "), (three, "c"), (KEYS[5], "")])
    plain = cli("label", "import", run, second, "--json").json
    assert (plain["corrected"], plain["withdrawn"], plain["unanswered"]) == (1, 0, 3)
    assert cli("status", run, "--json").json["labeled"] == 2
    asked = cli("label", "import", run, second, "--blank-withdraws", "--json").json
    assert (asked["repeated"], asked["withdrawn"], asked["unanswered"]) == (1, 2, 3)
    status = cli("status", run, "--json").json
    assert (status["labeled"], status["skipped"]) == (1, 0)
    assert cli("label", "import", run, second, "--blank-withdraws", "--json").json["withdrawn"] == 0
    both = tmp_path / "both.csv"
    both.write_text(f"key,label,annotator\n{three},,\n{three},c,\n{three},,ann\n")
    assert cli("label", "import", run, both, "--blank-withdraws", "--json").json["withdrawn"] == 0  # the label stands
    refused(cli("label", "import", run, written(tmp_path / "w.csv", [("nobody", "")]), "--blank-withdraws"), "nobody")


def test_labels_of_items_that_are_gone_are_left_out_by_name(pool: Pool, tmp_path: Path) -> None:
    run = tmp_path / "run"
    file = written(tmp_path / "l.csv", [("gone-1", "a"), (KEYS[0], "a"), ("gone, 2".replace(",", ""), ""), ("x", SKIP)])
    refused(cli("label", "import", run, file, "--pool", pool.path), "gone-1")
    assert not run.exists()
    for more, unknown in (([], ["gone-1", "x"]), (["--blank-withdraws"], ["gone-1", "x", "gone 2"])):
        answer = cli("label", "import", run, file, "--pool", pool.path, "--skip-unknown", "--json", *more)
        assert answer.code == 0
        assert answer.json["unknown"] == unknown
        assert answer.json["new"] + answer.json["repeated"] == 1
    shown = cli("label", "import", run, file, "--skip-unknown").out
    assert "2 ('gone-1', 'x')" in shown
    assert cli("status", run, "--json").json["labeled"] == 1


def test_skip_says_what_it_did(pool: Pool, tmp_path: Path) -> None:
    run = tmp_path / "run"
    cli("label", "import", run, written(tmp_path / "l.csv", [(KEYS[0], "a")]), "--pool", pool.path)
    answer = cli("label", "skip", run, KEYS[0], KEYS[1], "--annotator", "ann", "--json").json
    assert (answer["skipped"], answer["labelled"]) == (2, [KEYS[0]])
    assert "0 of 2 items skipped now by ann" in cli("label", "skip", run, KEYS[0], KEYS[1], "--annotator", "ann").out
    refused(cli("label", "skip", run, "nobody"), "'nobody'")
    refused(cli("label", "skip", tmp_path / "nowhere", KEYS[0]), "no run is there")
    assert "1 skipped items left out (--skips)" in cli("label", "export", run, "-o", tmp_path / "o.csv").out


def test_a_class_of_that_name_is_no_skip_without_a_word(pool: Pool, tmp_path: Path) -> None:
    """A ledger of an earlier version may hold the class `!skip`."""
    with raysal.Session(tmp_path / "run", pool) as session:
        session.tell({KEYS[1]: "a"})
    log = EventLog(tmp_path / "run" / "ledger.sqlite")
    with log.writing():
        list(log.read_new())
        log.append([PendingEvent(0, KEYS[0], "labeled", SKIP, "", 1.0)])
    log.close()
    with raysal.Session.open(tmp_path / "run") as session:
        assert session.status().classes == {"a": 1, SKIP: 1}
        for refusing in (lambda: session.skip([KEYS[2]]), lambda: session.tell({KEYS[2]: SKIP})):
            with pytest.raises(LabelError, match="!skip: is a class of this run"):
                refusing()
        refused(cli("label", "export", tmp_path / "run", "-o", tmp_path / "o.csv"), "!skip is a class of this run")
        session.tell({KEYS[0]: "skipped"})
        assert session.skip([KEYS[2]]) == 1
