"""One pass over a pool: predictions, scores, anchor neighbours, a uniform sample.

`base` says what a score is, `registry` lists them, `inputs` gathers what they need of a head, `sweep` makes the pass.
"""

from raysal.scoring.registry import SCORES

__all__ = ["SCORES"]
