"""The scores by name. To add one: a function as `base` describes it, and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysal.registry import Registry

if TYPE_CHECKING:
    from raysal.scoring.base import Score

SCORES: Registry[Score] = Registry(
    {
        "bald": "raysal.scoring.epistemic:bald",
        "entropy": "raysal.scoring.scores:entropy",
        "epistemic_variance": "raysal.scoring.epistemic:epistemic_variance",
        "expected_gradient_length": "raysal.scoring.model_change:expected_gradient_length",
        "expected_model_change": "raysal.scoring.model_change:expected_model_change",
        "influence": "raysal.scoring.model_change:influence",
        "least_confidence": "raysal.scoring.scores:least_confidence",
        "log_odds": "raysal.scoring.of_target:log_odds",
        "margin": "raysal.scoring.scores:margin",
        "mean_std": "raysal.scoring.epistemic:mean_std",
        "probability": "raysal.scoring.of_target:probability",
        "tod": "raysal.scoring.epistemic:tod",
        "variation_ratio": "raysal.scoring.epistemic:variation_ratio",
    }
)
