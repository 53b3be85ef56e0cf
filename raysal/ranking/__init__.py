"""The items of a pool in the order of a score, as files: `job` makes a ranking, `reading` shows pages of one.

To read one needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysal.registry import names_on_use

if TYPE_CHECKING:
    from raysal.ranking.job import RankReport, rank_pool
    from raysal.ranking.options import Options
    from raysal.ranking.reading import Ranking

__all__ = ["Options", "RankReport", "Ranking", "rank_pool"]

_HOMES = {
    "Options": "raysal.ranking.options",
    "RankReport": "raysal.ranking.job",
    "Ranking": "raysal.ranking.reading",
    "rank_pool": "raysal.ranking.job",
}

__getattr__ = names_on_use(__name__, _HOMES)
