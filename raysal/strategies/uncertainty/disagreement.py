"""The least disagree metric of every candidate: how small a disturbance of the head changes its predicted class.

A head is disturbed along a random direction, by each of `SIZE_COUNT` sizes. The metric of an item is the smallest share
of all candidates whose predicted class changes, over the disturbed heads that change its own (Cho et al., ICLR 2024).
Along a ray, a prediction that has changed never returns, so one product tells what happens at every size.

`measure` runs in the driver. It tries the directions in tiles; each tile is two round trips: partitions count how many
candidates change at each size, and take the sums back into the metrics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.fleet import Fleet, Partition
from raysal.models.likelihood import Likelihood
from raysal.numerics import one_thread
from raysal.rng import derive, generator
from raysal.scoring.linear import Linear
from raysal.scoring.row_values import refuse_broken
from raysal.strategies.base import count_candidates

SIZE_DECADES, SIZES_PER_DECADE = (-5, 3), 10
"""Sizes of a disturbance: 10^-5 ... 10^3, in units of the root mean square of the head's weights. Published are 10^-5
to 1, of weights as they are; but in many dimensions a random direction must be far longer than the weights to turn a
sure prediction, and features may have any scale."""
SIZE_COUNT = (SIZE_DECADES[1] - SIZE_DECADES[0]) * SIZES_PER_DECADE + 1
"""How many sizes there are: 81."""
DIRECTION_COLUMNS = 320
"""Columns of a product with directions, about: as many whole directions as fit, from 2 to 32."""
STATE = "least disagree metrics"
"""Name of the `Metrics` in a partition's state."""


@dataclass
class Metrics:
    """The metrics of a partition's candidates, as numbers of items that change class."""

    rows: NDArray[np.int64]
    """[n] positions of the candidates in the partition"""
    ids: NDArray[np.int64]
    """[n]"""
    before: NDArray[np.int64]
    """[n] metrics before the last tile of directions"""
    metric: NDArray[np.int64]
    """[n] metrics with it"""
    sizes: NDArray[np.uint8]
    """[directions of the last tile, n], the number of the first size that changes the class; SIZE_COUNT if none does"""


