"""The loops that people write, which raysal is measured beside: every row with every pick, all rows in memory.

They import nothing of raysal, so that any build of it can be measured beside them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def eager_coreset(x: torch.Tensor, k: int, first: int) -> list[int]:
    """Farthest point, one pick at a time over every row: float32 [n, d], norms known. Where rows are within rounding of
    the farthest, their distances are taken again in double precision, or the picks would be a matter of rounding."""
    norms = (x * x).sum(1)
    gap = torch.full((len(x),), torch.inf)
    picks = [first]
    while len(picks) < k:
        centre = picks[-1]
        torch.minimum(gap, norms + norms[centre] - 2 * (x @ x[centre]), out=gap)
        gap[centre] = -torch.inf
        near = (gap >= gap.max() * (1 - 1e-5)).nonzero()[:, 0]
        if len(near) > 1:
            centres = x[picks].double()
            exact = torch.stack([((x[row].double() - centres) ** 2).sum(1).min() for row in near])
            near = near[exact.argmax()][None]
        picks.append(int(near[0]))
    return picks


def eager_badge(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, budget: torch.Tensor, k: int) -> list[int]:
    """The same race, one pick at a time over every row, with gradients in factors (x, r)."""
    p = torch.softmax(x @ weight.T + bias, 1)
    r = -p
    r[torch.arange(len(x)), p.argmax(1)] += 1
    norms = (x * x).sum(1) * (r * r).sum(1)
    picks = [int(norms.argmax())]
    left, rate = budget.clone(), torch.full((len(x),), torch.inf, dtype=torch.float64)
    while len(picks) < k:
        centre = picks[-1]
        gap = norms + norms[centre] - 2 * (x @ x[centre]) * (r @ r[centre])
        torch.minimum(rate, gap.clamp_(min=0).double(), out=rate)
        rate[centre] = 0
        wait = torch.where(rate > 0, left / rate, torch.inf)
        best = int(wait.argmin())
        left -= rate * wait[best]
        picks.append(best)
    return picks


def published_bait(
    p: NDArray[np.float64], h: NDArray[np.float64], m: NDArray[np.float64], fisher: NDArray[np.float64], k: int
) -> list[int]:
    """The published forward loop with binary Fisher information: two rows of length d an item."""
    x = np.stack([np.sqrt(p) * (1 - p), -np.sqrt(1 - p) * p], 1)[:, :, None] * h[:, None]
    turned = x.transpose(0, 2, 1)
    picks: list[int] = []
    for _ in range(k):
        inner = np.linalg.inv(np.eye(2) + x @ m @ turned)
        value = np.trace(x @ m @ fisher @ m @ turned @ inner, axis1=1, axis2=2)
        value[picks] = -np.inf
        picks.append(int(value.argmax()))
        row = x[picks[-1]]
        m = m - m @ row.T @ np.linalg.inv(np.eye(2) + row @ m @ row.T) @ row @ m
    return picks
