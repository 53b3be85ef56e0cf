"""Searches and reads that people wait for: any thread asks, and the thread that calls the fleet does them.

Labels do not change what is nearest to an item, so what was found last is kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from raysal.api.search import nearest_to
from raysal.fleet import Fleet, exclude
from raysal.rounds.gathering import gather_vectors
from raysal.rounds.held_out import HeldOut
from raysal.rounds.program import start_program
from raysal.rounds.session import Session
from raysal.scoring.top_k import BestItems
from raysal.web import orders
from raysal.web.jobs import Jobs

KEPT = 32
"""Searches whose results are kept."""


class Searches:
    """Searches in one pool. Any thread may ask; whoever calls the fleet does what is in `line`."""

    def __init__(self, session: Session, fleet: Fleet, came: Callable[[], None]) -> None:
        """Begin with none.

        Args:
            session: of the run.
            fleet: of the session.
            came: called when somebody asks.
        """
        self._session, self._fleet = session, fleet
        self.line = Jobs(came)
        self._found: OrderedDict[tuple[int, int], BestItems] = OrderedDict()

    def nearest(self, id: int, k: int) -> Future[BestItems]:
        """Search the items that are nearest to one, labelled or not; without the held-out ones and itself."""
        done: Future[BestItems] = Future()
        if (kept := self._found.get((id, k))) is not None:
            done.set_result(kept)
            return done
        return self.line.submit(lambda: self._search(id, k))

    def vectors(self, ids: NDArray[np.int64]) -> Future[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """The vectors of items, as `raysal.web.orders.read_vectors` gives them."""

        def read() -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            self._session.rows.by_means.as_learnt(self._fleet)
            return orders.read_vectors(self._fleet, ids)

        return self.line.submit(read)

    def _search(self, id: int, k: int) -> BestItems:
        session, fleet = self._session, self._fleet
        start_program(fleet, np.empty(0, np.int64), HeldOut.of(session.config, session.pool), session.rows.by_means)
        vectors = gather_vectors(fleet, session.pool.dim, np.array([id], np.int64))
        fleet.each(exclude, np.array([id], np.int64))
        found, _ = nearest_to(fleet, session.pool, vectors, k, exact=False)
        self._found[id, k] = found
        while len(self._found) > KEPT:
            self._found.popitem(last=False)
        return found
