"""Slow, obvious versions of what the product computes fast: numpy, float64, everything formed in full.

They share no code with the package except `raysal.rng`, whose draws are part of the definition.
Vectors are [n, d]; `ids` [n] name their rows in ascending order; ties go by
`item_order`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.rng import derive, item_order, item_uniform

Floats = NDArray[np.float64]
TARGET = ("class-1", "class-3")
"""The classes that are looked for."""
Ids = NDArray[np.int64]


def probabilities(x: NDArray[np.floating], weight: Floats, bias: Floats) -> Floats:
    """Softmax probabilities [n, C]."""
    logits = x.astype(np.float64) @ weight.T + bias
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def score(name: str, p: Floats) -> Floats:
    """A score of each row of p [n, C], one row at a time."""
    out = []
    for row in p:
        first, *rest = sorted(row, reverse=True)
        if name == "least_confidence":
            out.append(1 - first)
        elif name == "margin":
            out.append(1 - (first - rest[0]) if rest else 0.0)
        elif name == "entropy":
            out.append(-sum(q * math.log(q) for q in row if q > 0) / math.log(len(row)) if rest else 0.0)
        else:
            raise LookupError(f"{name!r} has no slow version yet; write it here")
    return np.array(out)


def covariance(head: Any) -> Floats:
    """[C D, C D], the covariance of all weights of a head, whatever its posterior keeps of it."""
    posterior, (classes, dim) = head.posterior, head.mean.shape
    kind = type(posterior).__name__
    if kind == "Shared":
        return np.kron(np.eye(classes), posterior.root @ posterior.root.T)
    if kind == "Diagonal":
        return np.diag(1 / posterior.precision.ravel())
    if kind == "Kronecker":
        evidence = np.kron(posterior.outputs, posterior.inputs) / posterior.count
        return np.linalg.inv(evidence + posterior.prior * np.eye(classes * dim))
    if kind == "Full":
        return np.array(posterior.root @ posterior.root.T)
    return np.atleast_2d(np.cov(posterior.weights.reshape(len(posterior.weights), -1).T))


def respond(link: str, outputs: Floats) -> Floats:
    """What outputs [C] predict."""
    if link == "softmax":
        powers = np.exp(outputs - outputs.max())
        return powers / powers.sum()
    return np.array([1 / (1 + math.exp(-z)) for z in outputs]) if link == "sigmoid" else outputs


def nats(p: Iterable[float]) -> float:
    return -sum(q * math.log(q) for q in p if q > 0)


def head_score(
    name: str,
    x: NDArray[np.floating],
    head: Any,
    *,
    drawn: Floats,
    previous: Any = None,
    referred: NDArray[np.floating] | None = None,
    targets: Floats | None = None,
) -> Floats:
    """A score of each row of x [n, d] by its definition, one row, one answer, one draw at a time.

    `drawn` [T, C, D] are weights from the posterior; `previous` a head of the same classes; `targets` [m, C] what the
    `referred` [m, d], whose loss `influence` is about, should be answered. Several labels are taken one by one, as
    heads of their own.
    """
    if head.likelihood.name == "softmax" and name in ("least_confidence", "margin", "entropy"):
        return score(name, probabilities(x, head.weight / head.temperature, head.bias / head.temperature))
    everything = covariance(head)
    classes, dim = head.mean.shape
    rows = np.hstack([x.astype(np.float64), np.ones((len(x), 1))])
    pull = np.zeros(classes * dim)
    if name == "influence":
        assert referred is not None
        assert targets is not None
        known = np.hstack([referred.astype(np.float64), np.ones((len(referred), 1))])
        for row, target in zip(known, targets, strict=True):
            pull += np.outer(respond(head.likelihood.name, head.mean @ row) - target, row).ravel() / len(known)
        pull = everything @ pull
    return np.array([_score_of_row(name, row, head, everything, drawn, previous, pull) for row in rows])


def guessed_targets(x: NDArray[np.floating], head: Any, labelled: NDArray[np.floating], targets: Floats) -> Floats:
    """What a head predicts for each row of x [n, d], and what the nearest labelled item says, half each: [n, C]."""
    predicted = []
    for row in np.hstack([x.astype(np.float64), np.ones((len(x), 1))]):
        p = respond(head.likelihood.name, head.mean @ row)
        answers = {"softmax": np.eye(len(p))[p.argmax()], "sigmoid": (p > 0.5).astype(float), "identity": p}
        predicted.append(answers[head.likelihood.name])
    return (np.array(predicted) + nearest_targets(x, labelled, targets)) / 2


def nearest_targets(x: NDArray[np.floating], labelled: NDArray[np.floating], targets: Floats) -> Floats:
    """Of targets [m, C] those of the `labelled` [m, d] nearest to each row of x [n, d]; equally near ones share."""
    found = []
    for row in x:
        away = sq_distance(labelled, row)
        found.append(targets[away == away.min()].mean(0))
    return np.array(found)


def _score_of_row(
    name: str, row: Floats, head: Any, everything: Floats, drawn: Floats, previous: Any, pull: Floats
) -> float:
    (classes, dim), link, t = head.mean.shape, head.likelihood.name, head.temperature
    if name in ("probability", "log_odds"):
        looked_for = [c for c, own in enumerate(head.classes) if own in TARGET]
        logits = head.mean @ row / t
        if link == "softmax":
            odds = sum(math.exp(z) for c, z in enumerate(logits) if c in looked_for) / sum(
                math.exp(z) for c, z in enumerate(logits) if c not in looked_for
            )
        else:
            none = math.prod(1 - 1 / (1 + math.exp(-logits[c])) for c in looked_for)
            odds = (1 - none) / none
        return odds / (1 + odds) if name == "probability" else math.log(odds)
    p, q = respond(link, head.mean @ row / t), respond(link, head.mean @ row)
    blocks = [slice(c * dim, (c + 1) * dim) for c in range(classes)]
    variances = [float(row @ everything[block, block] @ row) for block in blocks]
    if name == "epistemic_variance":
        return float(np.mean(variances)) / t**2
    if name == "tod":
        change = p - respond(link, previous.mean @ row / previous.temperature)
        several = [np.array([d, -d]) for d in change] if link == "sigmoid" else [change]
        return float(np.mean([0.5 * sum(d * d for d in one) for one in several]))
    if name in ("bald", "mean_std", "variation_ratio", "least_confidence", "margin", "entropy"):
        if link == "identity":
            return 0.5 * math.log(1 + variances[0] / head.noise) if name == "bald" else math.sqrt(variances[0])
        ps = np.array([respond(link, weights @ row / t) for weights in drawn])
        tasks = [(p, ps)] if link == "softmax" else [
            (np.array([1 - p[c], p[c]]), np.column_stack([1 - ps[:, c], ps[:, c]])) for c in range(classes)
        ]  # fmt: skip
        return float(np.mean([_score_of_draws(name, best, every) for best, every in tasks]))
    if name not in ("expected_gradient_length", "expected_model_change", "influence"):
        raise KeyError(f"the score {name!r} has no slow version: write it in tests/helpers/reference.py")
    # What each answer would bring: (probability, gradient [C, D]).
    if link == "softmax":
        tasks = [[(p[y], np.outer(q - np.eye(classes)[y], row)) for y in range(classes)]]
    elif link == "sigmoid":
        tasks = [
            [
                (p[c] if y else 1 - p[c], np.outer(np.eye(classes)[c] * (q[c] - y), row))
                for y in (0, 1)
            ]
            for c in range(classes)
        ]  # fmt: skip
    else:
        spread = math.sqrt(head.noise + variances[0])
        nodes, weights = np.polynomial.legendre.leggauss(40)
        z = 5 * (nodes + 1)  # [0, 10], and the same below 0
        weights *= np.exp(-(z**2) / 2)
        halves = list(zip(z, weights / weights.sum() / 2, strict=True))
        tasks = [[(w, np.outer([side * at * spread], row)) for side in (-1, 1) for at, w in halves]]
    if name == "influence" and link != "identity":
        if link == "softmax":
            return float(pull @ np.outer(q - np.eye(classes)[q.argmax()], row).ravel())
        return float(pull @ np.outer([z - (z >= 0.5) for z in q], row).ravel()) / classes
    count = 1.0
    if name == "expected_model_change":
        if link != "identity" and head.posterior.weighting == "categorical":
            count = q.max() * (1 - q.max()) if link == "softmax" else max(z * (1 - z) for z in q)
        precision = np.linalg.inv(everything[blocks[0], blocks[0]]) + count / head.noise * np.outer(row, row)
        after = np.linalg.inv(precision)
    total = 0.0
    for task in tasks:
        for probability, gradient in task:
            if name == "expected_gradient_length":
                total += probability * math.sqrt((gradient**2).sum())
            elif name == "expected_model_change":
                total += probability * math.sqrt(((gradient / head.noise @ after) ** 2).sum())
            else:
                total += probability * abs(float(pull @ gradient.ravel())) / head.noise
    return total / len(tasks)


def _score_of_draws(name: str, p: Floats, drawn: Floats) -> float:
    """A score of one distribution p [C], or of draws [T, C] of it."""
    if name == "bald":
        most = math.log(len(p)) if len(p) > 1 else 1.0
        return (nats(drawn.mean(0)) - float(np.mean([nats(one) for one in drawn]))) / most
    if name == "mean_std":
        return float(np.mean([math.sqrt(np.mean((one - one.mean()) ** 2)) for one in drawn.T]))
    if name == "variation_ratio":
        votes = [int(one.argmax()) for one in drawn]
        return 1 - max(votes.count(c) for c in range(len(p))) / len(votes)
    return float(score(name, p[None])[0])


def class_counts(p: Floats) -> Ids:
    """Items predicted to be of each class, ties to the first."""
    counts = np.zeros(p.shape[1], np.int64)
    for row in p:
        counts[int(np.argmax(row))] += 1
    return counts


@lru_cache(maxsize=2**16)
def tie_of(key: int | None, id: int) -> int:
    """The number that orders an item among its equals."""
    return int(item_order(key, np.array([id]))[0])


def ranked(values: NDArray[np.floating], ids: Ids, m: int, ties: int | None) -> Ids:
    """The ids of the m largest values by a full sort."""
    rows = zip((-values).tolist(), (tie_of(ties, id) for id in ids.tolist()), ids.tolist(), strict=True)
    return np.array([id for _, _, id in sorted(rows)[:m]], np.int64)


def uniform_sample(key: int, ids: Ids, size: int) -> Ids:
    """The ids of lowest hash, in that order."""
    return np.array(
        [id for _, id in sorted((float(item_uniform(key, ids[[i]])[0]), int(ids[i])) for i in range(len(ids)))[:size]],
        np.int64,
    )


def sq_distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> Floats:
    """Squared Euclidean distances of the rows of a [n, d] to b [d], by direct differences."""
    return ((a.astype(np.float64) - b.astype(np.float64)) ** 2).sum(1)


def coreset(x: NDArray[np.floating], ids: Ids, labelled: NDArray[np.floating], k: int, key: int) -> tuple[Ids, Floats]:
    """Greedy k-center: picks and their gaps. Without labelled rows the first pick is the lowest hash."""
    gap, ties = np.full(len(x), np.inf), derive(key, "ties")
    for centre in labelled:
        gap = np.minimum(gap, sq_distance(x, centre))
    picked: list[int] = []
    gaps: list[float] = []
    for _ in range(k):
        if not picked and len(labelled) == 0:
            row = int(np.argmin(item_uniform(key, ids)))
        else:
            row = max((r for r in range(len(x)) if r not in picked), key=lambda r: (gap[r], -tie_of(ties, int(ids[r]))))
        picked.append(row)
        gaps.append(float(gap[row]))
        gap = np.minimum(gap, sq_distance(x, x[row]))
    return ids[picked], np.array(gaps)


def gradient_embeddings(x: NDArray[np.floating], weight: Floats, bias: Floats, link: str = "softmax") -> Floats:
    """Dense gradients [n, C * d] of the loss at what is predicted, by the last layer's weights."""
    if link == "sigmoid":
        outputs = x.astype(np.float64) @ weight.T + bias
        r = np.where(outputs > 0, 1 / (1 + np.exp(outputs)), -1 / (1 + np.exp(-outputs)))
        return np.einsum("nc,nd->ncd", r, x.astype(np.float64)).reshape(len(x), -1)
    p = probabilities(x, weight, bias)
    r = -p
    for row in range(len(p)):
        top = int(p[row].argmax())
        r[row, top] = sum(p[row, c] for c in range(p.shape[1]) if c != top)
    return np.einsum("nc,nd->ncd", r, x.astype(np.float64)).reshape(len(x), -1)


