"""A number for each of some rows of a partition, from what a head predicts of them: what strategies go by."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.errors import PoolError
from raysal.fleet.partition import Partition
from raysal.numerics import BLOCK_ROWS, ceil_div, in_threads, one_thread, round_up, slices
from raysal.scoring.base import Predicted
from raysal.scoring.given_probabilities import AnyInputs, GivenInputs, given_blocks
from raysal.scoring.inputs import ProductReader


def row_values(
    partition: Partition,
    inputs: AnyInputs,
    rows: NDArray[np.int64],
    value: Callable[[Predicted], torch.Tensor],
    *,
    of_parts: bool = True,
) -> NDArray[Any]:
    """A number computed from what is predicted of each row. One product of the rows with what `value` needs.

    Where rows are owners whose scores are those of their parts (`Owners.scores`), it is computed of the parts.

    Args:
        partition: the rows' partition.
        inputs: what `value` needs of the head; or that probabilities are given, from which no product is taken.
        rows: int64 [n], ascending positions.
        value: of n items, [n] of any dtype: a score of `SCORES`, say; or several numbers of each, [n, v].
        of_parts: whether an owner's number may be made of those of its parts; not where it is no amount, as a class.

    Returns:
        [n] or [n, v] of that dtype.

    Raises:
        PoolError: a row has none, as its vector is not finite or too large for the head; it names the item.
    """
    if isinstance(inputs, GivenInputs):
        return _of_given(partition, inputs, rows, value)
    owners = partition.owners
    if of_parts and owners is not None and owners.scores is not None:
        of_rows, begins = owners.rows_of(rows)
        numbers = row_values(partition.parts(), inputs, of_rows, value)
        return owners.scores(numbers.astype(np.float64), begins).astype(numbers.dtype)
    reader = ProductReader(partition, inputs)
    matrix, size = reader.matrix(partition), reader.block_rows
    # With few columns, reading is most of the work, and torch's own threads are as fast.
    threads = torch.get_num_threads() if partition.device.type == "cpu" and size < BLOCK_ROWS else 1
    shares = list(slices(len(rows), round_up(max(ceil_div(len(rows), threads), 1), size)))
    left = iter(shares)  # of a list: each share goes to one thread
    found: dict[int, tuple[NDArray[Any], NDArray[np.bool_]]] = {}

    def compute() -> None:
        out = torch.zeros(reader.numbers, size, device=partition.device)
        for own in left:
            for start, block in zip(itertools.count(own.start, size), partition.blocks(rows[own], size), strict=False):
                reader.read(matrix.products(block.features), block.features, out)
                with one_thread():
                    predicted = reader.predicted(out)
                    values = value(predicted)
                    broken = torch.isnan(predicted.probabilities).any(0) | torch.isnan(values.reshape(size, -1)).any(1)
                found[start] = values[: block.n].cpu().numpy(), broken[: block.n].cpu().numpy()

    in_threads(compute, len(shares))
    if not found:
        return np.empty(0, np.float32)
    numbers, broken = (np.concatenate(parts) for parts in zip(*(found[start] for start in sorted(found)), strict=True))
    refuse_broken(partition.ids[rows], ~broken)
    return numbers


def _of_given(
    partition: Partition,
    inputs: GivenInputs,
    rows: NDArray[np.int64],
    value: Callable[[Predicted], torch.Tensor],
) -> NDArray[Any]:
    """As `row_values`, where probabilities are given."""
    found = []
    for some, predicted in given_blocks(partition, inputs, rows):
        with one_thread():
            found.append(value(predicted)[: len(some)].cpu().numpy())
    return np.concatenate(found) if found else np.empty(0, np.float32)


def refuse_broken(ids: NDArray[np.int64], finite: NDArray[np.bool_]) -> None:
    """Refuse items whose numbers are not finite.

    Args:
        ids: int64 [n].
        finite: bool [n], whether the numbers of each item are.

    Raises:
        PoolError: an item's are not; it names the first.
    """
    broken = ids[~finite]
    if len(broken):
        raise PoolError(f"item {broken[0]}", "its vector is not finite numbers", "embed it again, or leave it out")
