"""AnchorAL's decisions: merge per anchor first, mean over the anchors that found an item, every setting
counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from pools import make_pool, mixture
from programs import labelled_of, local, random_head, run_program, small, task_of

from raysal.config import choice
from raysal.context import LabelledVectors
from raysal.errors import ConfigError, PoolExhausted
from raysal.fleet import exclude
from raysal.narrowing import NARROWERS
from raysal.narrowing.anchoral import AnchorAL, mean_similarity
from raysal.narrowing.anchors import anchor_rows, kmeans_plus_plus
from raysal.narrowing.base import narrow
from raysal.rng import derive, generator
from raysal.scoring.sweep import Search, SweepRequest, sweep
from raysal.strategies import SELECTORS

N, DIM = 400, 6


@pytest.fixture(scope="module")
def data():
    x, names = mixture(N, DIM, classes=3, seed=2)
    rare = [i for i, name in enumerate(names) if name == "class-2"][:12]
    common = [i for i, name in enumerate(names) if name == "class-0"][:12]
    return x, labelled_of(x, names, rare + common)


@pytest.fixture(scope="module")
def pool(data, tmp_path_factory):
    return make_pool(tmp_path_factory.mktemp("anchors") / "pool", data[0], chunk_rows=64)


def built(**fields: Any) -> AnchorAL:
    """As a config builds it."""
    narrower = choice({"name": "anchoral", **fields}).build("narrow", NARROWERS)
    assert isinstance(narrower, AnchorAL)
    return narrower


def rows_of(narrower: AnchorAL, known: LabelledVectors, key: int) -> np.ndarray:
    return anchor_rows(
        known, None, "cosine", key, anchors=narrower.anchors, strategy=narrower.strategy, classes=narrower.classes
    )


def subpool(fleet, narrower, known, k=1, key=7) -> list[int]:
    fleet.reset()
    available = sum(fleet.each(exclude, known.ids))
    narrowed = narrow(fleet, narrower, task_of(fleet, known, k=k, available=available, key=key))[1]
    assert narrowed.ids is not None
    return narrowed.ids.tolist()


def batch(pool, narrower, known) -> list[int]:
    fleet = local(pool, 3)
    outcome = run_program(fleet, SELECTORS["coreset"](), narrower, head=None, labelled=known)
    return outcome.picks.ids.tolist()


def test_lists_are_merged_per_anchor_before_they_are_averaged(pool, data):
    """Cutting each anchor's list per partition finds more items, and so another subpool; the pool's own list
    is meant."""
    x, known = data
    narrower = AnchorAL(anchors=4, neighbours=20, subpool=30)
    fleet = local(pool, 4)
    mine = subpool(fleet, narrower, known)
    anchors = known.vectors[rows_of(narrower, known, 7)]
    ids = np.setdiff1d(np.arange(N), known.ids)
    whole = list(reference.anchor_subpool(x[ids], ids, anchors, 20, 30, derive(7, "ties")))
    cut: dict[int, float] = {}
    for part in fleet.each(own_ids):
        part = np.intersect1d(part, ids)
        cut |= reference.anchor_subpool(x[part], part, anchors, 20, N, derive(7, "ties"))
    per_partition = sorted(cut, key=lambda id: (-cut[id], id))[:30]
    assert sorted(mine) == sorted(whole)
    assert sorted(whole) != sorted(per_partition)


def own_ids(partition):
    return partition.ids


def test_the_score_is_the_mean_over_the_anchors_that_found_the_item(pool, data):
    x, known = data
    fleet = local(pool, 3)
    fleet.each(exclude, known.ids)
    found = sweep(fleet, None, SweepRequest(searches=(Search(anchors=known.vectors, each=15),)))
    ids = np.setdiff1d(np.arange(N), known.ids)
    expected = reference.anchor_subpool(x[ids], ids, known.vectors, 15, N, None)
    mine = dict(zip(*(column.tolist() for column in mean_similarity(found.searches[0])), strict=True))
    assert mine.keys() == expected.keys()
    assert all(mine[id] == pytest.approx(expected[id], abs=1e-6) for id in mine)
    over_all = {id: reference.cosine(known.vectors, x[id]).mean() for id in mine}
    assert max(abs(mine[id] - over_all[id]) for id in mine) > 0.1


def test_the_subpool_binds(pool, data):
    narrow_one, wide = built(neighbours=60, subpool=20), built(neighbours=60, subpool=100)
    fleet = local(pool, 2)
    assert len(subpool(fleet, narrow_one, data[1])) == 20
    assert set(subpool(fleet, narrow_one, data[1])) < set(subpool(fleet, wide, data[1]))
    assert batch(pool, narrow_one, data[1]) != batch(pool, wide, data[1])


@pytest.mark.parametrize("own", [{"anchors": 2}, {"strategy": "random"}])
def test_settings_of_one_class_change_that_class_alone(own, pool, data):
    known = data[1]
    plain = built(anchors=4, neighbours=10, subpool=100)
    other = built(anchors=4, neighbours=10, subpool=100, classes={"class-2": own})
    names = np.array(known.classes)

    def of_class(narrower: AnchorAL, name: str) -> list[int]:
        rows = rows_of(narrower, known, 7)
        return rows[names[rows] == name].tolist()

    assert of_class(plain, "class-0") == of_class(other, "class-0")
    assert of_class(plain, "class-2") != of_class(other, "class-2")
    assert len(of_class(other, "class-2")) == own.get("anchors", 4)
    assert batch(pool, plain, known) != batch(pool, other, known)


def test_a_misspelled_setting_of_a_class_is_named():
    with pytest.raises(ConfigError) as caught:
        built(classes={"class-2": {"anchors": 3, "bogus": 1}})
    assert caught.value.where == "narrow.classes.class-2.bogus"


def test_settings_of_a_class_without_labels_show_in_the_rule(pool, data):
    known = data[1]
    own = {name: {"anchors": 2} for name in ("zebra", "class-2", "ant")}
    fleet = local(pool, 2)
    for k, size in ((1, 40), (60, 40), (1, N)):  # narrowed, topped up, not narrowed
        rules = []
        for classes in (own, {"class-2": own["class-2"]}):
            fleet.reset()
            left = sum(fleet.each(exclude, known.ids))
            narrower = built(neighbours=10, subpool=size, classes=classes)
            rules.append(narrow(fleet, narrower, task_of(fleet, known, k=k, available=left))[1].rule)
        assert "zebra" not in rules[1]
        assert rules[0].replace(" (no labels yet of: ant, zebra)", "") == rules[1] != rules[0]


def test_every_class_gives_its_anchors_and_a_small_one_gives_all(data):
    known = data[1]
    names = [*["many"] * 20, *["few"] * 2, *["one"]]
    labelled = LabelledVectors(ids=known.ids[:23], vectors=known.vectors[:23], classes=names)
    rows = rows_of(AnchorAL(anchors=5), labelled, 1)
    assert np.array_equal(rows, np.unique(rows))
    counts = {name: sum(names[row] == name for row in rows) for name in set(names)}
    assert counts == {"many": 5, "few": 2, "one": 1}


def test_anchors_are_drawn_anew_each_round(data):
    narrower = AnchorAL(anchors=3)
    assert not np.array_equal(rows_of(narrower, data[1], 1), rows_of(narrower, data[1], 2))


def test_labelled_items_use_up_no_place_among_the_neighbours(pool, data):
    """Each anchor's nearest item is itself: were it in the pool, one of K places would be lost."""
    fleet = local(pool, 3)
    fleet.each(exclude, data[1].ids)
    found = sweep(fleet, None, SweepRequest(searches=(Search(anchors=data[1].vectors, each=9),)))
    for ids, _ in found.searches[0].of_each:
        assert len(ids) == 9
        assert not np.isin(ids, data[1].ids).any()


