"""How much the labels of several items, taken together, would say of the weights; and the greedy batch by it.

A batch of neighbours tells less than the sum of what its items tell one by one. Labels are independent given the
weights, so what a further item adds only falls as the batch grows, and what it added earlier is an upper bound (Minoux
1978): an item whose bound does not stand out need not be looked at.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet.partition import ALIGN
from raysal.rng import derive, generator
from raysal.select.drawn import NO_INFORMATION, TINY, entropy
from raysal.sweep.linear import one_thread
from raysal.update import Evidence, Head, Quadratic
from raysal.update.laplace import curvature_at, stepping
from raysal.update.posterior import Members

TILE = 48
"""Items that are looked at together. A multiple of 24, as are the rows and columns of every product here, so that none
falls to a kernel for what is left over at the edge, which rounds otherwise (see distances.py)."""
HELD_BYTES = 2**26
"""What the distributions of a tile over labels and configurations may take at a time."""


class Information(Protocol):
    """What labels of the items picked so far leave to be said by others."""

    def gains(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Nats that each of at most TILE items would add."""
        ...

    def add(self, row: int) -> bool:
        """Pick an item. Returns whether what it told is now part of what was known from the start: gains of before
        the picks, and not those since, are then what bounds the gains to come."""
        ...


def greedy(information: Information, items: int, k: int) -> tuple[list[int], list[float]]:
    """(Rows, gains in nats) of up to k of the items, each the one that adds most; ties to the lower row. It ends early
    once none adds anything.

    An item is looked at when its gain of an earlier time is the largest there is: that is the greedy batch where gains
    cannot rise, and what defines the batch where they can, by the noise of their estimate. Items are looked at in
    tiles, but a gain computed too early is not heeded, so the batch does not depend on the tiles.
    """
    tiles = (np.arange(start, min(start + TILE, items)) for start in range(0, items, TILE))
    gains = np.concatenate([np.empty(0), *map(information.gains, tiles)])
    from_start, at_start = gains.copy(), True
    fresh = np.ones(items, bool)
    picks: list[int] = []
    found: list[float] = []
    known: dict[int, float] = {}
    while len(picks) < min(k, items):
        top = int(gains.argmax())  # the first of equals
        if gains[top] <= NO_INFORMATION:
            break
        if fresh[top]:
            picks.append(top)
            found.append(float(gains[top]))
            at_start = information.add(top)
            from_start[top] = gains[top] = -np.inf
            if at_start:
                gains = from_start.copy()
            fresh[:] = False
            known.clear()
            continue
        if top not in known:
            waiting = np.where(fresh, -np.inf, gains)
            waiting[list(known)] = -np.inf
            some = np.sort(np.argsort(-waiting, kind="stable")[:TILE])
            some = some[waiting[some] > -np.inf]
            known.update(zip(some.tolist(), information.gains(some).tolist(), strict=True))
        gains[top], fresh[top] = known[top], True
        if at_start:
            from_start[top] = gains[top]
    return picks, found


