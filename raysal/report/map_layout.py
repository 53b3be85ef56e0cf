"""A pool in two dimensions: a uniform sample of its items and the picks, laid out by t-SNE."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAMPLE_ITEMS = 2_500
"""Sampled items of the pool on a map."""
MAX_PICKS = 1_000
"""Picks on a map. With so many items and picks the layout takes 8 s on one core."""
TSNE_DIMENSIONS = 50
"""Principal components that t-SNE gets."""
MIN_TSNE_POINTS = 8
"""For fewer points t-SNE has too few neighbours."""


def lay_out(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lay out vectors in the unit square; the same points on every call.

    t-SNE (van der Maaten & Hinton, JMLR 2008) works on the first TSNE_DIMENSIONS principal components and starts from
    the first two. It runs on one thread: with several, the sums of its gradient depend on their number. Fewer than
    MIN_TSNE_POINTS vectors lie at their first two principal components.

    Args:
        vectors: [n, d].

    Returns:
        Points float32 [n, 2].
    """
    from threadpoolctl import threadpool_limits

    n = len(vectors)
    with threadpool_limits(1):
        components = _principal(vectors, TSNE_DIMENSIONS)
        if n < MIN_TSNE_POINTS or not components.any():
            return _unit_square(components[:, :2])
        from sklearn.manifold import TSNE

        model = TSNE(perplexity=min(30.0, (n - 1) / 4), init="pca", max_iter=600, random_state=0)
        return _unit_square(model.fit_transform(components))


def _principal(vectors: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """The first principal components [n, m], 2 <= m <= `most`; zeros stand for those that do not exist."""
    from sklearn.decomposition import PCA

    n, dim = vectors.shape
    components = np.zeros((n, 2), np.float32)
    if n > 1 and np.ptp(vectors, axis=0).any():
        found = PCA(min(most, n, dim), random_state=0).fit_transform(vectors)
        components = np.zeros((n, max(2, found.shape[1])), np.float32)
        components[:, : found.shape[1]] = found
    return components


def _unit_square(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The points with each axis spread over [0, 1]; a constant axis becomes 0.5."""
    if not len(points):
        return points
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1)
    return np.where(high > low, (points - low) / span, 0.5).astype(np.float32)
