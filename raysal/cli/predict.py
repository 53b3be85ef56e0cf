"""`raysal predict`: what a head says of every item of a pool, as Parquet files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from raysal.cli.output import Backend, Debug, Json, Outcome, going_on
from raysal.cli.progress import progress
from raysal.cli.serve import Address


def predict(
    pool: Annotated[Path, Argument(help="An embedded pool.")],
    out: Annotated[Path, Option("--out", "-o", help="The directory to write, or to go on with.")],
    run: Annotated[Path | None, Option(help="A run, whose newest head predicts.")] = None,
    round: Annotated[int | None, Option(min=0, help="The head that chose this round of the run instead.")] = None,
    head: Annotated[Path | None, Option(metavar="FILE", help="A head.safetensors, instead of a run.")] = None,
    predictive: Annotated[
        str,
        Option(help="map, or counting how unsure the head is: mean_field, monte_carlo, laplace_bridge."),
    ] = "map",
    top: Annotated[
        str, Option(metavar="N|all", help="Probabilities of the N likeliest classes of each item, or of all.")
    ] = "3",
    uncertainty: Annotated[
        list[str] | None,
        Option(
            metavar="SCORE",
            help="entropy, bald, epistemic_variance, ...; repeatable. (Default: entropy; for numbers none.)",
        ),
    ] = None,
    draws: Annotated[int, Option(min=2, help="Posterior draws, for monte_carlo and bald.")] = 128,
    partitions: Annotated[
        int | None,
        Option(
            min=1,
            help="Parts the pool is cut into; what is written never depends on it. (Default: 1; Ray: one per CPU.)",
        ),
    ] = None,
    backend: Annotated[Backend, Option(help="This process, or Ray.")] = Backend.local,
    device: Annotated[str, Option(help="cpu, cuda, cuda:1 ...; with Ray cuda, a GPU for each process.")] = "cpu",
    address: Address = None,
    seed: Annotated[int, Option(min=0, help="Another seed, other draws.")] = 0,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Write what a head predicts of every item of a pool, and how sure it is.

    One Parquet file for each chunk of the pool, in DIRECTORY/predictions. Interrupted and run again, it goes on.
    """
    del json, debug
    with going_on("run the same command again to go on"), progress("starting") as report:
        from raysal.prediction.job import predict_into

        found = predict_into(
            pool, out, run=run, round=round, head=head, predictive=predictive,
            top=int(top) if top.isdecimal() else top, uncertainty=uncertainty or None, draws=draws,
            partitions=partitions, backend=backend.value, device=device, address=address, seed=seed, report=report,
        )  # fmt: skip
    lost = f", {found.quarantined} quarantined left out" if found.quarantined else ""
    done = f" ({found.resumed} of {found.chunks} chunks were there)" if found.resumed else ""
    words = f"{out}: predictions of {found.items} items{lost}, by head {found.head_version}{done}"
    return Outcome(data={"pool": str(pool), "out": str(out), **asdict(found)}, view=words)
