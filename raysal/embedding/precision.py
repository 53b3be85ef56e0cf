"""In which numbers a model multiplies: float32, or half of its bits by torch's autocast.

Weights, normalisation and what autocast keeps (sums, norms) stay float32; a vector is float32. The precision belongs to
the fingerprint of an encoder, because vectors of another one differ in more than their last bits.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Literal

from raysal.errors import ConfigError
from raysal.sources.base import UNLESS_DEFAULT

Precision = Literal["float32", "bfloat16", "float16"]
"""Bits of a product: 24 of a float32, 8 of a bfloat16, 11 of a float16, whose largest number is 65504."""
LATER_FIELD = {"record": UNLESS_DEFAULT}
"""Metadata of a field that older pools do not know: it is recorded where it does not have its default."""
MOST_SLOWER = 4.0
"""Of a CPU: how many times as long as float32 a product of other numbers may take. Without instructions for them it is
tens to hundreds of times."""
SIDE = 256
"""Of the matrices whose product is timed."""


def in_preprocessing(precision: Precision) -> Mapping[str, str]:
    """What `Encoder.preprocessing` says of it: nothing of float32, so that older fingerprints hold."""
    return {} if precision == "float32" else {"precision": precision}


def computing_in(precision: Precision, device: str) -> AbstractContextManager[object]:
    """A context in which torch multiplies in a precision.

    Args:
        precision: of products.
        device: in torch's words.

    Returns:
        The context; float32 changes nothing.

    Raises:
        ConfigError: as `check_precision`.
    """
    if precision == "float32":
        return nullcontext()
    import torch

    check_precision(precision, device)
    return torch.autocast(torch.device(device).type, getattr(torch, precision))


def check_precision(precision: Precision, device: str) -> None:
    """Refuse a precision that a CPU has no instructions for. On other devices torch decides.

    Args:
        precision: of products.
        device: in torch's words.

    Raises:
        ConfigError: its products take more than `MOST_SLOWER` times as long as those of float32.
    """
    if precision == "float32" or not device.startswith("cpu"):
        return
    if (times := times_as_long(precision)) > MOST_SLOWER:
        problem = f"products of {precision} take {times:.0f} times as long as those of float32 on this CPU"
        raise ConfigError("encoder.precision", problem, "use float32")


@lru_cache(maxsize=4)
def times_as_long(precision: Precision) -> float:
    """How many times as long as in float32 a product of two matrices takes on this CPU. Measured once a process."""
    import torch

    wide = torch.ones(SIDE, SIDE)
    narrow = wide.to(getattr(torch, precision))
    best = [float("inf"), float("inf")]
    for _ in range(5):  # in turn, and the best of each: other work on the machine slows both
        for which, matrix in enumerate((wide, narrow)):
            start = time.perf_counter()
            matrix @ matrix
            best[which] = min(best[which], time.perf_counter() - start)
    return best[1] / best[0]
