"""CLUE: clusters of what the head is uncertain about, and the item in the middle of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from raysal.context import RoundContext
from raysal.fleet import Fleet
from raysal.numerics import DRIVER_ROWS, one_thread, slices
from raysal.rng import derive
from raysal.scoring.linear import Linear, logits_of
from raysal.strategies.base import Picks, Selector
from raysal.strategies.engine.kmeans import k_means
from raysal.strategies.engine.representatives import nearest_to_centroids
from raysal.strategies.engine.shortlist import CANDIDATES_PER_PICK, shortlist


@dataclass(frozen=True, kw_only=True)
class Clue(Selector):
    """k-means weighted by entropy, and the item nearest to each centroid.

    CLUE; Prabhu et al., ICCV 2021. Minimizes the sum of H(x) * squared distance of x to its centroid. H is the entropy
    of softmax(logits / temperature), or the sum of those of several labels: a low temperature stresses uncertainty, a
    high one coverage. The score is the cluster's share of all entropy, and the cluster with the largest comes first.
    Where no entropy is left, the clusters are unweighted and the reason says so.

    Needs a head. Works on at most `max_candidates` candidates (at least 5 k), a uniform sample where there are more.
    With n of them O(n k d) an iteration, memory O(n d). No prefix property. Ignores which items are labelled, so a
    later batch may repeat an earlier one until the head has learnt from it.
    """

    FORMER: ClassVar[dict[str, str]] = {"limit": "max_candidates"}
    max_candidates: Annotated[int, Field(ge=1)] = 10_000
    temperature: Annotated[float, Field(gt=0)] = 1.0

    @property
    def needs_head(self) -> bool:
        """Always."""
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """The middles of k weighted clusters of a shortlist."""
        head = context.linear(several=True)
        some = shortlist(fleet, derive(context.key, "shortlist"), max(self.max_candidates, CANDIDATES_PER_PICK * k))
        weights = entropies(some.vectors, head, self.temperature)
        clusters = k_means(some.vectors, k, derive(context.key, "clusters"), weights=weights)
        rows = nearest_to_centroids(some.vectors, clusters, k)
        shares = (clusters.mass / clusters.mass.sum())[clusters.assignment[rows]]
        what = "uncertainty" if weights.any() else "candidates, no uncertainty is left"
        reasons = tuple(f"middle of a cluster with {share:.2%} of the {what}{some.origin}" for share in shares)
        return Picks(ids=some.ids[rows], scores=shares, reasons=reasons)


def entropies(x: NDArray[np.float32], head: Linear, temperature: float) -> NDArray[np.float64]:
    """Compute the entropies of what the head predicts. O(n d C), in tiles.

    Args:
        x: Rows [n, d].
        head: The head.
        temperature: What logits are divided by.

    Returns:
        Shannon entropy in nats [n]; of several labels the sum.
    """
    found = np.empty(len(x))
    for own in slices(len(x), DRIVER_ROWS):
        logits = torch.from_numpy(logits_of(x[own], head))
        with one_thread():
            found[own] = head.likelihood.torch_entropy(logits / temperature).numpy()
    return found
