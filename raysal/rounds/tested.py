"""What of a run's held-out items became known, in which order and with which probabilities: from its files alone.

The batches hold the test draws, and the records of rounds say what else was known by then (`raysal.rounds.testing`).
Answers are those of now, so a corrected label counts as it was corrected. Which items are held out goes by ids: after
the labels were matched with another pool the sequence begins anew, with what is known then as told items.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.labels import Ledger
from raysal.models.active_testing import Sample
from raysal.rounds.directory import RunDir
from raysal.rounds.draws import LEAST, PROBABILITY, REMAINING, TESTS


@dataclass(frozen=True, kw_only=True)
class Tested:
    """The held-out items that are known, or were drawn and have no answer yet, in order."""

    ids: NDArray[np.int64]
    """[n]"""
    sample: Sample
    """how each became known"""
    tests: NDArray[np.bool_]
    """[n] which of them are test draws; the others were told"""

    def answered(self, answers: Container[int]) -> NDArray[np.bool_]:
        """Which of them have an answer, [n]."""
        return np.array([id in answers for id in self.ids.tolist()], bool)


class _Sequence:
    """Takes the items in as they became known."""

    def __init__(self) -> None:
        self.population = 0
        self.ids: list[int] = []
        self._columns: list[tuple[int, float, float, bool]] = []

    def tell(self, tests: Mapping[str, Any]) -> None:
        """Take in what a record says was known before its draws: uniform draws first, then items that were told."""
        self.population = tests["population"]
        for place, id in enumerate(tests["told"]):
            left = self.population - len(self.ids)
            chance = 1 / left if place < tests["uniform"] else float("nan")
            self.ids.append(id)
            self._columns.append((left, chance, chance, False))

    def draw(self, id: int, probability: float, least: float) -> None:
        """Take in the next test draw."""
        self._columns.append((self.population - len(self.ids), probability, least, True))
        self.ids.append(id)

    def result(self) -> Tested:
        """All of them."""
        left, chance, lowest, tests = zip(*self._columns, strict=True) if self._columns else ((), (), (), ())
        sample = Sample(
            population=self.population,
            remaining=np.array(left, np.int64),
            probability=np.array(chance, np.float64),
            least=np.array(lowest, np.float64),
        )
        return Tested(ids=np.array(self.ids, np.int64), sample=sample, tests=np.array(tests, bool))


def read_tests(run: RunDir, ledger: Ledger, newest: Mapping[str, Any] | None = None) -> Tested:
    """The held-out items of a run that are known, as far as its records go.

    Args:
        run: the run directory.
        ledger: its labels; rounds of another pool than the one it is bound to are passed over.
        newest: what the record of the round that is being made says of what is known before its draws.

    Returns:
        The items; none where the run draws no tests.
    """
    sequence, pool = _Sequence(), ledger.pool
    for round in range(run.rounds):
        record = run.record(round)
        if (tests := record.get(TESTS)) is None or pool not in (None, record["pool"]):
            continue
        sequence.tell(tests)
        table = run.batch(round).table
        columns = [table[name].to_pylist() for name in (REMAINING, "id", PROBABILITY, LEAST)]
        drawn = sorted((row for row in zip(*columns, strict=True) if row[0] is not None), reverse=True)
        for _, id, chance, least in drawn:
            sequence.draw(id, chance, least)
    if newest is not None:
        sequence.tell(newest)
    return sequence.result()
