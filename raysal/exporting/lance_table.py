"""A Lance table of an export: the shards are its data files, and the last commit makes a table of them.

The bytes of a data file depend on its rows alone, as long as no text is compressed: Lance draws a sample to learn from,
another one each time (`findings/lance_same_rows_other_bytes.sh`). What Lance writes when it commits is of chance, too:
`_versions` and `_transactions` bear a time and a random number. No other file differs between two exports of the same.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa

from raysal.errors import Damaged, MissingExtra
from raysal.exporting.tables import TableShard
from raysal.store import fsync_path

VERSIONS, TRANSACTIONS = "_versions", "_transactions"
"""Folders that Lance makes beside `data`."""


def import_lance() -> Any:
    """The module of Lance, with the parts that are used here.

    Returns:
        The module.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        for part in ("lance.file", "lance.fragment"):
            import_module(part)
        return import_module("lance")
    except ImportError:
        raise MissingExtra("--as lance", "lance", "lance") from None


def uncompressed(schema: pa.Schema) -> pa.Schema:
    """A schema by which Lance compresses no column."""
    return pa.schema([_uncompressed(field) for field in schema])


def _uncompressed(field: pa.Field) -> pa.Field:
    """A field, and those inside it, with the note that Lance goes by."""
    kind, types = field.type, pa.types
    if types.is_struct(kind):
        kind = pa.struct([_uncompressed(inner) for inner in kind])
    elif types.is_large_list(kind):
        kind = pa.large_list(_uncompressed(kind.value_field))
    elif types.is_list(kind):
        kind = pa.list_(_uncompressed(kind.value_field))
    return pa.field(field.name, kind, field.nullable, {"lance-encoding:compression": "none"})


def lance_shard(path: Path, schema: pa.Schema) -> TableShard:
    """A data file of a Lance table that is being written."""
    writer = import_lance().file.LanceFileWriter(str(path), schema)
    return TableShard(schema, writer.write_batch, writer.close)


def commit_table(out: Path, work: Path, schema: pa.Schema, shards: Sequence[tuple[Path, int]]) -> None:
    """Make a table of data files, in place of one that a killed job may have left.

    Args:
        out: the folder of the table.
        work: a folder for a table of no use, which says how Lance numbers the columns.
        schema: of all files.
        shards: each file, and how many rows it has.
    """
    lance = import_lance()
    for name in (VERSIONS, TRANSACTIONS):
        shutil.rmtree(out / name, ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)
    row = pa.Table.from_arrays([pa.nulls(1, field.type) for field in schema], schema=schema)
    (probe,) = lance.fragment.write_fragments(row, str(work), mode="create")
    fragments = []
    for number, (path, rows) in enumerate(shards):
        if not rows:  # all of its items are lost
            continue
        record = probe.to_json()
        record |= {"id": number, "physical_rows": rows}
        record["files"] = [{**record["files"][0], "path": path.name, "file_size_bytes": path.stat().st_size}]
        fragments.append(lance.fragment.FragmentMetadata.from_json(json.dumps(record)))
    lance.LanceDataset.commit(str(out), lance.LanceOperation.Overwrite(schema, fragments))
    for name in (VERSIONS, TRANSACTIONS):
        for path in [*(out / name).iterdir(), out / name]:
            fsync_path(path)
    shutil.rmtree(work, ignore_errors=True)


def check_table(out: Path, fix: str) -> None:
    """Check that the table has its record.

    Args:
        out: the folder of the table.
        fix: what an error says to do.

    Raises:
        Damaged: it is missing.
    """
    if not any((out / VERSIONS).glob("*.manifest")):
        raise Damaged(out / VERSIONS, "the record of the Lance table is missing", fix)
