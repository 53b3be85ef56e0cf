"""The stages of a round: the clock, the records, the errors and a dry run take their names from here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple


class Stage(NamedTuple):
    """A step of a round. Printed as `select: candidates to batch`."""

    name: str
    """as in `seconds` of a round's record"""
    does: str
    """what goes in and what comes out"""

    def __str__(self) -> str:
        return f"{self.name}: {self.does}"


UPDATE = Stage("update", "labels to head")
NARROW = Stage("sweep and narrow", "items to candidates")
SELECT = Stage("select", "candidates to batch")
EVALUATE = Stage("evaluate", "head to measures on held-out items")
COMMIT = Stage("commit", "batch to run directory and ledger")

ROUND = (UPDATE, NARROW, SELECT, EVALUATE, COMMIT)
"""What `Session.query` does, in this order."""
CLOSING = (UPDATE, EVALUATE)
"""What `Session.finish` does, in this order, before it writes the closing record."""


@dataclass
class Clock:
    """Seconds of each stage of one round, by the stage's name."""

    seconds: dict[str, float] = field(default_factory=dict)
    _running: tuple[str, float] | None = None
    """the stage under way, and when it began"""

    def so_far(self) -> dict[str, float]:
        """The seconds of every stage, those of the stage under way up to now."""
        if self._running is None:
            return dict(self.seconds)
        name, start = self._running
        return {**self.seconds, name: self.seconds.get(name, 0.0) + time.perf_counter() - start}

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Count the seconds of the block as those of a stage. An error in it is noted to be of that stage."""
        start = time.perf_counter()
        self._running = stage.name, start
        try:
            yield
        except Exception as error:
            error.add_note(f"in the stage {stage.name!r} of a round")
            raise
        finally:
            self._running = None
            self.seconds[stage.name] = self.seconds.get(stage.name, 0.0) + time.perf_counter() - start
