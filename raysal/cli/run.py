"""`raysal run`, `resume` and `status`: make, continue and show a run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from raysal.cli.garbage import look_now
from raysal.cli.options import MovedPool, Rebind
from raysal.cli.output import Backend, Debug, Json, Outcome, counted, note, on_interrupt
from raysal.cli.progress import progress

if TYPE_CHECKING:
    from raysal.config import RunConfig
    from raysal.rounds.loop import RunResult
    from raysal.types import Status

Run = Annotated[Path, Argument(help="The run directory.")]


def run(
    config: Annotated[Path, Argument(help="A TOML config. `raysal config show` prints one.")],
    out: Annotated[Path, Option("--out", help="The run directory to make or to continue.")],
    backend: Annotated[Backend | None, Option(help="Replaces the config's fleet.backend.")] = None,
    partitions: Annotated[int | None, Option(min=1, help="Replaces the config's fleet.partitions.")] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Print what the run would do, and start nothing.")] = False,
    rebind: Rebind = False,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Embed the pool if needed; then, in each round, choose a batch, ask for its labels and learn from them.

    With the oracle `files`, the run stops after each batch until you import labels for it.

    If fewer items than a batch are left, they are the last batch, and the run is closed.
    """
    del json, debug
    with on_interrupt(f"go on with `raysal resume {out}`"), progress("starting") as report:
        from raysal.config import load_config
        from raysal.rounds.loop import run as run_rounds

        look_now()

        loaded = load_config(config, note)
        changes: dict[str, Any] = {"backend": backend and backend.value, "partitions": partitions}
        fleet = loaded.fleet.model_copy(update={name: value for name, value in changes.items() if value is not None})
        loaded = loaded.model_copy(update={"fleet": fleet})
        if dry_run:
            return planned(loaded, out, rebind)
        result = run_rounds(loaded, out, rebind=rebind, report=report)
    return outcome_of(result)


def planned(config: RunConfig, out: Path, rebind: bool) -> Outcome:
    """What a run would do."""
    from raysal.rounds.plan import plan_run

    plan = plan_run(config, out, rebind=rebind)
    stages = [stage.name for stage in plan.stages]
    closing = [stage.name for stage in plan.closing]
    return Outcome(data={**asdict(plan), "stages": stages, "closing": closing}, view="\n".join(plan.lines()))


def resume(
    run: Run, pool: MovedPool = None, rebind: Rebind = False, json: Json = False, debug: Debug = False
) -> Outcome:
    """Continue a run where it stopped."""
    del json, debug
    with on_interrupt(f"go on with `raysal resume {run}`"), progress("starting") as report:
        from raysal.rounds.loop import resume as resume_rounds

        look_now()

        result = resume_rounds(run, pool=pool, rebind=rebind, report=report)
    return outcome_of(result)


def outcome_of(result: RunResult) -> Outcome:
    """The table of a run, and what to do next."""
    from rich.console import Group
    from rich.text import Text

    from raysal.models.measures import MEASURES, shown
    from raysal.report.table import run_table
    from raysal.types import PassedOver

    lines = [f"{result.run}: {counted(result.rounds, 'round')}, {counted(result.labels, 'label')}"]
    if result.rebound is not None:
        lines.insert(0, f"{result.run}: {result.rebound}")
    if result.metric is not None and result.value is not None:
        beside = "" if result.control_value is None else f", random {shown(result.metric, result.control_value)}"
        lines[-1] += f", {MEASURES[result.metric].words} {shown(result.metric, result.value)}{beside}"
    if result.exhausted:
        lines.append("closed before its last round: no item is left to offer")
    if result.embedded is not None and result.embedded.passed_over:
        lines.append(str(PassedOver(counts=result.embedded.passed_over)))
    first = [] if result.finished else next_steps(result.run, result.waiting, result.rounds)
    lines += how_to_measure(result)
    table = [run_table(result.run)] if result.rounds or result.finished else []
    data = asdict(result)
    if result.rebound is None:
        del data["rebound"]
    return Outcome(data=data, view=Group(*(Text(line) for line in first), *table, *(Text(line) for line in lines)))


def how_to_measure(result: RunResult) -> list[str]:
    """What to do where items are held out, and no head is measured on them yet."""
    from raysal.rounds.directory import RunDir
    from raysal.rounds.status import read_status

    rounds = RunDir(result.run).require_config().rounds
    if result.value is not None or not rounds.holdout:
        return []
    if tested := read_status(result.run).tested:
        return [f"nothing is measured yet: the labels of {tested} held-out items measure the next head"]
    if rounds.tests:
        return ["nothing is measured yet: the test draws in each batch measure the next head, once they are labeled"]
    return [
        "nothing is measured yet, as no held-out item has a known label; to label some:",
        f"  raysal label export {result.run} --holdout 200 -o test.csv   # fill it in, and import it, too",
    ]


