"""What an oracle is: it gives the labels of a batch. It may be a person, a file or a simulation.

An oracle has two parts. `OracleConfig` is what the config names: a frozen, keyword-only dataclass whose fields are the
fields of `[oracle]`. Its method `bind` makes the `Oracle` for one pool. That does its work in one method, `answer`. The
other, `truth`, is for simulations: an oracle that does not know true labels returns an empty dict.

What `answer` must keep:

- It gives labels only for items of the batch, in the order of the batch. It may answer all of them, some or none.
- It is deterministic, and each answer is independent of the rest of the batch. A run that crashed asks again.

Pitfalls:

- Do not sample from a generator that lives in the oracle. Use `raysal.rng.item_uniform` with a key from the run's seed,
  so that a label does not depend on the batch.
- Do not wait for a person. An item without an answer stays leased, and somebody can tell its label later.
- Check the fields in `bind` where this needs the pool, so that a wrong one stops the run before its first round.

To add an oracle: write one file with its class, and add one line to `raysal.labels.registry`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from raysal.types import Label

if TYPE_CHECKING:
    from raysal.pool import Pool


class Oracle(Protocol):
    """An oracle for the items of one pool."""

    def answer(self, batch: Sequence[tuple[int, str]]) -> list[Label]:
        """Give labels for some, all or none of a batch.

        Args:
            batch: (id, key) pairs.

        Returns:
            Labels of items of the batch, in the order of the batch.
        """
        ...

    def truth(self, ids: Sequence[int]) -> dict[int, str]:
        """Give the true labels that the oracle knows. A run measures its heads against them.

        Args:
            ids: ids of items in the pool.

        Returns:
            {id: label} of the items whose true label it knows; empty for most oracles.
        """
        ...


class OracleConfig(Protocol):
    """The config of an oracle, as the registry holds it. Its constructor fields are the fields of `[oracle]`."""

    def bind(self, pool: Pool, seed: int) -> Oracle:
        """Make the oracle for one pool.

        Args:
            pool: the pool whose items are asked for.
            seed: the run's seed.

        Returns:
            An oracle for this pool.

        Raises:
            ConfigError: the pool lacks what the fields name.
        """
        ...