class OfClasses:
    """Joint mutual information between the classes of a batch and T draws of the weights (BatchBALD; Kirsch et al.,
    NeurIPS 2019).

    The classes that the batch may turn out to have are its configurations. Item x adds E[H(y_x | configuration)] -
    E_t[H(y_x | t)]: the entropy of its class under the draws, each weighted by how likely it makes the configuration.
    All C^n configurations are taken while they are at most `most`. Beyond, they are sampled: as many from each draw of
    the weights, S = ceil(most / T), an item at a time, so that a pick adds a class to every configuration and nothing
    is drawn anew. Classes are drawn by (key, pick). Which item adds most is then an estimate, without bias; the sum
    over classes of x itself is never sampled.

    T draws cannot tell more than log T. So when the classes picked leave fewer than `fewest` draws likely (the
    effective number, 1 / Σ w², over configurations), the picks are taken into the posterior, in closed form and without
    their classes, as `update` takes labels into its covariance; T new draws are made of that, and the configurations
    start again. `fewest` = 0 is as published, and so is an ensemble, which has no closed form: they end at log T.

    A look at a tile costs O(TILE C T (M + d)); memory 16 M T bytes for configurations, 8 T C D for the draws, 8 TILE C
    T, and HELD_BYTES. New draws cost what the posterior's structure does.
    """

    def __init__(
        self, vectors: NDArray[np.float32], head: Head, draws: NDArray[np.float64], most: int, fewest: int, key: int
    ) -> None:
        self.draws, self.classes, self._width = draws.shape
        self._vectors, self._head, self._key, self._fewest = vectors, head, key, fewest
        self._each = -(-most // self.draws)
        self._rows: list[int] = []
        self._start(draws)

    def _start(self, draws: NDArray[np.float64]) -> None:
        """With these draws [T, C, D] and no picks."""
        count = self.draws * self.classes
        columns = np.zeros((self._width, -(-count // ALIGN) * ALIGN))
        columns[:, :count] = draws.reshape(count, -1).T
        self._columns = torch.from_numpy(columns)
        self.sampled = False
        self._log_likelihood = torch.zeros(1, self.draws, dtype=torch.float64)  # of each configuration, by draw
        self._picked: list[torch.Tensor] = []
        self._weigh()

    @property
    def configurations(self) -> int:
        """How many are looked at now."""
        return len(self._log_likelihood)

    def probabilities(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Class probabilities [TILE, C, T] of the items, and of zero vectors below."""
        x = np.zeros((TILE, len(self._columns)))
        x[: len(rows), :-1] = self._vectors[rows]
        x[:, -1] = 1
        with one_thread():  # also the product, and those of gains: see drawn.py
            product = torch.from_numpy(x) @ self._columns
            logits = product[:, : self.draws * self.classes].view(TILE, self.draws, self.classes)
            return torch.softmax(logits.transpose(1, 2).contiguous(), 1)

    def gains(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        p = self.probabilities(rows)
        with one_thread():
            gained = -entropy(p, 1).mean(1)
        flat = p.view(-1, self.draws)
        step = max(HELD_BYTES // (8 * len(flat)) // TILE, 1) * TILE
        for start in range(0, self._weights.shape[1], step):
            with one_thread():
                told = flat @ self._weights[:, start : start + step]
                each = entropy(told.view(TILE, self.classes, -1), 1)
                gained += (each * self._shares[start : start + step]).sum(1)
        return np.asarray(gained.numpy()[: len(rows)])

    def add(self, row: int) -> bool:
        p = self.probabilities(np.array([row]))[0]
        self._rows.append(row)
        self._picked.append(p)
        with one_thread():
            if not self.sampled and self.configurations * self.classes > self._each * self.draws:
                self.sampled = True
                self._log_likelihood = torch.zeros(self._each * self.draws, self.draws, dtype=torch.float64)
                for place, one in enumerate(self._picked, len(self._rows) - len(self._picked)):
                    self._log_likelihood += self._sample(one, place)
            elif self.sampled:
                self._log_likelihood += self._sample(p, len(self._rows) - 1)
            else:
                both = self._log_likelihood[:, None] + p.clamp_min(TINY).log()
                self._log_likelihood = both.view(-1, self.draws)
            self._weigh()
            effective = float(self._shares @ (1 / (self._weights**2).sum(0).clamp_min(TINY)))
        if effective >= self._fewest or isinstance(self._head.posterior, Members):
            return False
        self._renew()
        return True

    def _renew(self) -> None:
        """Take the picks into the posterior, and new draws from it."""
        some = self._vectors[self._rows[-len(self._picked) :]].astype(np.float64)
        told = Evidence(features=some, targets=np.zeros((len(some), self.classes)), weights=np.ones(len(some)))
        posterior = stepping(self._head).absorb(told.rows, curvature_at(self._head, told))
        self._head = replace(self._head, posterior=posterior)
        noise = generator(derive(self._key, "draws", len(self._rows)))
        shape = (self.draws, *self._head.mean.shape)
        self._start(posterior.draws(self._head.mean, noise.standard_normal(shape)) / self._head.temperature)

    def _sample(self, p: torch.Tensor, place: int) -> torch.Tensor:
        """What a class drawn for every configuration, from its own draw of the weights, makes of every draw's log
        likelihood [M, T]; p is [C, T]."""
        uniform = torch.from_numpy(generator(derive(self._key, "classes", place)).random(self._each * self.draws))
        below = p.cumsum(0).T.repeat(self._each, 1)  # configuration m comes of draw m mod T
        drawn = (uniform[:, None] > below).sum(1).clamp_max(self.classes - 1)
        return p.clamp_min(TINY).log()[drawn]

    def _weigh(self) -> None:
        """Weights of the draws under each configuration [T, M], and the shares of the configurations [M], padded."""
        count = self.configurations
        wide = -(-count // TILE) * TILE
        with one_thread():
            self._weights = torch.full((self.draws, wide), 1 / self.draws, dtype=torch.float64)
            self._weights[:, :count] = torch.softmax(self._log_likelihood, 1).T
            self._shares = torch.zeros(wide, dtype=torch.float64)
            likely = torch.logsumexp(self._log_likelihood, 1)
            self._shares[:count] = 1 / count if self.sampled else torch.softmax(likely, 0)


class OfNumbers:
    """The same for a head that predicts numbers, in closed form: log det(I + K / noise) / 2 of the covariance K of the
    batch's outputs. An item adds log(1 + v / noise) / 2, v its variance once the batch is known.

    Several numbers of an item are added up, as if independent; with one covariance for all outputs they are. A look is
    free, a pick O(n (r + picks)) for each output, r the rows of `project`; memory 8 n (r + picks) bytes for each.
    """

    def __init__(self, vectors: NDArray[np.float32], variance: Quadratic, noise: float) -> None:
        project, combine = variance
        rows = np.column_stack([vectors.astype(np.float64), np.ones(len(vectors))])
        self._noise = noise
        with one_thread():
            seen = torch.from_numpy(rows) @ torch.tensor(project).T
            self._features = [seen[:, one > 0] * torch.tensor(np.sqrt(one[one > 0])) for one in combine]
            self._variance = torch.stack([(features**2).sum(1) for features in self._features])
        self._told: list[list[torch.Tensor]] = [[] for _ in combine]

    def gains(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        with one_thread():
            left = self._variance[:, torch.from_numpy(rows)].clamp_min(0)
            return np.asarray((torch.log1p(left / self._noise).sum(0) / 2).numpy())

    def add(self, row: int) -> bool:
        with one_thread():
            for features, told, left in zip(self._features, self._told, self._variance, strict=True):
                covariance = features @ features[row]
                for earlier in told:
                    covariance -= earlier * earlier[row]
                told.append(covariance / (left[row] + self._noise).sqrt())
                left -= told[-1] ** 2
        return False
