"""The page in a real Chromium over a real server and run: by keys alone, by several people, without a connection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import Visit, complaints
from served_pages import ServedPage
from served_runs import colour_of, picture_run
from tiers import deep, deep_unless

BROKEN_EVERY = 7
"""Of the files, every seventh is damaged after the pool was made."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPage]:
    folder = tmp_path_factory.mktemp("page")
    run = picture_run(folder, 260)
    for path in sorted((folder / "images" / "some").iterdir())[6::BROKEN_EVERY]:
        path.write_bytes(path.read_bytes()[:60])
    served = ServedPage(run)
    yield served
    served.stop()


@pytest.fixture
def visit(browser: Any, served: ServedPage) -> Iterator[Any]:
    visits: list[Visit] = []

    def come(name: str | None = "ana", **options: Any) -> Visit:
        visits.append(Visit(browser, served.address, name, **options))
        return visits[-1]

    yield come
    for one in visits:
        one.leave()
    served.end_hand_outs()


def truth(key: str) -> str:
    return "red" if colour_of(key) == "red" else "other"


def label_by_colour(one: Visit) -> str:
    """Label the current item by its key, and return the key."""
    key = one.key()
    one.press("1" if colour_of(key) == "red" else "2")
    one.page.wait_for_function("key => document.querySelector('#facts h2')?.textContent !== key", arg=key)
    return key


def test_a_batch_is_chosen_and_labelled_by_keys_alone(visit: Any, served: ServedPage) -> None:
    one = visit()
    one.page.wait_for_selector("text=No batch yet")
    one.press("Tab")
    while not one.page.evaluate("document.activeElement.textContent").startswith("Choose a batch"):
        one.press("Tab")
    one.press("Enter")
    one.tiles()
    keys = one.keys()
    assert len(keys) == 8
    done = [label_by_colour(one) for _ in keys[:-1]]
    assert one.page.evaluate("document.activeElement.className").startswith("tile"), "the focus is with the items"
    one.press("1" if colour_of(one.key()) == "red" else "2")
    one.page.wait_for_selector("text=batch is done")
    one.saved()
    assert done == keys[:-1]
    assert served.said("ana") == {key: truth(key) for key in keys}
    assert "red" in one.page.text_content("#spoken") or "other" in one.page.text_content("#spoken")


@deep
def test_undo_takes_back_label_note_rating_and_skip(visit: Any, served: ServedPage) -> None:
    one = visit("una").order("random")
    first, second = one.keys()[:2]
    one.press("1", "s", "Home", "n")
    one.page.fill("#note-text", "seen <b>twice</b>")
    one.press("Control+Enter", "Shift+Digit4")
    one.saved()
    assert served.said("una") == {first: "red", second: "!skip"}
    assert one.page.text_content(".note") == "seen <b>twice</b>"
    assert one.page.get_attribute("#rate-4", "aria-pressed") == "true"
    place = "#facts dt:text-is('rank') + dd"
    assert one.page.text_content(place) == "1", "an answer keeps why the item is there"
    one.press("u")
    one.page.wait_for_selector("#rate-4[aria-pressed=false]")
    one.press("u")
    one.page.wait_for_selector(".note", state="detached")
    one.press("u", "u")
    one.saved()
    assert served.said("una") == {}
    assert one.key() == first, "the item that was undone is the current one again"
    assert one.page.text_content(place) == "1", "and why it is there"


@deep
def test_undo_reaches_back_over_a_reload(visit: Any, served: ServedPage) -> None:
    one = visit("rita").order("random")
    key = one.key()
    one.press("1")
    one.saved()
    assert served.said("rita") == {key: "red"}
    one.page.reload()
    one.page.wait_for_selector("#order")
    one.press("u")
    one.page.wait_for_selector(f"#toasts >> text={key}")
    one.saved()
    assert served.said("rita") == {}


def test_yes_to_all_that_are_not_crossed_out(visit: Any, served: ServedPage) -> None:
    one = visit("bea").order("random")
    keys = one.keys()
    one.press("y", "ArrowRight", "Space")
    one.page.click(f"#gallery .tile >> nth={len(keys) - 1}")
    assert ", crossed out" in one.page.text_content(f"#gallery .tile >> nth={len(keys) - 1}")
    one.page.wait_for_selector("#yes-all:not([disabled])")
    one.press("Enter", "Enter", "Enter")  # the hurried ones answer nothing: nobody saw the next page
    one.page.wait_for_function("keys => !keys.includes(document.querySelector('#gallery .tile')?.title)", arg=keys)
    one.saved()
    out = {keys[1], keys[-1]}
    assert served.said("bea") == {key: "other" if key in out else "red" for key in keys}
    one.press("u")
    one.page.wait_for_function("key => document.querySelector('#gallery .tile')?.title === key", arg=keys[0])
    one.saved()
    assert served.said("bea") == {}, "one undo takes back the whole page"
    assert set(one.keys("#gallery .tile.crossed")) == out, "and what was crossed out is so again"


