"""Equal scores are settled by a hash of the item, never by the order of files."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import reference
from pools import make_pool, mixture
from programs import context_of, local, make_head, random_head, run_program, small, strategy
from tiers import deep_unless, one_of_each

from raysal.context import LabelledVectors
from raysal.rng import derive
from raysal.scoring.registry import SCORES
from raysal.strategies import SELECTORS
from raysal.strategies.base import select
from raysal.strategies.simple import TopScore

N = 30
KEYS = range(8)
ONE_CLASS = make_head(np.ones((1, 4)), np.zeros(1))
nothing = LabelledVectors(ids=np.empty(0, np.int64), vectors=np.empty((0, 4), np.float32), classes=[])


def task(head, key: int, *, previous=None, labels: int = 0):
    return context_of(
        head=head, labelled=np.ones((labels, 4), np.float32), classes=[head.classes[0]] * labels, key=key,
        previous=previous, reveal=lambda ids: dict.fromkeys(ids, head.classes[0]),
    )  # fmt: skip


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Fleets over one row, thirty times."""
    folder = tmp_path_factory.mktemp("ties")
    pool = make_pool(folder / "pool", np.ones((N, 4), np.float32), chunk_rows=7)
    return [local(pool, partitions) for partitions in (1, 3)]


@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_of_copies_no_strategy_takes_the_first_files(name, copies):
    """Over some keys the picks lie evenly over the pool: their mean place is within 5 deviations of the middle."""
    batches = []
    for key in KEYS:
        picks = [select(fleet, strategy(name), task(random_head(4), key), 5).ids.tolist() for fleet in copies]
        assert picks[0] == picks[1]
        batches.append(picks[0])
    deviation = np.sqrt((N**2 - 1) / 12 / (5 * len(KEYS)))
    assert abs(np.mean(batches) - (N - 1) / 2) < 5 * deviation
    assert len({tuple(sorted(batch)) for batch in batches}) > len(KEYS) / 2


@pytest.mark.parametrize("score", sorted(SCORES))
def test_of_copies_a_score_takes_those_of_lowest_hash(score, copies):
    for fleet in copies:
        given = task(random_head(4), 5, previous=random_head(4, seed=1), labels=3)
        wanted = reference.ranked(np.zeros(N), np.arange(N), 11, derive(5, "ties")).tolist()
        assert select(fleet, TopScore(score=score), given, 11).ids.tolist() == wanted
        assert select(fleet, TopScore(score=score), given, 4).ids.tolist() == wanted[:4]


@pytest.mark.parametrize(
    ("score", "narrower"),
    one_of_each(product(["margin", "entropy", "least_confidence", "variation_ratio"], ["none", "top_score"])),
)
@pytest.mark.parametrize("batches", deep_unless([60], [60, 200]))
def test_with_one_class_every_item_is_as_likely(score, narrower, batches, tmp_path):
    """The start with labels of one class: each item is picked as often as any other, and the batch is never the first
    files. Of batches of 5, no item is picked more than 5 deviations more or less often than 5 of 30 times."""
    fleet = local(make_pool(tmp_path / "pool", mixture(N, 4)[0], chunk_rows=8), 2)
    seen = np.zeros(N, np.int64)
    for key in range(batches):
        picks = run_program(
            fleet, TopScore(score=score), small(narrower), head=ONE_CLASS, labelled=nothing, k=5, key=key
        ).picks
        assert set(picks.ids.tolist()) != set(range(5))
        seen[picks.ids] += 1
    share = 5 / N
    assert np.abs(seen - batches * share).max() < 5 * np.sqrt(batches * share * (1 - share))
