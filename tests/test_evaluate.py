"""Accuracy on held-out items: the same items and numbers for any layout, none of them ever offered."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from conftest import make_pool, mixture
from programs import local, random_head

from raysal import evaluate as module
from raysal.evaluate import confusion, evaluate, hold_out
from raysal.rng import item_uniform
from raysal.select import SELECTORS, Task, select

N, DIM, KEY, SHARE = 400, 7, 3, 0.25


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    x, names = mixture(N, DIM)
    return x, names, make_pool(tmp_path_factory.mktemp("held") / "pool", x, chunk_rows=90)


@pytest.mark.parametrize("most", [10_000, 30])
def test_the_evaluation_is_that_of_the_slow_version_for_any_layout(most, data, monkeypatch):
    x, names, pool = data
    monkeypatch.setattr(module, "MOST", most)
    head = random_head(DIM)
    draws = item_uniform(KEY, np.arange(N))
    held = np.flatnonzero(draws < SHARE)
    held = held[np.argsort(draws[held])][:most]
    predicted = reference.probabilities(x[held], head.weight, head.bias).argmax(1)
    pairs = [(names[id], head.classes[c]) for id, c in zip(held, predicted, strict=True) if id % 10]
    for partitions in (1, 2, 5, 30):
        found = evaluate(
            local(pool, partitions), head, KEY, SHARE, lambda ids: {id: names[id] for id in ids if id % 10}
        )
        assert found == confusion(pairs)
        assert found.items == len(pairs)
        assert found.accuracy == pytest.approx(np.mean([a == b for a, b in pairs]))


def test_recall_counts_per_true_class():
    found = confusion([("a", "a"), ("a", "b"), ("b", "b"), ("c", "a")])
    assert (found.items, found.accuracy) == (4, 0.5)
    assert found.recall == {"a": 0.5, "b": 1.0, "c": 0.0}


def test_nothing_known_is_no_evaluation(data):
    assert evaluate(local(data[2], 2), random_head(DIM), KEY, SHARE, lambda ids: {}) is None


def test_held_out_items_are_never_offered(data):
    fleet = local(data[2], 3)
    held = sum(fleet.each(hold_out, KEY, SHARE))
    assert held == (item_uniform(KEY, np.arange(N)) < SHARE).sum()
    task = Task(head=None, labelled=np.empty((0, DIM), np.float32), key=1)
    picks = select(fleet, SELECTORS["random"](), task, N - held)
    assert (item_uniform(KEY, picks.ids) >= SHARE).all()
