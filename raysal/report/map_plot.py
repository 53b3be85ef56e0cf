"""The map of a pool: its classes on the left, the picks of every round on the right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.report.figure import INK, MUTED, PALE, svg
from raysal.report.markup import Html

CLASS_COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
"""Ten colours for points that everyone can tell apart (Petroff, arXiv 2107.02270)."""
OTHER_COLOUR = "#d5dae0"
"""The colour of all other classes."""
_MAX_NAME = 22
"""Letters shown of the name of a class."""


@dataclass(frozen=True, kw_only=True)
class PoolMap:
    """The points of a map. A point is in the pool's sample, or a pick, or both."""

    points: NDArray[np.float32]
    """[n, 2] in the unit square"""
    sampled: NDArray[np.bool_]
    """[n], whether a point is in the pool's sample"""
    rounds: NDArray[np.int64]
    """[n], the round that picked a point; -1 is none"""
    classes: Sequence[str | None] | None
    """[n], the class of a point; None is unknown"""


def class_colours(classes: Sequence[str | None]) -> dict[str, str]:
    """The colours of the ten most frequent classes, by name."""
    counts = Counter(name for name in classes if name is not None)
    common = sorted(counts, key=lambda name: (-counts[name], name))[: len(CLASS_COLOURS)]
    return dict(zip(sorted(common), CLASS_COLOURS, strict=False))


def draw_map(pool_map: PoolMap) -> Html:
    """Draw a map. Points are pixels, names are text."""
    return svg("map", "Map of the pool and the picks", lambda figure: _draw(figure, pool_map), 9.6, 5.1)


def _draw(figure: Any, pool_map: PoolMap) -> None:
    panels = [figure.add_subplot(1, 1 if pool_map.classes is None else 2, 1)]
    if pool_map.classes is not None:
        panels.append(figure.add_subplot(1, 2, 2))
        _classes(panels[0], pool_map, pool_map.classes)
    _picks(figure, panels[-1], pool_map)
    for axes in panels:
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=[], yticks=[], aspect="equal")
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set(visible=True, color="#e6eaee")


def _classes(axes: Any, pool_map: PoolMap, classes: Sequence[str | None]) -> None:
    axes.set_title("the pool by class", color=MUTED)
    colours = class_colours(classes)
    names = np.array([name if name in colours else "" for name in classes], object)
    shades = np.array([colours.get(name, OTHER_COLOUR) for name in names])
    own = pool_map.points[pool_map.sampled]
    axes.scatter(*own.T, s=9, c=shades[pool_map.sampled], alpha=0.75, linewidths=0, rasterized=True)
    spots = {name: _crowd(own[names[pool_map.sampled] == name]) for name in colours}
    placed = _apart({name: spot for name, spot in spots.items() if spot is not None})
    for number, (name, (x, y)) in enumerate(placed.items()):
        short = name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"
        axes.text(
            x,
            y,
            short,
            ha="center",
            va="center",
            color=INK,
            fontsize=10,
            fontweight="bold",
            gid=f"halo-{number}",
        )


def _picks(figure: Any, axes: Any, pool_map: PoolMap) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm
    from matplotlib.ticker import MaxNLocator

    axes.set_title("the picks by round", color=MUTED)
    axes.scatter(*pool_map.points[pool_map.sampled].T, s=8, c=PALE, linewidths=0, rasterized=True)
    picked = pool_map.rounds >= 0
    if not picked.any():
        return
    last = int(pool_map.rounds.max())
    shades = colormaps["viridis_r"]
    norm = BoundaryNorm(np.arange(-0.5, last + 1.5), shades.N) if last else BoundaryNorm([-0.5, 0.5, 1.5], shades.N)
    order = np.argsort(pool_map.rounds[picked], kind="stable")
    x, y = pool_map.points[picked][order].T
    axes.scatter(
        x, y, s=14, c=pool_map.rounds[picked][order], cmap=shades, norm=norm,
        edgecolors="#ffffff", linewidths=0.45, rasterized=True,
    )  # fmt: skip
    if last:
        scale = ScalarMappable(norm, shades)
        bar = figure.colorbar(scale, ax=axes, orientation="horizontal", fraction=0.035, pad=0.03, aspect=40)
        bar.ax.xaxis.set_major_locator(MaxNLocator(9, integer=True))
        bar.ax.minorticks_off()
        bar.outline.set_visible(False)
        bar.set_label("round", color=MUTED)


def _crowd(points: NDArray[np.float32]) -> tuple[float, float] | None:
    """Where points [n, 2] are densest: the mean of the fullest cell of a grid. A class may lie in several places."""
    if not len(points):
        return None
    cells = np.minimum((points * 6).astype(int), 5) @ np.array([6, 1])
    fullest = points[cells == np.bincount(cells).argmax()].mean(axis=0)
    return float(fullest[0]), float(fullest[1])


def _apart(spots: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """The places of names, moved up and down until no name covers another."""
    names = sorted(spots, key=lambda name: (spots[name][1], name))
    x = {name: spots[name][0] for name in names}
    y = {name: spots[name][1] for name in names}
    width, height = 0.026, 0.052  # of a letter, as a share of the panel
    for _ in range(60):
        moved = False
        for i, below in enumerate(names):
            for above in names[i + 1 :]:
                near = abs(x[below] - x[above]) < width * (min(len(below), 22) + min(len(above), 22)) / 2
                lack = height - (y[above] - y[below])
                if near and lack > 1e-6:
                    y[below], y[above], moved = y[below] - lack / 2, y[above] + lack / 2, True
        if not moved:
            break
    half = {name: min(width * min(len(name), 22) / 2, 0.45) for name in names}
    return {name: (min(max(x[name], half[name]), 1 - half[name]), min(max(y[name], 0.02), 0.98)) for name in names}
