"""An index of a pool: neighbours without a pass over every vector, and a measured recall.

`plan` says what an index will be and cost, `build` builds it, `files` says where it lies, `search` searches it, and
`maintenance` keeps the index of a run up to date.
"""

from __future__ import annotations

from raysal.index.background import background_failure, is_building, rebuild_in_background
from raysal.index.build import Report, build_index
from raysal.index.coverage import MAX_DRIFT, Coverage, coverage, drift
from raysal.index.files import Index, drop_index, generations, in_force, open_index, with_index
from raysal.index.kinds import KINDS, load_faiss
from raysal.index.maintenance import check_index, first_index, renewal
from raysal.index.memory import memory_limit
from raysal.index.plan import IndexPlan, human_bytes, plan_index
from raysal.index.search import index_neighbours

__all__ = [
    "KINDS",
    "MAX_DRIFT",
    "Coverage",
    "Index",
    "IndexPlan",
    "Report",
    "background_failure",
    "build_index",
    "check_index",
    "coverage",
    "drift",
    "drop_index",
    "first_index",
    "generations",
    "human_bytes",
    "in_force",
    "index_neighbours",
    "is_building",
    "load_faiss",
    "memory_limit",
    "open_index",
    "plan_index",
    "rebuild_in_background",
    "renewal",
    "with_index",
]
