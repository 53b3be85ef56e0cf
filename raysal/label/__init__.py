"""Batches out, labels in: the ledger, label files, and who answers."""

from raysal.label.base import Oracle, OracleConfig
from raysal.label.files import LabelFile, read_labels, write_labels
from raysal.label.ledger import Ledger
from raysal.label.oracles import FilesOracle, SimulatedOracle, revealing
from raysal.label.records import STATES, Changes, Labelled, State, Told, as_labels

ORACLES: dict[str, type[OracleConfig]] = {
    "files": FilesOracle,
    "simulated": SimulatedOracle,
}
"""Who answers a batch, by name in `[oracle]`."""

__all__ = [
    "ORACLES",
    "STATES",
    "Changes",
    "FilesOracle",
    "LabelFile",
    "Labelled",
    "Ledger",
    "Oracle",
    "OracleConfig",
    "SimulatedOracle",
    "State",
    "Told",
    "as_labels",
    "read_labels",
    "revealing",
    "write_labels",
]
