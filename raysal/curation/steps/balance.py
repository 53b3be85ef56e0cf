"""A step that keeps a number of items, as evenly as there are any: over clusters, classes or the values of a column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.curation.base import Forecast, Speed, Step, StepResult, Work
from raysal.curation.sizes import check_size, size_of
from raysal.curation.tree.files import Tree
from raysal.curation.tree.groups import Groups, groups_of_column, groups_of_predictions, predictions_of
from raysal.curation.tree.kmeans import ROWS_A_CENTROID, SHARES
from raysal.curation.tree.levels import Levels, tree_of
from raysal.curation.tree.turns import turns
from raysal.errors import ConfigError
from raysal.pool import Pool
from raysal.rng import derive, item_gumbel, item_order
from raysal.scoring.novelty.base import novelty_of
from raysal.scoring.novelty.neighbours import NearestNeighbours
from raysal.store import digest_of
from raysal.types import POOL_COLUMNS

CLUSTERS, CLASS, DENSITY, COLUMN = "clusters", "class", "density", "column:"
VALUE = "the least size that keeps the item"
"""What the value of a dropped item is."""
NAMED = 100
"""Groups that facts name, at most: those with the most items."""


class _Grouping(NamedTuple):
    """One of the things that items are balanced by."""

    name: str
    levels: list[NDArray[np.int64]]
    """the group of each item [n] at each level, the outermost first"""
    names: tuple[str, ...] | None
    """of the groups; None for clusters"""


@dataclass(frozen=True, kw_only=True)
class Balance(Step):
    """Keeps `size` items, spread as evenly over groups as there are items.

    Groups take turns: in each turn every group that still has an item gives one, and within a group its own groups do
    likewise. So no group gives fewer than another beside it, at any level, unless it has no more; what small groups
    cannot fill goes to the others. Exactly `size` items are kept, or all where there are fewer. A smaller `size` keeps
    some of what a larger one keeps, and the value of a dropped item is the least `size` that keeps it.

    `by`, the outermost first:

    - `clusters`: hierarchical k-means (Vo et al., "Automatic Data Curation for Self-Supervised Learning: A
      Clustering-Based Approach", TMLR 2024). Where the metric is the cosine, of vectors of length 1.
    - `column:NAME`: the values of a column that the pool carries. Numbers of more than `bins` different values are cut
      into so many ranges of equal width; items without a value are a group.
    - `class`: the class that a head predicts, from the folder `predictions` of `raysal predict`.
    - `density`, as the last: items of a group come in an order that is drawn in proportion to the distance to the 5th
      nearest of a sample of 2,000: those from sparse places more often.

    Several of them are groups within groups: `["column:source", "clusters"]`.

    Cost: for clusters, 5.5 passes over up to 256 training rows for each cluster of the first level and one over all,
    each of n k d multiplications (`tree.kmeans`): a million rows of 256 and 10,000 clusters take minutes on two cores.
    The clusters are kept, so that another `size` takes seconds. The rest is O(n log n) for each level.
    Memory of the driver: some 100 bytes an item, and 12 k d for each partition.
    """

    size: int | float
    """how many items are kept; below 1, which share of what is left"""
    by: str | tuple[str, ...] = CLUSTERS
    """what over: one, or groups within groups"""
    clusters: tuple[int, ...] | None = None
    """of each level, the most first; by default one for ten items, at most 10,000, and a tenth at each next level"""
    rounds: int = 10
    """of resampling, at every level but the first"""
    prefer: Literal["random", "nearest", "farthest"] = "random"
    """which items of a cluster come first: any, or those nearest to, or farthest from its centroid"""
    predictions: Path | None = None
    """for `class`: a folder that `raysal predict` wrote"""
    bins: int = 20
    """ranges that numbers of a column are cut into"""

    def __post_init__(self) -> None:
        check_size(self.size)
        for name in self.names:
            if name not in (CLUSTERS, CLASS, DENSITY) and not (name.startswith(COLUMN) and len(name) > len(COLUMN)):
                fix = "use clusters, class, density, or column:NAME"
                raise ConfigError("by", f"unknown value {name!r}", fix)
        if not self.names or len(set(self.names)) < len(self.names) or DENSITY in self.names[:-1]:
            raise ConfigError("by", f"{self.by!r} is no order of groups", "name each once, and density as the last")
        if self.clusters is not None and (not self.clusters or min(self.clusters) < 1):
            raise ConfigError("clusters", f"{list(self.clusters)} are no numbers of clusters", "use 1 or more each")
        if self.clusters is not None and list(self.clusters) != sorted(self.clusters, reverse=True):
            raise ConfigError("clusters", f"{list(self.clusters)} do not fall", "name the level of most clusters first")
        for field, least in (("rounds", 0), ("bins", 2)):
            if getattr(self, field) < least:
                raise ConfigError(field, f"{getattr(self, field)} is below {least}")
        if self.prefer not in ("random", "nearest", "farthest"):
            raise ConfigError("prefer", f"unknown value {self.prefer!r}", "use random, nearest or farthest")
        if self.prefer != "random" and (CLUSTERS not in self.names or DENSITY in self.names):
            raise ConfigError(
                "prefer", f"{self.prefer!r} is about clusters, and by is {', '.join(self.names)}", "use by = clusters"
            )
        if (self.predictions is None) == (CLASS in self.names):
            if self.predictions is None:
                problem, fix = "are missing, and by names class", "name a folder that `raysal predict` wrote"
            else:
                problem = f"are given, and by ({', '.join(self.names)}) does not name class"
                fix = "leave them out, or name class in by"
            raise ConfigError("predictions", problem, fix)

    @property
    def names(self) -> tuple[str, ...]:
        """What items are balanced by, the outermost first."""
        return (self.by,) if isinstance(self.by, str) else tuple(self.by)

    def inputs(self, pool: Pool) -> Mapping[str, Any]:
        """What the predictions are, if there are any."""
        if self.predictions is None:
            return {}
        return {"predictions": digest_of(asdict(predictions_of(pool, self.predictions).plan))}

    def check(self, pool: Pool) -> None:
        """Look for the columns and the predictions."""
        for name in self.names:
            column = name.removeprefix(COLUMN)
            if name.startswith(COLUMN) and column not in pool.columns:
                known = ", ".join(one for one in pool.columns if one not in POOL_COLUMNS) or "none"
                raise ConfigError("by", f"the pool has no column {column!r}", f"its columns: {known}")
        if self.predictions is not None:
            predictions_of(pool, self.predictions)

    def forecast(self, pool: Pool, left: int, speed: Speed) -> Forecast:
        """The size; for clusters the products of rows with centroids, half of which are screened."""
        seconds = 2e-6 * left
        if CLUSTERS in self.names and left:
            k = Levels.of(left, self.clusters, self.rounds).clusters[0]
            rows = sum(SHARES) * min(left, ROWS_A_CENTROID * k) + left
            seconds += rows * (k * pool.dim / (2 * speed.products) + 1 / speed.rows)
        if DENSITY in self.names:
            seconds += left * (NearestNeighbours().sample * pool.dim / speed.products + 1 / speed.rows)
        return Forecast(kept=size_of(self.size, left), seconds=seconds)

    def apply(self, work: Work) -> StepResult:
        """Put what is left in the order of turns, and keep the first."""
        ids = work.ids_left
        if len(ids) == 0:
            return StepResult.of(ids, self._reason())
        tree = None
        if CLUSTERS in self.names:
            tree = tree_of(work, Levels.of(len(ids), self.clusters, self.rounds))
        groupings = [self._grouping(work, ids, name, tree) for name in self.names if name != DENSITY]
        groups = [level for grouping in groupings for level in grouping.levels]
        place = turns(groups, self._order(work, ids, tree), derive(work.key, "turns"))
        dropped = place >= size_of(self.size, len(ids))
        value = (place[dropped] + 1).astype(np.float64)
        return StepResult.of(
            ids[dropped], self._reason(), value=value, facts={**_facts(groupings, ~dropped), "value": VALUE}
        )

    def _reason(self) -> str:
        what = {CLUSTERS: "cluster", CLASS: "class", DENSITY: "surroundings"}
        return (
            f"enough of its {' and '.join(what.get(name, name.removeprefix(COLUMN)) for name in self.names)} are kept"
        )

    def _grouping(self, work: Work, ids: NDArray[np.int64], name: str, tree: Tree | None) -> _Grouping:
        if name == CLUSTERS:
            assert tree is not None
            return _Grouping(name, tree.levels(), None)
        found: Groups
        if name == CLASS:
            assert self.predictions is not None
            found = groups_of_predictions(work.pool, ids, self.predictions)
        else:
            found = groups_of_column(work.pool, ids, name.removeprefix(COLUMN), self.bins)
        return _Grouping(name, [found.group], found.names)

    def _order(self, work: Work, ids: NDArray[np.int64], tree: Tree | None) -> NDArray[np.int64]:
        """Which items of a group come first [n]: distinct numbers."""
        key = derive(work.key, "items")
        order = item_order(key, ids)
        by: NDArray[np.floating[Any]]
        if self.names[-1] == DENSITY:
            by = -np.log(_sparseness(work, ids)) - item_gumbel(key, ids)
        elif self.prefer != "random":
            assert tree is not None
            by = tree.sq_distance * (1.0 if self.prefer == "nearest" else -1.0)
        else:
            return order
        rank = np.empty(len(ids), np.int64)
        rank[np.lexsort((order, by))] = np.arange(len(ids))
        return rank


def _sparseness(work: Work, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """The distance of each item [n] to its neighbours in a sample, in units of the usual one; above 0."""
    work.begin()
    fitted = NearestNeighbours().fit(work.fleet, derive(work.key, "density"))
    novelty = np.concatenate([part[1] for part in work.fleet.each(novelty_of, fitted, ids)]).astype(np.float64)
    # The novelty is d / (d + the usual distance), in single precision.
    return np.asarray(np.maximum(novelty, 1e-12) / np.maximum(1 - novelty, 1e-7))


def _facts(groupings: list[_Grouping], kept: NDArray[np.bool_]) -> dict[str, Any]:
    """Entropies at all levels of all groupings, in bits, and the counts of the outermost level of all."""
    entropy: dict[str, Any] = {}
    counted = []
    for grouping in groupings:
        for level, group in zip(range(len(grouping.levels), 0, -1), grouping.levels, strict=True):
            name = grouping.name if grouping.names else f"{grouping.name} of level {level}"
            before = np.bincount(group)
            after = np.bincount(group[kept], minlength=len(before))
            counted.append({"of": name, **_counted(before, after, grouping.names)})
            most = float(np.log2(min(len(before), int(kept.sum()))))
            entropy[name] = {
                "groups": len(before), "before": _entropy(before), "after": _entropy(after), "most": most
            }  # fmt: skip
    return {"balance": counted[0], "entropy_bits": entropy} if counted else {}


def _entropy(counts: NDArray[np.int64]) -> float:
    """The entropy of a share of items, in bits."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum()) + 0.0


def _counted(
    before: NDArray[np.int64], after: NDArray[np.int64], names: tuple[str, ...] | None
) -> dict[str, dict[str, int]]:
    """How many items there are in each group: those with the most by name, and the others together."""
    largest = np.argsort(-before, kind="stable")
    if names is None:
        before, after = before[largest], after[largest]
        names = tuple(f"cluster {number:0{len(str(len(before)))}d}" for number in range(1, len(before) + 1))
        largest = np.arange(len(before))
    listed = np.sort(largest[:NAMED]).tolist()
    found = {}
    for label, counts in (("before", before), ("after", after)):
        found[label] = {names[at]: int(counts[at]) for at in listed}
        if len(names) > len(listed):
            found[label][f"({len(names) - len(listed)} others)"] = int(counts.sum()) - sum(found[label].values())
    return found
