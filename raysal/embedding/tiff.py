"""TIFF files: the tags say what the numbers mean; Pillow or tifffile reads them, and what neither can is refused.

Pillow opens many layouts as something else, without an error: planes of 16 bits as noise, signed and inverted numbers
as they are stored, the first of two bands alone. So the tags decide before anything is decoded: `_PILLOW` has the
layouts that Pillow reads right (tests try each over byte orders, strips, tiles and compressions), and tifffile reads
the other grey and RGB ones. Which of the two reads a file depends on its tags alone.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from raysal.embedding.pixels import CONVERT, check_size, fixed_range, image_of, to_eight_bits
from raysal.errors import BadItem
from raysal.numerics import ceil_div
from raysal.types import Pixels


class _Tag(IntEnum):
    """The tags that say what the pixels are; no other is read."""

    SUBFILE = 254
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_PLACES = 273
    ORIENTATION = 274
    BANDS = 277
    STRIP_SIZES = 279
    PLANAR = 284
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_PLACES = 324
    TILE_SIZES = 325
    INK_SET = 332
    EXTRA = 338
    SAMPLE_FORMAT = 339
    SMIN_SAMPLE = 340
    SMAX_SAMPLE = 341
    LUMA = 529
    SUBSAMPLING = 530
    REFERENCE = 532
    DEPTH = 32997


_WANTED = frozenset(_Tag)
_MARKS = tuple(order + magic for order in (b"II", b"MM") for magic in (b"*\0", b"\0*", b"+\0", b"\0+"))
_CODES = {1: "B", 3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d", 13: "I", 16: "Q"}
"""How the numbers of a field are stored, by its type. Types 5 and 10 are fractions; texts and bytes are not needed."""
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_COLOURS = {
    _WHITE_IS_ZERO: ("grey", 1),
    _BLACK_IS_ZERO: ("grey", 1),
    _RGB: ("RGB", 3),
    _PALETTE: ("palette", 1),
    _CMYK: ("CMYK", 4),
    _YCBCR: ("YCbCr", 3),
    _LAB: ("CIELAB", 3),
}
"""What tag PhotometricInterpretation says: a name, and how many bands it takes."""
_KINDS = {1: "unsigned", 2: "signed", 3: "floating point"}
"""Tag SampleFormat. The others, undefined and complex numbers, are refused."""
_UNSPECIFIED, _ASSOCIATED, _UNASSOCIATED = (0,), (1,), (2,)
"""Tag ExtraSamples of one band: not alpha; alpha by which the colours are multiplied; alpha beside the colours."""
_FULL_YCBCR = (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)
_NO_COMPRESSION = 1
_PILLOW_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32809, 32946, 34925, 50000})
_PILLOW = frozenset(
    [(photometric, 1, bits, ()) for photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE) for bits in (1, 2, 4, 8)]
    + [(_BLACK_IS_ZERO, 1, 16, ()), (_CMYK, 4, 8, ()), (_CMYK, 4, 16, ()), (_YCBCR, 3, 8, ()), (_LAB, 3, 8, ())]
    + [(photometric, 2, 8, _UNASSOCIATED) for photometric in (_BLACK_IS_ZERO, _PALETTE)]
    + [(_RGB, 3, bits, ()) for bits in (8, 16)]
    + [(_RGB, 4, bits, extra) for bits in (8, 16) for extra in (_UNSPECIFIED, _ASSOCIATED, _UNASSOCIATED)]
)
"""(photometric, bands, bits, extra) that Pillow reads right where the bands of a pixel lie together."""
_PILLOW_PLANES = frozenset({(_RGB, 3, 8, ()), (_RGB, 4, 8, _UNASSOCIATED), (_CMYK, 4, 8, ())})
"""As `_PILLOW`, where each band lies by itself."""


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """What the tags of the first page say."""

    width: int
    height: int
    photometric: int
    bits: int
    bands: int
    extra: tuple[int, ...]
    planes: bool
    compression: int
    turned_bits: bool
    orientation: int
    range: tuple[float, float] | None
    """The values that are black and white, before `_WHITE_IS_ZERO` turns them around; None where it is not known, and
    nobody asks for it."""

    @property
    def has_alpha(self) -> bool:
        return self.extra in (_ASSOCIATED, _UNASSOCIATED)

    @property
    def full_range(self) -> bool:
        return self.range == (0, 2**self.bits - 1)


def is_tiff(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a TIFF or a BigTIFF."""
    return head.startswith(_MARKS)


