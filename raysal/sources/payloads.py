"""Payloads as sources find them, and as items have them: vectors of floats, and images that nobody decoded yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.arrays import is_missing
from raysal.arrow import ColumnKind
from raysal.real_numbers import as_array, as_numbers
from raysal.types import Modality


def as_vector(value: Any) -> NDArray[np.floating[Any]]:
    """A vector as items have it.

    Args:
        value: numbers [d] or [1, d], in whatever container.

    Returns:
        float32 or float64 [d]; another shape stays as it is, for the encoder to refuse.

    Raises:
        ValueError: there is none, or `as_numbers` refuses it.
    """
    if is_missing(value):
        raise ValueError("no vector")
    numbers = as_numbers(value)
    return numbers[0] if numbers.ndim == 2 and len(numbers) == 1 else numbers


def vector_length(rows: Iterable[Any]) -> int:
    """The length that most vectors have, so that the odd ones are set aside and not the others.

    Args:
        rows: vectors; None for one that is missing. Of many, the first ones are looked at.

    Returns:
        The length; 0 where no row is a vector.
    """
    rest = iter(rows)
    while some := list(islice(rest, _LOOKED_AT)):
        lengths: Counter[int] = Counter()
        for row in some:
            with suppress(ValueError):
                vector = as_vector(row)
                lengths.update([len(vector)] if vector.ndim == 1 else [])
        if lengths:
            return lengths.most_common(1)[0][0]
    return 0


_LOOKED_AT = 4096
"""Rows that decide about the length of a vector."""


def image_in(value: Any, folder: Path | None) -> Any:
    """The image that a cell holds.

    A struct of `bytes` and `path` is how Hugging Face's data sets store images: the bytes, or where they are missing
    the path of a file. A relative path begins at `folder`.

    Args:
        value: encoded bytes, pixels, or such a struct as a dict.
        folder: where the table lies; None in a bucket, where no image outside of the table is read.

    Returns:
        Encoded bytes, or an array of pixels.

    Raises:
        ValueError: there is no image. The message says why.
    """
    if isinstance(value, dict) and "bytes" in value:
        if value["bytes"] is not None:
            return value["bytes"]
        return _file(value.get("path"), folder)
    if isinstance(value, list | tuple) or (hasattr(value, "shape") and not isinstance(value, bytes)):
        pixels = as_array(value)
        if pixels.dtype == object:
            raise ValueError("a pixel is missing, or no number")
        return pixels
    return value


def _file(path: Any, folder: Path | None) -> bytes:
    """The bytes of an image that a table names by its path."""
    if not path:
        raise ValueError("the image has neither bytes nor a path")
    if folder is None:
        problem = (
            f"its bytes are not in the table, and files that a table in a bucket names ({str(path)!r}) are not read"
        )
        raise ValueError(f"{problem}; write the bytes into the table")
    if "://" in str(path):
        raise ValueError(f"its bytes are not in the table, and {str(path)!r} is no local file")
    try:
        return (folder / str(path)).read_bytes()
    except (OSError, ValueError) as error:  # a path may hold a null character
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"its bytes are not in the table, and {str(path)!r} cannot be read ({reason})") from None


def guessed_payload(kinds: dict[str, ColumnKind]) -> tuple[Modality, str] | None:
    """The modality and the column of the payloads, where nobody named one.

    Args:
        kinds: how each column is read, by name.

    Returns:
        Both; None where it is not plain.
    """
    floats = [name for name, kind in kinds.items() if kind.is_float_vector]
    if "vector" in kinds and kinds["vector"].is_vector:
        return "vector", "vector"
    if len(floats) == 1:
        return "vector", floats[0]
    if floats:
        return None
    for images in (
        [name for name, kind in kinds.items() if kind.is_encoded_image],
        [name for name, kind in kinds.items() if kind.is_image],
    ):
        if images:
            return ("image", images[0]) if len(images) == 1 else None
    if "text" in kinds and kinds["text"].is_text:
        return "text", "text"
    whole = [name for name, kind in kinds.items() if kind.is_vector]
    return ("vector", whole[0]) if len(whole) == 1 else None
