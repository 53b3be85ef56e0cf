"""The files below a folder of a disk, in order, by the rules of `rules.py`.

Names are read as bytes and are UTF-8, so a listing does not depend on the locale.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

from raysal.errors import SourceError
from raysal.sources.kinds import is_picture, may_be_picture, suffix_of
from raysal.sources.listed_once import Row, is_kept, kept_rows
from raysal.sources.places import for_people
from raysal.sources.rules import NO_SUFFIX, ODD_NAME, SPECIAL, UNREADABLE, Found, Rules, Stems, Step

_SHUT = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)
"""Errors of a folder that stay. After any other error the same folder might be listed, and ids would shift."""
_SYSTEM = (b"lost+found", b"$RECYCLE.BIN", b"System Volume Information", b"__MACOSX")
"""Folders of file systems. They hold no items, so it is no loss if they cannot be read."""


class Folder(NamedTuple):
    """A folder that is to be listed."""

    path: bytes
    prefix: bytes
    """Its path relative to the root, with a slash behind it."""
    above: frozenset[tuple[int, int]]
    """(device, inode) of the folders that contain it"""
    step: Step
    """What holds for all that is in it."""


def files_below(root: bytes, rules: Rules, all_files: bool) -> Iterator[Found]:
    """Walk through a folder, once in a job. Memory: the entries of one folder, and of those above it.

    Args:
        root: the folder.
        rules: which files are taken.
        all_files: whether to give those that are passed over too.

    Returns:
        The files, in order of their relative paths by code point.

    Raises:
        SourceError: the folder cannot be listed.
    """
    if not is_kept():
        return _walk(root, rules, all_files)

    def rows() -> Iterator[Row]:
        return ([found.name.decode("utf-8", "surrogateescape"), *found[1:]] for found in _walk(root, rules, True))

    every = (Found(row[0].encode("utf-8", "surrogateescape"), *row[1:]) for row in kept_rows((root, rules.key), rows))
    return every if all_files else (found for found in every if not found.group)


def _walk(root: bytes, rules: Rules, all_files: bool) -> Iterator[Found]:
    levels = [_entries(Folder(root, b"", frozenset(), rules.first), rules, all_files)]
    while levels:  # a stack, because folders may be nested more deeply than calls
        for found in levels[-1]:
            if isinstance(found, Folder):
                levels.append(_entries(found, rules, all_files))
                break
            yield found
        else:
            levels.pop()


def _entries(folder: Folder, rules: Rules, all_files: bool) -> Iterator[Found | Folder]:
    """What one folder holds, in order: the files to yield, and the folders to list in their place."""
    try:
        status = os.stat(folder.path)
        with os.scandir(folder.path) as scan:
            # Sort a folder by its name with the slash: this gives the order of the full paths.
            entries = sorted((entry.name + b"/" * _is_inner(entry, rules), entry) for entry in scan)
    except OSError as error:
        if not folder.prefix or error.errno not in _SHUT:
            where, fix = for_people(folder.path), "make it readable, or move it away"
            raise SourceError(where, f"cannot be listed ({error.strerror})", fix) from None
        if all_files:
            group = folder.step.group
            known = bool(group) or os.path.basename(folder.path) in _SYSTEM
            yield Found(folder.prefix, group or UNREADABLE, not known)
        return
    identity = (status.st_dev, status.st_ino)
    if identity in folder.above:
        return
    stems: Stems | None = None
    for name, entry in entries:
        inner = name.endswith(b"/")
        step = rules.step(folder.step, name.rstrip(b"/"), inner)
        if step is None or (step.group and not all_files):
            continue
        if inner:
            yield Folder(entry.path, folder.prefix + name, folder.above | {identity}, step)
            continue
        group, lost = (step.group, False) if step.group else _judge(folder.prefix, name, entry, rules, all_files)
        if lost:
            text = name.decode("utf-8", "surrogateescape")
            stems = stems or Stems(rules.takes, (one.decode("utf-8", "surrogateescape") for one, _ in entries))
            lost = group == ODD_NAME or not stems.has_copy(text, suffix_of(text))
        if all_files or not group:
            yield Found(folder.prefix + name, group, lost)


def _is_inner(entry: os.DirEntry[bytes], rules: Rules) -> bool:
    """Whether an entry is a folder to look into."""
    return _is_folder(entry) and not rules.is_store(entry.name.decode("utf-8", "surrogateescape"))


def _judge(prefix: bytes, name: bytes, entry: os.DirEntry[bytes], rules: Rules, all_files: bool) -> tuple[str, bool]:
    """The group of a file, and whether it looks like an item; ("", False) if it is taken."""
    text = name.decode("utf-8", "surrogateescape")
    taken = rules.takes_name(text)
    if not (taken or all_files):
        return NO_SUFFIX, False
    suffix = suffix_of(text)
    try:
        regular = entry.is_file()
        if not regular and not (rules.is_store(text) and entry.is_dir()):
            os.stat(entry.path)
            return SPECIAL, False  # a pipe, a device
    except OSError:
        regular = False  # a link to nothing: to read it will fail, and says so
    if not _is_utf8(prefix + name):
        return ODD_NAME, taken or suffix in rules.items
    if taken:
        return "", False
    lost = suffix in rules.items
    if not lost and rules.pictures and regular and may_be_picture(suffix):
        lost = _looks_like_picture(entry.path)
    return suffix or NO_SUFFIX, lost


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
