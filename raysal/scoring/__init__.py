"""One pass over a pool: predictions, scores, neighbours of anchors, a uniform sample.

    head ──score_inputs──▶ ScoreInputs ──ProductReader──▶ Predicted ──Score──▶ numbers ──RunningBest──▶ Sweep
           (inputs.py)     in the driver   (inputs.py)    (base.py)           (top_k.py)              (sweep.py)

`base` says what a score is, and `registry` lists the scores. `inputs` gathers what they need of a head in the driver,
and reads it off beside the data. `sweep` makes the pass; `row_values` computes a score of some rows for a strategy.
`scores`, `epistemic` and `model_change` hold the scores. `similarity` compares rows with anchors. `top_k` keeps the
best items, and `quantile` finds exact quantiles of a score.
"""

from raysal.scoring.registry import SCORES

__all__ = ["SCORES"]
