"""Payloads to RGB images and texts, or a `BadItem` with the reason. Several threads may call these functions."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from raysal.embedding.fits import is_fits, open_fits
from raysal.embedding.jpeg import scaled_jpeg, upright_size
from raysal.embedding.pixels import CONVERT, KINDS, check_size, fixed_range, to_eight_bits
from raysal.embedding.rendering import PLAIN, Rendering, check_channels, rendered
from raysal.embedding.seen import see, see_reduced
from raysal.embedding.tiff import is_tiff, open_tiff, tiff_numbers
from raysal.errors import BadItem, MissingExtra
from raysal.sources.fits_images import fits_pixels
from raysal.sources.tiff_pages import page_alone, page_places
from raysal.types import Cut, Pixels

MAX_PIXELS = 89_478_485
"""Pixels an image may have: Pillow's own limit, a quarter of a GiB of RGB. Larger images are refused undecoded."""

_WIDE_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_WIDE_FORMATS = ("PNG", "PPM", "JPEG2000", "TIFF")
"""Formats whose wide numbers Pillow gives in the full range of 16 bits. Of others the range is not known."""
_PNG_GREY, _PNG_RGB = 0, 2
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")


def decode_image(key: str, payload: object, least: int = 0, rendering: Rendering = PLAIN) -> Image.Image:
    """Decode an image to RGB; docs/images.md has the rules for every format.

    The EXIF orientation is applied. Transparent pixels are blended with white. Unsigned numbers of N bits map their
    full range onto 0..255. Of several frames or pages, the first is taken. What would need a guess is refused.

    Args:
        key: the item's name, for the error.
        payload: encoded bytes, pixels uint8 [h, w], [h, w, 1] or [h, w, 3], `Pixels`, or a `Cut`. With a rendering,
            numbers of any type and any number of channels.
        least: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, if both sides stay this long or longer. 0: whole.
        rendering: which channels are seen, and with which stretch. Then all is decoded, and a part that is cut out
            looks as it does in the whole.

    Returns:
        The image in mode RGB.

    Raises:
        BadItem: it is empty, truncated, not an image, too large, or what its pixels look like is not known.
    """
    image = _decode(key, payload, least, rendering)
    return image if image.mode == "RGB" else image.convert("RGB")


def _decode(key: str, payload: object, least: int = 0, rendering: Rendering = PLAIN) -> Image.Image:
    """As `decode_image`, but grey stays grey: mode L or RGB. `least` is as for `_open`."""
    image = _decoded(key, payload, least, rendering)
    see(image)
    return image


