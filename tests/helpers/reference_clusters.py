"""The rules of clusters written out: loops over numpy arrays, sharing nothing with the package but `item_uniform`."""

from __future__ import annotations

import numpy as np

from raysal.rng import item_uniform


def typicality(x, near=20):
    """1 / (mean distance to the min(20, n/2) nearest others + 1e-5)."""
    found = []
    for i in range(len(x)):
        gaps = sorted(float(np.sqrt(((x[i] - x[j]) ** 2).sum())) for j in range(len(x)) if j != i)
        count = max(min(near, len(x) // 2), 1)
        found.append(1 / (np.mean(gaps[:count]) + 1e-5) if gaps else 0.0)
    return np.array(found)


def typiclust(x, assignment, k, ties, small=5):
    """Rows of x [n, d] picked from given clusters; rows of `assignment` beyond n are labelled items.

    The published loop, with typicality anew among what is left of the cluster whenever it has a turn; small clusters
    come last, and of equals the one of the least tie."""
    n = len(x)
    names = sorted(set(assignment.tolist()))
    size = {c: int((assignment == c).sum()) for c in names}
    covered = {c: int((assignment[n:] == c).sum()) for c in names}
    left = {c: np.flatnonzero(assignment[:n] == c).tolist() for c in names}
    order = [c for c in names if left[c]]
    order.sort(key=lambda c: (covered[c], -size[c], min(ties[row] for row in left[c])))
    picks: list[int] = []
    for group in ([c for c in order if size[c] > small], [c for c in order if size[c] <= small]):
        while any(left[c] for c in group):
            for c in group:
                if left[c]:
                    scores = typicality(x[left[c]])
                    best = min(range(len(scores)), key=lambda i: (-scores[i], ties[left[c][i]]))
                    picks.append(left[c].pop(best))
    return picks[:k]


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def entropy(p):
    return -sum(q * np.log(q) for q in p if q > 0)


def dropout_bits(key, id, feature, lane):
    """Sixteen bits for (key, item, feature, lane): SplitMix64 in Python integers."""
    word = (1 << 64) - 1
    x = (int(item_uniform(key, np.array([id]))[0] * 2.0**52) + (feature + 1) * 0x9E3779B97F4A7C15) & word
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & word
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & word
    return ((x ^ (x >> 31)) >> (16 * lane)) & 0xFFFF


def mismatches(x, ids, weight, bias, key, passes, dropout):
    """In how many of at most four passes each prediction changes."""
    found = []
    for id, row in zip(ids.tolist(), x.astype(np.float64), strict=True):
        clean = int((weight @ row + bias).argmax())
        count = 0
        for number in range(passes):
            kept = [dropout_bits(key, id, f, number) >= round(dropout * 2**16) for f in range(len(row))]
            count += int((weight @ (row * kept) / (1 - dropout) + bias).argmax()) != clean
        found.append(count)
    return np.array(found)


def alfa_flags(x, weight, bias, anchors, epsilon):
    """Whether the published interpolation, alpha elementwise, flips the prediction for any anchor."""
    found = []
    for z in x.astype(np.float64):
        logits = weight @ z + bias
        y = int(logits.argmax())
        p = softmax(logits)
        p[y] -= 1
        g = weight.T @ p
        flips = False
        for anchor in anchors:
            step = anchor - z
            alpha = epsilon / np.sqrt(len(z)) * np.sqrt((step**2).sum()) * g / (np.sqrt((g**2).sum()) * step)
            flips |= int((weight @ ((1 - alpha) * z + alpha * anchor) + bias).argmax()) != y
        found.append(flips)
    return np.array(found)
