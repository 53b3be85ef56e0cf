"""Pictures for the page: decoded within bounds, made small, packed, and kept while there is room.

Bounds: an item has at most `MAX_PIXELS` pixels (`raysal.embedding.decode`, as when it was embedded) and `MAX_BYTES`
bytes; what is larger is refused undecoded, and said to be broken. What is decoded at the same time takes `ROOM_BYTES`
together, 0.9 GB: about 10 bytes for each pixel of a picture, so the largest picture there may be is decoded alone; and
for a sound what its spectrogram takes. First come, first served. A JPEG is decoded at the fraction of its size that is
needed (`draft`). A sound is never read as a whole: it is sent piece by piece.
"""

from __future__ import annotations

import io
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Lock
from typing import NamedTuple

from PIL import Image

from raysal.embedding.decode import MAX_PIXELS, check_text, decode_image
from raysal.embedding.pixels import is_grey
from raysal.embedding.rendering import rendering_in
from raysal.errors import BadItem, RaysalError
from raysal.pool import Pool
from raysal.sounds import format_of
from raysal.spectrograms import SPECTROGRAM_BYTES, spectrogram_png
from raysal.web.catalogue import Entry
from raysal.web.composed import Composed
from raysal.web.payloads import Payloads, problem_of, reading

SIZES = (64, 128, 256, 512)
"""Sides of thumbnails in pixels; another size asked for becomes the next larger one."""
MAX_SIDE = 4096
"""Longer side of a picture in the large view."""
PIXEL_BYTES = 10
"""What decoding takes for a pixel, at most."""
RENDERED_BYTES = 40
"""The same, where channels are chosen or stretched: three numbers of 4 bytes, and their copies."""
ROOM_BYTES = PIXEL_BYTES * MAX_PIXELS
"""What decoding takes, of all that is decoded at the same time."""
CACHE_BYTES = 128 << 20
"""Memory of packed pictures that are kept."""
MAX_TEXT = 280
"""Letters of a text in a list."""
LONGEST_TEXT = 1_000_000
"""Letters of a text in the large view."""


class Packed(NamedTuple):
    """A picture as it is sent."""

    data: bytes
    media_type: str
    etag: str


