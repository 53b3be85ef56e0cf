"""Which of the names that a listing meets are taken, and why the others are passed over. There is no third way.

The same rules hold on a disk and in a bucket: they know names, and nothing of what is behind them.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

HIDDEN, INSIDE, NO_SUFFIX, OTHER_SUFFIXES = "hidden", "in folders inside", "no suffix", "other suffixes"
ODD_NAME, UNREADABLE, SPECIAL = "name not UTF-8", "unreadable folder", "not a regular file"
"""Groups of files that are passed over, beside those by suffix. A suffix begins with a dot."""


class Found(NamedTuple):
    """A file below a folder."""

    name: bytes
    """Its path relative to the folder."""
    group: str
    """Why it is passed over: its suffix, or one of the groups; "" if it is taken."""
    lost: bool
    """Whether it is passed over and looks like an item."""


class Step(NamedTuple):
    """What holds for a name, and for all that is below it if it is a folder."""

    places: frozenset[int] | None
    """Where in the pattern the names below it continue; None if all of them match."""
    group: str
    """Why it is passed over; "" if it is not, or that depends on the file."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Which names are taken. The fields are those of `raysal.sources.files.Files`."""

    pattern: tuple[str, ...]
    """The parts of a pattern below the root; () is the whole folder."""
    takes: tuple[str, ...]
    items: Collection[str]
    recursive: bool
    hidden: tuple[str, ...]
    stores: tuple[str, ...]
    pictures: bool

    @property
    def key(self) -> Hashable:
        """Equal for equal rules."""
        items = tuple(sorted(self.items))
        return self.pattern, self.takes, items, self.recursive, self.hidden, self.stores, self.pictures

    @cached_property
    def _parts(self) -> tuple[re.Pattern[str] | None, ...]:
        """What matches each part of the pattern; None for `**`."""
        return tuple(None if part == "**" else re.compile(fnmatch.translate(part)) for part in self.pattern)

    @cached_property
    def _hidden(self) -> tuple[bytes, ...]:
        return tuple(map(os.fsencode, self.hidden))

    @cached_property
    def first(self) -> Step:
        """What holds for the root: the places of the pattern before the first name."""
        return Step(self._settled(self._with_empty(0)) if self.pattern else None, "")

    def _with_empty(self, place: int) -> set[int]:
        """A place, and those behind it that are reached without a name: `**` stands for no folder too."""
        places = {place}
        while place < len(self._parts) and self._parts[place] is None:
            place += 1
            places.add(place)
        return places

    def _settled(self, places: set[int]) -> frozenset[int] | None:
        return None if len(self._parts) in places else frozenset(places)

    def _after(self, places: frozenset[int], name: bytes) -> frozenset[int] | None:
        """The places after one more name: None where the pattern is fulfilled, empty where it cannot be."""
        text = name.decode("utf-8", "surrogateescape")
        reached: set[int] = set()
        for place in places:
            part, written = self._parts[place], self.pattern[place]
            if name.startswith(self._hidden) and not written.startswith(self.hidden):
                continue
            if part is None:
                reached |= self._with_empty(place)
            elif part.match(text):
                reached |= self._with_empty(place + 1)
        return self._settled(reached)

    def step(self, above: Step, name: bytes, inner: bool) -> Step | None:
        """Go one name further.

        Args:
            above: what holds for the folder.
            name: of what is in it, without a slash.
            inner: whether that is a folder to look into.

        Returns:
            What holds for the name; None where the pattern does not name it.
        """
        places = above.places if above.places is None else self._after(above.places, name)
        if places is not None and not (places and inner):
            return None
        group = above.group or (HIDDEN if above.places is None and name.startswith(self._hidden) else "")
        if inner and not self.recursive and places is None:
            group = group or INSIDE
        return Step(places, group)

    def is_store(self, name: str) -> bool:
        """Whether a folder of this name counts as a file."""
        return bool(self.stores) and name.lower().endswith(self.stores)

    def takes_name(self, name: str) -> bool:
        """Whether a file of this name is taken."""
        return self.is_store(name) or name.lower().endswith(self.takes)


class Stems:
    """Names of one folder's taken files, without suffixes: a camera writes IMG_1.JPG beside IMG_1.CR2."""

    def __init__(self, takes: tuple[str, ...], names: Iterable[str]) -> None:
        lower = (name.lower() for name in names)
        self._stems = frozenset(name.rpartition(".")[0] for name in lower if name.endswith(takes))

    def has_copy(self, name: str, suffix: str) -> bool:
        """Whether a taken file has the same name but for the suffix."""
        return bool(suffix) and name.lower().removesuffix(suffix) in self._stems
