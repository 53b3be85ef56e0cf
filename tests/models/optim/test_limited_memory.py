"""L-BFGS: the steps are those of torch's own, which is the slow version here."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiers import deep

from raysal.models.optim.limited_memory import ARMIJO, WOLFE, Point, cubic_minimum, line_search, minimum

STEPS = 20
"""Evaluations that are compared one by one."""


def logistic(n: int, seed: int, scale: float, penalty: float):
    """A penalised logistic loss of n labels over 6 features of unlike sizes, and where it is looked at."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(n, 6)) * np.logspace(0, scale, 6))
    y = torch.from_numpy((rng.random(n) < 0.4).astype(np.float64))
    seen: list[float] = []

    def evaluate(weights: torch.Tensor) -> tuple[float, torch.Tensor]:
        outputs = x @ weights
        loss = torch.nn.functional.softplus(outputs) - y * outputs
        seen.append(float(loss.mean() + 0.5 * penalty * (weights**2).sum()))
        return seen[-1], x.T @ (outputs.sigmoid() - y) / n + penalty * weights

    return evaluate, seen


def by_torch(evaluate, start: torch.Tensor, max_iter: int, tol: float) -> torch.Tensor:
    weights = start.clone()

    def closure() -> float:
        loss, weights.grad = evaluate(weights.clone())
        return loss

    optimizer = torch.optim.LBFGS(
        [weights],
        max_iter=max_iter,
        max_eval=2 * max_iter,
        tolerance_grad=tol,
        tolerance_change=tol * tol,
        history_size=20,
        line_search_fn="strong_wolfe",
    )
    optimizer.step(closure)
    return weights


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 40),
    seed=st.integers(0, 10**6),
    scale=st.floats(-1, 1),
    penalty=st.sampled_from([1e-3, 1.0]),
    far=st.floats(0, 10),
    max_iter=st.sampled_from([1, 2, 7, 60]),
    tol=st.sampled_from([1e-2, 1e-7]),
)
@deep
def test_the_steps_are_those_of_torch(n, seed, scale, penalty, far, max_iter, tol):
    start = torch.from_numpy(np.random.default_rng(seed + 1).normal(size=6) * far)
    evaluate, seen = logistic(n, seed, scale, penalty)
    found = minimum(evaluate, start, max_iter=max_iter, tol=tol)
    mine = seen.copy()
    seen.clear()
    wanted = by_torch(evaluate, start, max_iter, tol)
    # Where a search is ill-conditioned, a last bit grows from step to step, and may decide when it ends.
    few = min(len(mine), len(seen), STEPS)
    assert few == STEPS or len(mine) == len(seen)
    np.testing.assert_allclose(mine[:few], seen[:few], rtol=1e-9, atol=1e-12)
    assert evaluate(found)[0] == pytest.approx(evaluate(wanted)[0], rel=1e-6)


@pytest.mark.parametrize("first", [1e-6, 0.1, 1.0, 50.0])
def test_a_step_meets_the_wolfe_conditions_wherever_the_search_begins(first):
    def evaluate(weights: torch.Tensor) -> tuple[float, torch.Tensor]:
        x = float(weights[0])
        return x**4 / 4 - x**3 + x * x, torch.tensor([x**3 - 3 * x * x + 2 * x], dtype=torch.float64)

    start = torch.tensor([-3.0], dtype=torch.float64)
    loss, gradient = evaluate(start)
    direction = -gradient / gradient.abs()
    slope = float(gradient.dot(direction))
    found, tried = line_search(evaluate, start, direction, Point(0.0, loss, gradient, slope), first, 1e-12, 100)
    assert found.loss <= loss + ARMIJO * found.step * slope
    assert abs(found.slope) <= -WOLFE * slope
    assert tried < 30


def test_at_the_minimum_there_is_nothing_to_do():
    evaluate, seen = logistic(10, 0, 0.0, 1.0)
    found = minimum(evaluate, torch.zeros(6, dtype=torch.float64), max_iter=100, tol=1e-9)
    seen.clear()
    assert minimum(evaluate, found, max_iter=100, tol=1e-8) is found
    assert len(seen) == 1


def test_a_cubic_without_a_minimum_gives_the_middle():
    nothing = torch.zeros(1)
    falling = Point(0.0, 1.0, nothing, -1.0), Point(1.0, 0.0, nothing, -1.0)
    assert cubic_minimum(*falling, 0.2, 0.6) == pytest.approx(0.4)
    assert cubic_minimum(falling[0], falling[0], 0.2, 0.6) == pytest.approx(0.4)
    bowl = Point(0.0, 1.0, nothing, -2.0), Point(3.0, 4.0, nothing, 4.0)  # (x - 1)²
    assert cubic_minimum(*bowl, 0.0, 3.0) == pytest.approx(1.0)
    assert cubic_minimum(*reversed(bowl), 1.5, 3.0) == 1.5


@deep
def test_the_first_head_of_a_process_loads_no_compiler():
    script = """
import sys
import numpy as np
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic
x = np.random.default_rng(0).normal(size=(30, 8))
Logistic().fit(TrainingData(features=x, labels=["a", "b", "c"] * 10, classes=("a", "b", "c")))
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
