"""The parts that the config of a run names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from raysal.config import RunConfig
from raysal.labels import ORACLES, Oracle
from raysal.models.likelihood import Likelihood
from raysal.models.trainers import TRAINERS
from raysal.models.trainers.base import Trainer
from raysal.narrowing import NARROWERS
from raysal.narrowing.base import Narrower, searches_index
from raysal.pool import Pool
from raysal.rounds.given_probabilities import check_strategy
from raysal.rounds.offered import RowsOffered
from raysal.rounds.preflight import learns_from_held_out, likelihood_for
from raysal.strategies import SELECTORS
from raysal.strategies.base import Selector


@dataclass(frozen=True, kw_only=True)
class RunParts:
    """What a config names, built for one pool, and checked: the parts can work with one another."""

    narrower: Narrower
    selector: Selector
    start: Selector
    """the strategy while there is no label"""
    trainer: Trainer
    likelihood: Likelihood
    """what labels are"""
    rows: RowsOffered
    """whether a round offers owners or parts, and which"""
    oracle: Oracle
    learns_from_held_out: bool
    """whether half of the held-out items decide picks, and measure nothing"""

    @classmethod
    def of(cls, config: RunConfig, pool: Pool) -> Self:
        """The parts of a config.

        Args:
            config: the config of the run.
            pool: what the oracle and the strategies will work on.

        Returns:
            The parts.

        Raises:
            UnknownName: there is no such part.
            ConfigError: a field of a part does not exist; or the part cannot work with such labels, or by owner.
        """
        narrower = config.narrow.build("narrow", NARROWERS)
        selector = config.select.build("select", SELECTORS)
        start = config.start.build("start", SELECTORS)
        if config.probabilities is not None:
            check_strategy(config.start.name, start)
        rows = RowsOffered.of(config.parts)
        trainer = config.update.trainer.build("update.trainer", TRAINERS)
        learns_from = learns_from_held_out(selector, narrower)
        searches = searches_index(narrower, trainer)
        rows.check_run(config, searches_index=searches, learns_from_held_out=learns_from)
        return cls(
            narrower=narrower,
            selector=selector,
            start=start,
            trainer=trainer,
            rows=rows,
            likelihood=likelihood_for(config, trainer, selector, narrower, pool, start=start),
            oracle=config.oracle.build("oracle", ORACLES).bind(pool, config.seed),
            learns_from_held_out=learns_from,
        )
