"""What the page draws beside the items: the histogram of a score, the map of the pool, the curve of what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.labels.records import Labelled
from raysal.models.likelihood import Likelihood
from raysal.numerics import ceil_div
from raysal.pool import Pool
from raysal.prediction.sampling import Lowest, Vectors, axes_sample, map_axes
from raysal.rounds.directory import RunDir
from raysal.rounds.held_out import HeldOut
from raysal.scoring.sweep import BINS

BARS = 64
"""Bars of a histogram."""
MOST_POINTS = 100_000
"""Sampled items of a map."""
MOST_LABELLED = 20_000
"""Labelled items of a map: the newest ones."""
CURVE_POINTS = 1_000
"""Points of the curve of what was found; in between it is a straight line."""


def histogram(score: str, counts: NDArray[np.int64], labelled: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The histogram of a score over the pool, and where the labelled items are on it.

    Args:
        score: its name.
        counts: [BINS] over [0, 1], as a pass gives it.
        labelled: the scores of the labelled items of each class.

    Returns:
        {score, edges [BARS + 1], counts [BARS], labelled: {class: counts [BARS]}}.
    """
    edges = np.linspace(0, 1, BARS + 1)
    bars = {name: np.histogram(np.clip(values, 0, 1), edges)[0].tolist() for name, values in labelled.items()}
    return {
        "score": score,
        "edges": edges.tolist(),
        "counts": counts.reshape(BARS, BINS // BARS).sum(axis=1).tolist(),
        "labelled": bars,
    }


ReadVectors = Callable[[NDArray[np.int64]], tuple[NDArray[np.int64], NDArray[np.float32]]]
"""ids -> those of them that the pool has, ascending, and their vectors"""


@dataclass(frozen=True, kw_only=True)
class PoolAxes:
    """Two principal axes of a uniform sample of a pool: where items lie on them does not depend on the labels."""

    ids: NDArray[np.int64]
    """[n] of the sample, ascending"""
    points: NDArray[np.float64]
    """[n, 2]"""
    centre: NDArray[np.float64]
    """[d]"""
    axes: NDArray[np.float64]
    """[d, 2]"""
    read: ReadVectors
    places: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    """where labelled items lie that are not in the sample: the pool is read once for each"""

    @classmethod
    def of(cls, pool: Pool, seed: int, most: int, read: ReadVectors, held_out: HeldOut | None = None) -> PoolAxes:
        """Those of a uniform sample: the items of lowest hash (`map_axes`). One pass over the ids; memory for samples.

        Args:
            pool: the items.
            seed: another seed gives another sample.
            most: items on the map.
            read: reads vectors.
            held_out: what is on no map, as it is in no order: people would label it, and no head would learn from it.

        Returns:
            The axes, and where the sample is on them.
        """
        on_map, of_axes = Lowest(seed, min(most, MOST_POINTS)), Lowest(seed, axes_sample(pool))
        for table in pool.items(["id"]):
            every = table["id"].to_numpy()
            on_map.add(every if held_out is None else every[~held_out.among(every)])
            of_axes.add(every)
        shown = on_map.ids
        ids, vectors = read(np.union1d(shown, of_axes.ids))
        centre, axes = map_axes(pool, seed, Vectors(ids=ids, vectors=vectors, column=None))
        rows = np.isin(ids, shown)
        return cls(ids=ids[rows], points=(vectors[rows] - centre) @ axes, centre=centre, axes=axes, read=read)

    def place(self, ids: Sequence[int]) -> NDArray[np.float64]:
        """Where the items with these ids lie [n, 2]; those that the pool does not have are left out."""
        if new := [id for id in ids if id not in self.places]:
            found, vectors = self.read(np.array(new, np.int64))
            self.places.update(zip(found.tolist(), (vectors - self.centre) @ self.axes, strict=True))
        return np.array([self.places[id] for id in ids if id in self.places], np.float64).reshape(-1, 2)


def pool_map(axes: PoolAxes, items: int, labelled: Sequence[Labelled], classes: Sequence[str]) -> dict[str, Any]:
    """The sample and the labelled items on the map.

    Args:
        axes: those of a sample of the pool.
        items: of the pool.
        labelled: the newest `MOST_LABELLED` of them are on the map.
        classes: names of the classes.

    Returns:
        {ids, x, y, labels: places among `classes`, -1 for none, classes, sampled}.
    """
    labelled = sorted(labelled, key=lambda item: item.since)[-MOST_LABELLED:]
    place = {name: number for number, name in enumerate(classes)}
    label = {item.id: place.get(item.label, -1) for item in labelled}
    known = set(axes.ids.tolist())
    more = sorted(item.id for item in labelled if item.id not in known)
    extra = axes.place(more)
    ids = [*axes.ids.tolist(), *(id for id in more if id in axes.places)]
    points = np.concatenate([axes.points, extra]).astype(np.float32)
    return {
        "ids": [str(id) for id in ids],
        "x": points[:, 0].tolist(),
        "y": points[:, 1].tolist(),
        "labels": [label.get(id, -1) for id in ids],
        "classes": list(classes),
        "sampled": len(axes.ids) < items,
    }


def curve(
    run: RunDir, labelled: Sequence[Labelled], began: Set[int], target: Sequence[str], likelihood: Likelihood
) -> dict[str, Any]:
    """The learning curve, and how many of the looked-for items were found by how many labels.

    Args:
        run: the run directory.
        labelled: the items whose annotators agree.
        began: ids of those that the run began with (`raysal.rounds.found.began_with`): they are not found.
        target: the classes that are looked for.
        likelihood: what labels are.

    Returns:
        {rounds, found: [[labels, found], ...], precision: {batch: one share for each round, None without labels}}.
    """
    wanted = set(target)
    count = run.rounds
    records = [run.record(round) for round in range(count)]
    if (final := run.final()) is not None:
        records.append(final)
    in_round: dict[int, list[bool]] = {}
    found = [[0, 0]]
    for item in sorted(labelled, key=lambda item: item.since):
        hit = bool(wanted) and not wanted.isdisjoint(likelihood.names_in(item.label))
        if item.id not in began:
            found.append([found[-1][0] + 1, found[-1][1] + hit])
        if item.round is not None:
            in_round.setdefault(item.round, []).append(hit)
    step = max(1, ceil_div(len(found), CURVE_POINTS))
    thinned = [*found[:-1:step], found[-1]]
    precision = [sum(hits) / len(hits) if wanted and (hits := in_round.get(round)) else None for round in range(count)]
    rounds = [
        {
            "round": record["round"],
            "labels": record.get("labels"),
            "found": sum(in_round.get(record["round"], [])) if wanted else None,
            "asked": record.get("k"),
            "evaluation": record.get("evaluation"),
        }
        for record in records
    ]
    return {"rounds": rounds, "found": thinned if wanted else [], "precision": {"batch": precision}}
