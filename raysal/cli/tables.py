"""Tables of items that commands print, or write to a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysal.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa


def writable_suffix(out: Path) -> str:
    """Check the file that a table is to be written to, before any work is done.

    Args:
        out: the file.

    Returns:
        Its suffix: `.csv`, `.parquet` or `.jsonl`.

    Raises:
        ConfigError: the suffix is another one, or the directory does not exist.
    """
    suffix = out.suffix.lower()
    if suffix not in (".csv", ".parquet", ".jsonl"):
        raise ConfigError(out, f"unknown extension {out.suffix!r}", "batch files end in .csv, .parquet or .jsonl")
    if not out.absolute().parent.is_dir():
        raise ConfigError(out, "its directory does not exist", f"make {out.absolute().parent}")
    return suffix


def write_table(table: pa.Table, out: Path, suffix: str) -> None:
    """Write a table completely or not at all. A .csv gets a column `label` to fill in, if it has none.

    Args:
        table: of items.
        out: the file.
        suffix: from `writable_suffix`.
    """
    import csv

    import pyarrow.parquet as pq

    from raysal.cli.output import dumps
    from raysal.store import write_file

    def write(temporary: Path) -> None:
        if suffix == ".parquet":
            pq.write_table(table, temporary)
        elif suffix == ".jsonl":
            temporary.write_text("".join(dumps(row) + "\n" for row in table.to_pylist()), encoding="utf-8")
        else:
            with open(temporary, "w", encoding="utf-8", newline="") as file:
                names = list(dict.fromkeys([*table.column_names, "label"]))
                writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
                writer.writeheader()
                writer.writerows(table.to_pylist())

    write_file(out, write)


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
