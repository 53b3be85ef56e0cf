"""Figures of the benchmarks, in the style of the reports."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from raysal.report.figure import STYLE
from raysal.store import write_file


def save_figure(stem: Path, draw: Callable[[Any], None], width: float, height: float) -> None:
    """What `draw` puts on an empty figure of `width` x `height` inches, as stem.png and stem.svg on white; the same
    bytes on every call."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    stem.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({**STYLE, "svg.hashsalt": stem.name}):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        draw(figure)
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            save = partial(figure.savefig, format=kind, dpi=150, metadata=metadata)
            write_file(stem.with_name(f"{stem.name}.{kind}"), save)
