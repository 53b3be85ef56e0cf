"""The head follows every label at once: evidence counted once however it comes, taken back exactly, at a cost that does
not depend on the pool; and the round says what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frames import prior_precision
from pools import make_pool, mixture
from programs import local

from raysal.errors import Damaged, FingerprintMismatch, LabelError
from raysal.fleet import LocalFleet
from raysal.models.head import Head
from raysal.models.trainers.base import Context, TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.pool import Pool
from raysal.pool.chunk import Chunk
from raysal.rng import derive
from raysal.rounds.session import Session
from raysal.store import read_sealed, write_sealed
from raysal.types import Label

N, DIM, HUGE = 220, 6, 219
UPDATE: dict[str, Any] = {"mode": "laplace", "retrain_every": 99, "retrain_share": 99.0, "retrain_drift": 99.0}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    vectors, labels = mixture(N, DIM, classes=3)
    vectors[HUGE] *= 6e4 / np.abs(vectors[HUGE]).max()
    return make_pool(tmp_path_factory.mktemp("live") / "pool", vectors, chunk_rows=50, labels=labels)


@pytest.fixture(scope="module")
def truth(pool: Pool) -> dict[str, str]:
    tables = list(pool.items(["key", "label"]))
    return {k: v for t in tables for k, v in zip(t["key"].to_pylist(), t["label"].to_pylist(), strict=True)}


def start(pool: Pool, out: Path, fleet: Any = None, **update: Any) -> Session:
    fields = {"select": "random", "start": "random", "rounds": {"k": 20}, "seed": 3, "fleet": fleet}
    return Session(out, pool=pool, **fields, update={**UPDATE, **update})


@pytest.fixture
def session(pool: Pool, truth: dict[str, str], tmp_path: Path) -> Iterator[Session]:
    """A round answered, and a second one asked for: there is a head."""
    with start(pool, tmp_path / "run") as session:
        begin(session, truth)
        yield session


def begin(session: Session, truth: dict[str, str]) -> list[str]:
    """The keys of the second batch, which has no answer yet."""
    session.tell({key: truth[key] for key in session.query().keys})
    return session.query().keys


def expected(session: Session, votes: bool = False) -> np.ndarray:
    """The precision of everything in the ledger, each item once, at the last fit's prior."""
    items = session.ledger.labels(votes=votes)
    vectors = np.concatenate([chunk.vectors() for chunk in session.pool.chunks]).astype(np.float64)
    rows = np.column_stack([vectors[[item.id for item in items]], np.ones(len(items))])
    head = session.current_head()
    assert head is not None
    assert head.labels_seen == len(items)
    return prior_precision(head) + (rows.T * [item.weight for item in items]) @ rows


def counts_once(session: Session, votes: bool = False) -> bool:
    head = session.current_head()
    assert head is not None
    product = head.covariance @ expected(session, votes)
    return bool(np.abs(product - np.eye(DIM + 1)).max() < 1e-6)


def follows(session: Session) -> bool:
    """The live head has the evidence that the next round's has, which is an update too."""
    live = session.current_head()
    assert counts_once(session)
    session.query()
    after = session.run.head(session.rounds - 1)
    assert live is not None
    assert after is not None
    assert session.record(session.rounds - 1)["decision"].startswith("updated")
    assert live.labels_seen == after.labels_seen
    return bool(np.abs(live.covariance - after.covariance).max() <= 1e-9 * after.covariance.max())


def test_one_label_moves_the_head_at_once_and_the_next_round_has_the_same_evidence(session, truth):
    before, key = session.current_head(), session.batch(1).keys[0]
    session.tell({key: truth[key]})
    assert session.current_head().ledger_seq == session.ledger.head_seq
    assert not np.array_equal(session.current_head().mean, before.mean)
    vector = session.pool.rows_where("key", [key], ["id"])["id"].to_pylist()
    rows = np.concatenate([chunk.vectors() for chunk in session.pool.chunks])[vector].astype(np.float64)
    column = session.current_head().classes.index(truth[key])
    assert session.current_head().probabilities(rows)[0, column] > before.probabilities(rows)[0, column]
    assert follows(session)


def test_labels_one_by_one_or_at_once_are_the_same_evidence(pool, truth, tmp_path):
    heads = []
    for turn in ("one by one", "at once", "backwards and twice"):
        with start(pool, tmp_path / turn.replace(" ", "-")) as session:
            told = {key: truth[key] for key in begin(session, truth)}
            for label in [told] if turn == "at once" else [{key: told[key]} for key in told]:
                session.tell(label)
            if turn.startswith("backwards"):
                session.tell([Label(key=key, label=told[key]) for key in reversed(told)])
            heads.append(session.current_head())
            assert follows(session)
    for head in heads[1:]:
        assert np.abs(head.covariance - heads[0].covariance).max() <= 1e-9 * heads[0].covariance.max()


