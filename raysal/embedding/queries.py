"""What people look for that is no item of a pool: texts, images and vectors, as the pool would hold them.

Texts and images go through the pool's own encoder, made again from what the pool's manifest says of it, and refused if
its fingerprint is another one: vectors of two models cannot be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from raysal.arguments import as_path, has_methods
from raysal.config import Choice
from raysal.errors import BadItem, ConfigError, EncoderError, FingerprintMismatch, RaysalError, UnknownName
from raysal.pool import Pool
from raysal.real_numbers import as_numbers
from raysal.sources.named_images import NamedImages
from raysal.sources.payloads import image_in

if TYPE_CHECKING:
    from raysal.embedding.base import Encoder
    from raysal.types import Modality


OF_TEXTS_TOO = ("open_clip",)
"""Encoders of other items that encode texts, too. Known by name, so that no model is loaded to refuse a text."""


@runtime_checkable
class EncodesTexts(Protocol):
    """An encoder of other items whose vectors share their space with those of texts."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.floating[Any]]:
        """Vectors [n, dim] of n texts."""
        ...


def as_vectors(vector: Any, dim: int, scale: float = 1.0) -> NDArray[np.float32]:
    """One vector or several as a matrix to compare with what a pool holds.

    Args:
        vector: numbers [dim], [m, dim] or [m, 1, dim].
        dim: the length of the pool's vectors.
        scale: of the pool.

    Returns:
        float32 [m, dim], times the scale.

    Raises:
        ConfigError: they are not numbers, not finite, too large, or of another length.
    """
    try:
        given = as_numbers(vector)
    except ValueError as error:
        raise ConfigError("vector", f"not a vector of numbers: {error}", f"pass {dim} numbers") from None
    rows = np.atleast_2d(given[:, 0] if given.ndim == 3 and given.shape[1] == 1 else given)
    with np.errstate(over="ignore"):
        values = (rows.astype(np.float64) * scale).astype(np.float32)
    if values.ndim != 2 or values.shape[1] != dim or len(values) == 0:
        raise ConfigError("vector", f"of shape {given.shape}", f"the pool's vectors have {dim} numbers")
    if not np.isfinite(values).all():
        raise ConfigError("vector", "it is not finite, or far larger than the pool's vectors", "pass finite numbers")
    return values


def image_of(image: Any) -> tuple[str, Any]:
    """An image as an encoder prepares it.

    Args:
        image: a file, its bytes, or pixels uint8 [h, w, 3].

    Returns:
        What to call it in an error, and the payload.

    Raises:
        ConfigError: the file cannot be read, or it is no image at all.
    """
    if isinstance(image, bytes | bytearray) or hasattr(image, "shape"):
        try:
            return "the image", image_in(image, NamedImages(Path()))
        except ValueError as error:
            raise ConfigError("image", str(error), "pass a file, its bytes, or pixels uint8 [h, w, 3]") from None
    path = as_path("image", image)
    try:
        return str(path), path.read_bytes()
    except OSError as error:
        raise ConfigError(path, f"the image cannot be read ({error.strerror})", "check the path") from None


def encoded(pool: Pool, modality: Modality, name: str, payload: Any, encoder: Encoder | None) -> NDArray[np.float32]:
    """One text or image through the pool's encoder, scaled and rounded to float16 as the pool's vectors are.

    Args:
        pool: the pool.
        modality: what the payload is.
        name: what to call it in an error.
        payload: the text or the image.
        encoder: as in `search`.

    Returns:
        float32 [1, d].

    Raises:
        EncoderError: the pool's items are of another kind, or its encoder cannot be made again, or fails.
        FingerprintMismatch: the encoder is not the one the pool was embedded by.
        BadItem: the text or image cannot be embedded.
        RaysalError: as the encoder says.
    """
    holds, made_by = pool.manifest.modality, str(pool.manifest.encoder["name"])
    both = modality == "text" and (made_by.partition(":")[0] in OF_TEXTS_TOO or isinstance(encoder, EncodesTexts))
    if holds != modality and not both:
        fix = "search by key" if holds in ("vector", "sound") else f"search by {holds} or by key"
        raise EncoderError(modality, f"the pool holds {holds}s (encoder {made_by}), not {modality}s", fix)
    encoder = encoder_of_pool(pool, encoder)
    from raysal.embedding.encoding import Encoding
    from raysal.embedding.rounding import to_half

    try:
        if holds != modality and isinstance(encoder, EncodesTexts):
            result: Any = encoder.encode_texts([payload])[0]
        else:
            (result,) = Encoding(encoder)([encoder.prepare(name, payload)])
    except RaysalError:
        raise
    except Exception as error:  # an encoder of the user's own
        result = error
    if isinstance(result, BadItem):
        raise BadItem(name, result.problem, result.fix)
    if isinstance(result, Exception):
        problem = f"fails on {name} ({type(result).__name__}: {result})"
        raise EncoderError(made_by, problem, "try another one") from result
    half = to_half(name, result, pool.scale)
    if isinstance(half, BadItem):
        raise half
    row: NDArray[np.float32] = half.astype(np.float32)[None]
    return row


def encoder_of_pool(pool: Pool, encoder: Encoder | None = None) -> Encoder:
    """The encoder that a pool was embedded by.

    Args:
        pool: the pool.
        encoder: the encoder, if it is at hand; by default it is made from its name and fields.

    Returns:
        The encoder, whose fingerprint is that of the pool.

    Raises:
        EncoderError: it cannot be made from its name.
        ConfigError: `encoder` is none.
        FingerprintMismatch: it is another one, or its weights have changed.
    """
    from raysal.embedding import ENCODERS

    recorded = pool.manifest.encoder
    name, expected = str(recorded["name"]), str(recorded["fingerprint"])
    if encoder is not None and not has_methods(encoder, "fingerprint", "prepare", "encode"):
        raise ConfigError("encoder", f"{encoder!r} is no encoder", "pass the one the pool was embedded by")
    if encoder is None:
        try:
            encoder = Choice(name=name, **recorded.get("config", {})).build("encoder", ENCODERS)
        except (UnknownName, ConfigError) as error:
            raise EncoderError(
                pool.path,
                f"its encoder {name!r} cannot be made from its name ({error.problem})",
                "search by key, or from Python pass the encoder itself",
            ) from None
    found = encoder.fingerprint()
    if found != expected:
        fix = "install what the pool was embedded with, or search by key"
        raise FingerprintMismatch(pool.path, f"the fingerprint of {name}", expected, found, fix)
    return encoder
