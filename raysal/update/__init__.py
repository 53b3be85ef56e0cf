"""Labels to head: fit it anew (`TRAINERS`), or take one closed-form step from the last one (`update`)."""

from raysal.update.base import Trainer
from raysal.update.head import Head
from raysal.update.laplace import needs_refit, update
from raysal.update.logistic import Logistic

TRAINERS: dict[str, type[Trainer]] = {
    "logistic": Logistic,
}

__all__ = ["TRAINERS", "Head", "Logistic", "Trainer", "needs_refit", "update"]
