"""Answers over real HTTP: nothing lost, nothing twice, every label with its annotator, and all of it can be undone."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_server import TOKEN, Page, page_of
from served_runs import picture_run

from benchmarks.page_load import load
from raysal.labels import Ledger
from raysal.labels.remarks import Remark, Remarks
from raysal.rounds.session import Session
from raysal.types import Label
from raysal.web.telling import Teller


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = picture_run(tmp_path_factory.mktemp("answers"), 60)
    with Session.open(run) as session:
        session.query(16)
    return run


@pytest.fixture(scope="module")
def untold(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, Path]]:
    """A page and its run, which nobody succeeds in telling anything."""
    run = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("untold") / "run"))
    with page_of(run) as page:
        yield page, run


def held(run: Path) -> dict[tuple[str, str], str]:
    """What the ledger has: {(key, annotator): label}."""
    with Ledger(run / "ledger.sqlite", create=False) as ledger:
        return {(label.key, label.annotator): label.label for label in ledger.answers(skips=True) if label.annotator}


def answer(item: dict[str, object], **said: object) -> dict[str, object]:
    return {"id": item["id"], "key": item["key"], **said}


def test_the_batch_is_handed_out_in_its_order_and_ends(page: Page, run: Path):
    with page.browser() as browser:
        batch = browser.look("/api/items", order="batch", n=200)
        assert (batch["total"], batch["more"], len(batch["items"])) == (16, False, 16)
        keys = [item["key"] for item in batch["items"]]
        assert [item["rank"] for item in batch["items"]] == list(range(1, 17))
        seen = []
        while items := (given := browser.tell("/api/next", n=5, order="batch"))["items"]:
            assert given["end"] is None
            seen += [item["key"] for item in items]
            said = [answer(item, label="red" if i % 2 else "other") for i, item in enumerate(items)]
            told = browser.tell("/api/answers", answers=said, nonce=f"n{len(seen)}")
            assert told["counts"]["new"] == len(items)
            assert [item["mine"]["label"] for item in told["items"]] == [one["label"] for one in said]
        assert (given["end"], seen) == ("batch", keys)
        assert browser.look("/api/run")["batch"] == {"round": 0, "size": 16, "waiting": 0}
        assert browser.look("/api/items", order="batch", hide_labelled=1)["items"] == []
    assert {who for _, who in held(run)} == {"ann"}
    assert {key for key, _ in held(run)} == set(keys)


def test_the_same_request_twice_counts_once(page: Page, run: Path):
    with page.browser() as browser:
        (item,) = browser.tell("/api/next", n=1)["items"]
        said = [answer(item, label="red", note="a note", rating=4)]
        first = browser.tell("/api/answers", answers=said, nonce="one")
        browser.tell("/api/answers", answers=[answer(item, label="other")], nonce="two")
        again = browser.tell("/api/answers", answers=said, nonce="one")  # sent again, too late
        assert first["counts"]["new"] == 1
        assert (again["counts"]["new"], again["counts"]["repeated"]) == (0, 1)
        assert again["items"][0]["mine"] == {"label": "other", "note": "a note", "rating": 4, "disputed": False}
        assert again["seq"] == first["seq"] + 1
        with page.browser("bob") as bob:
            status, why = bob.refused("/api/answers", {"answers": said, "nonce": "one"})
        assert (status, "another request" in why) == (422, True)
    assert held(run) == {(item["key"], "ann"): "other"}


def test_a_request_that_broke_off_is_finished_when_it_comes_again(page: Page, run: Path, monkeypatch):
    with page.browser() as browser:
        (item,) = browser.tell("/api/next", n=1)["items"]
        body = {"answers": [answer(item, label="red", note="kept")], "nonce": "one"}
        tell = page.desk.labels.tell

        def torn(*args: object, **fields: object) -> None:
            raise ConnectionError("the machine went away")

        monkeypatch.setattr(page.desk.labels, "tell", torn)
        assert browser.push("/api/answers", body).status_code == 500
        monkeypatch.setattr(page.desk.labels, "tell", tell)
        assert browser.tell("/api/answers", **body)["counts"]["new"] == 1
        undone = browser.tell("/api/undo", nonce="back")
        assert (undone["undone"], undone["items"][0]["mine"]) == ("one", None)
    assert held(run) == {}


def test_everything_can_be_taken_back_step_by_step(page: Page, run: Path):
    with page.browser() as browser, page.browser("bob") as bob:
        items = browser.look("/api/items", order="batch", n=4)["items"]
        bob.tell("/api/answers", answers=[answer(items[0], label="other", note="mine")], nonce="b1")
        steps = [
            [answer(items[0], label="red", note="first"), answer(items[1], skip=True)],
            [answer(items[0], label="other", rating=5)],
            [answer(items[0], withdraw=True), answer(items[2], note="only a note")],
            [answer(items[1], dispute=True, note="what is it?")],
        ]
        states = []
        for number, step in enumerate(steps):
            states.append([browser.look(f"/api/item/{item['id']}")["mine"] for item in items])
            browser.tell("/api/answers", answers=step, nonce=f"a{number}")
        assert browser.look(f"/api/item/{items[1]['id']}")["state"] == "disputed"
        for number in reversed(range(4)):
            undone = browser.tell("/api/undo", nonce=f"u{number}")
            assert undone["undone"] == f"a{number}"
            assert browser.tell("/api/undo", nonce=f"u{number}")["undone"] == f"a{number}"  # the same request
            assert [browser.look(f"/api/item/{item['id']}")["mine"] for item in items] == states[number]
        assert browser.tell("/api/undo", nonce="none") == {"items": [], "undone": None}
        assert browser.refused("/api/undo", {"nonce": "a0"})[0] == 422
    assert held(run) == {(items[0]["key"], "bob"): "other"}
    assert Remarks(run).of(items[0]["key"])["bob"] == Remark("mine")


def test_a_tab_takes_back_its_own_answers_and_never_what_was_said_after_them(page: Page, run: Path):
    with page.browser() as browser, page.browser("bob") as bob:
        items = browser.look("/api/items", order="batch", n=4)["items"]
        both = [answer(items[0], label="red", note="here"), answer(items[1], label="red", rating=3)]
        browser.tell("/api/answers", answers=both, nonce="left")
        browser.tell("/api/answers", answers=[answer(items[1], label="other", rating=4)], nonce="right")
        assert bob.refused("/api/undo", {"nonce": "b", "of": "left"})[0] == 409, "only one's own"
        assert browser.tell("/api/undo", nonce="u1", of="left")["undone"] == "left"
        assert held(run) == {(items[1]["key"], "ann"): "other"}
        assert Remarks(run).of(items[0]["key"])["ann"] == Remark()
        assert Remarks(run).of(items[1]["key"])["ann"] == Remark(rating=4)
        assert browser.tell("/api/undo", nonce="u2", of="left")["undone"] == "left", "once is enough"
        assert browser.refused("/api/undo", {"nonce": "u3", "of": "never"})[0] == 409
        assert browser.tell("/api/undo", nonce="u4")["undone"] == "right"
    assert held(run) == {}, "what was taken back does not come back with what replaced it"
    assert Remarks(run).of(items[1]["key"])["ann"] == Remark()


def test_a_class_keeps_its_place_whatever_classes_come_and_go(run: Path):
    with page_of(run) as page, page.browser() as browser:
        page.ready("random")
        items = browser.look("/api/items", order="random", n=4)["items"]

        def names() -> list[str]:
            with page.desk.standing._counting:
                page.desk.standing._people = (-1, 0.0, {})  # counted anew
            return [one["name"] for one in browser.look("/api/run")["classes"]]

        before = names()
        for number, name in enumerate(("zebra", "ant", "mule")):
            browser.tell("/api/answers", answers=[answer(items[number], label=name)], nonce=f"n{number}")
        assert names() == [*before, "zebra", "ant", "mule"]
        browser.tell("/api/answers", answers=[answer(items[1], withdraw=True)], nonce="n3")
        assert names() == [*before, "zebra", "ant", "mule"], "mule has the same key as before"
        browser.tell("/api/answers", answers=[answer(items[2], withdraw=True)], nonce="n4")
        assert names() == [*before, "zebra"]


def test_contradicting_annotators_are_a_conflict_and_late_answers_are_taken(run: Path):
    clock = [1000.0]
    with page_of(run, seconds=60, clock=lambda: clock[0]) as page, page.browser() as ann, page.browser("bob") as bob:
        mine = ann.tell("/api/next", n=3)["items"]
        assert {item["id"] for item in bob.tell("/api/next", n=3)["items"]}.isdisjoint(item["id"] for item in mine)
        bob.tell("/api/release", ids=[item["id"] for item in bob.tell("/api/next", n=3)["items"]])
        clock[0] += 61  # ann's browser is gone
        others = bob.tell("/api/next", n=3)["items"]
        assert [item["id"] for item in others] == [item["id"] for item in mine]
        assert ann.tell("/api/renew", ids=[item["id"] for item in mine])["lost"] == [item["id"] for item in mine]
        bob.tell("/api/answers", answers=[answer(item, label="red") for item in others], nonce="b")
        late = ann.tell(
            "/api/answers", answers=[answer(mine[0], label="other"), answer(mine[1], label="red")], nonce="a"
        )
        assert late["conflicts"] == [{"id": mine[0]["id"], "labels": {"ann": "other", "bob": "red"}}]
        assert late["counts"]["disputed"] == 1
        assert [item["state"] for item in late["items"]] == ["disputed", "labeled"]
        assert ann.look("/api/run")["disputed"] == 1
        agreement = ann.look("/api/run")["agreement"]
        assert (agreement["items"], agreement["all_agree"]) == (2, 0.5)
    assert len(held(run)) == 5


def test_what_somebody_has_before_them_is_refused_to_who_found_it_by_looking_around(run: Path):
    with page_of(run) as page, page.browser() as ann, page.browser("bob") as bob:
        page.ready("random")
        theirs = bob.tell("/api/next", n=3, order="random")["items"]
        held, other = theirs[0]["id"], theirs[1]["id"]
        mine = next(item["id"] for item in ann.look("/api/items", order="random", n=60)["items"][::-1])
        assert mine not in {item["id"] for item in theirs}
        said = [{"id": id, "label": "red"} for id in (mine, held, other)]
        refused = ann.refused("/api/answers", {"answers": said, "nonce": "a", "found": True})
        assert refused[0] == 422, "for good: the page does not send it again"
        assert "is with bob now, and 1 more are with others" in refused[1]
        assert ann.look(f"/api/item/{mine}")["mine"] is None, "all of a request, or nothing"
        assert bob.tell("/api/renew", ids=[held, other])["lost"] == []
        note = ann.tell("/api/answers", answers=[{"id": held, "note": "blurred"}], nonce="b", found=True)
        assert note["items"][0]["mine"]["note"] == "blurred", "a note is no answer"
        taken = ann.tell("/api/answers", answers=said[:1], nonce="c", found=True)
        assert taken["counts"]["new"] == 1
        assert ann.tell("/api/answers", answers=said[:1], nonce="c", found=True)["counts"]["new"] == 0
        bob.tell("/api/answers", answers=[{"id": held, "label": "red"}], nonce="d")
        assert ann.tell("/api/answers", answers=[said[1]], nonce="e", found=True)["counts"]["new"] == 1, "bob is done"
        late = ann.tell("/api/answers", answers=[said[2]], nonce="f")
        assert late["counts"]["new"] == 1, "what was handed out once is taken, however late"
        assert ann.tell("/api/answers", answers=[{**said[2], "label": "blue"}], nonce="g", found=True)["counts"][
            "corrected"
        ]


def test_who_answers_what_they_found_has_it_until_the_answer_is_there(run: Path, monkeypatch: pytest.MonkeyPatch):
    """Nobody gets it between the look whether it is free and the ledger."""
    with page_of(run) as page, page.browser() as ann, page.browser("bob") as bob:
        page.ready("random")
        first = ann.look("/api/items", order="random", n=1)["items"][0]["id"]
        tell, got = Teller.tell, list[str]()

        def slowly(teller: Teller, *given: Any) -> Any:
            got.extend(item["id"] for item in bob.tell("/api/next", n=2, order="random")["items"])
            return tell(teller, *given)

        monkeypatch.setattr(Teller, "tell", slowly)
        ann.tell("/api/answers", answers=[{"id": first, "label": "red"}], nonce="a", found=True)
        monkeypatch.undo()
        assert len(got) == 2
        assert first not in got
        assert not page.desk.handouts.claim("bob", [ann.look(f"/api/item/{first}")["key"]]), "it was given back"


def test_where_several_people_get_an_item_nobody_is_in_the_way(run: Path):
    with page_of(run, per_item=2) as page, page.browser() as ann, page.browser("bob") as bob:
        page.ready("random")
        theirs = bob.tell("/api/next", n=1, order="random")["items"][0]["id"]
        said = ann.tell("/api/answers", answers=[{"id": theirs, "label": "red"}], nonce="a", found=True)
        assert said["counts"]["new"] == 1


def test_with_per_item_two_every_item_gets_two_people_and_no_third(run: Path):
    with page_of(run, per_item=2) as page:
        people = [page.browser(name) for name in ("ann", "bob", "cid")]
        handed = [{item["key"] for item in person.tell("/api/next", n=16)["items"]} for person in people]
        assert Counter(key for keys in handed for key in keys).most_common(1)[0][1] == 2
        assert sum(map(len, handed)) == 32
        for number, person in enumerate(people):
            items = person.tell("/api/next", n=16)["items"]
            said = [answer(item, label="red") for item in items]
            if said:
                person.tell("/api/answers", answers=said, nonce=f"n{number}")
        assert people[0].look("/api/run")["batch"]["waiting"] == 0
        assert people[0].look("/api/run")["per_item"] == 2
        for person in people:
            person.close()
    assert Counter(Counter(key for key, _ in held(run)).values()) == {2: 16}


@pytest.mark.parametrize("order", ["likeliest", "uncertain", "random"])
def test_with_per_item_two_an_order_offers_an_item_until_two_people_answered_it(run: Path, order: str):
    with page_of(run, per_item=2) as page, page.browser("ann") as ann, page.browser("bob") as bob:
        page.ready(order)
        mine = ann.tell("/api/next", n=12, order=order)["items"]
        ann.tell("/api/answers", answers=[answer(item, label="red") for item in mine], nonce="a")
        mine = [item for item in mine if not item["others"]]  # what was labelled before has two people now
        assert len(mine) > 5
        seq = page.desk.labels.ledger.head_seq
        while page.desk.follower.orders.seq < seq:
            page.desk.wait_for_change(30)
        assert {item["key"] for item in mine} <= {i["key"] for i in bob.tell("/api/next", n=50, order=order)["items"]}
        assert not {i["key"] for i in ann.tell("/api/next", n=50, order=order)["items"]} & {i["key"] for i in mine}


def test_many_at_once_over_two_servers_lose_nothing_and_double_nothing(run: Path):
    with page_of(run) as first, page_of(run) as second:
        found = []

        def work(page: Page, order: str) -> None:
            host, port = page.address.removeprefix("http://").split(":")
            found.append(
                load(
                    host, int(port), run / "ledger.sqlite",
                    annotators=3, answers=4, hold=2, order=order, token=TOKEN, prefix=f"{port} ",
                )
            )  # fmt: skip

        first.ready("random")
        second.ready("random")
        threads = [threading.Thread(target=work, args=(page, "random")) for page in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert [one.lost for one in found] == [0, 0]
        assert [one.answers for one in found] == [12, 12]
        everyone: dict[str, set[str]] = {}
        for load_found in found:
            for key, people in load_found.held.items():
                everyone.setdefault(key, set()).update(people)
        assert max(map(len, everyone.values())) == 1
        assert len(held(run)) == 24
        with first.browser() as browser:
            assert sum(person["labels"] for person in browser.look("/api/run")["annotators"] if person["name"]) == 24


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"answers": [{"id": "0", "label": "red"}]}, 422, "nonce"),
        ({"answers": [], "nonce": "n"}, 422, "0 of them"),
        ({"answers": "all", "nonce": "n"}, 422, "list"),
        ({"answers": [{"id": "99999", "label": "red"}], "nonce": "n"}, 404, "not in the pool"),
        ({"answers": [{"id": "../1", "label": "red"}], "nonce": "n"}, 422, "no id"),
        ({"answers": [{"id": True, "label": "red"}], "nonce": "n"}, 422, "no id"),
        ({"answers": [{"id": "0", "key": "some/0001.jpg", "label": "red"}], "nonce": "n"}, 422, "some/0001.jpg"),
        ({"answers": [{"id": "0", "label": ""}], "nonce": "n"}, 422, "empty"),
        ({"answers": [{"id": "0", "label": 3}], "nonce": "n"}, 422, "another type"),
        ({"answers": [{"id": "0", "label": "\ud800"}], "nonce": "n"}, 422, "Unicode"),
        ({"answers": [{"id": "0", "label": "red", "skip": True}], "nonce": "n"}, 422, "several"),
        ({"answers": [{"id": "0"}], "nonce": "n"}, 422, "nothing"),
        ({"answers": [{"id": "0", "rating": 6}], "nonce": "n"}, 422, "0 to 5"),
        ({"answers": [{"id": "0", "note": "x" * 5000}], "nonce": "n"}, 422, "5000"),
        ({"answers": [{"id": "0", "label": "a"}, {"id": "0", "label": "b"}], "nonce": "n"}, 422, "twice"),
        ({"answers": [{"id": "1", "label": "fine"}, {"id": "0", "label": " "}], "nonce": "n"}, 422, "empty"),
        ({"answers": [{"id": "0", "label": " ", "note": "a note"}], "nonce": "n"}, 422, "empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_accepted_is_refused_whole(
    untold: tuple[Page, Path], body: dict[str, object], status: int, word: str
):
    page, run = untold
    with page.browser() as browser:
        found, said = browser.refused("/api/answers", body)
        assert found == status
        assert word in said
        assert browser.tell("/api/undo", nonce="back") == {"items": [], "undone": None}, "there is nothing to take back"
    assert held(run) == {}


def test_a_label_that_is_refused_leaves_no_note(page: Page, run: Path):
    with page.browser() as browser:
        browser.refused("/api/answers", {"answers": [{"id": "0", "label": " ", "note": "a note"}], "nonce": "n"})
        assert browser.look("/api/item/0")["mine"] is None


def test_what_was_imported_comes_back_with_its_weight(page: Page, run: Path):
    with page.browser() as browser:
        (item,) = browser.look("/api/items", order="batch", n=1)["items"]
        with Session.open(run) as session:
            session.tell([Label(key=item["key"], label="other", annotator="ann", weight=0.25)])
        browser.tell("/api/answers", answers=[answer(item, label="red")], nonce="one")
        browser.tell("/api/undo", nonce="back")
    with Ledger(run / "ledger.sqlite", create=False) as ledger:
        (label,) = [label for label in ledger.answers() if label.annotator == "ann"]
    assert (label.label, label.weight) == ("other", 0.25)


def test_nobody_answers_without_a_name_and_odd_names_are_kept(page: Page, run: Path):
    with (
        page.browser("") as nobody,
        page.browser("%20") as blank,
        page.browser("J%C3%B6rg%20%E7%8C%AB%20%3Cb%3E") as odd,
    ):
        for browser in (nobody, blank):
            for path in ("next", "renew", "release", "undo"):
                body = {"ids": ["1"], "nonce": "n"}
                assert browser.refused(f"/api/{path}", body) == (422, "annotator: nobody is named; say who you are")
        told = odd.tell("/api/answers", answers=[{"id": "0", "label": 'a "class" <of> |\u732b'}], nonce="n")
        assert told["items"][0]["mine"]["label"]
        assert {person["name"] for person in odd.look("/api/run")["annotators"]} == {"", "J\u00f6rg \u732b <b>"}
    assert {who for _, who in held(run)} == {"J\u00f6rg \u732b <b>"}


def test_a_class_that_looks_like_another_one_is_taken_and_said(page: Page):
    with page.browser() as browser:
        with pytest.warns(UserWarning, match="but for case"):
            told = browser.tell("/api/answers", answers=[{"id": "0", "label": "Red"}], nonce="n")
        assert told["warnings"] == ["class 'Red' is 'red' but for case"]
        assert told["items"][0]["mine"]["label"] == "Red"
