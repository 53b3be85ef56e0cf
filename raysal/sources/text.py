"""Texts from a CSV or JSON Lines file. The file is streamed."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from raysal.errors import SourceError
from raysal.sources.listing import (
    bad_item,
    check_carry,
    check_columns,
    digest,
    stamp_of_files,
    text_key,
    wanted_positions,
)
from raysal.store import sha256_of
from raysal.types import Item, Stamp, Unit

JSON_LINES = (".jsonl", ".ndjson")
SUFFIXES = (".csv", *JSON_LINES)
_LONGEST_CSV_FIELD = 1 << 30
"""The longest text in a CSV file, in characters. (The csv module's own limit is 131,072.)"""


@dataclass(frozen=True, kw_only=True)
class Text:
    """The rows of a CSV file (UTF-8, with a header) or of a JSON Lines file, in the order of the file.

    Such a file cannot be read by position, so a unit's locator holds its texts: memory for one chunk. Carried values
    are text, because a column has one type. A value of JSON Lines that is not text is carried as JSON.
    """

    path: Path
    key_column: str = "key"
    """The column or member that holds the items' keys."""
    text_column: str = "text"
    """The column or member that holds the texts."""
    carry: tuple[str, ...] = ()
    """Columns or members to keep in the pool."""

    def __post_init__(self) -> None:
        check_carry(self.carry)

    @property
    def modality(self) -> Literal["text"]:
        """Text."""
        return "text"

    def fingerprint(self) -> str:
        """Hex sha256 over the file's content and the names of the columns that are read. It reads the file once."""
        if not Path(self.path).is_file():
            raise SourceError(self.path, "no such file", "pass a .csv or .jsonl file")
        return digest([self.key_column, self.text_column, self.carry, sha256_of(Path(self.path))])

    def stamp(self) -> Stamp:
        """Name, size and times of the file; the fingerprint covers its content."""
        path = Path(self.path)
        return replace(stamp_of_files(path.parent, [path.name]), by_content=True)

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        """List all items; see `Source.units`.

        Args:
            chunk_rows: items in one chunk.

        Yields:
            The chunks in order. A locator holds the text and the carried values of each item.

        Raises:
            SourceError: the file is missing, not UTF-8 or malformed, a column is missing, or a key is null.
        """
        rows = self._rows()
        first_id = index = 0
        while chunk := list(islice(rows, chunk_rows)):
            yield Unit(
                index=index,
                first_id=first_id,
                keys=tuple(key for key, _, _ in chunk),
                locator=tuple((text, carried) for _, text, carried in chunk),
            )
            first_id, index = first_id + len(chunk), index + 1

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """Read a chunk; see `Source.read`. The texts come with the unit, and no file is opened."""
        for position in wanted_positions(unit, only):
            key, (text, values) = unit.keys[position], unit.locator[position]
            carried = dict(zip(self.carry, values, strict=True))
            if isinstance(text, str):
                yield Item(key=key, payload=text, carried=carried)
            else:
                yield bad_item(key, f"no text in column {self.text_column!r}", carried=carried)

    def _rows(self) -> Iterator[tuple[str, str | None, tuple[str | None, ...]]]:
        """Key, text (None if it is not text) and carried values of every row."""
        path = Path(self.path)
        if path.suffix.lower() not in SUFFIXES:
            raise SourceError(path, f"not one of {', '.join(SUFFIXES)}", "rename or convert the file")
        records = self._json_lines(path) if path.suffix.lower() in JSON_LINES else self._csv(path)
        columns = [(self.key_column, "--key-column"), (self.text_column, "--text-column")]
        columns += [(name, "--carry") for name in self.carry]
        try:
            for number, (line, record) in enumerate(records):
                if number == 0:
                    check_columns(path, columns, list(record))
                key = text_key(record.get(self.key_column), path, f"line {line}")
                text = record.get(self.text_column)
                carried = tuple(_plain(record.get(name)) for name in self.carry)
                yield key, text if isinstance(text, str) else None, carried
        except FileNotFoundError:
            raise SourceError(path, "no such file", "check the path") from None
        except UnicodeDecodeError as error:
            raise SourceError(
                path, f"not UTF-8 ({error.reason} at byte {error.start})", "convert it to UTF-8"
            ) from None
        except OSError as error:
            raise SourceError(path, f"cannot be read ({error.strerror})") from None

    def _csv(self, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        """Line and values of every row of a CSV file."""
        csv.field_size_limit(_LONGEST_CSV_FIELD)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            try:
                for record in reader:
                    if None in record:
                        raise SourceError(
                            path,
                            f"line {reader.line_num}: more fields than the header has",
                            "quote texts that hold a comma",
                        )
                    yield reader.line_num, record
            except csv.Error as error:
                raise SourceError(path, f"line {reader.line_num}: {error}", "check its quotes") from None

    def _json_lines(self, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        """Line and values of every row of a JSON Lines file."""
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except ValueError as error:
                    raise SourceError(path, f"line {number}: not JSON ({error})", "write one object per line") from None
                if not isinstance(record, dict):
                    raise SourceError(path, f"line {number}: not a JSON object", "write one object per line")
                yield number, record


def _plain(value: object) -> str | None:
    """A carried value as text: what is not text becomes JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
