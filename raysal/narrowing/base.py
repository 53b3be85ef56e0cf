"""A narrower turns millions of items into the thousands a selector looks at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from raysal.config import IndexConfig
from raysal.errors import ConfigError
from raysal.features import has_hidden_layer
from raysal.fleet import Fleet, keep
from raysal.index import Index, coverage, index_neighbours, renewal, with_index
from raysal.models.head import Head
from raysal.models.likelihood import Link
from raysal.models.targets import names_in
from raysal.pool import Pool
from raysal.rng import derive
from raysal.scoring.sweep import Neighbours, Search, Sweep, SweepRequest, sweep


@dataclass(frozen=True, kw_only=True)
class LabelledVectors:
    """The labelled items, in id order: ids [n], vectors float32 [n, d], and the text of their labels [n], which says
    what it says under `link`."""

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    classes: Sequence[str]
    link: Link = "softmax"

    def by_class(self) -> dict[str, NDArray[np.int64]]:
        """The rows of every class, ascending, by name. With several labels at once an item is of each of its labels,
        and one that has none is of no class; numbers are all of one, `value`."""
        rows: dict[str, list[int]] = {}
        for row, text in enumerate(self.classes):
            for name in names_in(text, self.link):
                rows.setdefault(name, []).append(row)
        return {name: np.array(rows[name], np.int64) for name in sorted(rows)}

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a rule that accumulates carries from round to round: the items found so far, and the labelled items whose
    neighbours they are; ids int64, ascending."""

    found: NDArray[np.int64]
    searched: NDArray[np.int64]

    def dump(self) -> bytes:
        """One safetensors file; equal memories are equal bytes. 8 bytes an item."""
        from safetensors.numpy import save

        # One entry: safetensors writes several in random order.
        content: bytes = save({"ids": np.concatenate([[len(self.found)], self.found, self.searched]).astype("<i8")})
        return content

    @classmethod
    def load(cls, content: bytes) -> Memory:
        """What `dump` made."""
        from safetensors.numpy import load

        ids: NDArray[np.int64] = load(content)["ids"]
        count = int(ids[0])
        return cls(found=ids[1 : 1 + count], searched=ids[1 + count :])


@dataclass(frozen=True, kw_only=True)
class NarrowTask:
    """What a narrower may know: the head (None before any label), what is labelled, the pool, how large the batch will
    be, how many items are `available`, a key of `raysal.rng`, what the last round remembered, what becomes of an
    index that lacks rows, and the head of the last round."""

    head: Head | None
    labelled: LabelledVectors
    pool: Pool
    k: int
    available: int
    key: int
    memory: Memory | None = None
    index: IndexConfig = field(default_factory=IndexConfig)
    previous: Head | None = None


@dataclass(frozen=True, kw_only=True)
class Narrowed:
    """Candidates: `ids`, best first where the rule has an order, or None for the whole pool; `rule` says how they were
    found; `memory` is for the next round."""

    ids: NDArray[np.int64] | None
    rule: str
    memory: Memory | None = None


class Narrower(Protocol):
    """Constructor fields are its config."""

    def narrow(self, fleet: Fleet, task: NarrowTask) -> tuple[Sweep, Narrowed]:
        """The round's sweep, and the candidates. Only available items are ever found.

        Deterministic in (pool, what is available, task): the same for any partitions.
        """
        ...


def narrow(fleet: Fleet, narrower: Narrower, task: NarrowTask) -> tuple[Sweep, Narrowed]:
    """Sweep once, and set the fleet's candidates to what the narrower keeps of the available items.

    Candidates that would not fill a batch of k are topped up from a uniform sample, and the rule says so: a
    batch is never cut short while the pool has items left.
    """
    found, narrowed = narrower.narrow(fleet, task)
    if narrowed.ids is not None:
        left = sum(fleet.each(keep, narrowed.ids))
        if left < task.k:
            spare = found.sample[0][~np.isin(found.sample[0], narrowed.ids)][: task.k - left]
            narrowed = replace(
                narrowed,
                ids=np.concatenate([narrowed.ids, spare]),
                rule=f"{narrowed.rule}, topped up with {len(spare)} uniform",
            )
            fleet.each(keep, narrowed.ids)
    return found, narrowed


