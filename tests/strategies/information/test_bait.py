"""BAIT in all its forms: the authors' formulas over a pool, what may have a part in it, and where little is left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference
import reference_dense as slow
from every_row import DIM, N, task
from pools import make_pool, mixture
from programs import context_of, local, make_head, random_head
from scenes import scene

from raysal.errors import ConfigError, UserError
from raysal.fleet import exclude, keep
from raysal.models.likelihood import IDENTITY, SIGMOID
from raysal.rng import derive, item_uniform
from raysal.scoring.linear import Linear
from raysal.strategies import SELECTORS
from raysal.strategies.base import select
from raysal.strategies.information.bait import pool_fisher
from raysal.strategies.information.fisher import bait_of_rows
from raysal.strategies.information.forms import Form

rows, fleet, candidates = scene(mixture(N, DIM, seed=3)[0])
FORMS = [
    {"fisher": "binary"},
    {"fisher": "top_c", "top_classes": 1},
    {"fisher": "top_c", "top_classes": 3},
    {"fisher": "exact"},
]
every_form = pytest.mark.parametrize("fields", FORMS, ids=lambda fields: "-".join(map(str, fields.values())))
NUMBERS = {"fisher": "numbers"}


def small_pool(n=60, d=4, classes=3, seed=0):
    """(rows float16 [n, d], head): small enough for inverses of C d x C d matrices, again and again."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(n, d)) * np.logspace(0, -0.7, d)).astype(np.float16).astype(np.float64)
    return x, random_head(d, classes, seed=seed + 1, scale=1.5)


def rows_of(x, head, fields):
    """V of rows by the papers' formulas, in C d coordinates."""
    p = reference.probabilities(x, head.weight / head.temperature, head.bias / head.temperature)
    return slow.bait_rows(p, x, fields["fisher"], fields.get("top_classes", 0))


def directions(head, fields):
    """Directions in which there may be information, for each feature."""
    return 1 if fields["fisher"] in ("binary", "numbers") else len(head.bias) - 1


@every_form
@pytest.mark.parametrize("oversample", [1.0, 2.0])
@pytest.mark.parametrize("labelled", [0, 9])
def test_bait_is_the_rule_of_the_paper(fields, oversample, labelled, tmp_path):
    """Inverses of C d x C d matrices for each candidate, F over what is available."""
    x, head = small_pool()
    known, offered = np.arange(labelled), np.arange(labelled, len(x))
    pool = local(make_pool(tmp_path / "pool", x, chunk_rows=13), 3)
    pool.each(exclude, known)
    given = context_of(head=head, labelled=x[known], key=5)
    picks = select(pool, SELECTORS["bait"](**fields, oversample=oversample), given, 7)
    v = rows_of(x, head, fields)
    fisher = slow.information(v[offered]) / len(offered)
    prior = np.trace(fisher) / x.shape[1] / directions(head, fields)
    precision = prior * np.eye(len(fisher)) + slow.information(v[known])
    wanted, falls = slow.bait(v[offered], precision, fisher, 7, oversample=oversample)
    assert picks.ids.tolist() == offered[wanted].tolist()
    np.testing.assert_allclose(picks.scores, falls, rtol=1e-3)


@every_form
@pytest.mark.parametrize("labelled", [0, 9])
@pytest.mark.parametrize("ridge", [1.0, 0.01])
def test_published_weights_are_the_authors_code(fields, labelled, ridge, tmp_path):
    x, head = small_pool(seed=6)
    known, offered = np.arange(labelled), np.arange(labelled, len(x))
    pool = local(make_pool(tmp_path / "pool", x, chunk_rows=13), 2)
    pool.each(exclude, known)
    given = context_of(head=head, labelled=x[known], key=5)
    picks = select(pool, SELECTORS["bait"](**fields, weights="published", ridge=ridge), given, 6)
    v = rows_of(x, head, fields)
    fisher = slow.information(v[offered]) / len(offered)
    wanted = slow.bait_as_the_authors_code(v[offered], v[known], fisher, 6, lamb=ridge)
    assert picks.ids.tolist() == offered[wanted].tolist()
