"""`raysal check`: the labels of a pool that look wrong."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Option

from raysal.cli.curation import Device, Partitions, Seed, check_table_of
from raysal.cli.garbage import look_now
from raysal.cli.options import Address, BackendOption, Force, PoolPath
from raysal.cli.output import Backend, Debug, Json, Outcome, on_interrupt
from raysal.cli.progress import progress
from raysal.cli.tables import kept_data, kept_note

COLUMNS = ("key", "given", "suggested", "score", "reason", "rank", "twin")
"""Of the table."""


class Method(StrEnum):
    """Which items are suspects."""

    class_ = "class"
    noise_rate = "noise_rate"
    confident = "confident"


class Score(StrEnum):
    """How labels are ranked."""

    transitions = "transitions"
    self_confidence = "self_confidence"
    normalized_margin = "normalized_margin"
    entropy = "entropy"


def check(
    pool: PoolPath,
    out: Annotated[
        Path,
        Option("--out", "-o", help="Write the labels that look wrong to a .parquet, .csv, .tsv, .jsonl or .json file."),
    ],
    labels: Annotated[
        str,
        Option(metavar="COLUMN|FILE|RUN", help="The labels: a column of the pool, a label file, or a run directory."),
    ] = "label",
    several: Annotated[bool, Option("--several", help="An item has several labels, a|b, or - for none.")] = False,
    probabilities: Annotated[
        Path | None,
        Option(
            help="Judge by these probabilities in place of heads that are fitted here: a .csv, .tsv or .parquet file "
            "with key and a column for each class, or a folder of predictions. The items' own labels must not have "
            "made them."
        ),
    ] = None,
    folds: Annotated[
        int, Option(min=2, help="How many heads are fitted; each predicts what it was not fitted to.")
    ] = 5,
    sample: Annotated[int, Option(min=1, help="Labelled items that heads are fitted to, about.")] = 20_000,
    fewest: Annotated[int, Option(min=1, help="Labels of a class from which on its items are judged.")] = 5,
    method: Annotated[
        Method,
        Option(
            help="Which items are suspects: as many as are estimated to be wrong for each class (class), or for each "
            "pair of classes (noise_rate); or those that are confidently of another class (confident)."
        ),
    ] = Method.class_,
    score: Annotated[
        Score | None,
        Option(help="How labels are ranked. (Default: transitions; with --several: self_confidence.)"),
    ] = None,
    share: Annotated[
        float | None,
        Option(min=0, max=1, help="List this share of the judged items, those of lowest score, whatever the method."),
    ] = None,
    most: Annotated[int | None, Option(min=0, help="List so many items at most.")] = None,
    near: Annotated[
        float | None,
        Option(
            metavar="SIMILARITY",
            help="Take items for copies from this similarity on, as the threshold of `raysal dedup`. (Default: only "
            "equal vectors.)",
        ),
    ] = None,
    seed: Seed = 0,
    partitions: Partitions = None,
    backend: BackendOption = Backend.local,
    address: Address = None,
    device: Device = "cpu",
    force: Force = False,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Find labels that look wrong, the worst first.

    Heads on the vectors predict each item without looking at its own label, and what they say is compared with it
    (confident learning). Items of equal vectors that are labelled otherwise are listed, too.

    Each item that is listed has a row: key, given, suggested, score (from 0 for a wrong label to 1), reason, rank, and
    twin: a copy with the suggested label. Nothing is changed. The same command again only reads what was found.
    """
    del json, debug
    check_table_of(out, pool, force, COLUMNS)
    with on_interrupt("run the same command again"), progress("starting") as report:
        import raysal.curation.job  # noqa: F401  (what computes is imported before garbage is looked for)
        from raysal.api.check import check as find

        look_now()
        found = find(
            pool, labels, several=several, probabilities=probabilities, folds=folds, sample=sample, fewest=fewest,
            method=method.value, score=None if score is None else score.value, share=share, most=most, near=near,
            seed=seed, partitions=partitions, backend=backend.value, address=address, device=device, report=report,
        )  # fmt: skip
        written = found.write(out, overwrite=force)
    words = f"{out}: {found.words}"
    notes = "".join(f"\n{note}" for note in found.notes)
    data = {"pool": str(pool), "out": str(out), "suspects": len(found), **found.facts, "seconds": found.seconds}
    return Outcome(data=data | kept_data(written), view=words + notes + kept_note(written))
