"""The items of the batches as people see them, read again from the pool's source."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from raysal.config import Choice
from raysal.embedding.decode import decode_image
from raysal.errors import BadItem, RaysalError, SourceError
from raysal.pool import Pool
from raysal.sources import SOURCES, Source
from raysal.types import Item, Modality

SIDE = 64
"""Longer side of a thumbnail in pixels; smaller images stay as they are."""
LONGEST = 280
"""Characters shown of a text."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One item as a report shows it: an image, a text, or why there is neither."""

    image: str | None = None
    """a PNG as data URI"""
    small: bool = False
    """the image has fewer pixels than it is shown with"""
    text: str | None = None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Items by id, and what kept the source from being read, if anything did."""

    modality: Modality
    shown: dict[int, Shown]
    problem: str | None = None


def gallery(pool: Pool, wanted: dict[int, str]) -> Gallery:
    """The `wanted` items {id: key} as they can be shown.

    The source is listed once, up to the last item wanted, and only those are read. Vectors show nothing.
    Never fails for want of the source: the gallery then says what is wrong with it.
    """
    modality = pool.manifest.modality
    if modality == "vector" or not wanted:
        return Gallery(modality=modality, shown={})
    shown: dict[int, Shown] = {}
    problem = None
    try:
        source = source_of(pool)
        for id, item in read_items(source, wanted, pool.manifest.chunk_rows):
            shown[id] = _shown(item, wanted[id], modality)
    except (RaysalError, OSError) as error:
        problem = str(error)
    return Gallery(modality=modality, shown=shown, problem=problem)


def source_of(pool: Pool) -> Source:
    """The source a pool was made from, built again from its manifest.

    Raises:
        SourceError: it was in memory, or the manifest does not say how to build it.
        UnknownName, ConfigError: this raysal has no such source, or it takes other fields now.
    """
    record = pool.manifest.source
    if record["name"] == "memory":
        raise SourceError("memory", "the items were in memory and were not kept")
    if "config" not in record:
        raise SourceError(pool.path, "its manifest does not say how its source was configured")
    return Choice(name=record["name"], **record["config"]).build("source", SOURCES)


def read_items(source: Source, ids: Collection[int], chunk_rows: int) -> Iterator[tuple[int, Item]]:
    """(id, item) for those of the ids that the source lists, in order. Lists no further than it must."""
    left = sorted(ids)
    for unit in source.units(chunk_rows):
        end = unit.first_id + len(unit.keys)
        here = [id for id in left if id < end]
        if here:
            left = left[len(here) :]
            yield from zip(here, source.read(unit, only=frozenset(here)), strict=True)
        if not left:
            return


def thumbnail(image: Image.Image) -> str:
    """A PNG data URI of at most 64 pixels on its longer side."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    if _is_grey(small):
        small = small.convert("L")
    packed = io.BytesIO()
    small.save(packed, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode("ascii")


def _is_grey(image: Image.Image) -> bool:
    pixels = np.asarray(image)
    return pixels.ndim == 3 and bool((pixels[..., :1] == pixels).all())


def _shown(item: Item, key: str, modality: Modality) -> Shown:
    if item.key != key:
        return Shown(problem=f"the source has {item.key!r} in its place now")
    if isinstance(item.payload, BadItem):
        return Shown(problem=item.payload.problem)
    if modality == "text":
        text = str(item.payload)
        return Shown(text=text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")
    try:
        image = decode_image(key, item.payload)
        return Shown(image=thumbnail(image), small=max(image.size) < SIDE)
    except BadItem as error:
        return Shown(problem=error.problem)
