"""Which of many centroids is nearest to a row: exact in single precision, screened by products in half of it.

Products of bfloat16 take a sixth of the time where the processor has matrix tiles (AMX), and say which groups of
centroids can hold the nearest one, by a proven bound. Only these are compared in single precision. What is found, with
its distance, is the same to the last bit with the screen and without.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.numerics import BLOCK_ROWS, AlignedMatrix, round_up, slices
from raysal.strategies.engine.guesses import seconds

TILE = 256
"""Centroids that are compared together."""
EXACT_ROWS = 256
"""Rows of a product in single precision: as many as a tile has of a block of rows, about."""
SCREENED_ROWS = 1024
"""Rows of a product of the screen."""
HALVES = 32
"""Columns that hold the halves of squared norms, in three parts each; as many as the tiles of a processor are wide."""
BFLOAT16 = 2.0**-8
"""Relative error of a number that was rounded to bfloat16; twice what it can be."""
FLOAT32 = 2.0**-22
"""Relative error of a step in single precision; four times what it can be."""
GAIN = 2.0
"""How much faster products of bfloat16 must be than those of float32, so that the screen pays."""


class NearestCentroid:
    """Finds the nearest of some centroids.

    Everything is computed about the mean of the centroids, where products lose fewer digits. Time O(n k d), with the
    screen a third to a quarter of it. Several threads may use it, each of which computes on one.
    """

    def __init__(
        self, centroids: NDArray[np.float32], width: int, device: torch.device | str = "cpu", screen: bool | None = None
    ) -> None:
        """Lay centroids out.

        Args:
            centroids: [k, d], k >= 1, finite.
            width: of the rows: d rounded up.
            device: where the rows are.
            screen: whether to look with products of bfloat16 first; by default where they are fast, and centroids many.
        """
        self.count, dim = centroids.shape
        self.width, self.device = width, torch.device(device)
        mean = centroids.astype(np.float64).mean(0)
        self.origin = torch.zeros(width, device=device)
        self.origin[:dim] = torch.from_numpy(mean.astype(np.float32))
        about = (centroids - mean.astype(np.float32)).astype(np.float32)
        self.tiles = list(slices(self.count, TILE))
        self.matrices = [AlignedMatrix(about[own], torch.float32, device, width=width) for own in self.tiles]
        norms = (about.astype(np.float64) ** 2).sum(1)
        self.halves = [torch.from_numpy((norms[own] / 2).astype(np.float32)).to(device) for own in self.tiles]
        many = len(self.tiles) > 2 and self.device.type == "cpu"
        self.screen = (many and halves_pay()) if screen is None else screen
        if self.screen:
            self._lay_out_screen(torch.from_numpy(about), torch.from_numpy(norms))

    def _lay_out_screen(self, about: torch.Tensor, norms: torch.Tensor) -> None:
        rows = round_up(self.count, TILE)
        wide = torch.zeros(rows, self.width + HALVES, dtype=torch.bfloat16)
        wide[: self.count, : about.shape[1]] = about
        wide[: self.count, self.width : self.width + 3] = _in_parts((norms / 2).float())
        wide[: self.count, self.width + 3 : self.width + 6] = 1
        wide[self.count :, self.width] = torch.inf  # never the least
        self.columns = [wide[start : start + TILE].T.contiguous() for start in range(0, rows, TILE)]
        lost = (about - wide[: self.count, : about.shape[1]].float()).double().square().sum(1).sqrt()
        longest = [float(norms[own].max().sqrt()) for own in self.tiles]
        self.longest = torch.tensor(longest, dtype=torch.float32)
        self.lost = torch.tensor([float(lost[own].max()) for own in self.tiles], dtype=torch.float32)

    def of(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Find the nearest centroid of each row; of equally near ones the first.

        Args:
            rows: float32 [n, width], zero beyond d.

        Returns:
            Which int64 [n], and its squared distance float32 [n].
        """
        n, width = rows.shape
        # Columns beyond d are zero in rows and origin. A whole number of exact products, so that each has one shape.
        about = torch.zeros(round_up(n, BLOCK_ROWS if self.screen else EXACT_ROWS), width, device=self.device)
        torch.sub(rows, self.origin, out=about[:n])
        sq_norms = (about * about).sum(1)
        least = torch.full((len(about),), torch.inf, device=self.device)
        which = torch.zeros(len(about), dtype=torch.int64, device=self.device)
        if self.screen:
            for start in range(0, len(about), BLOCK_ROWS):
                own = slice(start, start + BLOCK_ROWS)
                self._screened(about[own], sq_norms[own], least[own], which[own], n - start)
        else:
            for start in range(0, len(about), EXACT_ROWS):
                own = slice(start, start + EXACT_ROWS)
                for place in range(len(self.tiles)):
                    value, column = self._exact(about[own], place)
                    better = value < least[own]
                    least[own] = torch.where(better, value, least[own])
                    which[own] = torch.where(better, column, which[own])
        return which[:n], (2 * least + sq_norms)[:n].clamp_min_(0)

    def _exact(self, rows: torch.Tensor, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Of a tile the least |c|^2 / 2 - x c, and which centroid has it, for EXACT_ROWS rows."""
        products = self.matrices[place].products(rows)
        value, column = torch.sub(self.halves[place], products).min(1)
        return value, column + self.tiles[place].start

    def _screened(
        self, about: torch.Tensor, sq_norms: torch.Tensor, least: torch.Tensor, which: torch.Tensor, n: int
    ) -> None:
        """Look at a block of rows by the screen, and at the tiles that it leaves in single precision."""
        doubtful = self._doubtful(about, sq_norms)
        doubtful[:, max(n, 0) :] = False
        gathered = torch.zeros(EXACT_ROWS, self.width)
        for place in range(len(self.tiles)):
            found = doubtful[place].nonzero()[:, 0]
            for start in range(0, len(found), EXACT_ROWS):
                rows = found[start : start + EXACT_ROWS]
                torch.index_select(about, 0, rows, out=gathered[: len(rows)])
                gathered[len(rows) :] = 0
                value, column = self._exact(gathered, place)
                before = least[rows]
                better = value[: len(rows)] < before
                least[rows] = torch.where(better, value[: len(rows)], before)
                which[rows] = torch.where(better, column[: len(rows)], which[rows])

    def _doubtful(self, about: torch.Tensor, sq_norms: torch.Tensor) -> torch.Tensor:
        """Find the tiles that may hold the nearest centroid of each row of a block.

        The products are half the squared distances: |x|^2 / 2 + |c|^2 / 2 - x c, of rounded x and c and in sums of
        float32, and then rounded to bfloat16. The first is off by |x - x'| |c| + |x'| |c - c'| at most, the rest by
        shares of what is added, and of the result.

        Args:
            about: float32 [BLOCK_ROWS, width], about the origin.
            sq_norms: of these [BLOCK_ROWS].

        Returns:
            bool [tiles, BLOCK_ROWS], with at least one tile for each row.
        """
        wide = torch.zeros(BLOCK_ROWS, self.width + HALVES, dtype=torch.bfloat16)
        wide[:, : self.width] = -about
        wide[:, self.width : self.width + 3] = 1
        wide[:, self.width + 3 : self.width + 6] = _in_parts(sq_norms / 2)
        lengths = sq_norms.sqrt()
        lost = (about + wide[:, : self.width]).square_().sum(1).sqrt_()  # wide holds the negative
        room = torch.empty(SCREENED_ROWS, TILE, dtype=torch.bfloat16)
        found = torch.empty(len(self.tiles), BLOCK_ROWS, dtype=torch.int16)
        for start in range(0, BLOCK_ROWS, SCREENED_ROWS):
            rows = wide[start : start + SCREENED_ROWS]
            for place, columns in enumerate(self.columns):
                torch.mm(rows, columns, out=room)
                # The bits of positive numbers are ordered as these are. The bits of negative ones are below all.
                torch.amin(room.view(torch.int16), 1, out=found[place, start : start + SCREENED_ROWS])
        halves = found.clamp_min_(0).view(torch.bfloat16).float()
        added = FLOAT32 * (lengths + self.longest[:, None]).square() * self.width**0.5
        error = lost * self.longest[:, None] + (lengths + lost) * self.lost[:, None] + added
        error *= 1 + BFLOAT16
        most = (halves * (1 + 2 * BFLOAT16) + error).amin(0)
        doubtful: torch.Tensor = halves * (1 - 2 * BFLOAT16) - error <= most
        return doubtful


def _in_parts(values: torch.Tensor) -> torch.Tensor:
    """Numbers [n] as sums of three of bfloat16, [n, 3]."""
    parts = []
    for _ in range(3):
        parts.append(values.bfloat16())
        values = values - parts[-1].float()
    return torch.stack(parts, 1)


@cache
def halves_pay() -> bool:
    """Measure once, in some milliseconds, whether products of bfloat16 are much faster than those of float32.

    Returns:
        Whether they are; nothing but the time depends on it.
    """
    rows, columns = torch.ones(EXACT_ROWS, 256), torch.ones(256, TILE)
    halves = rows.bfloat16(), columns.bfloat16()
    return GAIN * seconds(lambda: torch.mm(*halves)) < seconds(lambda: torch.mm(rows, columns))
