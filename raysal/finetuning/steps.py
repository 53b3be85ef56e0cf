"""A step of the network by its gradients, and the average over steps that is kept.

torch's own optimizers load the compiler, which takes longer than a short training (findings/), and keep their state
in an order of their own. These few lines keep it by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Of Adam."""
LAST = 7 / 16
"""Of half a turn of the cosine that the learning rate has gone through at the end (Sohn et al. 2020)."""


def learning_rate(first: float, step: int, steps: int) -> float:
    """The learning rate of a step, which falls along a cosine from `first` to 0.195 of it."""
    return first * math.cos(math.pi * LAST * step / steps)


def adam_(
    parameters: Mapping[str, torch.Tensor],
    moments: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    step: int,
    rate: float,
    decay: float,
) -> None:
    """Move parameters by their gradients, as torch.optim.AdamW does (arXiv 1711.05101); gradients are cleared.

    Its steps have the size of the learning rate whatever the scale of the gradients, which differs by orders of
    magnitude between networks. Parameters of fewer than two dimensions (biases, batch norms) have no decay.

    Args:
        parameters: by name; moved in place.
        moments: of each, the running means of the gradient and of its square, zero before the first step; changed in
            place.
        step: number of the step, from 0.
        rate: the learning rate.
        decay: pull to zero, times the learning rate.
    """
    import torch

    first, second = 1 - BETAS[0] ** (step + 1), 1 - BETAS[1] ** (step + 1)
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.grad is None:
                continue
            mean, square = moments[name]
            mean.lerp_(parameter.grad, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(parameter.grad, parameter.grad, value=1 - BETAS[1])
            if parameter.ndim > 1:
                parameter.mul_(1 - rate * decay)
            parameter.addcdiv_(mean, (square / second).sqrt_().add_(EPSILON), value=-rate / first)
            parameter.grad = None


def average_(mean: Mapping[str, torch.Tensor], now: Mapping[str, torch.Tensor], keep: float) -> None:
    """Take a step of the network into the average: mean = keep · mean + (1 - keep) · now.

    After n steps with values x_1, ..., x_n it is keep^n x_0 + (1 - keep) · Σ_i keep^(n-i) x_i. Buffers are averaged as
    parameters are: of batch norms, the mean and the variance belong to the weights. Whole numbers are copied.

    Args:
        mean: the average by name, changed in place; x_0 before the first step.
        now: parameters and buffers after the step.
        keep: what the average keeps of itself.
    """
    import torch

    with torch.no_grad():
        for name, value in mean.items():
            if value.is_floating_point():
                value.lerp_(now[name], 1 - keep)
            else:
                value.copy_(now[name])
