"""How the page looks where it is narrow, where a table is read, and where little is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import Visit
from served_pages import ServedPage
from served_runs import picture_run
from tiers import deep

pytestmark = deep

SET = "fields => import('/static/store.js').then(store => store.set(fields))"
OUTSIDE = """() => [...document.querySelectorAll('#bar *, #tools *')]
  .filter(node => node.getClientRects().length && node.getBoundingClientRect().right > innerWidth + 0.5)
  .map(node => node.outerHTML)"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPage]:
    served = ServedPage(picture_run(tmp_path_factory.mktemp("looks"), 30))
    yield served
    served.stop()


def test_on_a_narrow_page_nothing_is_cut_off_and_stop_says_what_it_stops(browser: Any, served: ServedPage) -> None:
    one = Visit(browser, served.address, "Ana", width=390).order("random")
    one.press("b")
    one.page.wait_for_selector("#hide")
    one.page.evaluate(SET, {"moved": True, "busy": {"stage": "ranking", "done": 3, "total": 9}})
    one.page.wait_for_selector("#moved")
    for width in (390, 320):
        one.page.set_viewport_size({"width": width, "height": 760})
        assert one.page.evaluate(OUTSIDE) == []
        heads = "nodes => new Set(nodes.map(node => Math.round(node.getBoundingClientRect().top / 20))).size"
        assert one.page.eval_on_selector_all("#bar .theme, #bar .person, #bar > :last-child", heads) == 1
        assert one.page.locator("#bar .theme").is_visible()
    assert one.page.inner_text(".work button") == "Stop ranking"
    one.leave()


def test_a_row_with_a_text_is_read_in_its_tile(browser: Any, served: ServedPage) -> None:
    one = Visit(browser, served.address, "tia")
    one.page.wait_for_selector("#order")
    tile = """carried => import('/static/media.js').then(media =>
      media.small({kind: 'table', broken: null, key: 'k', text: 'A long review', carried}).outerHTML)"""
    assert one.page.evaluate(tile, {"stars": 3}) == '<p class="words">A long review</p>'
    one.leave()


def test_statistics_give_no_measures_of_a_few_test_draws(browser: Any, served: ServedPage) -> None:
    one = Visit(browser, served.address, "sia")
    one.page.wait_for_selector("#order")
    said = {"known_by": "test draws", "items": 1, "measures": {"auprc": 1.0, "precision_at_k": 0.5}, "intervals": {}}

    def tell(route: Any) -> None:
        rounds = [{"round": 0, "labels": 8, "found": 1, "asked": 8, "evaluation": said}]
        body = json.dumps({"rounds": rounds, "found": [[0, 0]], "precision": {"batch": []}})
        route.fulfill(content_type="application/json", body=body)

    one.page.route("**/api/curve", tell)
    one.press("j")
    one.page.wait_for_selector("figure >> text=Too few test draws yet (1)")
    assert one.page.locator("figure td").count() == 0
    said["items"] = 10
    one.press("l", "j")
    one.page.wait_for_selector("figure >> text=precision of the first 8")
    one.page.wait_for_selector(".chart text:text-is('items (root scale)')")
    wide = "nodes => nodes.filter(node => node.getBoundingClientRect().width > 1000).length"
    figures = one.page.locator(".charts figure").count()
    assert one.page.eval_on_selector_all(".charts figure", wide) == figures % 2, "no half of the page is blank"
    one.leave()


def test_who_has_the_rest_of_a_batch_is_said(browser: Any, tmp_path: Path) -> None:
    run = picture_run(tmp_path, 12, labels=2)
    served = ServedPage(run)
    try:
        served.session.query(4)
        ben = Visit(browser, served.address, "ben").order("batch")
        ana = Visit(browser, served.address, "ana")
        ana.page.wait_for_selector("text=4 items of it are with ben. What is not answered comes back by")
        ana.leave()
        ben.leave()
    finally:
        served.stop()
