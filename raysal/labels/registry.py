"""The oracles by name. To add one, write its class as `base` says and add a line here."""

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
