"""Novelty by an isolation forest: few random cuts set an unusual item apart from the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from raysal.config import Count
from raysal.fleet import Fleet, Partition
from raysal.fleet.partition import Block
from raysal.numerics import one_thread
from raysal.rng import derive, generator
from raysal.scoring.novelty.base import FittedNovelty, Novelty, OfBlock, draw_sample
from raysal.scoring.similarity import unit_features, unit_rows

FOREST_BLOCK_ROWS = 1024
"""Rows of a block that goes down the trees: at 100 trees, what is looked up at a level stays in the cache."""
TRIES = 16
"""Features that are drawn one by one, before those that differ among the items of a node are looked for."""


class Forest(NamedTuple):
    """Trees of one height h, all of them whole: nodes 2 i + 1 and 2 i + 2 are below node i.

    A node that is not split sends everything left, so every item ends in one of the 2^h leaves.
    """

    features: NDArray[np.int32]
    """[t, 2^h - 1] which feature a node looks at"""
    thresholds: NDArray[np.float32]
    """[t, 2^h - 1] items above it go right; infinite where a node is not split"""
    lengths: NDArray[np.float32]
    """[t, 2^h] the path to a leaf: its depth, and the mean depth of a tree of the items that ended there"""
    usual: float
    """the mean depth of a tree of as many items as each was grown from"""

    @property
    def height(self) -> int:
        """Levels above the leaves."""
        return int(self.lengths.shape[1]).bit_length() - 1


@dataclass(frozen=True, kw_only=True)
class IsolationForest(Novelty):
    """2^(-h / c): h is the mean depth at which random cuts set the item apart, c that of a tree of `items` items.

    Liu, Ting & Zhou, "Isolation Forest", ICDM 2008. A cut takes a feature at random, and a value at random between the
    least and the greatest there. Each of the `trees` is grown, in the driver, from `items` items of a uniform `sample`
    of the pool, to the height log2(`items`). The trees are drawn with the key; otherwise the score is that of
    scikit-learn.

    Cost: `trees` log2(`items`) look-ups an item, whatever the length of vectors; `sample` vectors in the driver while
    trees grow; 12 bytes for each of trees x items to every partition. Not for what differs in no single feature: its
    cuts are along the axes, which mean little in most embeddings. There, `knn` or `mahalanobis` is better.
    """

    trees: Count = 100
    items: Annotated[int, Field(ge=2, le=2**16)] = 256
    sample: Count = 5_000

    def fit(self, fleet: Fleet, key: int) -> FittedForest:
        """The trees. O(trees items) draws in the driver."""
        sample = draw_sample(fleet, key, self.sample)
        vectors = unit_rows(sample.vectors) if sample.metric == "cosine" else sample.vectors.astype(np.float32)
        forest = grow(vectors, self.trees, self.items, derive(key, "trees"))
        items = min(self.items, len(vectors))
        return FittedForest(forest=forest, of=f"{self.trees} trees of {items} items from {sample.words}")


@dataclass(frozen=True, kw_only=True)
class FittedForest(FittedNovelty):
    """A forest of the pool."""

    block_rows: ClassVar[int] = FOREST_BLOCK_ROWS
    forest: Forest
    of: str

    @property
    def words(self) -> str:
        """The forest."""
        return f"isolation forest of {self.of}"

    def on(self, partition: Partition) -> OfBlock:
        """Its trees there."""
        device, forest, height = partition.device, self.forest, self.forest.height
        trees, nodes = forest.features.shape
        features = torch.from_numpy(forest.features.astype(np.int64).reshape(-1)).to(device)
        thresholds = torch.from_numpy(forest.thresholds.reshape(-1)).to(device)
        lengths = torch.from_numpy(forest.lengths.astype(np.float64).reshape(-1)).to(device)
        first, first_leaf = (torch.arange(trees, device=device) * size for size in (nodes, nodes + 1))

        def of_block(block: Block) -> torch.Tensor:
            x = unit_features(partition, block.features)
            node = torch.zeros(len(x), trees, dtype=torch.long, device=device)
            for _ in range(height):
                at = node + first
                above = x.gather(1, features[at]) > thresholds[at]
                node = 2 * node + 1 + above
            depths = lengths[node - nodes + first_leaf].mean(1)
            with one_thread():
                return torch.exp2(-depths / forest.usual).float()

        return of_block


def grow(vectors: NDArray[np.float32], trees: int, items: int, key: int) -> Forest:
    """Grow a forest.

    Args:
        vectors: [s, d].
        trees: how many.
        items: of which each is grown; all where there are fewer.
        key: key of `raysal.rng`.

    Returns:
        The forest.
    """
    items = min(items, len(vectors))
    height = max(math.ceil(math.log2(items)), 1)
    forest = Forest(
        features=np.zeros((trees, 2**height - 1), np.int32),
        thresholds=np.full((trees, 2**height - 1), np.inf, np.float32),
        lengths=np.zeros((trees, 2**height), np.float32),
        usual=mean_depth(items) or 1.0,
    )
    for tree in range(trees):
        draws = generator(derive(key, tree))
        rows = draws.choice(len(vectors), items, replace=False, shuffle=False)
        left = [(0, 0, np.sort(rows))]
        while left:
            node, depth, rows = left.pop()
            cut = draw_cut(vectors[rows], draws) if depth < height and len(rows) > 1 else None
            if cut is None:
                leaf = ((node + 1) << (height - depth)) - 2**height  # all the way down to the left
                forest.lengths[tree, leaf] = depth + mean_depth(len(rows))
                continue
            forest.features[tree, node], forest.thresholds[tree, node] = cut
            above = vectors[rows, cut[0]] > cut[1]
            left += [(2 * node + 2, depth + 1, rows[above]), (2 * node + 1, depth + 1, rows[~above])]
    return forest


def draw_cut(vectors: NDArray[np.float32], draws: np.random.Generator) -> tuple[int, np.float32] | None:
    """A feature at random among those that differ, and a value at random from the least to below the greatest there.

    Args:
        vectors: [m, d], at least two.
        draws: what is drawn from.

    Returns:
        (feature, value), with a vector above the value and one that is not; None where all vectors are equal.
    """
    for _ in range(TRIES):
        feature = int(draws.integers(vectors.shape[1]))
        low, high = vectors[:, feature].min(), vectors[:, feature].max()
        if low < high:
            break
    else:
        differ = np.flatnonzero(vectors.min(0) < vectors.max(0))
        if len(differ) == 0:
            return None
        feature = int(differ[draws.integers(len(differ))])
        low, high = vectors[:, feature].min(), vectors[:, feature].max()
    value = np.float32(low + (float(high) - float(low)) * draws.random())
    return feature, value if value < high else low


def mean_depth(items: int) -> float:
    """The mean depth of an item in a random binary search tree of `items` items: 2 H(n - 1) - 2 (n - 1) / n.

    As scikit-learn has it, with the harmonic number approximated by log + Euler's constant from three items on.

    Args:
        items: how many.

    Returns:
        The depth; 0 of one item, 1 of two.
    """
    if items < 3:
        return float(max(items - 1, 0))
    return 2 * (math.log(items - 1) + float(np.euler_gamma)) - 2 * (items - 1) / items
