"""Items are measured while they are prepared, of what is decoded for that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from raysal.embedding.measures import MEASURES, Values
from raysal.errors import BadItem
from raysal.types import Item

if TYPE_CHECKING:
    from raysal.embedding.seen import Picture, Seen


class Measuring:
    """Computes measures of items while they are prepared. Several threads may use one."""

    def __init__(self, measures: Sequence[str]) -> None:
        """`measures` are names of measures that the items have."""
        self.measures = tuple(measures)
        self._is_text = bool(measures) and MEASURES[measures[0]].modality == "text"

    def __call__(self, item: Item, prepare: Callable[[], Any]) -> tuple[Any, Values]:
        """Prepare an item, and measure what was decoded for that.

        Args:
            item: the item.
            prepare: prepares it; its errors pass through.

        Returns:
            What `prepare` returned, and {measure: value}.
        """
        if not self.measures:
            return prepare(), {}
        if self._is_text:
            from raysal.embedding.text_measures import measure_text

            prepared = prepare()
            return prepared, measure_text(item.payload, self.measures) if isinstance(item.payload, str) else {}
        from raysal.embedding.picture_measures import measure_picture
        from raysal.embedding.seen import watching

        with watching() as seen:
            prepared = prepare()
            found = decoded_here(item, seen) if seen.picture is None else seen.picture  # an encoder may do so by itself
        return prepared, {} if found is None else measure_picture(found, seen.size, self.measures)


def decoded_here(item: Item, seen: Seen) -> Picture | None:
    """Decode a picture for who watches.

    Args:
        item: the picture.
        seen: what is watched.

    Returns:
        The picture; None if raysal cannot decode it.
    """
    from raysal.embedding.decode import decode_image

    try:
        decode_image(item.key, item.payload)
    except BadItem:
        return None
    return seen.picture
