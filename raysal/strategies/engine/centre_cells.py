"""Centres in cells around centroids: which of very many may be near a row, without a look at all of them.

A centre lies in the cell of its nearest centroid. That serves twice:

- **A guess.** The centre nearest to a row is most often in one of the few cells whose centroids are nearest to the row.
  The distance to any centre bounds that to the nearest one from above, so a wrong guess costs time and nothing else.
- **A proof.** Between the cells i and j lies the plane of points as far from one centroid as from the other, and every
  centre of j is beyond it, seen from a row of i. So if a row is farther from the plane than from some centre, no centre
  of j is nearer (generalised hyperplanes: Uhlmann 1991).

Of 10,000 picks among 100,000 images (256 numbers), 98 % of the rows have their nearest one in 8 of 256 cells, with 5 %
of the picks; and the planes leave a quarter of all pairs, at the radius of the picks half of them.
"""

from __future__ import annotations

import numpy as np
import torch

from raysal.numerics import BLOCK_ROWS, EXACT_COLUMNS, slices
from raysal.rng import derive
from raysal.strategies.engine.distances import Centres, approximate_sq_norms, slack
from raysal.strategies.engine.kmeans import k_means

CELLS = 256
"""Cells, at most: to find a row's own takes as long as to compare it with as many centres."""
SAMPLE = 4096
"""Centres whose clusters the cells are. Where they lie, there later ones are; rows would have to be read."""
ITERATIONS = 4
"""Of the clustering."""
PROBES = 6
"""Cells in which a guess looks for the nearest centre."""
FEWEST_CENTRES = 8192
"""Centres from which on planes between cells may save time."""
GATHERED = 200
"""To gather a row for one cell takes the time of so many of its products with centres (128 and 256 numbers). With 5,000
centres, 20 in a cell, every row was gathered for most of 256 cells: 10 s in place of the 4 s of all products."""
FEWEST_MISSED = 16384
"""Centres that a row must miss for a guess by cells: it takes 0.3 of the time of one by integers, for 50,000 0.22. For
8,192 it takes 0.44, and with 30,000 picks the whole choice took longer, as fewer guesses are right."""


