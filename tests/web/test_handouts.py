"""No two people hold one item; what expires comes back; a lost or broken file costs nothing but the hand-outs."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from raysal.errors import NotNow, RunError
from raysal.web import handouts
from raysal.web.handouts import FILE, KEPT_TURNS, HandOuts, Turn

KEYS = [f"k{i:02d}" for i in range(40)]


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def nobody(keys):
    return {}


def test_what_one_person_holds_no_other_gets_until_it_expires(tmp_path: Path):
    clock = Clock()
    hand = HandOuts(tmp_path, seconds=60, clock=clock)
    first, until = hand.take("ann", 3, "likeliest", KEYS, nobody)
    assert (first, until) == (KEYS[:3], 1060.0)
    assert hand.take("bob", 3, "likeliest", KEYS, nobody)[0] == KEYS[3:6]
    clock.seconds += 30
    assert hand.take("ann", 5, "likeliest", KEYS, nobody)[0] == [*KEYS[:3], *KEYS[6:8]]  # held ones count
    clock.seconds += 31  # bob's are over, ann's were renewed
    assert hand.take("cid", 4, "likeliest", KEYS, nobody)[0] == [*KEYS[3:6], KEYS[8]]
    assert hand.renew("bob", KEYS[3:5], nobody)[0] == KEYS[3:5]
    assert hand.renew("ann", KEYS[:2], nobody)[0] == []


def test_who_has_items_and_until_when(tmp_path: Path):
    clock = Clock()
    hand = HandOuts(tmp_path, seconds=60, clock=clock)
    hand.take("ann", 2, "batch", KEYS, nobody, "one")
    clock.seconds += 10
    hand.take("bob", 2, "batch", KEYS, nobody)
    hand.take("cid", 1, "batch", KEYS, nobody)
    assert hand.holders("cid", KEYS[:4]) == [("ann", 1060.0), ("bob", 1070.0)]
    assert hand.holders("ann", KEYS[:2], "one") == []
    assert hand.holders("ann", KEYS[:2], "two") == [("ann", 1060.0)]
    clock.seconds += 50
    assert hand.holders("cid", KEYS[:4]) == [("bob", 1070.0)], "what is over is nobody's"


def test_what_nobody_else_has_is_still_the_annotators_when_it_is_renewed(tmp_path: Path):
    clock, said = Clock(), {}
    answers = lambda keys: {key: said[key] for key in keys if key in said}  # noqa: E731
    hand = HandOuts(tmp_path, seconds=60, clock=clock)
    hand.take("ann", 4, "batch", KEYS, answers)
    said |= {"k00": ["ann"], "k01": ["ann"]}
    hand.release("ann", KEYS[:2])
    assert hand.renew("ann", KEYS[:4], answers)[0] == []  # answered by ann: neither held nor lost
    del said["k00"]  # undone
    assert hand.renew("ann", KEYS[:1], answers)[0] == []
    assert hand.take("bob", 1, "batch", KEYS, answers)[0] == KEYS[4:5]
    clock.seconds += 61  # the page slept
    assert hand.renew("ann", KEYS[:4], answers)[0] == []
    said["k02"] = ["bob"]
    hand.release("ann", KEYS[2:3])
    assert hand.renew("ann", KEYS[2:4], answers)[0] == KEYS[2:3]


def test_another_order_gives_back_what_was_held_for_the_last_one(tmp_path: Path):
    hand = HandOuts(tmp_path)
    hand.take("ann", 4, "batch", KEYS, nobody)
    assert hand.take("ann", 2, "random", KEYS[::-1], nobody)[0] == KEYS[::-1][:2]
    assert hand.take("bob", 4, "batch", KEYS, nobody)[0] == KEYS[:4]


def test_tabs_of_one_person_hold_different_items_and_give_back_their_own(tmp_path: Path):
    clock = Clock()
    hand = HandOuts(tmp_path, seconds=60, clock=clock, per_item=2)
    assert hand.take("ann", 3, "batch", KEYS, nobody, "left")[0] == KEYS[:3]
    assert hand.take("ann", 3, "batch", KEYS, nobody, "right")[0] == KEYS[3:6]
    assert hand.take("ann", 1, "random", KEYS[::-1], nobody, "right")[0] == KEYS[-1:]
    assert hand.take("ann", 4, "batch", KEYS, nobody, "left")[0] == KEYS[:4], "what the other tab gave back is free"
    hand.release("ann", KEYS[:2], "right")
    assert hand.renew("ann", KEYS[:2], nobody, "right")[0] == KEYS[:2], "they are with the other tab"
    assert hand.renew("ann", KEYS[:2], nobody, "left")[0] == []
    hand.release("ann", KEYS[:1])
    assert hand.take("bob", 1, "x", KEYS[:1], nobody)[0] == KEYS[:1]
    clock.seconds += 61
    assert hand.take("ann", 2, "batch", KEYS, nobody, "right")[0] == KEYS[:2], "a tab that is gone keeps nothing"


def test_answered_items_are_free_for_nobody_or_for_as_many_as_are_asked_for(tmp_path: Path):
    said = {"k00": ["ann"], "k01": ["ann", "bob"], "k02": ["cid"]}
    answers = lambda keys: {key: said[key] for key in keys if key in said}  # noqa: E731
    assert HandOuts(tmp_path).take("dee", 2, "x", KEYS, answers)[0] == ["k03", "k04"]
    both = HandOuts(tmp_path, per_item=2)
    assert both.take("ann", 2, "x", KEYS, answers)[0] == ["k02", "k03"]  # not what ann answered, dee holds k03 too
    assert both.take("cid", 3, "x", KEYS, answers)[0] == ["k00", "k04", "k05"]


def test_what_somebody_else_answered_meanwhile_is_held_no_more(tmp_path: Path):
    hand = HandOuts(tmp_path)
    hand.take("ann", 2, "x", KEYS, nobody)
    assert hand.take("ann", 2, "x", KEYS, lambda keys: {"k00": ["bob"]} if "k00" in keys else {})[0] == ["k01", "k02"]


def test_servers_of_several_processes_share_them_and_threads_never_double(tmp_path: Path):
    servers = [HandOuts(tmp_path) for _ in range(3)]
    held: dict[str, list[str]] = {}

    def work(number: int) -> None:
        name = f"p{number}"
        held[name] = [key for _ in range(4) for key in servers[number % 3].take(name, 4, "x", KEYS, nobody)[0]]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = [key for keys in held.values() for key in set(keys)]
    assert sorted(everything) == sorted(set(everything))
    assert len(everything) == 36


@pytest.mark.parametrize("damage", [b"no database at all" * 100, b""])
def test_a_broken_file_is_begun_anew(tmp_path: Path, damage: bytes):
    HandOuts(tmp_path).take("ann", 3, "x", KEYS, nobody)
    (tmp_path / FILE).write_bytes(damage)
    assert HandOuts(tmp_path).take("bob", 3, "x", KEYS, nobody)[0] == KEYS[:3]


def test_a_closed_one_says_so_and_a_missing_directory_too(tmp_path: Path):
    hand = HandOuts(tmp_path)
    hand.close()
    with pytest.raises(RunError, match="was closed"):
        hand.take("ann", 1, "x", KEYS, nobody)
    with pytest.raises(NotNow, match="cannot be opened or written"):
        HandOuts(tmp_path / "nowhere")


def test_a_busy_file_is_no_wrong_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(handouts, "_BUSY_SECONDS", 0.05)
    HandOuts(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(NotNow, match="another process is writing"):
            HandOuts(tmp_path)


def test_nonces_are_kept_for_ever_and_what_was_replaced_of_the_last_ones(tmp_path: Path):
    hand = HandOuts(tmp_path)
    hand.begin_turn(Turn("broken off", "ann", "answers", [{"id": -1, "key": "k", "label": "red"}], "begun"))
    for number in range(KEPT_TURNS + 5):
        turn = Turn(f"n{number}", "ann", "answers", [{"id": number, "key": f"k{number}", "label": "red"}], "begun")
        assert hand.begin_turn(turn) is None
        assert hand.begin_turn(turn) == turn
        hand.end_turn(turn.nonce)
    hand.begin_turn(Turn("other", "bob", "answers", [], "begun"))
    last = hand.last_turn("ann")
    assert last is not None
    assert (last.nonce, last.state) == (f"n{KEPT_TURNS + 4}", "done")
    assert hand.turn("n4") == Turn("n4", "ann", "answers", [{"id": 4, "key": "k4"}], "old")
    assert hand.turn("n5") == Turn("n5", "ann", "answers", [{"id": 5, "key": "k5", "label": "red"}], "done")
    assert hand.turn("broken off") == Turn("broken off", *turn[1:3], [{"id": -1, "key": "k", "label": "red"}], "begun")
    assert len(hand.turns_after("broken off")) == KEPT_TURNS + 5, "what it must not overwrite"
    hand.end_turn(last.nonce, "undone")
    assert HandOuts(tmp_path).last_turn("ann") == hand.turn(f"n{KEPT_TURNS + 3}")
