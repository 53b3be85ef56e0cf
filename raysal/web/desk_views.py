"""The views of a desk: gathered from its orders, its labels and its pool, and kept while they last."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raysal.errors import RunError
from raysal.rounds.found import began_with
from raysal.rounds.held_out import HeldOut
from raysal.scoring.sweep import BINS
from raysal.web import views
from raysal.web.jobs import UNDONE
from raysal.web.orders import NOTHING

if TYPE_CHECKING:
    from raysal.web.desk import Desk

READ_S = 120.0
"""How long a map waits for its vectors at most, as while a batch is being chosen."""


class DeskViews:
    """Histogram, map and curve of one desk. Any thread may ask."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._axes: dict[int, views.PoolAxes] = {}
        self._lock = Lock()

    def histogram(self, score: str) -> dict[str, Any]:
        """The histogram of a score; see `raysal.web.views.histogram`.

        Args:
            score: `probability`, `novelty`, or another one that a pass over the pool computes.

        Returns:
            The record.

        Raises:
            RunError: the pool was not ranked by this score yet.
        """
        orders = self._desk.follower.orders
        if score not in orders.histograms:
            order = {"probability": "likeliest", "novelty": "novel"}.get(score, score)
            why = self._desk.standing.why_not(order) or "not computed"
            raise RunError(f"histogram of {score}", why, "look again when the pool is ranked")
        ids, values = orders.labelled.get(score, NOTHING)
        of = dict(zip(ids.tolist(), values.tolist(), strict=True))
        labelled: dict[str, list[float]] = {}
        for item in self._desk.standing.labelled():
            if item.id in of:
                labelled.setdefault(item.label, []).append(of[item.id])
        counts = orders.histograms[score]
        assert len(counts) == BINS
        return views.histogram(score, counts, labelled)

    def map(self, n: int) -> dict[str, Any]:
        """The map of the pool with a sample of n items, and none that is held out; the axes are computed once.

        Args:
            n: sampled items.

        Returns:
            The record; see `raysal.web.views.pool_map`.

        Raises:
            NotNow: the pool is busy with something that takes longer than `READ_S`, or somebody pressed stop.
        """
        desk = self._desk
        pool, config = desk.session.pool, desk.session.config
        held_out = HeldOut.of(config, pool)
        with self._lock:
            if n not in self._axes:
                self._axes = {n: views.PoolAxes.of(pool, config.seed, n, self._read, held_out)}
            labelled = desk.standing.labelled()
            if held_out is not None:
                held = held_out.among(np.array([item.id for item in labelled], np.int64))
                labelled = [item for item, is_held in zip(labelled, held.tolist(), strict=True) if not is_held]
            classes = sorted({item.label for item in labelled})
            return views.pool_map(self._axes[n], len(pool), labelled, classes)

    def _read(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        # By the thread that has the vectors at hand: the chunks of the pool would be read and checked once more.
        try:
            return self._desk.follower.searches.vectors(ids).result(READ_S)
        except UNDONE as why:
            raise self._desk.standing.not_now("map", why) from None

    def curve(self) -> dict[str, Any]:
        """The learning curve, and what was found."""
        session, standing = self._desk.session, self._desk.standing
        began = began_with(session.run, self._desk.labels.ledger)
        return views.curve(session.run, standing.labelled(), began, session.config.target, standing.likelihood)
