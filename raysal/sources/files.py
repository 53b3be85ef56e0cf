"""The files that a source takes: one file, those below a folder, or those that match a pattern; and what it leaves out.

A folder is one of a disk, or of a bucket (`s3://bucket/photos`). Each file below it is taken, or passed over: there is
no third way. The order is that of the relative POSIX paths, by code point.

A listing of a bucket tells names, sizes and versions, and nothing is downloaded for it. Files that are read by parts
are downloaded once, into the cache of `raysal.buckets`, in the version that was listed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import NoReturn

from raysal.buckets import Bucket, Object, cached
from raysal.errors import BucketError, SourceError
from raysal.sources.bucket_listing import BucketListing
from raysal.sources.listing import look_at, stamp_of_files, stamp_of_looks
from raysal.sources.places import PathOrUrl, Place, as_source_errors, for_people, place_of
from raysal.sources.rules import OTHER_SUFFIXES, UNREADABLE, Found, Rules
from raysal.sources.walking import files_below
from raysal.types import PassedOver, SourceFile, Stamp

_GROUPS, _EXAMPLES = 100, 3
"""How many groups are told apart, and how many names of each are kept. They bound the record."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files at a path or URL that a source takes, and what it passes over."""

    path: PathOrUrl
    """A file, a folder, or a pattern; text that is no URL is a path."""
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
    """Whether files of unknown suffixes are looked into, and count as items if they are pictures. In a bucket they are
    not looked into."""
    by_parts: bool = True
    """Whether the files are read by parts, so that of a bucket their versions are kept: some 300 bytes a file."""

    @cached_property
    def place(self) -> Place:
        """What the path stands for."""
        return place_of(self.path, self.stores)

    @property
    def bucket(self) -> Bucket | None:
        """The folder of a bucket that names are relative to; None on a disk."""
        return self.place.bucket

    @property
    def root(self) -> Path:
        """The folder of a disk that names are relative to."""
        return self.place.root

    @cached_property
    def _listed(self) -> dict[str, Object]:
        """{name: the object, as it was listed last}."""
        return {}

    def names(self) -> Iterator[str]:
        """List the files that are taken.

        Returns:
            Relative POSIX paths, in ascending order of their text.

        Raises:
            SourceError: nothing is there, or the folder cannot be listed.
        """
        if self.place.file:
            return iter([self.place.file])
        if self.bucket is not None:
            return (found.name for found in self._objects(self.bucket))
        return (found.name.decode() for found in files_below(os.fsencode(self.root), self._rules, False))

    def look(self) -> Iterator[SourceFile]:
        """List the files that are taken, each as it is now.

        It costs one `stat` per file, and nothing more than the listing in a bucket.

        Returns:
            The files, in the order of `names`; the path is looked at anew.

        Raises:
            SourceError: as for `names`.
        """
        if self.bucket is not None:
            return map(as_file, self._objects(self.bucket))
        files = replace(self)
        return (look_at(name, files.file(name)) for name in files.names())

    def stamp(self, others: Iterable[tuple[str, str | bytes | Path]] = ()) -> Stamp:
        """Describe the files as they are now, at the cost of `look`.

        Args:
            others: (name, path) of files beside them that count, too.

        Returns:
            The stamp, by names, sizes and times; by names and versions in a bucket.

        Raises:
            SourceError: as for `names`.
        """
        if self.bucket is not None:
            return stamp_of_looks(chain(self.look(), (look_at(name, path) for name, path in others)))
        files = replace(self)
        return stamp_of_files(chain(((name, files.file(name)) for name in files.names()), others))

    def look_at(self, name: str) -> SourceFile:
        """One file as it is now; in a bucket as it was listed last.

        Args:
            name: as `names` lists it.

        Returns:
            The file; of the size -1 if it is not there.

        Raises:
            SourceError: the bucket cannot be looked at.
        """
        if self.bucket is None:
            return look_at(name, self.file(name))
        found = self._object(self.bucket, name)
        return SourceFile(name=name, bytes=-1, changed_ns=0) if found is None else as_file(found)

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
        listing = None if self.bucket is None else BucketListing(self.bucket, self._rules, True)
        every: Iterable[Found] = ()
        if not self.place.file and listing is not None:
            every = (found for found, _ in listing)
        elif not self.place.file:
            every = files_below(os.fsencode(self.root), self._rules, True)
        for found in every:
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
        lost += 0 if listing is None else listing.lost
        return PassedOver(counts=counts, examples=examples, taken=taken, lost=lost, unreadable=shut)

    # -- one file -----------------------------------------------------------------------------------------------------

    def file(self, name: str) -> bytes:
        """The path of a listed file of a disk, as the system takes it in any locale."""
        root = b"" if self.root == Path() else os.fsencode(self.root)
        return os.path.join(root, name.encode())

    def path_of(self, name: str) -> Path:
        """The path of a listed file on this machine. One in a bucket is in the cache: open it at once.

        Args:
            name: as `names` lists it.

        Returns:
            The path.

        Raises:
            SourceError: an object is gone, or was changed since it was listed; or it cannot be read.
        """
        if self.bucket is None:
            return Path(os.fsdecode(self.file(name)))
        with as_source_errors():
            return cached(self.bucket, self._object(self.bucket, name) or _absent(self.bucket, name))

    def head_of(self, name: str, size: int) -> bytes:
        """The first bytes of a listed file, of which the rest is not downloaded.

        Args:
            name: as `names` lists it.
            size: how many.

        Returns:
            The bytes; fewer if the file has fewer.

        Raises:
            SourceError: as for `path_of`.
            OSError: a file of a disk cannot be read.
        """
        if self.bucket is None:
            with open(self.file(name), "rb") as file:
                return file.read(size)
        with as_source_errors():
            found = self._object(self.bucket, name) or _absent(self.bucket, name)
            return self.bucket.read(name, etag=found.etag, length=size)

    def uri_of(self, name: str) -> str:
        """Where a listed file is, for people: its path, or its URL."""
        return self.file(name).decode("utf-8", "backslashreplace") if self.bucket is None else self.bucket.url_of(name)

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        """The path of a file to read, as `path_of` gives it. Errors of sources about it name the file as it is listed.

        Args:
            name: as `names` lists it.

        Yields:
            The path.

        Raises:
            SourceError: as for `path_of`, and where what reads it raises one.
        """
        path = self.path_of(name)
        try:
            yield path
        except SourceError as error:
            if self.bucket is None or error.where != str(path):
                raise
            raise SourceError(self.bucket.url_of(name), error.problem, error.fix) from error.__cause__

    # -- what a listing is made of ------------------------------------------------------------------------------------

    @cached_property
    def _rules(self) -> Rules:
        return Rules(
            pattern=self.place.pattern, takes=self.takes, items=self.items, recursive=self.recursive,
            hidden=self.hidden, stores=self.stores, pictures=self.pictures,
        )  # fmt: skip

    def _objects(self, bucket: Bucket) -> Iterator[Object]:
        """The objects that are taken, as they are now."""
        if self.place.file:
            found = self._look_at_object(bucket, self.place.file)
            yield Object(self.place.file, -1, None, 0) if found is None else found
            return
        for _, found in BucketListing(bucket, self._rules, False):
            if self.by_parts:
                self._listed[found.name] = found
            yield found

    def _object(self, bucket: Bucket, name: str) -> Object | None:
        """An object as it was listed last; as it is now if it was not listed."""
        return self._listed.get(name) or self._look_at_object(bucket, name)

    def _look_at_object(self, bucket: Bucket, name: str) -> Object | None:
        with as_source_errors():
            found = bucket.look_at(name)
        if found is not None and self.by_parts:
            self._listed[name] = found
        return found


def _absent(bucket: Bucket, name: str) -> NoReturn:
    raise BucketError(bucket.url_of(name), "there is no such object", "check the path", "absent")


def as_file(found: Object) -> SourceFile:
    """An object of a bucket as a file of a source."""
    return SourceFile(name=found.name, bytes=found.size, changed_ns=found.changed_ns, etag=found.etag)