@deep
def test_several_marked_items_get_one_label_and_a_new_class_is_typed(visit: Any, served: ServedPage) -> None:
    one = visit("max").order("random")
    keys = one.keys()
    one.press("Space", "ArrowRight", "ArrowRight", "Shift+ArrowRight", "c")
    one.page.wait_for_selector("#palette-input")
    one.page.keyboard.type("dark red")
    one.page.wait_for_selector("text=New class “dark red”")
    one.press("Enter")
    one.page.wait_for_selector(".class .name:text-is('dark red')")
    one.saved()
    assert served.said("max") == dict.fromkeys((keys[0], keys[2], keys[3]), "dark red")
    one.press("u")
    one.saved()


@deep
def test_two_people_never_get_the_same_item(visit: Any, served: ServedPage) -> None:
    people = {name: visit(name).order("uncertain") for name in ("pia", "tom")}
    seen: dict[str, set[str]] = {name: set(one.keys()) for name, one in people.items()}
    for _ in range(14):
        for name, one in people.items():
            label_by_colour(one)
            seen[name] |= set(one.keys())
    for one in people.values():
        one.saved()
    assert not seen["pia"] & seen["tom"]
    said = {name: served.said(name) for name in people}
    assert [len(found) for found in said.values()] == [14, 14]
    assert said == {name: {key: truth(key) for key in found} for name, found in said.items()}


def test_nothing_is_lost_while_the_connection_is(visit: Any, served: ServedPage) -> None:
    one = visit("cleo").order("random")
    label_by_colour(one)
    one.saved()
    served.stop()
    try:
        one.page.wait_for_selector("#banner.lost")
        done = [label_by_colour(one) for _ in range(3)]
        assert "3" in one.page.text_content(".saved")
        one.press("u", "u")
        one.page.wait_for_function("key => document.querySelector('#facts h2')?.textContent === key", arg=done[1])
        one.press("s")
    finally:
        served.start()
    one.saved()
    one.page.wait_for_selector("#banner", state="hidden")
    said = served.said("cleo")
    assert said[done[0]] == (truth(done[0]))
    assert said[done[1]] == "!skip"
    assert done[2] not in said
    assert len(said) == 3


@deep
def test_a_reload_keeps_the_answers_that_were_on_their_way(visit: Any, served: ServedPage) -> None:
    one = visit("rex").order("random")
    one.page.route("**/api/answers", lambda route: route.abort())
    done = [label_by_colour(one) for _ in range(3)]
    assert served.said("rex") == {}
    one.page.reload()
    one.tiles()
    assert not set(one.keys()) & set(done), "what is answered is not asked again"
    one.page.unroute("**/api/answers")
    one.saved()
    assert served.said("rex") == {key: truth(key) for key in done}


@deep
def test_the_same_answer_sent_twice_counts_once(visit: Any, served: ServedPage) -> None:
    one = visit("eva").order("random")
    lost = []

    def lose_the_reply(route: Any) -> None:
        if not lost:
            lost.append(route.fetch())  # the server has it, the page hears nothing
            route.abort()
        else:
            route.continue_()

    one.page.route("**/api/answers", lose_the_reply)
    before = served.session.ledger.head_seq
    key = label_by_colour(one)
    one.page.wait_for_selector(".saved[data-is=well]")
    assert lost
    assert served.said("eva") == {key: truth(key)}
    assert served.session.ledger.head_seq == before + 1


@deep
def test_a_broken_picture_is_shown_as_broken(visit: Any) -> None:
    one = visit("bo").order("random")
    one.press("b")
    one.page.wait_for_selector("#gallery .broken")
    key = one.page.locator("#gallery .tile:has(.broken)").first.get_attribute("title")
    one.page.click(f"#gallery .tile[title='{key}']")  # by its key: an earlier tile may turn out broken meanwhile
    one.press("Enter")
    one.page.wait_for_selector(".large-broken >> text=Try again")
    assert one.key() == key
    one.page.click("text=Try again")
    one.page.wait_for_selector(".large-broken")
    for _ in range(10):  # the next one may be damaged, too
        before = one.key()
        one.press("ArrowRight")
        one.page.wait_for_function("key => document.querySelector('#facts h2').textContent !== key", arg=before)
        one.page.wait_for_selector(".large-picture img.ready, .large-broken")
        if not one.page.query_selector(".large-broken"):
            break
    one.page.wait_for_selector(".large-picture img.ready")


