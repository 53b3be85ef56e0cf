"""From millions of items to the thousands a selector looks at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from raysal.fleet import Fleet, keep
from raysal.narrow.anchors import AnchorAL
from raysal.narrow.base import LabelledVectors, Narrowed, Narrower
from raysal.narrow.simple import Everything, TopScore, Uniform
from raysal.rng import derive
from raysal.sweep import Sweep, sweep
from raysal.update import Head

NARROWERS: dict[str, type[Narrower]] = {
    "anchoral": AnchorAL,
    "none": Everything,
    "top_score": TopScore,
    "uniform": Uniform,
}

__all__ = ["NARROWERS", "LabelledVectors", "Narrowed", "Narrower", "narrow"]


def narrow(
    fleet: Fleet,
    narrower: Narrower,
    head: Head | None,
    labelled: LabelledVectors,
    *,
    k: int,
    available: int,
    key: int,
) -> tuple[Sweep, Narrowed]:
    """Sweep once, and set the fleet's candidates to what the narrower keeps of the `available` items.

    Candidates that would not fill a batch of k are topped up from a uniform sample, and the rule says so: a
    batch is never cut short while the pool has items left. It also names the classes with anchor settings and
    no label yet, which may come, or be misspelled.
    """
    request = narrower.request(labelled, available, key)
    found = sweep(fleet, head, replace(request, sample=max(request.sample, k), key=derive(key, "sample")))
    narrowed = narrower.narrow(found)
    if narrowed.ids is not None:
        ids = np.unique(narrowed.ids)
        if len(ids) < k:
            spare = found.sample[0][~np.isin(found.sample[0], ids)][: k - len(ids)]
            ids = np.union1d(ids, spare)
            narrowed = Narrowed(ids=ids, rule=f"{narrowed.rule}, topped up with {len(spare)} uniform")
        fleet.each(keep, ids)
    if isinstance(narrower, AnchorAL) and (unseen := narrower.classes.keys() - set(labelled.classes)):
        narrowed = replace(narrowed, rule=f"{narrowed.rule}, no labels yet of: {', '.join(sorted(unseen))}")
    return found, narrowed
