"""Which centre is nearest to each row, exactly: once the lazy engine has picked, for a rule without an order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet import Partition
from raysal.numerics import EXACT_COLUMNS
from raysal.strategies.engine.centre_cells import CentreCells
from raysal.strategies.engine.exact_states import able_tiles, exact_gaps
from raysal.strategies.engine.feature_maps import Factors
from raysal.strategies.engine.lazy_greedy import Unsent
from raysal.strategies.engine.partition_state import RowStates
from raysal.strategies.engine.sharing import in_runs, sharing


@dataclass(frozen=True, kw_only=True)
class NearestCentres:
    """The nearest centre of each candidate of a partition that was not picked."""

    ids: NDArray[np.int64]
    """[n], ascending"""
    centre: NDArray[np.int64]
    """[n], its number, of equally near ones the lowest: those that were there from the start, then the picks"""
    sq_distance: NDArray[np.float64]
    """[n]"""


def nearest_centres(partition: Partition, unsent: Unsent | None) -> NearestCentres:
    """Find the nearest centre of each candidate that was not picked.

    Costs a guess for each row, and a product in single precision with the centres that bounds leave: with 10,000
    centres and more a share of all of them (`centre_cells`). Memory: 20 bytes a row.

    Args:
        partition: where `lazy_greedy` has picked, by a rule for which order does not matter.
        unsent: centres that no partition knows of yet.

    Returns:
        The nearest centres. Distances are exact as those of picks are, to the same bits.
    """
    rows: RowStates = partition.state["row_states"]
    with sharing(len(partition) * partition.width, partition.device):
        if unsent is not None:
            rows.add_centres(unsent.ids, unsent.factors, unsent.times)
        left = (rows.state[-1] > -torch.inf).nonzero()[:, 0]
        rows.bring_up_to_date(left)
        # Rows that were picked are looked at, too, and left out at the end: neighbours are read where they lie.
        centre, sq_distance = torch.empty(len(rows), dtype=torch.int64), torch.empty(len(rows), dtype=torch.float64)
        cells = rows.guesses.cells_of(rows.centres)

        def look(run: slice) -> None:
            factors = rows.gathered(np.arange(run.start, run.stop))
            nearest, least = nearest_of(rows, cells, factors, rows.state[0, run])
            centre[run], sq_distance[run] = nearest.cpu(), least.cpu()

        in_runs(look, len(rows), most=rows.rows_together)
        places = left.cpu().numpy()
        return NearestCentres(
            ids=rows.ids[places], centre=centre.numpy()[places], sq_distance=sq_distance.numpy()[places]
        )


def nearest_of(
    rows: RowStates, cells: CentreCells | None, factors: Factors, bound: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the nearest centre of rows.

    Args:
        rows: Says what the centres are.
        cells: Of the centres, if they are so many that it pays to look at cells.
        factors: Of the rows, float32 [n, width] each.
        bound: At least the squared distance to the nearest centre, float64 [n]; -inf where none is asked for.

    Returns:
        (numbers of centres int64 [n], squared distances float64 [n]).
    """
    centres, nothing = rows.centres, torch.zeros(len(bound), dtype=torch.int64, device=bound.device)
    able = None if cells is None else cells.able_tiles(centres, factors[0], bound)
    if able is None:
        able = able_tiles(rows.rule, centres, nothing, factors, bound)
    least, nearest = torch.full_like(bound, torch.inf), nothing.clone()
    for tile, own, gaps in exact_gaps(centres, factors, able):
        gap, place = gaps.min(0)  # of equal ones the first, by its documentation; tiles ascend
        better = gap < least[own]
        least[own[better]] = gap[better]
        nearest[own[better]] = place[better] + tile * EXACT_COLUMNS
    return nearest, least
