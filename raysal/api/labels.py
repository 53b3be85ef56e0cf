"""`raysal.export_labels` and `raysal.import_labels`: label files of a run, and the files of label tools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from raysal.arguments import as_place
from raysal.errors import ConfigError, FingerprintMismatch, LabelError
from raysal.labels.files import write_sheet
from raysal.labels.formats.registry import name_of, writer_of
from raysal.labels.ledger import RENAME
from raysal.labels.remarks import ByItem
from raysal.pool import Pool
from raysal.rounds.directory import RunDir
from raysal.rounds.label_files import Imported, import_labels
from raysal.rounds.run_labels import RunLabels
from raysal.store import Written
from raysal.types import SKIP

if TYPE_CHECKING:
    from raysal.models.head import Head

__all__ = ["Exported", "Imported", "Which", "export_labels", "import_labels"]

Which = Literal["labels", "waiting", "holdout", "pool"]
"""The items that have labels, those that wait for one, held-out items that nobody labelled yet, or the whole pool."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written for a label tool."""

    format: str
    items: int
    """Items in the file."""
    labels: int
    """Answers in it, skips included."""
    setup: str
    """What a person tells the tool: a config, a program or a command; empty if there is nothing to tell."""
    written: Written
    """Whether the same file was there already, and where the old one is kept."""
    problem: str | None = None
    """Why the file lacks the texts of a pool of texts."""
    unpredicted: str | None = None
    """Why it has no prediction, though the run has a head."""


def export_labels(
    run: str | Path,
    out: str | Path,
    *,
    format: str = "table",
    which: Which | None = None,
    most: int = 100,
    ranking: str | Path | None = None,
    skips: bool = False,
    url: str | None = None,
    pool: str | Path | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write items of a run for a label tool: rank, score, reason, what a head predicts, what people said.

    The head is the newest of the run, and of a ranking that of the ranking. `raysal.import_labels` reads what the tool
    gives back. What the head predicts is never read as a label.

    Args:
        run: the run directory.
        out: the file to write.
        format: the tool, a name of `raysal.labels.FORMATS`.
        which: which items: `labels`, `waiting`, `holdout` or `pool`; by default `labels`, or `pool` for a format of
            whole pools.
        most: how many held-out items, or how many of a ranking.
        ranking: the first items of the newest version of a ranking of the run's pool instead, in its order: rank and
            score are those of the ranking.
        skips: also write who skipped what.
        url: what stands before the keys in the places of the items, as `https://host/photos/`; by default the places
            are those that the pool knows.
        pool: the run's pool, where it was moved.
        overwrite: replace the file that is there; a copy of it is kept.

    Returns:
        What was written, and what to tell the tool.

    Raises:
        LabelError: the format is only read, has other extensions, or cannot hold what the run knows.
        UnknownName: there is no such format.
        RunError: no run is there.
        ConfigError: there are no such items.
        PoolError, FingerprintMismatch: the run's pool cannot be opened, or is another one.
        OutputExists: another file is there, and `overwrite` is false.
    """
    from raysal.prediction.heads import newest_head
    from raysal.prediction.sheets import sheet_of

    there, out = RunDir(Path(run)), Path(out)
    form = writer_of(format, out.suffix)
    if ranking is not None and which is not None:
        raise ConfigError("ranking", f"and which = {which!r} name different items", "give one of them")
    if ranking is not None and form.whole:
        raise ConfigError("ranking", f"{form.title} takes the whole pool", "leave the ranking out")
    which = which or ("pool" if form.whole else "labels")
    if form.whole != (which == "pool"):
        fix = "give --format embedding-atlas for a map of the pool" if form.whole is False else "leave the choice out"
        raise ConfigError("which", f"{form.title} does not take {which!r}", fix)
    with RunLabels.open(there.path, None if pool is None else as_place("pool", pool)) as held:
        if SKIP in held.ledger.texts:  # of an earlier version, which knew no such mark
            raise LabelError(run, f"{SKIP} is a class of this run, and would be read as a skip", RENAME)
        answers = held.ledger.answers(skips=skips)
        remarks: ByItem = {}
        keys: list[str] | None
        facts: dict[str, dict[str, Any]] | None = None
        head, unpredicted = newest_head(there.path), None
        if ranking is not None:
            facts, ranked_by, named = first_of(Path(ranking), most, held.pool())
            if named is not None and (head is None or head.digest() != named):
                head = ranked_by
                unpredicted = None if head is not None else "the head of the ranking was not kept; rank again"
            keys = list(facts)
            answers = [label for label in answers if label.key in facts]
            said = held.remarks(skips=skips) if form.remarks else {}
            remarks = {key: said[key] for key in keys if key in said}
        elif which == "pool":
            keys = None
        elif which == "labels":
            remarks = held.remarks(skips=skips) if form.remarks else {}
            keys = list(dict.fromkeys([*(label.key for label in answers), *sorted(remarks)]))
        else:
            waiting = which == "waiting"
            keys = [key for _, key in held.ledger.outstanding()] if waiting else held.held_out(most)
            answers = []
        sheet = sheet_of(there, held, keys, answers, head=head, remarks=remarks, url=url, facts=facts)
        written = write_sheet(out, sheet, format=format, overwrite=overwrite)
        return Exported(
            format=name_of(form),
            items=len(held.pool()) if keys is None else len(keys),
            labels=len(answers),
            setup=form.setup(out, sheet),
            written=written,
            problem=next(iter(sheet.problems), None),
            unpredicted=unpredicted,
        )


def first_of(ranking: Path, n: int, pool: Pool) -> tuple[dict[str, dict[str, Any]], Head | None, str | None]:
    """The first items of the newest version of a ranking.

    Args:
        ranking: its directory.
        n: how many.
        pool: of the items.

    Returns:
        {key: rank, score and reason}, in the order of the ranking; its head, None where it was not kept; and the digest
        of that, None for novelty.

    Raises:
        PoolError: there is no ranking.
        FingerprintMismatch: it is of another pool.
    """
    from raysal.ranking import Ranking

    found = Ranking.open(ranking)
    if found.plan.pool not in pool.ancestors:
        fix = "rank the pool of this run: `raysal rank RUN -o RANKING`"
        raise FingerprintMismatch(ranking, "the pool that was ranked", pool.fingerprint, found.plan.pool, fix)
    of = f" of {', '.join(found.info.target)}" if found.score == "log_odds" else ""
    by = found.info.novelty or found.score
    reason = f"ranked by {by}{of}, version {found.version}"
    rows = found.page(0, n).select(["rank", "key", "score"]).to_pylist()
    facts = {row["key"]: {"rank": row["rank"], "score": row["score"], "reason": reason} for row in rows}
    return facts, found.head(), found.plan.head
