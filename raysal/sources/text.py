"""Texts from CSV, TSV, JSON Lines or JSON files. The files are streamed."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Literal

from raysal.errors import ConfigError, SourceError
from raysal.sources.base import AS_BEGUN, LATER
from raysal.sources.files import Files
from raysal.sources.json_values import json_values
from raysal.sources.kinds import JSON_LINES, OTHER_TEXTS, SEPARATORS, TEXT_LISTS, TEXTS, suffix_of
from raysal.sources.listing import (
    Row,
    bad_item,
    check_carry,
    check_columns,
    digest,
    text_key,
    wanted_positions,
    whole_owners,
)
from raysal.sources.places import PathOrUrl, place_of
from raysal.store import sha256_of
from raysal.types import Item, PassedOver, SourceFile, Stamp, Unit

_LONGEST_CSV_FIELD = 1 << 30
"""The longest text in a CSV file, in characters. (The csv module's own limit is 131,072.)"""


_Row = tuple[str, str, str | None, tuple[str | None, ...]]
"""File, key, text and carried values of a row."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """The rows of a .csv or .tsv file (UTF-8, with a header), of a .jsonl or .ndjson file, or of a .json file.

    A .json file holds a list of objects, or one object after another. A directory stands for the files below it, except
    .json, in the order of their relative paths.

    Such a file cannot be read by position, so a unit's locator holds its texts: memory for one chunk. Carried values
    are text, because a column has one type. A value of JSON that is not text is carried as JSON.
    """

    path: PathOrUrl
    """A file, a directory, or a pattern, as `texts/*.json`."""
    key_column: str = "key"
    """The column or member that holds the items' keys."""
    text_column: str = "text"
    """The column or member that holds the texts."""
    carry: tuple[str, ...] = ()
    """Columns or members to keep in the pool."""
    recursive: bool = field(default=True, metadata={AS_BEGUN: True})
    """Whether directories inside a directory are read too."""

    window: int | None = field(default=None, metadata=LATER)
    """Words of a window. With it, an item is a window of a text, and the text is its owner: `KEY#0`, `KEY#1` ... are
    parts of `KEY`. Words are what white space separates; the text between them stays as it is."""
    overlap: int = field(default=0, metadata=LATER | {AS_BEGUN: 0})
    """Words that a window shares with the one before it."""

    def __post_init__(self) -> None:
        check_carry(self.carry)
        if self.window is not None and self.window < 1:
            raise ConfigError("source.window", f"{self.window} words", "use at least 1")
        if self.window is None and self.overlap:
            raise ConfigError("source.overlap", f"{self.overlap} words, and there are no windows", "name window, too")
        if not 0 <= self.overlap < (self.window or 1):
            problem = f"{self.overlap} words, with windows of {self.window}"
            raise ConfigError("source.overlap", problem, "use less than a window")

    @property
    def modality(self) -> Literal["text"]:
        """Text."""
        return "text"

    def fingerprint(self) -> str:
        """Hex sha256 over the files' contents and the names of the columns that are read.

        Returns:
            The digest. It costs one reading of the files; in a bucket the versions stand for the contents.
        """
        files = self._files
        windows = [] if self.window is None else [{"window": self.window, "overlap": self.overlap}]
        read: list[object] = [self.key_column, self.text_column, self.carry, *windows]
        if files.bucket is not None:
            looks = ((file.name, file.bytes, file.etag or file.changed_ns) for file in files.look())
            return digest([*read, *(look[1:] if files.place.file else look for look in looks)])
        contents: Iterable[object] = ((name, sha256_of(files.path_of(name))) for name in self._names())
        if files.place.file:
            contents = [sha256_of(files.path_of(files.place.file))]  # the name of a single file does not count
        return digest([*read, *contents])

    def passed_over(self) -> PassedOver:
        """The files of the directory that hold no texts; see `PassesOver`."""
        return self._files.passed_over()

    def stamp(self) -> Stamp:
        """Names, sizes and times of the files; the fingerprint covers their contents."""
        return replace(self._files.stamp(), by_content=True)

    def files(self) -> Iterator[SourceFile]:
        """See `OfFiles`."""
        return self._files.look()

    def spans(self, unit: Unit) -> Iterator[tuple[str, int]]:
        """See `OfFiles`."""
        return ((name, len(list(some))) for name, some in groupby(name for name, _, _ in unit.locator))

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        """List all items; see `Source.units` and `units_in`."""
        return self._units(self._names(), chunk_rows)

    def units_in(self, names: Iterable[str], chunk_rows: int) -> Iterator[Unit]:
        """List the items of some files; see `OfFiles`."""
        return self._units(self._checked(names), chunk_rows)

    def _units(self, names: Iterable[str], chunk_rows: int) -> Iterator[Unit]:
        """List the items of some files.

        Args:
            names: of these.
            chunk_rows: items in one chunk.

        Yields:
            The chunks in order. A locator holds the file, the text and the carried values of each item.

        Raises:
            SourceError: a file is missing, not UTF-8 or malformed, a column is missing, or a key is null.
        """
        rows = ((name, *row) for name in names for row in self._rows_in(name))
        first_id = index = 0
        if self.window is not None:
            parts = (part for row in rows for part in windows_of(row, self.window, self.overlap))
            for index, some in enumerate(whole_owners(parts, chunk_rows, self.path)):
                keys, owners, places = zip(*some, strict=True)
                yield Unit(index=index, first_id=first_id, keys=keys, locator=places, owners=owners)
                first_id += len(some)
            return
        while chunk := list(islice(rows, chunk_rows)):
            yield Unit(
                index=index,
                first_id=first_id,
                keys=tuple(key for _, key, _, _ in chunk),
                locator=tuple((name, text, carried) for name, _, text, carried in chunk),
            )
            first_id, index = first_id + len(chunk), index + 1

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """Read a chunk; see `Source.read`. The texts come with the unit, and no file is opened."""
        for position in wanted_positions(unit, only):
            key, (_, text, values) = unit.keys[position], unit.locator[position]
            carried = dict(zip(self.carry, values, strict=True))
            if isinstance(text, str):
                yield Item(key=key, payload=text, carried=carried)
            else:
                yield bad_item(key, f"no text in column {self.text_column!r}", carried=carried)

    @cached_property
    def _files(self) -> Files:
        place = place_of(self.path)
        takes = TEXTS if place.file or place.pattern else TEXT_LISTS
        return Files(path=self.path, takes=takes, items=OTHER_TEXTS, recursive=self.recursive)

    def _names(self) -> Iterator[str]:
        """The name of every file, in order. An error if there are none."""
        files = self._files
        empty = True
        for found in self._checked(files.names()):
            empty = False
            yield found
        if empty:
            problem, fix = f"no texts here ({', '.join(files.takes)})", "check the path, or name files by a pattern"
            raise SourceError(self.path, problem, fix)

    def _checked(self, names: Iterable[str]) -> Iterator[str]:
        """The names of files that are there and hold texts."""
        files = self._files
        for name in names:
            if files.look_at(name).bytes < 0 or (files.bucket is None and not files.path_of(name).is_file()):
                raise SourceError(files.uri_of(name), "no such file", "check the path")
            if suffix_of(name) not in TEXTS:
                raise SourceError(files.uri_of(name), f"not one of {', '.join(TEXTS)}", "rename or convert the file")
            yield name

    def _rows_in(self, name: str) -> Iterator[tuple[str, str | None, tuple[str | None, ...]]]:
        with self._files.opened(name) as path:
            yield from self._rows_of(path)

    def _rows_of(self, path: Path) -> Iterator[tuple[str, str | None, tuple[str | None, ...]]]:
        columns = [(self.key_column, "--key-column"), (self.text_column, "--text-column")]
        columns += [(name, "--carry") for name in self.carry]
        try:
            for number, (line, record) in enumerate(_records(path)):
                if number == 0:
                    check_columns(path, columns, list(record))
                key = text_key(record.get(self.key_column), path, f"line {line}")
                text = record.get(self.text_column)
                carried = tuple(_plain(record.get(name)) for name in self.carry)
                yield key, text if isinstance(text, str) else None, carried
        except UnicodeDecodeError as error:
            raise SourceError(
                path, f"not UTF-8 ({error.reason} at byte {error.start})", "convert it to UTF-8"
            ) from None
        except OSError as error:
            raise SourceError(path, f"cannot be read ({error.strerror})") from None


def windows_of(row: _Row, window: int, overlap: int) -> Iterator[Row]:
    """Cut a text into windows.

    Args:
        row: file, key, text (None where there is none) and carried values.
        window: words of one.
        overlap: words that one shares with the one before, fewer than `window`.

    Yields:
        Key and owner of each window; and the file, what is written there, and the carried values. At least one: a text
        of fewer words is one window.
    """
    name, key, text, carried = row
    words = [] if text is None else list(re.finditer(r"\S+", text))
    step = window - overlap
    starts = range(0, max(len(words) - overlap, 1), step)
    for number, start in enumerate(starts):
        some = words[start : start + window]
        part = text if len(starts) == 1 or text is None else text[some[0].start() : some[-1].end()]
        yield f"{key}#{number}", key, (name, part, carried)


def text_of_parts(texts: Sequence[tuple[str, str]], overlap: int) -> str:
    """Put texts together that are parts of one owner.

    Args:
        texts: Key and text of each, in order; the keys of windows are those of `windows_of`.
        overlap: Words that a window shares with the one before.

    Returns:
        Windows that follow one another as the text that they were cut from, but for white space between them; with `…`
        where some are missing. Other parts one below the other.
    """
    whole, before = "", None
    for key, text in texts:
        number = re.search(r"#(\d+)$", key)
        place = None if number is None else int(number[1])
        if before is None:
            whole += text if place in (None, 0) else f"… {text}"
        elif place is None:
            whole += f"\n\n{text}"
        elif place == before + 1:
            whole += " " + re.sub(rf"^(?:\S+\s+){{{overlap}}}", "", text, count=1)
        else:
            whole += f" … {text}"
        before = -1 if place is None else place
    return whole


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line and values of every row of a file."""
    suffix = path.suffix.lower()
    if suffix in SEPARATORS:
        return _separated(path, SEPARATORS[suffix])
    return _json_lines(path) if suffix in JSON_LINES else _json(path)


def _separated(path: Path, separator: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line and values of every row of a CSV or TSV file."""
    csv.field_size_limit(_LONGEST_CSV_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True, delimiter=separator)
        try:
            for record in reader:
                if None in record:
                    sign = "a tab" if separator == "\t" else "a comma"
                    problem = f"line {reader.line_num}: more fields than the header has"
                    raise SourceError(path, problem, f"quote texts that hold {sign}")
                yield reader.line_num, record
        except csv.Error as error:
            raise SourceError(path, f"line {reader.line_num}: {error}", "check its quotes") from None


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
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


def _json(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line and values of every object of a JSON file: a list of objects, or one object after another."""
    fix = "write a list of objects, or one object per line"
    with path.open(encoding="utf-8-sig") as file:
        try:
            for line, record in json_values(file):
                if not isinstance(record, dict):
                    raise SourceError(path, f"line {line}: not a JSON object", fix)
                yield line, record
        except UnicodeDecodeError:
            raise
        except ValueError as error:
            raise SourceError(path, str(error), fix) from None


def _plain(value: object) -> str | None:
    """A carried value as text: what is not text becomes JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
