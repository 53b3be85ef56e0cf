"""Outputs that are so many times larger, at a temperature that is so many times higher, predict and pick the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cases import Case
from programs import local, small, strategy

from raysal.models.head import Head
from raysal.models.posterior import Shared
from raysal.strategies import SELECTORS
from raysal.strategies.base import Selector

TIMES = 4.0
"""A power of two: not a bit changes."""
BEFORE_IT = ("batch_bald", "fantasy", "isal", "reveal")
"""These ask about the loss that a fit minimises, which is that of the outputs before the temperature: what an item
would do to it (isal), or what labels do to the head between picks."""
MORE: dict[str, Selector] = {
    "bait, exact": SELECTORS["bait"](fisher="exact"),
    "batch_bald, as published": SELECTORS["batch_bald"](draws=48, configurations=200, fewest=0),
    "lcmd of vectors": SELECTORS["lcmd"](space="vectors"),
}
EVERY = [*(name for name in sorted(SELECTORS) if name not in BEFORE_IT), *MORE]


def hotter(head: Head) -> Head:
    """Weights, and their posterior, times the temperature."""
    assert isinstance(head.posterior, Shared)
    weights = {name: getattr(head, name) * TIMES for name in ("mean", "linearised_at")}
    return replace(head, **weights, posterior=Shared(root=head.posterior.root * TIMES), temperature=TIMES)


@pytest.mark.parametrize("selector", EVERY)
def test_the_temperature_is_part_of_what_a_head_predicts(selector, main_case: Case, main_pools):
    fleet, chosen = local(main_pools[64], 2), MORE.get(selector) or strategy(selector)
    found = [
        replace(main_case, head=head, previous=previous).run(fleet, chosen, small("none"))
        for head, previous in (
            (main_case.head, main_case.previous),
            (hotter(main_case.head), hotter(main_case.previous)),
        )
    ]
    assert np.array_equal(found[0].picks.ids, found[1].picks.ids)
    assert np.array_equal(found[0].picks.scores, found[1].picks.scores)
