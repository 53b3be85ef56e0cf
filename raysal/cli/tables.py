"""Tables of items that commands print, or write to a file. `raysal.labels.files` writes them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysal.errors import ConfigError, OutputExists, PoolError
from raysal.store import KINDS as WHOLE
from raysal.store import Written

if TYPE_CHECKING:
    from raysal.types import Label

OWN = (".json", ".sqlite")
"""Suffixes of the records that lie beside a marker of `raysal.store.KINDS`."""


def check_output(out: Path, kinds: Sequence[str] = ()) -> None:
    """Check the name of the file that a table is to be written to, before any work is done.

    Args:
        out: the file.
        kinds: the formats it may have, or their extensions; none is all that a table can be written in.

    Raises:
        ConfigError: the extension is another one, or the directory does not exist.
        OutputExists: it is a file that a pool, a run or predictions need.
    """
    from raysal.tables import EXTENSIONS, KINDS

    suffix = out.suffix.lower()
    kind = KINDS.get(suffix)
    if kind is None and suffix not in kinds:
        raise ConfigError(out, f"unknown extension {out.suffix!r}", f"use a file that ends in {EXTENSIONS}")
    if kinds and kind not in kinds and suffix not in kinds:
        wanted = " or ".join(suffix for suffix, named in KINDS.items() if named in kinds)
        raise ConfigError(out, f"this cannot be written as {out.suffix}", f"name a {wanted} file")
    if not out.absolute().parent.is_dir():
        raise ConfigError(out, "its directory does not exist", f"make {out.absolute().parent}")
    if (whole := _belongs_to(out.absolute())) is not None:
        raise OutputExists(out, f"is a file of {whole}, which nothing may replace", "name another file")


def _belongs_to(out: Path) -> str | None:
    """What a file that is there is a part of: a record of a pool or run, or any file of the folders inside them."""
    for folder in out.parents[:3] if out.is_file() else ():
        for marker, what in WHOLE.items():
            if (folder / marker).exists() and (folder != out.parent or out.suffix.lower() in OWN):
                return f"{what} ({folder})"
    return None


def refuse_filled_in(out: Path) -> None:
    """Refuse to write a batch over one that somebody has filled in, or over another file, before any work is done.

    Args:
        out: the file to write.

    Raises:
        OutputExists: a file is there that cannot be the same batch, written before.
    """
    from raysal.labels.files import unknown_work

    if out.is_file() and unknown_work(out, None):
        raise OutputExists(out)


def check_no_source(out: Path, pool: str | Path) -> None:
    """Refuse to write over the source of a pool, whatever else is allowed.

    Args:
        out: the file to write.
        pool: the pool directory, or its URL.

    Raises:
        OutputExists: it is the source.
    """
    from raysal.pool import open_pool

    if not out.exists():
        return
    try:
        source = open_pool(pool).manifest.source
    except PoolError:  # the command says so, if it needs the pool
        return
    config = source.get("config", {})
    if _is_listed(out, source["name"], config.get("path")) or any(os.path.samefile(out, p) for p in paths_in(config)):
        raise OutputExists(out, f"is the source of the pool {pool}, which nothing may replace", "name another file")


def _is_listed(out: Path, source: str, path: str | None) -> bool:
    """Whether a file that is there is one of those in a folder, or that match a pattern, of which a pool was made."""
    from raysal.sources.kinds import IMAGES, TABLES, TEXTS

    takes = {"table": TABLES, "text": TEXTS, "folder": IMAGES}.get(source, ())
    if path is None or not out.name.lower().endswith(takes):
        return False
    if os.path.isdir(path):
        return out.resolve().is_relative_to(Path(path).resolve())
    return any(os.path.samefile(out, found) for found in glob.iglob(path, recursive=True))


def paths_in(value: Any) -> Iterator[Path]:
    """The files that a source's config names."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            yield from paths_in(inner)
    elif isinstance(value, str) and os.path.isfile(value):
        yield Path(value)


def answers_kept(labels: Path | None, out: Path) -> list[Label]:
    """The answers that are kept elsewhere than in a file that is to be replaced.

    Args:
        labels: a run directory, or a label file.
        out: the file to replace.

    Returns:
        The answers of the run's ledger, or of the label file; none if the file is `out` itself.
    """
    from raysal.labels import read_labels
    from raysal.rounds.directory import RunDir

    if labels is None or not labels.exists() or (out.exists() and os.path.samefile(labels, out)):
        return []
    if not labels.is_dir():
        return read_labels(labels).labels
    run = RunDir(labels)
    if not run.has_ledger:
        return []
    with run.open_ledger() as ledger:
        return ledger.answers(skips=True)


def kept_note(written: Written) -> str:
    """What a command adds to its answer about the file that was there."""
    if written.unchanged:
        return " (it was there, with the same content)"
    return f" (the file that was there is {written.kept} now)" if written.kept else ""


def kept_data(written: Written) -> dict[str, Any]:
    """The same for --json."""
    return {"unchanged": written.unchanged, "kept": written.kept}


def table_view(names: Sequence[str], rows: Iterable[Sequence[str]], note: str) -> Any:
    """Lay out a table for people.

    Args:
        names: of the columns.
        rows: the cells of each row.
        note: a line below the table.

    Returns:
        What rich can print; long cells are folded, never cut.
    """
    from rich.box import SIMPLE
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from raysal.cli.output import encodable

    view = Table(*names, box=SIMPLE)
    for column in view.columns:
        column.overflow = "fold"
    for row in rows:
        view.add_row(*(Text(encodable(cell)) for cell in row))
    return Group(view, Text(note))
