"""A number for each of some rows of a partition, from what a head predicts of them: what strategies go by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.errors import PoolError
from raysal.fleet.partition import Partition
from raysal.numerics import one_thread
from raysal.scoring.base import Predicted
from raysal.scoring.given_probabilities import AnyInputs, GivenInputs, given_blocks
from raysal.scoring.inputs import ProductReader


def row_values(
    partition: Partition, inputs: AnyInputs, rows: NDArray[np.int64], value: Callable[[Predicted], torch.Tensor]
) -> NDArray[Any]:
    """A number computed from what is predicted of each row. One product of the rows with what `value` needs.

    Args:
        partition: the rows' partition.
        inputs: what `value` needs of the head; or that probabilities are given, from which no product is taken.
        rows: int64 [n], ascending positions.
        value: of n items, [n] of any dtype: a score of `SCORES`, say.

    Returns:
        [n] of that dtype.

    Raises:
        PoolError: a row has none, as its vector is not finite or too large for the head; it names the item.
    """
    if isinstance(inputs, GivenInputs):
        return _of_given(partition, rows, value)
    reader, found = ProductReader(partition, inputs), []
    matrix = reader.matrix(partition)
    out = torch.zeros(reader.numbers, reader.block_rows, device=partition.device)
    for block in partition.blocks(rows, reader.block_rows):
        reader.read(matrix.products(block.features), block.features, out)
        with one_thread():
            predicted = reader.predicted(out)
            values = value(predicted)
            broken = torch.isnan(predicted.probabilities).any(0) | torch.isnan(values)
        refuse_broken(partition.ids[block.rows], ~broken[: block.n].cpu().numpy())
        found.append(values[: block.n].cpu().numpy())
    return np.concatenate(found) if found else np.empty(0, np.float32)


def _of_given(
    partition: Partition, rows: NDArray[np.int64], value: Callable[[Predicted], torch.Tensor]
) -> NDArray[Any]:
    """As `row_values`, where probabilities are given."""
    found = []
    for some, predicted in given_blocks(partition, rows):
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
