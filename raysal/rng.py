"""The one source of randomness: derived from (seed, round, stage, item id) where it is used, stored nowhere.

Per-item numbers come from a counter-based hash, so they do not depend on how items are sharded, ordered or
batched. Per-stage numbers come from a generator keyed by the same path.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_U64 = np.uint64
_GOLDEN = _U64(0x9E3779B97F4A7C15)


def derive(seed: int, *path: str | int) -> int:
    """A 64-bit key for one place in a run, for example `derive(seed, round, "select")`.

    Other paths have other keys, however their parts are cut; only 1 and "1" are the same part.
    """
    text = "\x1f".join([str(seed), *(_spelling(part) for part in path)])
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _spelling(part: str | int) -> str:
    """A part of a path as text without the separator, so that no two paths are spelled alike."""
    return str(part).replace("\x1e", "\x1e0").replace("\x1f", "\x1e1")


def generator(key: int) -> np.random.Generator:
    """A Philox generator for one key of `derive`."""
    return np.random.Generator(np.random.Philox(key=key))


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014): a bijection that avalanches all bits."""
    x = (x ^ (x >> _U64(30))) * _U64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> _U64(27))) * _U64(0x94D049BB133111EB)
    return x ^ (x >> _U64(31))


def item_uniform(key: int, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """One number in (0, 1) for each id [n], the same wherever and whenever it is asked for.

    Never 0 or 1, so `-log(u)` is finite and positive.
    """
    bits = _mix(_mix(ids.astype(np.uint64) * _GOLDEN + _U64(key)) ^ _U64(key))
    # 52 bits and a half are exact in float64. With 53, the largest would round up to 1.
    return ((bits >> _U64(12)).astype(np.float64) + 0.5) * 2.0**-52
