"""From candidates, or the whole pool, to a batch of k in pick order."""

from raysal._callable import make_callable
from raysal.select.badge import Badge, KMeansPlusPlus
from raysal.select.bait import Bait
from raysal.select.base import Picks, Selector, Task, select
from raysal.select.batch_bald import BatchBald
from raysal.select.clue import Clue
from raysal.select.coreset import CoreSet, PCoreSet
from raysal.select.epig import Epig
from raysal.select.falcun import Falcun
from raysal.select.flagged import AlfaMix, DropQuery
from raysal.select.herding import MaxHerding, UHerding
from raysal.select.lcmd import Lcmd
from raysal.select.ldm import Ldm
from raysal.select.power import PowerBald, PowerMargin
from raysal.select.probcover import ProbCover
from raysal.select.ranked import Random, TopScore
from raysal.select.typiclust import TypiClust
from raysal.select.updating import Fantasised, Revealed
from raysal.select.wrappers import ClassBalanced, SkipExtremes

SELECTORS: dict[str, type[Selector]] = {
    "alfa_mix": AlfaMix,
    "badge": Badge,
    "bait": Bait,
    "batch_bald": BatchBald,
    "class_balanced": ClassBalanced,
    "clue": Clue,
    "coreset": CoreSet,
    "drop_query": DropQuery,
    "epig": Epig,
    "falcun": Falcun,
    "fantasy": Fantasised,
    "kmeans_plus_plus": KMeansPlusPlus,
    "lcmd": Lcmd,
    "ldm": Ldm,
    "max_herding": MaxHerding,
    "pcoreset": PCoreSet,
    "power_bald": PowerBald,
    "power_margin": PowerMargin,
    "probcover": ProbCover,
    "random": Random,
    "reveal": Revealed,
    "skip_extremes": SkipExtremes,
    "top_score": TopScore,
    "typiclust": TypiClust,
    "u_herding": UHerding,
}

__all__ = ["SELECTORS", "Picks", "Selector", "Task", "select"]

make_callable(__name__)
