"""`raysal predict`: write what a head predicts for every item of a pool, as Parquet files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Option

from raysal.cli.garbage import look_now
from raysal.cli.options import Address, BackendOption, PoolPath, Target
from raysal.cli.output import Backend, Debug, Json, Outcome, counted, on_interrupt
from raysal.cli.progress import progress
from raysal.cli.select import fields
from raysal.errors import ConfigError
from raysal.scoring.novelty.registry import NOVELTIES
from raysal.scoring.registry import SCORES


def predict(
    pool: PoolPath,
    out: Annotated[Path, Option("--out", "-o", help="The directory to write or to finish.")],
    run: Annotated[
        Path | None,
        Option(help="A run directory: the head that all its labels make now predicts; over another pool, its newest."),
    ] = None,
    round: Annotated[int | None, Option(min=0, help="Use the head that chose this round of the run.")] = None,
    head: Annotated[Path | None, Option(metavar="FILE", help="A head.safetensors, instead of a run.")] = None,
    predictive: Annotated[
        str,
        Option(
            help="map uses the mean of the weights; mean_field, monte_carlo and laplace_bridge also use their "
            "uncertainty."
        ),
    ] = "map",
    top: Annotated[
        str, Option(metavar="N|all", help="Write the probabilities of each item's N likeliest classes, or of all.")
    ] = "3",
    uncertainty: Annotated[
        list[str] | None,
        Option(
            metavar="SCORE",
            help=f"A score to write: {', '.join(SCORES)}. Repeatable. (Default: entropy; for numbers none. With a "
            "target, also its probability.)",
        ),
    ] = None,
    target: Target = None,
    novelty: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help=f"Also write how unlike the pool each item is, by {', '.join(NOVELTIES)}. Needs neither a run nor a "
            "head.",
        ),
    ] = None,
    novelty_option: Annotated[
        list[str] | None,
        Option(metavar="NAME=VALUE", help="A field of the novelty, as sample=5000. Repeatable."),
    ] = None,
    draws: Annotated[int, Option(min=2, help="Posterior samples, for monte_carlo and bald.")] = 128,
    partitions: Annotated[
        int | None,
        Option(
            min=1,
            help="Partitions of the pool. The predictions do not depend on it. (Default: 1; Ray: one per CPU.)",
        ),
    ] = None,
    backend: BackendOption = Backend.local,
    device: Annotated[
        str,
        Option(help="Where products are computed: cpu, cuda, cuda:1 ... On Ray, cuda takes a GPU for each process."),
    ] = "cpu",
    address: Address = None,
    seed: Annotated[int, Option(min=0, help="Another seed gives other posterior samples.")] = 0,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Write what a head predicts for every item of a pool, and how sure it is.

    There is one Parquet file for each chunk of the pool, in DIRECTORY/predictions.

    With --novelty, also how unlike the rest of the pool it is; without a run or a head, only that.

    After an interruption, run the same command again: it goes on where it stopped.
    """
    del json, debug
    if novelty_option and novelty is None:
        raise ConfigError("--novelty-option", "is of a novelty, and none is named", "pass --novelty NAME, too")
    asked = None if novelty is None else {"name": novelty, **fields(novelty_option, "--novelty-option")}
    with on_interrupt("run the same command again to go on"), progress("starting") as report:
        from raysal.prediction.job import predict_into

        look_now()

        found = predict_into(
            pool, out, run=run, round=round, head=head, predictive=predictive,
            top=int(top) if top.isdecimal() else top, uncertainty=uncertainty or None, target=target or (),
            novelty=asked, draws=draws,
            partitions=partitions, backend=backend.value, device=device, address=address, seed=seed, report=report,
        )  # fmt: skip
    lost = f", {found.quarantined} quarantined left out" if found.quarantined else ""
    were = "was" if found.chunks == 1 else "were"
    done = f" ({found.resumed} of {counted(found.chunks, 'chunk')} {were} there)" if found.resumed else ""
    of = "" if found.head_from is None else f" ({found.head_from})"
    by = [] if found.head is None else [f"head {found.head_version}{of}"]
    by += [] if found.novelty is None else [f"novelty {found.novelty}"]
    words = f"{out}: predictions of {found.items} items{lost}, by {', '.join(by)}{done}"
    words += f"\nnote: {found.note}" if found.note else ""
    return Outcome(data={"pool": str(pool), "out": str(out), **asdict(found)}, view=words)
