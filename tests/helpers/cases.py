"""The case that the laws and the golden digests are tried on: a pool's rows and what a round over them needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pools import make_pool, mixture
from programs import Outcome, labelled_of, random_head, run_program, small, strategy

from raysal.context import LabelledVectors
from raysal.fleet import Fleet
from raysal.models.head import Head
from raysal.narrowing import NARROWERS
from raysal.narrowing.base import Narrower
from raysal.pool import Pool
from raysal.strategies import SELECTORS
from raysal.strategies.base import Selector

GREEDY = (
    "badge",
    "batch_bald",
    "class_balanced",
    "coreset",
    "fantasy",
    "kmeans_plus_plus",
    "pcoreset",
    "power_bald",
    "power_margin",
    "random",
    "reveal",
    "search",
    "top_score",
)
"""Rules whose picks(k) are a prefix of picks(k + 1), and which an item that is not picked does not change. `bait` drops
some of its picks again, and asks about all that is available."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A pool's rows and what a round over them needs; the chunk size is left open."""

    x: np.ndarray
    names: list[str]
    missing: tuple[int, ...]
    excluded: tuple[int, ...]
    labelled: LabelledVectors
    head: Head
    previous: Head

    @property
    def offered(self) -> np.ndarray:
        """Ids that may be picked."""
        out = {*self.missing, *self.excluded, *self.labelled.ids.tolist()}
        return np.array([i for i in range(len(self.x)) if i not in out], np.int64)

    def pool(self, path: Path, chunk_rows: int) -> Pool:
        return make_pool(path, self.x, chunk_rows=chunk_rows, missing=self.missing)

    def run(self, fleet: Fleet, selector: str | Selector, narrower: str | Narrower, **options: Any) -> Outcome:
        return run_program(
            fleet,
            strategy(selector) if isinstance(selector, str) else selector,
            small(narrower) if isinstance(narrower, str) else narrower,
            head=self.head,
            previous=self.previous,
            labelled=self.labelled,
            excluded=self.excluded,
            reveal=self.reveal,
            **options,
        )

    def reveal(self, ids: Sequence[int]) -> dict[int, str]:
        """An oracle that answers at once, for every second item."""
        return {id: self.names[id] for id in ids if id % 2}


def make_case(n: int, dim: int, seed: int = 0, labels: int = 20) -> Case:
    """A mixture in which a fifth of the rows are copies of others, with gaps in the ids and rows taken
    out."""
    x, names = mixture(n, dim, seed=seed)
    rng = np.random.default_rng(seed + 1)
    copies = rng.choice(n, n // 5, replace=False)
    x[copies] = x[rng.integers(n, size=len(copies))]
    # Copies also of the rows that rules love best, far apart in id.
    far = np.argsort(-(x**2).sum(1))[:4]
    x[[1, n // 2, n - 2, n // 3]] = x[far]
    spread = rng.permutation(n)
    gaps, out, known = spread[: n // 12], spread[n // 12 : n // 6], spread[n // 6 : n // 6 + labels]
    return Case(
        x=x,
        names=names,
        missing=tuple(gaps.tolist()),
        excluded=tuple(out.tolist()),
        labelled=labelled_of(x, names, known.tolist()),
        head=random_head(dim, seed=seed + 2),
        previous=random_head(dim, seed=seed + 3),
    )


ON_THE_WHOLE = [(selector, "none") for selector in sorted(SELECTORS)]
ON_CANDIDATES = [(selector, "anchoral") for selector in sorted(SELECTORS) if selector not in ("badge", "top_score")]
UNDER_EVERY_NARROWER = [
    (selector, narrower) for selector in ("badge", "top_score") for narrower in sorted(NARROWERS) if narrower != "none"
]
PAIRS = [*ON_THE_WHOLE, *ON_CANDIDATES, *UNDER_EVERY_NARROWER]
"""A strategy sees of a narrower only which rows may be picked: each is tried on a whole pool and on candidates, and
each narrower under two strategies."""
EVERY_PART = [*ON_THE_WHOLE, *(pair for pair in UNDER_EVERY_NARROWER if pair[0] == "top_score")]
"""Every strategy once, and every narrower once: what `make test` tries of PAIRS. A new entry joins by its line in the
registry."""
EACH_MECHANISM = ("badge", "bait", "batch_bald", "class_balanced", "lcmd", "reveal", "typiclust")
"""A strategy of each mechanism."""
ON_RAY = [*(pair for pair in EVERY_PART if pair[1] != "none"), *((name, "none") for name in EACH_MECHANISM)]
"""What `make test` tries on Ray: every narrower, and a strategy of each mechanism."""
