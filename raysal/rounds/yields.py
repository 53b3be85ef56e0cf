"""What the shares of earlier batches found, for a strategy whose shares follow that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raysal.context import Yield
from raysal.models.likelihood import Likelihood
from raysal.pool import Pool
from raysal.rounds.directory import RunDir
from raysal.rounds.training_labels import TrainingLabels
from raysal.strategies.base import Picks

SHARES = "shares"
"""In a round's record: the keys of the batch by share, where its strategy shares it out."""
ROUNDS_BACK = 5
"""The last rounds that are looked at."""


def shares_record(picks: Picks, pool: Pool) -> dict[str, Any]:
    """What a round's record says of the shares of its batch: nothing where there are none."""
    if not picks.shares:
        return {}
    keys, found = pool.keys_of(picks.ids), dict[str, list[str]]()
    for id, share in zip(picks.ids.tolist(), picks.shares, strict=True):
        found.setdefault(share, []).append(keys[id])
    return {SHARES: found}


def yields_of(
    run: RunDir, labels: TrainingLabels, upto: int, target: Sequence[str], likelihood: Likelihood
) -> list[Mapping[str, Yield]]:
    """What the last rounds found by share: a function of their records and of the ledger up to an event.

    Args:
        run: the run directory.
        labels: those that train.
        upto: number of the event.
        target: the classes that are looked for.
        likelihood: what labels are.

    Returns:
        For each of the last rounds that shared out its batch, the newest last.
    """
    if not target:
        return []
    found: list[Mapping[str, Yield]] = []
    for round in range(max(run.rounds - ROUNDS_BACK, 0), run.rounds):
        if shares := run.record(round).get(SHARES):
            found.append(_yields(shares, labels, upto, set(target), likelihood))
    return found


def _yields(
    shares: Mapping[str, Sequence[str]], labels: TrainingLabels, upto: int, target: set[str], likelihood: Likelihood
) -> dict[str, Yield]:
    ids = labels.ledger.key_ids(key for keys in shares.values() for key in keys)
    items = labels.labels(upto, np.array(sorted(ids.values()), np.int64))
    finds = {item.key: bool(target & set(likelihood.names_in(item.label))) for item in items}
    answered = Counter(share for share, keys in shares.items() for key in keys if key in finds)
    hits = Counter(share for share, keys in shares.items() for key in keys if finds.get(key))
    return {share: Yield(answered[share], hits[share]) for share in sorted(shares)}