def badge(g: Floats, ids: Ids, k: int, key: int) -> Ids:
    """The race over gradients g [n, D]: budgets -ln u burn at the rate of D^2; the next to burn out is picked
    next."""
    left = -np.log(item_uniform(key, ids))
    spare, ties = item_uniform(derive(key, "rest"), ids), derive(key, "ties")
    rate = np.full(len(g), np.inf)
    picked: list[int] = []
    for _ in range(k):
        rest = [r for r in range(len(g)) if r not in picked]
        norms = (g**2).sum(1)
        if not picked and norms.max() > 0:
            row = max(rest, key=lambda r: (norms[r], -tie_of(ties, int(ids[r]))))
        else:
            burning = [r for r in rest if rate[r] > 0 and picked]
            if burning:
                row = min(burning, key=lambda r: (left[r] / rate[r], ids[r]))
                left = left - rate * (left[row] / rate[row])
            else:
                row = min(rest, key=lambda r: (float(spare[r]), ids[r]))
        picked.append(row)
        rate = np.minimum(rate, sq_distance(g, g[row]))
    return ids[picked]


def d2_sequences(points: Floats, first: int, draws: int) -> dict[tuple[int, ...], float]:
    """Probability of every ordered sequence of `draws` further picks by sequential D^2 sampling after
    `first`."""
    found = {}
    for sequence in itertools.permutations([r for r in range(len(points)) if r != first], draws):
        mass = sq_distance(points, points[first])
        probability = 1.0
        for row in sequence:
            probability *= float(mass[row] / mass.sum())
            mass = np.minimum(mass, sq_distance(points, points[row]))
        found[sequence] = probability
    return found