def _decoded(key: str, payload: object, least: int, rendering: Rendering) -> Image.Image:
    if isinstance(payload, Cut):
        return _cut_out(key, payload, rendering)
    if isinstance(payload, np.ndarray | Pixels):
        if rendering:
            pixels = payload if isinstance(payload, Pixels) else Pixels(values=payload)
            return rendered(key, pixels, rendering, MAX_PIXELS)
        return _from_array(key, payload) if isinstance(payload, np.ndarray) else _from_numbers(key, payload)
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise BadItem(key, f"an image is bytes or a uint8 array, not {type(payload).__name__}")
    if len(payload) == 0:
        raise BadItem(key, "empty file")
    try:
        if rendering:
            return rendered(key, _numbers_of_file(key, bytes(payload), rendering.channels), rendering, MAX_PIXELS)
        return _to_grey_or_rgb(key, _open(key, payload, least))
    except BadItem:
        raise
    except UnidentifiedImageError:
        raise BadItem(key, "not an image of a known format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadItem(key, f"too large: {error}") from None
    except Exception as error:  # the plugin of a format may raise anything on bad bytes
        raise BadItem(key, f"cannot be decoded ({type(error).__name__}: {error})") from None


def _numbers_of_file(key: str, data: bytes, wanted: tuple[str, ...]) -> Pixels:
    """The numbers of a file, as exactly as they are read: the channels that are wanted, and maybe others."""
    if is_fits(data[:64]):
        try:
            return fits_pixels(io.BytesIO(data), wanted)
        except ValueError as error:
            raise BadItem(key, str(error)) from None
        except MissingExtra as error:
            raise BadItem(key, "FITS needs the module 'astropy'", error.fix) from None
    if is_tiff(data[:64]) and (found := _numbers_of_tiff(key, data, wanted)) is not None:
        return found
    image = _open(key, data, 0)
    if image.mode in _WIDE_MODES and image.format in _WIDE_FORMATS and "transparency" not in image.info:
        return Pixels(values=np.asarray(image).astype(np.uint16))
    image = _to_grey_or_rgb(key, image)
    return Pixels(values=np.asarray(image), channels=("R", "G", "B") if image.mode == "RGB" else ())


def _numbers_of_tiff(key: str, data: bytes, wanted: tuple[str, ...]) -> Pixels | None:
    """The bands of the first page of a TIFF file; of several pages of one band, those that are wanted, by number."""
    file = io.BytesIO(data)
    places = page_places(file)
    if not wanted or len(places) == 1:
        first = tiff_numbers(key, data, MAX_PIXELS)
        if first is None or wanted or first.channels[:3] != ("R", "G", "B"):
            return first
        return replace(first, values=first.values[..., :3], channels=first.channels[:3])  # others are not shown
    pages: dict[str, Pixels] = {}
    for name in dict.fromkeys(("0", *wanted)):
        check_channels(key, (name,), tuple(map(str, range(len(places)))))
        found = tiff_numbers(key, page_alone(file, places[int(name)], len(places)), MAX_PIXELS)
        if found is None or found.values.shape[2] != 1:
            if name == "0":  # the first page is a picture by itself
                return found
            raise BadItem(key, f"its page {name} is not of one band", "choose other channels")
        pages[name] = found
    shapes = {name: pages[name].values.shape for name in dict.fromkeys(wanted)}
    if len(set(shapes.values())) > 1:
        sizes = ", ".join(f"{name} {shape[1]} x {shape[0]}" for name, shape in shapes.items())
        raise BadItem(key, f"its pages are not of one size: {sizes}", "choose other channels")
    ends = {pages[name].stated for name in shapes}
    values = [pages[name].values for name in shapes]
    if len(types := {one.dtype for one in values}) > 1:
        raise BadItem(key, f"its pages are of several types: {', '.join(map(str, types))}", "choose other channels")
    return Pixels(
        values=np.concatenate(values, axis=2), stated=ends.pop() if len(ends) == 1 else None, channels=tuple(shapes)
    )


def _open(key: str, payload: bytes | bytearray | memoryview, least: int) -> Image.Image:
    """Decode the pixels and turn them upright; any mode. A JPEG may be smaller, if its sides are `least` or more."""
    head = bytes(payload[:64])
    if is_tiff(head):
        return open_tiff(key, bytes(payload), MAX_PIXELS)
    if is_fits(head):
        return open_fits(key, bytes(payload), MAX_PIXELS)
    if _is_heif(head):
        return _open_heif(key, payload)
    with Image.open(io.BytesIO(payload)) as image:
        check_size(key, image.width, image.height, MAX_PIXELS)
        image.seek(0)
        if least and image.format in ("JPEG", "MPO"):
            see_reduced(upright_size(image))
            image.draft(None, (least, least))
        if image.format == "JPEG2000":
            _check_jpeg_2000(key, bytes(payload), image.mode)
        image.load()
        if image.format == "PNG":
            _mend_transparency(key, head, image)
        ImageOps.exif_transpose(image, in_place=True)
        return image


def _cut_out(key: str, cut: Cut, rendering: Rendering) -> Image.Image:
    """The whole pixels that a box touches, of those in the picture."""
    try:
        image = cut.whole.decoded(lambda payload: _decode(key, payload, rendering=rendering))
    except BadItem as error:  # it may name another part of the picture
        raise BadItem(key, error.problem, error.fix) from None
    left, top, right, bottom = cut.box
    inside = max(left, 0) < min(right, image.width) and max(top, 0) < min(bottom, image.height)
    if not inside:
        problem = f"the box {cut.box} lies outside of the picture of {image.width} x {image.height} pixels"
        raise BadItem(key, problem, "say whether boxes are xyxy or xywh (`box_form`)")
    low, high = (
        (max(floor(left), 0), max(floor(top), 0)),
        (min(ceil(right), image.width), min(ceil(bottom), image.height)),
    )
    part: Image.Image = image.crop((*low, *high))
    return part


def _is_heif(head: bytes) -> bool:
    """Whether it is HEIC. AVIF has the same container, and Pillow reads it."""
    brand, others = head[8:12], head[16 : int.from_bytes(head[:4])]
    general = brand in (b"mif1", b"msf1") and b"avi" not in others
    return head[4:8] == b"ftyp" and (general or brand in _HEIF_BRANDS)


def _open_heif(key: str, payload: bytes | bytearray | memoryview) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ModuleNotFoundError:
        raise BadItem(key, "HEIC needs the module 'pillow_heif'", "pip install 'raysal[heif]'") from None
    with HeifImageFile(io.BytesIO(payload)) as image:
        check_size(key, image.width, image.height, MAX_PIXELS)
        image.load()
        upright: Image.Image = image
        return upright


def _check_jpeg_2000(key: str, data: bytes, mode: str) -> None:
    """Refuse depths that Pillow does not scale right: white of 12 bits becomes black where there are several bands."""
    if b"pclr" in data[:1024] and mode not in ("P", "PA"):
        raise BadItem(key, "this palette of JPEG 2000 is not read", CONVERT)
    start = data.index(b"\xff\x4f\xff\x51")
    (bands,) = struct.unpack_from(">H", data, start + 40)
    depths = {data[start + 42 + 3 * band] for band in range(bands)}
    signed, bits = any(depth & 128 for depth in depths), {(depth & 127) + 1 for depth in depths}
    if signed:
        raise BadItem(key, "signed pixels have no fixed range", CONVERT)
    wide = mode in _WIDE_MODES and min(bits) >= 9 and max(bits) <= 16
    if bits != {8} and not wide:
        raise BadItem(key, f"JPEG 2000 of {bands} band(s) of {sorted(bits)} bits is not read", CONVERT)


def _mend_transparency(key: str, head: bytes, image: Image.Image) -> None:
    """Give the transparent colour of a PNG in the numbers of the decoded image; Pillow gives those of the file."""
    transparent = image.info.get("transparency")
    bits, colour_type = head[24], head[25]
    if transparent is None:
        return
    if colour_type == _PNG_GREY and bits in (2, 4):
        image.info["transparency"] = transparent * 255 // (2**bits - 1)
    if colour_type == _PNG_RGB and bits == 16:
        raise BadItem(key, "a transparent colour of 16 bits per band is not read", "use an alpha band, or 8 bits")


def _to_grey_or_rgb(key: str, image: Image.Image) -> Image.Image:
    """The image in mode L or RGB."""
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if image.mode in _WIDE_MODES:
        return _from_wide(key, image)
    if image.mode == "F":
        raise BadItem(key, "floating point pixels have no fixed range", CONVERT)
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _from_wide(key: str, image: Image.Image) -> Image.Image:
    if image.format not in _WIDE_FORMATS:
        raise BadItem(key, f"the range of wide pixels of a {image.format} file is not known", CONVERT)
    wide = np.asarray(image)
    grey = to_eight_bits(key, wide, 0, 65535)
    if "transparency" in image.info:
        grey[wide == image.info["transparency"]] = 255
    return Image.fromarray(grey)


def _from_array(key: str, pixels: NDArray[Any]) -> Image.Image:
    bands = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or bands not in (1, 3):
        raise BadItem(
            key,
            f"array {pixels.dtype} {pixels.shape}, expected uint8 [h, w], [h, w, 1] or [h, w, 3]",
            "bring grey or RGB to 0..255 as uint8, bands last; or pass the bytes of a PNG",
        )
    if pixels.size == 0:
        raise BadItem(key, f"empty array {pixels.shape}")
    check_size(key, pixels.shape[1], pixels.shape[0], MAX_PIXELS)
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.ndim == 3 and bands == 1 else pixels))


