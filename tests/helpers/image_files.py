"""Image files made by hand from numbers, so that a test knows every pixel without asking the library that is tested."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Numbers = NDArray[Any]

BYTE, ASCII, SHORT, LONG, RATIONAL, SBYTE, SSHORT, SLONG, FLOAT, DOUBLE, LONG8 = 1, 2, 3, 4, 5, 6, 8, 9, 11, 12, 16
_CODES = {BYTE: "B", ASCII: "B", SHORT: "H", LONG: "I", SBYTE: "b", SSHORT: "h", SLONG: "i", FLOAT: "f", DOUBLE: "d"}
_CODES[LONG8] = "Q"
NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 8, 32946, 32773
SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 254, 256, 257, 258, 259, 262, 266
ORIENTATION, SAMPLES, ROWS, PLANAR, PREDICTOR, COLOUR_MAP, EXTRA, FORM = 274, 277, 278, 284, 317, 320, 338, 339
MIN_SAMPLE, MAX_SAMPLE, SMIN_SAMPLE, SMAX_SAMPLE = 280, 281, 340, 341
_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
UNSIGNED, SIGNED, REAL, VOID = 1, 2, 3, 4


def packed(image: Image.Image, form: str, **options: Any) -> bytes:
    """An image as Pillow writes it."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def tiff(
    values: Numbers,
    *,
    photometric: int | None = 1,
    bits: int = 8,
    form: int | None = None,
    extra: Sequence[int] | None = None,
    planar: int = 1,
    order: str = "<",
    big: bool = False,
    compression: int = NONE,
    predictor: int = 1,
    fill_order: int = 1,
    rows: int | None = None,
    tile: tuple[int, int] | None = None,
    tags: Mapping[int, tuple[int, Sequence[Any]]] | None = None,
) -> bytes:
    """A TIFF file of one page. Tags that are None are left out.

    Args:
        values: [h, w] or [h, w, samples]; integers, or floating point where `form` is REAL.
        photometric: tag 262.
        bits: of one sample; any number.
        form: tag 339.
        extra: tag 338.
        planar: 2 stores each band by itself.
        order: `<` or `>`.
        big: whether it is a BigTIFF.
        compression: tag 259: none, LZW, deflate or PackBits.
        predictor: 2 stores differences.
        fill_order: 2 turns the bits of each byte around.
        rows: rows of a strip.
        tile: height and width of the tiles, if it is tiled.
        tags: further tags: (type, values) by number.
    """
    pixels = values[..., None] if values.ndim == 2 else values
    height, width, samples = pixels.shape
    layers = [pixels[..., [band]] for band in range(samples)] if planar == 2 else [pixels]
    segments = []
    for layer in layers:
        if tile is None:
            step = rows or height
            pieces = [layer[top : top + step] for top in range(0, height, step)]
        else:
            high, wide = tile
            full = np.pad(layer, ((0, -height % high), (0, -width % wide), (0, 0)))
            pieces = [
                full[top : top + high, left : left + wide]
                for top in range(0, full.shape[0], high)
                for left in range(0, full.shape[1], wide)
            ]
        for piece in pieces:
            if predictor == 2:
                piece = np.diff(piece.astype(np.int64), axis=1, prepend=0)
            data = _compressed(_bytes_of(piece, bits, form, order), compression)
            segments.append(data.translate(_TURNED) if fill_order == 2 else data)
    entries: dict[int, tuple[int, Sequence[Any]]] = {
        WIDTH: (LONG, [width]),
        HEIGHT: (LONG, [height]),
        BITS: (SHORT, [bits] * samples),
        COMPRESSION: (SHORT, [compression]),
        SAMPLES: (SHORT, [samples]),
        PLANAR: (SHORT, [planar]),
    }
    if photometric is not None:
        entries[PHOTOMETRIC] = (SHORT, [photometric])
    if form is not None:
        entries[FORM] = (SHORT, [form] * samples)
    if extra is not None:
        entries[EXTRA] = (SHORT, list(extra))
    if predictor != 1:
        entries[PREDICTOR] = (SHORT, [predictor])
    if fill_order != 1:
        entries[FILL_ORDER] = (SHORT, [fill_order])
    if tile is None:
        entries[ROWS] = (LONG, [rows or height])
    else:
        entries |= {322: (LONG, [tile[1]]), 323: (LONG, [tile[0]])}
    entries |= tags or {}
    return _tiff_file(entries, segments, (324, 325) if tile else (273, 279), order, big)


def _bytes_of(piece: Numbers, bits: int, form: int | None, order: str) -> bytes:
    if form == REAL:
        data = piece.astype(f"{order}f{bits // 8}").tobytes()
    elif bits in (8, 16, 32, 64):
        data = (piece.astype(object) % 2**bits).astype(f"{order}u{bits // 8}").tobytes()
    else:  # packed from the highest bit; each row begins with a byte
        flat = piece.reshape(len(piece), -1).astype(np.int64)
        unpacked = (flat[..., None] >> np.arange(bits)[::-1]) & 1
        data = np.packbits(unpacked.reshape(len(piece), -1).astype(np.uint8), axis=1).tobytes()
    return data


