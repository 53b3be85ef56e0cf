"""One pass over a pool: predictions, scores, anchor neighbours, a uniform sample."""

from raysal.sweep.belief import Belief, Reader, believe
from raysal.sweep.linear import Linear
from raysal.sweep.scores import SCORES
from raysal.sweep.similarity import unit_rows
from raysal.sweep.sweep import Neighbours, Search, Sweep, SweepRequest, sweep

__all__ = [
    "SCORES",
    "Belief",
    "Linear",
    "Neighbours",
    "Reader",
    "Search",
    "Sweep",
    "SweepRequest",
    "believe",
    "sweep",
    "unit_rows",
]
