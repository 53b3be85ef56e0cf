"""Hashes of texts, a column at a time: what keys are found by."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_STEP = 0x9E3779B97F4A7C15
"""An odd number: its powers modulo 2^64 have inverses."""
_BACK = pow(_STEP, -1, 2**64)


def text_hashes(column: pa.Array) -> NDArray[np.uint64]:
    """A hash of each text. Different texts may share one: whoever looks one up compares the text.

    A polynomial of the bytes modulo 2^64 is a difference of sums over all of them, so that no loop is over texts.

    Args:
        column: texts [n], none missing.

    Returns:
        uint64 [n].
    """
    if not len(column):
        return np.empty(0, np.uint64)
    buffers = column.buffers()
    wide = pa.types.is_large_string(column.type)
    cuts = np.frombuffer(buffers[1], np.int64 if wide else np.int32)[column.offset : column.offset + len(column) + 1]
    low, high = int(cuts[0]), int(cuts[-1])
    content = np.frombuffer(buffers[2], np.uint8)[low:high] if high > low else np.empty(0, np.uint8)
    powers = np.full(len(content) + 1, _STEP, np.uint64)
    powers[0] = 1
    np.multiply.accumulate(powers, out=powers)
    sums = np.zeros(len(content) + 1, np.uint64)
    np.cumsum((content.astype(np.uint64) + np.uint64(1)) * powers[:-1], out=sums[1:])
    back = np.full(len(content) + 1, _BACK, np.uint64)
    back[0] = 1
    np.multiply.accumulate(back, out=back)
    starts, ends = cuts[:-1].astype(np.int64) - low, cuts[1:].astype(np.int64) - low
    mixed = (sums[ends] - sums[starts]) * back[starts]
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return mixed ^ (mixed >> np.uint64(32))
