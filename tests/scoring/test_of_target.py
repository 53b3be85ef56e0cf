"""The log odds of the classes that are looked for: the one formula of scores and of evaluations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from raysal.scoring.of_target import MOST_LOG_ODDS, odds_of


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("target", [[True, False, False, True], [False, True, False, False]])
def test_they_are_those_of_the_probability(exclusive: bool, target: list[bool]) -> None:
    outputs = np.random.default_rng(0).normal(size=(40, 4)) * 3
    found = odds_of(torch.from_numpy(outputs.T), torch.tensor(target), exclusive)
    assert found.dtype == torch.float64
    for row, odds in zip(outputs.tolist(), found.tolist(), strict=True):
        powers = [math.exp(output) for output in row]
        yes = math.fsum(power for power, own in zip(powers, target, strict=True) if own)
        no = math.fsum(powers) - yes
        if not exclusive:
            no = math.prod(1 / (1 + power) for power, own in zip(powers, target, strict=True) if own)
            yes = 1 - no
        assert odds == pytest.approx(math.log(yes / no), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("exclusive", [True, False])
def test_they_stay_numbers_and_tell_apart_what_is_sure(exclusive: bool) -> None:
    outputs = torch.tensor([[40.0, 50.0, 900.0, -900.0], [0.0, 0.0, -900.0, -900.0]], dtype=torch.float64)
    sure = odds_of(outputs, torch.tensor([True, False]), exclusive)
    assert sure[:2].tolist() == pytest.approx([40, 50])
    assert sure.isfinite().all()
    every, none = (odds_of(outputs, torch.tensor([is_] * 2), True) for is_ in (True, False))
    assert every.tolist() == [MOST_LOG_ODDS] * 4
    assert none.tolist() == [-MOST_LOG_ODDS] * 4


def test_equal_items_have_equal_odds_wherever_they_are() -> None:
    """Else they would be no ties, and a ranking would be judged by how vectors of numbers are cut."""
    rows = np.random.default_rng(1).normal(size=(9, 3)) * 5
    which = np.random.default_rng(2).integers(9, size=5003)
    for exclusive in (True, False):
        odds = odds_of(torch.from_numpy(rows[which].T), torch.tensor([True, False, True]), exclusive).numpy()
        assert all(len(np.unique(odds[which == row])) == 1 for row in range(9))
