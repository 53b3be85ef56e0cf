"""What is taken back: by undo and by withdrawal, in any order and at once with other requests of the same person."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from page_server import Page
from served_runs import picture_run

from raysal.labels import Ledger
from raysal.rounds.session import Session
from raysal.web.answering import Answering
from raysal.web.telling import Teller


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = picture_run(tmp_path_factory.mktemp("taking-back"), 60)
    with Session.open(run) as session:
        session.query(16)
    return run


def held(run: Path) -> dict[tuple[str, str], str]:
    """What the ledger has: {(key, annotator): label}."""
    with Ledger(run / "ledger.sqlite", create=False) as ledger:
        return {(label.key, label.annotator): label.label for label in ledger.answers(skips=True) if label.annotator}


def answer(item: dict[str, object], **said: object) -> dict[str, object]:
    return {"id": item["id"], "key": item["key"], **said}


def test_what_was_said_comes_back_whichever_of_several_answers_is_undone_first(page: Page, run: Path):
    with page.browser() as browser:
        item = browser.look("/api/items", order="batch", n=1)["items"][0]
        steps: list[dict[str, Any]] = [
            {"label": "old", "note": "old"}, {"label": "red"}, {"note": "new"}, {"label": "green", "rating": 2}
        ]  # fmt: skip
        for number, said in enumerate(steps):
            browser.tell("/api/answers", answers=[answer(item, **said)], nonce=f"t{number}")

        def left(of: int) -> tuple[object, ...]:
            mine = browser.tell("/api/undo", nonce=f"u{of}", of=f"t{of}")["items"][0]["mine"]
            return tuple(mine[name] for name in ("label", "note", "rating"))

        assert left(1) == ("green", "new", 2)
        assert left(3) == ("old", "new", None), "red was taken back"
        assert left(2) == ("old", "old", None)
        assert browser.tell("/api/undo", nonce="last")["items"][0]["mine"] is None


def test_what_is_taken_back_is_still_before_its_annotator(page: Page):
    """So it is while the ledger forgets the answer: nobody gets it between."""
    with page.browser() as ann, page.browser("bob") as bob:
        ann.headers["X-Tab"] = "left"
        first, second, found = ann.tell("/api/next", n=3)["items"]
        mine = [first["id"], second["id"]]
        ann.tell("/api/answers", answers=[answer(first, label="red"), answer(found, label="red")], nonce="a")
        ann.tell("/api/undo", nonce="u", of="a")
        ann.tell("/api/answers", answers=[answer(second, label="red")], nonce="b")
        ann.tell("/api/answers", answers=[answer(second, withdraw=True)], nonce="c")
        ann.tell("/api/answers", answers=[answer(found, label="red")], nonce="d")
        ann.tell("/api/answers", answers=[answer(found, withdraw=True)], nonce="e", found=True)
        others = {item["id"] for item in bob.tell("/api/next", n=16)["items"]}
        assert others.isdisjoint(mine)
        assert found["id"] in others, "looking around holds nothing"
        assert ann.tell("/api/renew", ids=mine)["lost"] == []
        ann.headers["X-Tab"] = "right"
        assert ann.tell("/api/renew", ids=mine)["lost"] == mine, "it is the tab's"


def test_nobody_gets_an_item_while_its_answer_is_taken_back(page: Page, monkeypatch: pytest.MonkeyPatch):
    with page.browser() as ann, page.browser("bob") as bob:
        item = ann.tell("/api/next", n=1)["items"][0]
        ann.tell("/api/answers", answers=[answer(item, label="red")], nonce="a")
        tell, got = Teller.tell, list[str]()

        def slowly(teller: Teller, *given: Any) -> Any:
            counts = tell(teller, *given)
            got.extend(item["id"] for item in bob.tell("/api/next", n=2)["items"])
            return counts

        monkeypatch.setattr(Teller, "tell", slowly)
        ann.tell("/api/undo", nonce="u")
        assert len(got) == 2
        assert item["id"] not in got


def test_two_undos_at_once_take_back_two_answers(page: Page, run: Path, monkeypatch: pytest.MonkeyPatch):
    with page.browser() as browser:
        items = browser.look("/api/items", order="batch", n=2)["items"]
        for number, item in enumerate(items):
            browser.tell("/api/answers", answers=[answer(item, label="red")], nonce=f"n{number}")
        both, last_turn = threading.Barrier(2), page.desk.handouts.last_turn

        def together(annotator: str) -> Any:
            turn = last_turn(annotator)
            with suppress(threading.BrokenBarrierError):  # one is alone here, and need not wait long to see it
                both.wait(0.2)
            return turn

        monkeypatch.setattr(page.desk.handouts, "last_turn", together)
        with ThreadPoolExecutor() as threads:
            undone = list(threads.map(lambda nonce: browser.tell("/api/undo", nonce=nonce)["undone"], ("u", "v")))
        assert sorted(undone) == ["n0", "n1"]
    assert held(run) == {}


def test_a_copy_of_a_request_never_overwrites_a_correction(page: Page, run: Path, monkeypatch: pytest.MonkeyPatch):
    """A tab sends an answer again while the first copy is between its note and the ledger, and then a correction."""
    with page.browser() as browser, ThreadPoolExecutor() as threads:
        item = browser.look("/api/items", order="batch", n=1)["items"][0]
        body = {"answers": [answer(item, label="red")], "nonce": "one"}
        warnings, later = Answering._warnings, list[Future[Any]]()

        def correct() -> None:
            browser.tell("/api/answers", **body)
            browser.tell("/api/answers", answers=[answer(item, label="other")], nonce="two")

        def stuck(answering: Answering, answers: Any) -> list[str]:
            if not later:
                later.append(threads.submit(correct))
                wait(later, 0.3)  # they wait for this one: that they do not is to be seen soon
            return warnings(answering, answers)

        monkeypatch.setattr(Answering, "_warnings", stuck)
        browser.tell("/api/answers", **body)
        later[0].result(60)
    assert held(run) == {(item["key"], "ann"): "other"}
