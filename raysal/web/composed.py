"""What people see of an owner of pictures: its image with the boxes, or some of its frames side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

from PIL import Image, ImageDraw

from raysal.embedding.decode import decode_image
from raysal.embedding.rendering import PLAIN, Rendering
from raysal.errors import BadItem
from raysal.types import Cut

MOST_PARTS = 9
"""Pictures of parts that are shown side by side: evenly spaced ones, the first and the last among them."""
CELL = 320
"""Longer side of each of them, in pixels."""
GAP = 4
"""Pixels between them, and around them."""
EDGE = (235, 40, 40)
"""Colour of boxes, red, green and blue; beside a line of white, so that it is seen on any picture."""


@dataclass(frozen=True, kw_only=True)
class Composed:
    """The pictures of the parts of an owner. They are decoded when the one of the owner is made."""

    key: str
    """of the owner"""
    parts: Sequence[tuple[str, Any]]
    """key and payload of the parts that are shown, in order; a payload may be a `BadItem`"""

    @property
    def largest(self) -> Sequence[Any]:
        """The payloads that are decoded, of which one is at a time: the whole picture where parts are cut from one."""
        found = [payload for _, payload in self.parts if not isinstance(payload, BadItem)]
        return [one.whole.payload if isinstance(one, Cut) else one for one in (found[:1] if self._is_cut else found)]

    @property
    def _is_cut(self) -> bool:
        return all(isinstance(payload, Cut | BadItem) for _, payload in self.parts)

    def image(self, side: int, rendering: Rendering = PLAIN) -> Image.Image:
        """One picture in mode RGB.

        Args:
            side: its longer side may be as short as this.
            rendering: how pixels are shown.

        Returns:
            The whole picture with its boxes, where parts are cut out of one; else parts side by side.

        Raises:
            BadItem: none of them can be decoded.
        """
        good = [(key, payload) for key, payload in self.parts if not isinstance(payload, BadItem)]
        if good and self._is_cut:
            return _with_boxes(*good[0], [payload.box for _, payload in good], rendering)
        pictures, problem = [], next((payload for _, payload in self.parts if isinstance(payload, BadItem)), None)
        cell = max(min(CELL, side), 1)
        for key, payload in good:
            try:
                picture = decode_image(key, payload, cell, rendering)
            except BadItem as error:
                problem = error
                continue
            picture.thumbnail((cell, cell), Image.Resampling.LANCZOS)
            pictures.append(picture)
        if problem is not None and not pictures:
            raise problem
        return _side_by_side(pictures)


def evenly(count: int, most: int = MOST_PARTS) -> list[int]:
    """At most so many of the places 0 to count - 1, evenly spaced."""
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]


def _with_boxes(
    key: str, cut: Cut, boxes: Sequence[tuple[float, float, float, float]], rendering: Rendering
) -> Image.Image:
    """A picture with the boxes of its parts, in lines that are seen when it is small."""
    image = decode_image(key, cut.whole.payload, rendering=rendering).copy()
    pen, width = ImageDraw.Draw(image), max(2, round(max(image.size) / 150))
    for left, top, right, bottom in boxes:
        low = max(left, 0), max(top, 0)
        high = min(right, image.width) - 1, min(bottom, image.height) - 1
        if low[0] <= high[0] and low[1] <= high[1]:
            pen.rectangle((*low, *high), outline="white", width=2 * width)
            pen.rectangle((*low, *high), outline=EDGE, width=width)
    return image


def _side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures in rows, on white."""
    columns = ceil(sqrt(len(pictures)))
    rows = ceil(len(pictures) / columns)
    width, height = max(one.width for one in pictures), max(one.height for one in pictures)
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP), "white")
    for place, one in enumerate(pictures):
        left = GAP + place % columns * (width + GAP) + (width - one.width) // 2
        top = GAP + place // columns * (height + GAP) + (height - one.height) // 2
        sheet.paste(one, (left, top))
    return sheet
