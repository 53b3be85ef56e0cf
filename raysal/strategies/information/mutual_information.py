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

from raysal.models.evidence import Evidence
from raysal.models.head import Head
from raysal.models.online.update import curvature_at
from raysal.models.posterior import Quadratic
from raysal.numerics import FLOAT64_STEP, AlignedMatrix, ceil_div, one_thread, round_up
from raysal.rng import derive, generator
from raysal.strategies.information.posterior_samples import NO_INFORMATION, TINY, PosteriorSamples, entropy

ITEMS = 2 * FLOAT64_STEP
"""Items that are looked at together: the rows of every product here."""
HELD_BYTES = 2**26
"""What the distributions of a tile over labels and configurations may take at a time."""


class Information(Protocol):
    """What labels of the items picked so far leave to be said by others."""

    def gains(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Nats that each of at most ITEMS items would add."""
        ...

    def add(self, row: int) -> bool:
        """Pick an item. Returns whether what it told is now part of what was known from the start: gains of before
        the picks, and not those since, are then what bounds the gains to come.
        """
        ...


def greedy(information: Information, items: int, k: int) -> tuple[list[int], list[float]]:
    """(Rows, gains in nats) of up to k of the items, each the one that adds most; ties to the lower row. It ends early
    once none adds anything.

    An item is looked at when its gain of an earlier time is the largest there is: that is the greedy batch where gains
    cannot rise, and what defines the batch where they can, by the noise of their estimate. Items are looked at in
    tiles, but a gain computed too early is not heeded, so the batch does not depend on the tiles.
    """
    tiles = (np.arange(start, min(start + ITEMS, items)) for start in range(0, items, ITEMS))
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
            some = np.sort(np.argsort(-waiting, kind="stable")[:ITEMS])
            some = some[waiting[some] > -np.inf]
            known.update(zip(some.tolist(), information.gains(some).tolist(), strict=True))
        gains[top], fresh[top] = known[top], True
        if at_start:
            from_start[top] = gains[top]
    return picks, found


class OfClasses:
    """Joint mutual information between the classes of a batch and T draws of the weights (BatchBALD; Kirsch et al.,
    NeurIPS 2019). With several labels at once each is a question with two answers, and information adds up over them
    (`Likelihood.answer_probabilities`).

    T draws cannot tell more than log T. So when the classes picked leave fewer than `fewest` draws likely (the
    effective number, 1 / Σ w², over configurations, of the question that leaves least), the picks are taken into the
    posterior, in closed form and without their classes, as `update` takes labels into its covariance; T new draws are
    made of that, and the configurations start again. `fewest` = 0 is as published, and so is an ensemble, which has no
    closed form: they end at log T.

    A look at a tile costs O(ITEMS C T (M + d)), M configurations; memory 16 M T bytes for each question, 8 T C D for
    the draws, 8 ITEMS C T, and HELD_BYTES. New draws cost what the posterior's structure does.
    """

    def __init__(
        self, vectors: NDArray[np.float32], head: Head, draws: PosteriorSamples, most: int, fewest: int, key: int
    ) -> None:
        self.draws = len(draws.weights)
        self._vectors, self._head, self._key, self._fewest = vectors, head, key, fewest
        self._each = ceil_div(most, self.draws)
        self._rows: list[int] = []
        self._start(draws)

    def _start(self, draws: PosteriorSamples) -> None:
        """With these draws and no picks."""
        self._draws, self._since = draws, len(self._rows)
        _, self._outputs, width = draws.weights.shape
        count = self.draws * self._outputs
        self._weights = AlignedMatrix(draws.weights.reshape(count, width), torch.float64)
        questions = draws.likelihood.questions(self._outputs)
        self.questions = [
            Configurations(self.draws, self._each, derive(self._key, "classes", question, self._since))
            for question in range(questions)
        ]

    def probabilities(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """[ITEMS, Q, A, T] of the items, and of zero vectors below."""
        x = np.zeros((ITEMS, self._vectors.shape[1] + 1))
        x[: len(rows), :-1] = self._vectors[rows]
        x[:, -1] = 1
        with one_thread():  # also the product, and those of gains: see posterior_samples.py
            product = self._weights.products(torch.from_numpy(x))
            outputs = product.view(ITEMS, self.draws, self._outputs)
            return self._draws.likelihood.answer_probabilities(outputs.transpose(1, 2).contiguous())

    def gains(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        p = self.probabilities(rows)
        with one_thread():
            gained = torch.zeros(ITEMS, dtype=torch.float64)
            for question, own in zip(self.questions, p.unbind(1), strict=True):
                gained += question.gains(own)
        return np.asarray(gained.numpy()[: len(rows)])

    def add(self, row: int) -> bool:
        p = self.probabilities(np.array([row]))[0]
        self._rows.append(row)
        with one_thread():
            for question, own in zip(self.questions, p, strict=True):
                question.add(own)
            effective = min(question.effective() for question in self.questions)
        if effective >= self._fewest or not self._head.posterior.closed_form:
            return False
        self._renew()
        return True

    def _renew(self) -> None:
        """Take the picks into the posterior, and new draws from it."""
        some = self._vectors[self._rows[self._since :]].astype(np.float64)
        # As if of every class: which of the last fit does not matter, and those that joined learn from their own alone.
        told = Evidence(features=some, targets=np.ones((len(some), self._outputs)), weights=np.ones(len(some)))
        noise = generator(derive(self._key, "draws", len(self._rows)))
        shape = (self.draws, *self._head.mean.shape)
        with one_thread(numpy=True):
            posterior = self._head.posterior.updatable().absorb(told.rows, curvature_at(self._head, told))
            weights = posterior.samples(self._head.mean, noise.standard_normal(shape)) / self._head.temperature
        self._head = replace(self._head, posterior=posterior)
        self._start(PosteriorSamples(weights, self._head.likelihood))


class Configurations:
    """What the items of a batch may turn out to answer to one question, and how likely T draws make that. Item x adds
    E[H(y_x | configuration)] - E_t[H(y_x | t)]: the entropy of its answer under the draws, each weighted by how likely
    it makes the configuration.

    All A^n configurations are taken while they are at most `each` T. Beyond, they are sampled: `each` from every draw
    of the weights, an item at a time, so that a pick adds an answer to every configuration and nothing is drawn anew.
    Answers are drawn by (key, pick). Which item adds most is then an estimate, without bias; the sum over answers of x
    itself is never sampled. For one thread.
    """

    def __init__(self, draws: int, each: int, key: int) -> None:
        self._draws, self._each, self._key = draws, each, key
        self.sampled = False
        self._picked: list[torch.Tensor] = []
        self._log_likelihood = torch.zeros(1, draws, dtype=torch.float64)  # of each configuration, by draw
        self._weigh()

    def __len__(self) -> int:
        """How many are looked at now."""
        return len(self._log_likelihood)

    def gains(self, p: torch.Tensor) -> torch.Tensor:
        """Nats [ITEMS] that items of these probabilities [ITEMS, A, T] would add."""
        flat = p.reshape(-1, self._draws)
        gained = -entropy(p, 1).mean(1)
        step = max(HELD_BYTES // (8 * len(flat)) // ITEMS, 1) * ITEMS
        for start in range(0, self._weights.shape[1], step):
            told = flat @ self._weights[:, start : start + step]
            each = entropy(told.view(ITEMS, p.shape[1], -1), 1)
            gained += (each * self._shares[start : start + step]).sum(1)
        return gained

    def add(self, p: torch.Tensor) -> None:
        """Pick an item of probabilities [A, T]."""
        self._picked.append(p)
        if not self.sampled and len(self) * len(p) > self._each * self._draws:
            self.sampled = True
            self._log_likelihood = torch.zeros(self._each * self._draws, self._draws, dtype=torch.float64)
            for place, one in enumerate(self._picked):
                self._log_likelihood += self._sample(one, place)
        elif self.sampled:
            self._log_likelihood += self._sample(p, len(self._picked) - 1)
        else:
            self._log_likelihood = (self._log_likelihood[:, None] + p.clamp_min(TINY).log()).view(-1, self._draws)
        self._weigh()

    def effective(self) -> float:
        """The number of draws that the answers leave likely, on average over configurations."""
        return float(self._shares @ (1 / (self._weights**2).sum(0).clamp_min(TINY)))

    def _sample(self, p: torch.Tensor, place: int) -> torch.Tensor:
        """What an answer drawn for every configuration, from its own draw of the weights, makes of every draw's log
        likelihood [M, T].
        """
        uniform = torch.from_numpy(generator(derive(self._key, place)).random(self._each * self._draws))
        below = p.cumsum(0).T.repeat(self._each, 1)  # configuration m comes of draw m mod T
        drawn = (uniform[:, None] > below).sum(1).clamp_max(len(p) - 1)
        return p.clamp_min(TINY).log()[drawn]

    def _weigh(self) -> None:
        """Weights of the draws under each configuration [T, M], and the shares of the configurations [M], padded."""
        wide = round_up(len(self), ITEMS)
        self._weights = torch.full((self._draws, wide), 1 / self._draws, dtype=torch.float64)
        self._weights[:, : len(self)] = torch.softmax(self._log_likelihood, 1).T
        self._shares = torch.zeros(wide, dtype=torch.float64)
        likely = torch.logsumexp(self._log_likelihood, 1)
        self._shares[: len(self)] = 1 / len(self) if self.sampled else torch.softmax(likely, 0)


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
