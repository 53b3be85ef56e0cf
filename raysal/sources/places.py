"""What a path or a URL stands for: one file, all below a folder, or what matches a pattern."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn

from raysal.buckets.address import address_of, joined, local_or_url, normalised
from raysal.buckets.bucket import Bucket
from raysal.errors import BucketError, SourceError
from raysal.sources.kinds import SPLITS, STATE

PathOrUrl = Path | str
"""Where a source is: a path, or the URL of a bucket as text."""
_MAGIC = re.compile(r"[*?[]")
_COLLAPSED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


class Place(NamedTuple):
    """What a path or a URL stands for."""

    root: Path
    """The folder that names are relative to; the working directory if it is in a bucket."""
    pattern: tuple[str, ...]
    """The parts of a pattern below it; () is the whole folder."""
    file: str
    """The name of the one file in it that is meant, or ""."""
    bucket: Bucket | None = None
    """The folder of a bucket that names are relative to."""

    def is_file(self, name: str) -> bool:
        """Whether there is a file of this relative name."""
        if self.bucket is None:
            return (self.root / name).is_file()
        with as_source_errors():
            return self.bucket.look_at(name) is not None

    def read(self, name: str) -> bytes:
        """The bytes of a small file. Raises OSError on a disk, and SourceError in a bucket, where it cannot be read."""
        if self.bucket is None:
            return (self.root / name).read_bytes()
        with as_source_errors():
            return self.bucket.read(name)

    def where(self, name: str) -> str:
        """The path or URL of a file."""
        return str(self.root / name) if self.bucket is None else self.bucket.url_of(name)


def place_of(path: PathOrUrl, stores: tuple[str, ...] = ()) -> Place:
    """Say what a path or a URL stands for. What is there is taken literally, whatever letters are in its name.

    Args:
        path: a file, a folder, or a pattern with `*`, `?`, `[...]` or `**`; a path, or a URL as text.
        stores: suffixes of folders that count as files.

    Returns:
        The place.

    Raises:
        SourceError: nothing is there, and it is no pattern; or the bucket cannot be looked at.
    """
    path = local_or_url(path)
    if isinstance(path, str):
        with as_source_errors():
            return _in_bucket(path, stores)
    if path.is_dir() and not (stores and path.name.lower().endswith(stores)):
        return Place(path, (), "")
    if os.path.lexists(path):
        return Place(path.parent, (), path.name)
    root, parts = Path(path.anchor), path.parts[1 if path.anchor else 0 :]
    while parts and (root / parts[0]).is_dir():
        root, parts = root / parts[0], parts[1:]
    if not any(map(_MAGIC.search, parts)):
        _refuse(path)
    return Place(root, parts, "")


def _in_bucket(url: str, stores: tuple[str, ...]) -> Place:
    """The same in a bucket. It costs two requests, and one more for each part with letters of patterns."""
    url = normalised(url)
    address = address_of(url)
    whole = Bucket(address.root)

    def is_folder(parts: Sequence[str]) -> bool:
        return next(whole.list("/".join((*parts, ""))), None) is not None

    parts = tuple(address.path.split("/")) if address.path else ()
    of_files = address.scheme in ("http", "https")
    above = Bucket(joined(address.root, *parts[:-1]))
    if not of_files and (not parts or is_folder(parts)):
        is_store = bool(parts and stores and parts[-1].lower().endswith(stores))
        return Place(Path(), (), parts[-1], above) if is_store else Place(Path(), (), "", Bucket(url))
    if of_files:  # a web server lists nothing
        if not parts or above.look_at(parts[-1]) is None:
            raise SourceError(url, "no such file", "check the address; of a web server only single files can be read")
        return Place(Path(), (), parts[-1], above)
    if above.look_at(parts[-1]) is not None:
        return Place(Path(), (), parts[-1], above)
    magic = [bool(_MAGIC.search(part)) for part in parts]
    if not any(magic):
        _refuse(url)
    depth = 0
    while depth < len(parts) - 1 and (not magic[depth] or is_folder(parts[: depth + 1])):
        depth += 1
    return Place(Path(), parts[depth:], "", Bucket(joined(address.root, *parts[:depth])))


def is_saved(place: Place) -> bool:
    """Whether a folder is a data set, or several splits of one, as Hugging Face's `datasets` saves them.

    Args:
        place: a folder; anything else is none.

    Returns:
        Yes or no. Nothing is read.
    """
    if place.file or place.pattern:
        return False
    return place.is_file(SPLITS) or (place.is_file(STATE) and place.is_file("dataset_info.json"))


def _refuse(path: PathOrUrl) -> NoReturn:
    fix = "check the path" if "{" not in str(path) else "check the path; a pattern has *, ?, [...] or **, not {...}"
    if isinstance(path, Path) and _COLLAPSED.match(str(path)):
        fix = "write a URL as text: a Path joins its slashes"
    raise SourceError(path, "no such file or directory", fix)


@contextmanager
def as_source_errors() -> Iterator[None]:
    """Errors of a bucket become those of a source.

    Yields:
        Nothing.

    Raises:
        SourceError: a bucket or object cannot be listed or read.
    """
    try:
        yield
    except BucketError as error:
        raise SourceError(error.where, error.problem, error.fix) from error


def is_of_one(error: SourceError) -> bool:
    """Whether an error of a bucket is about one object: it is gone, or was changed. Any other may be about all."""
    cause = error.__cause__
    return isinstance(cause, BucketError) and cause.reason in ("absent", "changed")


def for_people(path: bytes) -> str:
    """A path as text; bytes that are not UTF-8, and letters that a terminal obeys, are written as escapes."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
