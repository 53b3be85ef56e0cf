"""The config that a run goes by: of the main arm and of the control arm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysal.config import Choice, PartsConfig, RunConfig, deciding_fields, parse_config
from raysal.errors import RunError
from raysal.pool import Pool
from raysal.rounds.directory import RunDir


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
        pool: an embedded pool, its path or its URL; a new run needs one.
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
            known["pool"] = pool.place if isinstance(pool, Pool) else pool
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


def control_config(config: RunConfig) -> RunConfig:
    """The config of the random arm: the same pool, oracle, hold-out and budget; every batch is a uniform sample."""
    uniform = Choice(name="random")
    rounds = config.rounds.model_copy(update={"control": False})
    others: dict[str, Any] = {"select": uniform, "start": uniform, "probabilities": None}
    parts = PartsConfig(by=config.parts.by, labels_of=config.parts.labels_of)
    others |= {"narrow": Choice(name="none"), "parts": parts}
    return config.model_copy(update={**others, "rounds": rounds})
