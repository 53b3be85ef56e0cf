"""Payloads as sources find them, and as items have them: vectors of floats, and images that nobody decoded yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.arrays import is_missing
from raysal.arrow import ColumnKind
from raysal.real_numbers import as_array, as_numbers
from raysal.sources.named_images import NamedImages
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


def image_in(value: Any, named: NamedImages | None = None) -> Any:
    """The image that a cell holds.

    Args:
        value: encoded bytes, pixels, or as Hugging Face's data sets store images a struct of `bytes` and `path` as a
            dict: the bytes, or where they are missing the path of a file.
        named: reads such files.

    Returns:
        Encoded bytes, or an array of pixels.

    Raises:
        ValueError: there is no image. The message says why.
    """
    if isinstance(value, dict) and "bytes" in value:
        if value["bytes"] is None and named is not None:
            (found,) = named.read([value.get("path")])
            if isinstance(found, ValueError):
                raise found
            return found
        return value["bytes"]
    if isinstance(value, list | tuple) or (hasattr(value, "shape") and not isinstance(value, bytes)):
        pixels = as_array(value)
        if pixels.dtype == object:
            raise ValueError("a pixel is missing, or no number")
        return pixels
    return value


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
