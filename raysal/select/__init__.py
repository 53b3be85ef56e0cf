"""From candidates, or the whole pool, to a batch of k in pick order."""

from raysal._callable import make_callable
from raysal.select.badge import Badge
from raysal.select.base import Picks, Selector, Task, select
from raysal.select.coreset import CoreSet
from raysal.select.ranked import Random, TopScore
from raysal.select.typical import Typical

SELECTORS: dict[str, type[Selector]] = {
    "badge": Badge,
    "coreset": CoreSet,
    "random": Random,
    "top_score": TopScore,
    "typical": Typical,
}

__all__ = ["SELECTORS", "Picks", "Selector", "Task", "select"]

make_callable(__name__)
