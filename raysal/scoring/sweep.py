"""One pass over a pool: predictions, scores and anchor neighbours out of one matrix product per block.

The head's weights and the round's anchors are stacked into one matrix, so an item's vector is read and
converted once however much is asked of it. Only summaries leave a partition; its size never shows in what it
sends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet import Fleet, Partition
from raysal.models.head import Head
from raysal.models.likelihood import Likelihood
from raysal.models.targets import Answer
from raysal.numerics import BLOCK_ROWS, one_thread
from raysal.rng import derive, item_uniform
from raysal.scoring.inputs import ProductReader, ScoreInputs, score_inputs
from raysal.scoring.registry import SCORES
from raysal.scoring.similarity import Similarity
from raysal.scoring.top_k import Best, best_of

TOGETHER = 2**18
"""Logits that are scored together, over a block or several: with few classes the calls for one block cost more than
their arithmetic; more than this (1 MB) would leave the cache."""
BINS = 1024
"""Bins of a score's histogram over [0, 1]; quantiles read from it are right to 1/1024."""

Ranked = tuple[NDArray[np.int64], NDArray[np.floating]]
"""(ids, values), best first, ties to the lower id"""


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search for what is near `anchors` float32 [a, d]: the `each` nearest items of every one of them, and the
    `nearest` items that are nearest to any of them. `by` says what whoever asks would have it answered by; a sweep is
    always exact."""

    anchors: NDArray[np.float32]
    each: int = 0
    nearest: int = 0
    by: Literal["exact", "index"] = "exact"


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """What a search found: similarities (`raysal.scoring.similarity`), best first, ties to the lower id."""

    of_each: list[Ranked]
    """per anchor"""
    nearest: Ranked
    """by the similarity to the nearest anchor"""
    how: str = ""
    """what to tell about a search that was to be answered by an index"""


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """What a pass is asked for: the `top` items by each score, neighbours, a uniform sample."""

    scores: tuple[str, ...] = ()
    top: int = 0
    searches: tuple[Search, ...] = ()
    sample: int = 0
    key: int = 0
    """Key of `raysal.rng` for the uniform sample."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a pass found among the available items."""

    rows: int
    class_counts: NDArray[np.int64]
    """[C] items predicted to be of each class"""
    histograms: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    """per score, [BINS] over [0, 1]; a score above 1 is counted in the last"""
    top: dict[str, Ranked] = field(default_factory=dict)
    searches: tuple[Neighbours, ...] = ()
    """in the order they were asked for"""
    sample: Ranked = (np.empty(0, np.int64), np.empty(0))
    """a uniform sample without replacement: the items of lowest hash, in that order"""

    def quantile(self, score: str, q: float) -> float:
        """The q-quantile of a score over the available items: the upper edge of the bin it lies in. NaN for
        none."""
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
    labelled: NDArray[np.floating] | None = None,
    answers: Sequence[Answer] = (),
) -> Sweep:
    """One round trip. Without a head there are no scores and no class counts. What is `labelled` [n, d], its `answers`
    and the head of the `previous` round are for scores that need them.

    Cost: one product [n, d] x [d, C + anchors + what the scores need], memory of the reply O(top + anchors * each +
    nearest + sample).
    """
    inputs = None
    if head is not None:
        key = derive(request.key, "scores")
        inputs = score_inputs(head, request.scores, previous=previous, labelled=labelled, answers=answers, key=key)
    return merge(fleet.each(sweep_partition, inputs, request), request)


def sweep_partition(partition: Partition, inputs: ScoreInputs | None, request: SweepRequest) -> Sweep:
    """The pass over one partition."""
    reader = None if inputs is None else ProductReader(partition, inputs)
    scored = _Scored(partition, reader, request)
    nearby = _Nearby(partition, request.searches, 0 if reader is None else len(reader.weights))
    anchors = nearby.similarity.anchors
    columns = anchors if reader is None else np.concatenate([reader.weights, anchors])
    stacked = partition.aligned(columns)
    closed = None if partition.available.all() else torch.from_numpy(~partition.available).to(partition.device)
    size = BLOCK_ROWS if reader is None else reader.block
    product = torch.empty(size, stacked.columns.shape[1], device=partition.device)
    for block in partition.blocks(size=size) if len(columns) else ():
        stacked.padded_products(block.features, out=product)
        rows = slice(int(block.rows[0]), int(block.rows[-1]) + 1)
        out = None if closed is None else closed[rows]
        scored.offer(product, block.features, rows, closed)
        nearby.offer(product[: block.n], rows, partition.ids[rows], out)
    return Sweep(
        rows=int(partition.available.sum()),
        searches=nearby.result(),
        sample=sample_partition(partition, request.key, request.sample),
        **scored.result(closed),
    )


