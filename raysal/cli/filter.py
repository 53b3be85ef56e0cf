"""`raysal filter`: drop the items of a pool that are no good by themselves."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from typer import Option

from raysal.cli.curation import CuratedOut, Device, Partitions, Rows, RowsOption, Seed, curated
from raysal.cli.garbage import look_now
from raysal.cli.options import Address, BackendOption, Force, PoolPath
from raysal.cli.output import Backend, Debug, Json, Outcome
from raysal.cli.pairs import shares_of, tests_of

if TYPE_CHECKING:
    from raysal.curation.curated import Curated
    from raysal.types import Report


class Outliers(StrEnum):
    """The values of `raysal.curation.filtering.distances.OutlierRule`, as a choice on the command line."""

    knn = "knn"
    mahalanobis = "mahalanobis"


def filter(
    pool: PoolPath,
    out: CuratedOut,
    where: Annotated[
        list[str] | None,
        Option(
            metavar="COLUMN=TEST",
            help='A test that items must pass: sharpness={"min": 5}, width={"min": 64, "max": 4096}, split={"not": '
            '"test"}, language=["en", "de"]. Repeatable: all of them.',
        ),
    ] = None,
    keep_missing: Annotated[
        bool, Option("--keep-missing", help="Items without a value pass. (Default: they do not.)")
    ] = False,
    lowest: Annotated[
        list[str] | None,
        Option(
            metavar="COLUMN=SHARE",
            help="Drop the share of the items with the lowest values of a column: sharpness=0.01. Repeatable.",
        ),
    ] = None,
    highest: Annotated[
        list[str] | None, Option(metavar="COLUMN=SHARE", help="The same of the highest values. Repeatable.")
    ] = None,
    outliers: Annotated[
        Outliers | None,
        Option(help="Drop those farthest from the items of --like: from the nearest of them, or from their mean."),
    ] = None,
    like: Annotated[
        list[str] | None,
        Option(metavar="COLUMN=TEST", help="The items that are as they should be: split=train. Repeatable: all tests."),
    ] = None,
    outlier_share: Annotated[
        float | None, Option(help="Share of the other items that --outliers drops. (Default: 0.01.)")
    ] = None,
    outlier_k: Annotated[int, Option(min=1, help="To which nearest item knn takes the distance.")] = 5,
    outlier_sample: Annotated[int, Option(min=1, help="Items of --like that are looked at, at most.")] = 10_000,
    novelty: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="Drop those least like the rest: knn, isolation_forest, local_density or mahalanobis.",
        ),
    ] = None,
    novelty_share: Annotated[
        float | None, Option(help="Share of the items left that --novelty drops. (Default: 0.01.)")
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
    """Drop the items of a pool that are no good by themselves: by columns, by distance, by novelty.

    Columns are those that the pool carries, and the measures of quality that `raysal embed --measure` computes. Tests
    come first, then shares of columns, outliers, and novelty, each upon what is left.

    Every item has a row: key, kept, step, reason, nearest_kept (empty here) and value, the number that it was dropped
    for. With --rows kept the file is what `raysal export --keys` takes, with --rows dropped what `raysal pool remove
    --keys` takes.
    """
    del json, debug
    tests, reference = tests_of(where or (), "--where"), tests_of(like or (), "--like")
    low, high = shares_of(lowest or (), "--lowest"), shares_of(highest or (), "--highest")

    def compute(report: Report) -> Curated:
        from raysal.api.filter import filter as run_filter

        look_now()
        return run_filter(
            pool, where=tests, keep_missing=keep_missing, lowest=low, highest=high,
            outliers=None if outliers is None else outliers.value, like=reference, outlier_share=outlier_share,
            outlier_k=outlier_k, outlier_sample=outlier_sample, novelty=novelty, novelty_share=novelty_share,
            seed=seed, partitions=partitions, backend=backend.value, address=address, device=device, report=report,
        )  # fmt: skip

    return curated(pool, out, rows, force, compute)
