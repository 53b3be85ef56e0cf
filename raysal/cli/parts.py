"""The options that say what is chosen in a pool of parts, and what a batch may cost."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from typer import Option

from raysal.scoring.aggregators.registry import AGGREGATORS


class Rows(StrEnum):
    """What a batch, or a label, is of."""

    part = "part"
    owner = "owner"


class OwnerFeatures(StrEnum):
    """The values of `PartsConfig.aggregate_features`, as a choice on the command line."""

    mean = "mean"
    weighted_mean = "weighted_mean"
    best_part = "best_part"


By = Annotated[
    Rows,
    Option(help="In a pool of parts (boxes, tiles, frames): choose parts, or what owns them, by the keys of owners."),
]
LabelsOf = Annotated[
    Rows, Option(help="By owner: what the labels are of. With part, the head learns from the vectors of parts.")
]
AggregateFeatures = Annotated[
    OwnerFeatures,
    Option(
        metavar="WHAT",
        help="By owner: what stands for one. The mean of its parts, their weighted_mean, or its best_part.",
    ),
]
AggregateScores = Annotated[
    str | None,
    Option(
        metavar="NAME",
        help=f"By owner: how scores of parts become its own. {', '.join(AGGREGATORS)}; some take more after a colon: "
        "top_mean:3, quantile:0.9, custom:MODULE:CALLABLE. (Default: what stands for the owner is scored.)",
    ),
]
PartScore = Annotated[
    str | None,
    Option(
        metavar="SCORE",
        help="The score of parts for weighted_mean, best_part and --per-owner. (Default: that of the strategy.)",
    ),
]
PerOwner = Annotated[
    int, Option(min=0, help="By part: how many of one owner may be offered, those of highest score. 0 is all.")
]
BudgetOption = Annotated[
    float | None, Option(help="In place of -k: what the batch may cost. It ends before the first pick beyond that.")
]
CostColumn = Annotated[
    str | None,
    Option(metavar="COLUMN", help="Carried column of costs. (Default: 1 for an item, its parts for an owner.)"),
]


def parts_given(
    by: Rows, labels_of: Rows, features: OwnerFeatures, scores: str | None, score: str | None, per_owner: int
) -> dict[str, Any]:
    """The options as fields of `raysal.config.PartsConfig`."""
    return {
        "by": by.value,
        "labels_of": labels_of.value,
        "aggregate_features": features.value,
        "aggregate_scores": scores,
        "score": score,
        "per_owner": per_owner,
    }
