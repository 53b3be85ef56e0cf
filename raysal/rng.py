"""All randomness of raysal. It is derived from (seed, round, stage, item id) where it is used, and stored nowhere.

The random number of an item is a hash of a key and the item's id. So it does not depend on the partitions, order or
batches of the items. The random numbers of a stage come from a generator with such a key.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_U64 = np.uint64
_GOLDEN = _U64(0x9E3779B97F4A7C15)
"""The golden ratio's fraction times 2^64, the increment of SplitMix64."""


def derive(seed: int, *path: str | int) -> int:
    """Derive the key of one place in a run, for example `derive(seed, round, "select")`.

    Different paths have different keys, even if their parts make the same text when they are joined. Only a number and
    its digits, such as 1 and "1", are the same part.

    Args:
        seed: the run's seed.
        path: the parts that name the place.

    Returns:
        A 64-bit key.
    """
    text = "\x1f".join([str(seed), *(_spelling(part) for part in path)])
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _spelling(part: str | int) -> str:
    """A part of a path as text without the separator, so that no two paths give the same text."""
    return str(part).replace("\x1e", "\x1e0").replace("\x1f", "\x1e1")


def generator(key: int) -> np.random.Generator:
    """A Philox generator for a key from `derive`."""
    return np.random.Generator(np.random.Philox(key=key))


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014): one-to-one; each bit changes all bits."""
    x = (x ^ (x >> _U64(30))) * _U64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> _U64(27))) * _U64(0x94D049BB133111EB)
    return x ^ (x >> _U64(31))


def _hash(key: int, ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    """64 bits for each item. Every step is one-to-one, so no two items have the same."""
    return _mix(_mix(ids.astype(np.uint64) * _GOLDEN + _U64(key)) ^ _U64(key))


def item_uniform(key: int, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """One uniform random number for each item, which depends on the key and the item's id alone.

    Args:
        key: a key from `derive`.
        ids: int64 [n].

    Returns:
        float64 [n] in (0, 1), never 0 or 1. So -log u is finite and positive.
    """
    bits = _hash(key, ids)
    # 52 bits plus one half are exact in float64. With 53 bits, the largest number would round up to 1.
    return ((bits >> _U64(12)).astype(np.float64) + 0.5) * 2.0**-52


def item_gumbel(key: int, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """One standard Gumbel number for each item, from its `item_uniform`.

    The item of largest log w + Gumbel number is a sample in proportion to the weights w, and the k largest are a sample
    without replacement.

    Args:
        key: a key from `derive`.
        ids: int64 [n].

    Returns:
        float64 [n], finite.
    """
    return np.asarray(-np.log(-np.log(item_uniform(key, ids))))


def item_order(ties: int | None, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each item that says which of equal ones comes first: the one with the lower number.

    This is the one rule for ties. A rule of selection gives a key, so that ties go by a hash of (key, item) and not by
    the order of files. What people look up, and what has no seed, gives None: ties go to the lower id.

    Args:
        ties: a key from `derive`, or None.
        ids: int64 [n], distinct.

    Returns:
        int64 [n], distinct.
    """
    return ids if ties is None else _hash(ties, ids).view(np.int64)
