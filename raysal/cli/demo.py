"""`raysal demo`: embed, choose, label and learn on Fashion-MNIST, and write a report."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Option

from raysal.cli.garbage import look_now
from raysal.cli.output import Debug, Json, Outcome, on_interrupt
from raysal.cli.progress import progress


def demo(
    data: Annotated[Path | None, Option(metavar="DIR", help="The directory of the Fashion-MNIST files.")] = None,
    out: Annotated[Path, Option(metavar="DIR", help="The directory for pool, run and report.")] = Path("demo"),
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Embed 10,000 images and choose 800 of them to label in 8 rounds, beside a control arm of random picks."""
    del json, debug
    again = f"raysal demo --out {out}" + ("" if data is None else f" --data {data}")
    with on_interrupt(f"`{again}` goes on where it stopped"), progress("starting") as report:
        from rich.console import Group
        from rich.text import Text

        from raysal.demo import demo as run_demo
        from raysal.report.metrics import summary
        from raysal.report.table import headline, run_table

        look_now()

        made = run_demo(out, data=data, report=report, say=lambda line: print(line, file=sys.stderr))
        rows = summary(made.run)
    said = [*filter(None, headline(made.run)), f"report: {made.report}"]
    view = Group(run_table(made.run, made.source), *map(Text, said))
    return Outcome(data={**asdict(made), "rounds": [asdict(row) for row in rows]}, view=view)
