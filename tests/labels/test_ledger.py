"""The ledger agrees with a model that keeps every call in a list and computes each answer from the whole list."""

import math
import sqlite3
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from raysal.errors import Damaged, LabelError, RunError
from raysal.labels import STATES, Ledger
from raysal.labels.events import EventLog
from raysal.labels.records import Said
from raysal.types import SKIP, Label

IDS = st.integers(0, 5).map(lambda n: n + 2**41)
ANNOTATORS = st.sampled_from(["", "ann", "bob"])
TOLD = st.tuples(IDS, st.sampled_from("xy"), ANNOTATORS, st.sampled_from([0.1, 0.2, 0.3, 1.0]))


def key_of(id):
    return f"dir/é {id}.png"


def as_labels(entries):
    return [(id, Label(key=key_of(id), label=text, annotator=who, weight=weight)) for id, text, who, weight in entries]


class Model:
    """Every call that was made, in order. It reads the whole list for each answer."""

    def __init__(self):
        self.calls = []

    def answers(self, id):
        newest = {}
        for call in self.calls:
            if call[0] in ("tell", "skip") and call[1] == id:
                newest[call[2]] = call[3:] if call[0] == "tell" else None
            elif call[0] == "withdraw" and call[1] == id:
                newest.pop(call[2], None)
        return newest

    def lease(self, id):
        leased = None
        for call in self.calls:
            if call[0] == "lease" and call[1] == id:
                leased = call[2]
            elif call[0] == "release" and call[1] == id:
                leased = None
        return leased

    def last_round(self, id):
        rounds = [call[2] for call in self.calls if call[0] == "lease" and call[1] == id]
        return rounds[-1] if rounds else None

    def state(self, id):
        answers = self.answers(id)
        texts = {answer[0] for answer in answers.values() if answer is not None}
        if texts:
            return "labeled" if len(texts) == 1 else "disputed"
        return "skipped" if answers else "unlabeled" if self.lease(id) is None else "leased"

    def seen(self):
        return sorted({call[1] for call in self.calls if call[0] not in ("release", "withdraw")})

    def labels(self):
        found = []
        for id in self.seen():
            if self.state(id) == "labeled":
                held = [answer for answer in self.answers(id).values() if answer is not None]
                weight = math.fsum(weight for _, weight in held)
                found.append((id, key_of(id), held[0][0], weight, self.last_round(id)))
        return found

    def votes(self):
        """{id: ({label: share}, weight)} of the items for which somebody holds a label."""
        found = {}
        for id in self.seen():
            held = [answer for answer in self.answers(id).values() if answer is not None]
            total = math.fsum(weight for _, weight in held)
            names = sorted({text for text, _ in held})
            shares = {name: math.fsum(weight for text, weight in held if text == name) / total for name in names}
            if held:
                found[id] = (shares, total)
        return found


def shown(ledger, upto=None):
    return [(item.id, item.key, item.label, item.weight, item.round) for item in ledger.labels(upto)]


def shared(ledger, upto=None, ids=None):
    found = ledger.labels(upto, ids, votes=True)
    for item in found:
        assert (item.answer, item.texts) == (dict(item.shares) or item.label, tuple(dict(item.shares)) or (item.label,))
        assert item.label == max(
            sorted(dict(item.shares) or {item.label: 1.0}), key=lambda n: dict(item.shares).get(n, 1)
        )
    return {item.id: (dict(item.shares) or {item.label: 1.0}, item.weight) for item in found}


