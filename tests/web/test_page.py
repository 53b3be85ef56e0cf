"""What the page asks for, over real HTTP: orders, pictures, views, rounds, events."""

from __future__ import annotations

import io
import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_server import Page, page_of
from PIL import Image
from served_runs import colour_of, picture_run

from raysal.fleet import exclude
from raysal.models.trainers.logistic import Logistic
from raysal.rounds.held_out import HeldOut
from raysal.rounds.session import Session
from raysal.scoring.sweep import sweep
from raysal.web import app, follower, orders
from raysal.web.desk_views import DeskViews
from raysal.web.orders import asked_of, order_candidates, scores_of, sweep_in_parts


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return picture_run(tmp_path_factory.mktemp("page"), 90)


@pytest.fixture(scope="module")
def page(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page that is only looked at."""
    run = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("seen") / "run"))
    with page_of(run) as page:
        page.ready("likeliest", "uncertain", "diverse", "random", "novel")
        yield page


def test_orders_say_what_they_are_by(page: Page):
    with page.browser() as browser:
        said = browser.look("/api/run")
        assert (said["items"], said["modality"], said["binary"], said["target"]) == (90, "image", True, ["red"])
        assert said["classes"] == [{"name": "red", "count": 2}, {"name": "other", "count": 4}]
        assert (said["search"]["known"], said["search"]["found"]) == (2, 0), (
            "what the run has found, as its status says"
        )
        ready = {one["name"]: one["ready"] for one in said["orders"]}
        assert ready == {
            "batch": False, "likeliest": True, "uncertain": True, "novel": True, "diverse": True,
            "random": True, "nearest": True,
        }  # fmt: skip
        likeliest = browser.look("/api/items", order="likeliest", n=20)
        assert [colour_of(item["key"]) for item in likeliest["items"]] == ["red"] * 20
        scores = [item["score"] for item in likeliest["items"]]
        assert scores == sorted(scores, reverse=True)
        assert {item["score_name"] for item in likeliest["items"]} == {"probability"}
        assert scores == [item["probability"] for item in likeliest["items"]]
        first = browser.look("/api/items", order="random", n=50)
        seen = [item["id"] for item in first["items"]]
        second = browser.tell("/api/items", order="random", n=50, seen=seen)
        assert (first["more"], second["more"]) == (True, False)
        seen += [item["id"] for item in second["items"]]
        assert len(seen) == len(set(seen)) == 84  # all but the labelled ones
        diverse = browser.look("/api/items", order="diverse", n=3)["items"]
        assert len({colour_of(item["key"]) for item in diverse}) > 1
        near = browser.look("/api/items", order="nearest", key="some/0007.jpg", n=12)
        assert {colour_of(item["key"]) for item in near["items"]} == {colour_of("0007.jpg")}
        assert near["total"] == 89
        assert browser.refused("/api/items", order="nearest", key="nobody")[0] == 404
        assert browser.refused("/api/items", order="nearest")[0] == 409
        assert browser.refused("/api/items", order="batch") == (
            409, "order batch: is not ready: no batch was chosen yet; choose another order meanwhile",
        )  # fmt: skip


def test_pictures_are_fetched_by_the_id_of_the_same_row_as_the_score(page: Page):
    with page.browser() as browser:
        for item in browser.look("/api/items", order="likeliest", n=5)["items"]:
            answer = browser.get(f"/api/item/{item['id']}/thumb", params={"size": 64})
            image = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).mean(axis=(0, 1))
            assert int(image.argmax()) == 0  # red, as its key and its score say
            assert answer.headers["cache-control"].startswith("private")
            tag = {"If-None-Match": answer.headers["etag"]}
            assert browser.get(f"/api/item/{item['id']}/thumb", params={"size": 64}, headers=tag).status_code == 304
        details = browser.look(f"/api/item/{item['id']}")
        assert (details["width"], details["height"], details["broken"]) == (48, 36, None)
        for part in ("text", "sound", "spectrogram"):
            assert browser.refused(f"/api/item/{item['id']}/{part}")[0] == 422


def test_a_corrupt_picture_says_so_and_the_page_goes_on(run: Path, prepared: Path):
    file = prepared.parent / "images" / "some" / "0033.jpg"
    good = file.read_bytes()
    file.write_bytes(good[:200])
    try:
        with page_of(run) as page, page.browser() as browser:
            page.ready("likeliest")
            number = page.desk.session.pool.ids_of(["some/0033.jpg"])["some/0033.jpg"]
            status, why = browser.refused(f"/api/item/{number}/thumb")
            assert (status, "some/0033.jpg" in why) == (422, True)
            items = browser.look("/api/items", order="likeliest", n=40)["items"]
            broken = {item["key"]: item["broken"] for item in items if item["broken"]}
            assert list(broken) == ["some/0033.jpg"]
            assert browser.tell("/api/answers", answers=[{"id": str(number), "label": "red"}], nonce="n")["items"]
    finally:
        file.write_bytes(good)


def test_views_are_of_the_pool_and_of_its_labels(page: Page):
    with page.browser() as browser:
        bars = browser.look("/api/histogram", score="probability")
        assert (len(bars["edges"]), len(bars["counts"])) == (65, 64)
        assert sum(bars["counts"]) == 84
        assert {name: sum(counts) for name, counts in bars["labelled"].items()} == {"red": 2, "other": 4}
        novelty = browser.look("/api/histogram", score="novelty")
        assert sum(novelty["counts"]) == 84, "those that may be offered"
        assert {name: sum(bars) for name, bars in novelty["labelled"].items()} == {"red": 2, "other": 4}
        assert browser.refused("/api/histogram", score="beauty")[0] == 409
        all_points = browser.look("/api/map", n=1000)
        assert (len(all_points["ids"]), all_points["sampled"]) == (90, False)
        few = browser.look("/api/map", n=10)
        assert few["sampled"]
        assert 10 <= len(few["ids"]) <= 16  # the sample, and what is labelled
        assert sum(label >= 0 for label in few["labels"]) == 6
        assert browser.look("/api/curve")["found"] == [[0, 0]]  # the run began with what is labelled


def test_what_was_found_is_the_same_number_everywhere(run: Path):
    with Session.open(run) as session:
        told = {key: colour_of(key) for key in session.query(20).keys}
        session.tell({key: "red" if colour == "red" else "other" for key, colour in told.items()})
    with page_of(run) as page, page.browser() as browser:
        found = browser.look("/api/run")["search"]
        assert found["found"] == list(told.values()).count("red") > 0
        assert browser.look("/api/curve")["found"][-1] == [found["labels"], found["found"]] == [20, found["found"]]


def test_held_out_items_are_on_no_map(tmp_path: Path):
    """A label that people give there would train nothing, and nothing would say so."""
    run = picture_run(tmp_path, 60, labels=30, rounds={"k": 8, "holdout": 0.4})
    with page_of(run) as page, page.browser() as browser:
        held_out = HeldOut.of(page.desk.session.config, None)
        assert held_out is not None
        held = held_out.among(np.arange(60))
        assert held[:30].any(), "also of those that have a label"
        for n in (10, 1000):
            ids = np.array(browser.look("/api/map", n=n)["ids"], np.int64)
            assert not held[ids].any()
        assert sorted(ids) == np.flatnonzero(~held).tolist()


def test_a_label_moves_the_head_and_the_order_follows(run: Path):
    with page_of(run) as page, page.browser() as browser:
        page.ready("likeliest")
        first = browser.look("/api/items", order="likeliest", n=40)["items"]
        said = [{"id": item["id"], "label": "other"} for item in first[:6]]  # red ones are not looked for after all
        told = browser.tell("/api/answers", answers=said, nonce="n")
        while page.desk.follower.orders.seq < told["seq"]:
            page.desk.wait_for_change(30)
        now = browser.look("/api/items", order="likeliest", n=80)
        assert {one["id"] for one in said}.isdisjoint(item["id"] for item in now["items"])
        before = {item["id"]: item["probability"] for item in first[6:20]}
        after = {item["id"]: item["probability"] for item in now["items"]}
        assert all(after[id] < before[id] for id in before)
        assert now["head"] > 0


def test_between_two_passes_labels_are_followed_without_a_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fits: list[int] = []
    fit = Logistic.fit
    monkeypatch.setattr(Logistic, "fit", lambda self, data: fits.append(len(data.labels)) or fit(self, data))
    monkeypatch.setattr(follower, "PAUSE_S", 1e9)
    run = picture_run(tmp_path, 30, update={"mode": "retrain"})
    with page_of(run) as page, page.browser() as browser:
        page.ready("likeliest")
        begun, labels = len(fits), page.desk.follower.orders.labels
        for turn, item in enumerate(browser.look("/api/items", order="likeliest", n=3)["items"]):
            told = browser.tell("/api/answers", answers=[{"id": item["id"], "label": "other"}], nonce=str(turn))
            while page.desk.follower.orders.seq < told["seq"]:
                page.desk.wait_for_change(30)
        assert (len(fits), page.desk.follower.orders.labels) == (begun, labels + 3)
        assert begun > 0


def test_a_round_is_chosen_in_the_background_and_told_to_everybody(run: Path):
    with page_of(run) as page, page.browser() as browser, browser.stream("GET", "/api/events") as events:
        lines = events.iter_lines()

        def state() -> dict[str, object]:
            return json.loads(next(line for line in lines if line.startswith("data: "))[6:])

        assert state()["rounds"] == 0
        page.ready("random")
        assert browser.refused("/api/round", {"k": 0})[0] == 409
        assert browser.tell("/api/round", k=5) == {"round": 0}
        while (now := state())["rounds"] == 0 or now["busy"]:
            pass
        assert now["batch"] == {"round": 0, "size": 5, "waiting": 5}
        assert len(browser.tell("/api/next", n=24)["items"]) == 5
        browser.tell("/api/round", k=1000)
        while not (now := state())["problem"]:
            pass
        assert "1000 items wanted" in str(now["problem"])
        assert page.desk.session.rounds == 1
    with Session.open(run) as session:
        assert session.rounds == 1


def test_stop_ends_a_round_between_two_trips_and_nothing_of_it_is_kept(run: Path):
    with page_of(run) as page, page.browser() as browser:
        page.ready("likeliest")
        follower = page.desk.follower
        look = follower._fleet.before  # type: ignore[attr-defined]

        def stop_at_the_third() -> None:
            if follower.busy is not None and follower.busy.stage == "round" and follower.busy.done == 2:
                assert browser.tell("/api/stop") == {"stopped": True}
            look()

        follower._fleet.before = stop_at_the_third  # type: ignore[attr-defined]
        browser.tell("/api/round", k=5)
        while follower.busy is not None:
            page.desk.wait_for_change(1)
        assert page.desk.session.rounds == 0
        assert page.desk.standing.state()["problem"] is None
        follower._fleet.before = look  # type: ignore[attr-defined]
        browser.tell("/api/round", k=5)
        while page.desk.session.rounds == 0:
            page.desk.wait_for_change(1)


def test_a_round_that_waits_for_a_pass_is_said_to_be_chosen_and_can_be_stopped(run: Path):
    with page_of(run) as page, page.browser() as browser:
        page.ready("likeliest")
        follower = page.desk.follower
        began, go_on = threading.Event(), threading.Event()
        tell_part = follower._tell_part

        def hold(part: int, parts: int) -> bool:
            began.set()
            go_on.wait(30)
            return tell_part(part, parts)

        follower._tell_part = hold  # type: ignore[method-assign]
        browser.tell("/api/answers", answers=[{"id": "9", "label": "red"}], nonce="n")
        assert began.wait(30)
        browser.tell("/api/round", k=5)
        assert browser.refused("/api/round", {"k": 5})[0] == 409
        tell_part(0, 1)  # what the pass says of itself
        assert follower.busy is not None
        assert follower.busy.stage == "round"
        assert browser.tell("/api/stop") == {"stopped": True}
        go_on.set()
        while follower.busy is not None:
            page.desk.wait_for_change(1)
        assert page.desk.session.rounds == 0


def test_of_two_who_ask_for_the_next_batch_one_is_heard(run: Path, monkeypatch: pytest.MonkeyPatch):
    """At once, and one after the other: the second does not know of the first one's batch."""
    with page_of(run) as page, page.browser("ann") as ann, page.browser("bob") as bob:
        page.ready("likeliest")
        both, is_choosing = threading.Barrier(2), follower.Follower._is_choosing.fget  # type: ignore[attr-defined]

        def together(self: follower.Follower) -> bool:
            found: bool = is_choosing(self)
            if threading.current_thread() is not self._thread:
                with suppress(threading.BrokenBarrierError):  # one is alone here, and need not wait long to see it
                    both.wait(0.2)
            return found

        with monkeypatch.context() as patched, ThreadPoolExecutor() as threads:
            patched.setattr(follower.Follower, "_is_choosing", property(together))
            said = list(threads.map(lambda one: one.push("/api/round", {"k": 2}).status_code, (ann, bob)))
        assert sorted(said) == [200, 409]
        while page.desk.follower.busy is not None:
            page.desk.wait_for_change(1)
        assert page.desk.session.rounds == 1
        status, why = bob.refused("/api/round", {"k": 2, "after": -1})
        assert (status, "another batch was chosen meanwhile" in why) == (409, True)
        assert bob.tell("/api/round", k=2, after=0) == {"round": 1}


def test_a_map_that_waits_lets_pictures_through(run: Path, monkeypatch: pytest.MonkeyPatch):
    begun, go = threading.Event(), threading.Event()

    def waiting(views: DeskViews, n: int) -> dict[str, Any]:
        begun.set()
        go.wait(60)
        return {}

    monkeypatch.setattr(app, "SLOW_THREADS", 1)
    monkeypatch.setattr(DeskViews, "map", waiting)
    with page_of(run) as page, page.browser() as browser, ThreadPoolExecutor() as threads:
        try:
            asked = threads.submit(browser.look, "/api/map")
            assert begun.wait(30)
            assert browser.get("/api/item/9/thumb", timeout=5).status_code == 200
            assert not asked.done()
        finally:
            go.set()


def test_no_order_needs_a_label_but_random(tmp_path: Path):
    run = picture_run(tmp_path, 30, labels=0, target=())
    with page_of(run) as page, page.browser() as browser:
        page.ready("random")
        said = {one["name"]: one["why"] for one in browser.look("/api/run")["orders"]}
        assert said["random"] is None
        assert "--target" in said["likeliest"]
        assert said["uncertain"] == "nothing is labelled yet"
        assert browser.look("/api/items", order="random")["total"] == 30
        assert browser.look("/api/curve")["found"] == []
        assert browser.tell("/api/next", n=3, order="batch") | {"until": ""} == {
            "items": [],
            "until": "",
            "end": "batch",
            "others": [],
        }


def test_an_item_of_several_labels_counts_for_each_of_them(tmp_path: Path):
    run = picture_run(tmp_path, 12, labels=0, update={"trainer": "multi_label"})
    with Session.open(run) as session:
        keys = [key for table in session.pool.items(["key"]) for key in table["key"].to_pylist()]
        session.query(3)
        session.tell({keys[0]: "red|round", keys[1]: "round", keys[2]: "-"})
    with page_of(run) as page, page.browser() as browser:
        counts = {one["name"]: one["count"] for one in browser.look("/api/run")["classes"]}
        assert (counts, browser.look("/api/curve")["found"][-1]) == ({"red": 1, "round": 2}, [3, 1])


@pytest.mark.parametrize("partitions", [1, 3])
def test_candidates_have_the_scores_and_the_order_of_a_pass_over_the_pool(run: Path, partitions: int, monkeypatch):
    with Session.open(run, fleet={"backend": "local", "partitions": partitions}) as session:
        head = session.current_head()
        assert head is not None
        fleet = session.start_fleet()
        fleet.reset()
        request = asked_of(head, ("red",), 90, 7)
        whole = sweep(fleet, head, request, target=("red",))
        monkeypatch.setattr(orders, "PART_ROWS", 20)
        told: list[tuple[int, int]] = []

        def search_between(part: int, parts: int) -> bool:
            told.append((part, parts))
            if part % 2:  # a search, which leaves the fleet in another program
                fleet.reset()
                fleet.each(exclude, np.arange(0, 90, 3))
            return part % 2 == 1

        in_parts = sweep_in_parts(fleet, head, request, ("red",), 90, search_between, fleet.reset)
        assert len(told) == told[0][1] > 1
        candidates = orders.gather_candidates(fleet, session.pool, np.arange(0, 90, 2))
        lists, probabilities = order_candidates(candidates, head, ("red",), np.array([4, 6]), 7)
    for name in request.scores:
        assert [part.tolist() for part in in_parts.top[name]] == [part.tolist() for part in whole.top[name]]
    for order, score in scores_of(head, ("red",)).items():
        ids, values = whole.top[score]
        kept = (ids % 2 == 0) & ~np.isin(ids, [4, 6])
        assert lists[order][0].tolist() == ids[kept].tolist()
        assert lists[order][1].tolist() == values[kept].tolist()
    assert probabilities[0].tolist() == list(range(0, 90, 2))


@pytest.mark.parametrize("hide", [True, False])
def test_who_looks_at_an_order_page_by_page_sees_every_item_once_whatever_is_labelled_meanwhile(run: Path, hide: bool):
    with page_of(run) as page, page.browser() as browser:
        page.ready("novel", "likeliest")
        whole = [item["id"] for item in browser.look("/api/items", order="likeliest", n=200)["items"]]
        seen: list[str] = []
        more = True
        while more:
            said = browser.tell("/api/items", order="likeliest", n=20, seen=seen, hide_labelled=hide)
            fresh, more = [item["id"] for item in said["items"]], said["more"]
            seen += fresh
            if not fresh:
                continue
            answers = [{"id": id, "label": "other"} for id in fresh[::2]]
            told = browser.tell("/api/answers", answers=answers, nonce=f"n{len(seen)}")
            while page.desk.follower.orders.seq < told["seq"]:
                page.desk.wait_for_change(30)
        assert (len(seen), set(seen)) == (len(whole), set(whole))
        assert browser.refused("/api/items", {"order": "likeliest", "seen": "all"})[0] == 422


def test_a_search_is_let_in_between_two_parts_of_a_pass_and_changes_nothing_of_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(orders, "PART_ROWS", 8)
    shutil.copytree(run, tmp_path / "twin")

    def pass_of(run: Path, is_searched: bool) -> tuple[dict[str, list[int]], list[bool]]:
        with page_of(run) as page, page.browser() as browser:
            page.ready("likeliest", "novel")
            own, ended = page.desk.follower, list[bool]()
            tell_part = own._tell_part

            def ask(part: int, parts: int) -> bool:
                future = own.searches.nearest(20 + part, 5)
                searched = tell_part(part, parts)
                ended.append(future.done() and own.busy is not None and own.busy.stage == "ranking" and searched)
                return searched

            if is_searched:
                own._tell_part = ask  # type: ignore[method-assign]
            told = browser.tell("/api/answers", answers=[{"id": "9", "label": "red"}], nonce="n")
            while own._swept < told["seq"]:
                page.desk.wait_for_change(30)
            return {name: ids.tolist() for name, (ids, _) in own.orders.lists.items()}, ended

    lists, ended = pass_of(run, True)
    assert len(ended) > 3
    assert all(ended), "each search ended within the pass"
    assert pass_of(tmp_path / "twin", False) == (lists, [])
