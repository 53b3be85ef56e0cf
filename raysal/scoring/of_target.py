"""Scores of the classes that are looked for: how likely an item is one of them.

Of numbers there are none. With several labels at once an item is looked for if any of its labels is, and labels are
taken to be independent given the item.
"""

from __future__ import annotations

import torch

from raysal.scoring.base import Predicted, needed, score

MOST_LOG_ODDS = 1e4
"""Where every class is looked for, or none, the odds are infinite or 0. Their logarithm stays a number."""


@score("target")
def probability(predicted: Predicted) -> torch.Tensor:
    """The probability that an item is of a class that is looked for.

    One class of several: Σ p over these classes. Several labels: 1 - Π (1 - p). Of heads that are sure, float32 rounds
    many items to 1, which then are ties; `log_odds` tells them apart. Cost O(nC).

    Returns:
        float32 [n] in [0, 1].
    """
    p = predicted.probabilities[needed(predicted.target)]
    found: torch.Tensor = p.sum(0) if predicted.likelihood.exclusive else 1 - (1 - p).prod(0)
    return found.float().clamp(0, 1)


@score("target")
def log_odds(predicted: Predicted) -> torch.Tensor:
    """log(p / (1 - p)) of the `probability` p that an item is of a class that is looked for, finer where p is near 1.

    One class of several: log Σ exp(logits) over these classes, less that over the others. Cost O(nC).

    Returns:
        float32 [n] in [-10000, 10000].
    """
    return odds_of(predicted.logits, needed(predicted.target), predicted.likelihood.exclusive).float()


def odds_of(logits: torch.Tensor, target: torch.Tensor, exclusive: bool) -> torch.Tensor:
    """The log odds that items are of classes that are looked for, as finely as the logits are.

    Args:
        logits: [C, n].
        target: bool [C], which classes are looked for.
        exclusive: whether an item has exactly one class; else it is looked for if any of its labels is.

    Returns:
        [n] in [-10000, 10000].
    """
    if exclusive:
        odds = _log_sum_exp(logits[target]) - _log_sum_exp(logits[~target])
    else:
        none = torch.nn.functional.logsigmoid(-logits[target]).sum(0)  # log Π (1 - p)
        odds = torch.log(-torch.expm1(none)) - none
    return odds.clamp(-MOST_LOG_ODDS, MOST_LOG_ODDS)


def _log_sum_exp(logits: torch.Tensor) -> torch.Tensor:
    """Log Σ exp over classes, [n]; minus infinity where there is no class."""
    if len(logits) == 0:
        return logits.new_full(logits.shape[1:], -torch.inf)
    total: torch.Tensor = torch.logsumexp(logits, 0)
    return total
