"""`raysal doctor`: check this machine for a run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from raysal.cli.garbage import look_now
from raysal.cli.output import Debug, Json, Outcome
from raysal.cli.progress import progress

if TYPE_CHECKING:
    from raysal.cli.dashboards import Finding

MARKS = {"ok": "green", "warning": "yellow", "broken": "red"}


def doctor(
    out: Annotated[Path, Option("--out", metavar="DIR", help="The directory of a future run.")] = Path("."),
    quick: Annotated[bool, Option("--quick", help="Do not start Ray.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Check versions, CPUs and threads, GPU, memory, disk and Ray. The exit code is 1 if something is broken."""
    del json, debug
    with progress("looking"):
        from raysal.cli.checks import examine

        look_now()

        findings = examine(out, start_ray=not quick)
    broken = [finding.name for finding in findings if finding.state == "broken"]
    data = {"ok": not broken, "broken": broken, "findings": [asdict(finding) for finding in findings]}
    return Outcome(data=data, view=findings_view(findings), exit_code=1 if broken else 0)


def findings_view(findings: list[Finding]) -> Any:
    """Findings for people, one on each line."""
    from rich.table import Table
    from rich.text import Text

    view = Table.grid(padding=(0, 2))
    for finding in findings:
        detail = Text(finding.detail)
        if finding.fix:
            detail.append(f"; {finding.fix}", style="bold")
        view.add_row(Text(finding.state, style=MARKS[finding.state]), Text(finding.name), detail)
    return view
