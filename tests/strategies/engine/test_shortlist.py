"""A bounded shortlist: what is gathered for strategies that compare candidates in the driver."""

from __future__ import annotations

import numpy as np
import pytest
from pools import make_pool, mixture
from programs import context_of, local, random_head

from raysal.strategies import SELECTORS
from raysal.strategies.base import select


def task(dim, *, head, labelled=None, classes=(), key=3):
    vectors = np.empty((0, dim), np.float32) if labelled is None else labelled
    return context_of(head=head, labelled=vectors, classes=classes, key=key)


def half(x):
    return x.astype(np.float16).astype(np.float32)


@pytest.mark.parametrize("name", ["alfa_mix", "drop_query", "clue", "typiclust"])
def test_a_limit_bounds_what_is_gathered(name, tmp_path):
    x, names = mixture(600, 6)
    this = task(6, head=random_head(6, scale=0.05), labelled=half(x[:50]), classes=names[:50])
    pool = make_pool(tmp_path / "pool", x)
    picks, again = (select(local(pool, count), SELECTORS[name](max_candidates=30), this, 4) for count in (1, 3))
    assert picks.ids.tolist() == again.ids.tolist()
    assert all("30 drawn from" in reason for reason in picks.reasons)
