"""A batch through a model: one that does not fit into memory is halved, one that fails is done item by item.

What a batch is cut into is a function of the batch and of the memory there is, not of what came before it. So a job
that was stopped and goes on, or is done by several processes, cuts the same batches in the same way.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.embedding.base import Encoder
from raysal.errors import BadItem, EncoderError, MemoryWarning, RaysalError
from raysal.messages import brief

Result = NDArray[np.floating[Any]] | Exception
"""A vector [d], or why there is none."""

_NO_MEMORY = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""What torch says in a plain RuntimeError: on a CPU, and where a library below it could not allocate."""


class Encoding:
    """Runs an encoder on batches, and knows which sizes of a batch do not fit.

    A batch that runs out of memory is halved, and its halves again, down to one item. A later batch of as many items
    that are as large, or larger ones, is halved at once. How large an item is: the bytes of an array, the characters
    of a text. So batches of pictures are cut as if each were tried anew. Threads may share an object.
    """

    def __init__(
        self,
        encoder: Encoder,
        halved: Callable[[int], None] | None = None,
        too_large: list[tuple[int, int]] | None = None,
    ) -> None:
        """Begin without knowledge, or with that of others.

        Args:
            encoder: the model.
            halved: told the size of each batch that did not fit, every time; by default it is said once in a warning.
            too_large: (items, size of the largest) of batches that did not fit; it grows.
        """
        self.encoder, self._halved = encoder, halved or halving_warner()
        self._too_large = [] if too_large is None else too_large

    def __call__(self, values: Sequence[Any]) -> list[Result]:
        """Encode a batch. Where it fails for another reason than memory, its items are encoded one by one.

        Args:
            values: n results of the encoder's `prepare`.

        Returns:
            For each value a vector [d], or the error it caused.

        Raises:
            EncoderError: there are two or more values, and all fail with the same type of error.
        """
        results = self._encode(values)
        refuse_if_broken(self.encoder, "encode", [r for r in results if isinstance(r, Exception)], len(results))
        return results

    def _encode(self, values: Sequence[Any]) -> list[Result]:
        size = len(values), max(map(_size_of, values))
        if size[0] == 1 or not any(size[0] >= many and size[1] >= large for many, large in self._too_large):
            try:
                return list(_checked(self.encoder, values))
            except Exception as error:
                if isinstance(error, RaysalError) and not isinstance(error, BadItem):
                    raise
                no_memory = brief(error) if is_out_of_memory(error) else None
                if len(values) == 1:
                    # What the model had made hangs on the first error, and would stay in memory with it.
                    return [MemoryError(f"one item alone does not fit ({no_memory})") if no_memory else error]
            if no_memory is None:
                return [result for value in values for result in self._encode([value])]
            self._too_large.append(size)
            _give_back()
            self._halved(size[0])
        middle = half_of(size[0])
        return self._encode(values[:middle]) + self._encode(values[middle:])


def half_of(items: int) -> int:
    """The size of the first half of a batch, which is the larger one."""
    return (items + 1) // 2


def halving_warner() -> Callable[[int], None]:
    """What warns once of each size of a batch that did not fit."""
    said: set[int] = set()

    def warn(items: int) -> None:
        if items not in said:
            said.add(items)
            some = f"{items} items at once do not fit into memory: they are encoded {half_of(items)} at a time"
            # Not `once`: the filters of Python forget nothing from one job to the next.
            warnings.warn(f"{some}; --batch-size {half_of(items)} would save the attempts", MemoryWarning, stacklevel=2)

    return warn


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of a model says that there was not enough memory, on a GPU or here."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def refuse_if_broken(encoder: Encoder, step: str, errors: Sequence[Exception], total: int) -> None:
    """Refuse an encoder that fails on everything in the same way, which is no fault of the items.

    Args:
        encoder: the model.
        step: what it did, `prepare` or `encode`.
        errors: why items failed.
        total: how many items there were.

    Raises:
        EncoderError: all of two or more items fail with the same type of error, and it is no `BadItem`.
    """
    if len(errors) < total or total < 2 or isinstance(first := errors[0], BadItem):
        return
    if all(type(error) is type(first) for error in errors):
        smaller = "use a smaller --size, or a device with more memory"
        fix = smaller if isinstance(first, MemoryError) else "fix the encoder"
        raise EncoderError(type(encoder).__name__, f"{step} fails on every item: {reason_of(first)}", fix) from first


def reason_of(error: Exception) -> str:
    """Why an item has no vector, as the quarantine says it."""
    if isinstance(error, BadItem):
        return error.problem + (f"; {error.fix}" if error.fix else "")
    return f"{type(error).__name__}: {error}"


def _checked(encoder: Encoder, values: Sequence[Any]) -> NDArray[np.floating[Any]]:
    out = encoder.encode(values)
    if out.shape != (len(values), encoder.dim):
        raise EncoderError(type(encoder).__name__, f"returned {out.shape}, expected ({len(values)}, {encoder.dim})")
    return out


def _size_of(value: Any) -> int:
    """How large an item is beside others of its kind."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, tuple | list):  # as a waveform and its rate
        return sum(map(_size_of, value))
    return int(getattr(value, "nbytes", 0))


def _give_back() -> None:
    """Give memory that torch keeps on a GPU back to it, in pieces that another size of batch can use."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
