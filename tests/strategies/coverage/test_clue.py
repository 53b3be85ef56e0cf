"""CLUE: the middles of entropy-weighted clusters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference_clusters as reference
from pools import make_pool, mixture
from programs import context_of, local, make_head, random_head

from raysal.models.likelihood import LIKELIHOODS
from raysal.rng import derive, item_order
from raysal.scoring.linear import Linear
from raysal.strategies import SELECTORS
from raysal.strategies.base import select
from raysal.strategies.coverage.clue import entropies
from raysal.strategies.engine.kmeans import k_means


def task(dim, *, head, labelled=None, classes=(), key=3):
    vectors = np.empty((0, dim), np.float32) if labelled is None else labelled
    return context_of(head=head, labelled=vectors, classes=classes, key=key)


def half(x):
    return x.astype(np.float16).astype(np.float32)


@pytest.mark.parametrize(("temperature", "link"), [(0.1, "softmax"), (1.0, "softmax"), (0.7, "sigmoid")])
def test_clue_picks_the_middles_of_entropy_weighted_clusters(temperature, link, tmp_path):
    x = half(mixture(300, 7)[0])
    head = replace(random_head(7), likelihood=LIKELIHOODS[link])
    logits = (x @ head.weight.T + head.bias) / temperature
    if link == "sigmoid":
        weights = np.array(
            [sum(reference.entropy(np.array([p, 1 - p])) for p in row) for row in 1 / (1 + np.exp(-logits))]
        )
    else:
        weights = np.array([reference.entropy(p) for p in reference.softmax(logits)])
    np.testing.assert_allclose(entropies(x, Linear.of(head), temperature), weights, rtol=1e-6, atol=1e-9)
    picks = select(
        local(make_pool(tmp_path / "pool", x), 3), SELECTORS["clue"](temperature=temperature), task(7, head=head), 8
    )
    order = np.argsort(
        item_order(derive(derive(3, "shortlist"), "ties"), np.arange(300))
    )  # in which rows come to the driver
    weights_there = entropies(x[order], Linear.of(head), temperature)
    clusters = k_means(x[order], 8, derive(3, "clusters"), weights=weights_there)
    wanted = {}
    for c in range(8):
        own = order[clusters.assignment == c]
        mean = np.average(x[own].astype(np.float64), 0, weights[own])
        wanted[int(own[((x[own] - mean) ** 2).sum(1).argmin()])] = weights[own].sum() / weights.sum()
    assert set(picks.ids.tolist()) == set(wanted)
    np.testing.assert_allclose(picks.scores, sorted(wanted.values(), reverse=True), rtol=1e-6)


def test_clue_without_uncertainty_says_so(tmp_path):
    head = make_head(np.zeros((2, 4)), np.array([1e6, 0.0]))
    picks = select(local(make_pool(tmp_path / "pool", mixture(40, 4)[0])), SELECTORS["clue"](), task(4, head=head), 5)
    assert all("no uncertainty is left" in reason for reason in picks.reasons)
