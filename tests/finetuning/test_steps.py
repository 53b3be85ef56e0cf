"""A step of Adam, the average over steps, and which pictures a step sees."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from tiers import deep

from raysal.finetuning.sampling import labelled_places, unlabelled_places
from raysal.finetuning.steps import LAST, adam_, average_, learning_rate

torch = pytest.importorskip("torch")


def test_the_average_is_the_closed_form_for_weights_and_buffers() -> None:
    keep, steps = 0.9, 25
    rng = np.random.default_rng(0)
    network = torch.nn.BatchNorm1d(3)
    values = [
        {name: torch.from_numpy(rng.normal(size=3)).float() for name in ("weight", "bias", "running_mean")}
        for _ in range(steps)
    ]
    mean = {name: value.clone() for name, value in network.state_dict().items()}
    start = {name: value.clone() for name, value in mean.items()}
    for step, now in enumerate(values):
        average_(mean, {**network.state_dict(), **now, "num_batches_tracked": torch.tensor(step)}, keep)
    for name in ("weight", "bias", "running_mean"):
        expected = keep**steps * start[name].double() + sum(
            (1 - keep) * keep ** (steps - 1 - at) * now[name].double() for at, now in enumerate(values)
        )
        np.testing.assert_allclose(mean[name].numpy(), expected.numpy(), rtol=1e-4, atol=1e-6)
    assert int(mean["num_batches_tracked"]) == steps - 1


def test_a_step_is_adams_by_the_definition() -> None:
    rng = np.random.default_rng(1)
    start = rng.normal(size=(2, 3))
    parameters = {"weight": torch.from_numpy(start.copy()).requires_grad_()}
    moments = {"weight": (torch.zeros(2, 3).double(), torch.zeros(2, 3).double())}
    value, mean, square = start.copy(), np.zeros((2, 3)), np.zeros((2, 3))
    for step in range(6):
        gradient = rng.normal(size=(2, 3))
        parameters["weight"].grad = torch.from_numpy(gradient.copy())
        adam_(parameters, moments, step, 0.01, 0.1)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        value *= 1 - 0.01 * 0.1
        value -= 0.01 * (mean / (1 - 0.9 ** (step + 1))) / (np.sqrt(square / (1 - 0.999 ** (step + 1))) + 1e-8)
    np.testing.assert_allclose(parameters["weight"].detach().numpy(), value, rtol=1e-9)


@deep  # to make an optimizer of torch loads its compiler
def test_a_step_is_that_of_torchs_adamw() -> None:
    rng = np.random.default_rng(1)
    weight, bias = torch.from_numpy(rng.normal(size=(4, 3))), torch.from_numpy(rng.normal(size=4))
    mine = {"weight": weight.clone().requires_grad_(), "bias": bias.clone().requires_grad_()}
    theirs = [weight.clone().requires_grad_(), bias.clone().requires_grad_()]
    groups = [{"params": theirs[:1], "weight_decay": 0.1}, {"params": theirs[1:], "weight_decay": 0.0}]
    peer = torch.optim.AdamW(groups, lr=0.01)
    moments = {name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in mine.items()}
    for step in range(7):
        for own, other in zip(mine.values(), theirs, strict=True):
            own.grad = torch.from_numpy(rng.normal(size=tuple(own.shape)))
            other.grad = own.grad.clone()
        adam_(mine, moments, step, 0.01, 0.1)
        peer.step()
    for own, other in zip(mine.values(), theirs, strict=True):
        np.testing.assert_allclose(own.detach().numpy(), other.detach().numpy(), rtol=1e-9)
        assert own.grad is None


def test_the_learning_rate_falls_to_a_fifth() -> None:
    rates = [learning_rate(2.0, step, 100) for step in range(101)]
    assert rates[0] == 2
    assert rates[100] == pytest.approx(2 * math.cos(math.pi * LAST))
    assert rates == sorted(rates, reverse=True)


def counted(groups: list[Any], size: int, steps: int) -> Counter[int]:
    return Counter(np.concatenate([labelled_places(groups, size, step, 3) for step in range(steps)]).tolist())


def test_classes_give_equally_many_labelled_pictures_however_rare_they_are() -> None:
    groups = [np.arange(0, 95), np.arange(95, 100)]
    for step in range(5):
        places = labelled_places(groups, 16, step, 3)
        assert (places >= 95).sum() == 8
    seen = counted(groups, 16, 20)  # 160 of each class
    assert {seen[place] for place in range(95, 100)} == {32}
    assert {seen[place] for place in range(95)} == {1, 2}


def test_every_unlabelled_picture_comes_once_before_any_comes_again() -> None:
    seen = np.concatenate([unlabelled_places(30, 12, step, 3) for step in range(10)])
    for start in range(0, 120, 30):
        assert sorted(seen[start : start + 30]) == list(range(30))
    assert not np.array_equal(seen[:30], seen[30:60])
    assert np.array_equal(unlabelled_places(7, 20, 0, 3)[:7], np.concatenate([unlabelled_places(7, 7, 0, 3)]))
