"""What the sources share: they cut a listing into units, check column names and keys, and hash a listing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from raysal.arrays import is_missing
from raysal.errors import BadItem, ConfigError, SourceError
from raysal.types import RESERVED_COLUMNS, Item, SourceFile, Stamp, Unit

_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


def units_of(keys: Iterable[str], chunk_rows: int) -> Iterator[Unit]:
    """Units of `chunk_rows` consecutive keys, without a locator: for sources that find an item by its key or id."""
    stream = iter(keys)
    first_id = index = 0
    while chunk := tuple(islice(stream, chunk_rows)):
        yield Unit(index=index, first_id=first_id, keys=chunk)
        first_id, index = first_id + len(chunk), index + 1


Row = tuple[str, str | None, Any]
"""Key of an item, key of its owner, and where it is found."""


def whole_owners(rows: Iterable[Row], chunk_rows: int, where: object) -> Iterator[list[Row]]:
    """Cut a listing into chunks that cut no owner, each as long as can be.

    Args:
        rows: of the listing, with the parts of an owner one after the other.
        chunk_rows: items in one chunk, at most.
        where: the source, for the error.

    Yields:
        The rows of a chunk. Memory for one.

    Raises:
        SourceError: an owner has more parts than a chunk may have items.
    """
    held: list[Row] = []
    begin = 0  # of the last owner
    for row in rows:
        if held and (row[1] is None or row[1] != held[-1][1]):
            begin = len(held)
        held.append(row)
        if len(held) > chunk_rows:
            if begin == 0:
                problem = f"the owner {row[1]!r} has more than the {chunk_rows} parts that a chunk may hold"
                raise SourceError(where, problem, f"pass --chunk-rows {2 * chunk_rows}, or more")
            yield held[:begin]
            held, begin = held[begin:], 0
    if held:
        yield held


def wanted_positions(unit: Unit, only: Collection[int] | None) -> Iterator[int]:
    """Positions within a unit of the items that `read` must give, in order."""
    return (position for position in range(len(unit.keys)) if only is None or unit.first_id + position in only)


def check_carry(carry: Sequence[str]) -> None:
    """Check the names of carried columns.

    Args:
        carry: the names.

    Raises:
        ConfigError: a pool itself uses one of the names, or a column is named twice.
    """
    for name in carry:
        if name in RESERVED_COLUMNS:
            raise ConfigError("carry", f"the column name {name!r} is used by the pool itself", "rename the column")
    if len(set(carry)) != len(carry):
        raise ConfigError("carry", f"a column is named twice: {', '.join(carry)}")


def check_channels(names: Sequence[str], field: str = "channel_names") -> None:
    """Check the names of channels.

    Args:
        names: as somebody gave them.
        field: of the source, for the error.

    Raises:
        ConfigError: a name is empty, or two are alike.
    """
    if "" in names or len(set(names)) != len(names):
        problem = f"{', '.join(map(repr, names))}: a name is empty, or there twice"
        raise ConfigError(f"source.{field}", problem, "give each channel a name of its own")


def check_columns(where: object, names: Iterable[tuple[str, str]], have: Sequence[str]) -> None:
    """Check that a file has the columns that a source reads.

    Args:
        where: the file, for the error.
        names: (column, flag) pairs; the flag is the option of the command line that chooses the column.
        have: the columns of the file.

    Raises:
        SourceError: a column is missing, or there are several of its name. The error names it and the flag.
    """
    for column, flag in names:
        if column not in have:
            raise SourceError(where, f"no column {column!r}; its columns: {', '.join(have)}", f"choose one with {flag}")
        if have.count(column) > 1:
            raise SourceError(where, f"several columns are named {column!r}", f"rename them, or choose one with {flag}")


def text_key(value: object, where: object, place: str) -> str:
    """Turn a key into text. A number becomes its decimal digits.

    Args:
        value: the key as the file holds it.
        where: the file, for the error.
        place: the row or line, for the error.

    Returns:
        The key as text, not empty.

    Raises:
        SourceError: the key is null or empty, bytes that are not UTF-8, or a list.
    """
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise SourceError(where, f"{place}: the key is not UTF-8", "use text keys") from None
    if is_missing(value) or (isinstance(value, str) and value == ""):
        problem = "empty" if isinstance(value, str) else "null"
        raise SourceError(where, f"{place}: the key is {problem}", "give every row a key")
    text = str(value)
    if (hasattr(value, "__len__") and not isinstance(value, str)) or text == object.__repr__(value):
        raise SourceError(where, f"{place}: the key is a {type(value).__name__}", "make one text or number of it")
    return text


def hive_values(name: str) -> dict[str, str | None]:
    """The columns that the folders of a path give, as `year=2024/month=01/a.parquet` does.

    Args:
        name: the path of a file, relative to the directory of tables.

    Returns:
        {column: value as text; None for Hive's name of a null}.
    """
    pairs = (folder.partition("=") for folder in name.split("/")[:-1] if "=" in folder)
    return {unquote(column): None if value == _HIVE_NULL else unquote(value) for column, _, value in pairs if column}


def digest(parts: Iterable[object]) -> str:
    """Hex sha256 of a sequence of parts. It writes each part by `repr` on its own line, so that their borders count."""
    state = hashlib.sha256()
    for part in parts:
        state.update(repr(part).encode("utf-8", "surrogateescape"))
        state.update(b"\n")
    return state.hexdigest()


def size_of(path: str | bytes | Path) -> int:
    """The size of a file in bytes; -1 if there is none (a dangling link), and then to read the item will fail."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def look_at(name: str, path: str | bytes | Path) -> SourceFile:
    """A file as it is now; one that is not there (a dangling link) has the size -1."""
    try:
        found = os.stat(path)
    except OSError:
        return SourceFile(name=name, bytes=-1, changed_ns=0)
    newest = max(found.st_mtime_ns, found.st_ctime_ns)
    return SourceFile(name=name, bytes=found.st_size, changed_ns=newest, parts=(path,))


def stamp_of_files(files: Iterable[tuple[str, str | bytes | Path]]) -> Stamp:
    """Describe files by name, size, and the times of their last write and of the last change of their inode.

    Tools that keep the first time (`cp -p`, `tar`, `rsync`) cannot keep the second one. So a file that was replaced by
    one of the same size and time is noticed. Memory: O(1).

    Args:
        files: (name, path) of each, in an order that is always the same. The stamp covers the name, not the path.

    Returns:
        The stamp. A file that is not there (a dangling link) counts as one of size -1.
    """
    state = hashlib.sha256()
    count = size = newest = 0
    for name, path in files:
        try:
            found = os.stat(path)
        except OSError:
            facts: tuple[int, ...] = (-1,)
        else:
            facts = found.st_size, found.st_mtime_ns, found.st_ctime_ns
            size, newest = size + found.st_size, max(newest, *facts[1:])
        state.update(repr((name, *facts)).encode("utf-8", "surrogateescape") + b"\n")
        count += 1
    return Stamp(digest=state.hexdigest(), files=count, bytes=size, newest_ns=newest)


def stamp_of_looks(files: Iterable[SourceFile]) -> Stamp:
    """Describe files by name, size and version, or the time of the last write where there is no version. Memory: O(1).

    Args:
        files: in an order that is always the same.

    Returns:
        The stamp.
    """
    state = hashlib.sha256()
    count = size = newest = 0
    for file in files:
        state.update(repr((file.name, file.bytes, file.etag or file.changed_ns)).encode("utf-8", "surrogateescape"))
        state.update(b"\n")
        count, size, newest = count + 1, size + max(file.bytes, 0), max(newest, file.changed_ns)
    return Stamp(digest=state.hexdigest(), files=count, bytes=size, newest_ns=newest)


def joined_stamps(one: Stamp, other: Stamp) -> Stamp:
    """One stamp of two sets of files."""
    return Stamp(
        digest=digest([one.digest, other.digest]),
        files=one.files + other.files,
        bytes=one.bytes + other.bytes,
        newest_ns=max(one.newest_ns, other.newest_ns),
    )


def bad_item(key: str, problem: str, **item: Any) -> Item:
    """An item that could not be read."""
    return Item(key=key, payload=BadItem(key, problem), **item)