class Media:
    """What the items of one pool look like. Several threads may share it."""

    def __init__(self, pool: Pool, payloads: Payloads) -> None:
        self._payloads = payloads
        self._stamp = pool.fingerprint[:16]
        self._rendering = rendering_in(pool.manifest.encoder.get("preprocessing", {}))
        self._packed: OrderedDict[tuple[int, str], Packed] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()
        self._gate = Gate(ROOM_BYTES)
        self.broken: dict[int, str] = {}
        """why items cannot be shown, by id, of those that somebody tried to show"""
        self.sizes: dict[int, tuple[int, int]] = {}
        """width and height of pictures, by id, of those that were decoded whole"""

    def etag(self, id: int, what: str) -> str:
        """What identifies a picture of an item: pools of one fingerprint have the same items."""
        return f'"{self._stamp}-{id}-{what}"'

    def picture(self, entry: Entry, side: int, *, small: bool) -> Packed:
        """A picture of an item that fits into a square.

        Args:
            entry: the item.
            side: of the square, in pixels.
            small: a thumbnail, which may be packed with loss; else the large view.

        Returns:
            The picture: a JPEG, or a PNG where that is smaller or without loss.

        Raises:
            BadItem: the item is broken; `broken` keeps the reason.
            RaysalError: the source of the pool cannot be read.
        """
        side = next((size for size in SIZES if size >= side), SIZES[-1]) if small else max(1, min(side, MAX_SIDE))
        what = f"{'thumb' if small else 'image'}{side}"
        return self._kept(entry, what, lambda: self._pack(entry, self._payloads.read(entry), side, small))

    def spectrogram(self, entry: Entry) -> Packed:
        """The spectrogram of a sound; raises what `picture` raises."""

        def make() -> tuple[bytes, str]:
            path = self._payloads.path_of(entry)
            with self._gate.room(SPECTROGRAM_BYTES):
                return spectrogram_png(entry.key, path), "image/png"

        return self._kept(entry, "spectrogram", make)

    def sound(self, entry: Entry) -> tuple[Path, str]:
        """The file of a sound, and its media type; raises what `picture` raises."""
        with self._noting(entry):
            path = self._payloads.path_of(entry)
            with reading(entry.key), path.open("rb") as file:
                kind = format_of(file.read(12))
            if kind is None:
                raise BadItem(entry.key, "not a sound of a known format")
            return path, f"audio/{kind}"

    def text(self, entry: Entry, most: int = LONGEST_TEXT) -> str:
        """The text of an item, cut with an ellipsis where it is longer than `most`; raises what `picture` raises."""
        with self._noting(entry):
            text = check_text(entry.key, self._payloads.read(entry))
            return text if len(text) <= most else text[: most - 1] + "…"

    def _kept(self, entry: Entry, what: str, make: Callable[[], tuple[bytes, str]]) -> Packed:
        with self._lock:
            if (entry.id, what) in self._packed:
                self._packed.move_to_end((entry.id, what))
                return self._packed[entry.id, what]
        with self._noting(entry):
            data, media_type = make()
        packed = Packed(data, media_type, self.etag(entry.id, what))
        with self._lock:
            if (entry.id, what) not in self._packed and len(data) <= CACHE_BYTES // 8:
                self._packed[entry.id, what] = packed
                self._bytes += len(data)
            while self._bytes > CACHE_BYTES:
                self._bytes -= len(self._packed.popitem(last=False)[1].data)
        return packed

    @contextmanager
    def _noting(self, entry: Entry) -> Iterator[None]:
        """Keep why an item cannot be shown, and forget it when it can be again."""
        try:
            yield
        except RaysalError as error:
            self.broken[entry.id] = problem_of(error)
            raise
        self.broken.pop(entry.id, None)

    def _pack(self, entry: Entry, payload: object, side: int, small: bool) -> tuple[bytes, str]:
        with self._gate.room((RENDERED_BYTES if self._rendering else PIXEL_BYTES) * pixels_of(payload)):
            if isinstance(payload, Composed):
                image = payload.image(side, self._rendering)
            else:
                image = decode_image(entry.key, payload, side, self._rendering)
            width, height = full_size(payload) or image.size
            turned = (width - height) * (image.width - image.height) < 0  # by the orientation in its EXIF
            self.sizes[entry.id] = (height, width) if turned else (width, height)
            if max(image.size) > side:
                image.thumbnail((side, side), Image.Resampling.LANCZOS)
            if is_grey(image):
                image = image.convert("L")
            lossy = max(image.size) > SIZES[0] if small else is_jpeg(payload)
            return (packed_as(image, "JPEG"), "image/jpeg") if lossy else (packed_as(image, "PNG"), "image/png")


class Gate:
    """Lets work in while what is inside stays below a limit together; what is as large as the limit goes in alone.

    First come, first served: what is large waits for what came before it, and never for what came after.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._inside = limit, 0
        self._waiting: deque[object] = deque()
        self._changed = Condition()

    @contextmanager
    def room(self, amount: int) -> Iterator[None]:
        """Wait until it is one's turn and there is room for an amount, and take it."""
        amount, turn = min(max(amount, 1), self._limit), object()
        with self._changed:
            self._waiting.append(turn)
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: self._waiting[0] is turn and self._inside + amount <= self._limit)
                self._inside += amount
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()  # there may be room for the next one, too
        try:
            yield
        finally:
            with self._changed:
                self._inside -= amount
                self._changed.notify_all()


def pixels_of(payload: object) -> int:
    """How many pixels a payload will have when it is decoded; the most there may be, where its head does not say."""
    if isinstance(payload, Composed):
        return max(map(pixels_of, payload.largest), default=0)
    size = full_size(payload)
    return MAX_PIXELS if size is None else size[0] * size[1]


def full_size(payload: object) -> tuple[int, int] | None:
    """Width and height by the head of a file, or of pixels; None where Pillow cannot tell. Decodes nothing."""
    shape = getattr(payload, "shape", None)
    if shape is not None:
        return (int(shape[1]), int(shape[0])) if len(shape) > 1 else None
    if not isinstance(payload, bytes):
        return None
    try:
        with Image.open(io.BytesIO(payload)) as image:
            return image.size
    except Exception:  # of any plugin: decoding will say what is wrong
        return None


def is_jpeg(payload: object) -> bool:
    """Whether a payload is a file that was packed with loss already."""
    return isinstance(payload, bytes) and payload[:3] == b"\xff\xd8\xff"


def packed_as(image: Image.Image, form: str) -> bytes:
    """An image as a file."""
    packed = io.BytesIO()
    image.save(packed, form, **({"quality": 88} if form == "JPEG" else {"compress_level": 3}))
    return packed.getvalue()
