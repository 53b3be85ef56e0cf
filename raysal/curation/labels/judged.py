"""Which labels are judged by probabilities: those of classes that enough items have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysal.curation.labels.given import PoolLabels


@dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    """The classes of a check, and which label texts belong to them."""

    names: tuple[str, ...]
    """[C] of the classes, or of the labels, that are judged"""
    outputs_of: NDArray[np.int32]
    """[texts] which class each text is, -1 for one that is not judged; of several labels 0"""
    members: NDArray[np.bool_] | None
    """[texts, C] of several labels"""
    few: dict[str, int]
    """{name: items} of those that too few items have"""
    foreign: dict[str, int]
    """{name: items} of those that given probabilities do not know"""

    @classmethod
    def of(
        cls,
        labels: PoolLabels,
        codes: NDArray[np.int64],
        fewest: int,
        several: bool,
        given: tuple[str, ...] | None,
    ) -> Judgement:
        """Choose the classes.

        Args:
            labels: of the pool.
            codes: [n] of the items that are looked at.
            fewest: items that a class has at least.
            several: an item has several labels.
            given: the classes of probabilities from outside. All are judged, as nothing is learnt here.

        Returns:
            The choice.
        """
        counts = np.bincount(codes, minlength=len(labels.texts))
        if several:
            names, members = labels.members()
            present = counts @ members
            enough = present >= fewest
            few = {name: int(n) for name, n, fine in zip(names, present, enough, strict=True) if n and not fine}
            kept = tuple(name for name, fine in zip(names, enough, strict=True) if fine)
            outputs = np.zeros(len(labels.texts), np.int32)
            return cls(names=kept, outputs_of=outputs, members=members[:, enough], few=few, foreign={})
        told = dict(zip(labels.texts, counts.tolist(), strict=True))
        if given is not None:
            kept = given
            few, foreign = {}, {name: n for name, n in told.items() if n and name not in set(kept)}
        else:
            kept = tuple(name for name, n in told.items() if n >= fewest)
            few, foreign = {name: n for name, n in told.items() if 0 < n < fewest}, {}
        place = {name: at for at, name in enumerate(kept)}
        outputs = np.array([place.get(name, -1) for name in labels.texts], np.int32)
        return cls(names=kept, outputs_of=outputs, members=None, few=few, foreign=foreign)
