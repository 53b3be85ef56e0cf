"""Out of a pool again: chosen items with their media and columns, as files that other programs read."""

from raysal.exporting.job import ExportReport, export_pool
from raysal.exporting.options import FORMS, Options

__all__ = ["FORMS", "ExportReport", "Options", "export_pool"]
