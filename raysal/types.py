"""Frozen records that processes send to each other, and the words that they define.

- *item*: one thing that may be labeled. People know it by its *key* (a file name, a row key). Inside raysal it has an
  *id*: 64 bits, its position in the source's listing. The id is the same in all rounds, partitions and chunk sizes. A
  quarantined item keeps its id, which no vector of the pool has.
- *part*: an item that is a piece of something, its *owner*: a box of an image, a window of a text. Owners have keys and
  ids of their own (`raysal.pool.owners`).
- *row*: a position in an array. It never leaves a function.
- *chunk*: up to `chunk_rows` consecutive items, which are embedded and committed together.
- *partition*: consecutive rows of a pool that one process holds.
- *round*: one batch that was chosen and committed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    FilePath = str | bytes | Path

Modality = Literal["image", "sound", "text", "vector"]
"""What kind of payload a source's items have."""
Report = Callable[[str, int, int], None]
"""What long work tells of its progress: it is called with (stage, done, total). A total of 0 is unknown."""
Check = Literal["fast", "hash"]
"""How an embed job finds out which files changed: by their sizes and times, or by the sha256 of their bytes."""
Metric = Literal["cosine", "l2"]
"""What "near" means in a pool: the angle between vectors, or their Euclidean distance."""
_MOST_GROUPS = 8
"""Kinds of files that a message names."""
POOL_COLUMNS = ("id", "key", "uri", "owner")
"""The columns of a pool's items that the pool itself writes."""
OWNER_KEY = "owner_key"
"""The carried column that a pool of parts writes: the key of the owner of each."""
SKIP = "!skip"
"""The text of a label that says: this annotator skipped the item. No class can have this name."""
SEPARATOR, NONE = "|", "-"
"""How the text of a label says several labels of one item, or none of them."""
RESERVED_COLUMNS = (*POOL_COLUMNS, "vector")
"""Names that a carried column cannot have: the pool's own columns, and the column of the vectors in an export."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A chunk that is to be embedded."""

    index: int
    """Number of the chunk, from 0."""
    first_id: int
    """Id of the first item. The other ids follow without gaps."""
    keys: Sequence[str]
    """The items' keys in order of id: a tuple, or a column of them (`raysal.arrow_values.Texts`)."""
    locator: Any = None
    """Where the source finds the items. It is small (names, offsets), or holds the payloads if the source cannot be
    read by position."""
    owners: Sequence[str | None] | None = None
    """The keys of the owners that the items are parts of; None for one that is no part. The parts of an owner follow
    each other, and all of them are in one unit. None where no item is a part."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pixels:
    """A picture as the numbers of a file, which mean what those of a picture file of that type mean."""

    values: NDArray[Any]
    """[h, w] or [h, w, channels], of any type"""
    stated: tuple[float, float] | None = None
    """The numbers that are black and white, where that is stated."""
    channels: tuple[str, ...] = ()
    """Names of the channels, where they have any: as many as there are, and no two alike."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the numbers."""
        return self.values.shape

    @property
    def nbytes(self) -> int:
        """Of the numbers."""
        return self.values.nbytes


class Whole:
    """A picture that several items are cut out of. It is decoded for the first of them, and kept until the last."""

    def __init__(self, payload: Any, uses: int) -> None:
        """Take over the payload, as an item has it, of which `uses` cuts will be decoded."""
        self.payload = payload
        self._left, self._lock = uses, Lock()
        self._decoded: Any = None

    def decoded(self, decode: Callable[[Any], Any]) -> Any:
        """What `decode` makes of the payload. Any thread may call it."""
        with self._lock:
            found = decode(self.payload) if self._decoded is None else self._decoded
            self._left -= 1
            self._decoded = found if self._left > 0 else None
            return found

    def __reduce__(self) -> tuple[Any, ...]:
        return Whole, (self.payload, self._left)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """A rectangle of a picture."""

    whole: Whole
    box: tuple[float, float, float, float]
    """left, top, right and bottom, in pixels of the upright picture"""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One item as a source gives it."""

    key: str
    payload: Any
    """An image is encoded bytes, uint8 [h, w] or [h, w, 3], `Pixels`, or a `Cut` of one of these. A sound is the bytes
    of a file. A text is a str, and a vector a float array [d]. If the item cannot be read, the payload is a `BadItem`,
    and the embed job quarantines the item."""
    uri: str | None = None
    """Where the item is, for people."""
    carried: Mapping[str, Any] = field(default_factory=dict)
    """{column: value} to keep in the pool."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Consecutive items of ready vectors, as columns of n values."""

    keys: Sequence[str]
    vectors: NDArray[np.floating[Any]]
    """float16, float32 or float64 [n, d]. The rows of `odd` hold nothing."""
    odd: Mapping[int, Any] = field(default_factory=dict)
    """{row: payload, as an item has it} of the items without d numbers: `BadItem`s, and vectors of another length."""
    carried: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """{column: values [n]} to keep in the pool: lists, or arrays of Arrow."""


