"""A TIFF made from numbers becomes these numbers by the stated rule, or is refused with the reason."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from image_files import (
    COLOUR_MAP,
    DEFLATE,
    DOUBLE,
    LZW,
    MAX_SAMPLE,
    MIN_SAMPLE,
    NONE,
    ORIENTATION,
    PACKBITS,
    RATIONAL,
    REAL,
    SHORT,
    SIGNED,
    SLONG,
    SMAX_SAMPLE,
    SMIN_SAMPLE,
    SUBFILE,
    UNSIGNED,
    VOID,
    packed,
    tiff,
)
from PIL import Image
from tiers import deep, one_of_each

from raysal.embedding import decode
from raysal.embedding.decode import decode_image
from raysal.errors import BadItem

GREY_INVERTED, GREY, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
COLOURS = {GREY_INVERTED: 1, GREY: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}
HEIGHT, WIDTH = 37, 29  # neither fills bytes, strips and tiles
COMPRESSIONS = ((NONE, 1), (DEFLATE, 1), (LZW, 1), (PACKBITS, 1), (DEFLATE, 2))
PLACES = ({}, {"rows": 5}, {"tile": (16, 16)}, {"big": True})
CONTAINERS = [
    {"order": order, "fill_order": turned, "compression": compression, "predictor": predictor, **place}
    for order, turned, (compression, predictor), place in product("<>", (1, 2), COMPRESSIONS, PLACES)
]

Kind = tuple[int, int, tuple[int, ...] | None, int, int]
"""Photometric, bands, extra, bits, planar."""
EXTRAS = {
    GREY_INVERTED: (None, (2,)),
    GREY: (None, (0,), (1,), (2,), "untold"),
    RGB: (None, (0,), (1,), (2,), (0, 0), (2, 0), "untold"),
    CMYK: (None, (0,), (2,)),
    YCBCR: (None,),
    LAB: (None,),
}


def _kinds() -> Iterator[Kind]:
    for photometric, extras in EXTRAS.items():
        for extra, bits, planar in product(extras, (1, 2, 4, 7, 8, 10, 12, 14, 16, 32), (1, 2)):
            bands = COLOURS[photometric] + (1 if isinstance(extra, str) else len(extra or ()))
            if planar == 1 or bands > 1:
                yield photometric, bands, None if isinstance(extra, str) else extra, bits, planar


KINDS = list(_kinds())


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """The rule, one number at a time."""
    return np.array([max(0, min(255, round(255 * (float(v) - low) / (high - low)))) for v in values.ravel()]).reshape(
        values.shape
    )


def meaning(values: np.ndarray, kind: Kind) -> np.ndarray | None:
    """What the image looks like, [h, w, 3]; None if the file does not say."""
    photometric, bands, extra, bits, _ = kind
    extra = extra or ()
    if bands != COLOURS[photometric] + len(extra) or len(extra) > 1 or bits > 16:
        return None
    if (extra == (0,) and photometric != RGB) or (extra and photometric not in (GREY, RGB)):
        return None
    if photometric not in (GREY_INVERTED, GREY, RGB) and bits not in ((8, 16) if photometric == CMYK else (8,)):
        return None
    levels = scaled(values, 0, 2**bits - 1)
    colours = levels[..., : COLOURS[photometric]].astype(float)
    if photometric == GREY_INVERTED:
        colours = 255 - colours
    if photometric == CMYK:
        colours = (255 - colours[..., :3]) * (255 - colours[..., 3:]) / 255
    if photometric == YCBCR:
        y, blue, red = colours[..., 0], colours[..., 1] - 128, colours[..., 2] - 128
        colours = np.stack([y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue], axis=2)
    if photometric == LAB:
        colours = from_lab(values[..., 0] * 100 / 255, *np.moveaxis(values[..., 1:].astype(np.int8), 2, 0))
    if extra in ((1,), (2,)):
        alpha = levels[..., -1:] / 255
        colours = (colours if extra == (1,) else colours * alpha) + 255 * (1 - alpha)
    return np.broadcast_to(np.clip(np.rint(colours), 0, 255), (*values.shape[:2], 3))


def from_lab(light: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """CIELAB with white D50 to sRGB."""
    y = (light + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * (0.9642, 1, 0.8249)
    to_rgb = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.033454],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = np.clip(xyz @ np.array(to_rgb).T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def numbers(kind: Kind) -> np.ndarray:
    """Pixels of a kind that its colours can hold."""
    photometric, bands, extra, bits, _ = kind
    rng = np.random.default_rng(bits)
    values = rng.integers(0, 2**bits, (HEIGHT, WIDTH, bands))
    values[0, 0], values[0, 1] = 0, 2**bits - 1
    if photometric == LAB:
        return np.stack([rng.integers(90, 200, (HEIGHT, WIDTH)), *rng.integers(-20, 20, (2, HEIGHT, WIDTH)) % 256], 2)
    if extra == (1,):  # colours multiplied by alpha are not above it
        values[..., :-1] = values[..., :-1] * values[..., -1:] // (2**bits - 1)
    return values


def tolerance(kind: Kind) -> int:
    """Levels of 255 by which the pixels may be off."""
    photometric, bands, extra, bits, _ = kind
    if photometric == LAB:
        return 8  # in dark, saturated colours; most are within 1
    if photometric == YCBCR:
        return 2
    if extra in ((1,), (2,)):
        return 1 if bits <= 8 and extra == (2,) else 3  # Pillow takes the high byte, and divides it by that of alpha
    if bits == 16 and bands > 1:
        return 2 if photometric == CMYK else 1  # Pillow takes the high byte
    return 1 if photometric == CMYK else 0


def decoded(data: bytes) -> np.ndarray | BadItem:
    try:
        return np.asarray(decode_image("some/key", data)).astype(int)
    except BadItem as error:
        return error


def check(kind: Kind, container: dict[str, Any]) -> None:
    photometric, _, extra, bits, planar = kind
    if container["predictor"] == 2 and bits not in (8, 16, 32):
        return
    values = numbers(kind)
    tags = {530: (SHORT, [1, 1])} if photometric == YCBCR else {}
    data = tiff(values, photometric=photometric, extra=extra, bits=bits, planar=planar, tags=tags, **container)
    expected, got = meaning(values, kind), decoded(data)
    if expected is None:
        assert isinstance(got, BadItem)
        assert "band" in got.problem or "no fixed range" in got.problem or "is not read" in got.problem
    elif isinstance(got, BadItem):
        assert photometric in (CMYK, YCBCR, LAB), got
        big = container["order"] == ">" and "big" in container
        assert planar == 2 or container["fill_order"] == 2 or big, container
    else:
        assert np.abs(got - expected).max() <= tolerance(kind), (kind, container)


@pytest.mark.parametrize(("photometric", "bands", "extra", "bits", "planar"), one_of_each(KINDS))
def test_a_tiff_is_its_numbers_or_refused(
    photometric: int, bands: int, extra: tuple[int, ...] | None, bits: int, planar: int
) -> None:
    kind = photometric, bands, extra, bits, planar
    rng = np.random.default_rng([photometric, bands, bits, planar])
    for compression in COMPRESSIONS:
        alike = [c for c in CONTAINERS if (c["compression"], c["predictor"]) == compression and c["fill_order"] == 1]
        check(kind, alike[rng.integers(len(alike))])
    check(kind, CONTAINERS[rng.integers(len(CONTAINERS))])


@deep
@pytest.mark.parametrize(("photometric", "bands", "extra", "bits", "planar"), KINDS)
def test_a_tiff_is_its_numbers_or_refused_in_every_container(
    photometric: int, bands: int, extra: tuple[int, ...] | None, bits: int, planar: int
) -> None:
    for container in CONTAINERS:
        check((photometric, bands, extra, bits, planar), container)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("container", CONTAINERS[::3])
def test_a_palette_gives_its_colours_or_is_refused(bits: int, container: dict[str, Any]) -> None:
    if container["predictor"] == 2 and bits < 8:
        return
    rng = np.random.default_rng(bits)
    values = rng.integers(0, 2**bits, (HEIGHT, WIDTH))
    colours = rng.integers(0, 2**16, (3, 2**bits))
    got = decoded(
        tiff(values, photometric=PALETTE, bits=bits, tags={COLOUR_MAP: (SHORT, colours.ravel())}, **container)
    )
    if bits == 16:
        assert isinstance(got, BadItem)
    elif isinstance(got, BadItem):
        assert container["fill_order"] == 2 or "big" in container
    else:
        assert np.array_equal(got, colours.T[values] >> 8)


NUMBERS = [
    *[(SIGNED, bits, np.int64(-(2 ** (bits - 1))), np.int64(2 ** (bits - 1) - 1)) for bits in (8, 16, 32)],
    *[(UNSIGNED, bits, np.uint64(0), np.uint64(2**bits - 1)) for bits in (32, 64)],
    *[(REAL, bits, np.float64(-1000), np.float64(1000)) for bits in (16, 32, 64)],
]


@pytest.mark.parametrize("photometric", [GREY_INVERTED, GREY, RGB])
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize(("form", "bits", "low", "high"), NUMBERS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_without_a_range_are_refused_and_with_one_are_scaled(
    photometric: int, planar: int, form: int, bits: int, low: Any, high: Any, order: str
) -> None:
    shape = (5, 7, COLOURS[photometric])
    rng = np.random.default_rng(0)
    values = (
        rng.uniform(low, high, shape)
        if form == REAL
        else rng.integers(low, high, shape, endpoint=True, dtype=type(low))
    )
    options: dict[str, Any] = {"photometric": photometric, "bits": bits, "form": form, "order": order}
    bare = decoded(tiff(values, planar=planar, **options))
    assert isinstance(bare, BadItem)
    assert "no fixed range" in bare.problem
    assert "SMinSampleValue" in bare.fix
    if form == REAL and bits == 16:
        values = values.astype(np.float16).astype(float)
    black, white = float(low) / 2, float(high) / 4  # the ends are cut off
    tags = {SMIN_SAMPLE: (DOUBLE, [black] * shape[2]), SMAX_SAMPLE: (DOUBLE, [white] * shape[2])}
    expected = scaled(values, *((white, black) if photometric == GREY_INVERTED else (black, white)))
    got = decoded(tiff(values, planar=planar, tags=tags, **options))
    assert np.abs(got - expected).max() <= (1 if form == REAL else 0)


def test_twelve_bits_in_sixteen_are_sixteen_unless_the_file_says_so() -> None:
    values = np.array([[0, 100, 200, 2000, 4095]])
    assert decoded(tiff(values, bits=16))[0, :, 0].tolist() == [0, 0, 1, 8, 16]
    stated = {SMAX_SAMPLE: (SHORT, [4095])}
    assert decoded(tiff(values, bits=16, tags=stated))[0, :, 0].tolist() == [0, 6, 12, 125, 255]
    assert decoded(tiff(values, bits=16, tags=stated, photometric=0))[0, :, 0].tolist() == [255, 249, 243, 130, 0]
    # The standard: these two are "not to be used to affect the visual appearance of an image".
    statistics = {MIN_SAMPLE: (SHORT, [100]), MAX_SAMPLE: (SHORT, [4095])}
    assert decoded(tiff(values, bits=16, tags=statistics))[0, :, 0].tolist() == [0, 0, 1, 8, 16]
    # Eight bits are what they are.
    small = np.array([[0, 100, 200]])
    assert decoded(tiff(small, tags={SMAX_SAMPLE: (SHORT, [200])}))[0, :, 0].tolist() == [0, 100, 200]


@pytest.mark.parametrize(
    ("values", "options", "reason"),
    [
        ([[1, 2]], {"photometric": None}, "PhotometricInterpretation"),
        ([[1, 2]], {"photometric": 32803}, "kind 32803"),
        ([[1, 2]], {"form": 6, "bits": 32}, "kind 1, 6"),
        ([[1, 2]], {"form": VOID}, "kind 1, 4"),
        ([[1, 2]], {"form": SIGNED, "bits": 12, "tags": {340: (SLONG, [-9]), 341: (SLONG, [9])}}, "signed 12-bit"),
        ([[1, 2]], {"bits": 40, "tags": {341: (DOUBLE, [9])}}, "unsigned 40-bit"),
        ([[1, 2]], {"tags": {SUBFILE: (SHORT, [1])}}, "thumbnail"),
        ([[1, 2]], {"tags": {SUBFILE: (SHORT, [4])}}, "mask"),
        ([[1, 2]], {"tags": {32997: (SHORT, [2])}}, "32997"),
        ([[1.0, np.nan]], {"form": 3, "bits": 32, "tags": {340: (DOUBLE, [0]), 341: (DOUBLE, [9])}}, "not finite"),
        ([[1.0, np.inf]], {"form": 3, "bits": 64, "tags": {340: (DOUBLE, [0]), 341: (DOUBLE, [9])}}, "not finite"),
        ([[1, 2]], {"form": 2, "bits": 16, "tags": {340: (SLONG, [5]), 341: (SLONG, [5])}}, "range is 5 to 5"),
        ([[1, 2]], {"bits": 16, "tags": {340: (DOUBLE, [0]), 341: (DOUBLE, [np.nan])}}, "range is 0 to nan"),
        ([[[1, 2, 3]]], {"photometric": 2, "tags": {258: (SHORT, [8, 8, 16])}}, "bands differ"),
        ([[[1, 2, 3]]], {"photometric": 2, "tags": {339: (SHORT, [1, 1, 2])}}, "bands differ"),
        ([[[1, 2, 3, 4]]], {"photometric": 5, "tags": {332: (SHORT, [2])}}, "InkSet"),
        ([[[1, 2, 3]]], {"photometric": 2, "tags": {532: (RATIONAL, [(16, 1), (235, 1)] * 3)}}, "ReferenceBlackWhite"),
        ([[[1, 2, 3]]], {"photometric": 6}, "YCbCr"),
        ([[[1, 2, 3]]], {"photometric": 6, "tags": {530: (SHORT, [2, 1])}}, "YCbCr"),
        (
            [[[1, 2, 3]]],
            {
                "photometric": 6,
                "tags": {530: (SHORT, [1, 1]), 532: (RATIONAL, [(16, 1), (235, 1), *[(128, 1), (240, 1)] * 2])},
            },
            "YCbCr",
        ),
    ],
)
def test_what_a_tiff_does_not_say_is_not_guessed(values: Any, options: dict[str, Any], reason: str) -> None:
    got = decoded(tiff(np.array(values), **options))
    assert isinstance(got, BadItem)
    assert reason in got.problem


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [1, 2])
def test_infrared_beside_the_colours_does_not_change_them(bits: int, planar: int) -> None:
    """A band that the file does not call alpha, and one that it does although it hides every pixel."""
    values = np.full((3, 4, 4), (10, 20, 30, 77)) * (257 if bits == 16 else 1)
    assert np.unique(decoded(tiff(values, photometric=RGB, extra=[0], bits=bits, planar=planar))).tolist() == [
        10,
        20,
        30,
    ]
    values[..., 3] = 0
    assert np.unique(decoded(tiff(values, photometric=RGB, extra=[2], bits=bits, planar=planar))).tolist() == [
        10,
        20,
        30,
    ]


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """By the standard: where row 0 and column 0 are."""
    turned = pixels if orientation < 5 else pixels.swapaxes(0, 1)
    rows, columns = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}[
        orientation
    ]
    return turned[::rows, ::columns]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("photometric", "bits", "extra", "planar"),
    [
        (GREY, 1, None, 1),
        (GREY, 8, None, 1),
        (GREY, 16, None, 1),
        (GREY_INVERTED, 16, None, 1),
        (GREY, 12, None, 1),
        (GREY, 8, (1,), 1),
        (GREY, 16, (2,), 1),
        (RGB, 8, None, 1),
        (RGB, 16, None, 2),
        (RGB, 8, (2,), 1),
        (CMYK, 8, None, 1),
    ],
)
def test_orientation_is_applied_by_every_reader(
    orientation: int, photometric: int, bits: int, extra: tuple[int, ...] | None, planar: int
) -> None:
    kind = photometric, COLOURS[photometric] + len(extra or ()), extra, bits, planar
    options: dict[str, Any] = {"photometric": photometric, "bits": bits, "extra": extra, "planar": planar}
    hidden = numbers(kind)
    hidden[..., -1] *= 0
    for compression, values in ((NONE, numbers(kind)), (DEFLATE, numbers(kind)), (NONE, hidden)):
        options["compression"] = compression
        flat = decoded(tiff(values, **options))
        turned = decoded(tiff(values, tags={ORIENTATION: (SHORT, [orientation])}, **options))
        assert np.array_equal(turned, upright(flat, orientation))


FAMILY = [
    tiff(numbers(kind), photometric=kind[0], extra=kind[2], bits=kind[3], planar=kind[4], order=order, compression=how)
    for kind in KINDS
    if kind[3] in (1, 8, 12, 16)
    for order, how in (("<", NONE), (">", LZW))
]


def test_without_the_extra_the_pixels_are_the_same_or_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with_it = [decoded(data) for data in FAMILY]
    needed = 0
    for hidden in ("tifffile", "imagecodecs"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, hidden, None)
            for data, full in zip(FAMILY, with_it, strict=True):
                bare = decoded(data)
                if isinstance(full, BadItem):
                    assert isinstance(bare, BadItem)
                    assert (bare.problem, bare.fix) == (full.problem, full.fix)
                elif isinstance(bare, BadItem):
                    assert bare.fix == "pip install 'raysal[tiff]'"
                    needed += 1
                else:
                    assert np.array_equal(bare, full)
    assert needed


@pytest.mark.parametrize("read", [b"".join, bytearray, memoryview])
def test_any_buffer_is_read(read: Any) -> None:
    data = tiff(np.array([[0, 1000, 65535]]), photometric=0, bits=16)
    assert np.array_equal(decoded(read([data]) if read == b"".join else read(data)), decoded(data))


@pytest.mark.parametrize("compression", [NONE, DEFLATE, LZW, PACKBITS])
@pytest.mark.parametrize("place", PLACES[:3])
@pytest.mark.parametrize(("photometric", "bits", "planar"), [(GREY, 8, 1), (GREY_INVERTED, 16, 1), (RGB, 16, 2)])
def test_a_file_that_ends_early_is_refused(
    compression: int, place: dict[str, Any], photometric: int, bits: int, planar: int
) -> None:
    bands = COLOURS[photometric]
    values = np.random.default_rng(0).integers(1, 2**bits, (HEIGHT, WIDTH, bands))
    data = tiff(values, photometric=photometric, bits=bits, planar=planar, compression=compression, **place)
    for share in (0.2, 0.5, 0.85):  # the last tile is mostly padding
        assert isinstance(decoded(data[: int(share * len(data))]), BadItem)


@pytest.mark.parametrize(("photometric", "bits"), [(GREY, 8), (GREY, 12)])
@pytest.mark.parametrize("place", [{"rows": 20}, {"tile": (16, 16)}])
def test_parts_that_were_never_written_are_not_made_up(photometric: int, bits: int, place: dict[str, Any]) -> None:
    data = tiff(np.full((HEIGHT, WIDTH), 9), photometric=photometric, bits=bits, **place)
    counts, places = (279, 273) if "rows" in place else (325, 324)
    parts = 2 if "rows" in place else 6
    sparse = {counts: (4, [0] * parts), places: (4, [0] * (parts - 1) + [8])}
    got = decoded(
        tiff(
            np.full((HEIGHT, WIDTH), 9),
            photometric=photometric,
            bits=bits,
            tags=sparse,
            **place,
        )
    )
    assert isinstance(decoded(data), np.ndarray)
    assert isinstance(got, BadItem)


@pytest.mark.parametrize(("photometric", "bits"), [(GREY, 8), (GREY_INVERTED, 16)])
def test_the_limit_of_pixels_holds_before_anything_is_decoded(
    photometric: int, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "MAX_PIXELS", 1000)
    got = decoded(tiff(np.zeros((30, 40), int), photometric=photometric, bits=bits, compression=DEFLATE))
    assert isinstance(got, BadItem)
    assert "too large: 40 x 30" in got.problem
    huge = {256: (4, [2**31]), 257: (4, [2**31])}
    assert isinstance(decoded(tiff(np.zeros((3, 4), int), photometric=photometric, bits=bits, tags=huge)), BadItem)
    tile = {322: (4, [2**20]), 323: (4, [2**20])}
    assert isinstance(decoded(tiff(np.zeros((16, 16), int), bits=bits, tile=(16, 16), tags=tile)), BadItem)


@pytest.mark.parametrize(
    "compression", [None, "jpeg", "tiff_lzw", "tiff_adobe_deflate", "packbits", "group3", "group4"]
)
@pytest.mark.parametrize("mode", ["1", "L", "P", "PA", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_what_pillow_writes_is_read_back(mode: str, compression: str | None) -> None:
    ramp = np.add.outer(np.arange(48) * 2, np.arange(64)).astype(np.uint8)
    image = Image.fromarray(np.stack([ramp, 255 - ramp, ramp // 2], axis=2))
    image = Image.fromarray(ramp.astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    if (compression or "").startswith("group") != (mode == "1") and compression not in (None, "packbits"):
        return
    if compression == "jpeg" and mode in ("1", "P", "PA", "LA", "I;16"):
        return
    expected = ramp[..., None] if mode == "I;16" else np.asarray(image.convert("RGB")).astype(int)
    got = decoded(packed(image, "TIFF", compression=compression))
    assert np.abs(got - expected).max() <= (8 if compression == "jpeg" else mode == "YCbCr")


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"compression": "zlib"}, {"compression": "lzw"}])
@pytest.mark.parametrize("kind", ["ome", "imagej", "pages", "bigtiff"])
def test_of_a_stack_the_first_page_is_taken(kind: str, options: dict[str, Any]) -> None:
    import tifffile

    pages = np.random.default_rng(0).integers(0, 2**16, (3, 40, 50)).astype(np.uint16)
    form = {"bigtiff": kind == "bigtiff", "ome": kind == "ome", "imagej": kind == "imagej"}
    if kind == "imagej" and options:
        return
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pages, photometric="minisblack", **form, **options)
    assert np.array_equal(decoded(buffer.getvalue())[..., 0], np.rint(pages[0] / 257))


@pytest.mark.parametrize("compression", ["zstd", "lzma", "jpeg2000", "webp", "lerc", "png"])
@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3)])
def test_other_compressions_are_right_or_refused(compression: str, shape: tuple[int, ...]) -> None:
    import tifffile

    values = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    args = {"lossless": True} if compression == "webp" else {"reversible": True} if compression == "jpeg2000" else None
    photometric = "rgb" if len(shape) == 3 else "minisblack"
    buffer = io.BytesIO()
    try:
        tifffile.imwrite(buffer, values, photometric=photometric, compression=compression, compressionargs=args)
    except (ValueError, RuntimeError) as error:
        pytest.skip(str(error))
    got = decoded(buffer.getvalue())
    assert isinstance(got, BadItem) or np.array_equal(got, values if len(shape) == 3 else np.stack([values] * 3, 2))