@deep
def test_a_click_on_a_tool_leaves_the_keys_with_the_items(visit: Any, served: ServedPage) -> None:
    one = visit("flo").order("random")
    one.page.click("#adjust-open")
    one.page.wait_for_selector("#adjust:popover-open")
    one.press("Escape")
    one.page.wait_for_selector("#adjust:popover-open", state="hidden")
    one.page.click("#mode-binary")
    keys = one.keys()
    one.press("Space")
    assert one.page.get_attribute("#mode-binary", "aria-pressed") == "true"
    one.page.wait_for_selector("#gallery .tile.crossed")
    one.page.wait_for_selector("#yes-all:not([disabled])")
    one.press("Enter")
    one.page.wait_for_function("keys => !keys.includes(document.querySelector('#gallery .tile')?.title)", arg=keys)
    one.saved()
    said = served.said("flo")
    assert said == {key: "other" if key == keys[0] else "red" for key in keys}
    one.press("u")
    one.saved()


@deep
def test_more_like_this_and_the_whole_picture(visit: Any) -> None:
    one = visit("liz").order("random")
    one.press("b")
    one.page.wait_for_selector("#hide")
    one.tiles()
    key = one.key()
    one.press("m")
    one.page.wait_for_selector(f".subject >> text=Like {key}")
    one.tiles()
    assert {colour_of(other) for other in one.keys()[:10]} == {colour_of(key)}
    pictures = one.page.locator("#gallery .tile img")
    pictures.first.wait_for()
    drawn = "image => image.decode().then(() => true, () => false)"
    next(image for image in pictures.all() if image.evaluate(drawn)).click()  # some cannot be shown
    one.press("f")
    one.page.wait_for_selector(".large-picture img.ready")
    one.press("+", "+", "Control+ArrowRight", "i", "]", "v")
    assert "scale(2.25)" in one.page.get_attribute(".large-picture", "style")
    shown = one.page.eval_on_selector(".large-picture img", "image => getComputedStyle(image).filter")
    assert "invert(1)" in shown
    assert "brightness(1.1)" in shown
    assert "channel-red" in shown
    one.press("a", "z", "Escape")
    assert one.page.is_visible("#gallery")


@deep
def test_different_answers_are_shown_and_settled(visit: Any, served: ServedPage) -> None:
    ana, ben = visit("anja"), visit("ben")
    for one in (ana, ben):
        one.page.click("[data-view=browse]")
        one.tiles()
        one.order("random")
        one.page.uncheck("#hide")
        one.tiles()
    # What one of them was handed out on arrival, the other could not answer here.
    held = {key for (key,) in served.here.handouts._db.execute("SELECT key FROM held").fetchall()}
    shown = ana.keys()
    key = next(key for key in shown if key not in held)
    tile = f'#gallery .tile[title="{key}"]'
    for one in (ana, ben):
        one.page.click(tile)
        assert one.key() == key
    ana.press("1")
    ana.saved()
    ben.press("2")
    ben.page.wait_for_selector("#conflicts")
    ben.page.click(tile)
    ben.page.wait_for_selector(".conflict-box >> text=anja")
    ben.page.click("#say-0")
    ben.page.wait_for_selector("#conflicts", state="detached")
    ben.saved()
    assert served.said("ben") == served.said("anja") == {key: "red"}
    ana.press("u")
    ben.press("u", "u")
    ana.saved()
    ben.saved()


@deep
def test_the_map_opens_what_a_circle_or_an_outline_holds(visit: Any) -> None:
    one = visit("kim").order("random")
    one.press("k")
    one.page.wait_for_selector(".field[data-drawn]")
    one.press("+", "+", "+", "+", "+", "+", "+", "+")
    one.page.wait_for_selector(".chosen >> text=inside")
    one.press("Enter")
    one.page.wait_for_selector(".subject >> text=from the map")
    inside = int(one.page.text_content(".subject .text").split()[0])
    shown = "n => document.querySelectorAll('#gallery .tile[data-id]').length === n"
    one.page.wait_for_function(shown, arg=min(60, inside))
    one.press("k")
    box = one.page.locator(".field").bounding_box()
    corners = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)]
    mouse = one.page.mouse
    for i, (x, y) in enumerate(corners):
        mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        if i == 0:
            mouse.down()
    mouse.up()
    one.page.wait_for_selector(".chosen >> text=260 items inside")


