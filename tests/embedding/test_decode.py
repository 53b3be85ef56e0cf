from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raysal.embedding import decode
from raysal.embedding.decode import check_text, decode_image, square_pixels
from raysal.errors import BadItem


def packed(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pixel(image: Image.Image, place: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    value = image.getpixel(place)
    assert isinstance(value, tuple)
    return tuple(value)


def noise(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_every_mode_of_png_becomes_rgb(mode: str) -> None:
    image = decode_image("a", packed(noise(mode), "PNG"))
    assert (image.mode, image.size) == ("RGB", (40, 30))


def test_cmyk_jpeg_has_its_colours() -> None:
    data = packed(Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK"), "JPEG", quality=95)
    assert np.allclose(pixel(decode_image("a", data)), (200, 30, 60), atol=6)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_to_eight(form: str) -> None:
    wide = np.array([[0, 257, 32896, 65535]], np.uint16)
    image = decode_image("a", packed(Image.fromarray(wide), form))
    assert [pixel(image, (x, 0))[0] for x in range(4)] == [0, 1, 128, 255]


def test_transparency_is_laid_on_white() -> None:
    rgba = Image.new("RGBA", (3, 1))
    rgba.putdata([(255, 0, 0, 255), (0, 0, 0, 0), (0, 0, 0, 128)])
    image = decode_image("a", packed(rgba, "PNG"))
    assert pixel(image, (0, 0)) == (255, 0, 0)
    assert pixel(image, (1, 0)) == (255, 255, 255)
    assert np.allclose(pixel(image, (2, 0)), 127, atol=1)


def test_transparent_palette_colour_is_white() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 255, 0, 255, 0])
    palette.putdata([0, 1])
    image = decode_image("a", packed(palette, "PNG", transparency=1))
    assert (pixel(image, (0, 0)), pixel(image, (1, 0))) == ((0, 0, 255), (255, 255, 255))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_exif_orientation_is_applied(mode: str) -> None:
    image = Image.new(mode, (4, 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: width and height change places
    form = "PNG" if mode == "RGBA" else "JPEG"
    assert decode_image("a", packed(image, form, exif=exif)).size == (2, 4)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (5, 5), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    data = packed(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=10)
    assert pixel(decode_image("a", data))[:2] == (250, 0)


def test_one_pixel_fills_the_square() -> None:
    pixels = square_pixels("a", packed(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG"), 8)
    assert pixels.shape == (8, 8, 3)
    assert (pixels == (9, 8, 7)).all()


def test_arrays_are_taken_as_pixels() -> None:
    assert pixel(decode_image("a", np.full((2, 2), 77, np.uint8))) == (77, 77, 77)
    assert pixel(decode_image("a", np.full((2, 2, 3), (1, 2, 3), np.uint8))) == (1, 2, 3)


def bomb() -> bytes:
    return packed(Image.new("1", (20_000, 20_000)), "PNG")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty file"),
        (b"\x00" * 100, "not an image of a known format"),
        (packed(noise(), "JPEG")[:-300], "truncated"),
        (packed(noise(), "PNG")[:-300], "cannot be decoded"),
        (packed(noise(), "PNG")[:20], "cannot be decoded|not an image"),
        (packed(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), "floating point"),
        (np.zeros((2, 2), np.float32), "expected uint8"),
        (np.zeros((2, 2, 7), np.uint8), "expected uint8"),
        (np.zeros((0, 2), np.uint8), "empty array"),
        (3, "not int"),
    ],
)
def test_what_cannot_be_decoded_says_why(payload: Any, reason: str) -> None:
    with pytest.raises(BadItem, match=reason) as caught:
        decode_image("some/key", payload)
    assert caught.value.where == "some/key"


def test_decompression_bombs_are_refused_before_they_are_unpacked() -> None:
    with pytest.raises(BadItem, match="too large"):
        decode_image("a", bomb())


def test_an_image_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_PIXELS", 40 * 30 - 1)
    with pytest.raises(BadItem, match="too large: 40 x 30"):
        decode_image("a", packed(noise(), "PNG"))


@pytest.mark.parametrize(("text", "reason"), [("", "empty"), (" \n\t\u00a0", "empty"), (None, "NoneType"), (3, "int")])
def test_empty_texts_are_bad(text: Any, reason: str) -> None:
    with pytest.raises(BadItem, match=reason):
        check_text("a", text)


def test_a_text_stays_as_it_is() -> None:
    assert check_text("a", " so \n") == " so \n"


@pytest.mark.parametrize("size", [5, 8, 31])
def test_grey_is_stretched_as_three_equal_channels_are(size: int) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (30, 8), dtype=np.uint8)
    expected = square_pixels("a", np.stack([grey] * 3, axis=2), size)
    assert np.array_equal(square_pixels("a", grey, size), expected)
    assert np.array_equal(square_pixels("a", packed(Image.fromarray(grey), "PNG"), size), expected)
