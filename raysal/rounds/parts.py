"""The config of a run, and the parts that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from raysal.config import RunConfig, deciding_fields, parse_config
from raysal.errors import RunError
from raysal.labels import ORACLES, Oracle
from raysal.models.likelihood import Likelihood
from raysal.models.trainers import TRAINERS
from raysal.models.trainers.base import Trainer
from raysal.narrowing import NARROWERS
from raysal.narrowing.base import Narrower
from raysal.pool import Pool
from raysal.rounds.directory import RunDir
from raysal.rounds.given_probabilities import check_strategy
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
            ConfigError: a field of a part does not exist; or the part cannot work with such labels.
        """
        narrower = config.narrow.build("narrow", NARROWERS)
        selector = config.select.build("select", SELECTORS)
        start = config.start.build("start", SELECTORS)
        if config.probabilities is not None:
            check_strategy(config.start.name, start)
        trainer = config.update.trainer.build("update.trainer", TRAINERS)
        return cls(
            narrower=narrower,
            selector=selector,
            start=start,
            trainer=trainer,
            likelihood=likelihood_for(config, trainer, selector, narrower, pool),
            oracle=config.oracle.build("oracle", ORACLES).bind(pool, config.seed),
            learns_from_held_out=learns_from_held_out(selector, narrower),
        )


def config_of(
    run: RunDir,
    pool: str | Path | Pool | None,
    config: RunConfig | None,
    fleet: object,
    fields: Mapping[str, Any],
) -> RunConfig:
    """The config to run by: the stored one, or a given one that has the same picks.

    Args:
        run: the run directory, there or not yet.
        pool: an embedded pool or its path; a new run needs one.
        config: a whole config, instead of `fields`.
        fleet: where it is a mapping, the fleet's config for now, which is not kept.
        fields: those of `RunConfig`.

    Returns:
        The config.

    Raises:
        RunError: there is neither a run nor a pool; or the run there has other picks than this config.
        ConfigError: a field is unknown or out of range.
    """
    stored = run.config()
    if config is None and (stored is None or fields):
        known = {} if stored is None else stored.model_dump(mode="json")
        if pool is None and stored is None:
            raise RunError(run.path, "no run is there", "pass pool=... to start one")
        if pool is not None:
            known["pool"] = pool.path if isinstance(pool, Pool) else Path(pool)
        known.setdefault("fleet", {"backend": "local"})
        config = parse_config({**known, **fields})
    resolved = _same_picks(run, stored, config)
    if isinstance(fleet, Mapping):
        return parse_config({**resolved.model_dump(mode="json"), "fleet": fleet})
    return resolved


def _same_picks(run: RunDir, stored: RunConfig | None, given: RunConfig | None) -> RunConfig:
    """The given config, or the stored one where none is given.

    Args:
        run: the run directory.
        stored: the config the run was begun with.
        given: the config it is to go on with.

    Returns:
        The config to run by.

    Raises:
        RunError: both are there and would pick differently.
    """
    if given is None or stored is None:
        kept = stored if given is None else given
        assert kept is not None
        return kept
    mine, theirs = deciding_fields(given), deciding_fields(stored)
    if mine != theirs:
        changed = [name for name, value in mine.items() if theirs.get(name) != value]
        raise RunError(
            run.path, f"was begun with another {', '.join(changed)}", "use another directory, or `raysal resume`"
        )
    return given