@deep
def test_a_wrong_token_gets_nothing_and_kept_answers_wait_for_the_right_one(
    visit: Any, served: ServedPage, browser: Any
) -> None:
    context = browser.new_context()
    page = context.new_page()
    assert page.goto(served.address.replace("token=", "token=x")).status == 401
    assert "raysal serve" in page.text_content("body")
    context.close()
    one = visit("tess").order("random")
    served.stop()
    key = label_by_colour(one)
    served.token = "another-token-now"
    try:
        served.start()
        one.page.wait_for_selector("dialog.locked >> text=1 answer is kept")
        one.page.goto(served.address)
        one.tiles()
        one.saved()
        assert served.said("tess") == {key: truth(key)}
    finally:
        served.stop()
        served.token = "token-of-the-test"
        served.start()


@deep
def test_labelling_moves_nothing_but_what_is_labelled(visit: Any) -> None:
    one = visit("lou").order("random")
    one.page.wait_for_selector("#gallery img")
    tops_of = "nodes => nodes.map(node => node.getBoundingClientRect().top)"
    before = one.page.eval_on_selector_all("#gallery .tile", tops_of)
    one.page.evaluate("window.seen.shifts.length = 0")
    one.press("s", "s", "Space")
    assert one.page.eval_on_selector_all("#gallery .tile", tops_of) == before
    one.press("Escape", "y")
    tops = one.page.eval_on_selector_all("#gallery .tile", tops_of)
    assert tops == before[: len(tops)], "the yes/no mode leaves the items where they are"
    one.press("g", "u", "u")
    one.saved()
    assert sum(one.page.evaluate("window.seen.shifts")) < 0.02


@pytest.mark.parametrize(("theme", "width"), deep_unless([("light", 1280)], [("light", 1280), ("dark", 390)]))
def test_axe_finds_nothing_to_complain_about(visit: Any, theme: str, width: int) -> None:
    one = visit("axel", width=width, scheme=theme).order("random")
    assert complaints(one.page) == []
    one.press("Space", "f")
    one.page.wait_for_selector(".view")
    assert complaints(one.page) == []
    one.press("Escape", "c")
    assert complaints(one.page) == []


@deep
def test_statistics_show_agreement_and_what_was_found(browser: Any, tmp_path: Path) -> None:
    served = ServedPage(picture_run(tmp_path, 60), per_item=2)
    try:
        served.session.query(8)  # what is labelled before the first batch is no find
        people = [Visit(browser, served.address, name).order("random") for name in ("ana", "ben")]
        for one in people:
            for _ in range(6):
                label_by_colour(one)
            one.saved()
        one = people[0]
        one.press("j")
        shared = len(set(served.said("ana")) & set(served.said("ben")))
        assert shared > 2
        one.page.wait_for_selector(f".agreement tr:has-text('Cohen’s κ, ana and ben') >> text=1 on {shared} items")
        found = sum(label == "red" for label in {**served.said("ana"), **served.said("ben")}.values())
        one.page.wait_for_selector(f".cards li:has-text('found: red') >> text='{found}'")
        one.page.click("figure:has-text('Found') summary >> nth=0")
        one.page.wait_for_selector("figure:has-text('Found') tbody tr")
        for visit in people:
            visit.leave()
    finally:
        served.stop()


@deep
def test_what_runs_is_shown_and_can_be_stopped(visit: Any) -> None:
    one = visit("stan")
    state = (
        '{"seq":1,"head":{"version":0,"labels":1},"batch":{"round":0,"size":8,"waiting":0},'
        '"busy":{"stage":"ranking","done":3,"total":9},"problem":null}'
    )
    one.page.route(
        "**/api/events",
        lambda route: route.fulfill(content_type="text/event-stream", body=f"event: state\ndata: {state}\n\n"),
    )
    one.page.reload()
    one.page.wait_for_selector(".work >> text=Ranking the pool")
    assert one.page.get_attribute(".work progress", "value") == "3"
    with one.page.expect_request("**/api/stop") as asked:
        one.page.click(".work >> text=Stop")
    assert asked.value.method == "POST"
    one.page.unroute("**/api/events")