class LedgerMachine(RuleBasedStateMachine):
    @initialize(folder=st.uuids())
    def start(self, folder):
        self.path = Path(self.root) / f"{folder}.sqlite"
        self.path.unlink(missing_ok=True)
        self.ledger, self.model, self.past = Ledger(self.path), Model(), {}
        self.voted = {}

    def teardown(self):
        if hasattr(self, "ledger"):
            self.ledger.close()

    @rule(round=st.integers(0, 2), ids=st.lists(IDS, unique=True, max_size=4))
    def lease(self, round, ids):
        self.ledger.lease(round, np.array(ids, np.int64), [key_of(id) for id in ids])
        self.model.calls += [("lease", id, round) for id in ids]

    @rule(ids=st.lists(IDS, max_size=3))
    def release(self, ids):
        self.ledger.release(ids)
        self.model.calls += [("release", id) for id in ids]

    @rule(entries=st.lists(TOLD, max_size=5), times=st.integers(1, 2))
    def tell(self, entries, times):
        for again in range(times):
            before = self.ledger.head_seq
            told = self.ledger.tell(as_labels(entries), round=7)
            assert told.new + told.corrected + told.repeated == len(entries)
            assert self.ledger.head_seq - before == told.new + told.corrected
            if again and len({(id, who) for id, _, who, _ in entries}) == len(entries):
                assert told.repeated == len(entries)
        self.model.calls += [("tell", id, who, text, weight) for id, text, who, weight in entries]
        assert told.disputed == sum(self.model.state(id) == "disputed" for id in {entry[0] for entry in entries})

    @rule(id=IDS, who=ANNOTATORS)
    def skip(self, id, who):
        held = self.model.answers(id)
        assert self.ledger.skip(id, key_of(id), who) == (who not in held or held[who] is not None)
        self.model.calls.append(("skip", id, who))

    @rule(id=IDS, who=ANNOTATORS)
    def withdraw(self, id, who):
        assert self.ledger.withdraw(key_of(id), who) == (who in self.model.answers(id))
        self.model.calls.append(("withdraw", id, who))

    @rule()
    def reopen(self):
        self.ledger.close()
        self.ledger = Ledger(self.path, create=False)

    @invariant()
    def agrees(self):
        ledger, model = self.ledger, self.model
        states = {id: model.state(id) for id in model.seen()}
        assert shown(ledger) == model.labels()
        assert {id: ledger.state(id) for id in states} == states
        assert ledger.counts() == {state: list(states.values()).count(state) for state in STATES}
        excluded = ledger.excluded()
        assert excluded.dtype == np.int64
        assert excluded.tolist() == [id for id, state in states.items() if state != "unlabeled"]
        assert [(label.key, label.annotator, label.label, label.weight) for label in ledger.answers()] == [
            (key_of(id), who, *answer)
            for id in model.seen()
            for who, answer in sorted(model.answers(id).items())
            if answer is not None
        ]
        for round in (None, 0, 1, 2):
            leased = {id for id, state in states.items() if state == "leased" and round in (None, model.lease(id))}
            assert set(ledger.outstanding(round)) == {(id, key_of(id)) for id in leased}
        self.past[ledger.head_seq] = model.labels()
        self.voted[ledger.head_seq] = model.votes()

    @invariant()
    def remembers(self):
        now = {id: (text, weight) for id, _, text, weight, _ in self.model.labels()}
        for seq, labels in [*self.past.items()][:: max(len(self.past) // 3, 1)]:
            assert shown(self.ledger, upto=seq) == labels
            then = {id: (text, weight) for id, _, text, weight, _ in labels}
            changes = self.ledger.changed_since(seq)
            assert changes.new.tolist() == sorted(now.keys() - then.keys())
            assert changes.lost.tolist() == sorted(then.keys() - now.keys())
            both = sorted(now.keys() & then.keys())
            assert changes.corrected.tolist() == [id for id in both if now[id][0] != then[id][0]]
            assert changes.reweighted.tolist() == [
                id for id in both if now[id][0] == then[id][0] and now[id][1] != then[id][1]
            ]
            assert bool(changes) == (now != then)
        counted = self.model.votes()
        for seq, then in [*self.voted.items()][:: max(len(self.voted) // 3, 1)]:
            some = np.array([*counted][::2], np.int64)
            assert shared(self.ledger, upto=seq, ids=some) == {id: then[id] for id in some.tolist() if id in then}
            changes = self.ledger.changed_since(seq, votes=True)
            assert changes.new.tolist() == sorted(counted.keys() - then.keys())
            assert changes.lost.tolist() == sorted(then.keys() - counted.keys())
            both = sorted(counted.keys() & then.keys())
            assert changes.corrected.tolist() == [id for id in both if counted[id][0] != then[id][0]]
            assert changes.reweighted.tolist() == [
                id for id in both if counted[id][0] == then[id][0] and counted[id] != then[id]
            ]


def test_any_history_gives_what_the_model_says(tmp_path):
    machine = type("Machine", (LedgerMachine,), {"root": tmp_path})
    run_state_machine_as_test(machine, settings=settings(max_examples=16, stateful_step_count=20))


@given(entries=st.lists(TOLD, max_size=12), cuts=st.sets(st.integers(0, 12)), repeat=st.booleans())
@settings(max_examples=15)
def test_how_labels_are_split_into_calls_does_not_matter(tmp_path_factory, entries, cuts, repeat):
    folder = tmp_path_factory.mktemp("split")
    edges = [0, *sorted(cut for cut in cuts if cut < len(entries)), len(entries)]
    with Ledger(folder / "once") as once, Ledger(folder / "split") as split:
        once.tell(as_labels(entries))
        for begin, end in pairwise(edges):
            for _ in range(1 + repeat):
                split.tell(as_labels(entries[begin:end]))
        assert shown(once) == shown(split)
        assert once.counts() == split.counts()


@given(entries=st.lists(TOLD, max_size=8, unique_by=lambda entry: (entry[0], entry[2])), order=st.randoms())
@settings(max_examples=15)
def test_the_order_of_annotators_does_not_matter(tmp_path_factory, entries, order):
    folder = tmp_path_factory.mktemp("order")
    mixed = list(entries)
    order.shuffle(mixed)
    with Ledger(folder / "a") as a, Ledger(folder / "b") as b:
        a.tell(as_labels(entries))
        b.tell(as_labels(mixed))
        assert shown(a) == shown(b)
        assert a.excluded().tolist() == b.excluded().tolist()


def one(id=1, text="cat", key=None, **fields):
    return id, Label(key=key or f"k{id}", label=text, **fields)


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


@pytest.mark.parametrize(
    ("bad", "names"),
    [
        (one(2, " "), ["k2", "label"]),
        (one(2, weight=0.0), ["k2", "weight"]),
        (one(2, weight=math.nan), ["k2", "weight"]),
        (one(2, weight=math.inf), ["k2", "weight"]),
        (one(2, weight="1"), ["k2", "weight"]),
        (one(2, text=True), ["k2", "label"]),
        (one(2, text="\ud800"), ["k2", "label"]),
        (one(2, annotator="\ud800"), ["k2", "annotator"]),
        ((2, Label(key="", label="cat")), ["key", "empty"]),
        (one(1, key="other"), ["other", "k1"]),
        (one(2, key="k1"), ["k1", "id 2"]),
        (one(2**63), ["64 bits"]),
    ],
)
def test_one_bad_label_and_nothing_of_the_call_is_kept(ledger, bad, names):
    with pytest.raises(LabelError) as caught:
        ledger.tell([one(1), one(3), bad])
    assert all(name in str(caught.value) for name in names)
    assert ledger.head_seq == 0
    assert ledger.counts()["labeled"] == 0


def test_a_label_is_stripped_and_its_key_is_not(ledger):
    ledger.tell([(1, Label(key=" k ", label=" cat\n", annotator=" ann "))])
    assert ledger.tell([(1, Label(key=" k ", label="cat", annotator="ann"))]).repeated == 1
    assert [(item.key, item.label) for item in ledger.labels()] == [(" k ", "cat")]


def test_what_a_label_may_be(ledger):
    for bad in (1.5, "1"):
        with pytest.raises(TypeError):
            ledger.tell([(bad, Label(key="k", label="cat"))])
    with pytest.raises(LabelError, match="'k': the ledger does not know it"):
        ledger.tell([(None, Label(key="k", label="cat"))])
    ledger.tell([(np.int64(2**62), Label(key="k", label="cat", weight=np.float32(0.5)))])
    assert [(item.id, item.weight) for item in ledger.labels()] == [(2**62, 0.5)]


def test_leases_repeat_keep_their_order_and_know_their_keys(ledger):
    for _ in range(2):
        ledger.lease(0, [9, 3, 5], ["c", "a", "b"])
    assert ledger.head_seq == 3
    assert ledger.outstanding() == [(9, "c"), (3, "a"), (5, "b")]
    assert ledger.key_ids(["a", "c", "zz"]) == {"a": 3, "c": 9}
    ledger.tell([one(3, key="a")])
    ledger.skip(5, "b")
    assert ledger.outstanding(0) == [(9, "c")]
    ledger.withdraw("a")
    assert ledger.outstanding(0) == [(9, "c"), (3, "a")]
    with pytest.raises(RunError, match="'a'"):
        ledger.lease(1, [4, 3], ["d", "x"])
    assert ledger.state(4) == "unlabeled"


def test_agreement_adds_the_evidence_and_disagreement_removes_it(ledger):
    ledger.tell([one(1, annotator="ann", weight=0.5), one(1, annotator="bob")])
    ledger.lease(3, [1], ["k1"])
    ledger.skip(1, "k1", "eve")  # a skip does not make labels disagree
    assert [(item.weight, item.seq, item.round) for item in ledger.labels()] == [(1.5, 2, 3)]
    assert ledger.tell([one(1, "dog", annotator="bob")]).disputed == 1
    assert ledger.labels() == []
    assert ledger.withdraw("k1", "bob")
    assert [(item.label, item.weight, item.seq) for item in ledger.labels()] == [("cat", 0.5, 6)]


def test_what_is_said_of_some_items_is_told_without_the_others(ledger):
    ledger.lease(3, [1, 2], ["k1", "k2"])
    ledger.tell([one(1, "cat", annotator="ann"), one(1, "dog", annotator="bob"), one(4, SKIP, annotator="ann")])
    found = ledger.said(["k4", "k9", "k1", "k2"])
    assert list(found) == ["k4", "k1", "k2"]
    assert found["k1"] == Said(
        state="disputed", answers={"ann": "cat", "bob": "dog"}, weights={"ann": 1.0, "bob": 1.0}, round=3
    )
    assert found["k4"] == Said(state="skipped", answers={"ann": SKIP}, weights={}, round=None)
    assert found["k2"] == Said(state="leased", answers={}, weights={}, round=3)
    assert {key: set(who) for key, who in ledger.answerers([f"k{i}" for i in range(9)]).items()} == {
        "k1": {"ann", "bob"}, "k4": {"ann"},
    }  # fmt: skip


def test_a_ledger_older_than_what_refers_to_it_is_refused(ledger):
    ledger.tell([one(1)])
    for ask in (ledger.labels, ledger.changed_since):
        with pytest.raises(Damaged, match="event 2"):
            ask(2)


def test_what_the_news_costs_does_not_depend_on_the_events_before(tmp_path, monkeypatch):
    """SQLite takes as many steps, and the ledger reads as many events, after few earlier events as after many."""

    steps, seqs, read = [], [], EventLog.events
    monkeypatch.setattr(EventLog, "events", lambda log, asked: read(log, seqs.extend(asked) or asked))

    def taken(count):
        with Ledger(tmp_path / f"{count}.sqlite") as ledger:
            ledger.tell([one(id) for id in range(count)])
            before = ledger.head_seq
            ledger.tell([one(7, "dog"), one(count)])
            ledger.withdraw("k9")
            steps.clear()
            seqs.clear()
            ledger._log._db.set_progress_handler(lambda: steps.append(1), 1)
            changes = ledger.changed_since(before)
            ledger.labels(upto=before, ids=changes.lost)
            assert (changes.new.tolist(), changes.corrected.tolist(), changes.lost.tolist()) == ([count], [7], [9])
        return len(steps), sorted(seq if seq <= 10 else seq - count for seq in seqs)

    few = taken(20)
    assert few[0] > 0
    assert few[1] == [1, 2, 3, 8, 10, 10]
    assert taken(2000) == few


def test_two_processes_see_each_other(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as mine:
        mine.lease(0, [1, 2], ["k1", "k2"])
        code = (
            "import sys; from raysal.labels import Ledger; from raysal.types import Label\n"
            "ledger = Ledger(sys.argv[1], create=False); print(ledger.outstanding())\n"
            "ledger.tell([(1, Label(key='k1', label='cat'))]); ledger.close()"
        )
        answer = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
        assert answer.stdout.strip() == "[(1, 'k1'), (2, 'k2')]"
        assert mine.tell([one(1)]).repeated == 1
        assert mine.outstanding() == [(2, "k2")]
        with Ledger(path) as other:
            other.tell([one(2)])
        assert mine.excluded().tolist() == [1, 2]


def test_a_writer_waits_for_its_turn_or_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("raysal.labels.events.BUSY_SECONDS", 0.0)
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RunError, match="another process"):
            ledger.tell([one(1)])
        other.close()
        assert ledger.tell([one(1)]).new == 1


def test_the_head_survives_an_interrupted_catch_up(ledger, monkeypatch):
    ledger.tell([one(1), one(2)])
    with Ledger(ledger.path) as other:
        other.tell([one(3), one(4)])

    def interrupted(items, events):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("raysal.labels.state.apply_events", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ledger.counts()
    assert ledger.counts()["labeled"] == 4
