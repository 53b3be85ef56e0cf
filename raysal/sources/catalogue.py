"""Rows of a catalogue of positions: Parquet or Arrow, CSV or TSV, or a table in a FITS file. They are streamed."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from raysal.arrow import ColumnKind
from raysal.errors import MissingExtra, SourceError
from raysal.messages import brief
from raysal.sources.columns import ArrowFile
from raysal.sources.kinds import FITS, SEPARATORS, TABLES
from raysal.sources.listing import check_columns
from raysal.sources.vectors import keys_in, values_in

SUFFIXES = (*TABLES, *SEPARATORS, *FITS)
"""Of catalogues."""
_ROWS = 8192
"""Rows that are read at a time."""


class Rows(NamedTuple):
    """Some consecutive rows of a catalogue."""

    keys: pa.Array
    columns: dict[str, list[Any]]
    """{column: values}"""


def rows_of(path: Path, key: tuple[str, str], columns: Sequence[tuple[str, str]]) -> Iterator[Rows]:
    """Read a catalogue. Memory: some thousand rows.

    Args:
        path: the file.
        key: the column of keys, and the option that chooses it.
        columns: the other columns to read, and the options that choose them.

    Yields:
        The rows, in order. Values of CSV are texts.

    Raises:
        SourceError: it cannot be read, lacks a column, or a key is null or empty.
        MissingExtra: it is FITS, and astropy is not installed.
    """
    suffix = "".join(path.suffixes[-2:]).lower()
    names = list(dict.fromkeys([key[0], *(name for name, _ in columns)]))
    flags = list(dict.fromkeys([key, *columns]))
    row = 0
    if path.suffix.lower() in TABLES:
        parts = _of_arrow(path, names, flags)
    elif path.suffix.lower() in SEPARATORS:
        parts = _of_csv(path, names, flags)
    elif suffix.endswith(FITS):
        parts = _of_fits(path, names, flags)
    else:
        raise SourceError(path, "no catalogue of a known kind", f"pass one of {', '.join(SUFFIXES)}")
    for found in parts:
        column, kind = found[key[0]]
        keys = keys_in(kind, column, path, row)
        yield Rows(keys, {name: values_in(found[name][1], found[name][0]) for name, _ in columns})
        row += len(keys)


_Part = dict[str, tuple[pa.Array, ColumnKind]]
"""{column: its values, and how they are read}."""


def _of_arrow(path: Path, names: list[str], flags: Sequence[tuple[str, str]]) -> Iterator[_Part]:
    file = ArrowFile(path)
    check_columns(path, flags, file.schema.names)
    kinds = {name: file.kind(name) for name in names}
    for _, batches in file.parts(names):
        for batch in batches:
            for start in range(0, batch.num_rows, _ROWS):
                yield {name: (batch.column(name)[start : start + _ROWS], kind) for name, kind in kinds.items()}


def _of_csv(path: Path, names: list[str], flags: Sequence[tuple[str, str]]) -> Iterator[_Part]:
    kind = ColumnKind(pa.string())
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter=SEPARATORS[path.suffix.lower()], strict=True)
            head = next(lines, [])
            check_columns(path, flags, head)
            places = {name: head.index(name) for name in names}
            rows = (cells for cells in lines if cells)
            while some := list(islice(rows, _ROWS)):
                if short := next((cells for cells in some if len(cells) != len(head)), None):
                    problem = f"a line of {len(short)} cells, where the header has {len(head)} ({short[0]!r})"
                    raise SourceError(path, problem, "give every line as many cells")
                yield {name: (pa.array([cells[at] for cells in some]), kind) for name, at in places.items()}
    except UnicodeDecodeError as error:
        raise SourceError(path, f"not UTF-8 ({error.reason} at byte {error.start})", "convert it to UTF-8") from None
    except (OSError, csv.Error) as error:
        raise SourceError(path, f"cannot be read ({error})", "check the file") from None


def _of_fits(path: Path, names: list[str], flags: Sequence[tuple[str, str]]) -> Iterator[_Part]:
    """The first table of a FITS file."""
    try:
        from astropy.io import fits
    except ModuleNotFoundError:
        raise MissingExtra(str(path), "astropy", "fits") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = fits.open(path, memmap=True, lazy_load_hdus=False)
    except Exception as error:  # astropy raises anything on bad bytes
        raise SourceError(path, f"cannot be read as FITS ({brief(error)})", "check the file") from None
    with file:
        tables = [part for part in file if isinstance(part, fits.BinTableHDU | fits.TableHDU)]
        tables = [part for part in tables if not isinstance(part, fits.CompImageHDU)]
        if not tables:
            raise SourceError(path, "no table in this FITS file", "name a catalogue")
        check_columns(path, flags, tables[0].columns.names)
        for start in range(0, len(tables[0].data), _ROWS):
            part = tables[0].data[start : start + _ROWS]
            yield {name: _column(np.asarray(part[name])) for name in names}


def _column(values: Any) -> tuple[pa.Array, ColumnKind]:
    """A column of FITS as one of Arrow."""
    plain = values.astype(values.dtype.newbyteorder("=")) if values.dtype.kind in "iufb" else values
    column = pa.array(plain if values.ndim == 1 else list(plain))
    return column, ColumnKind(column.type)
