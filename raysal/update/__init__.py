"""Labels to head: fit it anew (`TRAINERS`), or take closed-form steps from the last one (`update`, `retract`)."""

from raysal.update.base import Context, Trainer, link_of, wanted_sample
from raysal.update.evidence import Answer, Evidence, gather_evidence
from raysal.update.head import Head
from raysal.update.laplace import retract, update, widen
from raysal.update.likelihood import Link
from raysal.update.logistic import Logistic
from raysal.update.multi_label import MultiLabel
from raysal.update.posterior import Quadratic
from raysal.update.refit import gone_astray, needs_refit
from raysal.update.regression import Regression

TRAINERS: dict[str, type[Trainer]] = {
    "logistic": Logistic,
    "multi_label": MultiLabel,
    "regression": Regression,
}

__all__ = [
    "TRAINERS",
    "Answer",
    "Context",
    "Evidence",
    "Head",
    "Link",
    "Logistic",
    "MultiLabel",
    "Quadratic",
    "Regression",
    "Trainer",
    "gather_evidence",
    "gone_astray",
    "link_of",
    "needs_refit",
    "retract",
    "update",
    "wanted_sample",
    "widen",
]