def open_tiff(key: str, data: bytes, limit: int) -> Image.Image:
    """Decode the first page of a TIFF file.

    Args:
        key: the item's name, for the errors.
        data: the file.
        limit: the most pixels it may have.

    Returns:
        The image, turned upright, in a mode of 8 bits, or in 16 bits of grey with full range.

    Raises:
        BadItem: it cannot be read as an image without a guess, is too large, or needs the extra `tiff`.
    """
    tags = _read_tags(data)
    layout = _layout(key, tags, limit)
    _refuse_missing_parts(key, tags)
    if _pillow_reads(layout, data):
        image: Image.Image = Image.open(io.BytesIO(data))
        image.load()
    else:
        _refuse_truncated(key, tags, layout, len(data))
        image = _by_tifffile(key, data, layout)
        image.getexif()[_Tag.ORIENTATION] = layout.orientation
    ImageOps.exif_transpose(image, in_place=True)
    unassociated = layout.extra == _UNASSOCIATED and image.mode in ("LA", "RGBA")
    if unassociated and image.getchannel("A").getextrema() == (0, 0):
        # Common tools declare the fourth band of any image to be alpha. One that hides every pixel is none.
        return image.convert(image.mode[:-1])
    return image


def tiff_numbers(key: str, data: bytes, limit: int) -> Pixels | None:
    """The numbers of the first page of a TIFF file, every band a channel. They are not made brighter or darker.

    Args:
        key: the item's name, for the errors.
        data: the file.
        limit: the most pixels it may have.

    Returns:
        The bands, turned upright; those of RGB are R, G and B, and others have their number from 0. None if they are
        no numbers by themselves: a palette, inks, other colours, or bands beside which alpha is.

    Raises:
        BadItem: it cannot be read without a guess, is too large, or needs the extra `tiff`.
    """
    tags = _read_tags(data)
    if tags.get(_Tag.PHOTOMETRIC) not in ((_WHITE_IS_ZERO,), (_BLACK_IS_ZERO,), (_RGB,)) or {1, 2} & set(
        tags.get(_Tag.EXTRA, ())
    ):
        return None
    layout = _layout(key, tags, limit, numbers=True)
    _refuse_missing_parts(key, tags)
    _refuse_truncated(key, tags, layout, len(data))
    values, stated = _values(key, data, layout), layout.range
    if layout.bits not in (8, 16, 32, 64):  # the type has more bits than the numbers
        values, stated = values.astype(np.uint16), stated or (0, 2**layout.bits - 1)
    if layout.photometric == _WHITE_IS_ZERO:
        if values.dtype.kind != "u":
            raise BadItem(key, "numbers below zero of which 0 is white are not read", CONVERT)
        most = 2**layout.bits - 1
        values, stated = values.dtype.type(most) - values, stated and (most - stated[1], most - stated[0])
    names = ("R", "G", "B", *map(str, range(3, layout.bands))) if layout.photometric == _RGB else ()
    return Pixels(values=_upright(values, layout.orientation), stated=stated, channels=names)


def _upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Numbers [h, w, bands] turned by the tag Orientation."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    down, right = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return values[:: -1 if down else 1, :: -1 if right else 1]


def _read_tags(data: bytes) -> dict[int, tuple[Any, ...]]:
    """The numbers of the first directory by tag."""
    order = "<" if data.startswith(b"II") else ">"
    big = 43 in data[2:4]
    word, head, place = ("Q", 20, 8) if big else ("I", 12, 4)
    (start,) = struct.unpack_from(order + word, data, place)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    start += 8 if big else 2
    tags: dict[int, tuple[Any, ...]] = {}
    for entry in range(start, start + head * count, head):
        tag, kind, length = struct.unpack_from(f"{order}HH{word}", data, entry)
        if tag not in _WANTED or kind not in _CODES:
            continue
        code = f"{order}{length * len(_CODES[kind])}{_CODES[kind][0]}"
        value_at = entry + head - (8 if big else 4)
        if struct.calcsize(code) > (8 if big else 4):
            (value_at,) = struct.unpack_from(order + word, data, value_at)
        values = struct.unpack_from(code, data, value_at)
        if len(_CODES[kind]) == 2:
            pairs = zip(values[::2], values[1::2], strict=True)
            values = tuple(above / below if below else float("nan") for above, below in pairs)
        tags[tag] = values
    return tags


