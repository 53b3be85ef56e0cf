"""Texts from a CSV or JSON Lines file, streamed."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from raysal.errors import SourceError
from raysal.sources.listing import bad, check_carry, digest, need_columns, text_key, wanted
from raysal.store import sha256_of
from raysal.types import Item, Unit

LINES = (".jsonl", ".ndjson")
SUFFIXES = (".csv", *LINES)
_LONGEST_FIELD = 1 << 30  # the csv module refuses texts beyond 128 KiB unless told otherwise


@dataclass(frozen=True, kw_only=True)
class Text:
    """Rows of a CSV file (with a header, UTF-8) or a JSON Lines file, in file order.

    Such a file has no index, so a unit's locator is its texts: memory is one chunk. Carried values of a CSV
    file are text; in JSON Lines what is not text is carried as its JSON spelling: a column has one type.
    """

    path: Path
    key_column: str = "key"
    text_column: str = "text"
    carry: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_carry(self.carry)

    @property
    def modality(self) -> Literal["text"]:
        return "text"

    def fingerprint(self) -> str:
        """Hex sha256 over the file's content and the columns used; reads the file once."""
        if not Path(self.path).is_file():
            raise SourceError(self.path, "no such file", "pass a .csv or .jsonl file")
        return digest([self.key_column, self.text_column, self.carry, sha256_of(Path(self.path))])

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        """See `Source.units`.

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
        """See `Source.read`. The texts come with the unit; no file is opened."""
        for position in wanted(unit, only):
            key, (text, values) = unit.keys[position], unit.locator[position]
            carried = dict(zip(self.carry, values, strict=True))
            if isinstance(text, str):
                yield Item(key=key, payload=text, carried=carried)
            else:
                yield bad(key, f"no text in column {self.text_column!r}", carried=carried)

    def _rows(self) -> Iterator[tuple[str, str | None, tuple[str | None, ...]]]:
        path = Path(self.path)
        if path.suffix.lower() not in SUFFIXES:
            raise SourceError(path, f"not one of {', '.join(SUFFIXES)}", "rename or convert the file")
        records = self._json_lines(path) if path.suffix.lower() in LINES else self._csv(path)
        columns = [(self.key_column, "--key-column"), (self.text_column, "--text-column")]
        columns += [(name, "--carry") for name in self.carry]
        try:
            for number, (line, record) in enumerate(records):
                if number == 0:
                    need_columns(path, columns, list(record))
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
        csv.field_size_limit(_LONGEST_FIELD)
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
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except ValueError as error:
                    raise SourceError(path, f"line {number}: not JSON ({error})", "write one object a line") from None
                if not isinstance(record, dict):
                    raise SourceError(path, f"line {number}: not a JSON object", "write one object a line")
                yield number, record


def _plain(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
