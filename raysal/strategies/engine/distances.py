"""Squared distances between features given by their factors: exact ones in double precision, and a cheap screen.

Exact values come from products of one shape, EXACT_ROWS rows by EXACT_COLUMNS centres. So a pair has the same distance
to the last bit whoever computes it. On a CPU such products have a third to a half of the speed of single precision. So
a screen in single precision first finds the pairs that could matter. Its error bound is proven, not guessed, and if it
is too wide it only costs exact work.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from raysal.numerics import EXACT_COLUMNS, EXACT_ROWS, ceil_div, padded, round_up, slices
from raysal.strategies.engine.feature_maps import Arrays, Factors

COINCIDENT = 1e-12
"""A squared distance below this share of the two squared norms together is taken as zero. Rounding leaves about 1e-15
of the norms between equal rows, and a positive remainder would let a copy of a pick be picked for its rounding."""
BFLOAT16_ERROR = math.ldexp(1.0, -5)
"""Relative error of a squared distance from products of factors that were rounded to bfloat16, at most."""


def sq_norms(factors: Factors) -> torch.Tensor:
    """Squared norms float64 [n] of features: the product of the squared norms of their factors."""
    norms = torch.ones(len(factors[0]), dtype=torch.float64, device=factors[0].device)
    for factor in factors:
        wide = factor.double()
        norms *= (wide * wide).sum(1)
    return norms


class Centres:
    """A growing list of centres, in tiles of EXACT_COLUMNS.

    Args:
        widths: Widths of the factors.
        device: The torch device.

    Attributes:
        count: Number of centres.
        factors: Float32 [rows of whole tiles, width] each; zero beyond the last centre.
        sq_norms: Squared norms float64 [rows of whole tiles].
        times: The rule's time of each centre, float64 [rows of whole tiles]; beyond the last centre, that of the last.
    """

    def __init__(self, widths: tuple[int, ...], device: torch.device) -> None:
        self.device = device
        self.count = 0
        self.factors: Factors = tuple(torch.zeros(EXACT_COLUMNS, width, device=device) for width in widths)
        self.sq_norms = torch.zeros(EXACT_COLUMNS, dtype=torch.float64, device=device)
        self.times = torch.zeros(EXACT_COLUMNS, dtype=torch.float64, device=device)

    @property
    def tiles(self) -> int:
        """Number of tiles that hold a centre."""
        return ceil_div(self.count, EXACT_COLUMNS)

    def extend(self, factors: Arrays, times: np.ndarray) -> None:
        """Append centres. Amortised O(m).

        Args:
            factors: Float32 [m, width] each.
            times: Float64 [m].
        """
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
        # Beyond the last centre the time stands still: in a race, padding burns nothing.
        self.times[own] = torch.tensor(times, device=self.device)
        self.times[new:] = float(times[-1]) if len(times) else 0.0
        self.count = new

    def tile_times(self, tile: int) -> torch.Tensor:
        """The rule's times float64 [EXACT_COLUMNS] of one tile of centres."""
        return self.times[rows_of_tile(tile)]

    def sq_distances(self, tile: int, rows: Factors) -> torch.Tensor:
        """Compute exact squared distances of one tile of centres to rows. O(n EXACT_COLUMNS width).

        Args:
            tile: Number of the tile.
            rows: Factors of the rows, float32 [n, width] each.

        Returns:
            Float64 [EXACT_COLUMNS, n]: inf beyond the last centre, 0 where only rounding is left (`COINCIDENT`).
        """
        own = rows_of_tile(tile)
        n = len(rows[0])
        centres = tuple(factor[own].double() for factor in self.factors)
        out = torch.empty(EXACT_COLUMNS, n, dtype=torch.float64, device=self.device)
        for columns in slices(n, EXACT_ROWS):
            some = tuple(filled(factor[columns]) for factor in rows)
            inner = centres[0] @ some[0].T
            for centre, row in zip(centres[1:], some[1:], strict=True):
                inner *= centre @ row.T
            norms = self.sq_norms[own, None] + sq_norms(some)
            gap = torch.sub(norms, inner, alpha=2)
            gap[gap <= COINCIDENT * norms] = 0.0
            out[:, columns] = gap[:, : columns.stop - columns.start]
        if (tile + 1) * EXACT_COLUMNS > self.count:
            out[self.count - tile * EXACT_COLUMNS :] = torch.inf
        return out

    def closeness_bounds(self, first: int, last: int, rows: Factors) -> torch.Tensor:
        """Bound how close each tile of centres comes to rows: the screen. One product in single precision.

        The closeness of a centre c to a row x is (|x|^2 - d^2) / 2, with d their distance.

        Args:
            first: Number of the first tile.
            last: One past the number of the last tile.
            rows: Factors of the rows, float32 [n, width] each.

        Returns:
            Float32 [tiles, n]: for each tile an upper bound of the largest closeness, up to `slack` of |x|^2.
        """
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


def rows_of_tile(tile: int) -> slice:
    """Where a tile of centres lies in the list of centres."""
    return slice(tile * EXACT_COLUMNS, (tile + 1) * EXACT_COLUMNS)


def slack(factors: Factors) -> float:
    """Bound the error of a squared distance in single precision.

    Any order of summation of a product of width w errs by at most w u |x||c|, u = 2^-24 (Higham 2002, section 3.1).
    Norms err by as much; the rest is for the few roundings around them. Where torch may round factors to bfloat16 or
    TensorFloat32 (`torch.set_float32_matmul_precision`), the bound is so wide that little is screened out, but nothing
    is lost.

    Args:
        factors: [n, width] each; only the widths matter.

    Returns:
        The error as a share of the squared norms.
    """
    width = sum(factor.shape[1] for factor in factors)
    roundings = (2 * width + 64) * math.ldexp(1.0, -24)
    return roundings if in_single_precision() else roundings + BFLOAT16_ERROR


def in_single_precision() -> bool:
    """Whether products of float32 are taken in float32, and not in bfloat16 or TensorFloat32 for speed."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set by torch's newer switches, which this one cannot read
        return False


def filled(rows: torch.Tensor) -> torch.Tensor:
    """Rows as float64 [EXACT_ROWS, width], zero below."""
    if len(rows) == EXACT_ROWS:
        return rows.double()
    return padded(rows, rows.shape[1], torch.float64, rows.device, rows=EXACT_ROWS)