def measure(fleet: Fleet, head: Linear, key: int, *, directions: int, patience: int) -> int:
    """Compute every candidate's metric; it stays in `partition.state[STATE]`.

    Directions come of the key alone, and counts are added up over partitions, so metrics do not depend on partitions.
    Two round trips and one reading of the vectors, O(n d C), for each tile of directions. Memory 16 bytes a row, and a
    byte for each direction of a tile.

    Args:
        fleet: the pool's partitions.
        head: what is disturbed; with several labels at once, an item changes if its set of labels does.
        key: key of `raysal.rng`.
        directions: how many are tried at most.
        patience: how many in a row may lower no candidate's metric, before this ends.

    Returns:
        How many candidates there are.

    Raises:
        PoolError: a vector is not finite; it names the item.
    """
    candidates = sum(fleet.each(count_candidates))
    fleet.each(start_metrics, candidates)
    tile = min(max(DIRECTION_COLUMNS // len(head.bias), 2), 32)
    tried = without_effect = 0
    while tried < directions and without_effect < patience:
        count = min(tile, directions - tried)
        changed = np.sum(fleet.each(count_changes, head, key, tried, count), axis=0).cumsum(1)
        lowered = np.any(fleet.each(lower_metrics, changed), axis=0)
        for place in range(count):
            without_effect = 0 if lowered[place] else without_effect + 1
            if without_effect == patience:
                fleet.each(lower_metrics, changed[: place + 1])  # the directions after it count for nothing
                break
        tried += count
    return candidates


def directions_of(head: Linear, key: int, first: int, count: int) -> NDArray[np.float64]:
    """Random directions in the frame of the head; each is a function of the key and its number.

    Args:
        head: a step of 1 along a direction is as long as its weights, in the frame.
        key: key of `raysal.rng`.
        first: number of the first direction.
        count: how many.

    Returns:
        float64 [count, C, d + 1].
    """
    frame, weights = head.frame, np.column_stack([head.weight, head.bias])
    if frame is not None:
        frame = frame.with_constant(1.0)
        weights = frame.inside(weights)
    length = np.sqrt((weights**2).mean()) or 1.0
    numbers = range(first, first + count)
    found = length * np.stack([generator(derive(key, number)).standard_normal(weights.shape) for number in numbers])
    return found if frame is None else frame.outside(found)


# Functions of a partition.


def start_metrics(partition: Partition, candidates: int) -> None:
    """Let every candidate's metric be all candidates, as long as no direction is found that changes it."""
    rows = partition.candidates()
    metric = np.full(len(rows), candidates)
    partition.state[STATE] = Metrics(rows, partition.ids[rows], metric, metric, np.empty((0, len(rows)), np.uint8))


def count_changes(partition: Partition, head: Linear, key: int, first: int, count: int) -> NDArray[np.int64]:
    """Find the size at which each direction of a tile changes each candidate's class.

    Args:
        partition: where the candidates live.
        head: what is disturbed.
        key: key of `raysal.rng`.
        first: number of the tile's first direction.
        count: how many directions.

    Returns:
        int64 [count, SIZE_COUNT + 1], how many change at each size, the last for never.

    Raises:
        PoolError: a vector is not finite; it names the item.
    """
    state: Metrics = partition.state[STATE]
    state.before = state.metric
    device, classes = partition.device, len(head.bias)
    heads = np.concatenate([np.column_stack([head.weight, head.bias])[None], directions_of(head, key, first, count)])
    stacked = heads.reshape(-1, partition.dim + 1)
    weights = partition.aligned(stacked[:, :-1])
    bias = torch.from_numpy(stacked[:, -1].astype(np.float32)).to(device)[:, None]
    state.sizes = np.empty((count, len(state.rows)), np.uint8)
    done = 0
    for block in partition.blocks(state.rows):
        product = weights.products(block.features)
        with one_thread():
            outputs = product.T.contiguous().add_(bias).view(1 + count, classes, -1)
            sizes = size_of_change(outputs[0], outputs[1:], head.likelihood)
            finite = torch.isfinite(outputs[0]).all(0)[: block.n]
        own = slice(done, done + block.n)
        refuse_broken(state.ids[own], finite.cpu().numpy())
        state.sizes[:, own] = sizes[:, : block.n].cpu().numpy()
        done += block.n
    return np.stack([np.bincount(sizes, minlength=SIZE_COUNT + 1) for sizes in state.sizes])


def size_of_change(outputs: torch.Tensor, speeds: torch.Tensor, likelihood: Likelihood) -> torch.Tensor:
    """The first size at which another answer is predicted. For one thread.

    The largest output is overtaken, or one of several labels changes sides.

    Args:
        outputs: [C, n].
        speeds: [J, C, n], by which outputs grow with the size; they are overwritten.
        likelihood: what the outputs are.

    Returns:
        uint8 [J, n], the size's number; SIZE_COUNT if it never happens.
    """
    inverse = likelihood.change_rates(outputs, speeds).clamp_min_(0.0)  # 0 where it never happens
    steps = (inverse.log10_() + SIZE_DECADES[0]).mul_(-SIZES_PER_DECADE).ceil_()
    return steps.clamp_(0, SIZE_COUNT).byte()


def lower_metrics(partition: Partition, changed: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Lower the metrics by the first directions of the tile, beginning with those before the tile.

    Args:
        partition: where the candidates live.
        changed: int64 [directions, SIZE_COUNT + 1], how many candidates of the pool have changed class up to each size.

    Returns:
        bool [directions], which of them lowered a metric here.
    """
    state: Metrics = partition.state[STATE]
    state.metric = state.before
    lowered = np.zeros(len(changed), bool)
    for place, (sizes, counts) in enumerate(zip(state.sizes, changed, strict=False)):
        metric = np.minimum(state.metric, counts[sizes])
        lowered[place] = (metric < state.metric).any()
        state.metric = metric
    return lowered
