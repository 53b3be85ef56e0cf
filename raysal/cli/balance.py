"""`raysal balance`: keep so many items of a pool, as evenly over what there is as they can be."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from raysal.cli.curation import CuratedOut, Device, Partitions, Rows, RowsOption, Seed, curated
from raysal.cli.garbage import look_now
from raysal.cli.options import Address, BackendOption, Force, PoolPath
from raysal.cli.output import Backend, Debug, Json, Outcome

if TYPE_CHECKING:
    from raysal.curation.curated import Curated
    from raysal.types import Report


class Prefer(StrEnum):
    """Which items of a cluster come first."""

    random = "random"
    nearest = "nearest"
    farthest = "farthest"


def balance(
    pool: PoolPath,
    out: CuratedOut,
    size: Annotated[float, Option(help="How many items are kept; below 1, which share of them.")],
    by: Annotated[
        list[str] | None,
        Option(
            metavar="GROUPS",
            help="What over: clusters, column:NAME, class (of --predictions) or density. Repeatable: groups within "
            "groups, the outermost first. (Default: clusters.)",
        ),
    ] = None,
    clusters: Annotated[
        list[int] | None,
        Option(
            min=1,
            metavar="K",
            help="Clusters of a level. Repeatable: of each level, the most first. (Default: one for ten items, at most "
            "10,000, and a tenth at each next level.)",
        ),
    ] = None,
    rounds: Annotated[int, Option(min=0, help="Resampling of clusters of the upper levels.")] = 10,
    prefer: Annotated[
        Prefer, Option(help="Which items of a cluster come first: by the distance to its centroid, or any.")
    ] = Prefer.random,
    predictions: Annotated[
        Path | None, Option(metavar="DIRECTORY", help="What `raysal predict` wrote, for --by class.")
    ] = None,
    bins: Annotated[
        int, Option(min=2, help="Ranges that numbers of a column are cut into, if they have more different values.")
    ] = 20,
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
    """Keep so many items of a pool, spread as evenly over groups as there are items.

    Groups take turns to give an item: none gives fewer than another beside it unless it has no more. A smaller --size
    keeps some of what a larger one keeps. Clusters stay in the pool, so that another size takes seconds.

    Every item has a row: key, kept, step, reason, nearest_kept (empty here) and value, the least size that would keep
    it. With --rows kept the file is what `raysal export --keys` takes, with --rows dropped what `raysal pool remove
    --keys` takes.
    """
    del json, debug

    def compute(report: Report) -> Curated:
        from raysal.api.balance import balance as run_balance

        look_now()
        return run_balance(
            pool, size=int(size) if size.is_integer() else size, by=by or "clusters", clusters=clusters, rounds=rounds,
            prefer=prefer.value, predictions=predictions, bins=bins, seed=seed, partitions=partitions,
            backend=backend.value, address=address, device=device, report=report,
        )  # fmt: skip

    return curated(pool, out, rows, force, compute)
