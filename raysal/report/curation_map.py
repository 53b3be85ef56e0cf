"""The map of a pool that was curated: what each step dropped on the left, what is kept on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.curation.curated import KEPT, Curated
from raysal.prediction.sampling import sample_vectors, thin_picks, vectors_by_id
from raysal.report.figure import BLUE, GREEN, MUTED, ORANGE, PALE, PURPLE, SKY, VERMILION, YELLOW, svg
from raysal.report.map_layout import SAMPLE_ITEMS, lay_out
from raysal.report.markup import Html

STEP_COLOURS = (VERMILION, ORANGE, PURPLE, GREEN, SKY, YELLOW)
"""Of what each step dropped, in the order of the plan; then from the first again."""
DROPPED_ITEMS = 200
"""Dropped items of each step on a map, beside those of the sample."""
MIN_ITEMS = 3
"""Fewer items give no map."""


@dataclass(frozen=True, kw_only=True)
class CurationMap:
    """The points of a map."""

    points: NDArray[np.float32]
    """[n, 2] in the unit square"""
    sampled: NDArray[np.bool_]
    """[n], whether a point is in the sample of the pool"""
    dropped_by: NDArray[np.int16]
    """[n], the position of the step that dropped it; `KEPT` if none"""
    items: int
    """of the pool"""


def map_of(found: Curated) -> CurationMap | None:
    """Lay out a sample of a pool, and some of what each step dropped. Takes some seconds, most of them for t-SNE.

    Args:
        found: what became of the items.

    Returns:
        The map; None where there are too few items.
    """
    sample = sample_vectors(found.pool, found.seed, SAMPLE_ITEMS)
    if len(sample) < MIN_ITEMS:
        return None
    dropped = [thin_picks(step.result.ids, found.seed, DROPPED_ITEMS) for step in found.steps]
    extra = vectors_by_id(found.pool, np.setdiff1d(np.concatenate(dropped), sample.ids))
    ids = np.concatenate([sample.ids, extra.ids])
    return CurationMap(
        points=lay_out(np.concatenate([sample.vectors, extra.vectors])),
        sampled=np.arange(len(ids)) < len(sample),
        dropped_by=found.dropped_by[np.searchsorted(found.ids, ids)],
        items=len(found),
    )


def step_colour(at: int) -> str:
    """The colour of what a step dropped, by its position in the plan."""
    return STEP_COLOURS[at % len(STEP_COLOURS)]


def draw_curation_map(drawn: CurationMap, labels: Sequence[str]) -> Html:
    """Draw a map.

    Args:
        drawn: the points.
        labels: of the steps.

    Returns:
        The figure.
    """
    return svg("map", "Map of what was dropped and kept", lambda figure: _draw(figure, drawn, labels), 9.6, 5.1)


def _draw(figure: Any, drawn: CurationMap, labels: Sequence[str]) -> None:
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    kept = drawn.dropped_by == KEPT
    left.set_title("what was dropped, by step", color=MUTED)
    left.scatter(*drawn.points[kept].T, s=8, c=PALE, linewidths=0, rasterized=True)
    counts = np.bincount(drawn.dropped_by[~kept], minlength=len(labels))
    for at in np.argsort(-counts, kind="stable").tolist():  # what is rare lies above what is common
        own = drawn.points[drawn.dropped_by == at]
        left.scatter(*own.T, s=13, c=step_colour(at), edgecolors="#ffffff", linewidths=0.35, rasterized=True)
    right.set_title("what is kept", color=MUTED)
    right.scatter(*drawn.points[kept & drawn.sampled].T, s=9, c=BLUE, alpha=0.7, linewidths=0, rasterized=True)
    for axes in (left, right):
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=[], yticks=[], aspect="equal")
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set(visible=True, color="#e6eaee")
