"""One pass over a pool: predictions, scores and anchor neighbours out of one matrix product per block.

The head's weights and the round's anchors are stacked into one matrix, so an item's vector is read and converted once
however much is asked of it. What happens to a block of rows:

    features [n, d] × [weights; anchors] ─▶ product [n, m + a]
        first m columns ─▶ ProductReader ─▶ Predicted ─▶ SCORES ─▶ RunningBest, histogram   (per score)
                                                     └─▶ counts of predicted classes
        last a columns  ─▶ Similarity ─▶ RunningBest                                        (per anchor and search)

A partition returns these summaries as its own `Sweep`; `merge_sweeps` joins them in the driver. Only summaries leave a
partition, so what it sends does not grow with its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet import Fleet, Partition
from raysal.fleet.partition import Block
from raysal.models.evidence import Evidence
from raysal.models.head import Head
from raysal.numerics import BLOCK_ROWS, block_rows_for, in_threads, one_thread, slices
from raysal.rng import derive
from raysal.scoring.inputs import ProductReader, ScoreInputs, score_inputs
from raysal.scoring.registry import SCORES
from raysal.scoring.row_values import row_values
from raysal.scoring.similarity import Similarity
from raysal.scoring.top_k import BestItems, RunningBest, best_of_parts, lowest_hashes

NUMBERS_SCORED_TOGETHER = 2**18
"""Numbers read off the product that are scored together, over a block or several. With few classes the calls for one
block cost more than their arithmetic; more than this (1 MB) would leave the cache."""
BINS = 1024
"""Bins of a score's histogram over [0, 1]; quantiles read from it are right to 1/1024."""
NO_ITEMS: BestItems = (np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search for what is near to some anchors."""

    anchors: NDArray[np.float32]
    """[a, d]"""
    each: int = 0
    """how many of the nearest items of every anchor"""
    nearest: int = 0
    """how many of the items that are nearest to any of the anchors"""
    by: Literal["exact", "index"] = "exact"
    """what should answer it; a sweep is always exact"""


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """What a search found: similarities (`raysal.scoring.similarity`), best first."""

    of_each: list[BestItems]
    """per anchor"""
    nearest: BestItems
    """by the similarity to the nearest anchor"""
    how: str = ""
    """what to say of a search that an index should have answered"""


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """What a pass is asked for: the best items by each score, neighbours, a uniform sample."""

    scores: tuple[str, ...] = ()
    """names of `SCORES`"""
    top: int = 0
    """how many of the best items by each score"""
    searches: tuple[Search, ...] = ()
    sample: int = 0
    """how many items of a uniform sample"""
    key: int = 0
    """key of `raysal.rng` for the uniform sample and for samples of the posterior"""
    ties: int | None = None
    """key of the hash that orders items of equal score or similarity; None for the lower id (`item_order`)"""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a pass found among the available items."""

    rows: int
    """available items"""
    class_counts: NDArray[np.int64]
    """[C] items predicted to be of each class"""
    histograms: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    """per score, [BINS] over [0, 1]; a score above 1 is counted in the last, one below 0 in the first"""
    top: dict[str, BestItems] = field(default_factory=dict)
    """per score"""
    searches: tuple[Neighbours, ...] = ()
    """in the order they were asked for"""
    sample: BestItems = (np.empty(0, np.int64), np.empty(0))
    """a uniform sample without replacement: the items of lowest hash, in that order; a value is minus the hash"""

    def quantile(self, score: str, q: float) -> float:
        """A quantile of a score over the available items, from its histogram.

        Args:
            score: one of those asked for.
            q: in [0, 1].

        Returns:
            The upper edge of the bin it lies in. NaN without items.
        """
        counts = np.cumsum(self.histograms[score])
        if counts[-1] == 0:
            return float("nan")
        return float(np.searchsorted(counts, max(q * counts[-1], 1)) + 1) / BINS


def sweep(
    fleet: Fleet,
    head: Head | None,
    request: SweepRequest,
    *,
    previous: Head | None = None,
    reference: Evidence | None = None,
    target: Sequence[str] = (),
) -> Sweep:
    """Make one pass over the pool. One round trip.

    Cost: one product [n, d] x [d, C + anchors + what the scores need], memory of the reply O(top + anchors * each +
    nearest + sample).

    Args:
        fleet: the pool's partitions.
        head: what is to predict; without one there are no scores and no class counts.
        request: what is asked for.
        previous: the head of the previous round, for scores that compare with it.
        reference: the labels whose loss it is, for scores that ask what one more label would do to it.
        target: the classes that are looked for, for scores of these.

    Returns:
        What was found among the available items. It is the same for any partitions.

    Raises:
        ConfigError: a score needs what this head has not (`score_inputs`).
    """
    inputs = None
    if head is not None:
        key = derive(request.key, "scores")
        inputs = score_inputs(head, request.scores, previous=previous, reference=reference, target=target, key=key)
    return merge_sweeps(fleet.each(sweep_partition, inputs, request), request)


def sample_available(fleet: Fleet, key: int, size: int) -> NDArray[np.int64]:
    """A uniform sample of the available items, without replacement. One round trip.

    Args:
        fleet: the pool's partitions.
        key: key of `raysal.rng`.
        size: how many; all where there are fewer.

    Returns:
        Ids int64 [size], in order of their hash. They are the same for any partitions.
    """
    return best_of_parts(fleet.each(sample_partition, key, size), size, ties=key)[0]


def merge_sweeps(parts: Sequence[Sweep], request: SweepRequest) -> Sweep:
    """The sweep of the whole pool, from those of its partitions, or of parts of them, in any order."""
    return Sweep(
        rows=sum(part.rows for part in parts),
        class_counts=np.sum([part.class_counts for part in parts], axis=0),
        histograms={name: np.sum([part.histograms[name] for part in parts], axis=0) for name in parts[0].histograms},
        top={
            name: best_of_parts([part.top[name] for part in parts], request.top, ties=request.ties)
            for name in parts[0].top
        },
        searches=tuple(
            merge_neighbours([part.searches[place] for part in parts], search, request.ties)
            for place, search in enumerate(request.searches)
        ),
        sample=best_of_parts([part.sample for part in parts], request.sample, ties=request.key),
    )


def merge_neighbours(parts: Sequence[Neighbours], search: Search, ties: int | None) -> Neighbours:
    """What a search found in the whole pool, from what it found in each partition."""
    of_each = [
        best_of_parts([part.of_each[anchor] for part in parts], search.each, ties=ties)
        for anchor in range(len(search.anchors))
    ]
    nearest = best_of_parts([part.nearest for part in parts], search.nearest, ties=ties)
    return Neighbours(of_each=of_each, nearest=nearest)


# Functions of a partition.


def sweep_partition(
    partition: Partition, inputs: ScoreInputs | None, request: SweepRequest, part: int = 0, parts: int = 1
) -> Sweep:
    """The pass over one partition: its rows are shared out among as many threads as torch has.

    Args:
        partition: where they live.
        inputs: what scores need of the head, if there is one.
        request: what is asked for.
        part: which part of the rows is read; the count of rows and the uniform sample come with the first, 0.
        parts: how many there are; `merge_sweeps` of all is what one pass finds.

    Returns:
        What was found.
    """
    reader = None if inputs is None else ProductReader(partition, inputs)
    anchors = [np.empty((0, partition.dim), np.float32), *(search.anchors for search in request.searches)]
    similarity = Similarity(partition, np.concatenate(anchors))
    columns = similarity.anchors if reader is None else np.concatenate([reader.weights, similarity.anchors])
    stacked = partition.aligned(columns)
    closed = None if partition.available.all() else torch.from_numpy(~partition.available).to(partition.device)
    size = block_rows_for(len(columns), partition.device.type)
    scored = _ScoredColumns(partition, reader, request, closed, size)
    nearby = _SearchedColumns(partition, similarity, request, len(columns) - len(similarity.anchors), closed)
    cuts = list(slices(len(partition), scored.together))[part::parts] if len(columns) else []
    runs = [range(own.start, own.stop) for own in cuts]
    left = iter(runs)  # of a list: each run goes to one thread

    def sweep_runs() -> None:
        product = torch.empty(size, stacked.columns.shape[1], device=partition.device)
        read = scored.buffer()
        for block in partition.blocks(left, size):
            stacked.padded_products(block.features, out=product)
            scored.add(product, block, read)
            nearby.add(product, block)

    if runs:  # else there would be a block to fill with nothing
        in_threads(sweep_runs, min(torch.get_num_threads(), len(runs)) if partition.device.type == "cpu" else 1)
    scored.add_of_parts(partition, part)
    return Sweep(
        rows=int(partition.available.sum()) if part == 0 else 0,
        searches=nearby.result(),
        sample=sample_partition(partition, request.key, request.sample if part == 0 else 0),
        **scored.result(),
    )


def sample_partition(partition: Partition, key: int, size: int) -> BestItems:
    """The available items of lowest hash here: over partitions, a uniform sample of the pool, however it is cut.

    Args:
        partition: where they live.
        key: key of `raysal.rng`.
        size: how many; all where there are fewer.

    Returns:
        As `lowest_hashes`.
    """
    if size == 0:
        return np.empty(0, np.int64), np.empty(0)
    return lowest_hashes(partition.ids, key, size, partition.available)


class _ScoredColumns:
    """The head's columns of the product, which come first: scores, and counts of predictions. Threads share it."""

    def __init__(
        self,
        partition: Partition,
        reader: ProductReader | None,
        request: SweepRequest,
        closed: torch.Tensor | None,
        block_rows: int,
    ) -> None:
        """Of all rows those marked `closed` [N] do not count."""
        classes, numbers = (0, 0) if reader is None else (reader.classes, reader.numbers)
        self._reader, self._ids, self._closed, device = reader, partition.ids, closed, partition.device
        self._names = request.scores if reader is not None else ()
        self._of_parts = partition.owners is not None and partition.owners.scores is not None
        """whether scores of rows are those of their parts, which are not in the blocks"""
        self._best = {name: RunningBest(1, request.top, device, ties=request.ties) for name in self._names}
        self._counts = torch.zeros(classes, dtype=torch.long, device=device)
        self._histograms = {name: torch.zeros(BINS, dtype=torch.long, device=device) for name in self._names}
        self._lock = Lock()
        self._block_rows = block_rows
        self.together = max(NUMBERS_SCORED_TOGETHER // max(numbers, 1), BLOCK_ROWS) // block_rows * block_rows
        """rows of a run that is scored together"""
        self._shape = numbers, self.together

    def buffer(self) -> torch.Tensor:
        """What the numbers of a run are read into; a thread has its own."""
        return torch.zeros(self._shape, device=self._counts.device)

    def add(self, product: torch.Tensor, block: Block, read: torch.Tensor) -> None:
        """Take the products [n, m] of the next block of a run, and score the run with its last one."""
        if self._reader is None:
            return
        start, stop = int(block.rows[0]), int(block.rows[-1]) + 1
        place = start % self.together
        self._reader.read(product, block.features, read[:, place : place + self._block_rows])
        if stop % self.together == 0 or stop == len(self._ids):
            self._score(self._reader, read, slice(start - place, stop))

    def _score(self, reader: ProductReader, read: torch.Tensor, rows: slice) -> None:
        """Score the rows of a run."""
        n = rows.stop - rows.start
        out = None if self._closed is None else self._closed[rows]
        # Whole blocks until the last moment: elementwise kernels, too, treat the tail of an array apart.
        with one_thread():
            predicted = reader.predicted(read)
            names = () if self._of_parts else self._names
            scores = {name: SCORES[name](predicted)[:n] for name in names}
            probabilities = predicted.probabilities
        top = reader.inputs.likelihood.predicted(probabilities[:, :n])
        counts = (top if out is None else top & ~out).sum(1)
        with self._lock:
            self._counts += counts
        self._add(scores, rows, out)

    def add_of_parts(self, partition: Partition, part: int) -> None:
        """Take the scores of the parts of all rows, in the first `part` of a pass."""
        if self._reader is None or not self._of_parts or part:
            return
        everything = np.arange(len(partition))
        for name in self._names:
            values = torch.from_numpy(row_values(partition, self._reader.inputs, everything, SCORES[name]))
            self._add({name: values.to(partition.device)}, slice(0, len(partition)), self._closed)

    def _add(self, scores: dict[str, torch.Tensor], rows: slice, out: torch.Tensor | None) -> None:
        """Take scores [n] of some rows, of which those marked `out` do not count."""
        binned = {name: (values * BINS).long().clamp_(0, BINS - 1) for name, values in scores.items()}
        with self._lock:
            for name, values in scores.items():
                bins = binned[name]
                self._histograms[name] += torch.bincount(bins if out is None else bins[~out], minlength=BINS)
                values = values if out is None else values.masked_fill(out, -torch.inf)
                self._best[name].add(values[:, None], self._ids[rows])

    def result(self) -> dict[str, Any]:
        """The fields of a `Sweep`."""
        return {
            "class_counts": self._counts.cpu().numpy(),
            "histograms": {name: self._histograms[name].cpu().numpy() for name in self._names},
            "top": {name: self._best[name].result()[0] for name in self._names},
        }


class _SearchedColumns:
    """The searches of a pass, each over its own columns of the product, after the head's. Threads share it."""

    def __init__(
        self,
        partition: Partition,
        similarity: Similarity,
        request: SweepRequest,
        head_columns: int,
        closed: torch.Tensor | None,
    ) -> None:
        """Of all rows those marked `closed` [N] are never found."""
        searches, device, ties = request.searches, partition.device, request.ties
        self._ids, self._closed, self._similarity, self._lock = partition.ids, closed, similarity, Lock()
        cuts = np.cumsum([0, *(len(search.anchors) for search in searches)])
        self._head_columns = head_columns
        self._lanes = [
            (slice(int(low), int(high)), RunningBest(int(high - low), search.each, device, ties=ties),
             RunningBest(min(int(high - low), 1), search.nearest, device, ties=ties))
            for search, low, high in zip(searches, cuts, cuts[1:], strict=False)
        ]  # fmt: skip

    def add(self, product: torch.Tensor, block: Block) -> None:
        """Take the products [n, >= m + a] of a block."""
        rows = slice(int(block.rows[0]), int(block.rows[-1]) + 1)
        out, ids = None if self._closed is None else self._closed[rows], self._ids[rows]
        for place, each, nearest in self._lanes:
            if place.start == place.stop:
                continue
            values = product[: block.n, self._head_columns + place.start : self._head_columns + place.stop]
            few = self._similarity.rows_above(values, rows, each.floor) if nearest.m == 0 else None
            if few is None:
                values = self._similarity(values, rows, place)
            else:
                values = self._similarity(values[few], rows.start + few, place)
            closed = out if out is None or few is None else out[few]
            if closed is not None:
                values.masked_fill_(closed[:, None], -torch.inf)
            with self._lock:
                each.add(values, ids if few is None else ids[few.cpu().numpy()])
                if nearest.m:
                    nearest.add(values.amax(1, keepdim=True), ids)

    def result(self) -> tuple[Neighbours, ...]:
        """What each search found."""
        return tuple(
            Neighbours(of_each=each.result(), nearest=next(iter(nearest.result()), NO_ITEMS))
            for _, each, nearest in self._lanes
        )
