"""An index of a pool: neighbours without a pass over every vector, with the recall it was measured to have."""

from __future__ import annotations

from raysal.index.background import rebuild_in_background
from raysal.index.build import build_index
from raysal.index.coverage import DRIFTED, Coverage, coverage, drift
from raysal.index.files import Index, drop_index, generations, in_force, open_index
from raysal.index.kinds import KINDS, load_faiss
from raysal.index.plan import IndexPlan, human, plan_index
from raysal.index.search import index_neighbours

__all__ = [
    "DRIFTED",
    "KINDS",
    "Coverage",
    "Index",
    "IndexPlan",
    "build_index",
    "coverage",
    "drift",
    "drop_index",
    "generations",
    "human",
    "in_force",
    "index_neighbours",
    "load_faiss",
    "open_index",
    "plan_index",
    "rebuild_in_background",
]
