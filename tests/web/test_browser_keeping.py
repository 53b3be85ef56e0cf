"""What the page keeps: no answer is lost while files are busy, none is forgotten silently, no item is passed over."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from browsers import Visit
from served_pages import ServedPage
from served_runs import picture_run
from tiers import deep

from raysal.web import desk, standing


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPage]:
    served = ServedPage(picture_run(tmp_path_factory.mktemp("keeping"), 150))
    yield served
    served.stop()


def test_while_the_ledger_is_busy_answers_wait_and_the_page_says_why(browser: Any, served: ServedPage) -> None:
    one = Visit(browser, served.address, "kai").order("random")
    keys = one.keys()
    served.here.labels.ledger._log._db.execute("PRAGMA busy_timeout = 50").fetchall()
    other = sqlite3.connect(served.run / "ledger.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        one.press("1", "2")
        one.page.wait_for_selector("#banner >> text=another process is writing to it")
        assert one.page.text_content(".saved") == "2 not saved"
        one.press("u")  # the second one, which was never sent
        one.page.wait_for_selector(".saved >> text=1 not saved")
        one.page.reload()
        one.page.wait_for_selector("#banner >> text=another process is writing to it")
        assert served.said("kai") == {}
    finally:
        other.close()
    one.saved()
    one.page.wait_for_selector("#banner", state="hidden")
    assert served.said("kai") == {keys[0]: "red"}
    one.leave()


def test_a_refused_answer_is_shown_with_its_text_and_undo_means_the_one_before_it(
    browser: Any, served: ServedPage
) -> None:
    one = Visit(browser, served.address, "lea").order("random")
    first, second = one.keys()[:2]
    one.press("1", "c")
    one.page.keyboard.type("[1,2]")
    one.press("Enter")
    one.page.wait_for_selector(f"#toasts >> text=refused ({second} as “[1,2]”)")
    one.saved()
    assert "answered" not in one.page.get_attribute(f'#gallery .tile[title="{second}"]', "class")
    assert served.said("lea") == {first: "red"}
    one.page.click("#toasts >> text=Look")
    assert one.key() == second
    one.press("2")
    one.saved()
    assert served.said("lea") == {first: "red", second: "other"}
    one.press("u")
    one.saved()
    assert served.said("lea") == {first: "red"}
    one.press("u")
    one.saved()
    assert served.said("lea") == {}
    one.leave()


@deep
def test_undo_before_the_refusal_comes_touches_no_other_item(browser: Any, served: ServedPage) -> None:
    one = Visit(browser, served.address, "mia").order("random")
    first = one.keys()[0]
    one.press("1")
    one.saved()
    waiting: list[Any] = []

    def hold(route: Any) -> None:
        waiting.append(route)

    one.page.route("**/api/answers", hold)
    one.press("c")
    one.page.keyboard.type("[1,2]")
    one.press("Enter")
    one.page.wait_for_function("() => document.querySelector('.saved').textContent === 'Saving 1'")
    one.press("u")
    waiting[0].continue_()
    one.page.unroute("**/api/answers")
    one.page.wait_for_selector("#toasts >> text=refused")
    one.saved()
    assert served.said("mia") == {first: "red"}
    one.leave()


@deep
def test_whoever_browses_and_labels_sees_every_item_of_the_order_once(browser: Any, served: ServedPage) -> None:
    one = Visit(browser, served.address, "noa").order("random")
    one.press("b")
    one.order("likeliest")
    whole = served.here.page("likeliest", "noa", n=desk.PAGE)["items"]
    seen = one.keys()
    assert len(seen) < len(whole) <= desk.PAGE, "there is more than a page"
    one.press("Control+a", "2")
    one.saved()
    seq = served.session.ledger.head_seq
    one.page.wait_for_selector("#moved")
    assert served.here.follower.orders.seq == seq
    while one.page.is_enabled("#page-on"):
        before = one.keys()
        one.page.click("#page-on")
        one.page.wait_for_function("key => document.querySelector('#gallery .tile')?.title !== key", arg=before[0])
        seen += one.keys()
    assert sorted(seen) == sorted(item["key"] for item in whole)
    one.leave()


@deep
def test_a_search_that_has_to_wait_says_for_what_and_comes_by_itself(
    browser: Any, served: ServedPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "SEARCH_S", 0.05)
    one = Visit(browser, served.address, "ole").order("random")
    key = one.key()
    fleet, go_on = served.here.follower._fleet, threading.Event()
    look = fleet.before  # type: ignore[attr-defined]
    fleet.before = lambda: (go_on.wait(30), look())  # type: ignore[attr-defined]
    try:
        served.here.follower.choose_round(5)
        one.page.wait_for_selector(".work >> text=Choosing a batch")
        one.press("m")
        one.page.wait_for_selector("#nothing >> text=waits, because a batch is being chosen")
    finally:
        fleet.before = look  # type: ignore[attr-defined]
        go_on.set()
    one.tiles()
    assert one.page.text_content(".subject .text") == f"Like {key}"
    one.leave()


@deep
def test_what_somebody_else_has_before_them_is_refused_in_browse_by_name(browser: Any, served: ServedPage) -> None:
    one = Visit(browser, served.address, "pia")
    one.page.click("[data-view=browse]")
    one.order("random")
    theirs = one.keys()[-1]
    holder = served.here.handouts.claim("oto", [theirs]).get(theirs, "oto")
    one.page.click(f'#gallery .tile[title="{theirs}"]')
    assert one.key() == theirs
    one.press("1")
    one.page.wait_for_selector(f"#toasts >> text=is with {holder} now")
    one.saved()
    assert served.said("pia") == {}
    served.here.handouts.release(holder, [theirs])
    one.leave()
