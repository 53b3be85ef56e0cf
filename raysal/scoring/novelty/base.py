"""What a novelty is: a number for how unlike the rest of the pool an item is, from vectors alone.

No label and no head is needed, and none changes it: where a head looks at vectors through a hidden layer, novelty goes
by the vectors below. There are two objects. A `Novelty` is what people name (`isolation_forest`), and its fields are
its config. It learns what the pool looks like, in the driver, and gives a `FittedNovelty`, which travels to the
partitions and scores rows there:

    novelty.fit(fleet, key)              what the available items look like; a few round trips
    fitted.scores(partition, rows)       float32 [n] in [0, 1], higher is more novel
    fitted.words                         what it goes by, and of which sample, for reasons and records
    fleet.each(most_novel, fitted, m, ties)   the best of each partition, to be merged by `best_of_parts`

What every novelty keeps; the tests of laws hold each registered one to it:

- The number of an item depends on the fitted object and that item alone, to the last bit: not on the items beside it,
  on blocks, partitions, threads or chunks. What is fitted depends on the available items and the key alone.
- It is in [0, 1], and never NaN. About 1/2 is an ordinary item of the pool, so that histograms over [0, 1] and
  thresholds mean the same for any pool and any novelty. The unit of the vectors changes nothing.
- An item is not its own neighbour: a sample that an item happens to be in does not make it less novel.
- Distances are the pool's: by the metric `cosine`, of vectors scaled to length 1.
- It is exact, or it says of which sample it is. A sample is uniform over the available items, by the hash of their ids.

To add one: a file here with both classes (frozen, keyword-only), and one line in `registry`. The line enrols it in the
strategy and the narrower `novelty`, in `raysal predict --novelty`, and in the tests. Its docstring says formula, paper,
cost, and what it is not for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet import Fleet, Partition, vectors_below
from raysal.fleet.partition import Block
from raysal.numerics import BLOCK_ROWS, ceil_div, in_threads, round_up, slices
from raysal.rng import derive
from raysal.scoring.row_values import refuse_broken
from raysal.scoring.sweep import sample_available
from raysal.scoring.top_k import BestItems, best_of
from raysal.types import Metric

OfBlock = Callable[[Block], torch.Tensor]
"""From a block to float32 [rows of the block] in [0, 1], padding included; may be called by several threads at once"""


class FittedNovelty(ABC):
    """What a novelty knows of a pool, as it travels to partitions. It holds arrays, and nothing of a device."""

    block_rows: ClassVar[int] = BLOCK_ROWS
    """rows of the blocks that it scores"""

    @property
    @abstractmethod
    def words(self) -> str:
        """What the number goes by, and of which sample, in a few words."""

    @abstractmethod
    def on(self, partition: Partition) -> OfBlock:
        """Lay it out beside a partition.

        Args:
            partition: whose vectors it will score; it has no hidden layer.

        Returns:
            What scores a block of `block_rows` rows.
        """

    def scores(self, partition: Partition, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """How novel some rows are.

        Args:
            partition: the rows' partition; a hidden layer there is looked below.
            rows: int64 [n], ascending positions.

        Returns:
            float32 [n] in [0, 1], higher is more novel.

        Raises:
            PoolError: a vector is not finite; it names the item.
        """
        below, size = partition.below(), self.block_rows
        of_block = self.on(below)
        threads = torch.get_num_threads() if below.device.type == "cpu" else 1
        shares = list(slices(len(rows), round_up(max(ceil_div(len(rows), threads), 1), size)))
        left, scores, finite = iter(shares), np.empty(len(rows), np.float32), np.empty(len(rows), bool)

        def compute() -> None:
            for own in left:
                start = own.start
                for block in below.blocks(rows[own], size):
                    place = slice(start, start + block.n)
                    # A sum is finite if and only if every number is: float16 numbers cannot add up to infinity.
                    finite[place] = torch.isfinite(block.features.sum(1))[: block.n].cpu().numpy()
                    scores[place] = of_block(block)[: block.n].cpu().numpy()
                    start += block.n

        in_threads(compute, len(shares))
        refuse_broken(below.ids[rows], finite)
        return scores


class Novelty(ABC):
    """Learns what the items of a pool look like. Its constructor fields are its config."""

    @abstractmethod
    def fit(self, fleet: Fleet, key: int) -> FittedNovelty:
        """Learn from the available items of a fleet. A few round trips.

        Args:
            fleet: the pool's partitions.
            key: key of `raysal.rng`, for the sample and what is drawn from it.

        Returns:
            What scores rows; the same for any partitions.

        Raises:
            PoolError: a vector is not finite; it names the item.
        """


class Sample(NamedTuple):
    """A uniform sample of the available items, in the driver."""

    ids: NDArray[np.int64]
    """[s], ascending"""
    vectors: NDArray[np.float16]
    """[s, d], below any hidden layer"""
    metric: Metric
    of: int
    """how many items are available"""

    @property
    def words(self) -> str:
        """Of what it is."""
        return f"all {self.of:,}" if len(self.ids) == self.of else f"a sample of {len(self.ids):,} of {self.of:,}"

    def partition(self) -> Partition:
        """The sample as a partition in the driver, on the CPU."""
        return Partition.of_items(self.ids, self.vectors, self.metric)


def draw_sample(fleet: Fleet, key: int, size: int) -> Sample:
    """A uniform sample of the available items. Three round trips; memory O(size d) in the driver.

    Args:
        fleet: the pool's partitions.
        key: key of `raysal.rng`.
        size: how many; all where there are fewer.

    Returns:
        The sample, the same for any partitions.

    Raises:
        PoolError: a vector is not finite; it names the item.
    """
    counts, metrics = zip(*fleet.each(count_available), strict=True)
    drawn = np.sort(sample_available(fleet, derive(key, "sample"), size))
    ids, vectors = (np.concatenate(column) for column in zip(*fleet.each(vectors_below, drawn), strict=True))
    refuse_broken(ids, np.isfinite(vectors).all(axis=1))
    if len(ids) == 0:  # something to be laid out, which nothing is compared with
        ids, vectors = np.array([-1]), np.zeros((1, vectors.shape[1]))
    return Sample(ids, vectors.astype(np.float16), metrics[0], sum(counts))  # exact: they are float16 numbers


def bounded(values: torch.Tensor, usual: float) -> torch.Tensor:
    """Numbers from 0 on, as v / (v + usual): the order stays, and a usual one is at 1/2.

    Args:
        values: [n], 0 or more; infinity is 1.
        usual: what is usual; where it is 0, so are all values that matter, and 1 stands for it.

    Returns:
        float32 [n] in [0, 1].
    """
    unusual = torch.full_like(values, usual or 1.0).div_(values)  # infinite where a value is 0
    return (1 / (1 + unusual)).float()


# Functions of a partition.


def count_available(partition: Partition) -> tuple[int, Metric]:
    """How many rows are available here, and the pool's metric."""
    return int(partition.available.sum()), partition.metric


def most_novel(partition: Partition, fitted: FittedNovelty, m: int, ties: int | None) -> BestItems:
    """The most novel candidates here; `best_of_parts` merges those of all partitions.

    Args:
        partition: where they live.
        fitted: what is usual in the pool.
        m: how many; all where there are fewer.
        ties: key of the hash that orders items of equal score (`raysal.rng.item_order`).

    Returns:
        Ids and scores, best first.

    Raises:
        PoolError: a vector is not finite; it names the item.
    """
    rows = partition.candidates()
    return best_of(partition.ids[rows], fitted.scores(partition, rows), m, ties=ties)


def novelty_of(
    partition: Partition, fitted: FittedNovelty, ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(ids ascending, scores) of those of some items that live here."""
    rows = partition.rows_of(ids)
    return partition.ids[rows], fitted.scores(partition, rows)
