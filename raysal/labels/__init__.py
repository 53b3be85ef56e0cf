"""Labels: the ledger that records them, the files that hold them, and the oracles that give them."""

from raysal.labels.base import Oracle, OracleConfig
from raysal.labels.files import LabelFile, read_labels, write_labels, write_sheet
from raysal.labels.formats import FORMATS, Format, Sheet
from raysal.labels.given import Labels, as_labels
from raysal.labels.ledger import Ledger
from raysal.labels.oracles import FilesOracle, SimulatedOracle, revealing
from raysal.labels.records import STATES, Changes, Labelled, State, TellCounts
from raysal.labels.registry import ORACLES

__all__ = [
    "FORMATS",
    "ORACLES",
    "STATES",
    "Changes",
    "FilesOracle",
    "Format",
    "LabelFile",
    "Labelled",
    "Labels",
    "Ledger",
    "Oracle",
    "OracleConfig",
    "Sheet",
    "SimulatedOracle",
    "State",
    "TellCounts",
    "as_labels",
    "read_labels",
    "revealing",
    "write_labels",
    "write_sheet",
]
