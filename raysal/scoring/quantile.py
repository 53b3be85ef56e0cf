"""Exact order statistics of a number that every row has, over all partitions, without gathering the numbers.

A float32 has 2^32 values, and as unsigned integers they can be put in their own order. A count by the first bits says
in which of a few thousand intervals the wanted value lies, a count by the next bits where in that interval: this is a
radix selection. Counts add up to the same sums in any order, so the answer does not depend on partitions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from raysal.errors import UserError
from raysal.fleet import Fleet, Partition

DIGITS = ((21, 11), (10, 11), (0, 10))
"""(shift, width) in bits of the three digits of a key: one round trip each."""


def ranks_within(low: float, high: float, n: int) -> tuple[int, int]:
    """The first and the last rank that are left of n sorted values without their lowest and highest shares.

    The lowest floor(low n) and the highest floor((1 - high) n) are left out. Shares are taken as the decimals they are
    written as: 0.07 of 100 is 7.

    Args:
        low: share of the lowest that is left out, 0 <= low < high.
        high: share up to which values are left in, at most 1.
        n: how many values there are.

    Returns:
        Ranks from 0; the first is at most the last if n >= 1.
    """
    return math.floor(Fraction(str(low)) * n), math.ceil(Fraction(str(high)) * n) - 1


def order_statistics(fleet: Fleet, name: str, ranks: Sequence[int]) -> NDArray[np.float32]:
    """The values at some ranks among all that partitions hold.

    Three round trips, with one pass of a partition over its values in each; a reply is 16 kB a rank. -0.0 counts as
    0.0.

    Args:
        fleet: partitions that hold (ids int64 [n], values float32 [n]) in `state[name]`.
        name: as above; errors call a value by it.
        ranks: from 0 for the smallest.

    Returns:
        float32 [len(ranks)].

    Raises:
        UserError: a value is not finite; it names the item.
        IndexError: a rank is not among those of the values.
    """
    left = np.array(ranks, np.int64)
    prefixes = np.zeros(len(ranks), np.uint32)
    for shift, bits in DIGITS:
        counts = np.sum(fleet.each(count_digits, name, prefixes, shift, bits), axis=0)
        cumulated = counts.cumsum(1)
        if (left >= cumulated[:, -1]).any() or (left < 0).any():
            raise IndexError(f"ranks {list(ranks)} of {int(cumulated[0, -1])} values")
        digits = (cumulated <= left[:, None]).sum(1)
        left -= np.where(digits > 0, np.take_along_axis(cumulated, np.maximum(digits - 1, 0)[:, None], 1)[:, 0], 0)
        prefixes = (prefixes << np.uint32(bits)) | digits.astype(np.uint32)
    return values_of(prefixes)


def count_digits(
    partition: Partition, name: str, prefixes: NDArray[np.uint32], shift: int, bits: int
) -> NDArray[np.int64]:
    """How many values here have each next digit, among those whose key begins with each prefix.

    Args:
        partition: holds (ids, values) in `state[name]`.
        name: as above.
        prefixes: uint32 [p].
        shift: bits after the digit.
        bits: width of the digit.

    Returns:
        int64 [p, 2^bits].

    Raises:
        UserError: a value is not finite; it names the item.
    """
    ids, values = partition.state[name]
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(bad.argmax())
        raise UserError(f"item {ids[row]}", f"its {name} is {values[row]}", "embed it again, or leave it out")
    keys = sort_keys(values) >> np.uint32(shift)
    upper, digits = keys >> np.uint32(bits), keys & np.uint32(2**bits - 1)
    return np.array([np.bincount(digits[upper == prefix], minlength=2**bits) for prefix in prefixes], np.int64)


def sort_keys(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Unsigned integers in the order of finite float32 values: all bits of negative ones flipped, else the sign bit."""
    bits = (values + np.float32(0)).view(np.uint32)  # -0.0 + 0.0 is 0.0
    return np.where(bits >> 31, ~bits, bits | np.uint32(2**31))


def values_of(keys: NDArray[np.uint32]) -> NDArray[np.float32]:
    """The values of which these are the `sort_keys`."""
    return np.where(keys >> 31, keys & np.uint32(2**31 - 1), ~keys).astype(np.uint32).view(np.float32)