def _from_numbers(key: str, pixels: Pixels) -> Image.Image:
    """Numbers of a file without a format of pictures, by the rules of files: the type says how many bits there are."""
    values = pixels.values
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or values.shape[2:] not in ((), (3,)) or values.dtype.kind not in KINDS:
        problem = f"pixels {values.dtype} {values.shape}, expected numbers [h, w], [h, w, 1] or [h, w, 3]"
        raise BadItem(key, problem, "choose one or three channels of the encoder (--channel), or of the source")
    check_size(key, values.shape[1], values.shape[0], MAX_PIXELS)
    kind, bits = KINDS[values.dtype.kind], 1 if values.dtype.kind == "b" else 8 * values.dtype.itemsize
    black, white = fixed_range(key, kind, bits, pixels.stated, "`stated_range` of the source")
    return Image.fromarray(to_eight_bits(key, values, black, white))


def square_pixels(key: str, payload: object, size: int, rendering: Rendering = PLAIN) -> NDArray[np.uint8]:
    """Decode an image and stretch the whole of it to a square, with Pillow's bicubic filter.

    The filter treats every channel alike. Grey is therefore made RGB after it, for a third of the work.

    Args:
        key: the item's name, for the error.
        payload: as for `decode_image`.
        size: side of the square in pixels.
        rendering: as for `decode_image`.

    Returns:
        Pixels uint8 [size, size, 3].

    Raises:
        BadItem: as `decode_image`.
    """
    image = _decode(key, payload, rendering=rendering)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def fast_square_pixels(key: str, payload: object, size: int, rendering: Rendering = PLAIN) -> NDArray[np.uint8]:
    """As `square_pixels`, but a JPEG is decoded at a fraction of its size, and torch does the resize.

    The fraction is the smallest of 1, 1/2, 1/4 and 1/8 that leaves both sides at least twice `size`. The resize alone
    changes a pixel by one level at most, and takes a seventh of the time of Pillow's.

    Args:
        key: the item's name, for the error.
        payload: as for `decode_image`.
        size: side of the square in pixels.
        rendering: as for `decode_image`; a JPEG is then decoded at its own size.

    Returns:
        Pixels uint8 [size, size, 3].

    Raises:
        BadItem: as `decode_image`.
    """
    import torch

    pixels = None if rendering else scaled_jpeg(payload, 2 * size, MAX_PIXELS)
    if pixels is None:
        pixels = np.array(_decode(key, payload, 2 * size, rendering))
    if pixels.shape[:2] == (size, size):
        return np.ascontiguousarray(np.broadcast_to(pixels.reshape(size, size, -1), (size, size, 3)))
    bands = torch.from_numpy(np.ascontiguousarray(pixels)).view(1, *pixels.shape[:2], -1).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(bands, (size, size), mode="bicubic", antialias=True)
    square: NDArray[np.uint8] = resized[0].permute(1, 2, 0).expand(size, size, 3).contiguous().numpy()
    return square


def check_text(key: str, payload: object) -> str:
    """Check that a payload is a text with content.

    Args:
        key: the item's name, for the error.
        payload: what the source gave.

    Returns:
        The text, unchanged.

    Raises:
        BadItem: it is not a text, or holds only white space.
    """
    if not isinstance(payload, str):
        raise BadItem(key, f"a text is a str, not {type(payload).__name__}")
    if not payload.strip():
        raise BadItem(key, "empty text")
    return payload
