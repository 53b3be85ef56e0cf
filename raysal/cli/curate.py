"""`raysal curate`: by a plan of steps, say which items of a pool are worth keeping."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from raysal.cli.curation import Device, Partitions, Rows, RowsOption, check_table_of, data_of, notes_of, words_for
from raysal.cli.garbage import look_now
from raysal.cli.options import Address, BackendOption, Force, PoolPath
from raysal.cli.output import Backend, Debug, Json, Outcome, note, on_interrupt
from raysal.cli.progress import progress
from raysal.cli.tables import kept_data, kept_note
from raysal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raysal.curation.forecast import PlanLine
    from raysal.curation.plan import PlannedStep


def curate(
    pool: PoolPath,
    out: Annotated[
        Path | None,
        Option(
            "--out",
            "-o",
            help="Write the items to a .parquet, .csv, .tsv, .jsonl or .json file: with --rows kept what `raysal "
            "export --keys` takes, with --rows dropped what `raysal pool remove --keys` takes.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        Option(help="The plan: a TOML file, as configs/curate.toml. (Default: exact, near.)"),
    ] = None,
    rows: RowsOption = Rows.kept,
    report: Annotated[
        Path | None,
        Option(
            metavar="PLACE",
            help="Also write a report: an .html file, a .json file, or a folder for both. It shows what was dropped "
            "beside what was kept.",
        ),
    ] = None,
    plan: Annotated[bool, Option("--plan", help="Print what the plan would do, and do nothing.")] = False,
    seed: Annotated[
        int | None, Option(min=0, help="The seed of all randomness. (Default: that of the config.)")
    ] = None,
    partitions: Partitions = None,
    backend: BackendOption = Backend.local,
    address: Address = None,
    device: Device = "cpu",
    force: Force = False,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Choose the items of a pool that are worth keeping, by a plan of steps.

    Each step is given what those before it left, and says which items it drops, and why. The plan is printed with
    predicted seconds before it runs.

    Every item has a row: key, kept, step, reason, nearest_kept (the kept item that it was dropped for) and value.

    What a step found stays in the pool: the same command again computes nothing, a changed later step leaves earlier
    ones as they are, and after an interruption the same command goes on.
    """
    del json, debug
    if out is None and not plan and report is None:
        raise ConfigError("--out", "there is nowhere to write", "add -o kept.parquet, --report PLACE, or --plan")
    if out is not None:
        check_table_of(out, pool, force)
    with on_interrupt("run the same command again to go on"), progress("starting") as told:
        from raysal.api.curate import DEFAULT_STEPS, run_steps
        from raysal.curation.forecast import forecast_plan
        from raysal.curation.plan import load_plan, plan_of
        from raysal.pool import open_pool

        look_now()
        if report is not None:
            from raysal.report.curation_writing import check_place

            pages = check_place(report, force)
            if out is not None and out.absolute() in [page.absolute() for page in pages]:
                raise ConfigError("--report", f"would be written over {out}, the table", "name another file")
        loaded = None if config is None else load_plan(config, note)
        steps = plan_of(DEFAULT_STEPS if loaded is None else loaded.steps)
        number = seed if seed is not None else 0 if loaded is None else loaded.seed
        opened = open_pool(pool)
        lines = forecast_plan(opened, steps, seed=number)
        foreseen = plan_text(len(opened), steps, lines)
        data: dict[str, Any] = {"pool": pool, "plan": [asdict(line) for line in lines]}
        if plan:
            return Outcome(data={**data, "items": len(opened)}, view=foreseen)
        print(foreseen, file=sys.stderr)
        found = run_steps(
            opened, [one.step for one in steps], seed=number, partitions=partitions, backend=backend.value,
            address=address, device=device, report=told,
        )  # fmt: skip
        words, written = words_for(found), None
        if out is not None:
            written = found.write(out, rows.value, overwrite=force)
            words = f"{out}: {words}{kept_note(written)}"
            data |= {"out": str(out), **kept_data(written)}
        words = "\n".join([words, *notes_of(found)])
        if report is not None:
            from raysal.report.curation_writing import write_curation_report

            told("report", 0, 0)
            written_pages = [str(path) for path in write_curation_report(found, report, overwrite=force)]
            words += f"\nreport: {', '.join(written_pages)}"
            data |= {"report": written_pages}
    return Outcome(data={**data, **data_of(found)}, view=words)


def plan_text(items: int, steps: Sequence[PlannedStep], lines: Sequence[PlanLine]) -> str:
    """A plan as text, one line for each step.

    Args:
        items: of the pool.
        steps: of the plan.
        lines: what they will do.

    Returns:
        Lines such as `near  at most 950 of 1,000 kept  about 3 s  (threshold=0.95)`.
    """
    from raysal.curation.plan import words_of

    cells = []
    for step, line in zip(steps, lines, strict=True):
        kept = f"at most {line.items:,}" if line.kept is None else f"{line.kept:,}"
        took = "done before" if line.done else f"about {seconds_text(line.seconds)}"
        fields = words_of(step.said)
        cells.append((f"{step.label}", f"{kept} of {line.items:,} kept", took, f"({fields})" if fields else ""))
    widths = [max(len(row[at]) for row in cells) for at in range(4)]
    total = sum(line.seconds for line in lines)
    head = f"{items:,} item{'s' * (items != 1)}, {len(cells)} step{'s' * (len(cells) > 1)}, about {seconds_text(total)}"
    rows = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
    return "\n".join([head, *(f"  {row}" for row in rows)])


def seconds_text(seconds: float) -> str:
    """A time in words that are no more exact than a forecast."""
    if seconds < 1:
        return "1 s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