class OneSweep(ABC):
    """A narrower that needs nothing but the round's sweep, so that several of them can share one."""

    @abstractmethod
    def request(self, task: NarrowTask) -> SweepRequest:
        """What the sweep must find. Pure."""

    @abstractmethod
    def narrowed(self, fleet: Fleet, task: NarrowTask, found: Sweep) -> Narrowed:
        """Candidates from what was found. `top` lists and the `sample` may be longer than asked for; their order is
        fixed, so they begin with what was."""

    def wants_index(self) -> bool:
        """Whether it may ask for searches that the pool's index answers."""
        return False

    def narrow(self, fleet: Fleet, task: NarrowTask) -> tuple[Sweep, Narrowed]:
        found = look(fleet, task, self.request(task))
        return found, self.narrowed(fleet, task, found)


def wants_index(narrower: Narrower, trainer: object = None) -> bool:
    """Whether rounds of a narrower may search the pool's index; one that does not say does not.

    Raises:
        ConfigError: they may, and heads of the trainer see vectors through a hidden layer.
    """
    asks = getattr(narrower, "wants_index", None)
    if asks is None or not asks():
        return False
    refuse_hidden_layer(has_hidden_layer(trainer))
    return True


def refuse_hidden_layer(hidden_layer: bool) -> None:
    """
    Raises:
        ConfigError: there is, or will be, a hidden layer: an index is over the pool's own vectors.
    """
    if hidden_layer:
        problem = "an index is over the pool's own vectors, and the head looks at them through a hidden layer"
        raise ConfigError("narrow.search", problem, 'search = "exact", or a trainer without a hidden layer')


def look(fleet: Fleet, task: NarrowTask, request: SweepRequest) -> Sweep:
    """The round's sweep, with a uniform sample of at least k items to top a batch up from.

    Searches that ask for it are answered by the pool's index, and no vector is read for them: where nothing else is
    asked either, the sweep makes no pass, and has no class counts. An index that lacks rows of the pool is not
    searched; the searches are exact then, and `Neighbours.how` says so and what becomes of it.

    Raises:
        PoolError: the index asked for does not exist, is damaged, or of another encoder.
        ConfigError: an index is asked for, and the head has a hidden layer.
    """
    request = replace(request, sample=max(request.sample, task.k), key=derive(task.key, "sample"))
    if not any(search.by == "index" for search in request.searches):
        return swept(fleet, task, request)
    refuse_hidden_layer(task.head is not None and task.head.hidden_layer is not None)
    return with_index(task.pool, lambda index: look_by(fleet, task, request, index))


def swept(fleet: Fleet, task: NarrowTask, request: SweepRequest) -> Sweep:
    """The sweep with all that scores may need of the task."""
    known = task.labelled
    return sweep(fleet, task.head, request, previous=task.previous, labelled=known.vectors, answers=known.classes)


def look_by(fleet: Fleet, task: NarrowTask, request: SweepRequest, index: Index) -> Sweep:
    """As `look`, with the searches that ask for it answered by this index."""
    lacking = coverage(task.pool, index).missing_rows
    if lacking:
        how = f"by exact search, as the index lacks {lacking} rows; {renewal(task.pool, index, lacking, task.index)}"
        found = swept(fleet, task, request)
        return replace(found, searches=tuple(told(search, own, how) for search, own in answered(request, found)))
    how = f"by index {index.label}"
    nothing = (np.empty(0, np.int64), np.empty(0, np.float32))
    by_index = {
        place: Neighbours(of_each=index_neighbours(fleet, index, search.anchors, search.each), nearest=nothing, how=how)
        for place, search in enumerate(request.searches)
        if search.by == "index"
    }
    left = replace(request, searches=tuple(search for search in request.searches if search.by == "exact"))
    found = swept(fleet, task, left) if left.scores or left.searches else sweep(fleet, None, left)
    exact = iter(found.searches)
    searches = tuple(by_index.get(place) or next(exact) for place in range(len(request.searches)))
    return replace(found, searches=searches)


def answered(request: SweepRequest, found: Sweep) -> Iterator[tuple[Search, Neighbours]]:
    return zip(request.searches, found.searches, strict=True)


def told(search: Search, own: Neighbours, how: str) -> Neighbours:
    """A search's answer, with what to say of it if it was to come from an index."""
    return replace(own, how=how) if search.by == "index" else own


def by_what(found: Sweep) -> str:
    """What a rule says of how its neighbours were found, as ", by index ...", or nothing where all was as asked."""
    return "".join(f", {how}" for how in dict.fromkeys(search.how for search in found.searches) if how)
