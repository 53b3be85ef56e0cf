"""`raysal select`: choose one batch from a pool."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from raysal.cli.garbage import look_now
from raysal.cli.options import BackendOption, Force, PoolPath, TableFile, Target
from raysal.cli.output import Backend, Debug, Json, Outcome
from raysal.cli.parts import (
    AggregateFeatures,
    AggregateScores,
    BudgetOption,
    By,
    CostColumn,
    LabelsOf,
    OwnerFeatures,
    PartScore,
    PerOwner,
    Rows,
    parts_given,
)
from raysal.cli.progress import progress
from raysal.cli.tables import (
    answers_kept,
    check_no_source,
    check_output,
    kept_data,
    kept_note,
    refuse_filled_in,
    table_view,
)
from raysal.errors import ConfigError
from raysal.narrowing.registry import NARROWERS
from raysal.store import Written
from raysal.strategies.registry import SELECTORS

if TYPE_CHECKING:
    import pyarrow as pa


def select(
    pool: PoolPath,
    k: Annotated[int | None, Option("-k", min=1, help="How many items.")] = None,
    strategy: Annotated[
        str,
        Option(
            help=f"{', '.join(SELECTORS)}. Or a score, the highest of which are picked: {', '.join(SELECTORS.short)}. "
            "A strategy that contains another one names it after a colon, as class_balanced:margin."
        ),
    ] = "badge",
    option: Annotated[
        list[str] | None,
        Option(metavar="NAME=VALUE", help="A field of the strategy, as score=entropy. Repeatable."),
    ] = None,
    labels: Annotated[
        Path | None,
        Option(
            help="A label file (.csv, .tsv, .parquet, .jsonl, .json with key,label), or the directory of a run, whose "
            "head is then used."
        ),
    ] = None,
    probabilities: Annotated[
        Path | None,
        Option(
            help="For the start, without labels: a table (.csv, .tsv, .parquet) with the column key and one of "
            "probabilities for each class, or a folder of `raysal predict --top all`. For margin, entropy, "
            "least_confidence, power_margin, skip_extremes, class_balanced:typiclust and class_balanced:margin.",
        ),
    ] = None,
    rebind: Annotated[
        bool,
        Option(
            "--rebind",
            help="The run in --labels is of another pool: match its labels with this one by key. The run stays as it "
            "is.",
        ),
    ] = False,
    only_new: Annotated[
        bool,
        Option(
            "--only-new",
            help="Only items that came since the last round of the run in --labels, or else since the pool grew last.",
        ),
    ] = False,
    narrow: Annotated[
        str,
        Option(help=f"{', '.join(NARROWERS)}. filter may name another narrower after a colon, as filter:anchoral."),
    ] = "none",
    narrow_option: Annotated[
        list[str] | None,
        Option(metavar="NAME=VALUE", help="A field of the narrower, as subpool=5000. Repeatable."),
    ] = None,
    partitions: Annotated[
        int | None,
        Option(
            min=1,
            help="Partitions of the pool. The picks do not depend on it. (Default: 1; Ray: one per CPU.)",
        ),
    ] = None,
    backend: BackendOption = Backend.local,
    seed: Annotated[int, Option(min=0, help="Another seed gives other random numbers.")] = 0,
    target: Target = None,
    by: By = Rows.part,
    labels_of: LabelsOf = Rows.owner,
    aggregate_features: AggregateFeatures = OwnerFeatures.mean,
    aggregate_scores: AggregateScores = None,
    part_score: PartScore = None,
    per_owner: PerOwner = 0,
    budget: BudgetOption = None,
    cost: CostColumn = None,
    out: TableFile = None,
    force: Force = False,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Choose the items of a pool that are most worth a label.

    Without labels the batch is a diverse first one.

    With -o batch.csv you get a label column to fill in: a class, !skip, or nothing. Pass the file back with --labels
    for the next batch.
    """
    del json, debug
    if k is None and budget is None:
        problem = "missing, and so is --budget"
        raise ConfigError("-k", problem, "say how many items, or what they may cost (`raysal select --help`)")
    if out is not None:
        check_output(out)
        check_no_source(out, pool)
        if not force:
            refuse_filled_in(out)
    written = Written()
    chosen = {"name": strategy, **fields(option, "--option")}
    narrower = {"name": narrow, **fields(narrow_option, "--narrow-option")}
    with progress("selecting"):
        from raysal.api.select import select as select_batch

        look_now()

        table = select_batch(
            pool, k=k, strategy=chosen, labels=labels, narrow=narrower, partitions=partitions,
            backend=backend.value, seed=seed, rebind=rebind, probabilities=probabilities, target=target or (),
            only_new=only_new, budget=budget, cost=cost,
            parts=parts_given(by, labels_of, aggregate_features, aggregate_scores, part_score, per_owner),
        )  # fmt: skip
        if out is not None:
            from raysal.labels.files import write_table

            kept = answers_kept(labels, out) if force else ()
            written = write_table(out, table, fill_in=("label",), overwrite=force, known=kept)
    rule = table.schema.metadata[b"narrow"].decode()
    data: dict[str, Any] = {"pool": str(pool), "k": table.num_rows, "strategy": strategy, "narrow": narrow}
    data["seed"] = seed
    if by is Rows.owner:
        data["by"] = by.value
    if "cost" in table.column_names:
        data |= {"budget": budget, "cost": sum(table["cost"].to_pylist())}
    data["candidates"] = rule
    if out is not None:
        hint = "; fill in the label column and pass it back with --labels" if out.suffix in (".csv", ".tsv") else ""
        view = f"{out}: {table.num_rows} items from {rule}{kept_note(written)}{hint}"
        return Outcome(data={**data, "out": str(out), **kept_data(written)}, view=view)
    return Outcome(data={**data, "rows": table.to_pylist()}, view=batch_view(table, f"from {rule}"))


def fields(pairs: list[str] | None, flag: str) -> dict[str, Any]:
    """Read NAME=VALUE pairs.

    Args:
        pairs: as given on the command line.
        flag: the option they were given to, for the error.

    Returns:
        {name: value}; a value is JSON where it can be read as JSON, and text otherwise.

    Raises:
        ConfigError: a pair has no `=`, or a name is given twice.
    """
    found: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, text = pair.partition("=")
        if not equals or not name or name == "name":
            raise ConfigError(flag, f"{pair!r} is not NAME=VALUE", f"for example {flag} score=entropy")
        if name in found:
            raise ConfigError(flag, f"{name!r} is given twice", "give it once")
        try:
            found[name] = jsonlib.loads(text)
        except ValueError:
            found[name] = text
    return found


def batch_view(table: pa.Table, note: str) -> Any:
    """A batch for people, with a line below it."""
    rows = ([str(row["rank"]), row["key"], f"{row['score']:.4g}", row["reason"] or ""] for row in table.to_pylist())
    return table_view(("rank", "key", "score", "reason"), rows, note)
