"""The part of a prediction job that runs beside the data: a chunk of the pool to a table, and the table to a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from raysal.commits import Staged
from raysal.features import HiddenLayer
from raysal.fleet import Partition
from raysal.fleet.chunks import items_and_rows
from raysal.models.likelihood import Column
from raysal.models.predictive import Predictive, averaged, predictive_responses
from raysal.numerics import one_thread
from raysal.prediction.files import stage
from raysal.scoring.base import Predicted
from raysal.scoring.inputs import ProductReader, ScoreInputs, is_of_target
from raysal.scoring.novelty.base import FittedNovelty
from raysal.scoring.registry import SCORES
from raysal.scoring.row_values import refuse_broken

Matrix = NDArray[np.float64]
PREDICTION_ROWS = 1024
"""Rows of a block. Chunks of images have as many rows, and a block never holds rows of two chunks."""
MAX_PASSES = 16
"""Up to so many of the likeliest classes are found by one pass each; more are found by sorting."""


class HeadJob(NamedTuple):
    """What of a head travels to the partitions, and what is asked of it."""

    classes: tuple[str, ...]
    hidden_layer: HiddenLayer | None
    inputs: ScoreInputs
    draws: tuple[ScoreInputs, ...]
    """for `monte_carlo`: the posterior samples, in groups of `OUTPUTS_PER_PRODUCT` outputs"""
    predictive: Predictive
    top: int
    """how many of the likeliest classes are written; 0 is all"""
    scores: tuple[str, ...]
    """names of scores"""


class Job(NamedTuple):
    """What travels to the partitions."""

    out: str
    pool: str
    """fingerprint"""
    head: HeadJob | None
    novelty: FittedNovelty | None


def stage_chunk(partition: Partition, job: Job, wave: tuple[range | None, ...]) -> Staged | None:
    """Predict this partition's chunk of a round trip, and stage its file.

    Args:
        partition: holds the chunk's first row.
        job: what is predicted.
        wave: for each partition its chunk, or None.

    Returns:
        The staged file, or None where this partition has no chunk.

    Raises:
        FingerprintMismatch: the pool is not the one the job was made for.
        PoolError: an item cannot be predicted; the error names it.
    """
    chunks = wave[partition.index]
    if chunks is None:
        return None
    items, partition, rows = items_and_rows(partition, job.pool, chunks)
    return stage(Path(job.out), chunks.start, table_of(items, partition, rows, job))


def table_of(items: pa.Table, partition: Partition, rows: NDArray[np.int64], job: Job) -> pa.Table:
    """The table of a chunk: its `items` (id, key), and what the job says of these rows of the partition."""
    columns = {} if job.head is None else head_columns(partition, rows, job.head)
    if job.novelty is not None:
        columns["novelty"] = pa.array(job.novelty.scores(partition, rows))
    for name, column in columns.items():
        items = items.append_column(name, column)
    return items


def head_columns(partition: Partition, rows: NDArray[np.int64], job: HeadJob) -> dict[str, pa.Array]:
    """The columns of what a head says of these rows of the partition, by name."""
    partition.use_features(job.hidden_layer)
    parts = [columns_of_block(*found, job) for found in predicted_blocks(partition, rows, job)]
    if not parts:
        one, none = np.zeros((1, len(job.classes))), dict.fromkeys(job.scores, np.zeros(1, np.float32))
        parts = [{name: column[:0] for name, column in columns_of_block(one, one, none, job).items()}]
    return {name: pa.chunked_array([part[name] for part in parts]).combine_chunks() for name in parts[0]}


def column_of(score: str) -> str:
    """The name of a score's column; `probability` alone is that of the class that is predicted."""
    return f"target_{score}" if is_of_target(score) else score


