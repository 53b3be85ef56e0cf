"""Selection where there is hardly anything to select by."""

from __future__ import annotations

import numpy as np
import pytest
from pools import make_pool, mixture
from programs import context_of, local, make_head, random_head

from raysal.context import RoundContext
from raysal.errors import ConfigError, PoolExhausted, UnknownName
from raysal.fleet import LocalFleet, exclude, keep
from raysal.numerics import EXACT_COLUMNS
from raysal.rng import derive, item_order, item_uniform
from raysal.strategies import SELECTORS
from raysal.strategies.base import select

every_selector = pytest.mark.parametrize("name", sorted(SELECTORS))
every_layout = pytest.mark.parametrize("partitions", [1, 2, 9])


def task(dim: int, *, head=None, labelled=None, key: int = 3) -> RoundContext:
    vectors = np.empty((0, dim), np.float32) if labelled is None else labelled
    return context_of(head=random_head(dim) if head is None else head, labelled=vectors, key=key, reveal=reveal)


def reveal(ids) -> dict[int, str]:
    return dict.fromkeys(ids, "class-0")


def by_hash(key: int, ids: np.ndarray) -> list[int]:
    """Ids in the order in which equal ones are picked in a stage of that key."""
    return ids[np.argsort(item_order(derive(key, "ties"), ids))].tolist()


def fleet_of(path, x, partitions=1, **options):
    return local(make_pool(path / "pool", x, **options), partitions)


ROWS = {
    "blobs": (mixture(30, 4)[0], 9),
    "one row": (np.ones((1, 4)), 4),
    "zeros": (np.zeros((25, 4)), 1),
    "ones": (np.ones((25, 4)), 9),
    "large and equal": (np.full((25, 4), 200.0), 2),
}
"""Rows [n, 4] and into how many partitions they are cut."""


@pytest.fixture(scope="module")
def fleets(tmp_path_factory):
    """The fleet over some rows, as new; its pool is made when it is first asked for."""
    made: dict[str, LocalFleet] = {}

    def get(name: str) -> LocalFleet:
        if name not in made:
            made[name] = fleet_of(tmp_path_factory.mktemp("degenerate"), *ROWS[name])
        made[name].reset()
        return made[name]

    return get


@every_selector
def test_all_there_is_can_be_picked_and_no_more(name, fleets):
    fleet = fleets("blobs")
    fleet.each(exclude, np.arange(0, 30, 3))
    assert np.array_equal(
        np.sort(select(fleet, SELECTORS[name](), task(4), 20).ids), np.setdiff1d(np.arange(30), np.arange(0, 30, 3))
    )
    with pytest.raises(PoolExhausted) as caught:
        select(fleet, SELECTORS[name](), task(4), 21)
    assert (caught.value.wanted, caught.value.available) == (21, 20)
    fleet.each(keep, np.empty(0, np.int64))
    with pytest.raises(PoolExhausted):
        select(fleet, SELECTORS[name](), task(4), 1)


@pytest.mark.parametrize("k", [0, -1])
def test_a_batch_has_at_least_one_item(k, fleets):
    fleet = fleets("blobs")
    for name in SELECTORS:
        with pytest.raises(ConfigError, match="at least 1"):
            select(fleet, SELECTORS[name](), task(4), k)


@every_selector
@pytest.mark.parametrize("rows", ["zeros", "ones", "large and equal"])
def test_identical_rows_fill_a_batch_once_each(name, rows, fleets):
    picks = select(fleets(rows), SELECTORS[name](), task(4), 12)
    assert len(set(picks.ids.tolist())) == 12
    assert np.isfinite(picks.scores[1:]).all()


@every_selector
def test_a_head_with_one_class(name, fleets):
    head = make_head(np.ones((1, 4)), np.zeros(1))
    picks = select(fleets("blobs"), SELECTORS[name](), task(4, head=head), 15)
    assert len(set(picks.ids.tolist())) == 15


@every_selector
def test_a_pool_of_one_row(name, fleets):
    assert select(fleets("one row"), SELECTORS[name](), task(4), 1).ids.tolist() == [0]


@every_selector
def test_what_needs_a_head_says_so(name, fleets):
    fleet, selector = fleets("blobs"), SELECTORS[name]()
    without = context_of(head=None, labelled=np.empty((0, 4), np.float32), key=0)
    if selector.needs_head:
        with pytest.raises(ConfigError, match="needs labels"):
            select(fleet, selector, without, 2)
    else:
        assert len(select(fleet, selector, without, 2).ids) == 2


