"""Exports that are killed with SIGKILL at a chosen rename."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warm import ended

from raysal.api.export import export


def kill_export(point: int, pool: Path, out: Path, words: Mapping[str, Any]) -> bool:
    """Export in a child process that is killed before the n-th file below `out` gets its name.

    Returns:
        Whether the point was reached; if not, the export is finished.
    """
    code = ended(_export_until, point, pool, out, dict(words))
    assert code in (-signal.SIGKILL, 0), f"exit code {code}"
    return code != 0


def _export_until(point: int, pool: Path, out: Path, words: dict[str, Any]) -> None:
    left = point

    def count(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if event == "os.rename" and str(out) in str(args):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    export(pool, out=out, **words)
