"""An aggregator of your own: any Python function of the scores of one owner."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.scoring.aggregators.base import Aggregator


@dataclass(frozen=True, kw_only=True)
class Custom(Aggregator):
    """`custom:MODULE:CALLABLE`: the number that `callable(scores)` returns of float64 [parts] of one owner.

    The callable must return the same for the same scores, wherever it runs: it is called beside the data, once for each
    owner. Python must find the module there: install it, or name its folder in PYTHONPATH.
    """

    arg: str
    """MODULE:CALLABLE"""

    def __post_init__(self) -> None:
        module, _, name = self.arg.partition(":")
        if not module or not name:
            example = "for example custom:my_module:score_of"
            raise ConfigError("aggregate_scores", f"{self.arg!r} is not MODULE:CALLABLE", example)

    def __call__(self, scores: NDArray[np.float64], begins: NDArray[np.int64]) -> NDArray[np.float64]:
        """Call it for each owner.

        Args:
            scores: as of `Aggregator`.
            begins: as of `Aggregator`.

        Returns:
            [m].

        Raises:
            ConfigError: there is no such callable, it fails, or it returns no finite number.
        """
        module, _, name = self.arg.partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
            found = [function(scores[low:high].copy()) for low, high in pairwise(begins)]
            values = np.array(found, np.float64).reshape(len(begins) - 1)
        except Exception as error:
            problem = f"{self.arg} fails ({type(error).__name__}: {error})"
            raise ConfigError("aggregate_scores", problem, "return one number for the scores of an owner") from error
        if not np.isfinite(values).all():
            raise ConfigError("aggregate_scores", f"{self.arg} returns {values[~np.isfinite(values)][0]}")
        return values
