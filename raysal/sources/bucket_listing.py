"""The objects of a bucket that a source takes, by the rules of `rules.py`. Nothing is downloaded to list them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from raysal.buckets import Bucket, Object
from raysal.sources.kinds import suffix_of
from raysal.sources.listed_once import kept_rows
from raysal.sources.places import as_source_errors
from raysal.sources.rules import NO_SUFFIX, Found, Rules, Stems, Step

_LITERAL = re.compile(r"[^*?[]*")


@dataclass
class _Open:
    """A folder whose objects are being listed."""

    name: str
    step: Step | None
    """None: the pattern does not name what is below it."""
    taken: list[str] = field(default_factory=list)
    """Names of the files in it that are taken."""
    doubted: list[str] = field(default_factory=list)
    """Names of those that look like items, unless a file that is taken has the same name but for the suffix."""
    is_store: bool = False


class BucketListing:
    """One listing of a folder of a bucket. Memory: the names of one folder, and of those above it."""

    def __init__(self, bucket: Bucket, rules: Rules, all_files: bool) -> None:
        """Begin.

        Args:
            bucket: the folder.
            rules: which objects are taken.
            all_files: whether to give those that are passed over too, and to count `lost`.
        """
        self._bucket, self._rules, self._all = bucket, rules, all_files
        self.lost = 0
        """How many of those that were passed over look like items; known at the end."""

    def __iter__(self) -> Iterator[tuple[Found, Object]]:
        """The objects, in order of their names by code point. Raises SourceError where they cannot be listed."""
        rules, levels = self._rules, [_Open("", self._rules.first)]
        begin = _LITERAL.match(rules.pattern[0]) if rules.pattern and rules.pattern[0] != "**" else None
        prefix = begin[0] if begin else ""
        rows = kept_rows((self._bucket.url, prefix), lambda: map(list, self._bucket.list(prefix)))
        objects = (Object(*row) for row in rows)
        while True:
            with as_source_errors():
                found = next(objects, None)
            if found is None:
                break
            *folders, name = found.name.split("/")
            same = next((at for at, one in enumerate(folders) if at + 1 >= len(levels) or levels[at + 1].name != one),
                        len(folders))  # fmt: skip
            self._close(levels, same + 1)
            for folder in folders[same:]:
                levels.append(self._opened(levels[-1], folder))
                if levels[-1].is_store and levels[-1].step is not None:
                    path = "/".join(level.name for level in levels[1:])
                    yield Found(path.encode(), levels[-1].step.group, False), found._replace(name=path)
            if not any(level.is_store for level in levels) and (judged := self._judged(levels[-1], found, name)):
                yield judged, found
        self._close(levels, 0)

    def _opened(self, above: _Open, name: str) -> _Open:
        is_store = self._rules.is_store(name)
        step = None if above.step is None else self._rules.step(above.step, name.encode(), not is_store)
        return _Open(name, step, is_store=is_store)

    def _judged(self, folder: _Open, found: Object, name: str) -> Found | None:
        """What becomes of an object; None if it is not to be given."""
        step = None if folder.step is None else self._rules.step(folder.step, name.encode(), False)
        if step is None:
            return None
        group, path = step.group, found.name.encode()
        if group or self._rules.takes_name(name):
            if not group:
                folder.taken.append(name) if self._all else None
            return Found(path, group, False) if self._all or not group else None
        if not self._all:
            return None
        suffix = suffix_of(name)
        if suffix in self._rules.items:
            folder.doubted.append(name)
        return Found(path, suffix or NO_SUFFIX, False)

    def _close(self, levels: list[_Open], count: int) -> None:
        """Leave the folders behind the first `count`: now all their names are known."""
        while len(levels) > count:
            folder = levels.pop()
            stems = Stems(self._rules.takes, folder.taken)
            self.lost += sum(not stems.has_copy(name, suffix_of(name)) for name in folder.doubted)
