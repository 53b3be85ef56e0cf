"""Small steps of curation, for the tests of what is around steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.curation.base import Forecast, Speed, Step, StepResult, Work
from raysal.errors import ConfigError
from raysal.fleet import Partition
from raysal.pool import Pool
from raysal.rng import item_uniform


def count_left(partition: Partition) -> int:
    """How many items of a partition are left."""
    return int(partition.available.sum())


@dataclass(frozen=True, kw_only=True)
class Thin(Step):
    """Keeps every `keep`-th of the items that are left; each dropped one is named with the kept one before it."""

    keep: int = 2
    calls: ClassVar[list[tuple[int, int]]] = []
    """(keep, items left) of each time that one was applied in this process"""

    def check(self, pool: Pool) -> None:
        if self.keep < 1:
            raise ConfigError("keep", f"{self.keep} keeps nothing", "use 1 or more")

    def forecast(self, pool: Pool, left: int, speed: Speed) -> Forecast:
        return Forecast(kept=-(-left // self.keep), seconds=left / speed.rows)

    def apply(self, work: Work) -> StepResult:
        Thin.calls.append((self.keep, int(work.left.sum())))
        work.begin()
        assert sum(work.fleet.each(count_left)) == len(work.ids_left)
        place = np.arange(len(work.ids_left))
        dropped = place % self.keep > 0
        nearest: NDArray[np.int64] = work.ids_left[(place - place % self.keep)[dropped]]
        return StepResult.of(
            work.ids_left[dropped], "beside a kept one", nearest=nearest, value=(place % self.keep)[dropped] / 8,
            facts={"group_sizes": {str(self.keep): len(place) // self.keep}},
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Draw(Step):
    """Drops about half of what is left at random, for two reasons; it lists the others."""

    def forecast(self, pool: Pool, left: int, speed: Speed) -> Forecast:
        return Forecast(kept=None, seconds=0.0)

    def apply(self, work: Work) -> StepResult:
        u = item_uniform(work.key, work.ids_left)
        dropped = u < 0.5
        ids: NDArray[np.int64] = work.ids_left[dropped]
        return StepResult(
            ids=ids, reason=(ids % 2).astype(np.uint8), reasons=("drawn, even", "drawn, odd"),
            nearest=np.full(len(ids), -1), value=np.full(len(ids), np.nan),
            listed=pa.table({"id": work.ids_left[~dropped]}),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Named(Step):
    """Drops the items whose keys are in a file, one in each line."""

    keys: Path

    def inputs(self, pool: Pool) -> Mapping[str, Any]:
        return {"keys": self.keys.read_text()}

    def forecast(self, pool: Pool, left: int, speed: Speed) -> Forecast:
        return Forecast(kept=None, seconds=0.0)

    def apply(self, work: Work) -> StepResult:
        named = work.pool.ids_there(self.keys.read_text().split())
        ids = np.intersect1d(np.array(sorted(named.values()), np.int64), work.ids_left)
        return StepResult.of(ids, "named")


class Stop(Exception):
    """What stops a step in a test."""


PLACES = {name.lower(): f"curation_steps:{name}" for name in ("Draw", "Named", "Slow", "Thin")}
"""For the registry, while a test needs them there."""


@dataclass(frozen=True, kw_only=True)
class Slow(Step):
    """Drops the second half of what is left. It keeps a file when half is done, and stops there while `stops` is set.

    What it found does not depend on that.
    """

    stops: ClassVar[type[BaseException] | None] = None
    went_on: ClassVar[int] = 0

    def forecast(self, pool: Pool, left: int, speed: Speed) -> Forecast:
        return Forecast(kept=left - left // 2, seconds=0.0)

    def apply(self, work: Work) -> StepResult:
        half = work.folder / "half"
        if half.exists():
            Slow.went_on += 1
        half.write_text("done")
        if Slow.stops is not None:
            raise Slow.stops
        return StepResult.of(work.ids_left[(len(work.ids_left) + 1) // 2 :], "in the second half")
