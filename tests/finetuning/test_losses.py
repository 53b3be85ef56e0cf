"""The loss of a step against a slow, obvious version, picture by picture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from raysal.finetuning.losses import fixmatch_losses, labelled_loss, unlabelled_loss

torch = pytest.importorskip("torch")


def softmax(row: list[float]) -> list[float]:
    top = max(row)
    parts = [math.exp(value - top) for value in row]
    return [part / sum(parts) for part in parts]


def slow_labelled(logits: Any, targets: Any, weights: Any) -> float:
    total = sum(
        w * -sum(t * math.log(p) for t, p in zip(target, softmax(row), strict=True))
        for row, target, w in zip(logits.tolist(), targets.tolist(), weights.tolist(), strict=True)
    )
    return total / sum(weights.tolist())


def slow_unlabelled(weak: Any, strong: Any, thresholds: Any, balance: bool) -> float:
    m, classes = weak.shape
    pseudo = []
    for row in weak.tolist():
        p = softmax(row)
        c = p.index(max(p))
        pseudo.append(c if p[c] >= thresholds[c] else None)
    total = 0.0
    for c, row in zip(pseudo, strong.tolist(), strict=True):
        if c is not None:
            share = min(1.0, m / (classes * pseudo.count(c))) if balance else 1.0
            total += share * -math.log(softmax(row)[c])
    return total / m


def random(seed: int, *shape: int) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 2, shape))


@pytest.mark.parametrize("balance", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_both_losses_are_those_of_the_definition(seed: int, balance: bool) -> None:
    labelled, weak, strong = random(seed, 5, 3), random(seed + 10, 12, 3), random(seed + 20, 12, 3)
    targets = random(seed + 30, 5, 3).softmax(1)
    weights, thresholds = random(seed + 40, 5).abs() + 0.1, torch.tensor([0.5, 0.7, 0.9], dtype=torch.float64)
    found = fixmatch_losses(labelled, targets, weights, weak, strong, thresholds, balance)
    assert float(found.labelled) == pytest.approx(slow_labelled(labelled, targets, weights))
    assert float(found.unlabelled) == pytest.approx(slow_unlabelled(weak, strong, thresholds.tolist(), balance))
    assert 0 < int(found.taken.sum()) < 12


def test_the_sum_is_divided_by_all_unlabelled_pictures_not_by_those_with_a_pseudo_label() -> None:
    sure, unsure = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.1, 0.0]])
    strong, bars = torch.zeros(4, 2), torch.tensor([0.95, 0.95])
    loss, _, _, taken = unlabelled_loss(torch.cat([sure, unsure, unsure, unsure]), strong, bars, False)
    assert taken.tolist() == [True, False, False, False]
    assert float(loss) == pytest.approx(math.log(2) / 4)


def test_no_class_gets_more_than_its_share() -> None:
    weak = torch.tensor([[9.0, 0.0]] * 9 + [[0.0, 9.0]])
    strong = torch.zeros(10, 2, requires_grad=True)
    bars = torch.tensor([0.95, 0.95])
    loss, _, _, _ = unlabelled_loss(weak, strong, bars, True)
    loss.backward()
    pull = strong.grad.abs()[:, 0] * 10 / 0.5  # an item of full weight has a gradient of (1 - 1/2) / 10
    assert pull[:9].tolist() == pytest.approx([5 / 9] * 9)
    assert float(pull[9]) == pytest.approx(1)


def test_no_gradient_flows_through_the_weak_view() -> None:
    weak = torch.tensor([[9.0, 0.0]], requires_grad=True)
    strong = torch.zeros(1, 2, requires_grad=True)
    unlabelled_loss(weak, strong, torch.tensor([0.5, 0.5]), True)[0].backward()
    assert weak.grad is None
    assert strong.grad is not None


def test_a_label_of_weight_two_counts_twice() -> None:
    logits, targets = random(1, 2, 3), torch.eye(3, dtype=torch.float64)[:2]
    twice = labelled_loss(logits[[0, 0, 1]], targets[[0, 0, 1]], torch.ones(3, dtype=torch.float64))
    assert float(labelled_loss(logits, targets, torch.tensor([2.0, 1.0]).double())) == pytest.approx(float(twice))
