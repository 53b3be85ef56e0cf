"""The files that a source takes: one file, those below a folder, or those that match a pattern; and what it leaves out.

Each file below a folder is taken, or passed over: there is no third way. Names are read as bytes and are UTF-8, so a
listing does not depend on the locale. Its order is that of the relative POSIX paths, by code point.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from raysal.errors import SourceError
from raysal.sources.kinds import is_picture, may_be_picture, suffix_of
from raysal.types import PassedOver

HIDDEN, INSIDE, NO_SUFFIX, OTHER_SUFFIXES = "hidden", "in folders inside", "no suffix", "other suffixes"
ODD_NAME, UNREADABLE, SPECIAL = "name not UTF-8", "unreadable folder", "not a regular file"
"""Groups of files that are passed over, beside those by suffix. A suffix begins with a dot."""
_GROUPS, _EXAMPLES = 100, 3
"""How many groups are told apart, and how many names of each are kept. They bound the record."""
_SHUT = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)
"""Errors of a folder that stay. After any other error the same folder might be listed, and ids would shift."""
_SYSTEM = (b"lost+found", b"$RECYCLE.BIN", b"System Volume Information", b"__MACOSX")
"""Folders of file systems. They hold no items, so it is no loss if they cannot be read."""
_MAGIC = re.compile(r"[*?[]")


class Folder(NamedTuple):
    """A folder that is to be listed."""

    path: bytes
    prefix: bytes
    """Its path relative to the root, with a slash behind it."""
    above: frozenset[tuple[int, int]]
    """(device, inode) of the folders that contain it"""
    places: frozenset[int] | None
    """Where in the pattern its names continue; None if all of them match."""
    group: str
    """Why all that is in it is passed over; "" if it is not."""


class Found(NamedTuple):
    """A file below a folder."""

    name: bytes
    """Its path relative to the folder."""
    group: str
    """Why it is passed over: its suffix, or one of the groups; "" if it is taken."""
    lost: bool
    """Whether it is passed over and looks like an item."""


class Place(NamedTuple):
    """What a path stands for."""

    root: Path
    """The folder that names are relative to."""
    pattern: tuple[str, ...]
    """The parts of a pattern below it; () is the whole folder."""
    file: str
    """The name of the one file in it that is meant, or ""."""


def place_of(path: Path, stores: tuple[str, ...] = ()) -> Place:
    """Say what a path stands for. What is there is taken literally, whatever letters are in its name.

    Args:
        path: a file, a folder, or a pattern with `*`, `?`, `[...]` or `**`.
        stores: suffixes of folders that count as files.

    Returns:
        The place.

    Raises:
        SourceError: nothing is there, and it is no pattern.
    """
    if path.is_dir() and not (stores and path.name.lower().endswith(stores)):
        return Place(path, (), "")
    if os.path.lexists(path):
        return Place(path.parent, (), path.name)
    root, parts = Path(path.anchor), path.parts[1 if path.anchor else 0 :]
    while parts and (root / parts[0]).is_dir():
        root, parts = root / parts[0], parts[1:]
    if not any(map(_MAGIC.search, parts)):
        fix = "check the path" if "{" not in str(path) else "check the path; a pattern has *, ?, [...] or **, not {...}"
        raise SourceError(path, "no such file or directory", fix)
    return Place(root, parts, "")


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files at a path that a source takes, and what it passes over."""

    path: Path
    """A file, a folder, or a pattern."""
    takes: tuple[str, ...]
    """Suffixes of the files that are taken."""
    items: Collection[str] = ()
    """Suffixes of other files that look like items. Such a file beside a taken one of the same name is its copy."""
    recursive: bool = True
    """Whether the folders inside are read too. If not, what is in them is passed over, and no loss."""
    hidden: tuple[str, ...] = (".",)
    """How the names of files and folders begin that are left out, unless a pattern names them."""
    stores: tuple[str, ...] = ()
    """Suffixes of folders that are taken as if they were files, with all that is in them."""
    pictures: bool = False
    """Whether files of unknown suffixes are looked into, and count as items if they are pictures."""

    @cached_property
    def place(self) -> Place:
        """What the path stands for."""
        return place_of(Path(self.path), self.stores)

    @property
    def root(self) -> Path:
        """The folder that names are relative to."""
        return self.place.root

    def names(self) -> Iterator[str]:
        """List the files that are taken.

        Returns:
            Relative POSIX paths, in ascending order of their text.

        Raises:
            SourceError: nothing is there, or the folder cannot be listed.
        """
        if self.place.file:
            return iter([self.place.file])
        return (found.name.decode() for found in self._found(False))

    def passed_over(self) -> PassedOver:
        """Count the files that are passed over. It lists the folder once more.

        Returns:
            The counts; nothing where the path is one file.

        Raises:
            SourceError: as for `names`.
        """
        counts: dict[str, int] = {}
        examples: dict[str, tuple[str, ...]] = {}
        taken = lost = 0
        shut = False
        for found in () if self.place.file else self._found(True):
            group = found.group
            if not group:
                taken += 1
                continue
            if group not in counts and len(counts) >= _GROUPS:
                group = OTHER_SUFFIXES
            counts[group] = counts.get(group, 0) + 1
            lost += found.lost
            shut = shut or (found.lost and found.group == UNREADABLE)
            some = examples.setdefault(group, ())
            if len(some) < _EXAMPLES:
                examples[group] = (*some, for_people(found.name))
        return PassedOver(counts=counts, examples=examples, taken=taken, lost=lost, unreadable=shut)

    def file(self, name: str) -> bytes:
        """The path of a listed file, as the system takes it in any locale."""
        root = b"" if self.root == Path() else os.fsencode(self.root)
        return os.path.join(root, name.encode())

    def path_of(self, name: str) -> Path:
        """The path of a listed file."""
        return Path(os.fsdecode(self.file(name)))

    def _found(self, all_files: bool) -> Iterator[Found]:
        """The files that are taken, in order, and with `all_files` those that are passed over too."""
        parts = tuple(None if part == "**" else re.compile(fnmatch.translate(part)) for part in self.place.pattern)
        walk = _Walk(self, parts, tuple(map(os.fsencode, self.hidden)), all_files)
        root = Folder(os.fsencode(self.root), b"", frozenset(), walk.start() if parts else None, "")
        levels = [walk.entries(root)]  # a stack, because folders may be nested more deeply than calls
        while levels:
            for found in levels[-1]:
                if isinstance(found, Folder):
                    levels.append(walk.entries(found))
                    break
                yield found
            else:
                levels.pop()


