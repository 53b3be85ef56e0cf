"""Labels to head: fit it anew (`TRAINERS`), or take closed-form steps from the last one (`update`, `retract`)."""

from raysal.update.base import Context, Trainer, link_of, wanted_sample
from raysal.update.bootstrap import Bootstrap
from raysal.update.custom import Custom
from raysal.update.dmle import DependencyAware
from raysal.update.dropout import McDropout
from raysal.update.evidence import Answer, Evidence, gather_evidence
from raysal.update.head import Head
from raysal.update.laplace import retract, update, widen
from raysal.update.likelihood import Link
from raysal.update.logistic import Logistic
from raysal.update.mlp import Mlp
from raysal.update.multi_label import MultiLabel
from raysal.update.posterior import Quadratic
from raysal.update.pseudo import PseudoLabels
from raysal.update.refit import gone_astray, needs_refit
from raysal.update.regression import Regression

TRAINERS: dict[str, type[Trainer]] = {
    "bootstrap": Bootstrap,
    "custom": Custom,
    "dmle": DependencyAware,
    "logistic": Logistic,
    "mc_dropout": McDropout,
    "mlp": Mlp,
    "multi_label": MultiLabel,
    "pseudo_labels": PseudoLabels,
    "regression": Regression,
}

__all__ = [
    "TRAINERS",
    "Answer",
    "Bootstrap",
    "Context",
    "Custom",
    "DependencyAware",
    "Evidence",
    "Head",
    "Link",
    "Logistic",
    "McDropout",
    "Mlp",
    "MultiLabel",
    "PseudoLabels",
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
