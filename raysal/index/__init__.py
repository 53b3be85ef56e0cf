"""An index of a pool: neighbours without a pass over every vector, and a measured recall.

`plan` says what an index will be and cost, `build` builds it, `files` says where it lies, `search` searches it, and
`maintenance` keeps the index of a run up to date.
"""

from __future__ import annotations

from raysal.index.background import background_failure, is_building, rebuild_in_background
from raysal.index.build import build_index
from raysal.index.coverage import MAX_DRIFT, Coverage, coverage, drift
from raysal.index.files import Index, current_generation, drop_index, generations, open_index, with_index
from raysal.index.kinds import KINDS, load_faiss
from raysal.index.maintenance import build_missing_index, check_index, start_rebuild
from raysal.index.memory import memory_limit
from raysal.index.plan import IndexPlan, human_bytes, plan_index
from raysal.index.search import index_neighbours

__all__ = [
    "KINDS",
    "MAX_DRIFT",
    "Coverage",
    "Index",
    "IndexPlan",
    "background_failure",
    "build_index",
    "build_missing_index",
    "check_index",
    "coverage",
    "current_generation",
    "drift",
    "drop_index",
    "generations",
    "human_bytes",
    "index_neighbours",
    "is_building",
    "load_faiss",
    "memory_limit",
    "open_index",
    "plan_index",
    "rebuild_in_background",
    "start_rebuild",
    "with_index",
]
