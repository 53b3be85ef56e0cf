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
from raysal.strategies.information.posterior_samples import (
    LEAST_PROBABILITY,
    NEGLIGIBLE_NATS,
    PosteriorSamples,
    entropy_nats,
)

TILE_ITEMS = 2 * FLOAT64_STEP
"""Items that are looked at together: the rows of every product here."""
TILE_BYTES = 2**26
"""What the distributions of a tile over labels and configurations may take at a time."""


class BatchInformation(Protocol):
    """How many nats each item would add to what the labels of the items picked so far say of the weights."""

    def gains(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """What each of some items would add.

        Args:
            rows: int64 [n], at most TILE_ITEMS.

        Returns:
            float64 [n] nats.
        """
        ...

    def add(self, row: int) -> bool:
        """Pick an item.

        Args:
            row: which.

        Returns:
            Whether its label now counts as known from the start. Then gains from before the first pick bound the gains
            to come; those since do not.
        """
        ...


def greedy_batch(information: BatchInformation, items: int, k: int) -> tuple[list[int], list[float]]:
    """The greedy batch: each pick is the item that adds most; ties to the lower row.

    An item is looked at when its gain of an earlier time is the largest there is. That is the greedy batch where gains
    cannot rise, and what defines the batch where they can, by the noise of their estimate. Items are looked at in
    tiles, but a gain computed too early is not heeded, so the batch does not depend on the tiles.

    Args:
        information: of the items; it takes in the picks.
        items: how many there are.
        k: how many picks at most; it ends early once no item adds anything.

    Returns:
        (rows, gains in nats), in pick order.
    """
    tiles = (np.arange(start, min(start + TILE_ITEMS, items)) for start in range(0, items, TILE_ITEMS))
    gains = np.concatenate([np.empty(0), *map(information.gains, tiles)])
    from_start, at_start = gains.copy(), True
    up_to_date = np.ones(items, bool)
    picks: list[int] = []
    found: list[float] = []
    computed: dict[int, float] = {}
    while len(picks) < min(k, items):
        top = int(gains.argmax())  # the first of equals
        if gains[top] <= NEGLIGIBLE_NATS:
            break
        if up_to_date[top]:
            picks.append(top)
            found.append(float(gains[top]))
            at_start = information.add(top)
            from_start[top] = gains[top] = -np.inf
            if at_start:
                gains = from_start.copy()
            up_to_date[:] = False
            computed.clear()
            continue
        if top not in computed:
            waiting = np.where(up_to_date, -np.inf, gains)
            waiting[list(computed)] = -np.inf
            some = np.sort(np.argsort(-waiting, kind="stable")[:TILE_ITEMS])
            some = some[waiting[some] > -np.inf]
            computed.update(zip(some.tolist(), information.gains(some).tolist(), strict=True))
        gains[top], up_to_date[top] = computed[top], True
        if at_start:
            from_start[top] = gains[top]
    return picks, found


class AnswerInformation:
    """Joint mutual information between the answers to a batch and T samples of the weights.

    BatchBALD (Kirsch et al., NeurIPS 2019). With several labels at once each is a question with two answers, and
    information adds up over them (`Likelihood.answer_probabilities`).

    T samples cannot tell more than log T. So when the answers picked leave fewer than `fewest` samples likely (the
    effective number, 1 / Σ w², over configurations, of the question that leaves least), the picks are taken into the
    posterior, in closed form and without their classes, as `update` takes labels into its covariance. T new samples are
    taken from that, and the configurations start again. `fewest` = 0 is as published, and so is an ensemble, which has
    no closed form: they end at log T.

    A look at a tile costs O(TILE_ITEMS C T (M + d)), M configurations; memory 16 M T bytes for each question, 8 T C D
    for the samples, 8 TILE_ITEMS C T, and TILE_BYTES. New samples cost what the posterior's structure does.
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        head: Head,
        samples: PosteriorSamples,
        *,
        configurations: int,
        fewest: int,
        key: int,
    ) -> None:
        """Of items with vectors [n, d]; `configurations` are enumerated or sampled at most, about."""
        self._count = len(samples.weights)
        self._vectors, self._head, self._key, self._fewest = vectors, head, key, fewest
        self._per_sample = ceil_div(configurations, self._count)
        self._rows: list[int] = []
        self._start(samples)

    def _start(self, samples: PosteriorSamples) -> None:
        """Begin with these samples and without picks."""
        self._samples, self._absorbed = samples, len(self._rows)
        _, self._outputs, width = samples.weights.shape
        self._weights = AlignedMatrix(samples.weights.reshape(self._count * self._outputs, width), torch.float64)
        questions = samples.likelihood.questions(self._outputs)
        self.questions = [
            Configurations(self._count, self._per_sample, derive(self._key, "classes", question, self._absorbed))
            for question in range(questions)
        ]

    def probabilities(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """The probabilities of answers of some items by every sample.

        Args:
            rows: int64 [n], at most TILE_ITEMS.

        Returns:
            float64 [TILE_ITEMS, Q, A, T] of the items, and of zero vectors below.
        """
        x = np.zeros((TILE_ITEMS, self._vectors.shape[1] + 1))
        x[: len(rows), :-1] = self._vectors[rows]
        x[:, -1] = 1
        with one_thread():  # also the product, and those of gains: see posterior_samples.py
            product = self._weights.products(torch.from_numpy(x))
            outputs = product.view(TILE_ITEMS, self._count, self._outputs)
            return self._samples.likelihood.answer_probabilities(outputs.transpose(1, 2).contiguous())

    def gains(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """As `BatchInformation.gains`: the sum over questions."""
        p = self.probabilities(rows)
        with one_thread():
            gained = torch.zeros(TILE_ITEMS, dtype=torch.float64)
            for question, own in zip(self.questions, p.unbind(1), strict=True):
                gained += question.gains(own)
        return np.asarray(gained.numpy()[: len(rows)])

    def add(self, row: int) -> bool:
        """As `BatchInformation.add`: True where new samples were taken."""
        p = self.probabilities(np.array([row]))[0]
        self._rows.append(row)
        with one_thread():
            for question, own in zip(self.questions, p, strict=True):
                question.add(own)
            effective = min(question.effective_samples() for question in self.questions)
        if effective >= self._fewest or not self._head.posterior.closed_form:
            return False
        self._take_new_samples()
        return True

    def _take_new_samples(self) -> None:
        """Take the picks into the posterior, and new samples from it."""
        some = self._vectors[self._rows[self._absorbed :]].astype(np.float64)
        # As if of every class: which of the last fit does not matter, and those that joined learn from their own alone.
        evidence = Evidence(features=some, targets=np.ones((len(some), self._outputs)), weights=np.ones(len(some)))
        noise = generator(derive(self._key, "draws", len(self._rows)))
        shape = (self._count, *self._head.mean.shape)
        with one_thread(numpy=True):
            posterior = self._head.posterior.updatable().absorb(evidence.rows, curvature_at(self._head, evidence))
            weights = posterior.samples(self._head.mean, noise.standard_normal(shape)) / self._head.temperature
        self._head = replace(self._head, posterior=posterior)
        self._start(PosteriorSamples(weights, self._head.likelihood))


class Configurations:
    """What the items of a batch may turn out to answer to one question, and how likely T samples make that.

    Item x adds E[H(y_x | configuration)] - E_t[H(y_x | t)]: the entropy of its answer under the samples, each weighted
    by how likely it makes the configuration.

    All A^n configurations are taken while they are at most `per_sample` T. Beyond, they are sampled: `per_sample` from
    every sample of the weights, an item at a time, so that a pick adds an answer to every configuration and nothing is
    sampled anew. Answers are sampled by (key, pick). Which item adds most is then an estimate, without bias; the sum
    over answers of x itself is never sampled. For one thread.
    """

    def __init__(self, samples: int, per_sample: int, key: int) -> None:
        self._samples, self._per_sample, self._key = samples, per_sample, key
        self.sampled = False
        """whether configurations are sampled, and not all of them"""
        self._picked: list[torch.Tensor] = []
        self._log_likelihood = torch.zeros(1, samples, dtype=torch.float64)
        """[M, T] of each configuration, by sample"""
        self._weigh()

    def __len__(self) -> int:
        """How many are looked at now: M."""
        return len(self._log_likelihood)

    def gains(self, p: torch.Tensor) -> torch.Tensor:
        """What items would add.

        Args:
            p: float64 [TILE_ITEMS, A, T], the probabilities of their answers.

        Returns:
            float64 [TILE_ITEMS] nats.
        """
        by_answer = p.reshape(-1, self._samples)
        gained = -entropy_nats(p, 1).mean(1)
        step = max(TILE_BYTES // (8 * len(by_answer)) // TILE_ITEMS, 1) * TILE_ITEMS
        for start in range(0, self._weights.shape[1], step):
            predicted = by_answer @ self._weights[:, start : start + step]
            each = entropy_nats(predicted.view(TILE_ITEMS, p.shape[1], -1), 1)
            gained += (each * self._shares[start : start + step]).sum(1)
        return gained

    def add(self, p: torch.Tensor) -> None:
        """Pick an item.

        Args:
            p: float64 [A, T], the probabilities of its answers.
        """
        self._picked.append(p)
        if not self.sampled and len(self) * len(p) > self._per_sample * self._samples:
            self.sampled = True
            shape = (self._per_sample * self._samples, self._samples)
            self._log_likelihood = torch.zeros(shape, dtype=torch.float64)
            for place, one in enumerate(self._picked):
                self._log_likelihood += self._sampled_answers(one, place)
        elif self.sampled:
            self._log_likelihood += self._sampled_answers(p, len(self._picked) - 1)
        else:
            each = self._log_likelihood[:, None] + p.clamp_min(LEAST_PROBABILITY).log()
            self._log_likelihood = each.view(-1, self._samples)
        self._weigh()

    def effective_samples(self) -> float:
        """The number of samples of the weights that the answers leave likely, on average over configurations."""
        return float(self._shares @ (1 / (self._weights**2).sum(0).clamp_min(LEAST_PROBABILITY)))

    def _sampled_answers(self, p: torch.Tensor, place: int) -> torch.Tensor:
        """The log likelihood [M, T] of an answer for every configuration, sampled from its own weights."""
        uniform = torch.from_numpy(generator(derive(self._key, place)).random(self._per_sample * self._samples))
        below = p.cumsum(0).T.repeat(self._per_sample, 1)  # configuration m comes of sample m mod T
        answers = (uniform[:, None] > below).sum(1).clamp_max(len(p) - 1)
        return p.clamp_min(LEAST_PROBABILITY).log()[answers]

    def _weigh(self) -> None:
        """Weights of the samples under each configuration [T, M], and the shares of the configurations [M], padded."""
        wide = round_up(len(self), TILE_ITEMS)
        self._weights = torch.full((self._samples, wide), 1 / self._samples, dtype=torch.float64)
        self._weights[:, : len(self)] = torch.softmax(self._log_likelihood, 1).T
        self._shares = torch.zeros(wide, dtype=torch.float64)
        likely = torch.logsumexp(self._log_likelihood, 1)
        self._shares[: len(self)] = 1 / len(self) if self.sampled else torch.softmax(likely, 0)


class NumberInformation:
    """The same for a head that predicts numbers, in closed form: log det(I + K / noise) / 2.

    K is the covariance of the batch's outputs. An item adds log(1 + v / noise) / 2, v its variance once the labels of
    the batch are known. Several numbers of an item are added up, as if independent; with one covariance for all outputs
    they are. A look is free, a pick O(n (r + picks)) for each output, r the rows of `project`; memory 8 n (r + picks)
    bytes for each.
    """

    def __init__(self, vectors: NDArray[np.float32], variance: Quadratic, noise: float) -> None:
        """Of items with vectors [n, d]."""
        project, combine = variance
        rows = np.column_stack([vectors.astype(np.float64), np.ones(len(vectors))])
        self._noise = noise
        with one_thread():
            projected = torch.from_numpy(rows) @ torch.tensor(project).T
            self._features = [projected[:, one > 0] * torch.tensor(np.sqrt(one[one > 0])) for one in combine]
            self._variance = torch.stack([(features**2).sum(1) for features in self._features])
        self._explained: list[list[torch.Tensor]] = [[] for _ in combine]
        """per output and pick, [n]: its square is the variance that the pick's label explains"""

    def gains(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """As `BatchInformation.gains`: the sum over numbers of an item."""
        with one_thread():
            remaining = self._variance[:, torch.from_numpy(rows)].clamp_min(0)
            return np.asarray((torch.log1p(remaining / self._noise).sum(0) / 2).numpy())

    def add(self, row: int) -> bool:
        """As `BatchInformation.add`: False."""
        with one_thread():
            for features, explained, remaining in zip(self._features, self._explained, self._variance, strict=True):
                covariance = features @ features[row]
                for earlier in explained:
                    covariance -= earlier * earlier[row]
                explained.append(covariance / (remaining[row] + self._noise).sqrt())
                remaining -= explained[-1] ** 2
        return False
