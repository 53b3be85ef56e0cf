"""One pass over a pool: predictions, scores, anchor neighbours, a uniform sample."""

from raysal.sweep.linear import Linear
from raysal.sweep.scores import SCORES
from raysal.sweep.sweep import Sweep, SweepRequest, sweep, unit_rows

__all__ = ["SCORES", "Linear", "Sweep", "SweepRequest", "sweep", "unit_rows"]