def _layout(key: str, tags: dict[int, tuple[Any, ...]], limit: int, *, numbers: bool = False) -> _Layout:
    """What the tags say. Raises BadItem where they do not say what pixels look like, unless `numbers` are wanted."""

    def one(tag: int, default: int) -> int:
        values = tags.get(tag, (default,))
        if not values or len(set(values)) > 1:
            raise BadItem(key, f"its bands differ: tag {tag} is {values}", CONVERT)
        return int(values[0])

    width, height, compression = one(_Tag.WIDTH, 0), one(_Tag.HEIGHT, 0), one(_Tag.COMPRESSION, _NO_COMPRESSION)
    check_size(key, width, height, limit)
    check_size(
        key, one(_Tag.TILE_WIDTH, 1), one(_Tag.TILE_HEIGHT, 1), limit
    )  # of one tile, which may be larger than the image
    if one(_Tag.SUBFILE, 0) & 5:
        raise BadItem(
            key, "its first page is a thumbnail or a mask, as in raw photos", "develop it, or store the image first"
        )
    if _Tag.PHOTOMETRIC not in tags:
        raise BadItem(key, "it does not say what its numbers mean (no tag PhotometricInterpretation)", CONVERT)
    photometric, bits, form = one(_Tag.PHOTOMETRIC, 0), one(_Tag.BITS, 1), one(_Tag.SAMPLE_FORMAT, 1)
    if photometric not in _COLOURS or form not in _KINDS or one(_Tag.DEPTH, 1) != 1:
        raise BadItem(key, f"pixels of kind {photometric}, {form} are not read (tags 262, 339, 32997)", CONVERT)
    bands, extra = one(_Tag.BANDS, 1), tuple(tags.get(_Tag.EXTRA, ()))
    if not numbers:
        _check_bands(key, photometric, bands, extra)
    elif bands < _COLOURS[photometric][1]:
        raise BadItem(key, f"{bands} band(s), where {_COLOURS[photometric][0]} has more", CONVERT)
    if bits not in ((8, 16, 32, 64) if form != 1 or bits > 16 else range(1, 17)):
        raise BadItem(key, f"{_KINDS[form]} {bits}-bit pixels are not read", CONVERT)
    _check_colours(key, tags, photometric, compression, bits)
    stated = None
    if _Tag.SMAX_SAMPLE in tags and (_Tag.SMIN_SAMPLE in tags or form == 1):
        # One range for all bands: with one for each, colours would change.
        stated = float(min(tags.get(_Tag.SMIN_SAMPLE, (0,)))), float(max(tags[_Tag.SMAX_SAMPLE]))
    tag_names = "the tags SMinSampleValue and SMaxSampleValue"
    ends = stated if numbers else fixed_range(key, _KINDS[form], bits, stated, tag_names)
    return _Layout(
        width=width,
        height=height,
        photometric=photometric,
        bits=bits,
        bands=bands,
        extra=extra,
        planes=bands > 1 and one(_Tag.PLANAR, 1) == 2,
        compression=compression,
        turned_bits=one(_Tag.FILL_ORDER, 1) == 2,
        orientation=one(_Tag.ORIENTATION, 1),
        range=ends,
    )


def _check_bands(key: str, photometric: int, bands: int, extra: tuple[int, ...]) -> None:
    """Refuse bands that nobody can see, or whose meaning is not known."""
    name, colours = _COLOURS[photometric]
    shown = {
        (): True,
        _UNSPECIFIED: photometric == _RGB,
        _ASSOCIATED: photometric in (_BLACK_IS_ZERO, _RGB),
        _UNASSOCIATED: photometric in (_BLACK_IS_ZERO, _RGB, _PALETTE),
    }
    if bands != colours + len(extra) or not shown.get(extra, False):
        named = f"tag ExtraSamples is {extra}" if extra else "there is no tag ExtraSamples"
        raise BadItem(key, f"{bands} band(s), where {name} has {colours}, and {named}", CONVERT)


