"""The strategies by name. To add one: a file with a class as in `base.Selector`, a line here.

The name of a score is the short name of the strategy `top_score` with that score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysal.registry import Meaning, Registry
from raysal.scoring.registry import SCORES

if TYPE_CHECKING:
    from raysal.strategies.base import Selector

SELECTORS: Registry[type[Selector]] = Registry(
    {
        "alfa_mix": "raysal.strategies.uncertainty.perturbation:AlfaMix",
        "badge": "raysal.strategies.coverage.badge:Badge",
        "bait": "raysal.strategies.information.bait:Bait",
        "batch_bald": "raysal.strategies.information.batch_bald:BatchBald",
        "class_balanced": "raysal.strategies.wrappers.candidates:ClassBalanced",
        "clue": "raysal.strategies.coverage.clue:Clue",
        "coreset": "raysal.strategies.coverage.coreset:CoreSet",
        "drop_query": "raysal.strategies.uncertainty.perturbation:DropQuery",
        "epig": "raysal.strategies.information.epig:Epig",
        "falcun": "raysal.strategies.uncertainty.falcun:Falcun",
        "fantasy": "raysal.strategies.wrappers.sequential:Fantasised",
        "isal": "raysal.strategies.information.isal:Isal",
        "kmeans_plus_plus": "raysal.strategies.coverage.badge:KMeansPlusPlus",
        "lcmd": "raysal.strategies.coverage.lcmd:Lcmd",
        "ldm": "raysal.strategies.uncertainty.ldm:Ldm",
        "max_herding": "raysal.strategies.coverage.herding:MaxHerding",
        "novelty": "raysal.strategies.novelty:Novelty",
        "pcoreset": "raysal.strategies.coverage.coreset:PCoreSet",
        "power_bald": "raysal.strategies.information.power:PowerBald",
        "power_margin": "raysal.strategies.information.power:PowerMargin",
        "probcover": "raysal.strategies.coverage.probcover:ProbCover",
        "random": "raysal.strategies.simple:Random",
        "reveal": "raysal.strategies.wrappers.sequential:Revealed",
        "search": "raysal.strategies.search.strategy:Search",
        "skip_extremes": "raysal.strategies.wrappers.candidates:SkipExtremes",
        "top_score": "raysal.strategies.simple:TopScore",
        "typiclust": "raysal.strategies.coverage.typiclust:TypiClust",
        "u_herding": "raysal.strategies.coverage.herding:UHerding",
    },
    short={score: Meaning("top_score", {"score": score}) for score in SCORES},
)
