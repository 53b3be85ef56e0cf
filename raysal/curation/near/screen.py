"""One product that says which pairs of rows may be near: a bound on their distances from some of their numbers.

Of leading numbers a and b of two rows x and y, and of the lengths r and s of the rest, a . b + r s >= x . y (Cauchy and
Schwarz). So u = a . b + r s - |x|^2 / 2 - |y|^2 / 2 + l / 2 is at least 0 where the squared distance is at most l, up
to a share of the norms, which is taken off these.

Where the processor multiplies matrices of bfloat16 (AMX), the product is of such numbers: it takes a fifth of the time.
Of a = a' + e and b = b' + f, each rounded and what was lost, a . b <= a' . b' + |a'| |f| + |e| |b|: two more columns.
Lengths are rounded up, norms are kept as the sum of three numbers. The sum is rounded last, which keeps its sign.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.numerics import round_up
from raysal.strategies.engine.distances import slack

UP = 1 + 2.0**-7
"""A length times this is no less once it is rounded to bfloat16."""
TERMS = 3
"""Numbers of bfloat16 whose sum is a number of float32, up to 2^-24 of it."""
SHAPE = 64
"""Sides of products are multiples of this: for each new shape, bfloat16's library compiles code for milliseconds."""
TINY = 2.0**-100
"""Makes a sum of zeros positive."""


def in_bfloat16() -> bool:
    """Whether products of bfloat16 are fast here. What is near does not depend on it."""
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(supported is not None and supported())


@dataclass(frozen=True)
class Screen:
    """Rows of a unit, as the products take them. Memory: 2 or 4 bytes for each leading number."""

    right: torch.Tensor
    """[n, w]: leading numbers, pairs of lengths, ones, and -|x|^2 / 2"""
    sq_norms: torch.Tensor
    """float32 [n], of whole rows"""
    share: float
    """by how much of the norms a product may be off"""
    flipped: torch.Tensor
    """columns of the left side, in the order in which they meet those of the right"""

    @classmethod
    def of(cls, rows: torch.Tensor, sq_norms: torch.Tensor, lead: int, *, rounded: bool | None = None) -> Screen:
        """Make the right side.

        Args:
            rows: float32 [n, d].
            sq_norms: float32 [n].
            lead: how many numbers are leading.
            rounded: to bfloat16; None where that is fast.

        Returns:
            The screen.
        """
        rounded = in_bfloat16() if rounded is None else rounded
        numbers, rest = rows[:, :lead], torch.linalg.vector_norm(rows[:, lead:], dim=1)
        terms = TERMS if rounded else 1
        lengths = 3 if rounded else 1
        width = lead + lengths + 2 * terms
        right = torch.ones(len(rows), width, dtype=torch.bfloat16 if rounded else torch.float32)
        right[:, :lead] = numbers
        if rounded:
            kept = right[:, :lead].float()
            lost = torch.linalg.vector_norm(numbers - kept, dim=1)
            whole = torch.maximum(torch.linalg.vector_norm(numbers, dim=1), torch.linalg.vector_norm(kept, dim=1))
            for column, length in enumerate((rest, lost, whole)):
                right[:, lead + column] = length * UP
        else:
            right[:, lead] = rest
        share = slack((right,))
        right[:, width - terms :] = _split(sq_norms * (-(1 - share) / 2), terms, right.dtype)
        order = [*range(lead), lead, *((lead + 2, lead + 1) if rounded else ())]
        order += [*range(width - terms, width), *range(width - 2 * terms, width - terms)]
        return cls(right, sq_norms, share, torch.tensor(order))

    def only(self, rows: torch.Tensor) -> Screen:
        """Of some rows alone."""
        return replace(self, right=self.right.index_select(0, rows), sq_norms=self.sq_norms[rows])

    def left(self, rows: NDArray[np.int64], limit: torch.Tensor) -> torch.Tensor:
        """The left side of some rows.

        Args:
            rows: positions [m].
            limit: squared distances up to which others are asked for, float32 [m].

        Returns:
            [m, w].
        """
        own = torch.from_numpy(rows)
        x = self.right.index_select(0, own).index_select(1, self.flipped)
        terms = TERMS if x.dtype == torch.bfloat16 else 1
        half = self.sq_norms[own] * (-(1 - self.share) / 2) + limit * ((1 + self.share) / 2) + TINY
        x[:, -2 * terms : -terms] = _split(half, terms, x.dtype)
        return x

    def hits(self, x: torch.Tensor, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pairs that may be within the limits: most columns have none, and are passed over as a whole.

        Args:
            x: a left side [m, w], of a screen of the same width.
            rows: positions of rows on the right [r].

        Returns:
            Places in `x`, and in `rows`, of each pair.
        """
        wanted = np.zeros(round_up(len(rows), SHAPE), np.int64)
        wanted[: len(rows)] = rows
        left = torch.zeros(round_up(len(x), SHAPE), x.shape[1], dtype=x.dtype)
        left[: len(x)] = x
        product = (left @ self.right.index_select(0, torch.from_numpy(wanted)).T)[: len(x), : len(rows)]
        # A number of a float is below zero if and only if its bits are: the largest whole number is found at once.
        bits = product.view(torch.int16 if product.dtype == torch.bfloat16 else torch.int32)
        some = (bits.amax(0) >= 0).nonzero()[:, 0] if len(x) else torch.empty(0, dtype=torch.int64)
        found = bits if 2 * len(some) > len(rows) else bits.index_select(1, some)
        row, column = np.nonzero(found.numpy() >= 0)
        return row, column if 2 * len(some) > len(rows) else some.numpy()[column]


def _split(values: torch.Tensor, terms: int, dtype: torch.dtype) -> torch.Tensor:
    """Values [n] as sums of numbers of a type, [n, terms]."""
    parts, rest = [], values.float()
    for _ in range(terms):
        parts.append(rest.to(dtype))
        rest = rest - parts[-1].float()
    return torch.stack(parts, 1)
