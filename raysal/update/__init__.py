"""Labels to head: fit it anew (`TRAINERS`), or take closed-form steps from the last one (`update`, `retract`)."""

from raysal.update.base import Context, Trainer, wanted_sample
from raysal.update.evidence import Answer, Evidence, gather_evidence
from raysal.update.head import Head
from raysal.update.laplace import retract, update, widen
from raysal.update.likelihood import Link
from raysal.update.logistic import Logistic
from raysal.update.posterior import Quadratic
from raysal.update.refit import gone_astray, needs_refit

TRAINERS: dict[str, type[Trainer]] = {
    "logistic": Logistic,
}

__all__ = [
    "TRAINERS",
    "Answer",
    "Context",
    "Evidence",
    "Head",
    "Link",
    "Logistic",
    "Quadratic",
    "Trainer",
    "gather_evidence",
    "gone_astray",
    "needs_refit",
    "retract",
    "update",
    "wanted_sample",
    "widen",
]