class _Walk:
    """One listing of a folder. Of a pattern it keeps the parts that may come next, as a set of places in it."""

    def __init__(
        self, files: Files, parts: tuple[re.Pattern[str] | None, ...], hidden: tuple[bytes, ...], all_files: bool
    ) -> None:
        self.files, self.parts, self.hidden, self.all_files = files, parts, hidden, all_files

    def start(self) -> frozenset[int] | None:
        """The places of the pattern before the first name; None where all that comes matches."""
        return self._settled(self._with_empty(0))

    def _with_empty(self, place: int) -> set[int]:
        """A place, and those behind it that are reached without a name: `**` stands for no folder too."""
        places = {place}
        while place < len(self.parts) and self.parts[place] is None:
            place += 1
            places.add(place)
        return places

    def _settled(self, places: set[int]) -> frozenset[int] | None:
        return None if len(self.parts) in places else frozenset(places)

    def after(self, places: frozenset[int], name: bytes) -> frozenset[int] | None:
        """The places after one more name: None where the pattern is fulfilled, empty where it cannot be."""
        text = name.decode("utf-8", "surrogateescape")
        reached: set[int] = set()
        for place in places:
            part = self.parts[place]
            written = self.files.place.pattern[place]
            if name.startswith(self.hidden) and not written.startswith(self.files.hidden):
                continue
            if part is None:
                reached |= self._with_empty(place)
            elif part.match(text):
                reached |= self._with_empty(place + 1)
        return self._settled(reached)

    def entries(self, folder: Folder) -> Iterator[Found | Folder]:
        """What one folder holds, in order: the files to yield, and the folders to list in their place."""
        try:
            status = os.stat(folder.path)
            with os.scandir(folder.path) as scan:
                # Sort a folder by its name with the slash: this gives the order of the full paths.
                entries = sorted((entry.name + b"/" * self._is_inner(entry), entry) for entry in scan)
        except OSError as error:
            if not folder.prefix or error.errno not in _SHUT:
                where, fix = for_people(folder.path), "make it readable, or move it away"
                raise SourceError(where, f"cannot be listed ({error.strerror})", fix) from None
            if self.all_files:
                known = bool(folder.group) or os.path.basename(folder.path) in _SYSTEM
                yield Found(folder.prefix, folder.group or UNREADABLE, not known)
            return
        identity = (status.st_dev, status.st_ino)
        if identity in folder.above:
            return
        copies = _Copies(self.files.takes, entries)
        for name, entry in entries:
            inner = name.endswith(b"/")
            places = folder.places if folder.places is None else self.after(folder.places, name.rstrip(b"/"))
            if places is not None and not (places and inner):
                continue  # the pattern does not name it
            group = folder.group or (HIDDEN if folder.places is None and name.startswith(self.hidden) else "")
            if inner and not self.files.recursive and places is None:
                group = group or INSIDE
            if group and not self.all_files:
                continue
            if inner:
                yield Folder(entry.path, folder.prefix + name, folder.above | {identity}, places, group)
            elif group:
                yield Found(folder.prefix + name, group, False)
            else:
                group, lost = self._judge(folder.prefix, name, entry, copies)
                if self.all_files or not group:
                    yield Found(folder.prefix + name, group, lost)

    def _is_inner(self, entry: os.DirEntry[bytes]) -> bool:
        """Whether an entry is a folder to look into."""
        return _is_folder(entry) and not self._is_store(entry.name)

    def _is_store(self, name: bytes) -> bool:
        return bool(self.files.stores) and name.decode("utf-8", "surrogateescape").lower().endswith(self.files.stores)

    def _judge(self, prefix: bytes, name: bytes, entry: os.DirEntry[bytes], copies: _Copies) -> tuple[str, bool]:
        """The group of a file, and whether it looks like an item; ("", False) if it is taken."""
        files = self.files
        text = name.decode("utf-8", "surrogateescape")
        store = self._is_store(name)
        taken = store or text.lower().endswith(files.takes)
        if not (taken or self.all_files):
            return NO_SUFFIX, False
        suffix = suffix_of(text)
        try:
            regular = entry.is_file()
            if not regular and not (store and entry.is_dir()):
                os.stat(entry.path)
                return SPECIAL, False  # a pipe, a device
        except OSError:
            regular = False  # a link to nothing: to read it will fail, and says so
        if not _is_utf8(prefix + name):
            return ODD_NAME, taken or suffix in files.items
        if taken:
            return "", False
        lost = suffix in files.items
        if not lost and files.pictures and regular and may_be_picture(suffix):
            lost = _looks_like_picture(entry.path)
        return suffix or NO_SUFFIX, lost and not copies.has(text, suffix)


class _Copies:
    """The names of one folder's taken files, without suffixes: a camera writes IMG_1.JPG beside IMG_1.CR2."""

    def __init__(self, takes: tuple[str, ...], entries: list[tuple[bytes, os.DirEntry[bytes]]]) -> None:
        self.takes, self.entries = takes, entries
        self.stems: frozenset[str] | None = None

    def has(self, name: str, suffix: str) -> bool:
        """Whether a taken file has the same name but for the suffix."""
        if self.stems is None:
            names = (entry.decode("utf-8", "surrogateescape").lower() for entry, _ in self.entries)
            self.stems = frozenset(name.rpartition(".")[0] for name in names if name.endswith(self.takes))
        return bool(suffix) and name.lower().removesuffix(suffix) in self.stems


def for_people(path: bytes) -> str:
    """A path as text; bytes that are not UTF-8, and letters that a terminal obeys, are written as escapes."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    """Whether an entry is a folder, or a link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _looks_like_picture(path: bytes) -> bool:
    """Whether a file's first bytes are those of a picture; no where it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return is_picture(file.read(16))
    except OSError:
        return False
