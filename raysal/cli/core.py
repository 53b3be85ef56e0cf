"""`raysal core`: keep a number of items of a pool that cover all others."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from raysal.cli.curation import CuratedOut, Device, Partitions, Rows, RowsOption, Seed, curated
from raysal.cli.garbage import look_now
from raysal.cli.options import Address, BackendOption, Force, PoolPath
from raysal.cli.output import Backend, Debug, Json, Outcome

if TYPE_CHECKING:
    from raysal.curation.curated import Curated
    from raysal.types import Report


class Mode(StrEnum):
    """Which item is kept next."""

    exact = "exact"
    levels = "levels"


def core(
    pool: PoolPath,
    out: CuratedOut,
    size: Annotated[float, Option(help="How many items are kept; below 1, which share of all.")],
    mode: Annotated[
        Mode,
        Option(
            help="Which item is kept next: the farthest of all (exact), or any that is nearly as far (levels). The "
            "radius is at most 2, or 2 / (1 - epsilon), times the smallest."
        ),
    ] = Mode.exact,
    epsilon: Annotated[
        float | None,
        Option(
            help="Of the mode levels: by which share of the radius an item may be nearer, 0.001 to 0.5. (Default: 0.1.)"
        ),
    ] = None,
    always: Annotated[
        str | None,
        Option(metavar="COLUMN", help="Keep the items that have a value in a column; they cover others, and count."),
    ] = None,
    rows: RowsOption = Rows.kept,
    seed: Seed = 0,
    partitions: Partitions = None,
    backend: BackendOption = Backend.local,
    address: Address = None,
    device: Device = "cpu",
    force: Force = False,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Keep a number of items so that every dropped one is near to a kept one.

    Each item that is kept next is the farthest from those that are kept already. Outliers and broken items come first:
    drop near-duplicates and what is no good before (`raysal curate`). It prints the covering radius: how far any
    dropped item is from the nearest kept one, at most.

    Every item has a row: key, kept, step, reason, nearest_kept and value, the distance to that one; by the cosine, of
    vectors of length 1. With --rows kept the file is what `raysal export --keys` takes, with --rows dropped what
    `raysal pool remove --keys` takes.
    """
    del json, debug
    more: dict[str, Any] = {}

    def compute(report: Report) -> Curated:
        from raysal.api.core import core as run_core

        look_now()
        found = run_core(
            pool, size, mode=mode.value, epsilon=epsilon, always=always, seed=seed, partitions=partitions,
            backend=backend.value, address=address, device=device, report=report,
        )  # fmt: skip
        more.update(found.steps[0].result.facts)
        return found

    answer = curated(pool, out, rows, force, compute)
    return replace(answer, data={**answer.data, "radius": more["radius"], "guarantee": more["guarantee"]})
