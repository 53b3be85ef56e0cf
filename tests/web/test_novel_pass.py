"""The pass for novelty goes in parts: what it finds does not depend on how many, nor on what happens between two."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_server import page_of
from served_runs import colour_of, picture_run

from raysal.fleet import LocalFleet, Partition, exclude
from raysal.web import orders
from raysal.web.jobs import Jobs
from raysal.web.searches import Searches


def found_in_parts(rows: int, monkeypatch: pytest.MonkeyPatch, taken_between: list[int]) -> orders.Novel:
    monkeypatch.setattr(orders, "NOVEL_ROWS", rows)
    vectors = np.random.default_rng(3).normal(size=(101, 5)).astype(np.float16)
    ids = np.arange(101, dtype=np.int64)
    fleet = LocalFleet.of(Partition.of_items(ids[:60], vectors[:60], "euclidean"))
    search, found = orders.NovelPass(fleet, 60, 7), None
    while found is None:
        found = search.step(fleet)
        fleet.each(exclude, np.array(taken_between, np.int64))
    assert search.done == search.parts == -(-60 // rows)
    return found


@pytest.mark.parametrize("rows", [1, 7, 59])
def test_any_number_of_parts_finds_the_same(rows: int, monkeypatch: pytest.MonkeyPatch):
    whole, parts = found_in_parts(1000, monkeypatch, []), found_in_parts(rows, monkeypatch, [])
    assert whole.best[0].tolist() == parts.best[0].tolist()
    assert whole.best[1].tobytes() == parts.best[1].tobytes()
    assert whole.histogram.tolist() == parts.histogram.tolist()
    assert whole.histogram.sum() == 60


def test_what_is_taken_between_two_parts_loses_no_other_item(monkeypatch: pytest.MonkeyPatch):
    taken = [3, 4, 5, 6, 20]
    found = found_in_parts(7, monkeypatch, taken)
    assert set(range(60)) - set(found.best[0].tolist()) <= set(taken)


def test_labels_are_followed_and_stop_is_heard_between_two_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(orders, "NOVEL_ROWS", 4)
    begun, go = threading.Event(), threading.Semaphore(0)
    step = orders.NovelPass.step

    def slow_step(self: orders.NovelPass, fleet: LocalFleet) -> orders.Novel | None:
        begun.set()
        assert go.acquire(timeout=30)
        return step(self, fleet)

    monkeypatch.setattr(orders.NovelPass, "step", slow_step)
    with page_of(picture_run(tmp_path, 90)) as page, page.browser() as browser:
        desk = page.desk
        assert begun.wait(30)
        page.ready("likeliest")
        item = browser.look("/api/items", order="likeliest", n=1)["items"][0]
        before = desk.follower.orders.labels
        label = "red" if colour_of(item["key"]) == "red" else "other"
        browser.tell("/api/answers", answers=[{"id": item["id"], "key": item["key"], "label": label}], nonce="one")
        go.release()  # one part of 23
        while desk.follower.orders.labels == before:
            desk.wait_for_change(30)
        assert desk.standing.why_not("novel") is not None
        assert browser.tell("/api/stop")["stopped"]
        go.release(40)
        while desk.follower.busy is not None:
            desk.wait_for_change(30)
        assert desk.standing.why_not("novel") is not None
        assert desk.follower._seeking is None


def test_stop_is_heard_in_a_search_between_two_parts_and_the_search_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(orders, "NOVEL_ROWS", 4)
    begun, asked, searching, stopped = (threading.Event() for _ in range(4))
    step, submit, search = orders.NovelPass.step, Jobs.submit, Searches._search

    def slow_step(self: orders.NovelPass, fleet: LocalFleet) -> orders.Novel | None:
        begun.set()
        assert asked.wait(30)
        return step(self, fleet)

    def noted(self: Jobs, work: Any) -> Any:
        future = submit(self, work)
        asked.set()
        return future

    def slow_search(self: Searches, id: int, k: int) -> Any:
        searching.set()
        assert stopped.wait(30)
        return search(self, id, k)

    monkeypatch.setattr(orders.NovelPass, "step", slow_step)
    monkeypatch.setattr(Jobs, "submit", noted)
    monkeypatch.setattr(Searches, "_search", slow_search)
    with page_of(picture_run(tmp_path, 90)) as page, page.browser() as browser, ThreadPoolExecutor() as threads:
        assert begun.wait(30)
        key = browser.look("/api/item/9")["key"]
        found = threads.submit(browser.refused, "/api/items", order="nearest", key=key)
        assert searching.wait(30)
        assert browser.tell("/api/stop")["stopped"]
        stopped.set()
        assert found.result(30) == (503, "nearest: was stopped; try again")
        while page.desk.follower.busy is not None:
            page.desk.wait_for_change(30)
        assert page.desk.standing.why_not("novel") is not None, "nothing of the pass goes on"
        assert page.desk.follower._seeking is None


def test_a_line_that_has_ended_cancels_what_comes():
    line = Jobs(lambda: None)
    before = line.submit(lambda: 1)
    line.end()
    assert before.cancelled()
    assert line.submit(lambda: 1).cancelled()