class _Scored:
    """What a pass makes of the head's columns of the product, which come first: scores, and counts of predictions."""

    def __init__(self, partition: Partition, reader: ProductReader | None, request: SweepRequest) -> None:
        classes, rows = (0, 0) if reader is None else (reader.classes, reader.rows)
        self._reader, self._ids, device = reader, partition.ids, partition.device
        self._names = request.scores if reader is not None else ()
        self._best = {name: Best(1, request.top, device) for name in self._names}
        self._counts = torch.zeros(classes, dtype=torch.long, device=device)
        self._histograms = {name: torch.zeros(BINS, dtype=torch.long, device=device) for name in self._names}
        self._size = BLOCK_ROWS if reader is None else reader.block
        blocks = max(TOGETHER // (self._size * max(rows, 1)), 1)
        self._held = torch.zeros(rows, blocks * self._size, device=device)
        self._start = self._stop = self._filled = 0

    def offer(self, product: torch.Tensor, features: torch.Tensor, rows: slice, closed: torch.Tensor | None) -> None:
        """Take the products [n, m] of the next block of rows; of all rows those marked `closed` [N] do not count."""
        if self._reader is None:
            return
        self._reader.read(product, features, self._held[:, self._filled : self._filled + self._size])
        self._filled, self._stop = self._filled + self._size, rows.stop
        if self._filled == self._held.shape[1]:
            self._settle(self._reader, closed)

    def _settle(self, reader: ProductReader, closed: torch.Tensor | None) -> None:
        """Score what was taken since the last time."""
        rows, n = slice(self._start, self._stop), self._stop - self._start
        out = None if closed is None else closed[rows]
        # Whole blocks until the last moment: elementwise kernels, too, treat the tail of an array apart.
        with one_thread():
            predicted = reader.predicted(self._held)
            scores = {name: SCORES[name](predicted)[:n] for name in self._names}
            probabilities = predicted.probabilities
        self._counts += count_predicted(reader.inputs.likelihood, probabilities[:, :n], out)
        for name, values in scores.items():
            bins = (values * BINS).long().clamp_(0, BINS - 1)
            self._histograms[name] += torch.bincount(bins if out is None else bins[~out], minlength=BINS)
            values = values if out is None else values.masked_fill(out, -torch.inf)
            self._best[name].offer(values[:, None], self._ids[rows])
        self._start, self._filled = self._stop, 0

    def result(self, closed: torch.Tensor | None) -> dict[str, Any]:
        """The fields of a `Sweep`."""
        if self._reader is not None and self._filled:
            self._settle(self._reader, closed)
        return {
            "class_counts": self._counts.cpu().numpy(),
            "histograms": {name: self._histograms[name].cpu().numpy() for name in self._names},
            "top": {name: self._best[name].result()[0] for name in self._names},
        }


class _Nearby:
    """The searches of a pass, each over its own columns of the product, which begin after the head's."""

    def __init__(self, partition: Partition, searches: Sequence[Search], classes: int) -> None:
        empty = np.empty((0, partition.dim), np.float32)
        self.similarity = Similarity(partition, np.concatenate([empty, *(search.anchors for search in searches)]))
        cuts = np.cumsum([0, *(len(search.anchors) for search in searches)])
        self._classes = classes
        self._lanes = [
            (slice(int(low), int(high)), Best(int(high - low), search.each, partition.device),
             Best(min(int(high - low), 1), search.nearest, partition.device))
            for search, low, high in zip(searches, cuts, cuts[1:], strict=False)
        ]  # fmt: skip

    def offer(self, product: torch.Tensor, rows: slice, ids: NDArray[np.int64], out: torch.Tensor | None) -> None:
        """Take the products [n, >= classes + anchors] of some rows; those marked `out` [n] are never found."""
        for place, each, nearest in self._lanes:
            if place.start == place.stop:
                continue
            values = product[:, self._classes + place.start : self._classes + place.stop]
            few = self.similarity.above(values, rows, each.floor) if nearest.m == 0 else None
            if few is None:
                values = self.similarity(values, rows, place)
            else:
                values = self.similarity(values[few], rows.start + few, place)
            closed = out if out is None or few is None else out[few]
            if closed is not None:
                values.masked_fill_(closed[:, None], -torch.inf)
            each.offer(values, ids if few is None else ids[few.cpu().numpy()])
            if nearest.m:
                nearest.offer(values.amax(1, keepdim=True), ids)

    def result(self) -> tuple[Neighbours, ...]:
        nothing = (np.empty(0, np.int64), np.empty(0, np.float32))
        return tuple(
            Neighbours(of_each=each.result(), nearest=next(iter(nearest.result()), nothing))
            for _, each, nearest in self._lanes
        )


def count_predicted(likelihood: Likelihood, probabilities: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
    """[C] items of which each output is predicted (`Likelihood.predicted`); rows marked `out` [n] do not count."""
    top = likelihood.predicted(probabilities)
    return (top if out is None else top & ~out).sum(1)


def sample_partition(partition: Partition, key: int, size: int) -> Ranked:
    """The `size` available items of lowest hash; over partitions, a uniform sample of the pool whatever its
    layout."""
    if size == 0:
        return np.empty(0, np.int64), np.empty(0)
    ids = partition.ids[partition.available]
    draws = -item_uniform(key, ids)
    if len(ids) > size:
        few = np.argpartition(-draws, size - 1)[:size]
        ids, draws = ids[few], draws[few]
    order = np.lexsort((ids, -draws))
    return ids[order], draws[order]


def merge(parts: Sequence[Sweep], request: SweepRequest) -> Sweep:
    """The sweep of the whole pool from those of its partitions, in any order."""

    def ranked(lists: Sequence[Ranked], m: int) -> Ranked:
        return best_of(np.concatenate([ids for ids, _ in lists]), np.concatenate([values for _, values in lists]), m)

    first = parts[0]
    return Sweep(
        rows=sum(part.rows for part in parts),
        class_counts=np.sum([part.class_counts for part in parts], axis=0),
        histograms={name: np.sum([part.histograms[name] for part in parts], axis=0) for name in first.histograms},
        top={name: ranked([part.top[name] for part in parts], request.top) for name in first.top},
        searches=tuple(
            Neighbours(
                of_each=[
                    ranked([part.searches[i].of_each[a] for part in parts], search.each)
                    for a in range(len(search.anchors))
                ],
                nearest=ranked([part.searches[i].nearest for part in parts], search.nearest),
            )
            for i, search in enumerate(request.searches)
        ),
        sample=ranked([part.sample for part in parts], request.sample),
    )