@every_layout
def test_badge_without_gradients_is_a_uniform_draw(partitions, tmp_path):
    """A head so sure that no probability but one is left: nothing tells the items apart."""
    x, _ = mixture(40, 4)
    head = make_head(np.zeros((2, 4)), np.array([1e6, 0.0]))
    picks = select(fleet_of(tmp_path, x, partitions), SELECTORS["badge"](), task(4, head=head, key=11), 15)
    assert picks.ids.tolist() == np.argsort(item_uniform(derive(11, "rest"), np.arange(40)))[:15].tolist()
    assert set(picks.reasons) == {"no gradient left, uniform"}


@every_layout
def test_badge_draws_uniformly_once_only_copies_are_left(partitions, tmp_path):
    x = np.repeat(np.eye(3), 10, axis=0)
    picks = select(fleet_of(tmp_path, x, partitions), SELECTORS["badge"](), task(3), 9)
    assert len(np.unique(x[picks.ids[:3]], axis=0)) == 3
    assert all("uniform" not in reason for reason in picks.reasons[:3])
    assert set(picks.reasons[3:]) == {"no gradient left, uniform"}
    assert len(set(picks.ids.tolist())) == 9


@every_layout
def test_coreset_takes_copies_last_and_by_hash(partitions, tmp_path):
    x = np.repeat(np.eye(4) * 3.125, 5, axis=0)
    picks = select(
        fleet_of(tmp_path, x, partitions), SELECTORS["coreset"](), task(4, labelled=x[:1].astype(np.float32)), 8
    )
    order = by_hash(3, np.arange(20))
    firsts = [next(id for id in order if id // 5 == group) for group in (1, 2, 3)]
    assert picks.ids[:3].tolist() == sorted(firsts, key=order.index)
    assert picks.ids[3:].tolist() == [id for id in order if id not in firsts][:5]
    assert picks.scores[3:].tolist() == [0.0] * 5


@every_layout
@pytest.mark.parametrize("name", ["badge", "coreset"])
def test_rounding_does_not_make_copies_worth_a_pick(name, partitions, tmp_path):
    """Products of copies leave a few last digits; these must not stand for a distance."""
    scale = np.logspace(-3, 2, 257)  # sums of such different squares are never exact
    x = np.tile(np.random.default_rng(0).normal(size=(20, 257)) * scale, (4, 1))
    head = make_head(random_head(257, 40, scale=0.02).weight / scale, np.zeros(40))
    picks = select(fleet_of(tmp_path, x, partitions), SELECTORS[name](), task(257, head=head), 50)
    assert len(set((picks.ids[:20] % 20).tolist())) == 20
    assert picks.scores[20:].tolist() == [0.0] * 30
    if name == "coreset":
        assert picks.ids[20:].tolist() == by_hash(3, np.setdiff1d(np.arange(80), picks.ids[:20]))[:30]


def test_coreset_tells_apart_what_differs_in_the_last_digit(tmp_path):
    """One step of float16 in one of 1280 features: 1e-10 of the squared norms, and not a copy."""
    x = np.ones((50, 1280), np.float16)
    x[37, 5] = np.nextafter(np.float16(1), np.float16(2))
    fleet = fleet_of(tmp_path, x, 3)
    picks = select(fleet, SELECTORS["coreset"](), task(1280, labelled=np.ones((1, 1280), np.float32)), 2)
    assert picks.ids.tolist() == [37, by_hash(3, np.setdiff1d(np.arange(50), [37]))[0]]
    assert picks.scores[0] == pytest.approx(2.0**-20, rel=1e-3)


def test_more_centres_than_a_tile_are_all_covered(tmp_path):
    x, _ = mixture(150, 5)
    known = x[: 2 * EXACT_COLUMNS + 3]
    picks = select(fleet_of(tmp_path, x, 2), SELECTORS["coreset"](), task(5, labelled=known), 150 - len(known))
    assert picks.ids.min() >= len(known)
    gaps = ((x[picks.ids[0]] - known).astype(np.float64) ** 2).sum(1)
    assert picks.scores[0] == pytest.approx(gaps.min())


def test_typiclust_takes_its_sample_alone_off_the_partitions(tmp_path):
    x, _ = mixture(300, 4)
    selector = SELECTORS["typiclust"](max_candidates=40)
    picks = [select(fleet_of(tmp_path / str(p), x, p), selector, task(4), 6).ids.tolist() for p in (1, 4)]
    assert picks[0] == picks[1]
    sampled = np.argsort(item_uniform(derive(3, "sample"), np.arange(300)))[:40]
    assert set(picks[0]) < set(sampled.tolist())


def test_a_score_that_does_not_exist():
    with pytest.raises(UnknownName, match=r"select.score: unknown name 'wit'"):
        SELECTORS["top_score"](score="wit")
