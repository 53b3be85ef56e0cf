"""Write the report of a run, unless it is there, made of the same.

The last line of a report says what it was made of, as a digest, and the sha256 of the page. A report whose page is
whole, and that was made of what is there now, would get the same bytes again.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raysal import __version__
from raysal.arguments import as_path
from raysal.embedding.origin import stamp_of
from raysal.errors import RaysalError, UserError
from raysal.pool import Pool
from raysal.pool.place import name_of
from raysal.report.markup import MARK
from raysal.report.records import Arm, pool_of, read_answers, read_arm, read_control
from raysal.sources.of_pool import source_of
from raysal.store import digest_of, write_output

REPORT = "report.html"
_LAST_LINE = re.compile(rb"<!-- made of ([0-9a-f]{64}), page ([0-9a-f]{64}) -->\n\Z")


def write_report(run: str | Path, out: str | Path | None = None, *, overwrite: bool = False) -> Path:
    """Write the report of a run. It can be written at any time, also before the run is finished.

    The same run gives the same bytes: nothing in the report depends on the time. Takes about 10 s, most of it for the
    map; memory for a few thousand vectors. A report that is there and was made of the same is left as it is, which
    takes no torch and less than a second.

    Args:
        run: the run directory.
        out: the file to write; None is `report.html` in the run directory, which is written anew.
        overwrite: replace the file that is there; it is kept as `NAME.1`, `NAME.2` ... unless it is a report.

    Returns:
        The path of the report.

    Raises:
        RunError: no run is there.
        OutputExists: another file is there, and `overwrite` is false.
        Damaged: a record, a batch or the ledger is missing or was altered.
    """
    run = as_path("run", run)
    target = run / REPORT if out is None else as_path("out", out)
    source = made_of(run)
    if source is not None and _is_made_of(target, source):
        return target
    from raysal.report.html import report_html  # torch, scikit-learn and matplotlib

    page = report_html(run).encode("utf-8")
    if source is not None:
        page += f"<!-- made of {source}, page {hashlib.sha256(page).hexdigest()} -->\n".encode()

    def write(temporary: Path) -> None:
        temporary.write_bytes(page)

    write_output(target, write, overwrite=overwrite or out is None, disposable=is_report)
    return target


def is_report(path: Path) -> bool:
    """Whether a file is a report of a run."""
    with open(path, "rb") as file:
        return f"{MARK}</title>".encode() in file.read(4096)


def made_of(run: Path) -> str | None:
    """A digest of all that the report of a run is made of: its records and labels, the pool, the source, this code.

    Args:
        run: the run directory.

    Returns:
        The digest; None where the source cannot say whether it has changed.

    Raises:
        RunError: no run is there.
        Damaged: a record, a batch or the ledger is missing or was altered.
    """
    arm, control = read_arm(run), read_control(run)
    for round in range(len(arm.rounds)):
        arm.batch(round)
    pool: Pool | None = None
    try:
        pool = pool_of(arm)
        seen = pool.fingerprint
    except UserError as error:
        seen = str(error)
    source = "" if pool is None else _source_of(pool)
    if source is None:
        return None
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))
    return digest_of(
        {
            "code": [__version__, code.hexdigest()],
            "name": run.resolve().name,
            "arms": [_facts(one) for one in (arm, control) if one is not None],
            "pool": [name_of(arm.config.pool), seen],
            "source": source,
        }
    )


def _facts(arm: Arm) -> dict[str, Any]:
    """What an arm says of itself. Its records hold the digests of its batches and heads."""
    answers = asdict(read_answers(arm))
    return {"config": arm.config.model_dump(mode="json"), "records": arm.records, "answers": answers}


def _source_of(pool: Pool) -> str | None:
    """The source that the items shown are read from, as it is now; None where it cannot say."""
    if pool.manifest.modality == "vector":
        return ""
    try:
        stamp = stamp_of(source_of(pool))
        return None if stamp is None else stamp.digest
    except (RaysalError, OSError) as error:
        return str(error)


def _is_made_of(path: Path, source: str) -> bool:
    """Whether a file is the whole page of a report that was made of this."""
    if not path.is_file():
        return False
    content = path.read_bytes()
    last = _LAST_LINE.search(content, max(0, len(content) - 200))
    if last is None or last[1].decode() != source:
        return False
    return hashlib.sha256(content[: last.start()]).hexdigest() == last[2].decode()
