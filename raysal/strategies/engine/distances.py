"""Squared distances between features given by their factors: exact ones in double precision, and a cheap screen.

Exact values come from products of one shape, EXACT_ROWS rows by EXACT_COLUMNS centres. So a pair has the same distance
to the last bit whoever computes it. On a CPU such products have a third to a half of the speed of single precision. So
a screen in single precision first finds the pairs that could matter. Its error bound is proven, not guessed, and if it
is too wide it only costs exact work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from raysal.numerics import EXACT_COLUMNS, EXACT_ROWS, ceil_div, round_up, slices
from raysal.strategies.engine.feature_maps import Arrays, Factors
from raysal.strategies.engine.sharing import Rooms, shared

SCREENED_CENTRES = 16 * EXACT_COLUMNS
"""Centres whose distances are bounded in one product of single precision: with a block of rows it is 12 MB."""
CENTRES_FOR_ORIGIN = 16
"""Centres whose mean is the origin of bounds for good. The mean of fewer says little."""
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


def approximate_sq_norms(factors: Factors) -> torch.Tensor:
    """As `sq_norms`, float32 [n], right up to `slack`. A thirtieth of the time of a product with 96 centres."""
    norms = torch.ones(len(factors[0]), device=factors[0].device)
    for factor in factors:
        norms *= torch.linalg.vector_norm(factor, dim=1).square_()
    return norms


@dataclass(frozen=True)
class WideRows:
    """Rows in double precision, filled up with zeros to whole products of exact distances."""

    count: int
    factors: Factors
    """Float64 [m, width] each, m the count rounded up to EXACT_ROWS."""
    sq_norms: torch.Tensor
    """Float64 [m]."""

    @classmethod
    def of(cls, rows: Factors) -> Self:
        """The rows with these factors, float32 [n, width] each."""
        count, wide = len(rows[0]), []
        for factor in rows:
            room = factor.new_empty(round_up(count, EXACT_ROWS), factor.shape[1], dtype=torch.float64)
            room[:count], room[count:] = factor, 0
            wide.append(room)
        return cls(count, tuple(wide), sq_norms(tuple(wide)))

    def only(self, rows: torch.Tensor) -> Self:
        """Some of the rows, by their positions int64 [n]."""
        return type(self).of(tuple(factor[rows] for factor in self.factors))

    def narrow(self, rows: torch.Tensor) -> Factors:
        """Factors of some of the rows in single precision, without loss, by their positions int64 [n]."""
        return tuple(factor[rows].float() for factor in self.factors)


class Centres:
    """A growing list of centres, in tiles of EXACT_COLUMNS.

    Args:
        widths: Widths of the factors.
        device: The torch device.

    Attributes:
        count: Number of centres.
        factors: Float32 [rows of whole tiles, width] each; zero beyond the last centre.
        sq_norms: Squared norms float64 [rows of whole tiles].
        origin: What bounds are computed about, float32 [width]; None for zero, and for features of two factors. About
            zero, rows that are far from it beside their spread would have bounds as wide as their norms.
        half_sq_norms: Half of the centres' squared norms about it, at least, float32 [rows of whole tiles].
        largest_sq_norm: The largest of these squared norms.
        times: The rule's time of each centre, float64 [rows of whole tiles]; beyond the last centre, that of the last.
    """

    def __init__(self, widths: tuple[int, ...], device: torch.device) -> None:
        self.device = device
        self.count = 0
        self.factors: Factors = tuple(torch.zeros(EXACT_COLUMNS, width, device=device) for width in widths)
        self.sq_norms = torch.zeros(EXACT_COLUMNS, dtype=torch.float64, device=device)
        self.origin: torch.Tensor | None = None
        self.half_sq_norms = torch.zeros(EXACT_COLUMNS, device=device)
        self.largest_sq_norm = 0.0
        self.times = torch.zeros(EXACT_COLUMNS, dtype=torch.float64, device=device)
        self.rooms = Rooms()

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
            self.half_sq_norms = torch.cat([self.half_sq_norms, self.half_sq_norms.new_zeros(more)])
            self.times = torch.cat([self.times, self.times.new_zeros(more)])
        own = slice(self.count, new)
        for mine, theirs in zip(self.factors, factors, strict=True):
            mine[own] = torch.tensor(theirs, device=self.device)
        self.sq_norms[own] = sq_norms(tuple(factor[own] for factor in self.factors))
        if self.count < CENTRES_FOR_ORIGIN:
            self.choose_origin(new)
            self.largest_sq_norm, own = 0.0, slice(new)
        norms = sq_norms(self.about_origin(tuple(factor[own] for factor in self.factors)))
        self.half_sq_norms[own] = (norms * ((1 - slack(self.factors)) / 2)).float()
        self.largest_sq_norm = max(self.largest_sq_norm, *norms.tolist(), 0.0)
        own = slice(self.count, new)
        # Beyond the last centre the time stands still: in a race, padding burns nothing.
        self.times[own] = torch.tensor(times, device=self.device)
        self.times[new:] = float(times[-1]) if len(times) else 0.0
        self.count = new

    def choose_origin(self, count: int) -> None:
        """Compute bounds about the mean of the first centres if that makes norms smaller by half."""
        if len(self.factors) > 1 or count == 0:
            return
        mean = self.factors[0][:count].double().mean(0)
        helps = float(mean @ mean) > 0.5 * float(self.sq_norms[:count].mean())
        self.origin = mean.float() if helps else None

    def about_origin(self, rows: Factors) -> Factors:
        """Factors of rows, float32 [n, width] each, about the origin."""
        return rows if self.origin is None else (rows[0] - self.origin,)

    def tile_times(self, tile: int) -> torch.Tensor:
        """The rule's times float64 [EXACT_COLUMNS] of one tile of centres."""
        return self.times[rows_of_tile(tile)]

    def sq_distances(self, tile: int, rows: WideRows) -> torch.Tensor:
        """Compute exact squared distances of one tile of centres to rows. O(n EXACT_COLUMNS width).

        Args:
            tile: Number of the tile.
            rows: n rows.

        Returns:
            Float64 [EXACT_COLUMNS, n]: inf beyond the last centre, 0 where only rounding is left (`COINCIDENT`).
        """
        own = rows_of_tile(tile)
        centres = tuple(factor[own].double() for factor in self.factors)
        out = torch.empty(EXACT_COLUMNS, len(rows.sq_norms), dtype=torch.float64, device=self.device)
        norms = self.sq_norms[own, None] + rows.sq_norms

        def measure(some: slice) -> None:
            inner = torch.mm(centres[0], rows.factors[0][some].T)
            for centre, row in zip(centres[1:], rows.factors[1:], strict=True):
                inner *= centre @ row[some].T
            torch.sub(norms[:, some], inner, alpha=2, out=out[:, some])

        shared(measure, [*slices(out.shape[1], EXACT_ROWS)])
        out.masked_fill_(out <= norms.mul_(COINCIDENT), 0.0)
        if (tile + 1) * EXACT_COLUMNS > self.count:
            out[self.count - tile * EXACT_COLUMNS :] = torch.inf
        return out[:, : rows.count]

    def screen(
        self, first: int, last: int, rows: Factors, *, grouped: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Bound how near groups of EXACT_COLUMNS centres come to rows. One product in single precision.

        Args:
            first: Number of the first centre.
            last: One past the number of the last centre.
            rows: Factors of the rows, float32 [n, width] each.
            grouped: False for all centres as one group.

        Returns:
            (lower, upper), float64 [groups, n] each: bounds of the squared distance to the nearest centre of each group
            of EXACT_COLUMNS centres, the last of which may be smaller.
        """
        rows = self.about_origin(rows)
        close = self.closeness_of_groups(first, last, rows)
        return self.bounds(close if grouped else close.amax(0, keepdim=True), approximate_sq_norms(rows))

    def able(
        self, first: int, last: int, rows: Factors, sq_distances: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Find the groups that hold a centre as near to a row as the nearest of all, and as a bound says, or nearer.

        Args:
            first: Number of the first centre.
            last: One past the number of the last centre.
            rows: Factors of the rows, float32 [n, width] each.
            sq_distances: A bound for each row, float64 [n].

        Returns:
            (group of EXACT_COLUMNS centres, row) of each pair, int64 [p] each, groups ascending; some may be too many.
        """
        rows = self.about_origin(rows)
        close, norms = self.closeness_of_groups(first, last, rows), approximate_sq_norms(rows)
        least = torch.minimum(self.bounds(close.amax(0), norms)[1], sq_distances)
        which, row = (close >= self.closeness_needed(least, norms)).nonzero(as_tuple=True)
        return which, row

    def closeness_needed(self, sq_distances: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        """How close a centre comes to a row at least, by `closeness`, that may be as near as a bound says, float32 [n].

        Args:
            sq_distances: A bound for each row, float64 [n].
            norms: Squared norms of the rows about the origin, float32 [n], right up to `slack`.

        Returns:
            What `bounds` makes of a closeness is at most the bound only where it is at least so much.
        """
        least, _ = self.bounds(torch.zeros_like(norms), norms)
        needed = ((least - sq_distances) / 2).float()
        return needed.sub_(needed.abs() * 2**-22)

    def bound_of(self, which: torch.Tensor, rows: Factors) -> torch.Tensor:
        """Bound the squared distance of each row to one centre of its own from above. For one factor; O(n width).

        Args:
            which: Numbers of the centres, int64 [n].
            rows: Factors of the rows, float32 [n, width] each.

        Returns:
            Float64 [n].
        """
        rows, centres = self.about_origin(rows), self.about_origin((self.factors[0].index_select(0, which),))
        inner = torch.linalg.vecdot(rows[0], centres[0])
        return self.bounds(inner - self.half_sq_norms[which], approximate_sq_norms(rows))[1]

    def bounds(self, closeness: torch.Tensor, norms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(lower, upper) bounds of squared distances, float64, from `closeness` and squared norms about the origin."""
        share, norms = slack(self.factors), norms.double()
        lower = torch.sub(norms * (1 - share), closeness.double(), alpha=2)
        upper = lower + 2 * share * (norms + self.largest_sq_norm)
        if self.origin is not None:  # exact distances are computed about zero, with norms of up to twice these
            error = 4 * COINCIDENT * (norms + (self.largest_sq_norm + float(self.origin @ self.origin)))
            lower, upper = lower - error, upper + error
        return lower, upper.clamp_(min=0)

    def closeness_of_groups(self, first: int, last: int, rows: Factors) -> torch.Tensor:
        """As `closeness`, of any number of centres; rows are about the origin."""
        parts = [
            self.closeness(start, min(start + SCREENED_CENTRES, last), rows)
            for start in range(first, last, SCREENED_CENTRES)
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def closeness(self, first: int, last: int, rows: Factors) -> torch.Tensor:
        """Bound how close groups of centres come to rows from above: (|x|^2 - d^2) / 2, with d their distance.

        Args:
            first: Number of the first centre.
            last: One past the number of the last centre.
            rows: Factors of the rows, float32 [n, width] each.

        Returns:
            Float32 [groups, n], right up to `slack` of |x|^2.
        """
        # Centres come first, so that the largest of a group is taken of whole rows: four times as fast as along them.
        centres = self.about_origin(tuple(factor[first:last] for factor in self.factors))
        inner = torch.mm(
            centres[0], rows[0].T, out=self.rooms.room("inner", last - first, len(rows[0]), device=self.device)
        )
        half = self.half_sq_norms[first:last, None]
        if len(rows) == 1:
            inner -= half
        else:
            other = torch.mm(centres[1], rows[1].T, out=self.rooms.room("other", *inner.shape, device=self.device))
            torch.addcmul(-half, inner, other, out=inner)
        whole = (last - first) // EXACT_COLUMNS
        groups = inner[: whole * EXACT_COLUMNS].view(whole, EXACT_COLUMNS, inner.shape[1]).amax(1)
        rest = inner[whole * EXACT_COLUMNS :]
        return torch.cat([groups, rest.amax(0, keepdim=True)]) if len(rest) else groups

    def group_times(self, first: int, last: int) -> torch.Tensor:
        """The rule's time of the last centre of each group of `screen`, float64 [groups]."""
        ends = torch.arange(first + EXACT_COLUMNS, last + EXACT_COLUMNS, EXACT_COLUMNS).clamp_(max=last) - 1
        return self.times[ends.to(self.device)]


def rows_of_tile(tile: int) -> slice:
    """Where a tile of centres lies in the list of centres."""
    return slice(tile * EXACT_COLUMNS, (tile + 1) * EXACT_COLUMNS)


def slack(factors: Factors) -> float:
    """Bound the error of a squared distance in single precision.

    Any order of summation of a product of width w errs by at most w u |x||c|, u = 2^-24 (Higham 2002, section 3.1).
    Norms err by as much; the rest is for the few roundings around them. To take an origin off rounds every number once,
    which changes a squared distance by at most 4 u (|x|^2 + |c|^2). Where torch may round factors to bfloat16 or
    TensorFloat32 (`torch.set_float32_matmul_precision`), the bound is so wide that little is screened out, but nothing
    is lost.

    Args:
        factors: [n, width] each; only the widths matter.

    Returns:
        The error as a share of the squared norms.
    """
    width = sum(factor.shape[1] for factor in factors)
    roundings = (2 * width + 72) * math.ldexp(1.0, -24)
    return roundings if in_single_precision() else roundings + BFLOAT16_ERROR


def in_single_precision() -> bool:
    """Whether products of float32 are taken in float32, and not in bfloat16 or TensorFloat32 for speed."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set by torch's newer switches, which this one cannot read
        return False
