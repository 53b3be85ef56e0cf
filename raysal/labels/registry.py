"""Who answers a batch, by name in `[oracle]`. To add one: a file with a class as in `base.OracleConfig`, a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysal.registry import Registry

if TYPE_CHECKING:
    from raysal.labels.base import OracleConfig

ORACLES: Registry[type[OracleConfig]] = Registry(
    {
        "files": "raysal.labels.oracles:FilesOracle",
        "simulated": "raysal.labels.oracles:SimulatedOracle",
    }
)
