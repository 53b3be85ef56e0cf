"""What an aggregator is: it makes one score of those of the parts of an owner, for all owners at once.

An aggregator is a frozen, keyword-only dataclass; its constructor fields are its config. It gets numbers in double
precision, the parts of an owner side by side, and is a function of the numbers of that owner alone, in their order. Of
one part it makes the score of that part, so that a pool of single parts is chosen from as one without owners.

To add one: a class in this folder, and one line in `registry`, which enrols it in the config, the command line and
the tests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray


class Aggregator(ABC):
    """Makes one score of those of the parts of an owner."""

    @abstractmethod
    def __call__(self, scores: NDArray[np.float64], begins: NDArray[np.int64]) -> NDArray[np.float64]:
        """Aggregate the scores of some owners. O(n log n) at most.

        Args:
            scores: [n] of parts, those of an owner side by side.
            begins: [m + 1], where the parts of each owner begin, and n. None has no part.

        Returns:
            [m].
        """


def ordered(scores: NDArray[np.float64], begins: NDArray[np.int64]) -> NDArray[np.float64]:
    """The scores [n] of each owner in ascending order."""
    owner = np.repeat(np.arange(len(begins) - 1), np.diff(begins))
    return scores[np.lexsort((scores, owner))]
