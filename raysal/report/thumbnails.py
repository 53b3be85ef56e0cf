"""The items of the batches as people see them: images, texts and spectrograms, read again from the pool's source."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from raysal.embedding.decode import decode_image
from raysal.embedding.pixels import is_grey
from raysal.embedding.rendering import PLAIN, Rendering, rendering_in
from raysal.errors import BadItem, MissingExtra, RaysalError
from raysal.pool import Pool
from raysal.pool.owners import parts_of
from raysal.sources.of_pool import read_items, source_of
from raysal.spectrograms import picture_of
from raysal.types import Item, Modality

THUMBNAIL_PIXELS = 64
"""Longer side of a thumbnail. Smaller images stay as they are."""
MAX_TEXT = 280
"""Characters shown of a text."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One item as a report shows it: an image, a text, or the reason why there is neither."""

    image: str | None = None
    """a PNG as data URI"""
    small: bool = False
    """the image has fewer pixels than its place in the report"""
    text: str | None = None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The shown items by id, and the problem that kept the source from being read, if there was one."""

    modality: Modality
    shown: dict[int, Shown]
    problem: str | None = None


def read_gallery(pool: Pool, wanted: dict[int, str]) -> Gallery:
    """Read items from the pool's source.

    The source is listed once, up to the last item wanted, and only the wanted items are read. Where the source cannot
    be read, nothing is raised: the gallery states the problem.

    Args:
        pool: its manifest says how to build the source.
        wanted: the key of each item by id.

    Returns:
        What can be shown of the items; nothing for vectors. Of an owner its first part is shown.
    """
    modality, rendering = pool.manifest.modality, rendering_in(pool.manifest.encoder.get("preprocessing", {}))
    if modality == "vector" or not wanted:
        return Gallery(modality=modality, shown={})
    shown: dict[int, Shown] = {}
    problem = None
    try:
        source = source_of(pool)
        keys, of = wanted, {id: id for id in wanted}
        if pool.stored is not pool:
            firsts = {owner: next(iter(own.items())) for owner, own in parts_of(pool, list(wanted)).items()}
            keys, of = dict(firsts.values()), {id: owner for owner, (id, _) in firsts.items()}
        for id, item in read_items(pool, source, keys):
            shown[of[id]] = _shown(item, keys[id], modality, rendering)
    except (RaysalError, OSError) as error:
        problem = str(error)
    return Gallery(modality=modality, shown=shown, problem=problem)


def seen(key: str, payload: object, modality: Modality, rendering: Rendering = PLAIN) -> Image.Image:
    """An image, or the spectrogram of a sound.

    Args:
        key: the item's name, for the error.
        payload: the item.
        modality: of its pool, `image` or `sound`.
        rendering: which channels the encoder of the pool sees, and with which stretch.

    Returns:
        What people see of it.

    Raises:
        BadItem: it cannot be decoded, or what would decode it is not installed.
    """
    if modality != "sound":
        return decode_image(key, payload, rendering=rendering)
    try:
        return picture_of(key, payload)
    except MissingExtra as error:
        raise BadItem(key, error.problem, error.fix) from None


def thumbnail(image: Image.Image) -> str:
    """The image as a data URI: a PNG of at most THUMBNAIL_PIXELS on its longer side."""
    small = image.copy()
    small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS), Image.Resampling.LANCZOS)
    if is_grey(small):
        small = small.convert("L")
    packed = io.BytesIO()
    small.save(packed, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode("ascii")


def _shown(item: Item, key: str, modality: Modality, rendering: Rendering) -> Shown:
    if item.key != key:
        return Shown(problem=f"the source has {item.key!r} in its place now")
    if isinstance(item.payload, BadItem):
        return Shown(problem=item.payload.problem)
    if modality == "text":
        text = str(item.payload)
        return Shown(text=text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…")
    try:
        image = seen(key, item.payload, modality, rendering)
        return Shown(image=thumbnail(image), small=max(image.size) < THUMBNAIL_PIXELS)
    except BadItem as error:
        return Shown(problem=error.problem)
