"""The result of a run: its numbers (`metrics`), its table in a terminal (`table`), and one HTML file (`html`)."""

from raysal.report.html import report_html, write_report
from raysal.report.metrics import Curve, Row, labels_saved, learning_curve, stage_seconds, summary
from raysal.report.table import headline, rich_table, run_table

__all__ = [
    "Curve",
    "Row",
    "headline",
    "labels_saved",
    "learning_curve",
    "report_html",
    "rich_table",
    "run_table",
    "stage_seconds",
    "summary",
    "write_report",
]
