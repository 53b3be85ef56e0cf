"""simplejpeg changes no pixel and no reason: where it is absent or differs, Pillow decodes, to the same bits."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from raysal.embedding import jpeg
from raysal.embedding.decode import MAX_PIXELS, fast_square_pixels
from raysal.embedding.jpeg import agrees, decoder, scaled_jpeg, upright
from raysal.errors import BadItem

simplejpeg = pytest.importorskip("simplejpeg")


def packed(mode: str, height: int, width: int, seed: int = 0, **options: Any) -> bytes:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, height // 5), max(2, width // 5), 3), dtype=np.uint8)
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = options.pop("orientation", 1)
    Image.fromarray(coarse).resize((width, height)).convert(mode).save(buffer, "JPEG", exif=exif, **options)
    return buffer.getvalue()


@contextmanager
def without_simplejpeg() -> Iterator[None]:
    """As where it is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jpeg, "decoder", lambda: None)
        yield


def outcome(payload: bytes, size: int) -> NDArray[np.uint8] | str:
    try:
        return fast_square_pixels("a", payload, size)
    except BadItem as error:
        return str(error)


def same(payload: bytes, size: int) -> bool:
    one = outcome(payload, size)
    with without_simplejpeg():
        other = outcome(payload, size)
    return type(one) is type(other) and np.array_equal(one, other)


def test_it_is_used_here() -> None:
    """Else the tests of this file would compare Pillow with itself."""
    assert decoder() is simplejpeg.decode_jpeg
    assert scaled_jpeg(packed("RGB", 300, 400), 64, MAX_PIXELS).shape == (75, 100, 3)  # type: ignore[union-attr]
    assert scaled_jpeg(packed("L", 300, 400), 64, MAX_PIXELS).shape == (75, 100, 1)  # type: ignore[union-attr]


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(["L", "RGB", "CMYK"]),
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    size=st.integers(1, 80),
    quality=st.integers(5, 100),
    subsampling=st.sampled_from([0, 1, 2]),
    progressive=st.booleans(),
    orientation=st.integers(0, 9),
)
@example(mode="RGB", height=1, width=40, size=8, quality=90, subsampling=0, progressive=False, orientation=4)
def test_no_pixel_depends_on_it(mode: str, height: int, width: int, size: int, **options: Any) -> None:
    assert same(packed(mode, height, width, **options), size)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_is_damaged_has_the_pixels_or_the_reason_that_pillow_gives(data: st.DataObject) -> None:
    whole = bytearray(packed("RGB", 60, 80, progressive=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    kept = data.draw(st.integers(0, len(whole)))
    assert same(bytes(whole[:kept] if data.draw(st.booleans()) else whole), 16)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_turned_as_pillow_turns_them(orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    assert np.array_equal(upright(pixels, orientation), np.asarray(ImageOps.exif_transpose(image)))


def test_a_library_that_decodes_otherwise_is_not_used() -> None:
    """As one whose libjpeg thins out colours in another way."""

    def roughly(data: bytes, colorspace: str, **options: Any) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace, fastupsample=True, **options)
        return found

    assert agrees(simplejpeg.decode_jpeg)
    assert not agrees(roughly)


def test_too_many_pixels_are_left_to_pillow_which_refuses_them() -> None:
    assert scaled_jpeg(packed("RGB", 20, 20), 4, 399) is None
    assert scaled_jpeg(packed("RGB", 20, 20), 4, 400) is not None