def _check_colours(key: str, tags: dict[int, tuple[Any, ...]], photometric: int, compression: int, bits: int) -> None:
    """Refuse colours in a form that is read as another one."""
    if photometric == _CMYK and tags.get(_Tag.INK_SET, (1,)) != (1,):
        raise BadItem(key, "its inks are not CMYK (tag InkSet)", CONVERT)
    full = (0.0, 2.0**bits - 1) * 3
    if photometric == _RGB and tags.get(_Tag.REFERENCE, full) != full:
        raise BadItem(key, "its black and white are not 0 and the largest number (tag ReferenceBlackWhite)", CONVERT)
    if photometric == _YCBCR and compression == _NO_COMPRESSION:
        # Pillow hands compressed YCbCr to libtiff, which follows these tags; without compression it passes them over.
        plain = tags.get(_Tag.SUBSAMPLING) == (1, 1) and tags.get(_Tag.REFERENCE, _FULL_YCBCR) == _FULL_YCBCR
        luma = [round(value, 4) for value in tags.get(_Tag.LUMA, (0.299, 0.587, 0.114))]
        if not plain or luma != [0.299, 0.587, 0.114]:
            raise BadItem(key, "uncompressed YCbCr with unusual tags 529, 530 or 532 is not read", CONVERT)


def _refuse_missing_parts(key: str, tags: dict[int, tuple[Any, ...]]) -> None:
    """Refuse a file in which strips or tiles were left out; readers fill them with zeros, or with anything."""
    for sizes in (_Tag.STRIP_SIZES, _Tag.TILE_SIZES):
        if 0 in tags.get(sizes, ()):
            raise BadItem(key, "parts of the image are left out of the file", "store it whole")


def _pillow_reads(layout: _Layout, data: bytes) -> bool:
    kind = (layout.photometric, layout.bands, layout.bits, layout.extra)
    if data.startswith((b"MM\0+", b"MM+\0")) or not layout.full_range or layout.compression not in _PILLOW_COMPRESSIONS:
        return False
    if layout.turned_bits:
        return kind in {(_WHITE_IS_ZERO, 1, 1, ()), (_BLACK_IS_ZERO, 1, 1, ())}
    return kind in (_PILLOW_PLANES if layout.planes else _PILLOW)


def _refuse_truncated(key: str, tags: dict[int, tuple[Any, ...]], layout: _Layout, size: int) -> None:
    """Refuse a file that ends too early. tifffile may fill up what is missing."""
    places, counts = (
        tags.get(_Tag.STRIP_PLACES, tags.get(_Tag.TILE_PLACES, ())),
        tags.get(_Tag.STRIP_SIZES, tags.get(_Tag.TILE_SIZES, ())),
    )
    row_bits = layout.width * layout.bits * (1 if layout.planes else layout.bands)
    needed = ceil_div(row_bits, 8) * layout.height * (layout.bands if layout.planes else 1)
    short = layout.compression == _NO_COMPRESSION and sum(counts) < needed
    if short or len(places) != len(counts) or any(p + c > size for p, c in zip(places, counts, strict=True)):
        raise BadItem(key, "truncated: its strips or tiles are not all there")


def _by_tifffile(key: str, data: bytes, layout: _Layout) -> Image.Image:
    """Decode grey or RGB by tifffile."""
    assert layout.range is not None
    name, colours = _COLOURS[layout.photometric]
    if name not in ("grey", "RGB"):
        raise BadItem(key, f"{name} stored in this way is not read (depth, planes or compression)", CONVERT)
    if layout.has_alpha and not layout.full_range:
        raise BadItem(key, "alpha beside colours of a stated range", CONVERT)
    values = _values(key, data, layout)
    if layout.extra == _UNSPECIFIED:
        values = values[..., :colours]
    black, white = layout.range[:: -1 if layout.photometric == _WHITE_IS_ZERO else 1]
    pixels = to_eight_bits(key, values, black, white)
    mode = {"grey": "L", "RGB": "RGB"}[name] + ("a" if layout.extra == _ASSOCIATED else "A" if layout.has_alpha else "")
    return image_of(pixels, mode)


def _values(key: str, data: bytes, layout: _Layout) -> NDArray[Any]:
    """The numbers of the first page [h, w, bands] by tifffile."""
    try:
        import imagecodecs  # noqa: F401  tifffile needs it for compressed files
        import tifffile
    except ModuleNotFoundError:
        raise BadItem(key, "Pillow does not read this kind of TIFF right", "pip install 'raysal[tiff]'") from None
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        values: NDArray[Any] = file.pages[0].asarray(maxworkers=1)
    size = (layout.height, layout.width)
    return np.moveaxis(values.reshape(layout.bands, *size), 0, 2) if layout.planes else values.reshape(*size, -1)
