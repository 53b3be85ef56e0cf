"""An oracle answers batches: a person, a file, or a simulation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from raysal.types import Label

if TYPE_CHECKING:
    from raysal.pool import Pool


class Oracle(Protocol):
    """Bound to a pool, it answers for that pool's items."""

    def answer(self, batch: Sequence[tuple[int, str]]) -> list[Label]:
        """Labels for some, all or none of the (id, key) pairs, in their order; never for others.

        Deterministic, and each answer independent of the rest of the batch: a batch may be asked for again
        after a crash. What has no answer stays leased until somebody tells.
        """
        ...

    def truth(self, ids: Sequence[int]) -> dict[int, str]:
        """The true labels of those of the items whose truth it knows, by id; heads are measured against them."""
        ...


class OracleConfig(Protocol):
    """What `ORACLES` holds: constructor fields are its config."""

    def bind(self, pool: Pool, seed: int) -> Oracle:
        """The oracle for one pool; `seed` is the run's.

        Raises:
            ConfigError: the pool lacks what the fields name.
        """
        ...
