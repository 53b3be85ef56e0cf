"""Every state of the page, in both themes and widths: no complaint of axe, and no text that is taken for markup."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from browsers import Visit, complaints
from served_pages import ServedPage
from served_runs import picture_run
from served_texts import CLASSES, EVIL, hostile_run
from tiers import deep

from raysal.web.server import redirecting


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPage]:
    served = ServedPage(hostile_run(tmp_path_factory.mktemp("texts")), per_item=2)
    yield served
    served.stop()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPage]:
    folder = tmp_path_factory.mktemp("pictures")
    run = picture_run(folder, 120)
    for path in sorted((folder / "images" / "some").iterdir())[6::7]:
        path.write_bytes(path.read_bytes()[:60])
    served = ServedPage(run)
    yield served
    served.stop()


def test_keys_texts_values_and_classes_are_shown_as_text(browser: Any, texts: ServedPage) -> None:
    one = Visit(browser, texts.address, EVIL).tiles()
    key = one.key()
    assert EVIL in key
    assert EVIL in one.page.text_content("#gallery .words")
    assert one.page.text_content(".class .name") == CLASSES[0]
    one.press("f")
    one.page.wait_for_function("() => document.querySelector('.large-text')?.textContent.length > 3000")
    assert "<b>bold</b>" in one.page.text_content(".large-text")
    one.press("2", "c")
    one.page.keyboard.type("<i>new</i>")
    one.press("Enter", "n")
    one.page.fill("#note-text", EVIL)
    one.press("Control+Enter", "Escape", "m")
    one.page.wait_for_selector(".subject")
    one.page.wait_for_selector("#gallery .tile")
    one.press("k")
    one.page.wait_for_selector(".field[data-drawn]")
    one.press("j")
    one.page.wait_for_selector("#statistics .cards")
    one.saved()
    assert one.page.locator("img[src=x], body script, svg[onload], #gallery b, .large-text b").count() == 0
    said = texts.said(EVIL)
    assert said.pop(key) == CLASSES[1]
    assert list(said.values()) == ["<i>new</i>"]
    one.leave()


class Linking(BaseHTTPRequestHandler):
    """A page of another site with a link."""

    target = ""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(
            f'<a href="{self.target}">the page</a><a target="_blank" href="{self.target}">new</a>'.encode()
        )

    def log_message(self, *said: object) -> None:
        """Nothing is printed."""


def test_the_address_opens_by_a_link_of_another_site_and_by_the_file_that_leads_to_it(
    browser: Any, texts: ServedPage, tmp_path: Path
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Other", (Linking,), {"target": texts.address})) as other:
        thread = Thread(target=other.serve_forever)
        thread.start()
        try:
            for link in ("a:not([target])", "a[target]"):
                context = browser.new_context()
                page = context.new_page()
                page.goto(f"http://localhost:{other.server_port}/")  # another site than 127.0.0.1
                if link == "a[target]":
                    with context.expect_page() as opened:
                        page.click(link)
                    page = opened.value
                else:
                    page.click(link)
                page.wait_for_selector("#name-text")
                page.reload()
                page.wait_for_selector("#name-text")
                assert "token" not in page.url
                context.close()
        finally:
            other.shutdown()
            thread.join()
    with redirecting(tmp_path, texts.address) as place:
        context = browser.new_context()
        page = context.new_page()
        page.goto(place)
        page.wait_for_selector("#name-text")
        context.close()


STATES: dict[str, tuple[tuple[str, ...], str]] = {
    "gallery": (("Space", "ArrowRight", "ArrowRight", "Space"), "#gallery .marked"),
    "answered": (("s",), "#gallery .answered"),
    "large view": (("f",), ".view > *"),
    "yes or no": (("y", "Space"), "#gallery .crossed"),
    "palette": (("g", "c", "o"), "#palette-list"),
    "note": (("Escape", "n"), "#note-text"),
    "keys": (("Escape", "?"), "dialog.help"),
    "map": (("Escape", "k", "+", "+"), ".field[data-drawn]"),
    "statistics": (("j",), "#statistics figure"),
    "browse": (("b",), "#hide"),
}
"""What is pressed, one after another, and what is there then."""


@deep
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", ["pictures", "texts"])
def test_no_state_has_a_complaint(
    browser: Any, kind: str, scheme: str, width: int, request: pytest.FixtureRequest
) -> None:
    served: ServedPage = request.getfixturevalue(kind)
    one = Visit(browser, served.address, f"{scheme} {width}", width=width, scheme=scheme).order("random")
    found: dict[str, list[str]] = {}
    for state, (keys, there) in STATES.items():
        one.press(*keys)
        one.page.wait_for_selector(there)
        found[state] = complaints(one.page)
    one.tiles()
    if kind == "pictures":  # a text has no brightness
        one.page.click("#adjust-open")
        found["adjust"] = complaints(one.page)
        one.press("Escape")
    one.press("l")
    one.page.wait_for_selector("#mode-binary")
    one.tiles()
    one.page.context.set_offline(True)
    one.press("s")
    one.page.wait_for_selector("#banner.lost")
    found["connection lost"] = complaints(one.page)
    one.page.context.set_offline(False)
    one.saved()
    one.press("u")
    one.saved()
    wide = one.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    one.leave()
    assert {state: said for state, said in found.items() if said} == {}
    assert wide <= 0, "nothing is wider than the page"


@deep
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_before_and_after_the_items_have_no_complaint(browser: Any, tmp_path: Path, scheme: str) -> None:
    served = ServedPage(picture_run(tmp_path, 30))
    try:
        one = Visit(browser, served.address, None, scheme=scheme)
        one.page.wait_for_selector("#name-text")
        assert complaints(one.page) == []
        one.page.fill("#name-text", "ana")
        one.press("Enter")
        one.page.wait_for_selector("text=No batch yet")
        assert complaints(one.page) == []
        one.page.click("text=Choose a batch")
        one.tiles()
        one.press("y")
        one.page.wait_for_selector("#yes-all:not([disabled])")
        one.press("Enter")
        one.page.wait_for_selector("text=This batch is done")
        assert complaints(one.page) == []
        # An Enter in the first half second is one of a hurry, and does nothing.
        one.page.wait_for_function(
            "begun => performance.now() - begun > 500", arg=one.page.evaluate("performance.now()")
        )
        one.press("Enter")  # the next batch, without a mouse
        one.tiles()
        one.leave()
        bare = browser.new_context(color_scheme=scheme).new_page()
        bare.goto(f"http://127.0.0.1:{served.port}/")
        assert complaints(bare) == []
        bare.context.close()
    finally:
        served.stop()


@deep
def test_dark_and_light_follow_the_system_until_they_are_chosen(browser: Any, pictures: ServedPage) -> None:
    one = Visit(browser, pictures.address, "dana", scheme="dark").order("random")
    paper = "() => getComputedStyle(document.body).backgroundColor"
    dark = one.page.evaluate(paper)
    one.page.click("[aria-label='Light colours']")
    light = one.page.evaluate(paper)
    assert dark != light
    one.page.reload()
    one.tiles()
    assert one.page.evaluate(paper) == light
    one.leave()


@deep
def test_letters_do_nothing_where_they_were_switched_off(browser: Any, pictures: ServedPage) -> None:
    one = Visit(browser, pictures.address, "sue").order("random")
    one.press("?")
    one.page.uncheck("#keys-on")
    one.press("Escape", "s", "1", "u")
    assert pictures.said("sue") == {}
    one.press("ArrowRight", "Enter")
    one.page.wait_for_selector("#stage:not([hidden])")
    one.leave()


@deep
def test_a_canvas_draws_the_map_where_webgl_is_missing(browser: Any, pictures: ServedPage) -> None:
    one = Visit(browser, pictures.address, "cam")
    one.context.add_init_script(
        """const had = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
          return kind === 'webgl' ? null : had.call(this, kind, ...more);
        };"""
    )
    one.page.reload()
    one.order("random")
    one.press("k")
    one.page.wait_for_selector(".field[data-drawn=canvas]")
    drawn = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(value => value > 0)"
    assert one.page.eval_on_selector(".points", drawn)
    one.leave()


@deep
def test_the_lasso_holds_what_the_slow_rule_says(browser: Any, pictures: ServedPage) -> None:
    one = Visit(browser, pictures.address, "geo")
    found, slow = one.page.evaluate(
        """async () => {
          const { inside } = await import('/static/lasso.js');
          let seed = 7; const next = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
          const some = n => Array.from({length: n}, () => next() * 2 - 1), x = some(400), y = some(400);
          const outline = Array.from({length: 9}, () => [next() * 2 - 1, next() * 2 - 1]);
          // The sum of the turned angles is zero outside (in the even-odd sense: an even number of turns).
          const turns = (px, py) => Math.round(outline.reduce((sum, [ax, ay], i) => {
            const [bx, by] = outline[(i + 1) % outline.length];
            return sum + Math.atan2((ax-px)*(by-py)-(ay-py)*(bx-px), (ax-px)*(bx-px)+(ay-py)*(by-py));
          }, 0) / (2 * Math.PI));
          return [inside(x, y, outline), x.map((_, i) => i).filter(i => Math.abs(turns(x[i], y[i])) % 2 === 1)];
        }"""
    )
    assert found == slow
    assert 0 < len(found) < 400
    one.leave()
