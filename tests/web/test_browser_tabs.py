"""Several tabs of one person, and what is typed: nothing is asked twice, and no answer and no letter is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browsers import Visit
from served_pages import ServedPage
from served_runs import picture_run
from tiers import deep


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPage]:
    served = ServedPage(picture_run(tmp_path_factory.mktemp("tabs"), 200))
    yield served
    served.stop()


@pytest.fixture
def visit(browser: Any, served: ServedPage) -> Iterator[Any]:
    visits: list[Visit] = []

    def come(name: str, of: Visit | None = None) -> Visit:
        visits.append(Visit(browser, served.address, name) if of is None else of.tab(served.address))
        return visits[-1]

    yield come
    for one in visits[::-1]:
        one.leave()


def said_of(one: Visit, key: str) -> str:
    """What the page says of a tile."""
    return str(one.page.text_content(f'#gallery .tile[title="{key}"] .says'))


def test_two_tabs_of_one_person_hold_different_items_and_show_the_same(visit: Any, served: ServedPage) -> None:
    first = visit("ida").order("random")
    second = visit("ida", first).order("random")
    own, other = first.keys(), second.keys()
    assert not set(own) & set(other), "no item is asked twice"
    first.press("1")
    second.press("2")
    for one in (first, second):
        one.saved()
    assert served.said("ida") == {own[0]: "red", other[0]: "other"}
    second.page.reload()
    second.tiles()
    assert second.keys() == other[1:] + second.keys()[len(other) - 1 :], "a reload keeps the tab's items"
    second.leave()
    first.press("1")
    first.saved()
    first.page.evaluate("async () => (await import('/static/feed.js')).open()")
    first.tiles()
    assert first.keys()[: len(own) - 2] == own[2:], "the tab that was closed gave back its own items alone"
    first.press("u", "u")
    first.saved()
    assert served.said("ida") == {other[0]: "other"}


@deep
def test_an_answer_shows_in_the_other_tab_and_each_tab_takes_back_its_own(visit: Any, served: ServedPage) -> None:
    label = visit("jan").order("random")
    look = visit("jan", label)
    look.page.click("[data-view=browse]")
    look.tiles()
    look.order("random")
    look.page.uncheck("#hide")
    look.tiles()
    label.page.reload()
    label.tiles()
    key, next_key = label.keys()[:2]
    assert look.keys().count(key) == 1
    label.press("1")
    look.page.wait_for_selector(f'#gallery .tile[title="{key}"].answered')
    assert "red" in said_of(look, key)
    look.page.click(f'#gallery .tile[title="{next_key}"]')
    look.press("2")
    label.page.wait_for_selector(f'#gallery .tile[title="{next_key}"].answered')
    label.saved()
    look.saved()
    assert served.said("jan") == {key: "red", next_key: "other"}
    label.press("u")  # its own, not the last one of the person
    label.saved()
    look.page.wait_for_selector(f'#gallery .tile[title="{key}"]:not(.answered)')
    assert served.said("jan") == {next_key: "other"}
    look.press("u")
    look.saved()
    assert served.said("jan") == {}


@deep
def test_a_late_request_of_an_earlier_order_takes_nothing_back(visit: Any, served: ServedPage) -> None:
    first = visit("pia").order("random")
    late: list[Any] = []

    def hold_the_first(route: Any) -> None:
        if late:
            route.continue_()
        else:
            late.append(route)

    first.page.route("**/api/next", hold_the_first)
    first.page.select_option("#order", "uncertain")
    first.page.select_option("#order", "random")
    for _ in range(40):  # time for the second request, were it sent before the first has come back
        first.page.evaluate("fetch('api/run')")
    late[0].continue_()
    first.tiles()
    second = visit("pia", first).tiles()
    assert not set(first.keys()) & set(second.keys()), "no item is asked twice"


@deep
def test_what_was_read_before_an_answer_does_not_hide_it(visit: Any, served: ServedPage) -> None:
    label = visit("sven").order("random")
    other = visit("sven", label).order("random")
    key = label.key()
    late: list[Any] = []

    def hold_the_first(route: Any) -> None:
        if late:
            route.continue_()
        else:
            late.append((route, route.fetch()))

    label.page.route("**/api/items?ids=*", hold_the_first)
    other.press("1")  # so the first tab looks again at what it shows, and the reply is late
    while not late:
        label.page.evaluate("fetch('api/run')")
    label.press("1")
    label.saved()
    with label.page.expect_response("**/api/items?ids=*"):  # it asks once more instead of taking what is old
        late[0][0].fulfill(response=late[0][1])
    assert "answered" in label.page.get_attribute(f'#gallery .tile[title="{key}"]', "class")
    assert served.said("sven")[key] == "red"
    for one in (label, other):
        one.press("u")
        one.saved()


@deep
def test_what_a_tab_could_not_send_goes_out_from_another_one_when_it_is_gone(visit: Any, served: ServedPage) -> None:
    first = visit("ole").order("random")
    second = visit("ole", first).order("random")
    first.page.route("**/api/answers", lambda route: route.abort())
    key = first.key()
    first.press("1")
    second.page.wait_for_selector(".saved[data-is=waiting]")
    assert served.said("ole") == {}
    first.page.close()
    second.saved()
    assert served.said("ole") == {key: "red"}
    second.press("u")
    second.saved()


@deep
def test_a_changed_name_is_the_name_of_all_tabs(visit: Any) -> None:
    first = visit("petra").order("random")
    second = visit("petra", first).order("random")
    held = set(first.keys()) | set(second.keys())
    first.page.click(".person")
    first.page.fill("#name-text", "petra k")
    first.press("Enter")
    for one in (first, second):
        one.page.wait_for_selector(".person:text-is('petra k')")
        one.tiles()
    assert not set(first.keys()) & set(second.keys())
    assert len(held & (set(first.keys()) | set(second.keys()))) > 20, "what was held under the old name is free again"


@deep
def test_a_note_that_was_typed_survives_escape_and_a_reload(visit: Any, served: ServedPage) -> None:
    one = visit("nora").order("random")
    key = one.key()
    one.press("n")
    one.page.keyboard.type("a long thought")
    one.press("Escape")
    one.page.wait_for_selector("#facts .draft")
    one.page.reload()
    one.tiles()
    for _ in range(one.keys().index(key)):  # what tabs of other tests gave back meanwhile may stand before it
        one.press("ArrowRight")
    assert one.key() == key
    one.page.wait_for_selector("#facts .draft")
    one.press("n")
    assert one.page.input_value("#note-text") == "a long thought"
    one.page.keyboard.type(", ended")
    one.press("Control+Enter")
    one.page.wait_for_selector(".note >> text=a long thought, ended")
    one.saved()
    one.press("n")
    one.page.keyboard.type(" not this")
    one.page.click("text=Discard")
    assert one.page.text_content(".note") == "a long thought, ended"
    one.page.wait_for_selector("#facts .draft", state="detached")


@deep
def test_a_class_that_was_typed_and_a_note_that_was_refused_are_there_again(visit: Any) -> None:
    one = visit("rolf").order("random")
    one.press("c")
    one.page.keyboard.type("dark re")
    one.press("Escape", "c")
    assert one.page.input_value("#palette-input") == "dark re"
    one.press("Escape", "n")
    one.page.route("**/api/answers", lambda route: route.fulfill(status=422, json={"error": {"problem": "no"}}))
    one.page.keyboard.type("not lost")
    one.press("Control+Enter")
    one.page.wait_for_selector("#toasts >> text=refused")
    one.page.unroute("**/api/answers")
    one.tiles()
    one.press("n")
    assert one.page.input_value("#note-text") == "not lost"


def test_who_asks_for_a_batch_when_somebody_else_just_chose_one_gets_that_one(visit: Any, served: ServedPage) -> None:
    one, follower = visit("pim"), served.here.follower
    one.page.wait_for_selector("#nothing >> text=Choose a batch")

    def later(route: Any) -> None:
        follower.choose_round(20)
        assert follower._round is not None
        follower._round.result(30)
        route.continue_()

    one.page.route("**/api/round", later)
    with one.page.expect_response("**/api/round") as refused:
        one.page.click("#nothing button.main")
    assert refused.value.status == 409
    one.tiles()
    assert one.page.locator("#toasts >> text=another batch was chosen").count() == 0
    assert served.session.rounds == 1