class CentreCells:
    """The cells of a growing list of centres of one factor, as `Centres` has them: about its origin, in tiles.

    Memory: 16 bytes a centre.

    Args:
        centres: at least one; those of later calls of `extend` are the same, and more.
    """

    def __init__(self, centres: Centres) -> None:
        self.origin = centres.origin
        sample = self._about_origin(centres.factors[0][: min(centres.count, SAMPLE)])
        found = k_means(sample.numpy(), CELLS, derive(0, "cells of centres"), iterations=ITERATIONS).centroids
        self.centroids = torch.from_numpy(found).float()
        wide = self.centroids.double()
        self.sq_norms = (wide * wide).sum(1).float()
        self.between = torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist").float()
        self.cell = torch.empty(0, dtype=torch.int64)
        """of each centre, [count]"""
        self.extend(centres)

    def extend(self, centres: Centres) -> None:
        """Put centres into their cells that are new since the last call. O(new · cells · width + count log count)."""
        before = len(self.cell)
        if before == centres.count:
            return
        new = centres.factors[0][before : centres.count]
        cells = [self._values(self._about_origin(new[some])).argmin(1) for some in slices(len(new), BLOCK_ROWS)]
        self.cell = torch.cat([self.cell, *cells])
        self.members = self.cell.argsort(stable=True)
        """numbers of the centres, by cell, ascending in each, [count]"""
        self.starts = torch.searchsorted(self.cell[self.members], torch.arange(len(self.centroids) + 1)).tolist()

    def members_from(self, cell: int, first: int) -> torch.Tensor:
        """The centres of a cell from a first number on, ascending."""
        own = self.members[self.starts[cell] : self.starts[cell + 1]]
        return own if first == 0 else own[int(torch.searchsorted(own, first)) :]

    def guess_nearest(self, centres: Centres, first: int, rows: torch.Tensor) -> torch.Tensor:
        """Guess which of the centres from a first one on is nearest to each row: the nearest in the cells near it.

        Args:
            centres: those of the cells.
            first: number of the first one, below their count.
            rows: float32 [n, width].

        Returns:
            Numbers of centres, int64 [n].
        """
        rows = self._about_origin(rows)
        probes = self._values(rows).topk(min(PROBES, len(self.centroids)), dim=1, largest=False, sorted=False).indices
        of_cell = probes.flatten().argsort(stable=True)
        bounds = torch.searchsorted(probes.flatten()[of_cell], torch.arange(len(self.centroids) + 1)).tolist()
        of_cell //= probes.shape[1]
        best, which = torch.full((len(rows),), -torch.inf), torch.full((len(rows),), centres.count - 1)
        for cell in range(len(self.centroids)):
            if bounds[cell] == bounds[cell + 1]:
                continue
            own, some = of_cell[bounds[cell] : bounds[cell + 1]], self.members_from(cell, first)
            if len(some) == 0:
                continue
            near, place = self._closeness(centres, rows[own], some).max(0)
            better = near > best[own]
            own = own[better]
            best[own], which[own] = near[better], some[place[better]]
        return which

    def able_tiles(self, centres: Centres, rows: torch.Tensor, sq_distances: torch.Tensor) -> torch.Tensor | None:
        """Find the tiles that hold a centre as near to a row as a bound says, or nearer: by proven bounds.

        Costs O(n cells width), and products in single precision with the centres of the cells that can be reached.

        Args:
            centres: those of the cells.
            rows: float32 [n, width].
            sq_distances: a bound for each row, float64 [n].

        Returns:
            (tile, row) of each pair, int64 [2, p], in order. None if the planes leave so much that products with all
            centres are faster.
        """
        norms = approximate_sq_norms(centres.about_origin((rows,)))
        rows = self._about_origin(rows)
        reached = self._reached(rows, norms, sq_distances, centres.largest_sq_norm)
        members = torch.tensor(self.starts).diff()
        if int((reached.sum(1) * (members + GATHERED)).sum()) >= len(rows) * centres.count:
            return None
        needed = centres.closeness_needed(sq_distances, norms)
        found = [np.empty(0, np.int64)]
        for cell in reached.any(1).nonzero()[:, 0].tolist():
            some, own = self.members_from(cell, 0), reached[cell].nonzero()[:, 0]
            close = self._closeness(centres, rows[own], some)
            near = (close.amax(0) >= needed[own]).nonzero()[:, 0]  # few; to look at every pair takes as long as it
            place, row = (close[:, near] >= needed[own[near]]).nonzero(as_tuple=True)
            found.append(np.unique((some[place] // EXACT_COLUMNS * len(rows) + own[near[row]]).numpy()))
        which, of = np.divmod(np.unique(np.concatenate(found)), len(rows))
        return torch.from_numpy(np.stack([which, of]))

    def _reached(
        self, rows: torch.Tensor, norms: torch.Tensor, sq_distances: torch.Tensor, largest: float
    ) -> torch.Tensor:
        """Which cells may hold a centre within a bound of each row, bool [cells, n]."""
        share, values = slack((rows,)), self._values(rows)
        own = values.argmin(1)
        # Four errors, each at most half a share: two values here, and the two by which a centre came into its cell.
        error = 4 * share * (norms * (1 + share) + 2 * max(largest, float(self.sq_norms.max())))
        values -= values.gather(1, own[:, None]) + error[:, None]
        limit = self.between[own] * (2 * (1 + share) * sq_distances.clamp(min=0).sqrt().float()[:, None])
        return (values <= limit).T.contiguous()

    def _about_origin(self, rows: torch.Tensor) -> torch.Tensor:
        return rows if self.origin is None else rows - self.origin

    def _values(self, rows: torch.Tensor) -> torch.Tensor:
        """|x - c|^2 - |x|^2 of rows and centroids, float32 [n, cells]: only differences are used."""
        return torch.addmm(self.sq_norms, rows, self.centroids.T, alpha=-2)

    def _closeness(self, centres: Centres, rows: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """(|x|^2 - d^2) / 2 of some of the centres and rows, float32 [m, n], as `Centres.closeness` bounds it."""
        # Centres come first: the largest of each row is found in half the time.
        some = self._about_origin(centres.factors[0].index_select(0, which))
        return torch.addmm(-centres.half_sq_norms[which, None], some, rows.T)
