"""From millions of items to the thousands a selector looks at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from raysal.fleet import Fleet, keep
from raysal.narrow.anchoral import AnchorAL
from raysal.narrow.base import LabelledVectors, Memory, Narrowed, Narrower, NarrowTask, wants_index
from raysal.narrow.filter import Filter
from raysal.narrow.mixed import Mixed
from raysal.narrow.refine import Refine
from raysal.narrow.seals import Seals
from raysal.narrow.simple import Everything, TopScore, Uniform
from raysal.sweep import Sweep

NARROWERS: dict[str, type[Narrower]] = {
    "anchoral": AnchorAL,
    "filter": Filter,
    "mixed": Mixed,
    "none": Everything,
    "refine": Refine,
    "seals": Seals,
    "top_score": TopScore,
    "uniform": Uniform,
}

__all__ = ["NARROWERS", "LabelledVectors", "Memory", "NarrowTask", "Narrowed", "Narrower", "narrow", "wants_index"]


def narrow(fleet: Fleet, narrower: Narrower, task: NarrowTask) -> tuple[Sweep, Narrowed]:
    """Sweep once, and set the fleet's candidates to what the narrower keeps of the available items.

    Candidates that would not fill a batch of k are topped up from a uniform sample, and the rule says so: a
    batch is never cut short while the pool has items left.
    """
    found, narrowed = narrower.narrow(fleet, task)
    if narrowed.ids is not None:
        left = sum(fleet.each(keep, narrowed.ids))
        if left < task.k:
            spare = found.sample[0][~np.isin(found.sample[0], narrowed.ids)][: task.k - left]
            narrowed = replace(
                narrowed,
                ids=np.concatenate([narrowed.ids, spare]),
                rule=f"{narrowed.rule}, topped up with {len(spare)} uniform",
            )
            fleet.each(keep, narrowed.ids)
    return found, narrowed
