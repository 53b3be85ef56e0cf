"""The result of a run: numbers (`metrics`), a table in a terminal (`table`), and one HTML file (`html`, `writing`).

A name is imported when it is first used: the numbers and the table of a run need neither torch nor matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysal.registry import names_on_use

if TYPE_CHECKING:
    from raysal.report.html import report_html
    from raysal.report.metrics import Curve, Row, labels_saved, learning_curve, stage_seconds, summary
    from raysal.report.ranked import Exported, export_items
    from raysal.report.table import headline, rich_table, run_table
    from raysal.report.writing import write_report

__all__ = [
    "Curve",
    "Exported",
    "Row",
    "export_items",
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

_METRICS, _TABLE = "raysal.report.metrics", "raysal.report.table"
__getattr__ = names_on_use(
    __name__,
    {
        "Curve": _METRICS,
        "Exported": "raysal.report.ranked",
        "Row": _METRICS,
        "export_items": "raysal.report.ranked",
        "headline": _TABLE,
        "labels_saved": _METRICS,
        "learning_curve": _METRICS,
        "report_html": "raysal.report.html",
        "rich_table": _TABLE,
        "run_table": _TABLE,
        "stage_seconds": _METRICS,
        "summary": _METRICS,
        "write_report": "raysal.report.writing",
    },
)
