"""Label files of a run: what comes back from people and their tools, and what goes out to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raysal.errors import FingerprintMismatch, LabelError
from raysal.labels import LabelFile, TellCounts, read_labels
from raysal.pool import Pool
from raysal.rounds.binding import Rebound
from raysal.rounds.directory import RunDir
from raysal.rounds.run_labels import RunLabels, begin_run

START = "start one with --pool POOL, or check the path"


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What came of a label file."""

    read: LabelFile
    told: TellCounts
    unknown: list[str]
    """Keys that the pool does not have, whose labels were left out."""
    rebound: Rebound | None = None
    """What became of the run's items, where they were matched with another pool."""


def import_labels(
    run: str | Path,
    file: str | Path,
    *,
    format: str | None = None,
    pool: str | Path | None = None,
    rebind: bool = False,
    other_pool: bool = False,
    blank_withdraws: bool = False,
    skip_unknown: bool = False,
    strict: bool = False,
) -> Imported:
    """Import the labels of a file into a run: all of them, or none.

    Every label goes to the item whose key the file names, and to no other. To import a file again changes nothing.

    Args:
        run: the run directory.
        file: a label file, or the export of a label tool.
        format: the tool that wrote it, a name of `raysal.labels.FORMATS`; by default the file says so itself.
        pool: begin a run over this pool if there is none; or the run's pool, where it was moved.
        rebind: if the run's labels are of another pool, match them with its items by key.
        other_pool: take a file that was exported for another pool: match it by key.
        blank_withdraws: an empty label takes back what that annotator said of the item.
        skip_unknown: leave out labels of items that the pool does not have.
        strict: refuse a new class that looks like another one, or like a missing value.

    Returns:
        What was read and what was new.

    Raises:
        LabelError: the file cannot be read, a label cannot be accepted, or a key is not in the pool. The error names
            the place in the file.
        FingerprintMismatch: the file was exported for another pool, or the run's labels are of another pool.
        UnknownName: there is no such format.
        RunError: there is no run, and no pool to begin one over.
    """
    run, file = Path(run), Path(file)
    read = read_labels(file, format=format)
    withdrawn = read.withdrawn if blank_withdraws else []
    keys = [*(label.key for label in read.labels), *(key for key, _ in withdrawn)]
    with RunDir(run).undone_if_refused():
        if pool is not None:
            begin_run(run, pool)
        with RunLabels.open(run, pool, START, rebind=rebind) as labels:
            if not other_pool:
                _check_pools(file, read, labels)
            unknown = labels.unknown(keys)
            if unknown and not skip_unknown:
                raise LabelError(read.places[unknown[0]], *_unknown(file, read, unknown, labels.pool()))
            left_out = set(unknown)
            told = labels.tell(
                [label for label in read.labels if label.key not in left_out],
                withdrawn=[(key, who) for key, who in withdrawn if key not in left_out],
                strict=strict,
            )
            return Imported(read=read, told=told, unknown=unknown, rebound=labels.rebound)


def _check_pools(file: Path, read: LabelFile, labels: RunLabels) -> None:
    """Refuse a file that was exported for a pool whose keys the run does not know."""
    if not read.pools:
        return
    known = labels.pools()
    if foreign := sorted(read.pools - known):
        fix = (
            "import it into the run it was exported from, or match its labels by key with --other-pool "
            "(Python: other_pool=True)"
        )
        own = labels.ledger.pool or next(iter(known))
        raise FingerprintMismatch(file, "the pool that it was exported for", own, foreign[0], fix)


def _unknown(file: Path, read: LabelFile, keys: Sequence[str], pool: Pool) -> tuple[str, str]:
    """Problem and fix of keys that the pool does not have."""
    from raysal.pool.absent import words_of_absent

    places = {key: read.places[key].removeprefix(f"{file}, ") for key in keys}
    problem, fix = words_of_absent(pool, keys, places)
    return problem, f"{fix}; or leave these labels out with --skip-unknown (Python: skip_unknown=True)"
