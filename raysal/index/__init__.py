"""An index of a pool: neighbours without a pass over every vector, with the recall it was measured to have."""

from __future__ import annotations

from raysal.index.background import failure, rebuild_in_background, under_way
from raysal.index.build import Report, build_index
from raysal.index.coverage import DRIFTED, Coverage, coverage, drift
from raysal.index.files import Index, drop_index, generations, in_force, open_index, with_index
from raysal.index.kinds import KINDS, load_faiss
from raysal.index.memory import allowed
from raysal.index.plan import IndexPlan, human, plan_index
from raysal.index.search import index_neighbours
from raysal.index.upkeep import check_index, first_index, renewal

__all__ = [
    "DRIFTED",
    "KINDS",
    "Coverage",
    "Index",
    "IndexPlan",
    "Report",
    "allowed",
    "build_index",
    "check_index",
    "coverage",
    "drift",
    "drop_index",
    "failure",
    "first_index",
    "generations",
    "human",
    "in_force",
    "index_neighbours",
    "load_faiss",
    "open_index",
    "plan_index",
    "rebuild_in_background",
    "renewal",
    "under_way",
    "with_index",
]
