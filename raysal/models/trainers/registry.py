"""The trainers by name. To add one: a file with a class as in `base.Trainer`, a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysal.registry import Registry

if TYPE_CHECKING:
    from raysal.models.trainers.base import Trainer

TRAINERS: Registry[type[Trainer]] = Registry(
    {
        "bootstrap": "raysal.models.trainers.bootstrap:Bootstrap",
        "custom": "raysal.models.trainers.custom:Custom",
        "dmle": "raysal.models.trainers.dmle:DependencyAware",
        "logistic": "raysal.models.trainers.logistic:Logistic",
        "mc_dropout": "raysal.models.trainers.mc_dropout:McDropout",
        "mlp": "raysal.models.trainers.mlp:Mlp",
        "multi_label": "raysal.models.trainers.multi_label:MultiLabel",
        "pseudo_labels": "raysal.models.trainers.pseudo_labels:PseudoLabels",
        "regression": "raysal.models.trainers.regression:Regression",
    }
)
