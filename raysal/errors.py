"""Every error that raysal raises on purpose. Its message names the item, the field and the fix.

RaysalError                     exit 1: the fault is ours
├── UserError                   exit 2: the input is at fault, and the message says how to correct it
│   ├── ConfigError             a config field
│   ├── UnknownName             a strategy, encoder, source ... that does not exist
│   ├── MissingExtra            an optional dependency is not installed
│   ├── SourceError             a source cannot be listed or read as a whole
│   │   └── DuplicateKeys       two items share a key
│   ├── BadItem                 one item cannot be decoded or embedded (quarantined, never fatal)
│   ├── EncoderError            an encoder cannot be built or refuses the source
│   ├── FingerprintMismatch     vectors, heads or sources of different origin would be mixed
│   │   └── SourceChanged       a source is not what a pool was begun with
│   ├── PoolError               a pool cannot be opened
│   │   ├── PoolIncomplete      its embedding has not finished
│   │   └── Damaged             a file is missing, truncated or altered
│   ├── PoolExhausted           fewer items left than asked for
│   ├── LabelError              a label cannot be accepted
│   │   └── UnknownItem         the pool has no such item
│   ├── OutputExists            a file is where output is to be written
│   ├── BucketError             an object of a bucket cannot be listed, read or written
│   │   └── Taken               an object is to be written only if another state holds
│   └── RunError                a run directory cannot be used as asked
│       └── NotNow              a file of a run cannot be used just now; the same call may succeed later
├── ItemsLost                   exit 3: more of the source was lost than allowed
│   ├── QuarantineExceeded      items were listed, and could not be embedded
│   ├── PassedOverExceeded      files that look like items were not listed
│   ├── PicturesLost            pictures were to be trained on, and could not be read
│   └── MediaLost               items were to be exported, and their media could not be read
├── VectorsBlurred              exit 3: float16 does not tell the vectors apart
└── FleetError                  a partition could not be computed, although it was tried several times
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raysal.messages import nearest_name, on_one_line, some_names, with_places


class RaysalError(Exception):
    """Root of everything raised on purpose."""

    exit_code = 1


class UserError(RaysalError):
    """The input is at fault.

    A pool in a bucket is named by its URL, also where the code names the directory that stands for it.

    Args:
        where: what is wrong: a file, a field, an argument, an item.
        problem: what is wrong with it.
        fix: what to do about it.
    """

    exit_code = 2

    def __init__(self, where: object, problem: str, fix: str = "") -> None:
        self.where, self.problem, self.fix = with_places(str(where)), with_places(problem), with_places(fix)
        super().__init__(self.where, self.problem, self.fix)  # for a process that does not know the directory

    def __str__(self) -> str:
        return on_one_line(f"{self.where}: {self.problem}" + (f"; {self.fix}" if self.fix else ""))


class ConfigError(UserError):
    """A config field or an argument is missing, unknown or out of range; `where` is its dotted path."""


class UnknownName(UserError):
    """No part of a kind has that name; `known` lists the names it can have, and the message suggests a near one."""

    def __init__(self, kind: str, name: str, known: Sequence[str]) -> None:
        near = nearest_name(name, known)
        guess = f"did you mean {near!r}? " if near else ""
        super().__init__(kind, f"unknown name {name!r}", f"{guess}use one of: {', '.join(known)}")
        self.kind, self.name, self.known = kind, name, tuple(known)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.kind, self.name, self.known)


class MissingExtra(UserError):
    """An optional dependency is not installed."""

    def __init__(self, needed_by: str, module: str, extra: str) -> None:
        super().__init__(needed_by, f"the module {module!r} is not installed", f"pip install 'raysal[{extra}]'")
        self.args = (needed_by, module, extra)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.args


class SourceError(UserError):
    """A source cannot be listed or read as a whole."""


class DuplicateKeys(SourceError):
    """Two items of a source share a key. Labels find their item by its key."""

    def __init__(self, where: object, keys: Sequence[str], fix: str = "") -> None:
        super().__init__(where, f"duplicate keys: {some_names(keys)}", fix or "make every key unique")
        self.keys = tuple(keys)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.where, self.keys, self.fix)


class BadItem(UserError):
    """One item cannot be decoded or embedded; `where` is its key. The embed job quarantines it."""


class EncoderError(UserError):
    """An encoder cannot be built, or cannot take this kind of item."""


class FingerprintMismatch(UserError):
    """Things of different origin would be mixed: vectors, heads or labels of another encoder, source or pool."""

    def __init__(self, where: object, what: str, expected: str, got: str, fix: str) -> None:
        short = [value[:16] if len(value) == 64 else value for value in (got, expected)]
        super().__init__(where, f"{what} is {short[0]}, expected {short[1]}", fix)
        self.args = (self.where, what, expected, got, self.fix)
        self.expected, self.got = expected, got

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.args


class SourceChanged(FingerprintMismatch):
    """A source is not what a pool was begun with; `changes` says in what, as "5 files, was 6"."""

    def __init__(self, where: object, changes: Sequence[str], fix: str) -> None:
        UserError.__init__(self, where, f"the source changed: {'; '.join(changes)}", fix)
        self.args = (self.where, tuple(changes), self.fix)
        self.changes, self.expected, self.got = tuple(changes), "", ""


class PoolError(UserError):
    """A pool cannot be opened or written."""


class PoolIncomplete(PoolError):
    """The embedding of a pool has not finished."""

    def __init__(self, where: object, committed: int, planned: int) -> None:
        super().__init__(
            where,
            f"{committed} of {planned} chunks are committed",
            "run the same `raysal embed` again to finish it",
        )
        self.committed, self.planned = committed, planned

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.where, self.committed, self.planned)


class Damaged(PoolError):
    """A file that raysal wrote is missing, truncated or altered. `where` is the file."""


class PoolExhausted(UserError):
    """Fewer items are left than were asked for."""

    def __init__(self, wanted: int, available: int) -> None:
        fix = f"ask for at most {available}, or widen the narrowing" if available else "no item is left to offer"
        super().__init__("k", f"{wanted} items wanted, {available} available", fix)
        self.wanted, self.available = wanted, available

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.wanted, self.available)


class LabelError(UserError):
    """A label cannot be accepted. No label of the same call was recorded."""


class UnknownItem(LabelError):
    """The pool has no such item."""


class OutputExists(UserError):
    """A file is where output is to be written. It stays as it is."""

    def __init__(
        self,
        where: object,
        problem: str = "is there already",
        fix: str = "name another file, or replace it with --force (Python: overwrite=True)",
    ) -> None:
        super().__init__(where, problem, fix)


class BucketError(UserError):
    """A bucket, or an object in it, cannot be listed, read or written; `reason` is of `raysal.buckets.base`."""

    def __init__(self, where: object, problem: str, fix: str = "", reason: str = "") -> None:
        super().__init__(where, problem, fix)
        self.args = (self.where, self.problem, self.fix, reason)
        self.reason = reason


class Taken(BucketError):
    """An object was not written, because it is there already, or is not what it was. It stays as it is."""


class RaysalWarning(UserWarning):
    """Root of everything raysal warns of. The work goes on."""


class LabelWarning(RaysalWarning):
    """A label was accepted, but its class may be another one misspelled, or a missing value."""


class MemoryWarning(RaysalWarning):
    """A batch of an encoder did not fit into memory, and is encoded in pieces."""


class RunError(UserError):
    """A run directory cannot be used as asked."""


class NotNow(RunError):
    """A file of a run cannot be used just now: it is busy, or its disk is full. The same call may succeed later."""


class ItemsLost(RaysalError):
    """More of a source was lost than allowed. The rest of the pool is committed and can be used.

    Args:
        pool: the pool directory.
        quarantined: items that could not be embedded.
        items: items in the listing, these included.
        allowed: the share that may be lost.
        counts: {suffix: number of files that were passed over}.
        words: what was passed over, for people.
    """

    exit_code = 3

    def __init__(
        self,
        pool: object,
        quarantined: int,
        items: int,
        allowed: float,
        counts: Mapping[str, int] | None = None,
        words: str = "",
    ) -> None:
        self.pool, self.quarantined, self.items, self.allowed = with_places(str(pool)), quarantined, items, allowed
        super().__init__(self.pool, quarantined, items, allowed, counts, words)
        self.passed_over, self.words = dict(counts or {}), words

    def __str__(self) -> str:
        return on_one_line(f"{self.pool}: more than {self.allowed:.2%} of its source was lost")


class QuarantineExceeded(ItemsLost):
    """More items were quarantined than allowed."""

    def __str__(self) -> str:
        left = self.items - self.quarantined
        usable = f"{left} are usable" if left else "none is usable"
        also = f"; {self.words}" if self.words else ""
        return on_one_line(
            f"{self.pool}: {self.quarantined} of {self.items} items are quarantined, more than {self.allowed:.2%}; "
            f"{usable}; `raysal pool quarantine {self.pool}` shows why; mend them, or raise --max-quarantine{also}"
        )


class PassedOverExceeded(ItemsLost):
    """More files that look like items were passed over than allowed."""

    def __str__(self) -> str:
        also = f", {self.quarantined} quarantined" if self.quarantined else ""
        return on_one_line(
            f"{self.pool}: {self.words}; more than {self.allowed:.2%} of what looks like an item is not among the "
            f"{self.items} items{also}; they are committed; convert the files, name those you want by a "
            "pattern, or raise --max-passed-over"
        )


class PicturesLost(ItemsLost):
    """More pictures could not be trained on than allowed. The model is there, made of the rest.

    Args:
        model: its directory.
        items: pictures that were to be trained on.
        lost: {key: why there is no picture}.
        allowed: the share that may be lost.
    """

    def __init__(self, model: object, items: int, lost: Mapping[str, str], allowed: float) -> None:
        super().__init__(model, len(lost), items, allowed)
        self.args = (self.pool, items, lost, allowed)
        self.lost = dict(lost)

    def __str__(self) -> str:
        some = some_names(f"{key!r} ({why})" for key, why in self.lost.items())
        return on_one_line(
            f"{self.pool}: {self.quarantined} of {self.items} pictures could not be trained on, more than "
            f"{self.allowed:.2%}: {some}; the model is made of the rest; mend them, or name their place with --source"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.args


class MediaLost(ItemsLost):
    """More items could not be exported than allowed. The export is there, made of the rest.

    Args:
        out: its directory.
        items: items that were to be exported.
        lost: how many of them were not.
        some: {key: why}, of the first ones.
        allowed: the share that may be lost.
    """

    def __init__(self, out: object, items: int, lost: int, some: Mapping[str, str], allowed: float) -> None:
        super().__init__(out, lost, items, allowed)
        self.args = (self.pool, items, lost, some, allowed)
        self.lost = dict(some)

    def __str__(self) -> str:
        named = some_names((f"{key!r} ({why})" for key, why in self.lost.items()), 3)
        return on_one_line(
            f"{self.pool}: {self.quarantined} of {self.items} items could not be exported, more than "
            f"{self.allowed:.2%}: {named}; lost.csv lists them, the rest is there; bring them back and export them "
            "with --keys lost.csv into another directory, or raise --max-lost"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.args


class VectorsBlurred(RaysalError):
    """Half of a pool's vectors differ by less than float16 can tell. The pool is committed."""

    exit_code = 3

    def __init__(self, pool: object, blurred: int, vectors: int) -> None:
        self.pool, self.blurred, self.vectors = with_places(str(pool)), blurred, vectors
        super().__init__(self.pool, blurred, vectors)

    def __str__(self) -> str:
        return on_one_line(
            f"{self.pool}: of {self.blurred} of {self.vectors} vectors, rounding to float16 hides how they differ from "
            "the others, because all have a large part in common; subtract the mean of all vectors from each and embed "
            "them into another directory (this pool is committed, with neighbours that are partly wrong)"
        )


class FleetError(RaysalError):
    """A partition could not be computed, although it was tried several times."""

    def __init__(self, partition: int, problem: str) -> None:
        self.partition, self.problem = partition, with_places(problem)
        super().__init__(partition, self.problem)

    def __str__(self) -> str:
        return on_one_line(f"partition {self.partition}: {self.problem}")
