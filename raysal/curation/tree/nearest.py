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

TILE = 64
"""Centroids that are compared together in single precision."""
LARGE_TILE = 4096
"""The same on other devices than CPUs, where each call takes longer than its products."""
EXACT_ROWS = 64
"""Rows of a product in single precision: as many as a tile of ten thousand centroids has of a block of rows, about."""
SCREENED_ROWS = 1024
"""Rows of a product of the screen: of 256 numbers they stay in the cache of a core."""
SCREENED_TILES = 4
"""Tiles of a product of the screen."""
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
        small = self.device.type == "cpu"
        self.tile, self.exact_rows = (TILE, EXACT_ROWS) if small else (LARGE_TILE, SCREENED_ROWS)
        mean = centroids.astype(np.float64).mean(0)
        self.origin = torch.zeros(width, device=device)
        self.origin[:dim] = torch.from_numpy(mean.astype(np.float32))
        about = np.zeros((round_up(self.count, self.tile), dim), np.float32)  # every product has one shape
        about[: self.count] = centroids - mean.astype(np.float32)
        norms = (about.astype(np.float64) ** 2).sum(1)
        self.tiles = len(about) // self.tile
        tiles = [slice(start, start + self.tile) for start in range(0, len(about), self.tile)]
        self.matrices = [AlignedMatrix(about[own], torch.float32, device, width=width) for own in tiles]
        self.halves = torch.from_numpy((norms / 2).astype(np.float32)).to(device)
        self.halves[self.count :] = torch.inf  # never the least
        self.screen = (small and self.tiles > 2 and halves_pay()) if screen is None else screen
        if self.screen:
            self._lay_out_screen(torch.from_numpy(about), torch.from_numpy(norms))

    def _lay_out_screen(self, about: torch.Tensor, norms: torch.Tensor) -> None:
        size = SCREENED_TILES * self.tile
        wide = torch.zeros(round_up(self.count, size), self.width + HALVES, dtype=torch.bfloat16)
        wide[: len(about), : about.shape[1]] = about
        wide[: len(about), self.width : self.width + 3] = _in_parts((norms / 2).float())
        wide[: len(about), self.width + 3 : self.width + 6] = 1
        wide[self.count :, self.width] = torch.inf
        self.columns = [wide[start : start + size].T.contiguous() for start in range(0, len(wide), size)]
        lost = (about - wide[: len(about), : about.shape[1]].float()).double().square().sum(1).sqrt()
        self.longest = norms.sqrt().view(-1, self.tile).amax(1).float()
        self.lost = lost.view(-1, self.tile).amax(1).float()

    def of(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Find the nearest centroid of each row; of equally near ones the first.

        Args:
            rows: float32 [n, width], zero beyond d.

        Returns:
            Which int64 [n], and its squared distance float32 [n].
        """
        which = torch.empty(len(rows), dtype=torch.int64, device=self.device)
        sq_distance = torch.empty(len(rows), device=self.device)
        for own in slices(len(rows), BLOCK_ROWS):
            which[own], sq_distance[own] = self._of_block(rows[own])
        return which, sq_distance

    def _of_block(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `of`, of BLOCK_ROWS rows at most."""
        n = len(rows)
        about = torch.zeros(round_up(n, SCREENED_ROWS), self.width, device=self.device)
        sq_norms = torch.empty(len(about), device=self.device)
        found = torch.empty(len(about), self.tiles if self.screen else 0, dtype=torch.int16)
        lost = torch.empty(len(about))
        for own in slices(len(about), SCREENED_ROWS):
            piece, given = about[own], rows[own]
            torch.sub(given, self.origin, out=piece[: len(given)])
            sq_norms[own] = (piece * piece).sum(1)
            if self.screen:
                lost[own] = self._screened(piece, sq_norms[own], found[own])
        if not self.screen:
            least, which = self._of_all(about)
            return which[:n], (2 * least + sq_norms)[:n].clamp_min_(0)
        place, row = self._doubtful(found[:n], sq_norms[:n], lost[:n]).T.nonzero().unbind(1)
        value, column = self._of_pairs(about, row, torch.bincount(place, minlength=self.tiles).tolist())
        least = torch.full((n,), torch.inf).scatter_reduce_(0, row, value, "amin")
        column = torch.where(value == least[row], column, self.count)
        which = torch.full((n,), self.count).scatter_reduce_(0, row, column, "amin")
        return which.clamp_max_(self.count - 1), (2 * least + sq_norms[:n]).clamp_min_(0)

    def _exact(
        self, rows: torch.Tensor, place: int, room: torch.Tensor, out: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        """Of some rows the least |c|^2 / 2 - x c of a tile, and which centroid of the tile has it, into `out`."""
        self.matrices[place].padded_products(rows, out=room)
        torch.min(torch.sub(self.halves[place * self.tile : (place + 1) * self.tile], room, out=room), 1, out=out)

    def _of_all(self, about: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `_of_pairs`, of every row with its best tile: [m] each."""
        value = torch.empty(self.tiles, len(about), device=self.device)
        column = torch.empty(self.tiles, len(about), dtype=torch.int64, device=self.device)
        room = torch.empty(self.exact_rows, self.tile, device=self.device)
        for own in slices(len(about), self.exact_rows):
            rows = about[own]
            for place in range(self.tiles):
                self._exact(rows, place, room, (value[place, own], column[place, own]))
        least, best = value.min(0)
        # Where a row is not finite, any centroid will do: who asked refuses it.
        return least, (column.gather(0, best[None])[0] + best * self.tile).clamp_max_(self.count - 1)

    def _of_pairs(self, about: torch.Tensor, row: torch.Tensor, counts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Compare rows with tiles in single precision.

        Args:
            about: float32 [m, width], about the origin.
            row: positions in it [p], those for the first tile first.
            counts: how many of them are for each tile.

        Returns:
            Of each of these pairs the least |c|^2 / 2 - x c of the tile [p], and which centroid has it [p].
        """
        # A product at a time: the rows that fill the last product up are any.
        value, column = (
            torch.empty(len(row) + self.exact_rows),
            torch.empty(len(row) + self.exact_rows, dtype=torch.int64),
        )
        row = torch.cat([row, row.new_zeros(self.exact_rows)])
        room, gathered = torch.empty(self.exact_rows, self.tile), torch.empty(self.exact_rows, self.width)
        start = 0
        for place, count in enumerate(counts):
            stop = start + count
            for low in range(start, stop, self.exact_rows):
                own = slice(low, low + self.exact_rows)  # what is written beyond the tile is written anew by the next
                torch.index_select(about, 0, row[own], out=gathered)
                self._exact(gathered, place, room, (value[own], column[own]))
            column[start:stop] += place * self.tile
            start = stop
        return value[:start], column[:start]

    def _screened(self, about: torch.Tensor, sq_norms: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        """Look at SCREENED_ROWS rows in bfloat16.

        The products are half the squared distances: |x|^2 / 2 + |c|^2 / 2 - x c.

        Args:
            about: float32 [n, width], about the origin.
            sq_norms: of these [n].
            found: the bits of the least product of each tile go here, int16 [n, tiles].

        Returns:
            How much the rows lost when they were rounded: |x - x'| [n].
        """
        wide = torch.zeros(len(about), self.width + HALVES, dtype=torch.bfloat16)
        wide[:, : self.width] = about.neg()
        wide[:, self.width : self.width + 3] = 1
        wide[:, self.width + 3 : self.width + 6] = _in_parts(sq_norms / 2)
        room = torch.empty(len(about), SCREENED_TILES * self.tile, dtype=torch.bfloat16)
        for first, columns in zip(range(0, self.tiles, SCREENED_TILES), self.columns, strict=True):
            torch.mm(wide, columns, out=room)
            # The bits of positive numbers are ordered as these are. The bits of negative ones are below all.
            least = room.view(torch.int16).view(len(about), SCREENED_TILES, self.tile).amin(2)
            found[:, first : first + SCREENED_TILES] = least[:, : self.tiles - first]
        lost: torch.Tensor = torch.linalg.vector_norm(about + wide[:, : self.width], dim=1)  # wide holds the negative
        return lost

    def _doubtful(self, found: torch.Tensor, sq_norms: torch.Tensor, lost: torch.Tensor) -> torch.Tensor:
        """Find the tiles that may hold the nearest centroid of each row.

        What the screen computed is off by |x - x'| |c| + |x'| |c - c'| at most for rounded x' and c', by shares of what
        is added in single precision, and by a share of the result, which is rounded to bfloat16.

        Args:
            found: int16 [n, tiles], of `_screened`.
            sq_norms: of the rows [n].
            lost: when they were rounded [n].

        Returns:
            bool [n, tiles], with at least one tile for each row.
        """
        halves = found.clamp_min_(0).view(torch.bfloat16).float()
        lengths, lost = sq_norms.sqrt()[:, None], lost[:, None]
        error = (FLOAT32 * self.width**0.5) * (lengths + self.longest).square_()
        error.addcmul_(lost, self.longest).addcmul_(lengths + lost, self.lost).mul_(1 + BFLOAT16)
        most = torch.add(error, halves, alpha=1 + 2 * BFLOAT16).amin(1, keepdim=True)
        doubtful: torch.Tensor = halves.mul_(1 - 2 * BFLOAT16).sub_(error) <= most
        return doubtful | ~torch.isfinite(most)


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
    rows, columns = torch.ones(SCREENED_ROWS, 256), torch.ones(256, SCREENED_TILES * TILE)
    halves = rows.bfloat16(), columns.bfloat16()
    return GAIN * seconds(lambda: torch.mm(*halves)) < seconds(lambda: torch.mm(rows, columns))
