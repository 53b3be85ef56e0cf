"""What the page is told when something cannot be done: 503 by the kind of error, nothing half done, no path of ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from page_server import Browser, Page, page_of
from served_runs import picture_run

from raysal.errors import (
    BadItem,
    Damaged,
    FingerprintMismatch,
    FleetError,
    LabelError,
    NotNow,
    PoolExhausted,
    RaysalError,
    RunError,
    UnknownItem,
)
from raysal.labels import Ledger
from raysal.labels.remarks import Remark, Remarks
from raysal.rounds.run_labels import RunLabels
from raysal.web import desk, handouts
from raysal.web.follower import Follower
from raysal.web.refusals import facts_of, status_of, without_paths
from raysal.web.server import open_run

KEPT = 5
"""Turns that can be taken back, here."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return picture_run(tmp_path_factory.mktemp("refusals"), 30)


@pytest.fixture
def page(run: Path) -> Iterator[Page]:
    with page_of(run) as page:
        for database in databases(page).values():
            database.execute("PRAGMA busy_timeout = 50").fetchall()
        yield page


def databases(page: Page) -> dict[str, sqlite3.Connection]:
    desk = page.desk
    return {
        "ledger.sqlite": desk.labels.ledger._log._db,
        "handouts.sqlite": desk.handouts._db,
        "remarks.sqlite": desk.remarks._db,
    }


@contextmanager
def busy(page: Page, file: str) -> Iterator[None]:
    """Another process writes to a file of the run."""
    other = sqlite3.connect(page.desk.session.dir / file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


@contextmanager
def full(page: Page, file: str) -> Iterator[None]:
    """The disk has no room for a file of the run."""
    database = databases(page)[file]
    if file != "ledger.sqlite":
        database.execute("VACUUM")
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    try:
        yield
    finally:
        database.execute("PRAGMA max_page_count = 1000000").fetchall()


def held(page: Page) -> dict[str, str]:
    """What ann said: {key: label}."""
    with Ledger(page.desk.session.dir / "ledger.sqlite", create=False) as ledger:
        return {label.key: label.label for label in ledger.answers(skips=True) if label.annotator == "ann"}


def remark(page: Page, key: str) -> Remark | None:
    return page.desk.remarks.of(key).get("ann")


def said(browser: Browser, page: Page, body: dict[str, Any]) -> str:
    """What is said of an answer that cannot be taken now."""
    answer = browser.push("/api/answers", body)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), answer.text
    assert str(page.desk.session.dir) not in answer.text
    assert "delete" not in answer.text
    return answer.text


@pytest.mark.parametrize("file", ["ledger.sqlite", "handouts.sqlite", "remarks.sqlite"])
@pytest.mark.parametrize("how", [busy, full])
def test_an_answer_that_cannot_be_taken_now_may_come_again_and_nothing_stays_half_done(page: Page, file: str, how: Any):
    answers = [{"id": str(id), "label": "x" * 300, "note": "y" * 3000} for id in range(30)]
    body = {"answers": answers, "nonce": "one"}
    with page.browser() as browser:
        key = browser.look("/api/item/10")["key"]
        browser.tell("/api/answers", answers=[{"id": "10", "label": "red"}], nonce="before")
        with how(page, file):
            text = said(browser, page, body)
            assert (file in text, ("another process" in text or "full" in text)) == (True, True)
            assert remark(page, key) is None, "no note without its label"
            if file == "ledger.sqlite":
                assert held(page) == {key: "red"}
            if file == "ledger.sqlite" and how is busy:
                assert browser.refused("/api/undo", {"nonce": "u", "of": "before"})[0] == 503
                assert browser.refused("/api/undo", {"nonce": "v"})[0] == 503
        assert browser.tell("/api/answers", **body)["items"][10]["mine"]["note"]
        assert (len(held(page)), remark(page, key)) == (30, Remark("y" * 3000))
        assert browser.tell("/api/undo", nonce="back", of="one")["undone"] == "one"
        assert held(page) == {key: "red"}
        assert remark(page, key) == Remark()


def test_what_broke_off_does_not_overwrite_what_was_said_since(page: Page):
    with page.browser() as browser:
        keys = [browser.look(f"/api/item/{id}")["key"] for id in (10, 11)]
        body = {"answers": [{"id": "10", "label": "red", "note": "a"}, {"id": "11", "label": "red"}], "nonce": "one"}
        with busy(page, "ledger.sqlite"):
            said(browser, page, body)
        later = [{"id": "10", "label": "other"}, {"id": "11", "note": "only a note"}]  # of another tab
        browser.tell("/api/answers", answers=later, nonce="two")
        browser.tell("/api/answers", **body)
        assert held(page) == {keys[0]: "other", keys[1]: "red"}
        assert [remark(page, key) for key in keys] == [Remark("a"), Remark("only a note")]


def test_what_the_ledger_refuses_for_good_leaves_nothing_to_take_back(page: Page, monkeypatch):
    def refuse(*args: object, **fields: object) -> None:
        raise LabelError("'a'", "is refused in the last moment")

    with page.browser() as browser:
        tell = page.desk.labels.tell
        monkeypatch.setattr(page.desk.labels, "tell", refuse)
        answers = [{"id": "10", "label": "red", "note": "a"}]
        assert browser.refused("/api/answers", {"answers": answers, "nonce": "one"})[0] == 422
        monkeypatch.setattr(page.desk.labels, "tell", tell)
        assert browser.look("/api/item/10")["mine"] is None
        assert browser.refused("/api/undo", {"nonce": "u1", "of": "one"})[0] == 409
        assert browser.tell("/api/undo", nonce="u2") == {"items": [], "undone": None}
        assert page.desk.answering.teller.told == 0, "what was refused was not told"


