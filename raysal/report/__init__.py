"""The result of a run: its numbers (`metrics`), its table in a terminal (`table`), and one HTML file (`html`).

A name is imported when it is first used: the numbers and the table of a run need neither torch nor matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysal.registry import names_on_use

if TYPE_CHECKING:
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

_METRICS, _TABLE, _HTML = "raysal.report.metrics", "raysal.report.table", "raysal.report.html"
__getattr__ = names_on_use(
    __name__,
    {
        "Curve": _METRICS,
        "Row": _METRICS,
        "headline": _TABLE,
        "labels_saved": _METRICS,
        "learning_curve": _METRICS,
        "report_html": _HTML,
        "rich_table": _TABLE,
        "run_table": _TABLE,
        "stage_seconds": _METRICS,
        "summary": _METRICS,
        "write_report": _HTML,
    },
)