def cosine(x: NDArray[np.floating], anchor: NDArray[np.floating]) -> Floats:
    """Cosine similarity of each row to one anchor; 0 where either is zero."""
    norms = np.sqrt((x.astype(np.float64) ** 2).sum(1)) * math.sqrt(float((anchor.astype(np.float64) ** 2).sum()))
    inner = x.astype(np.float64) @ anchor.astype(np.float64)
    return np.divide(inner, norms, out=np.zeros(len(x)), where=norms > 0)


def similarity(x: NDArray[np.floating], anchor: NDArray[np.floating], metric: str) -> Floats:
    """Similarity of each row to one anchor: the cosine, or minus the squared distance."""
    return cosine(x, anchor) if metric == "cosine" else -sq_distance(x, anchor)


def anchor_subpool(
    x: NDArray[np.floating], ids: Ids, anchors: NDArray[np.floating], neighbours: int, subpool: int, ties: int
) -> dict[int, float]:
    """AnchorAL's subpool: per anchor the nearest of the whole pool, then each item's mean similarity to the
    anchors that found it, then the best by that mean. Item id -> mean, best first."""
    found: dict[int, list[float]] = {}
    for anchor in anchors:
        similarity = cosine(x, anchor)
        place = {int(id): float(s) for id, s in zip(ids, similarity, strict=True)}
        for id in ranked(similarity, ids, neighbours, ties).tolist():
            found.setdefault(id, []).append(place[id])
    means = {id: sum(values) / len(values) for id, values in found.items()}
    return dict(sorted(means.items(), key=lambda entry: (-entry[1], tie_of(ties, entry[0])))[:subpool])