def next_steps(run: Path, waiting: int, rounds: int) -> list[str]:
    """How to go on with a run that waits for labels. Each round has a file of its own."""
    batch = f"batch-{rounds}.csv"
    return [
        f"{counted(waiting, 'item')} {'waits' if waiting == 1 else 'wait'} for a label:",
        f"  raysal serve {run}   # in a browser (extra: serve), or in a file:",
        f"  raysal label export {run} --waiting -o {batch}   # fill in the label column (!skip: nobody can), then",
        f"  raysal label import {run} {batch} && raysal resume {run}",
    ]


def status(run: Run, pool: MovedPool = None, json: Json = False, debug: Debug = False) -> Outcome:
    """Show the state of a run. Starts nothing, and changes nothing but the place of a pool that was moved."""
    del json, debug
    from raysal.errors import PoolError
    from raysal.rounds.directory import RunDir
    from raysal.rounds.status import read_status

    try:
        found = read_status(run, pool)
    except PoolError as error:
        if pool is not None or RunDir(run).has_ledger:
            raise
        data = {"run": str(run), "state": "embedding", "problem": str(error)}
        return Outcome(data=data, view=f"{run}: no rounds yet, its pool is not ready ({error})")
    state = "finished" if found.finished else "waiting for labels" if found.waiting else "open"
    return Outcome(data={**asdict(found), "state": state}, view=status_view(found, state, run))


def status_view(found: Status, state: str, run: Path) -> Any:
    """The state of a run, for people."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from raysal.models.measures import MEASURES

    view = Table.grid(padding=(0, 2))
    rows = {
        "run": found.run,
        "state": state,
        "pool": found.pool if found.items is None else f"{found.pool}, {found.items} items",
        "rounds": found.rounds,
        "asked": found.asked,
        "labeled": f"{found.labeled}, {found.tested} of them held out to measure" if found.tested else found.labeled,
        "waiting": found.waiting,
        "skipped": found.skipped,
        "disputed": found.disputed,
        **({"not in the pool": found.absent} if found.absent else {}),
        "classes": ", ".join(f"{name} {count}" for name, count in found.classes.items()) or "none yet",
        MEASURES[found.metric or "accuracy"].words: (
            "not measured" if found.value is None else with_interval(found, found.metric or "accuracy", found.value)
        ),
        **({} if found.search is None else search_rows(found)),
    }
    for name, value in rows.items():
        view.add_row(Text(name), Text(str(value)))
    steps = [line for line in (found.problem, found.note) if line]
    steps += [] if found.search is None else found.search.hints
    steps += next_steps(run, found.waiting, found.rounds) if found.waiting and not found.finished else []
    return Group(view, *(Text(line) for line in steps))


def with_interval(found: Status, metric: str, value: float) -> str:
    """A measure for people, with its interval and what it is measured by: `0.41 (0.22 to 0.63), by 45 test draws`."""
    from raysal.models.measures import shown
    from raysal.rounds.draws import DRAWS

    words = shown(metric, value)
    if metric in found.intervals:
        low, high = found.intervals[metric]
        words += f" ({shown(metric, low)} to {shown(metric, high)})"
    return f"{words}, by test draws" if found.known_by == DRAWS else words


def percent_of(share: float) -> str:
    """A share in percent to two digits, however rare: `0.13`, `8.2`, `25`, `100`."""
    percent = 100 * share
    return f"{percent:.0f}" if percent >= 10 else f"{percent:.2g}"


def search_rows(found: Status) -> dict[str, str]:
    """What was found of the classes that are looked for, and what is left, for people; intervals of 95 %."""
    from raysal.models.measures import MEASURES

    search = found.search
    assert search is not None
    rows = {"looks for": ", ".join(search.target)}
    rows["found"] = f"{search.found} in {search.labels} labels"
    if search.precision is not None:
        rows["found"] += f" ({100 * search.precision:.0f} %)"
    if search.since_find:
        rows["found"] += f", nothing new in the last {search.since_find}"
    if search.known > search.found:
        rows["found"] += f"; {search.known - search.found} known before"
    if search.drawn:
        rows["test draws"] = f"{search.drawn}, {search.answered} answered"
    if search.prevalence is not None and search.prevalence_interval is not None:
        share, least, most = (percent_of(part) for part in (search.prevalence, *search.prevalence_interval))
        rows["prevalence"] = f"{share} % ({least} to {most} %)"
    if search.left is not None and search.left_interval is not None:
        low, high = search.left_interval
        rows["left to find"] = f"about {search.left:,.0f} ({low:,.0f} to {high:,.0f})"
    for name in ("auroc", "precision_in_top", "recall_in_top", "precision_at_k", "recall_at_k", "accuracy"):
        if name in found.intervals and name != found.metric:
            rows[MEASURES[name].words] = with_interval(found, name, found.measures[name])
    return rows
