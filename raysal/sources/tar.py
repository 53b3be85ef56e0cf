"""The members of a tar archive, by their headers alone: where the bytes of each one lie.

It reads ustar, pax and GNU headers, as POSIX.1-2001 and GNU tar describe them. Python's `tarfile` takes two to three
times as long for a member, does not notice an archive that was cut between two members, and says nothing of what
follows behind the end.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

BLOCK = 512
_LONGEST_HEADER = 1 << 20
"""Bytes of a long name, or of the records of pax, before one member. What is longer is no header."""
_FILES, _LINKS, _FOLDER = b"0\x007", b"12", b"5"
_WITHOUT_DATA = b"123456"
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_RECORD = re.compile(rb"(\d{1,20}) ([^=]+)=")


class Member(NamedTuple):
    """One member of an archive."""

    name: str
    """As it is written. Bytes that are not UTF-8 are surrogates, as in names of the file system."""
    offset: int
    """Where its data begin, in bytes from the beginning of the archive."""
    size: int
    problem: str
    """Why these bytes are not what the file holds: it is a link, or sparse, or cut off; "" if they are."""


class Torn(Exception):
    """The rest of an archive cannot be read. Any number of members may be lost."""

    def __init__(self, at: int, problem: str) -> None:
        super().__init__(at, problem)
        self.at, self.problem = at, problem

    def __str__(self) -> str:
        return f"{self.problem} at byte {self.at}" if self.at else self.problem


def members_of(file: int) -> Iterator[Member]:
    """List the members of an archive. It reads their headers, and passes over their data.

    Cost: one read of 512 bytes for a member, two more if it has records of pax; some microseconds. Memory: one header.

    Args:
        file: descriptor of the archive, which is a plain file.

    Yields:
        The files and links, in order. Folders and devices are left out.

    Raises:
        Torn: it ends too early, a header is damaged, or data follow behind its end.
    """
    size_of_archive = os.fstat(file).st_size
    at, every, records, long_name = 0, dict[str, bytes](), dict[str, bytes](), b""
    while True:
        head = os.pread(file, BLOCK, at)
        if len(head) < BLOCK and (at or not head):
            raise Torn(at, "it ends without an end mark" if at else "it is empty")
        if not head.strip(b"\0") and len(head) == BLOCK:
            _check_end(file, at, size_of_archive)
            return
        if not _is_header(head):
            raise Torn(at, _no_header(head, at))
        kind, start = head[156:157], at + BLOCK
        size = _size(records.get("size") or every.get("size"), head)
        if size < 0:
            raise Torn(at, "a header with no size")
        if kind in b"xXgLK":
            if size > _LONGEST_HEADER:
                raise Torn(at, "a header that is too long")
            more = os.pread(file, size, start)
            if len(more) < size:
                raise Torn(at, "it ends")
            if kind == b"g":
                every |= _records(more)
            elif kind == b"L":
                long_name = more.rstrip(b"\0")
            elif kind != b"K":
                records |= _records(more)
            at = start + _blocks(size)
            continue
        facts = every | records if every else records
        name = long_name or facts.get("GNU.sparse.name") or facts.get("path") or _name(head)
        records, long_name = {}, b""
        if kind == b"S":
            start = _behind_map(file, head, start)
        at = start if kind in _WITHOUT_DATA else start + _blocks(size)
        if kind in _FOLDER or (kind == b"\0" and name.endswith(b"/")) or kind in b"346V":
            continue
        problem = _problem(kind, head, facts)
        if not problem and start + size > size_of_archive:
            problem = "the archive ends within it"
        yield Member(name.decode("utf-8", "surrogateescape"), start, size, problem)
        if at > size_of_archive:
            raise Torn(size_of_archive, "it ends")


def _is_header(head: bytes) -> bool:
    """Whether the check sum of a header is right. Old programs summed up signed bytes."""
    with suppress(ValueError):  # a short one has none
        expected = int(head[148:156].strip(b"\0 ") or b"x", 8)
        found = sum(head) - sum(head[148:156]) + 8 * 32
        if found == expected:
            return True
        high = sum(byte > 127 for byte in head) - sum(byte > 127 for byte in head[148:156])
        return found - 256 * high == expected
    return False


def _no_header(head: bytes, at: int) -> str:
    """What is wrong where a header should be."""
    if at:
        return "a damaged header"
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), "")
    return f"it is packed by {packed}: unpack it" if packed else "it is no tar archive"


def _size(of_records: bytes | None, head: bytes) -> int:
    """The size of a member's data; -1 where it is no number. Above 8 GiB it is in the records, or in base 256."""
    field = head[124:136]
    with suppress(ValueError):
        if of_records is not None and head[156:157] not in b"xXgLK":
            return int(of_records)
        if field[0] & 0x80:
            return int.from_bytes(field[1:], "big")
        return int(field.partition(b"\0")[0].strip() or b"0", 8)
    return -1


def _blocks(size: int) -> int:
    return (size + BLOCK - 1) // BLOCK * BLOCK


def _name(head: bytes) -> bytes:
    """The name in a header; of ustar (and not of GNU tar) it has a prefix."""
    name = head[:100].partition(b"\0")[0]
    prefix = head[345:500].partition(b"\0")[0] if head[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _records(data: bytes) -> dict[str, bytes]:
    """The records of pax, each `LENGTH KEY=VALUE` and a new line; those behind a damaged one are left out."""
    found: dict[str, bytes] = {}
    at = 0
    while match := _RECORD.match(data, at):
        end = at + int(match[1])
        if end <= match.end() or end > len(data):
            break
        found[match[2].decode("utf-8", "replace")] = data[match.end() : end - 1]
        at = end
    return found


def _behind_map(file: int, head: bytes, start: int) -> int:
    """Where the data of a sparse file of old GNU begin: its map may go on in blocks of its own."""
    more = head[482]
    while more:
        block = os.pread(file, BLOCK, start)
        if len(block) < BLOCK:
            raise Torn(start, "it ends")
        more, start = block[504], start + BLOCK
    return start


def _problem(kind: bytes, head: bytes, facts: dict[str, bytes]) -> str:
    """Why the data of a member are not its contents."""
    if kind in _LINKS:
        target = (facts.get("linkpath") or head[157:257].partition(b"\0")[0]).decode("utf-8", "backslashreplace")
        return f"is a link to {target!r}; pack the files themselves (tar --dereference --hard-dereference)"
    if kind == b"S" or any(key.startswith("GNU.sparse") for key in facts):
        return "is a sparse file, with holes left out; pack it without --sparse"
    return "" if kind in _FILES else f"is of the unknown kind {kind.decode('latin-1')!r}"


def _check_end(file: int, at: int, size: int) -> None:
    """Refuse an archive that goes on behind its end mark: readers stop there, and what follows would be lost."""
    if at + 2 * BLOCK > size:
        raise Torn(at, "it ends within its end mark")
    place = at + BLOCK
    while place < size:
        some = os.pread(file, 1 << 20, place)
        if some.strip(b"\0"):
            raise Torn(at, "more follows behind its end mark (were archives put together by cat?)")
        if not some:
            return
        place += len(some)