def _compressed(data: bytes, compression: int) -> bytes:
    if compression in (DEFLATE, OLD_DEFLATE):
        return zlib.compress(data)
    if compression == PACKBITS:
        return b"".join(bytes([len(data[i : i + 128]) - 1]) + data[i : i + 128] for i in range(0, len(data), 128))
    if compression == LZW:
        return _lzw(data)
    assert compression == NONE
    return data


def _lzw(data: bytes) -> bytes:
    """LZW without a dictionary: a clear code often enough that all codes have 9 bits."""
    codes = [code for i, byte in enumerate(data) for code in ([256, byte] if i % 200 == 0 else [byte])]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _tiff_file(
    entries: dict[int, tuple[int, Sequence[Any]]], segments: list[bytes], where: tuple[int, int], order: str, big: bool
) -> bytes:
    word = LONG8 if big else LONG
    head_size, count_size, entry_size, inline = (16, 8, 20, 8) if big else (8, 2, 12, 4)
    entries = {where[0]: (word, [0] * len(segments)), where[1]: (word, [len(s) for s in segments]), **entries}
    own_places = any(entries[where[0]][1])
    blob_start = head_size + count_size + entry_size * len(entries) + inline

    def layout(start: int) -> tuple[bytes, bytes]:
        blob, table = b"", b""
        offsets = [start + sum(len(s) for s in segments[:i]) for i in range(len(segments))]
        placed = entries if own_places else {**entries, where[0]: (word, offsets)}
        for tag, (kind, values) in sorted(placed.items()):
            if kind == RATIONAL:
                data = b"".join(struct.pack(order + "II", *value) for value in values)
            else:
                data = struct.pack(f"{order}{len(values)}{_CODES[kind]}", *values)
            if len(data) > inline:
                place = blob_start + len(blob)
                blob += data + b"\0" * (-len(data) % 8)
                data = struct.pack(order + ("Q" if big else "I"), place)
            table += struct.pack(order + ("HHQ" if big else "HHI"), tag, kind, len(values)) + data.ljust(inline, b"\0")
        return table, blob

    start = blob_start + len(layout(0)[1])
    table, blob = layout(start)
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    count = struct.pack(order + ("Q" if big else "H"), len(entries))
    return mark + head + count + table + b"\0" * inline + blob + b"".join(segments)


def png(values: Numbers, *, bits: int = 8, colour: int, palette: bytes = b"", transparency: bytes = b"") -> bytes:
    """A PNG file.

    Args:
        values: [h, w] or [h, w, samples].
        bits: of one sample.
        colour: the colour type: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA.
        palette: the content of PLTE.
        transparency: the content of tRNS.
    """
    pixels = values[..., None] if values.ndim == 2 else values
    height, width = pixels.shape[:2]
    lines = [b"\0" + _bytes_of(row[None], bits, None, ">") for row in pixels]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))]
    chunks += [(b"PLTE", palette)] * bool(palette) + [(b"tRNS", transparency)] * bool(transparency)
    chunks += [(b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def pnm(values: Numbers, maximum: int, *, plain: bool = False) -> bytes:
    """A PGM or PPM file with values 0 to `maximum`, as bytes or as plain text."""
    height, width = values.shape[:2]
    kind = (5 if values.ndim == 2 else 6) - 3 * plain
    if plain:
        body = " ".join(str(value) for value in values.ravel()).encode()
    else:
        body = values.astype(">u2" if maximum > 255 else "u1").tobytes()
    return f"P{kind}\n{width} {height}\n{maximum}\n".encode() + body


def fits(values: Numbers, bits: int, *, extension: bool = False, **cards: Any) -> bytes:
    """A FITS file of the stored values [..., h, w], in one HDU: the primary one, or an extension."""
    kind = f">i{bits // 8}" if bits > 8 else "u1" if bits == 8 else f">f{-bits // 8}"
    axes = {f"NAXIS{i + 1}": size for i, size in enumerate(values.shape[::-1])}
    image = {"BITPIX": bits, "NAXIS": values.ndim, **axes}
    if extension:
        first = _fits_head({"SIMPLE": "T", "BITPIX": 8, "NAXIS": 0, "EXTEND": "T"})
        head = first + _fits_head({"XTENSION": "'IMAGE   '", **image, "PCOUNT": 0, "GCOUNT": 1, **cards})
    else:
        head = _fits_head({"SIMPLE": "T", **image, **cards})
    data = values.astype(kind).tobytes()
    return head + data + b"\0" * (-len(data) % 2880)


def _fits_head(cards: Mapping[str, Any]) -> bytes:
    text = "".join(f"{name:<8}= {value!s:>20}".ljust(80) for name, value in cards.items()) + "END".ljust(80)
    return text.ljust(-(-len(text) // 2880) * 2880).encode()
