"""Images of other formats made from numbers become these numbers by the stated rule, or are refused with the reason."""

from __future__ import annotations

import io
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from image_files import fits, packed, png, pnm, tiff
from PIL import Image
from tiers import deep_unless

from raysal.embedding import decode
from raysal.embedding.decode import decode_image, square_pixels
from raysal.errors import BadItem


def decoded(payload: Any) -> np.ndarray | BadItem:
    try:
        return np.asarray(decode_image("some/key", payload)).astype(int)
    except BadItem as error:
        return error


def draw(bits: int, *bands: int, size: tuple[int, int] = (9, 13)) -> np.ndarray:
    """Random numbers of some bits, with the smallest and the largest among them."""
    values = np.random.default_rng(bits).integers(0, 2**bits, (*size, *bands))
    values[0, :3] = np.array([0, 2**bits - 1, 2**bits // 3]).reshape(3, *(1 for _ in bands))
    return values


def eight(values: np.ndarray, bits: int) -> np.ndarray:
    return np.rint(values * (255 / (2**bits - 1)))


def three(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, axis=2)


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Alpha of 0 to 1."""
    return np.rint(colours * alpha + 255 * (1 - alpha))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_png(bits: int) -> None:
    values = draw(bits)
    assert np.array_equal(decoded(png(values, bits=bits, colour=0)), three(eight(values, bits)))
    for hidden in sorted({0, 1, 2**bits // 3, 2**bits - 1}):
        got = decoded(png(values, bits=bits, colour=0, transparency=struct.pack(">H", hidden)))
        assert np.array_equal(got, three(np.where(values == hidden, 255, eight(values, bits)))), hidden


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_png(bits: int) -> None:
    values = draw(bits)
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (2**bits, 3)).astype(np.uint8)
    got = decoded(png(values, bits=bits, colour=3, palette=palette.tobytes()))
    assert np.array_equal(got, palette[values])
    for alpha in (rng.integers(0, 256, 2**bits), np.array([255, 0])):  # of the first colours; the others are opaque
        full = np.concatenate([alpha, np.full(2**bits - len(alpha), 255)])
        got = decoded(png(values, bits=bits, colour=3, palette=palette.tobytes(), transparency=bytes(alpha.tolist())))
        assert np.abs(got - on_white(palette[values], full[values][..., None] / 255)).max() <= 1


@pytest.mark.parametrize("bits", [8, 16])
def test_colour_and_alpha_png(bits: int) -> None:
    off = 1 if bits == 16 else 0  # Pillow takes the high byte
    rgb = draw(bits, 3)
    assert np.abs(decoded(png(rgb, bits=bits, colour=2)) - eight(rgb, bits)).max() <= off
    for colour, bands in ((4, 2), (6, 4)):
        values = draw(bits, bands)
        levels = eight(values, bits)
        expected = on_white(levels[..., :-1], levels[..., -1:] / 255)
        assert np.abs(decoded(png(values, bits=bits, colour=colour)) - expected).max() <= 1 + off
    hidden = rgb[3, 4]
    got = decoded(png(rgb, bits=bits, colour=2, transparency=struct.pack(">3H", *hidden)))
    if bits == 16:
        assert isinstance(got, BadItem)
    else:
        assert np.array_equal(got, np.where((rgb == hidden).all(axis=2, keepdims=True), 255, rgb))


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("maximum", [1, 2, 3, 100, 254, 255, 256, 1000, 1023, 4095, 16383, 32767, 65534, 65535])
def test_portable_maps_reach_from_zero_to_their_maximum(maximum: int, plain: bool) -> None:
    for bands in ((), (3,)):
        values = np.random.default_rng(maximum).integers(0, maximum + 1, (9, 13, *bands))
        values[0, 0], values[0, 1] = 0, maximum
        expected = values * (255 / maximum)
        got = decoded(pnm(values, maximum, plain=plain))
        assert np.abs(got - (expected if bands else three(expected))).max() <= (0.501 if maximum <= 255 else 1)
        assert (got[0, 0] == 0).all()
        assert (got[0, 1] == 255).all()


DEPTHS = [(signed, bits) for signed in (False, True) for bits in (1, 4, 7, 8, 9, 10, 12, 15, 16)]


@pytest.mark.parametrize("container", ["jp2", "j2k"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize(("signed", "bits"), DEPTHS)
def test_jpeg_2000_is_its_numbers_or_refused(signed: bool, bits: int, bands: int, container: str) -> None:
    import imagecodecs

    values = draw(bits, *([bands] if bands > 1 else []), size=(24, 32)) - signed * 2 ** (bits - 1)
    kind = np.dtype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
    data = imagecodecs.jpeg2k_encode(
        values.astype(kind), codecformat=container, bitspersample=bits, reversible=True, level=0, mct=False
    )
    got = decoded(data)
    if signed or (bits != 8 and (bands > 1 or bits < 9)):
        assert isinstance(got, BadItem)
        assert "no fixed range" in got.problem if signed else "is not read" in got.problem
    elif isinstance(got, BadItem):
        assert bits == 9  # Pillow takes it for 8 bits, in JP2 or in both
    else:
        levels = eight(values, bits)
        if bands in (2, 4):
            levels = on_white(levels[..., :-1], levels[..., -1:] / 255)
        assert np.abs(got - (three(levels) if bands == 1 else levels)).max() <= (bits != 8 or bands in (2, 4))


def smooth(*bands: int) -> np.ndarray:
    """Values that a lossy format keeps to a few levels."""
    rows, columns = np.mgrid[0:48, 0:64]
    fields = [60 + 2 * rows, 60 + 2 * columns, 220 - rows - columns, (rows + columns) // 2]
    return (np.stack(fields[: bands[0]], axis=2) if bands else fields[0]).astype(np.uint8)


def from_cmyk(values: np.ndarray) -> np.ndarray:
    inks = 255 - values.astype(float)
    return np.rint(inks[..., :3] * inks[..., 3:] / 255)


def test_jpegs() -> None:
    import imagecodecs

    grey, rgb, inks = smooth(), smooth(3), smooth(4)
    assert np.abs(decoded(packed(Image.fromarray(grey), "JPEG", quality=98)) - three(grey)).max() <= 3
    assert np.abs(decoded(packed(Image.fromarray(rgb), "JPEG", quality=98)) - rgb).max() <= 4
    stored_rgb = imagecodecs.jpeg8_encode(rgb, level=98, colorspace="rgb", outcolorspace="rgb")
    assert np.abs(decoded(stored_rgb) - rgb).max() <= 4
    # Adobe stores inks turned around, and says so; Pillow does the same.
    adobe = packed(Image.frombytes("CMYK", (64, 48), inks.tobytes()), "JPEG", quality=98)
    assert np.abs(decoded(adobe) - from_cmyk(inks)).max() <= 4
    ycck = imagecodecs.jpeg8_encode(255 - inks, level=98, colorspace="cmyk", outcolorspace="ycck")
    assert np.abs(decoded(ycck) - from_cmyk(inks)).max() <= 5


@pytest.mark.parametrize(
    ("form", "options", "off"),
    [
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 98}, 10),
        ("AVIF", {"quality": 98}, 6),
        ("GIF", {}, None),
        ("BMP", {}, 0),
        ("JPEG2000", {"irreversible": False}, 0),
        ("PPM", {}, 0),
        ("TGA", {}, 0),
    ],
)
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_what_pillow_writes_in_eight_bits_is_read_back(form: str, options: dict[str, Any], off: Any, mode: str) -> None:
    image = Image.fromarray(smooth(4 if mode == "RGBA" else 3)).convert(mode)
    if (form, mode) in {("GIF", "RGBA"), ("PPM", "P"), ("JPEG2000", "1"), ("JPEG2000", "P"), ("BMP", "RGBA")}:
        return
    if (form == "PPM" and mode == "RGBA") or (mode in ("1", "P") and "quality" in options):
        return  # Pillow writes RGB without alpha; noise is not kept in a few levels
    straight = np.asarray(image.convert("RGBA")).astype(float)
    expected = on_white(straight[..., :3], straight[..., 3:] / 255)
    if off is None:  # its palette has other colours
        off = 0 if mode != "RGB" else 60
    assert np.abs(decoded(packed(image, form, **options)) - expected).max() <= off + (mode == "RGBA")


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_avif_of_any_depth(bits: int) -> None:
    import imagecodecs

    values = np.full((16, 16, 3), (2**bits - 1, 2 ** (bits - 1), 5)).astype(np.uint8 if bits == 8 else np.uint16)
    got = decoded(imagecodecs.avif_encode(values, level=95, bitspersample=bits))
    assert np.abs(got - eight(values.astype(int), bits)).max() <= 6


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_heic_is_decoded_upright(mode: str, orientation: int) -> None:
    import pillow_heif

    image = Image.fromarray(smooth(4 if mode == "RGBA" else 3)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = pillow_heif_file(pillow_heif, image, exif)
    straight = np.asarray(image.convert("RGBA")).astype(float)
    expected = np.rot90(on_white(straight[..., :3], straight[..., 3:] / 255), {1: 0, 3: 2, 6: -1}[orientation])
    assert np.abs(decoded(buffer) - expected).max() <= 12


def pillow_heif_file(pillow_heif: Any, image: Image.Image, exif: Image.Exif | None = None) -> bytes:
    buffer = io.BytesIO()
    options = {} if exif is None else {"exif": exif.tobytes()}
    pillow_heif.from_pillow(image).save(buffer, quality=98, **options)
    return buffer.getvalue()


def test_heic_of_ten_bits_is_scaled() -> None:
    import pillow_heif

    values = np.full((32, 32, 3), (65535, 32768, 1000), np.uint16)
    image = pillow_heif.from_bytes("RGB;16", (32, 32), values.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, quality=98)
    assert np.abs(decoded(buffer.getvalue()) - eight(values.astype(int), 16)).max() <= 8


@pytest.mark.parametrize("form", ["HEIC", "AVIF", "JPEG2000", "PNG", "WEBP", "array"])
def test_the_limit_of_pixels_holds_for_every_reader(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import pillow_heif

    image = Image.fromarray(smooth(3))
    payload: Any = np.asarray(image) if form == "array" else None
    if payload is None:
        payload = pillow_heif_file(pillow_heif, image) if form == "HEIC" else packed(image, form)
    assert not isinstance(decoded(payload), BadItem)
    monkeypatch.setattr(decode, "MAX_PIXELS", 48 * 64 - 1)
    assert "too large: 64 x 48" in decoded(payload).problem


def test_heic_without_the_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import pillow_heif

    data = pillow_heif_file(pillow_heif, Image.fromarray(smooth(3)))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert decoded(data).fix == "pip install 'raysal[heif]'"
    assert not isinstance(decoded(packed(Image.fromarray(smooth(3)), "AVIF")), BadItem)


@pytest.mark.parametrize(
    ("dtype", "reason"), [(np.int32, "not known"), (np.uint16, "not known"), (np.float32, "floating point")]
)
def test_wide_numbers_of_a_format_without_a_known_range_are_refused(dtype: Any, reason: str) -> None:
    got = decoded(packed(Image.fromarray(np.array([[1, 300]], dtype)), "IM"))
    assert isinstance(got, BadItem)
    assert reason in got.problem


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 5), np.uint16),
        np.zeros((4, 5, 1), np.uint16),
        np.zeros((4, 5), bool),
        np.zeros((4, 5), np.int8),
        np.zeros((4, 5, 3), np.float64),
        np.zeros((4, 5, 2), np.uint8),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((3, 4, 5), np.uint8),
        np.zeros((1, 4, 5, 3), np.uint8),
        np.zeros(5, np.uint8),
    ],
)
def test_arrays_that_could_be_several_images_are_refused_with_the_fix(pixels: np.ndarray) -> None:
    got = decoded(pixels)
    assert isinstance(got, BadItem)
    assert "expected uint8 [h, w], [h, w, 1] or [h, w, 3]" in got.problem
    assert "0..255 as uint8" in got.fix


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3)])
def test_arrays_are_their_own_pixels(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = np.broadcast_to(pixels.reshape(4, 5, -1), (4, 5, 3))
    assert np.array_equal(decoded(pixels), expected)
    assert np.array_equal(decoded(np.asfortranarray(pixels)), expected)
    assert np.array_equal(square_pixels("a", pixels, 4), square_pixels("a", expected.astype(np.uint8), 4))


@pytest.mark.parametrize("threads", deep_unless([4], [4, 16]))
def test_many_threads_decode_what_one_does(threads: int) -> None:
    import pillow_heif

    wide = draw(16, 3)
    files = [
        png(draw(16), bits=16, colour=0),
        png(draw(2), bits=2, colour=0, transparency=b"\0\1"),
        tiff(wide, photometric=2, bits=16, planar=2),
        tiff(wide[..., :1], photometric=0, bits=16, compression=8),
        tiff(wide[..., :1], bits=16, form=2),
        fits(draw(16) - 32768, 16, BZERO=32768),
        packed(Image.fromarray(smooth(3)), "JPEG"),
        pillow_heif_file(pillow_heif, Image.fromarray(smooth(3))),
        b"no image",
    ]
    alone = [decoded(data) for data in files]
    with ThreadPoolExecutor(threads) as pool:
        together = list(pool.map(decoded, files * 20))
    for index, got in enumerate(together):
        expected = alone[index % len(files)]
        assert str(got) == str(expected) if isinstance(expected, BadItem) else np.array_equal(got, expected)
