"""Strategies around another one: equal to slow versions, and they leave no trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import reference
import reference_wrappers
from hypothesis import given
from hypothesis import strategies as st
from pools import make_pool, mixture
from programs import context_of, local, make_head, random_head
from tiers import deep_unless, one_of_each

from raysal.config import Named, choice
from raysal.context import RoundContext
from raysal.errors import ConfigError, PoolError, UnknownName
from raysal.fleet import exclude, keep
from raysal.rng import derive, item_uniform
from raysal.strategies import SELECTORS
from raysal.strategies.base import count_candidates, select
from raysal.strategies.coverage.coreset import CoreSet
from raysal.strategies.simple import Random
from raysal.strategies.wrappers.candidates import ClassBalanced, SkipExtremes, class_turns

KEY = 5


def by_hash(ids: Sequence[int]) -> list[int]:
    """Items in the order in which equal ones are picked."""
    return sorted(ids, key=lambda id: reference.tie_of(derive(KEY, "ties"), id))


def build(given: Any) -> Any:
    return choice(given).build("select", SELECTORS)


class Scene:
    """A pool of 300 items, some of them excluded or narrowed away, a head, and 20 labels with classes."""

    def __init__(self, path, classes: int = 4, partitions: int = 3, chunk_rows: int = 64) -> None:
        self.x, names = mixture(300, 9, classes=classes, seed=2)
        self.head = random_head(9, classes, seed=3, scale=0.6)
        self.fleet = local(make_pool(path / f"{partitions}-{chunk_rows}", self.x, chunk_rows=chunk_rows), partitions)
        self.available = np.setdiff1d(np.arange(300), np.arange(0, 300, 7))
        self.candidates = np.setdiff1d(self.available, np.arange(0, 300, 5))
        self.fleet.each(exclude, np.arange(0, 300, 7))
        self.fleet.each(keep, self.candidates)
        self.p = reference.probabilities(self.x, self.head.weight, self.head.bias)
        self.predicted = self.p.argmax(1)
        self.labelled = self.x[0:140:7]
        self.names = [name for name in names[0:140:7] if name != "class-1"]

    @property
    def task(self) -> RoundContext:
        return context_of(head=self.head, labelled=self.labelled, key=KEY, classes=self.names)

    def select(self, given: Any, k: int):
        return select(self.fleet, build(given), self.task, k)

    def inner(self, name: str):
        """The slow version of a strategy over some ids."""

        def picks(ids: list[int], k: int) -> list[int]:
            some = np.array(ids, np.int64)
            if name == "random":
                return reference.uniform_sample(KEY, some, k).tolist()
            if name == "top_score":
                return reference.ranked(reference.score("margin", self.p[some]), some, k, derive(KEY, "ties")).tolist()
            return reference.coreset(self.x[some], some, self.labelled, k, KEY)[0].tolist()

        return picks

    def class_order(self) -> list[int]:
        """What orders equally rare classes."""
        return [derive(KEY, "class", name) for name in self.head.classes]

    def class_labels(self) -> list[int]:
        return [self.names.count(name) for name in self.head.classes]


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


@pytest.mark.parametrize(
    ("pass_on", "wanted"),
    [
        # 7, 2, 0 and 1 labels. Once all have 2, equally rare ones come in the order 1, 2, 3.
        (True, [2, 2, 3, 1, 2, 3, 1, 3, 1, 3]),
        (False, [2, 2, 3, 1, 2, 3, 1]),  # class 2 would be next, and has none left
    ],
)
def test_the_rarest_class_comes_next_in_a_case_worked_by_hand(pass_on, wanted):
    found = class_turns([7, 2, 0, 1], [50, 50, 3, 50], [9, 1, 2, 3], 10, pass_on=pass_on)
    assert found == wanted


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=8), st.booleans(), st.data())
def test_turns_are_those_of_the_published_loop(classes, pass_on, data):
    labels, counts = zip(*classes, strict=True)
    order = data.draw(st.permutations(range(len(classes))))
    k = data.draw(st.integers(0, sum(counts)))
    slow = reference_wrappers.pcb_turns(labels, counts, order, k, exhausted="next" if pass_on else "uniform")
    assert class_turns(labels, counts, order, k, pass_on=pass_on) == [c for c in slow if c is not None]
    assert not pass_on or None not in slow


@pytest.mark.parametrize(
    ("k", "name", "exhausted"),
    deep_unless(
        [(150, "random", "next"), (150, "coreset", "uniform"), (30, "top_score", "next"), (1, "random", "uniform")],
        product([1, 3, 30, 150], ["coreset", "random", "top_score"], ["next", "uniform"]),
    ),
)
def test_class_balanced_is_the_strategy_inside_each_class_in_turns(name, k, exhausted, scene):
    picks = scene.select({"name": f"class_balanced:{name}", "exhausted": exhausted}, k)
    ids = scene.candidates.tolist()
    draws = reference.uniform_sample(derive(KEY, "exhausted"), scene.candidates, len(ids)).tolist()
    wanted = reference_wrappers.class_balanced(
        scene.predicted[ids].tolist(), scene.class_labels(), scene.class_order(), ids, k, scene.inner(name), draws,
        exhausted=exhausted,
    )  # fmt: skip
    assert picks.ids.tolist() == wanted
    drawn = [reason for reason in picks.reasons if reason.startswith("the rarest class has no candidate left")]
    assert bool(drawn) == (exhausted == "uniform" and k == 150)


def test_a_batch_makes_up_for_the_labels_there_are(scene):
    """Of 40 labels of class-0, 10 of class-2 and none of the others, the batch has the classes that level them."""
    scene.names = ["class-0"] * 40 + ["class-2"] * 10
    scene.labelled = scene.x[:50]
    ids = scene.select("class_balanced:random", 60).ids
    seen = np.bincount(scene.predicted[ids], minlength=4) + scene.class_labels()
    counts = np.bincount(scene.predicted[scene.candidates], minlength=4)
    able = [c for c in (1, 2, 3) if seen[c] - scene.class_labels()[c] < counts[c]]
    assert np.bincount(scene.predicted[ids], minlength=4)[0] == 0
    assert max(seen[able]) - min(seen[able]) <= 1


def test_every_beginning_of_a_balanced_batch_is_balanced(scene):
    k = 150
    counts = np.bincount(scene.predicted[scene.candidates], minlength=4)
    assert counts.min() < k // 4 < counts.max()  # some classes run out
    ids = scene.select("class_balanced", k).ids
    before = np.array(scene.class_labels())
    for m in range(1, k + 1):
        seen = np.bincount(scene.predicted[ids[:m]], minlength=4)
        grown = seen > 0
        assert ((seen + before)[seen < counts] >= (seen + before)[grown].max() - 1).all()


def test_equally_rare_classes_come_in_an_order_of_their_own_each_round(scene):
    scene.names = []
    firsts = set()
    for key in range(40):
        picks = select(scene.fleet, build("class_balanced:random"), replace(scene.task, key=key), 1)
        firsts.add(int(scene.predicted[picks.ids[0]]))
    assert firsts == {0, 1, 2, 3}


def test_a_wrapper_keeps_scores_and_says_what_it_did(scene):
    inner = scene.select("top_score", 200)
    score = dict(zip(inner.ids.tolist(), inner.scores.tolist(), strict=True))
    reason = dict(zip(inner.ids.tolist(), inner.reasons, strict=True))
    for strategy in ("class_balanced:top_score", "skip_extremes:top_score"):
        picks, turns = scene.select(strategy, 40), Counter()
        assert picks.scores.tolist() == [score[id] for id in picks.ids.tolist()]
        for id, whole in zip(picks.ids.tolist(), picks.reasons, strict=True):
            said, note = whole.split("; ")
            assert said == reason[id]
            if strategy.startswith("class"):
                c = scene.predicted[id]
                assert note == f"predicted class-{c}, of which there were {scene.class_labels()[c] + turns[c]}"
                turns[c] += 1
            else:
                assert note == "within margin quantiles 0 to 0.95"


@pytest.mark.parametrize(
    ("low", "high", "k", "name", "score"),
    one_of_each(
        (*bounds, name, score)
        for bounds in [("0.0", "0.95", 20), ("0.2", "0.8", 20), ("0.4", "0.41", 30), ("0.0", "1.0", 30)]
        for name in ("coreset", "random", "top_score")
        for score in ("margin", "entropy")
    ),
)
def test_skip_extremes_is_the_strategy_inside_between_the_quantiles(name, low, high, k, score, scene):
    given = {"name": "skip_extremes", "of": name, "low": float(low), "high": float(high), "score": score}
    picks = scene.select(given, k)
    values = reference.score(score, scene.p)
    wanted, again = reference_wrappers.skip_extremes(
        {id: values[id] for id in scene.available.tolist()}, scene.candidates.tolist(), low, high, k, scene.inner(name),
        derive(KEY, "ties"),
    )  # fmt: skip
    assert picks.ids.tolist() == wanted
    assert bool(again) == (low == "0.4")
    told = [id for id, reason in zip(picks.ids.tolist(), picks.reasons, strict=True) if "too few within" in reason]
    assert sorted(told) == sorted(again)


def lopsided(tmp_path, counts: dict[float, int], partitions: int):
    """Items in one dimension; the nearer to 0, the less certain a head with two classes is."""
    x = np.repeat(list(counts), list(counts.values()))[:, None]
    head = make_head(np.array([[1.0], [-1.0]]), np.zeros(2))
    fleet = local(make_pool(tmp_path / "pool", x, chunk_rows=8), partitions)
    return fleet, context_of(head=head, labelled=np.empty((0, 1), np.float32), key=KEY)


@pytest.mark.parametrize("partitions", [1, 4])
def test_ties_with_the_last_one_left_in_stay_in(partitions, tmp_path):
    fleet, task = lopsided(tmp_path, {0.5: 3, 1.0: 4, 2.0: 13}, partitions)
    for high, left in ((0.85, 17), (0.8, 17), (0.75, 17), (0.65, 13), (0.86, 20)):
        picks = select(fleet, SkipExtremes(of=Named("random", Random()), high=high), task, left)
        assert sorted(picks.ids.tolist()) == list(range(20 - left, 20))
        assert not any("too few" in reason for reason in picks.reasons)


@pytest.mark.parametrize("partitions", [1, 4])
def test_the_least_extreme_are_let_in_first_and_ties_by_hash(partitions, tmp_path):
    fleet, task = lopsided(tmp_path, {0.25: 2, 0.5: 4, 2.0: 12, 4.0: 2}, partitions)
    selector = SkipExtremes(of=Named("random", Random()), low=0.1, high=0.7)
    assert sorted(select(fleet, selector, task, 12).ids.tolist()) == list(range(6, 18))
    # 4.0 is nearer to 2.0 in margin than 0.5 is
    assert sorted(select(fleet, selector, task, 13).ids.tolist()) == sorted([*range(6, 18), by_hash([18, 19])[0]])
    assert sorted(select(fleet, selector, task, 16).ids.tolist()) == sorted([*by_hash(range(2, 6))[:2], *range(6, 20)])
    assert len(select(fleet, selector, task, 20).ids) == 20


def test_quantiles_are_those_of_the_pool_also_where_all_candidates_are_extreme(tmp_path):
    fleet, task = lopsided(tmp_path, {0.25: 10, 2.0: 90}, 3)
    fleet.each(keep, np.arange(8))
    picks = select(fleet, SkipExtremes(of=Named("random", Random()), high=0.9), task, 3)
    assert sorted(picks.ids.tolist()) == sorted(by_hash(range(8))[:3])
    assert all("beyond margin quantiles 0 to 0.9, too few within" in reason for reason in picks.reasons)


NESTED = (
    "class_balanced:class_balanced:random",
    "class_balanced:skip_extremes:coreset",
    "skip_extremes:class_balanced:badge",
    "skip_extremes:skip_extremes:top_score",
)


@pytest.mark.parametrize("strategy", ["class_balanced", "skip_extremes", *NESTED])
def test_a_wrapper_leaves_the_candidates_as_they_were(strategy, scene):
    before = scene.fleet.each(count_candidates)
    first = scene.select(strategy, 20)
    assert scene.fleet.each(count_candidates) == before
    again = scene.select(strategy, 20)
    assert np.array_equal(first.ids, again.ids)
    assert first.reasons == again.reasons
    assert np.isin(first.ids, scene.candidates).all()
    assert len(set(first.ids.tolist())) == 20


@pytest.mark.parametrize("strategy", NESTED)
def test_wrappers_of_wrappers_do_not_see_partitions(strategy, tmp_path):
    picks = [Scene(tmp_path, 4, *layout).select(strategy, 25) for layout in ((1, 300), (2, 64), (5, 11))]
    for other in picks[1:]:
        assert np.array_equal(picks[0].ids, other.ids)
        assert np.array_equal(picks[0].scores, other.scores)
        assert picks[0].reasons == other.reasons


def test_balancing_twice_changes_nothing(scene):
    once, twice = scene.select("class_balanced:coreset", 30), scene.select("class_balanced:class_balanced:coreset", 30)
    assert np.array_equal(once.ids, twice.ids)


def test_skipping_outside_of_balancing_balances_what_is_left(scene):
    ids = scene.select("skip_extremes:class_balanced:random", 40).ids
    margins = reference.score("margin", scene.p)
    assert margins[ids].max() <= np.sort(margins[scene.available])[int(0.95 * len(scene.available))]
    totals = np.bincount(scene.predicted[ids], minlength=4) + scene.class_labels()
    assert totals.max() - totals.min() <= 1


@pytest.mark.parametrize("kind", ["class_balanced", "skip_extremes"])
def test_an_item_without_probabilities_is_named(kind, tmp_path):
    x = np.ones((30, 4))
    x[17, 2] = 6e4
    fleet = local(make_pool(tmp_path / "pool", x), 3)
    head = make_head(np.eye(2, 4, 1) * 1e36, np.zeros(2))  # beyond float32 for one item only
    with pytest.raises(PoolError, match="item 17: its vector is not finite numbers"):
        select(fleet, build(kind), context_of(head=head, labelled=np.empty((0, 4), np.float32), key=KEY), 3)


# config


def test_the_strategy_inside_comes_in_every_form():
    plain = ClassBalanced(of=Named("coreset", CoreSet()))
    assert build("class_balanced:coreset") == build({"name": "class_balanced", "of": "coreset"}) == plain
    assert build({"name": "class_balanced", "of": {"name": "coreset"}}) == plain
    assert build("class_balanced") == build("class_balanced:badge") == ClassBalanced()
    with_field = {"name": "class_balanced", "of": {"name": "top_score", "score": "entropy"}}
    assert build(with_field).of.part == SELECTORS["top_score"](score="entropy")
    nested = {"name": "skip_extremes:class_balanced:random", "high": 0.9}
    assert build(nested).of.part == ClassBalanced(of=Named("random", Random()))


@pytest.mark.parametrize("kind", ["class_balanced", "skip_extremes"])
@pytest.mark.parametrize(
    ("inner", "error", "message"),
    [
        ("bagde", UnknownName, "select.of: unknown name 'bagde'; did you mean 'badge'. use one of: .*badge"),
        ("class_balanced:bagde", UnknownName, "unknown name 'bagde'"),
        ({"name": "top_score", "score": "wit"}, UnknownName, "'wit'.*entropy"),
        ({"name": "badge", "score": "margin"}, ConfigError, "select.of.score: 'badge' has no such field"),
        ({"score": "margin"}, ConfigError, "name"),
        (3, ConfigError, "of"),
    ],
)
def test_a_strategy_inside_that_does_not_exist_is_refused_at_once(kind, inner, error, message):
    with pytest.raises(error, match=message):
        build({"name": kind, "of": inner})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"low": 0.5, "high": 0.5}, "select.low: 0.5 to 0.5 is no range"),
        ({"low": 0.96}, "no range"),
        ({"high": 1.5}, "high"),
        ({"low": float("nan")}, "low"),
        ({"score": "wit"}, "select.score: unknown name 'wit'"),
    ],
)
def test_what_is_no_range_or_score_is_refused(fields, message):
    with pytest.raises((ConfigError, UnknownName), match=message):
        build({"name": "skip_extremes", **fields})


def test_the_hash_decides_within_a_class(scene):
    """What `random` inside draws does not depend on the classes of others."""
    ids = scene.select("class_balanced:random", 24).ids
    draws = item_uniform(KEY, scene.candidates)
    for c in range(4):
        mine = scene.predicted[scene.candidates] == c
        wanted = scene.candidates[mine][np.argsort(draws[mine])][: (scene.predicted[ids] == c).sum()]
        assert ids[scene.predicted[ids] == c].tolist() == wanted.tolist()
