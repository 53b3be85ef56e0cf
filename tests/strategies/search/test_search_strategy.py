"""The strategy `search`: what it picks, from how little, and how its shares follow what was found."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pools import make_pool, mixture
from programs import context_of, labelled_of, local, random_head
from reference import TARGET, probabilities

import raysal
from raysal.config import choice
from raysal.context import RoundContext, Yield
from raysal.errors import ConfigError
from raysal.fleet import LocalFleet, exclude
from raysal.pool import Pool
from raysal.rng import derive, item_order, item_uniform
from raysal.rounds.session import Session
from raysal.scoring.novelty.base import novelty_of
from raysal.scoring.novelty.neighbours import NearestNeighbours
from raysal.strategies import SELECTORS
from raysal.strategies.base import Picks, select
from raysal.strategies.search import ways as ways_of
from raysal.strategies.search.shares import streak_of, turns, weights_of, without
from raysal.strategies.search.strategy import Search

N, DIM, K = 240, 6, 12
LABELLED = range(0, 60, 2)


def rows() -> tuple[np.ndarray, list[str]]:
    return mixture(N, DIM, classes=4, seed=4)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    x, names = rows()
    return make_pool(tmp_path_factory.mktemp("search") / "pool", x, chunk_rows=64, labels=names)


def context(pool: Pool, **fields: Any) -> RoundContext:
    x, names = rows()
    known = labelled_of(x, names, LABELLED)
    head = random_head(DIM, 4)
    head = replace(head, classes=tuple(f"class-{c}" for c in range(4)))
    return replace(context_of(head=head, labelled=x[:1], key=11), **{"labelled": known, "k": K, **fields})


def run(pool: Pool, selector: Search, context: RoundContext, k: int = K, partitions: int = 2) -> Picks:
    fleet = local(pool, partitions)
    fleet.reset()
    fleet.each(exclude, context.labelled.ids)
    return select(fleet, selector, context, k)


def slow(pool: Pool, selector: Search, context: RoundContext, k: int) -> tuple[list[int], list[str]]:
    """One pick at a time from three sorted lists, without copies of what is known or picked."""
    x = np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float32)
    left = np.setdiff1d(np.arange(len(x)), context.labelled.ids)
    p = probabilities(x, context.head.weight, context.head.bias)
    target = p[:, [context.head.classes.index(name) for name in TARGET]].sum(1)
    odds = np.log(target / (1 - target))
    fleet = local(pool)
    fleet.reset()
    fleet.each(exclude, context.labelled.ids)
    fitted = NearestNeighbours().fit(fleet, derive(context.key, "novelty"))
    novelty = np.zeros(len(x))
    novelty[left] = fleet.each(novelty_of, fitted, left)[0][1]
    drawn = item_uniform(derive(context.key, "novel"), np.arange(len(x))) < ways_of.NOVEL_AMONG / len(left)
    novelty[~drawn] = -1
    lists = {
        name: left[np.lexsort((item_order(context.ties, left), -np.round(values[left], 5)))].tolist()
        for name, values in (("likeliest", odds), ("uncertain", -abs(odds)), ("novel", novelty))
    }
    start = {"likeliest": selector.likeliest, "uncertain": selector.uncertain, "novel": selector.novel}
    every = [one for each in context.yields[-3:] for one in each.values()]
    rate = sum(one.found for one in every) / max(sum(one.answered for one in every), 1)
    weight = {
        name: share
        * ((sum(each[name].found for each in context.yields[-3:]) + 1)
        / (rate * sum(each[name].answered for each in context.yields[-3:]) + 1)) ** 2
        for name, share in start.items()
    }  # fmt: skip
    total, taken, ids, ways = sum(weight.values()), Counter(), [], []
    known = {x[i].tobytes() for i in context.labelled.ids}
    while len(ids) < k:
        lag = {name: weight[name] / total * (len(ids) + 1) - taken[name] for name in weight}
        way = max(lag, key=lag.__getitem__)
        id = next(i for i in lists[way] if i not in ids and x[i].tobytes() not in known)
        known.add(x[id].tobytes())
        ids.append(id)
        ways.append(way)
        taken[way] += 1
    return ids, ways


YIELDS = [
    {"likeliest": Yield(8, 1), "uncertain": Yield(3, 3), "novel": Yield(1, 0)},
    {"likeliest": Yield(6, 2), "uncertain": Yield(4, 4), "novel": Yield(2, 1)},
]


@pytest.mark.parametrize("yields", [(), YIELDS], ids=["first", "later"])
@pytest.mark.parametrize("fields", [{}, {"likeliest": 0.4, "uncertain": 0.3, "novel": 0.3}], ids=["usual", "mixed"])
def test_search_is_the_slow_loop(yields, fields, pool):
    asked, selector = context(pool, yields=yields), Search(**fields)
    picks = run(pool, selector, asked)
    assert (picks.ids.tolist(), list(picks.shares)) == slow(pool, selector, asked, K)


def test_shares_follow_what_was_found():
    start = {"likeliest": 0.89, "uncertain": 0.08, "novel": 0.03}
    nothing = [{"likeliest": Yield(22, 0), "uncertain": Yield(2, 0), "novel": Yield(1, 0)}] * 3
    found = [{"likeliest": Yield(22, 22), "uncertain": Yield(2, 1), "novel": Yield(1, 0)}] * 3
    few = [{"likeliest": Yield(22, 1), "uncertain": Yield(2, 0), "novel": Yield(1, 0)}] * 3
    others = [{"likeliest": Yield(22, 0), "uncertain": Yield(2, 0), "novel": Yield(1, 1)}] * 3
    assert weights_of(start, ()) == pytest.approx(start)
    assert weights_of(start, nothing) == pytest.approx(start)  # which says nothing of one way more than of another
    assert weights_of(start, found)["likeliest"] > 0.95
    assert weights_of(start, few)["likeliest"] > 0.89  # few finds are no reason to look elsewhere
    assert weights_of(start, others)["novel"] > 10 * start["novel"]
    assert weights_of(start, [*nothing, *found]) == weights_of(start, found)  # what was long ago is forgotten
    assert sum(weights_of(start, found).values()) == pytest.approx(1)


def test_turns_keep_to_their_weights_all_the_way():
    weights = {"a": 0.7, "b": 0.25, "c": 0.05}
    taken = list(islice(turns(weights), 400))
    for k in range(1, 401):
        for name, weight in weights.items():
            assert abs(taken[:k].count(name) - weight * k) < 2
    assert taken[0] == "a"


def test_ways_that_are_left_keep_their_proportions_when_one_ends():
    left = without("a", {"a": 0.88, "b": 0.09, "c": 0.03})
    assert left == pytest.approx({"b": 0.75, "c": 0.25})
    assert Counter(islice(turns(left), 40)) == {"b": 30, "c": 10}
    assert without("b", without("c", left)) == {}


def test_what_is_left_of_a_batch_is_shared_out_as_before_when_a_way_ends(pool, monkeypatch):
    monkeypatch.setattr("raysal.strategies.search.ways.DEEPEST", 0)
    picks = run(pool, Search(likeliest=0.9, uncertain=0.06, novel=0.04), context(pool, k=1), 110)
    counts = Counter(picks.shares)
    last = Counter(picks.shares[max(i for i, way in enumerate(picks.shares) if way == "likeliest") + 1 :])
    assert counts["likeliest"] <= 64 < 110
    assert last["uncertain"] >= 1.3 * last["novel"] > 10


def test_a_streak_ends_with_the_first_miss_or_the_first_round_without_an_answer():
    hit, miss, none = {"a": Yield(3, 3)}, {"a": Yield(3, 2)}, {"a": Yield(0, 0)}
    assert [streak_of("a", each, 2) for each in ([], [hit], [hit] * 5, [hit, miss], [miss, hit], [hit, none])] == [
        0, 1, 2, 0, 1, 0
    ]  # fmt: skip


def test_while_all_likely_items_are_finds_the_most_diverse_of_more_are_taken(pool):
    x = rows()[0]
    found = [{"likeliest": Yield(10, 10)}] * 3
    only = Search(likeliest=1, uncertain=0, novel=0)
    plain, wide = run(pool, only, context(pool)), run(pool, only, context(pool, yields=found))
    band = run(pool, only, context(pool), k=2 * K).ids
    assert set(wide.ids.tolist()) <= set(band.tolist()) != set(plain.ids.tolist())
    assert wide.ids[0] == plain.ids[0]

    def spread(ids: np.ndarray) -> float:
        unit = x[ids] / np.linalg.norm(x[ids], axis=1, keepdims=True)
        return float((1 - unit @ unit.T)[~np.eye(len(ids), dtype=bool)].min())

    assert spread(wide.ids) > spread(plain.ids)
    assert "most diverse of 24" in wide.reasons[0]
    assert run(pool, only, context(pool, yields=found), k=5).ids.tolist() == wide.ids[:5].tolist()


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """A pool in which a labelled item has 40 copies, and another item 30."""
    x, names = rows()
    x[100:140], x[150:180] = x[0], x[7]
    return make_pool(tmp_path_factory.mktemp("copies") / "pool", x, chunk_rows=64, labels=names)


def test_duplicates_use_up_no_place(copies):
    picks = run(copies, Search(), context(copies), k=30)
    labelled_again = set(range(100, 140)) & set(picks.ids.tolist())
    assert not labelled_again
    assert len({7, *range(150, 180)} & set(picks.ids.tolist())) <= 1
    everything = run(copies, Search(), context(copies), k=N - len(LABELLED))
    assert len(set(everything.ids.tolist())) == N - len(LABELLED)  # they come when nothing else is left
    assert sum("near-duplicate" in reason for reason in everything.reasons) >= 69


def test_near_duplicates_are_those_as_similar_as_one_says(pool):
    x = rows()[0]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    picks = run(pool, Search(duplicates=0.9), context(pool), k=K)
    kept = [id for id, why in zip(picks.ids.tolist(), picks.reasons, strict=True) if "duplicate" not in why]
    near = unit[kept] @ unit[[*LABELLED, *kept]].T
    assert ((near > 0.9001).sum(1) == 1).all()  # itself


def test_it_picks_the_same_for_any_partitions(pool):
    for fields in ({}, {"yields": YIELDS}, {"head": None}):
        one, other = (run(pool, Search(), context(pool, **fields), partitions=p) for p in (1, 5))
        assert one.ids.tolist() == other.ids.tolist()
        assert one.reasons == other.reasons
        assert np.array_equal(one.scores, other.scores)


# From how little it works.


def some(pool: Pool, names: list[str], *ids: int, **fields: Any) -> RoundContext:
    return context(pool, labelled=labelled_of(rows()[0], names, ids), **fields)


def test_from_one_example_the_nearest_lead(pool):
    x, names = rows()
    example = names.index("class-1")
    picks = run(pool, Search(likeliest=1, uncertain=0, novel=0), some(pool, names, example))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    near = unit @ unit[example]
    near[example] = -2
    assert set(picks.ids.tolist()) == set(np.argsort(-near)[:K].tolist())
    assert "near the example" in picks.reasons[0]


def test_all_labels_are_of_the_target(pool):
    names = rows()[1]
    ids = [i for i in range(40) if names[i] in TARGET]
    assert {"likeliest", "novel"} >= set(run(pool, Search(), some(pool, names, *ids)).shares)
    with_background = run(pool, Search(), some(pool, names, *ids, background=50))
    assert "probability" in with_background.reasons[0]  # then the head can tell


@pytest.mark.parametrize("partitions", [1, 3])
def test_novel_items_are_the_most_novel_of_a_uniform_sample(pool, partitions, monkeypatch):
    monkeypatch.setattr(ways_of, "NOVEL_AMONG", 60)
    selector = Search(likeliest=0.4, uncertain=0.2, novel=0.4)
    ids, ways = slow(pool, selector, context(pool), K)
    picks = run(pool, selector, context(pool), partitions=partitions)
    assert (picks.ids.tolist(), list(picks.shares)) == (ids, ways)
    whole = run(pool, selector, context(pool), partitions=partitions)
    monkeypatch.undo()
    assert run(pool, selector, context(pool)).ids.tolist() != whole.ids.tolist()


def test_no_label_is_of_the_target(pool):
    names = rows()[1]
    ids = [i for i in range(40) if names[i] not in TARGET]
    assert set(run(pool, Search(), some(pool, names, *ids)).shares) == {"novel"}


def test_from_nothing_the_most_novel_lead(pool):
    x = rows()[0]
    nothing = replace(context(pool), head=None, labelled=labelled_of(x, rows()[1], []))
    picks = run(pool, Search(), nothing)
    assert set(picks.shares) == {"novel"}
    fleet: LocalFleet = local(pool)
    fleet.reset()
    fitted = NearestNeighbours().fit(fleet, derive(nothing.key, "novelty"))
    scores = fleet.each(novelty_of, fitted, np.arange(N))[0][1]
    assert set(picks.ids.tolist()) == set(np.argsort(-scores)[:K].tolist())


def test_a_query_is_an_example_that_is_no_item(pool):
    x, names = rows()
    like = x[[names.index("class-1")]] * 2
    nothing = replace(context(pool), head=None, labelled=labelled_of(x, names, []), like=like)
    picks = run(pool, Search(likeliest=1, uncertain=0, novel=0), nothing)
    assert picks.ids[0] == names.index("class-1")
    ids = [i for i in range(40) if names[i] not in TARGET]
    assert "near the example" in run(pool, Search(), some(pool, names, *ids, like=like)).reasons[0]


def test_without_a_target_it_says_to_name_one(pool):
    with pytest.raises(ConfigError, match="--target"):
        run(pool, Search(), context(pool, target=()))
    with pytest.raises(ConfigError, match="no way of finding"):
        choice({"name": "search", "likeliest": 0, "uncertain": 0, "novel": 0}).build("select", SELECTORS)


def test_a_class_name_never_seen(pool):
    picks = run(pool, Search(), context(pool, target=("unheard of",)))
    assert len(picks.ids) == K
    assert set(picks.shares) == {"novel"}


# In a run.


def begin(pool: Pool, out: Path, **fields: Any) -> Session:
    given: dict[str, Any] = {
        "select": "search",
        "start": "search",
        "oracle": "simulated",
        "target": ["class-1"],
        "rounds": {"k": 10},
        "seed": 2,
    }
    return Session(out, pool, **{**given, **fields})


@pytest.mark.parametrize("update", [{}, {"background": 60, "classes": ["class-0"]}], ids=["plain", "background"])
def test_a_run_finds_the_rest_from_nothing(update, pool, tmp_path):
    names = rows()[1]
    with begin(pool, tmp_path / "run", update=update) as session:
        for _ in range(12):
            session.ask_oracle(session.query())
        labelled = {item.id for item in session.ledger.labels()}
    rest = [i for i, name in enumerate(names) if name == "class-1"]
    assert len(labelled & set(rest)) > 0.8 * len(rest)  # 120 of 240 labels, of which 60 are looked for


def test_interrupted_or_not_the_shares_are_the_same(pool, tmp_path):
    records = []
    for restart in (False, True):
        session = begin(pool, tmp_path / f"run-{restart}")
        for _ in range(5):
            session.ask_oracle(session.query())
            if restart:
                session.close()
                session = Session.open(tmp_path / f"run-{restart}", fleet={"backend": "local", "partitions": 3})
        assert sum(map(len, session.record(4)["shares"].values())) == 10
        records.append([session.record(r)["shares"] for r in range(5)])
        for r, shares in enumerate(records[-1]):
            assert sorted(key for keys in shares.values() for key in keys) == sorted(session.batch(r).keys)
        session.close()
    assert records[0] == records[1]


def test_select_goes_on_as_the_run_would(pool, tmp_path):
    with begin(pool, tmp_path / "run") as session:
        for _ in range(3):
            session.ask_oracle(session.query())
        table = raysal.select(pool, k=10, strategy="search", labels=tmp_path / "run", seed=2)
        shares = Counter(reason.split(":")[0].split(",")[0] for reason in table["reason"].to_pylist())
        session.query()
        own = Counter({name: len(keys) for name, keys in session.record(3)["shares"].items()})
    assert shares == own


def test_late_and_few_answers_count_as_they_come(pool, tmp_path):
    from raysal.rounds.training_labels import TrainingLabels
    from raysal.rounds.yields import yields_of

    with begin(pool, tmp_path / "run") as session:
        batch = session.query()
        session.tell({batch.keys[0]: "class-1", batch.keys[1]: "class-2"})
        labels = TrainingLabels.of(session.ledger, session.config, None)

        def now() -> Any:
            seq = labels.head_seq
            return yields_of(session.run, labels, seq, session.config.target, session._opened.parts.likelihood)

        assert now() == [{"novel": Yield(2, 1)}]
        session.withdraw([batch.keys[0]])
        assert now() == [{"novel": Yield(1, 0)}]
