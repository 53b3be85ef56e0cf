"""Guesses which centre is nearest to a row: in a few cells of very many, or by products of 8-bit integers.

The distance to any centre bounds that to the nearest one from above. So a guess needs no margin: the distance to the
one centre guessed is bounded in single precision, and a wrong guess makes the bound too high, but never hides a row.
Rows whose bound is below what could win, most of them, need nothing more. What goes up with bounds that are too high is
the number of rows that are made exact and then not sent: `Guesses` counts them, and ends guessing.

A product of integers takes a ninth of the time of single precision on CPUs with instructions for it (AVX512-VNNI, 4096
x 256 by 768). The centre guessed was the nearest for 94 to 98 % of the rows of three pools of 256 numbers, and
distances were 0.01 to 0.1 % too large on average, with one scale for all columns and centres about their mean. Without
the mean, columns far from zero take all the digits. Products in bfloat16 guess better and take twice as long.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, Self

import torch

from raysal.numerics import round_up
from raysal.strategies.engine.centre_cells import FEWEST_CENTRES, FEWEST_MISSED, CentreCells
from raysal.strategies.engine.distances import Centres
from raysal.strategies.engine.priorities import Rule
from raysal.strategies.engine.sharing import Rooms

GROUP = 64
"""Centres that are told apart by the lowest bits of a number: a power of two."""
COLUMNS = 4 * GROUP
"""Centres in one product: with a block of rows it is 4 MB."""
FEWEST_WIDTH = 48
"""Numbers of a row below which products are not what takes the time."""
WORTHWHILE = 2**31
"""Multiplications of a partition before it guesses: to find out whether this machine gains takes as long as they do."""
GAIN = 3
"""Times as fast as single precision: what products of integers must be."""
WASTE = 16
"""Of the pairs that were guessed, one in so many may be bounded for nothing before guessing ends."""


class Guesses:
    """Whether a partition is to guess, and what it took so far.

    Args:
        widths: Widths of the factors of a row.
        device: Where they lie.
        rule: What rows are judged by. Where the order of centres matters, the nearest one does not say enough.
    """

    def __init__(self, widths: tuple[int, ...], device: torch.device, rule: Rule) -> None:
        self.allowed = len(widths) == 1 and device.type == "cpu" and not rule.depends_on_order
        self.allowed = self.allowed and widths[0] >= FEWEST_WIDTH
        self.may_have_cells = self.allowed
        self.width = sum(widths)
        self.pairs = 0
        """Pairs of a row and a centre from which a guess was made."""
        self.wasted = 0
        """Pairs bounded to make a state exact that was not sent: its bound was too high."""
        self.free_rows = 0
        """Rows that may be made exact before one of them is wasted: as many are sent."""
        self.rounded: RoundedCentres | None = None
        self.cells: CentreCells | None = None

    def pay(self, pairs: int, centres: Centres) -> bool:
        """Whether guesses help a partition that bounds so many pairs, of rows with these centres."""
        enough = self.allowed and pairs * self.width >= WORTHWHILE
        return enough and self.how(centres.count) is not None

    def how(self, missed: int) -> Literal["cells", "integers"] | None:
        """How the nearest of so many centres is to be guessed; None where bounds are as fast."""
        if missed >= FEWEST_MISSED:
            return "cells"
        return "integers" if integers_pay() else None

    def cells_of(self, centres: Centres) -> CentreCells | None:
        """The cells of centres, if they are so many that it pays to look at cells."""
        if not self.may_have_cells or centres.count < FEWEST_CENTRES:
            return None
        self.cells = self.cells or CentreCells(centres)
        self.cells.extend(centres)
        return self.cells

    def nearest_of(self, centres: Centres, first: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """What guesses which of the centres from a first one on is nearest to each row; several threads may call it."""
        if self.how(centres.count - first) == "cells" and (cells := self.cells_of(centres)) is not None:
            return lambda rows: cells.guess_nearest(centres, first, rows)
        if self.rounded is None or self.rounded.count < centres.count:
            self.rounded = RoundedCentres.of(centres.factors[0][: centres.count])
        rounded = self.rounded
        return lambda rows: rounded.nearest(first, rows)

    def wasted_too_much(self, rows: int, pairs: int) -> bool:
        """Note that rows are to be made exact, and say whether bounds were too high for too many.

        Args:
            rows: How many. If they are more than will be sent, others did not stand the test.
            pairs: What each of them takes.

        Returns:
            Whether pairs were wasted beyond a share of those guessed.
        """
        wasted = max(0, rows - self.free_rows)
        self.free_rows = max(0, self.free_rows - rows)
        self.wasted += wasted * pairs
        return self.wasted * WASTE > self.pairs


@dataclass(frozen=True)
class RoundedCentres:
    """Centres about their mean as 8-bit integers, in units of one scale.

    Attributes:
        count: Number of centres.
        origin: Their mean, float32 [width].
        unit: What 1 stands for.
        most: The largest integer: sums of products of that many numbers stay below 2^25.
        integers: Int8 [whole groups and more, width]; beyond the last centre it is repeated.
        half_sq_norms: Half the squared norms, in squares of the unit, int32 [as many].
        rooms: For rows in units, and for products.
    """

    count: int
    origin: torch.Tensor
    unit: float
    most: int
    integers: torch.Tensor
    half_sq_norms: torch.Tensor
    rooms: Rooms

    @classmethod
    def of(cls, centres: torch.Tensor) -> Self:
        """Round centres, float32 [count, width]. O(count width)."""
        count, width = centres.shape
        most = min(127, math.isqrt(2**26 // (3 * width)))
        origin = centres.mean(0)
        unit = float((centres - origin).abs().amax()) / most or 1.0
        integers = torch.empty(count + GROUP, width, dtype=torch.int8)
        half = torch.empty(count + GROUP, dtype=torch.int32)
        for start in range(0, count, COLUMNS):
            own = slice(start, min(start + COLUMNS, count))
            scaled = (centres[own] - origin).div_(unit)
            half[own] = ((scaled * scaled).sum(1) / 2).round_().int()
            integers[own] = scaled.round_()
        integers[count:], half[count:] = integers[count - 1], half[count - 1]
        return cls(count, origin, unit, most, integers, half, Rooms())

    def nearest(self, first: int, rows: torch.Tensor) -> torch.Tensor:
        """Guess which of the centres from a first one on is nearest to each row.

        Args:
            first: Number of the first centre, below the count.
            rows: Float32 [n, width].

        Returns:
            Numbers of centres, int64 [n].
        """
        n = len(rows)
        scaled = torch.sub(rows, self.origin, out=self.rooms.room("scaled", *rows.shape)).div_(self.unit)
        rounded = scaled.clamp_(-self.most, self.most).round_().to(torch.int8)
        places, parts = torch.arange(COLUMNS, dtype=torch.int32) % GROUP, []
        for start in range(first, self.count, COLUMNS):
            own = slice(start, start + round_up(min(COLUMNS, self.count - start), GROUP))
            close = self.rooms.room("close", n, own.stop - start, dtype=torch.int32)
            torch._int_mm(rounded, self.integers[own].T, out=close)
            # The larger x.c - |c|^2/2, the nearer. Below it the number of the centre in its group is added, so that the
            # largest of a group names it: torch's `argmax` takes longer than the product.
            torch.add(places[: close.shape[1]] - GROUP * self.half_sq_norms[own], close, alpha=GROUP, out=close)
            parts.append(close.view(n, -1, GROUP).amax(2))
        closest, group = torch.cat(parts, 1).max(1)
        return (first + group * GROUP + (closest & (GROUP - 1))).clamp_(max=self.count - 1)


@cache
def integers_pay() -> bool:
    """Measure once, in some milliseconds, whether products of 8-bit integers are much faster than those of float32.

    Returns:
        Whether they are. Without instructions for them they are slower. Nothing but the time depends on the answer.
    """
    if not hasattr(torch, "_int_mm"):
        return False
    rows, centres = torch.ones(512, 256), torch.ones(COLUMNS, 256)
    integers = rows.to(torch.int8), centres.to(torch.int8).T
    try:
        quick = seconds(lambda: torch._int_mm(*integers))
    except RuntimeError:  # not built for this machine
        return False
    return GAIN * quick < seconds(lambda: rows @ centres.T)


def seconds(work: Callable[[], object]) -> float:
    """The shortest of some runs, after one that warms up: of a few, all may be halted where cores are busy."""
    work()
    times = []
    for _ in range(20):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
