"""Progress on stderr, where that is a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

Report = Callable[[str, int, int], None]
"""(stage, done, total); total 0 is unknown"""


@contextlib.contextmanager
def progress(first: str = "") -> Iterator[Report]:
    """A function that draws a bar for each stage it is told of; it draws nothing when nobody looks.

    `first` is a stage of unknown length that is shown until another one is told.
    """
    if not sys.stderr.isatty():
        yield _unseen
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                if first in tasks and first != stage:
                    bars.remove_task(tasks.pop(first))
                tasks[stage] = bars.add_task(stage, total=total or None)
            bars.update(tasks[stage], completed=done, total=total or None)

        if first:
            report(first, 0, 0)
        yield report


def _unseen(stage: str, done: int, total: int) -> None:
    """Nobody looks."""
    del stage, done, total
