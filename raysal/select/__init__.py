"""From candidates, or the whole pool, to a batch of k in pick order."""

from raysal._callable import make_callable
from raysal.select.badge import Badge, KMeansPlusPlus
from raysal.select.base import Picks, Selector, Task, select
from raysal.select.coreset import CoreSet, PCoreSet
from raysal.select.ranked import Random, TopScore
from raysal.select.typiclust import TypiClust
from raysal.select.wrappers import ClassBalanced, SkipExtremes

SELECTORS: dict[str, type[Selector]] = {
    "badge": Badge,
    "class_balanced": ClassBalanced,
    "coreset": CoreSet,
    "kmeans_plus_plus": KMeansPlusPlus,
    "pcoreset": PCoreSet,
    "random": Random,
    "skip_extremes": SkipExtremes,
    "top_score": TopScore,
    "typiclust": TypiClust,
}

__all__ = ["SELECTORS", "Picks", "Selector", "Task", "select"]

make_callable(__name__)