CHANGES: dict[str, Callable[[Session, list[str]], Any]] = {
    "corrected": lambda session, keys: session.tell(dict.fromkeys(keys[:2], "class-0")),
    "withdrawn": lambda session, keys: session.withdraw(keys[:3]),
    "skipped": lambda session, keys: session.skip(keys[:2]),
    "disputed": lambda session, keys: session.tell([Label(key=keys[0], label="nobody's", annotator="b")]),
    "confirmed": lambda session, keys: session.tell(
        [Label(key=item.key, label=item.label, annotator="b", weight=0.5) for item in session.ledger.labels()[:4]]
    ),
    "corrected and back": lambda session, keys: [
        session.tell({keys[0]: name}) for name in ("class-0", "class-1", "class-2", "class-1")
    ],
    "never asked": lambda session, keys: session.tell({f"item-{i:06d}": "class-1" for i in range(180, 186)}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_followed_and_counted_once(change, session, truth):
    keys = session.batch(1).keys
    session.tell({key: truth[key] for key in keys[:5]})
    CHANGES[change](session, session.batch(0).keys)
    assert counts_once(session)
    CHANGES[change](session, keys)
    assert follows(session)


def test_withdrawing_counts_what_there_was(session, truth):
    keys = session.batch(0).keys
    assert session.withdraw(keys[:3]) == 3
    assert session.withdraw(keys[:3]) == 0
    assert session.withdraw(keys[3:4], annotator="somebody else") == 0
    with pytest.raises(LabelError, match="no-such-key"):
        session.withdraw(["no-such-key"])
    assert session.status().labeled == 17


def test_a_new_class_joins_the_live_head_and_the_round_fits_it(session):
    key = session.batch(1).keys[0]
    session.tell({key: "brand new"})
    assert "brand new" in session.current_head().classes
    assert counts_once(session)
    session.query()
    assert session.record(2)["decision"] == "fitted: a new class appeared"


def test_where_rounds_retrain_the_head_is_a_fit(pool, truth, tmp_path):
    with start(pool, tmp_path / "run", mode="retrain") as session:
        keys = begin(session, truth)
        session.tell({keys[0]: truth[keys[0]]})
        live = session.current_head()
        session.query()
        assert live is not None
        assert live.fitted_on == 21
        assert live.digest() == session.record(2)["head_digest"]


# -- cost -------------------------------------------------------------------------------------------------------------


class Counting:
    """A fleet that notes what it is asked, and how many numbers come back."""

    def __init__(self, fleet: LocalFleet) -> None:
        self.fleet, self.asked, self.numbers = fleet, list[str](), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.fleet, name)

    def each(self, fn: Callable[..., Any], *args: Any) -> list[Any]:
        found = self.fleet.each(fn, *args)
        self.asked.append(fn.__name__)
        self.numbers += sum(
            np.size(part) for parts in found for part in (parts if isinstance(parts, tuple) else [parts])
        )
        return found


def test_following_a_label_asks_the_fleet_for_its_vector_and_the_pool_for_nothing(pool, truth, tmp_path, monkeypatch):
    read: list[int] = []
    items = Chunk.items

    def counted(self: Chunk, *args: Any, **options: Any) -> Any:
        read.append(self.index)
        return items(self, *args, **options)

    with local(pool, 3) as inside:
        fleet = Counting(inside)
        with start(pool, tmp_path / "run", fleet=fleet) as session:
            keys = begin(session, truth)
            monkeypatch.setattr(Chunk, "items", counted)
            for turn, key in enumerate(keys[:4]):
                fleet.asked.clear()
                fleet.numbers = 0
                session.tell({key: truth[key]})
                assert session.current_head().labels_seen == 21 + turn
                assert fleet.asked == ["features_of"]
                assert fleet.numbers == DIM + 1  # an id and a vector
            session.tell({keys[0]: truth[keys[0]]})  # no news
            assert session.current_head() is session.current_head()
            assert fleet.asked == ["features_of"]
            assert read == []
            session.tell({"item-000200": truth["item-000200"]})  # a key nobody asked for is looked up in the pool, once
            assert read == list(range(len(pool.chunks)))  # which is too small for an index


def test_looking_after_a_query_costs_nothing_and_shows_the_round_s_head(pool, truth, tmp_path):
    with local(pool) as inside:
        fleet = Counting(inside)
        with start(pool, tmp_path / "run", fleet=fleet) as session:
            begin(session, truth)
            fleet.asked.clear()
            assert session.current_head().digest() == session.record(1)["head_digest"]
            assert fleet.asked == []


# -- votes ------------------------------------------------------------------------------------------------------------


def dispute(session: Session, key: str, shares: dict[str, float]) -> None:
    session.tell([Label(key=key, label=name, annotator=f"of {name}", weight=m) for name, m in shares.items()])


def test_the_head_of_a_closed_run_is_its_closing_head(pool, truth, tmp_path, monkeypatch):
    with start(pool, tmp_path / "run") as session:
        key, other = begin(session, truth)[:2]
        session.tell({key: truth[key]})
        followed = session.current_head()
        digest = session.finish()["head_digest"]
        assert session.current_head().digest() == digest != followed.digest()
    monkeypatch.setattr("raysal.rounds.live_head.head_now", None)  # it is there: nothing needs to be fitted
    with Session(tmp_path / "run") as session:
        assert session.current_head().digest() == digest
        monkeypatch.undo()
        session.tell({other: truth[other]})
        assert session.final() is None
        assert session.current_head().labels_seen == 22


def test_votes_train_by_their_shares_and_are_followed_as_they_change(pool, truth, tmp_path):
    with start(pool, tmp_path / "run", disputed="votes") as session:
        keys = begin(session, truth)
        dispute(session, keys[0], {"class-0": 3.0, "class-2": 1.0})
        (item,) = [item for item in session.ledger.labels(votes=True) if item.key == keys[0]]
        assert (item.label, item.weight, item.answer) == ("class-0", 4.0, {"class-0": 0.75, "class-2": 0.25})
        assert session.status().disputed == 1
        assert counts_once(session, votes=True)
        session.query()
        assert session.record(2)["decision"] == "updated in closed form with 1 labels"
        assert session.record(2)["labels"] == 21
        dispute(session, keys[0], {"class-1": 4.0})  # another annotator: other shares, more weight
        assert counts_once(session, votes=True)
        session.query()
        assert session.record(3)["decision"] == "updated in closed form with 0 labels, 1 corrected"
        session.withdraw([keys[0]], annotator="of class-0")
        session.withdraw([keys[0]], annotator="of class-2")
        assert session.ledger.state(session.batch(1).ids[0]) == "labeled"
        assert counts_once(session, votes=True)
        session.query()
        assert session.record(4)["decision"] == "updated in closed form with 0 labels, 1 corrected"
        assert counts_once(session, votes=True)


def test_votes_and_what_is_left_aside_in_a_fit(pool, truth, tmp_path):
    heads = {}
    for disputed in ("leave", "votes"):
        with start(pool, tmp_path / disputed, mode="retrain", disputed=disputed) as session:
            keys = begin(session, truth)
            dispute(session, keys[0], {"class-0": 3.0, "class-2": 1.0})
            heads[disputed] = session.current_head()
            items = session.ledger.labels(votes=disputed == "votes")
    vectors = np.concatenate([chunk.vectors() for chunk in pool.chunks])[[item.id for item in items]]
    answers, weights = [item.answer for item in items], np.array([item.weight for item in items])
    record = {
        "encoder": heads["votes"].encoder,
        "version": 1,
        "ledger_seq": heads["votes"].ledger_seq,
        "seed": derive(3, "fit") % 2**32,
    }
    asked = np.array([-1 if item.round is None else item.round for item in items])
    record |= {"classes": sorted({*truth.values()}), "context": Context(rounds=asked)}
    fit = Logistic().fit(TrainingData(features=vectors, labels=answers, weights=weights, **record))
    assert (heads["leave"].labels_seen, heads["votes"].labels_seen) == (20, 21)
    assert np.array_equal(fit.mean, heads["votes"].mean)
    assert not np.array_equal(fit.mean, heads["leave"].mean)


# -- when the round fits anew, it says why ----------------------------------------------------------------------------


def test_labels_that_changed_in_several_rounds_add_up_to_a_new_fit(pool, truth, tmp_path):
    """Corrections and withdrawals change no number of labels, or lower it, and are changes all the same."""
    with start(pool, tmp_path / "run", retrain_share=0.5) as session:
        first = session.query(20).keys
        session.tell({key: truth[key] for key in first})
        session.query(1)  # the fit, on 20
        session.tell({key: "class-0" if truth[key] != "class-0" else "class-1" for key in first[:8]})
        session.query(1)
        session.withdraw(first[8:12])
        session.query(1)
        decisions = [session.record(round)["decision"] for round in (2, 3)]
    assert decisions[0] == "updated in closed form with 0 labels, 8 corrected"
    assert decisions[1].startswith("fitted: 12 labels changed since the last fit on 20")


def test_a_round_says_that_the_mean_moved_too_far(pool, truth, tmp_path):
    with start(pool, tmp_path / "run", retrain_drift=1e-6) as session:
        session.tell({key: truth[key] for key in begin(session, truth)})
        session.query()
        assert session.record(2)["decision"].startswith("fitted: the mean has moved by 0.")
        assert session.record(2)["fitted_round"] == 2


def test_a_round_says_that_the_loss_rose(pool, truth, tmp_path):
    with start(pool, tmp_path / "run", passes=0, step=30.0) as session:
        keys = begin(session, truth)
        session.tell(dict.fromkeys(keys[:3], "class-1"))
        session.query()
        decision = session.record(2)["decision"]
        assert decision.startswith("fitted: the penalised loss on what was seen is"), decision


def test_a_label_that_outweighs_all_others_is_taken_back_by_a_fit(pool, truth, tmp_path):
    key = f"item-{HUGE:06d}"
    with start(pool, tmp_path / "run", retrain_drift=1e9) as session:
        begin(session, truth)
        session.tell([Label(key=key, label=truth[key], weight=1e3)])
        session.query()
        assert session.record(2)["decision"].startswith("updated")
        session.withdraw([key])
        head = session.current_head()  # a fit, as the next round's
        session.query()
        assert session.record(3)["decision"].startswith("fitted: no closed-form step: labels: nearly all")
        assert head is not None
        assert head.digest() == session.record(3)["head_digest"]


# -- a run that fits its heads anew -----------------------------------------------------------------------------------


def test_a_run_that_fits_its_heads_anew_can_follow_in_closed_form_meanwhile(pool, truth, tmp_path):
    found = {}
    for mode in ("retrain", "laplace"):
        with start(pool, tmp_path / mode, mode=mode) as session:
            keys = begin(session, truth)
            base = session.current_head()
            for key in keys:
                session.tell({key: truth[key]})
                moved = session.current_head(fit=False)
            session.withdraw(keys[:2])
            found[mode] = base.digest(), moved.digest(), session.current_head(fit=False).digest()
            assert session.current_head(fit=False).labels_seen == len(session.ledger.labels())
            fit = session.current_head()
            assert session.current_head(fit=False) is fit  # nothing is newer
            session.query()
            assert (fit.digest() == session.record(2)["head_digest"]) == (mode == "retrain")
            assert len({*found[mode], fit.digest()}) == (4 if mode == "retrain" else 3)
    assert found["retrain"] == found["laplace"]  # the same steps from the same head


def test_a_head_without_a_step_in_closed_form_is_fitted(pool, truth, tmp_path):
    with start(pool, tmp_path / "run", mode="retrain", trainer="bootstrap") as session:
        keys = begin(session, truth)
        session.current_head()
        session.tell({key: truth[key] for key in keys[:3]})
        followed = session.current_head(fit=False)
        assert followed is session.current_head()
        assert followed.labels_seen == 23


# -- a head of another encoder ----------------------------------------------------------------------------------------


def test_a_head_of_another_encoder_is_refused_and_nothing_is_written(session, truth, tmp_path):
    session.tell({key: truth[key] for key in session.batch(1).keys})
    session.close()
    place = tmp_path / "run" / "rounds" / "0001"
    mine = Head.load(place / "head.safetensors")
    rows, names = mixture(30, DIM + 1, classes=3)
    stranger = Logistic().fit(
        TrainingData(features=rows, labels=names, classes=mine.classes, encoder="other", ledger_seq=20)
    )
    stranger.save(place / "head.safetensors", overwrite=True)
    for error, words in ((Damaged, "is not the head its round.json names"), (FingerprintMismatch, "head's encoder")):
        before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
        with Session(tmp_path / "run") as again:
            for look in (again.query, again.current_head):
                with pytest.raises(error, match=words):
                    look()
            assert again.rounds == 2
        assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
        sealed = read_sealed(place / "round.json")
        write_sealed(place / "round.json", {**sealed, "head_digest": stranger.digest()})
    mine.save(place / "head.safetensors", overwrite=True)
    write_sealed(place / "round.json", {**sealed, "head_digest": mine.digest()})
    with Session(tmp_path / "run") as again:
        again.query()
        assert again.record(2)["decision"].startswith("updated")