def test_a_closed_desk_says_that_it_is_over_for_now(page: Page):
    with page.browser() as browser:
        page.desk.labels.close()
        assert "was closed" in said(browser, page, {"answers": [{"id": "10", "label": "red"}], "nonce": "one"})
        page.desk.handouts.close()
        assert browser.refused("/api/next", {"n": 1, "order": "random"})[0] == 503


def test_a_nonce_counts_once_however_late_it_comes_again(page: Page, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(handouts, "KEPT_TURNS", KEPT)
    with page.browser() as browser:
        first = {"answers": [{"id": "10", "label": "red"}], "nonce": "first"}
        browser.tell("/api/answers", **first)
        browser.tell("/api/answers", answers=[{"id": "10", "label": "other"}], nonce="second")
        browser.tell("/api/undo", nonce="undo", of="second")
        browser.tell("/api/answers", answers=[{"id": "10", "label": "other"}], nonce="third")
        for number in range(KEPT + 5):
            browser.tell("/api/answers", answers=[{"id": "11", "rating": number % 6}], nonce=f"n{number}")
        assert browser.tell("/api/answers", **first)["counts"]["repeated"] == 1
        assert browser.tell("/api/undo", nonce="undo", of="second")["undone"] == "second", "sent again"
        assert list(held(page).values()) == ["other"]
        status, why = browser.refused("/api/undo", {"nonce": "new", "of": "third"})
        assert (status, "answer the item anew" in why) == (409, True)
        assert list(held(page).values()) == ["other"]


def test_an_item_that_cannot_be_shown_says_why_without_a_path_of_this_machine(tmp_path: Path):
    home = tmp_path / "my pictures"
    home.mkdir()
    with page_of(picture_run(home, 12)) as page, page.browser() as browser:
        (home / "images").rename(home / "elsewhere")
        told = browser.get("/api/item/9/thumb").text
        broken = browser.look("/api/item/9")["broken"]
        listed = browser.look("/api/items", ids="9")["items"][0]["broken"]
    assert broken == listed == "images: no such file or directory; check the path"
    assert "my pictures" not in told


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("cannot read /data/my new pics/a.png (gone)", "cannot read a.png (gone)"),
        ("/my pics/a.png: gone", "a.png: gone"),
        ("/a/b.png and /c d/e.png differ", "b.png and e.png differ"),
        ("'/my pics/a b.png' is gone", "'a b.png' is gone"),
        ("3 of 4 parts/s, at https://host/a/b", "3 of 4 parts/s, at https://host/a/b"),
    ],
)
def test_paths_with_blanks_are_paths(text: str, left: str):
    assert without_paths(text) == left
    assert facts_of(BadItem("/a/key.png", text)) == ("/a/key.png", left, "")


def test_a_desk_that_cannot_be_opened_leaves_nothing_open(run: Path, monkeypatch: pytest.MonkeyPatch):
    closed: list[str] = []
    for kind in (RunLabels, Remarks, handouts.HandOuts, Follower):

        def close(self: Any, close: Any = kind.close) -> None:
            closed.append(type(self).__name__)
            close(self)

        monkeypatch.setattr(kind, "close", close)

    def fail(*_: object) -> None:
        raise RunError("standing", "cannot be made")

    monkeypatch.setattr(desk, "Standing", fail)
    with open_run(run) as session:
        with pytest.raises(RunError, match="cannot be made"):
            desk.Desk(session)
        assert closed == ["Follower", "HandOuts", "Remarks", "RunLabels"]


ERRORS: list[tuple[RaysalError, int]] = [
    (NotNow("/runs/a b/ledger.sqlite", "cannot be written (database or disk is full)", "free some space"), 503),
    (NotNow("/runs/a", "another process is at work on this run", "wait for it, or stop it"), 503),
    (FingerprintMismatch("/runs/a/ledger.sqlite", "the pool's fingerprint", "a", "b", "open '/pools/my p' again"), 503),
    (Damaged("/pools/p/items-00001.parquet", "cannot be read (No such file: '/pools/p/x')", "see /pools/p/log"), 503),
    (FleetError(3, "/usr/lib/python3/x.py died"), 503),
    (RunError("order likeliest", "is not ready: the pool is busy", "wait"), 409),
    (PoolExhausted(5, 2), 409),
    (LabelError("'a'", "is empty", "write it"), 422),
    (UnknownItem("item 9", "is not there", "load the page again"), 404),
    (BadItem("/a/key.png", "cannot be decoded"), 422),
    (RaysalError("failed at /srv/raysal/thing.py"), 500),
]


@pytest.mark.parametrize(("error", "status"), ERRORS)
def test_the_kind_of_an_error_is_its_status_and_no_path_of_this_machine_goes_out(error: RaysalError, status: int):
    assert status_of(error) == status
    words = " ".join(facts_of(error))
    roots = ("/runs", "/pools", "/usr", "/srv")
    assert not any(root in words for root in roots)
    if isinstance(error, NotNow | Damaged):
        assert words.startswith(error.where.rpartition("/")[2])
    if isinstance(error, BadItem):
        assert words.startswith("/a/key.png"), "an item's key is no path of ours"
