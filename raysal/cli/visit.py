"""Looking into a run that another process may be working on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from raysal.errors import RunError

if TYPE_CHECKING:
    from raysal.rounds.session import Session


def visit(run: Path, fix: str = "start one with `raysal run CONFIG --out RUN`, or check the path") -> Session:
    """The session of a run that is there.

    Raises:
        RunError: there is none.
    """
    from raysal.rounds.directory import RunDir
    from raysal.rounds.session import Session

    if RunDir(run).config() is None:
        raise RunError(run, "no run is there", fix)
    return Session(run, visit=True)
