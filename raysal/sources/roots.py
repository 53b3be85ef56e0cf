"""The files of several folders, or patterns, as those of one: each is known by its path relative to its own folder.

So a folder may be added to those of a pool, or be moved, and no name changes. Two files of one name are an error. The
order is that of the names, whatever the order of the folders.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from raysal.buckets import Bucket, local_or_url
from raysal.errors import SourceError
from raysal.sources.base import UNLESS_DEFAULT
from raysal.sources.files import Files
from raysal.sources.listing import look_at, stamp_of_looks
from raysal.sources.places import PathOrUrl, Place
from raysal.types import PassedOver, SourceFile, Stamp

ALSO = {"record": UNLESS_DEFAULT}
"""The metadata of the field `also` of a source: the other folders, patterns or files that are read beside `path`."""
_T = TypeVar("_T")


def files_of_roots(also: tuple[PathOrUrl, ...], **fields: Any) -> Files:
    """The files at a path, and at others.

    Args:
        also: the other paths or URLs.
        fields: of `Files`.

    Returns:
        The files.

    Raises:
        SourceError: one place lies in another one, or some are on a disk and some in a bucket.
    """
    if not also:
        return Files(**fields)
    places = [local_or_url(place) for place in (fields["path"], *also)]
    if len({isinstance(place, str) for place in places}) > 1:
        raise SourceError(fields["path"], "some places are on a disk and some in a bucket", "copy one of them")
    whole = [place if isinstance(place, str) else place.absolute().as_posix() for place in places]
    for one in whole:
        for other in whole:
            if one is not other and f"{one}/".startswith(f"{other.rstrip('/')}/"):
                raise SourceError(one, f"lies in {other}, which is named, too", "name one of them")
    return SeveralFiles(also=also, **fields)


@dataclass(frozen=True, kw_only=True)
class SeveralFiles(Files):
    """The files at several paths."""

    also: tuple[PathOrUrl, ...]

    @cached_property
    def roots(self) -> tuple[Files, ...]:
        """The files at each of them."""
        same = {name: getattr(self, name) for name in Files.__dataclass_fields__}
        return tuple(Files(**{**same, "path": path}) for path in (self.path, *self.also))

    @cached_property
    def place(self) -> Place:
        """The folder of the first; never one file."""
        return Place(self.roots[0].root, (), "", self.roots[0].bucket)

    @property
    def bucket(self) -> Bucket | None:
        """The folder of the first, in a bucket; None where all are on a disk."""
        return self.roots[0].bucket

    def names(self) -> Iterator[str]:
        """See `Files.names`. Raises SourceError where two roots have a file of one name."""
        return (name for name, _ in self._merged(((name, None) for name in root.names()) for root in self.roots))

    def look(self) -> Iterator[SourceFile]:
        """See `Files.look`."""
        return (file for _, file in self._merged(((file.name, file) for file in root.look()) for root in self.roots))

    def _merged(self, streams: Iterable[Iterator[tuple[str, _T]]]) -> Iterator[tuple[str, _T]]:
        """What has names, in the order of these. Raises SourceError where two have one name."""
        last = None
        for name, found in heapq.merge(*streams, key=lambda pair: pair[0]):
            if name == last:
                self._refuse(name)
            yield name, found
            last = name

    def _refuse(self, name: str) -> None:
        one, other = [root.uri_of(name) for root in self.roots if root.look_at(name).bytes >= 0][:2]
        problem = f"{other} has the same path in its folder, {name!r}, and by that a file is known"
        raise SourceError(one, problem, "rename one, or name the folder above both, or a pattern of it: 'ABOVE/*/*'")

    def stamp(self, others: Iterable[tuple[str, str | bytes | Path]] = ()) -> Stamp:
        """See `Files.stamp`."""
        anew = replace(self)
        return stamp_of_looks(chain(anew.look(), (look_at(name, path) for name, path in others)))

    def look_at(self, name: str) -> SourceFile:
        """See `Files.look_at`."""
        return self.root_of(name).look_at(name)

    def passed_over(self) -> PassedOver:
        """See `Files.passed_over`."""
        counts: dict[str, int] = {}
        examples: dict[str, tuple[str, ...]] = {}
        every = [root.passed_over() for root in self.roots]
        for one in every:
            for group, count in one.counts.items():
                counts[group] = counts.get(group, 0) + count
                examples[group] = (*examples.get(group, ()), *one.examples[group])[:3]
        taken = sum(one.taken or bool(root.place.file) for one, root in zip(every, self.roots, strict=True))
        lost, shut = sum(one.lost for one in every), any(one.unreadable for one in every)
        return PassedOver(counts=counts, examples=examples, taken=taken, lost=lost, unreadable=shut)

    def root_of(self, name: str) -> Files:
        """The root that has a file; the first one if none has it.

        Args:
            name: as `names` lists it.

        Returns:
            The files of that root. It costs a look into each; in a bucket a request, unless it was listed.
        """
        listed = (root for root in self.roots if name in root._listed)
        there = chain(listed, (root for root in self.roots if root.look_at(name).bytes >= 0))
        return next(there, self.roots[0])

    def file(self, name: str) -> bytes:
        """See `Files.file`."""
        return self.root_of(name).file(name)

    def path_of(self, name: str) -> Path:
        """See `Files.path_of`."""
        return self.root_of(name).path_of(name)

    def head_of(self, name: str, size: int) -> bytes:
        """See `Files.head_of`."""
        return self.root_of(name).head_of(name, size)

    def uri_of(self, name: str) -> str:
        """See `Files.uri_of`."""
        return self.root_of(name).uri_of(name)

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        """See `Files.opened`."""
        with self.root_of(name).opened(name) as path:
            yield path
