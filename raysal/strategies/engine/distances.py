"""Squared distances between features given by their factors: exact ones in double precision, and a cheap screen.

Exact values come from products of one shape, EXACT_ROWS rows by EXACT_COLUMNS centres, so that a pair has the same
distance to the last bit whoever computes it. They are dear on a CPU (a third to a half of the speed of single
precision), so a screen in single precision first finds the pairs that could matter; its error bound is proven, not
guessed, and only costs exact work when it is too wide."""

from __future__ import annotations

import math

import numpy as np
import torch

from raysal.numerics import EXACT_COLUMNS, EXACT_ROWS, padded, round_up
from raysal.strategies.engine.feature_maps import Arrays, Factors

COINCIDENT = 1e-12
"""Squared distances below this share of the two squared norms are taken as zero: rounding leaves about 1e-15 of the
norms between equal rows, and a positive remainder would let a duplicate of a pick be picked for its noise."""


def sq_norms(factors: Factors) -> torch.Tensor:
    """Squared norms float64 [n] of features: the product of their factors'."""
    norms = torch.ones(len(factors[0]), dtype=torch.float64, device=factors[0].device)
    for factor in factors:
        wide = factor.double()
        norms *= (wide * wide).sum(1)
    return norms


class Centres:
    """A growing list of centres, in tiles: factors float32 [n, width], squared norms and times float64 [n]."""

    def __init__(self, widths: tuple[int, ...], device: torch.device) -> None:
        self.device = device
        self.count = 0
        self.factors: Factors = tuple(torch.zeros(EXACT_COLUMNS, width, device=device) for width in widths)
        self.sq_norms = torch.zeros(EXACT_COLUMNS, dtype=torch.float64, device=device)
        self.times = torch.zeros(EXACT_COLUMNS, dtype=torch.float64, device=device)

    def extend(self, factors: Arrays, times: np.ndarray) -> None:
        """Append centres [m]. Amortised O(m)."""
        new = self.count + len(times)
        room = len(self.times)
        if new > room:
            more = max(round_up(new, EXACT_COLUMNS), 2 * room) - room
            self.factors = tuple(torch.cat([f, f.new_zeros(more, f.shape[1])]) for f in self.factors)
            self.sq_norms = torch.cat([self.sq_norms, self.sq_norms.new_zeros(more)])
            self.times = torch.cat([self.times, self.times.new_zeros(more)])
        own = slice(self.count, new)
        for mine, theirs in zip(self.factors, factors, strict=True):
            mine[own] = torch.tensor(theirs, device=self.device)
        self.sq_norms[own] = sq_norms(tuple(factor[own] for factor in self.factors))
        # Beyond the last centre the time stands still: padding burns nothing.
        self.times[own] = torch.tensor(times, device=self.device)
        self.times[new:] = float(times[-1]) if len(times) else 0.0
        self.count = new

    def sq_distances(self, tile: int, rows: Factors) -> torch.Tensor:
        """Exact squared distances float64 [EXACT_COLUMNS, n] of one tile of centres to rows.

        inf beyond the last centre, 0 where only rounding is left. O(n EXACT_COLUMNS width).
        """
        own = slice(tile * EXACT_COLUMNS, (tile + 1) * EXACT_COLUMNS)
        n = len(rows[0])
        centres = tuple(factor[own].double() for factor in self.factors)
        out = torch.empty(EXACT_COLUMNS, n, dtype=torch.float64, device=self.device)
        for start in range(0, n, EXACT_ROWS):
            some = tuple(_filled(factor[start : start + EXACT_ROWS]) for factor in rows)
            inner = centres[0] @ some[0].T
            for centre, row in zip(centres[1:], some[1:], strict=True):
                inner *= centre @ row.T
            norms = self.sq_norms[own, None] + sq_norms(some)
            gap = torch.sub(norms, inner, alpha=2)
            gap[gap <= COINCIDENT * norms] = 0.0
            out[:, start : start + EXACT_ROWS] = gap[:, : n - start]
        if (tile + 1) * EXACT_COLUMNS > self.count:
            out[self.count - tile * EXACT_COLUMNS :] = torch.inf
        return out

    def closest(self, first: int, last: int, rows: Factors) -> torch.Tensor:
        """For tiles [first, last) and each row: an upper bound float32 [tiles, n] of (|x|^2 - d^2) / 2 over a tile's
        centres, up to `slack` of |x|^2. One product in single precision."""
        own = slice(first * EXACT_COLUMNS, min(last * EXACT_COLUMNS, self.count))
        inner = self.factors[0][own] @ rows[0].T
        for centre, row in zip(self.factors[1:], rows[1:], strict=True):
            inner *= centre[own] @ row.T
        share = (1 - slack(self.factors)) / 2
        inner -= (self.sq_norms[own, None] * share).float()
        tiles = last - first
        if len(inner) == tiles * EXACT_COLUMNS:
            return inner.view(tiles, EXACT_COLUMNS, -1).amax(1)
        full = (tiles - 1) * EXACT_COLUMNS
        parts = [inner[full:].amax(0, keepdim=True)]
        if full:
            parts.insert(0, inner[:full].view(tiles - 1, EXACT_COLUMNS, -1).amax(1))
        return torch.cat(parts)


def slack(factors: Factors) -> float:
    """By what share of the squared norms a squared distance in single precision can be off.

    Any order of summation of a product of width w errs by at most w u |x||c|, u = 2^-24 (Higham 2002, section 3.1);
    norms err by as much; the rest is for the few roundings around them. Where torch may round factors to bfloat16 or
    TensorFloat32 (`torch.set_float32_matmul_precision`), little is screened out, but nothing is lost.
    """
    width = sum(factor.shape[1] for factor in factors)
    roundings = (2 * width + 64) * math.ldexp(1.0, -24)
    return roundings if in_single_precision() else roundings + math.ldexp(1.0, -5)


def in_single_precision() -> bool:
    """Whether products of float32 are taken in float32, and not in bfloat16 or TensorFloat32 for speed."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set by torch's newer switches, which this one cannot read
        return False


def _filled(rows: torch.Tensor) -> torch.Tensor:
    """Rows as float64 [EXACT_ROWS, width], zero below."""
    if len(rows) == EXACT_ROWS:
        return rows.double()
    return padded(rows, rows.shape[1], torch.float64, rows.device, rows=EXACT_ROWS)