def test_without_labels_the_whole_pool_is_offered(pool):
    nothing = LabelledVectors(ids=np.empty(0, np.int64), vectors=np.empty((0, DIM), np.float32), classes=[])
    outcome = run_program(
        local(pool, 2), SELECTORS["typiclust"](), AnchorAL(subpool=10), head=None, labelled=nothing, k=12
    )
    assert outcome.candidates.ids is None
    assert len(outcome.picks.ids) == 12


def test_a_pool_no_larger_than_the_subpool_is_not_narrowed(pool, data):
    fleet = local(pool, 2)
    left = N - len(data[1])
    for size, narrowed in ((left, False), (left - 1, True)):
        fleet.reset()
        fleet.each(exclude, data[1].ids)
        found = narrow(fleet, AnchorAL(subpool=size), task_of(fleet, data[1], available=left, key=0))[1]
        assert (found.ids is not None) == narrowed


@pytest.mark.parametrize("narrower", sorted(NARROWERS))
def test_a_batch_is_never_cut_short_while_items_are_left(narrower, pool, data):
    known = data[1]
    tight = {
        "anchoral": {"anchors": 1, "neighbours": 2, "subpool": 3},
        "uniform": {"size": 3},
        "top_score": {"size": 3},
        "refine": {"members": ["random"], "batches": 1, "size": 3},
    }
    options = {"head": random_head(DIM), "labelled": known}
    left = N - len(known)
    for k in (50, left):
        narrow_one = choice({"name": narrower, **tight.get(narrower, {})}).build("narrow", NARROWERS)
        outcome = run_program(local(pool, 3), SELECTORS["random"](), narrow_one, k=k, **options)
        assert len(np.unique(outcome.picks.ids)) == k
        if narrower in ("anchoral", "top_score"):
            assert "topped up with" in outcome.candidates.rule
    with pytest.raises(PoolExhausted):
        run_program(local(pool, 3), SELECTORS["random"](), small(narrower), k=left + 1, **options)


def test_exploring_adds_a_uniform_sample(pool, data):
    fleet = local(pool, 3)
    plain = subpool(fleet, built(neighbours=10, subpool=40), data[1])
    mixed = subpool(fleet, built(neighbours=10, subpool=40, explore=25), data[1])
    assert set(plain) < set(mixed)
    assert len(mixed) > len(plain) + 10


def test_more_anchors_and_neighbours_than_rows(tmp_path):
    x, names = mixture(8, 3, classes=2)
    known = labelled_of(x, names, [0, 1])
    narrower = AnchorAL(anchors=50, neighbours=50, subpool=2)
    ids = subpool(local(make_pool(tmp_path / "pool", x), 3), narrower, known)
    assert len(ids) == 2
    assert not {0, 1} & set(ids)


def test_kmeans_plus_plus_fills_up_with_copies_only_at_the_end():
    x = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    for seed in range(20):
        rows = kmeans_plus_plus(x, 5, generator(seed))
        assert len(set(rows.tolist())) == 5
        assert len(np.unique(x[rows[:3]], axis=0)) == 3
    assert sorted(kmeans_plus_plus(x, 12, generator(0)).tolist()) == list(range(12))