@dataclass(frozen=True, kw_only=True)
class PassedOver:
    """The files that a source leaves out: nobody asked for them, or raysal does not read their kind."""

    counts: Mapping[str, int] = field(default_factory=dict)
    """{suffix, or what else the files have in common: number of files}."""
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The first few names of each of these."""
    taken: int = 0
    """Files that the source takes."""
    lost: int = 0
    """Files left out that look like items: pictures of other formats, tables in a folder of images ..."""
    unreadable: bool = False
    """Whether a folder could not be listed: any number of items may be in it."""

    @property
    def share(self) -> float:
        """Files left out that look like items, as a share of these and the files taken; 1 if a folder is unreadable."""
        return 1.0 if self.unreadable else self.lost / max(self.taken + self.lost, 1)

    def __str__(self) -> str:
        """Such as `3 files passed over: 2 .svg (a.svg, b.svg), 1 .txt (notes.txt)`; "" if there are none."""
        if not self.counts:
            return ""
        total = sum(self.counts.values())
        ordered = sorted(self.counts.items(), key=lambda pair: (-pair[1], pair[0]))
        parts = []
        for group, count in ordered[:_MOST_GROUPS]:
            some = list(self.examples.get(group, ()))
            named = f" ({', '.join(some)}{', ...' if count > len(some) else ''})" if some else ""
            parts.append(f"{count} {group}{named}")
        if rest := sum(count for _, count in ordered[_MOST_GROUPS:]):
            parts.append(f"{rest} of other kinds")
        return f"{total} file{'s' * (total > 1)} passed over: {', '.join(parts)}"


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file of a source, as it is now. Two looks that are equal are of the same contents."""

    name: str
    """As the source lists it, for example relative to its folder."""
    bytes: int
    """Its size; -1 if it is not there (a dangling link)."""
    changed_ns: int
    """When it was last written or replaced, in nanoseconds since 1970: the newest time that is known of it."""
    etag: str | None = None
    """What a bucket says of its version. Where it is known of two looks, it decides, and the time does not."""
    parts: tuple[FilePath, ...] = field(default=(), compare=False, repr=False)
    """The paths of the files whose bytes are its contents, the main one first; none where a source does not say."""


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """What is known of a source's files without reading them."""

    digest: str
    """Hex sha256. While it stays the same, no file was written, replaced or touched."""
    files: int = 0
    bytes: int = 0
    """Size of all files."""
    newest_ns: int = 0
    """When a file was last written or replaced, in nanoseconds since 1970; 0 if there are no files."""
    by_content: bool = False
    """Whether the source's fingerprint covers the contents, so that under an equal one they are equal."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """One label by one annotator."""

    key: str
    """The item's key in the pool."""
    label: str
    annotator: str = ""
    weight: float = 1.0
    """Scales the label's evidence; above 0."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a run that looks for classes has found, and what is left. Intervals hold with 95 %."""

    target: tuple[str, ...]
    """The classes that are looked for."""
    found: int
    """Items of these that were labeled since the first round; test draws count, too, and examples never."""
    known: int
    """Items of these that are labeled in all: those that the run began with, and what it found."""
    labels: int
    """Items that were labeled since the first round, without examples."""
    precision: float | None
    """`found` / `labels`: what a label brings. It has no interval and says nothing about the quality of the head, as
    the items were not drawn but picked."""
    since_find: int
    """Items labeled since the last new find, or since the first round."""
    drawn: int
    """Test draws so far."""
    answered: int
    """Test draws that have an answer. The others are left out of what is estimated."""
    prevalence: float | None
    """The share of the pool that is looked for, by the test draws, or else by the last evaluation. None without."""
    prevalence_interval: tuple[float, float] | None
    left: float | None
    """Items of the pool that are looked for and not known yet, by the prevalence."""
    left_interval: tuple[float, float] | None
    hints: tuple[str, ...]
    """What speaks for stopping, or for measuring, in sentences."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """What a run has done so far."""

    run: str
    """The run's directory."""
    pool: str
    """The pool's directory."""
    items: int | None
    """Items in the pool; None where it cannot be opened."""
    rounds: int
    """Rounds that are committed."""
    asked: int
    """Items that rounds have asked for."""
    labeled: int
    tested: int
    """Labeled items that are held out: they measure heads, and train none."""
    waiting: int
    """Items that rounds have asked for and nobody has answered."""
    skipped: int
    disputed: int
    absent: int
    """Items with an answer that the pool does not have, and other counts leave out: the labels were matched by key with
    another pool than that they were given for."""
    classes: Mapping[str, int]
    """{class: number of labeled items}."""
    accuracy: float | None
    """From the last evaluation. None without one, or if the labels are several per item or numbers."""
    metric: str | None
    """Name of the main measure of the last evaluation; see `raysal.rounds.evaluation.MEASURES`."""
    value: float | None
    """Value of that measure."""
    finished: bool
    """Whether the run was closed."""
    problem: str | None = None
    """Why the pool cannot be opened, and what to do. Everything else is known without it."""
    note: str | None = None
    """What is to be known of the run's heads, where an older raysal fitted them."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """All measures of the last evaluation; see `raysal.models.measures.MEASURES`."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Intervals of 95 % for those of them that have one."""
    known_by: str | None = None
    """What the last evaluation knew of held-out items: `truth`, `uniform` labels, or `test draws`."""
    search: Found | None = None
    """What was found; None where the run looks for no class."""


def no_report(stage: str, done: int, total: int) -> None:
    """The `Report` of a caller that wants none."""
    del stage, done, total
