"""Progress bars on stderr, if stderr is a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raysal.types import Report


@contextlib.contextmanager
def progress(first: str = "") -> Iterator[Report]:
    """Show a bar for each stage that is reported. Shows nothing if stderr is not a terminal.

    Args:
        first: a stage of unknown length, shown until another stage is reported.

    Yields:
        The function to report to.
    """
    if not sys.stderr.isatty():
        from raysal.types import no_report

        yield no_report
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