def predicted_blocks(
    partition: Partition, rows: NDArray[np.int64], job: HeadJob
) -> Iterator[tuple[Matrix, Matrix, dict[str, NDArray[np.float32]]]]:
    """Compute predictions block by block.

    Args:
        partition: holds the rows.
        rows: their positions in the partition.
        job: what is predicted.

    Yields:
        (probabilities or numbers [n, C], variance of the outputs [n, c], uncertainties [n] by score) of a block.

    Raises:
        PoolError: the prediction of an item is not finite; the error names the item.
    """
    readers = [ProductReader(partition, inputs) for inputs in (job.inputs, *job.draws)]
    matrices = [reader.matrix(partition) for reader in readers]
    outs = [torch.zeros(reader.numbers, PREDICTION_ROWS, device=partition.device) for reader in readers]
    for block in partition.blocks(rows, PREDICTION_ROWS):
        for reader, matrix, out in zip(readers, matrices, outs, strict=True):
            reader.read(matrix.products(block.features), block.features, out)
        with one_thread(), np.errstate(over="ignore", invalid="ignore"):
            found, *sampled = (reader.predicted(out) for reader, out in zip(readers, outs, strict=True))
            outputs = _rows(found.logits)
            variance = np.zeros((PREDICTION_ROWS, 1)) if found.variance is None else _rows(found.variance)
            if sampled:
                p = averaged((_rows(one) for group in sampled for one in _draws(group)), job.inputs.likelihood)
            else:
                p = predictive_responses(job.predictive, job.inputs.likelihood, outputs, variance)
            refuse_broken(partition.ids[block.rows], np.asarray(np.isfinite(p[: block.n]).all(axis=1)))
            # Scores without samples judge the probabilities that are written, whatever the predictive.
            vars(found)["probabilities"] = torch.from_numpy(p.T.astype(np.float32)).to(partition.device)
            scores = {name: SCORES[name](found).float().cpu().numpy()[: block.n].copy() for name in job.scores}
        yield p[: block.n], variance[: block.n], scores


def columns_of_block(
    p: Matrix, variance: Matrix, scores: dict[str, NDArray[np.float32]], job: HeadJob
) -> dict[str, pa.Array]:
    """The columns of a block, by name.

    Args:
        p: probabilities [n, C], or numbers [n, 1].
        variance: of the outputs [n, c]; used for numbers alone.
        scores: uncertainties [n] by score.
        job: what is predicted.

    Returns:
        Arrow arrays of n values, in the order of the file's columns.
    """
    names, likelihood = pa.array(job.classes, pa.string()), job.inputs.likelihood
    columns = likelihood.columns(p, variance, job.inputs.noise)
    found = {name: _column(column, names) for name, column in columns.items()}
    if likelihood.discrete:
        small = p.astype(np.float32)
        if job.top:
            likeliest = largest(p, job.top)
            top = np.take_along_axis(small, likeliest, axis=1)
            found["top_classes"] = _lists(names.take(pa.array(likeliest.reshape(-1))), job.top)
            found["top_probabilities"] = _lists(pa.array(top.reshape(-1)), job.top)
        else:
            found["probabilities"] = _lists(pa.array(small.reshape(-1)), len(names))
    return found | {column_of(name): pa.array(values) for name, values in scores.items()}


def _column(column: Column, names: pa.Array) -> pa.Array:
    """A column, with the names of outputs for their places."""
    values = pa.array(column.values)
    if column.values.dtype == np.int64:
        values = names.take(values)
    return values if column.cuts is None else pa.ListArray.from_arrays(pa.array(column.cuts), values)


def largest(p: Matrix, count: int) -> NDArray[np.int64]:
    """The places [n, count] of the largest of each row of p [n, C], largest first; a tie goes to the lower place."""
    if count > MAX_PASSES:
        return np.argsort(-p, axis=1, kind="stable")[:, :count]
    left, found = p.copy(), np.empty((len(p), count), np.int64)
    for turn in range(count):
        found[:, turn] = left.argmax(axis=1)
        left[np.arange(len(p)), found[:, turn]] = -np.inf
    return found


def _rows(values: torch.Tensor) -> Matrix:
    """Values [C, n] as float64 [n, C]."""
    return np.ascontiguousarray(values.T.cpu().numpy(), dtype=np.float64)


def _draws(group: Predicted) -> Iterator[torch.Tensor]:
    """The outputs [C, n] of each posterior sample."""
    assert group.samples is not None
    yield from group.samples


def _lists(values: pa.Array, length: int) -> pa.Array:
    """Values [n * length] as n lists of one length."""
    return pa.FixedSizeListArray.from_arrays(values, length)
