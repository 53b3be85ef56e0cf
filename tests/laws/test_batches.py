"""Law 3: a batch is k distinct items that were offered, and a smaller one is the beginning of a larger one."""

from __future__ import annotations

import numpy as np
import pytest
from cases import EVERY_PART, GREEDY, PAIRS
from programs import local
from tiers import deep_unless

every_pair = pytest.mark.parametrize(("selector", "narrower"), deep_unless(EVERY_PART, PAIRS))


@every_pair
def test_a_batch_is_k_distinct_offered_ids(selector, narrower, main_case, main_pools, expected):
    outcome = expected(selector, narrower)
    ids = outcome.picks.ids
    candidates = main_case.offered if outcome.candidates.ids is None else outcome.candidates.ids
    assert len(set(ids.tolist())) == len(ids) == len(outcome.picks.scores) == len(outcome.picks.reasons) == 12
    assert np.isin(ids, candidates).all()
    assert np.isin(ids, main_case.offered).all()


@pytest.mark.parametrize(("selector", "narrower"), deep_unless(EVERY_PART, [p for p in PAIRS if p[0] in GREEDY]))
def test_a_smaller_batch_is_the_beginning_of_a_larger_one(selector, narrower, main_case, main_pools, expected):
    fleet = local(main_pools[64], 2)
    whole = expected(selector, narrower).picks
    for k in (1, 5, 11):
        part = main_case.run(fleet, selector, narrower, k=k).picks
        assert np.array_equal(part.ids, whole.ids[:k])
        assert np.array_equal(part.scores, whole.scores[:k])
