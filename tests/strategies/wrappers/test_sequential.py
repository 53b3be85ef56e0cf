"""Strategies that move the head between picks: against a slow loop, and what they leave as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from pools import make_pool, mixture
from programs import context_of, local

import raysal
from raysal.config import Named, choice
from raysal.context import RoundContext
from raysal.errors import ConfigError, UnknownName
from raysal.fleet import exclude, keep
from raysal.models.head import Head
from raysal.models.likelihood import LIKELIHOODS
from raysal.models.online.classes import add_classes
from raysal.models.online.update import update
from raysal.models.posterior import Members
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.rounds.session import Session
from raysal.strategies import SELECTORS
from raysal.strategies.base import Picks, count_candidates, select
from raysal.strategies.coverage.badge import Badge
from raysal.strategies.coverage.coreset import CoreSet
from raysal.strategies.wrappers.sequential import Fantasised, HeadTeacher, OracleTeacher, Revealed, likeliest_labels

KEY, N, DIM = 5, 150, 6
TRAINING: dict[str, Any] = {"encoder": "e", "version": 0, "ledger_seq": 9, "seed": 0}


def build(given: Any) -> Any:
    return choice(given).build("select", SELECTORS)


class Scene:
    """A pool some of whose items are excluded or narrowed away, and a head that does not know the fourth class."""

    def __init__(self, path: Path, partitions: int = 3) -> None:
        self.x, self.names = mixture(N, DIM, classes=4, seed=2)
        self.fleet = local(make_pool(path / "pool", self.x, chunk_rows=40), partitions)
        self.labelled = [i for i in range(0, N, 6) if self.names[i] != "class-3"]
        self.candidates = [i for i in range(N) if i % 6 and i % 7 and i % 11]
        self.fleet.each(exclude, np.arange(0, N, 6))
        self.fleet.each(keep, np.array(self.candidates))
        known = [self.names[i] for i in self.labelled]
        self.head = Logistic().fit(
            TrainingData(features=self.x[self.labelled], labels=known, classes=sorted(set(known)), **TRAINING)
        )

    def task(self, **changes: Any) -> RoundContext:
        names = [self.names[i] for i in self.labelled]
        fields: dict[str, Any] = {"head": self.head, "reveal": self.reveal, "classes": names, "key": KEY}
        return context_of(labelled=self.x[self.labelled], **{**fields, **changes})

    def select(self, given: Any, k: int, **changes: Any) -> Picks:
        return select(self.fleet, build(given), self.task(**changes), k)

    def reveal(self, ids: Any) -> dict[int, str]:
        return {id: self.names[id] for id in ids}

    def slowly(self, k: int, every: int, label: Any) -> list[int]:
        """Top margin, one batch of `every` after another; `label(head, id)` is what the head is told, or nothing."""
        head, left, picks = self.head, list(self.candidates), list[int]()
        while len(picks) < k:
            p = reference.probabilities(self.x, head.weight, head.bias)
            margins = reference.score("margin", p)
            batch = sorted(left, key=lambda id: (-margins[id], id))[: min(every, k - len(picks))]
            said = [(id, label(head, id)) for id in batch]
            for _, name in said:
                head = add_classes(head, [name])
            head = update(head, self.x[[id for id, _ in said]], [name for _, name in said], ledger_seq=0)
            picks, left = picks + batch, [id for id in left if id not in batch]
        return picks


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.parametrize(("every", "k"), [(1, 14), (4, 14), (5, 15)])
def test_reveal_is_the_slow_loop(every, k, scene):
    picks = scene.select({"name": "reveal:top_score", "every": every}, k)
    assert picks.ids.tolist() == scene.slowly(k, every, lambda _, id: scene.names[id])
    assert picks.ids.tolist() != scene.select("top_score", k).ids.tolist()
    revealed = {scene.names[id] for id in picks.ids.tolist()[: (k - 1) // every * every]}
    assert "class-3" in revealed  # the head did not know it


@pytest.mark.parametrize(("every", "k"), [(1, 14), (4, 14)])
def test_the_likeliest_label_as_if_it_were_true_is_the_slow_loop(every, k, scene):
    picks = scene.select({"name": "fantasy:top_score", "every": every, "label": "likely"}, k)
    said = lambda head, id: head.classes[int(head.logits(scene.x[[id]])[0].argmax())]  # noqa: E731
    assert picks.ids.tolist() == scene.slowly(k, every, said)
    assert picks.ids.tolist() != scene.select("top_score", k).ids.tolist()


def test_the_expected_label_moves_no_prediction_and_lowers_variance(scene):
    rows = scene.x[scene.candidates[:5]]
    head, names = HeadTeacher("expected").teach(scene.head, np.arange(5), rows)
    assert np.array_equal(head.mean, scene.head.mean)
    assert (head.variance(rows) < scene.head.variance(rows)).all()
    assert names == likeliest_labels(scene.head, rows)
    # Margins are of the mean alone, and so their order stays.
    assert np.array_equal(scene.select("fantasy:top_score", 20).ids, scene.select("top_score", 20).ids)


@pytest.mark.parametrize("wrapper", ["fantasy", "reveal"])
def test_what_was_picked_counts_as_labelled(wrapper, scene):
    """Greedy k-center looks at labelled vectors alone: one by one it is what it is at once."""
    whole = scene.select("coreset", 12)
    for every in (1, 5):
        parts = scene.select({"name": f"{wrapper}:coreset", "every": every}, 12)
        assert np.array_equal(parts.ids, whole.ids)
        assert np.array_equal(parts.scores, whole.scores)


@pytest.mark.parametrize("wrapper", ["fantasy", "reveal"])
@pytest.mark.parametrize("inner", ["badge", "power_bald", "class_balanced:random", "u_herding"])
def test_every_as_large_as_the_batch_is_the_strategy_itself(wrapper, inner, scene):
    whole = scene.select(inner, 9)
    picks = scene.select({"name": f"{wrapper}:{inner}", "every": 9}, 9)
    assert np.array_equal(picks.ids, whole.ids)
    assert picks.reasons == tuple(f"{r}; before any {WORDS[wrapper]} label" for r in whole.reasons)


WORDS = {"fantasy": "expected", "reveal": "revealed"}
NESTED = ("reveal:class_balanced:badge", "class_balanced:fantasy:power_bald", "skip_extremes:reveal", "reveal:reveal")


@pytest.mark.parametrize("strategy", ["reveal", "fantasy", *NESTED])
def test_the_candidates_are_left_as_they_were(strategy, scene):
    before = scene.fleet.each(count_candidates)
    picks = scene.select(strategy, 12)
    assert scene.fleet.each(count_candidates) == before
    again = scene.select(strategy, 12)
    assert np.array_equal(picks.ids, again.ids)
    assert picks.reasons == again.reasons
    assert len(set(picks.ids.tolist())) == 12
    assert set(picks.ids.tolist()) <= set(scene.candidates)


def test_all_candidates_can_be_picked_and_reasons_say_what_the_head_had_learnt(scene):
    k = len(scene.candidates)
    picks = scene.select({"name": "reveal:random", "every": 20}, k)
    assert sorted(picks.ids.tolist()) == scene.candidates
    notes = [reason.split("; ")[1] for reason in picks.reasons]
    assert notes[:20] == ["before any revealed label"] * 20
    assert notes[20:] == [f"after {i // 20 * 20} revealed labels" for i in range(20, k)]


def test_the_head_of_the_round_is_not_touched(scene):
    before = scene.head.digest()
    scene.select("reveal", 6)
    assert scene.head.digest() == before


# -- oracles ----------------------------------------------------------------------------------------------------------


def test_without_an_oracle_fantasy_is_named(scene):
    with pytest.raises(ConfigError, match="nobody here reveals labels between picks; use fantasy:badge"):
        scene.select("reveal", 3, reveal=None)
    scene.select("fantasy", 3, reveal=None)


@pytest.mark.parametrize("k", [3, 60])
def test_an_oracle_that_answers_nothing_is_noticed_soon(k, scene):
    asked = []

    def silent(ids: Any) -> dict[int, str]:
        asked.extend(ids)
        return {}

    with pytest.raises(ConfigError, match=r"does not answer at once .*use fantasy:top_score"):
        scene.select("reveal:top_score", k + 1, reveal=silent)
    assert len(asked) <= 10


def test_an_item_without_an_answer_moves_no_head_and_stops_nothing(scene):
    teacher = OracleTeacher(lambda ids: {id: "class-0" for id in ids if id == 2}, "badge", 3)
    rows = scene.x[[1, 2, 4]]
    head, names = teacher.teach(scene.head, np.array([1, 2, 4]), rows)
    assert head.labels_seen == scene.head.labels_seen + 1
    alone = update(scene.head, rows[[1]], ["class-0"], ledger_seq=9)
    assert np.array_equal(head.mean, alone.mean)
    guesses = likeliest_labels(scene.head, rows)
    assert names == [guesses[0], "class-0", guesses[2]]
    some = scene.select("reveal", 12, reveal=lambda ids: {id: scene.names[id] for id in ids if id % 2})
    assert len(set(some.ids.tolist())) == 12


# -- other heads ------------------------------------------------------------------------------------------------------


def head_of(link: str, classes: int) -> Head:
    rng = np.random.default_rng(1)
    head = Head.of_weights(rng.normal(size=(classes, DIM)), rng.normal(size=classes))
    return Head(
        **{**{name: getattr(head, name) for name in head.__dataclass_fields__}, "likelihood": LIKELIHOODS[link]}
    )


@pytest.mark.parametrize("label", ["expected", "likely"])
@pytest.mark.parametrize(("link", "classes"), [("sigmoid", 3), ("identity", 1)])
def test_several_labels_and_numbers(link, classes, label, scene):
    head = head_of(link, classes)
    names = likeliest_labels(head, scene.x[:4])
    said = head.probabilities(scene.x[:4])
    if link == "sigmoid":
        expected = ["|".join(f"class-{c}" for c in range(3) if row[c] > 0.5) or "-" for row in said]
    else:
        expected = [repr(float(row[0])) for row in said]
    assert names == expected
    options = {"head": head, "classes": ["-" if link == "sigmoid" else "0"] * len(scene.labelled)}
    fantasy = scene.select({"name": "fantasy:coreset", "label": label}, 5, **options)
    assert len(set(fantasy.ids.tolist())) == 5
    truth = "class-1|new" if link == "sigmoid" else "2.5"
    moved, _ = OracleTeacher(lambda ids: dict.fromkeys(ids, truth), "x", 1).teach(head, np.arange(4), scene.x[:4])
    assert moved.labels_seen == 4
    assert moved.classes == (*head.classes, "new") if link == "sigmoid" else moved.classes == head.classes
    scene.select("reveal:coreset", 5, **options, reveal=lambda ids: dict.fromkeys(ids, truth))


def test_an_ensemble_cannot_be_moved(scene):
    members = Members(weights=np.stack([scene.head.mean] * 3))
    head = Head(**{**{f: getattr(scene.head, f) for f in scene.head.__dataclass_fields__}, "posterior": members})
    for strategy in ("reveal", "fantasy"):
        with pytest.raises(ConfigError, match="an ensemble's head cannot be updated between picks"):
            scene.select(strategy, 3, head=head)


def test_there_must_be_a_head(scene):
    for strategy in ("reveal:coreset", "fantasy:coreset"):
        assert build(strategy).needs_head
        with pytest.raises(ConfigError, match="needs labels"):
            scene.select(strategy, 3, head=None)


def test_names_and_fields():
    assert build("reveal:coreset") == Revealed(of=Named("coreset", CoreSet()))
    assert build({"name": "fantasy", "of": "coreset", "every": 3, "label": "likely"}).every == 3
    assert build("fantasy") == Fantasised(of=Named("badge", Badge()))
    for wrong, error in (
        ({"name": "fantasy", "label": "true"}, ConfigError),
        ({"name": "reveal", "label": "likely"}, ConfigError),
        ({"name": "reveal", "every": 0}, ConfigError),
        ("reveal:bagde", UnknownName),
    ):
        with pytest.raises(error):
            build(wrong)


# -- in a session -----------------------------------------------------------------------------------------------------


def test_what_was_revealed_is_recorded_once_when_the_batch_is_answered(tmp_path):
    x, names = mixture(N, DIM, classes=3)
    pool = make_pool(tmp_path / "pool", x, labels=names)
    fields: dict[str, Any] = {"select": "reveal:top_score", "rounds": {"k": 8}, "fleet": {"backend": "local"}}
    with Session(tmp_path / "run", pool, oracle="simulated", **fields) as session:
        session.ask_oracle(session.query())
        batch = session.query()
        assert session.ledger.counts()["labeled"] == 8, "looking is not telling"
        assert session.current_head() is not None
        assert session.current_head().labels_seen == 8
        assert session.current_head().digest() == session.record(1)["head_digest"]
        assert batch.table["reason"].to_pylist()[-1].endswith("after 7 revealed labels")
        told = session.ask_oracle(batch)
        assert (told.new, told.repeated, told.corrected) == (8, 0, 0)
        assert session.current_head().labels_seen == 16
    with Session(tmp_path / "by-hand", pool, **fields) as session:
        session.tell(dict(zip(session.query().keys, ["a", "b"] * 4, strict=True)))
        with pytest.raises(ConfigError, match=r"does not answer at once .*use fantasy:top_score"):
            session.query()
        assert session.rounds == 1
    with pytest.raises(ConfigError, match="use fantasy:badge"):
        raysal.select(pool, k=3, strategy="reveal", labels={"item-000001": "a", "item-000002": "b"})
