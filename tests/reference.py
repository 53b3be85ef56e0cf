"""Slow, obvious versions of what the product computes fast: numpy, float64, everything formed in full.

They share no code with the package except `raysal.rng`, whose draws are part of the definition.
Vectors are [n, d]; `ids` [n] name their rows in ascending order; ties go to the lower id.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from raysal.rng import derive, item_uniform

Floats = NDArray[np.float64]
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


def class_counts(p: Floats) -> Ids:
    """Items predicted to be of each class, ties to the first."""
    counts = np.zeros(p.shape[1], np.int64)
    for row in p:
        counts[int(np.argmax(row))] += 1
    return counts


def ranked(values: NDArray[np.floating], ids: Ids, m: int) -> Ids:
    """The ids of the m largest values by a full sort."""
    return np.array([id for _, id in sorted(zip((-values).tolist(), ids.tolist(), strict=True))[:m]], np.int64)


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
    gap = np.full(len(x), np.inf)
    for centre in labelled:
        gap = np.minimum(gap, sq_distance(x, centre))
    picked: list[int] = []
    gaps: list[float] = []
    for _ in range(k):
        if not picked and len(labelled) == 0:
            row = int(np.argmin(item_uniform(key, ids)))
        else:
            row = max((r for r in range(len(x)) if r not in picked), key=lambda r: (gap[r], -ids[r]))
        picked.append(row)
        gaps.append(float(gap[row]))
        gap = np.minimum(gap, sq_distance(x, x[row]))
    return ids[picked], np.array(gaps)


def gradient_embeddings(x: NDArray[np.floating], weight: Floats, bias: Floats) -> Floats:
    """Dense gradients [n, C * d] of the loss at the predicted class, by the last layer's weights."""
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
    spare = item_uniform(derive(key, "rest"), ids)
    rate = np.full(len(g), np.inf)
    picked: list[int] = []
    for _ in range(k):
        rest = [r for r in range(len(g)) if r not in picked]
        norms = (g**2).sum(1)
        if not picked and norms.max() > 0:
            row = max(rest, key=lambda r: (norms[r], -ids[r]))
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
    x: NDArray[np.floating], ids: Ids, anchors: NDArray[np.floating], neighbours: int, subpool: int
) -> dict[int, float]:
    """AnchorAL's subpool: per anchor the nearest of the whole pool, then each item's mean similarity to the
    anchors that found it, then the best by that mean. Item id -> mean, best first."""
    found: dict[int, list[float]] = {}
    for anchor in anchors:
        similarity = cosine(x, anchor)
        place = {int(id): float(s) for id, s in zip(ids, similarity, strict=True)}
        for id in ranked(similarity, ids, neighbours).tolist():
            found.setdefault(id, []).append(place[id])
    means = {id: sum(values) / len(values) for id, values in found.items()}
    return dict(sorted(means.items(), key=lambda entry: (-entry[1], entry[0]))[:subpool])
