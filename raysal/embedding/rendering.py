"""What of a picture's numbers an encoder sees: which channels, by name, and with which stretch.

A picture has channels with names: what a source or a file calls them, else their numbers from 0. Those of RGB are `R`,
`G` and `B`. An encoder that says nothing takes pictures as docs/images.md has it, and none of this is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from raysal.embedding.pixels import KINDS, check_size, fixed_range, to_eight_bits
from raysal.embedding.precision import LATER_FIELD
from raysal.embedding.stretch import Stretch, stretch_of, stretched
from raysal.errors import BadItem, ConfigError, UserError
from raysal.types import Pixels

IN_PREPROCESSING = "rendering"
"""The key under which `Encoder.preprocessing` has it."""
_LISTED = 20
"""Channels that an error names."""


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """Which channels of a picture are seen, and with which stretch. Without any, it is false."""

    channels: tuple[str, ...] = ()
    """One for grey, or three for red, green and blue; () for what the picture has, if that is one or three."""
    stretch: Stretch | None = None
    """None: numbers mean what docs/images.md says."""

    def __post_init__(self) -> None:
        if len(self.channels) not in (0, 1, 3) or "" in self.channels:
            problem = f"{len(self.channels)} channels ({', '.join(self.channels)})"
            raise ConfigError("encoder.channels", problem, "name one, which is grey, or three")

    def __bool__(self) -> bool:
        return bool(self.channels or self.stretch)

    def record(self) -> dict[str, Any]:
        """What is not the default, as JSON-able values."""
        found: dict[str, Any] = {"channels": list(self.channels)} if self.channels else {}
        return {**found, "stretch": self.stretch.record()} if self.stretch else found

    def in_preprocessing(self) -> dict[str, Any]:
        """What `Encoder.preprocessing` says of it: nothing of the default, so that older fingerprints hold."""
        return {IN_PREPROCESSING: self.record()} if self else {}


PLAIN = Rendering()
"""Pictures as docs/images.md has them."""


@dataclass(frozen=True, kw_only=True)
class Renders:
    """The fields of an encoder of pictures that say what it sees of them. An encoder of your own may inherit them.

    It hands `rendering` to `decode.square_pixels` or `decode.decode_image`, and adds `rendering.in_preprocessing()` to
    what its `preprocessing` returns. A `__post_init__` of its own calls this one.
    """

    channels: str | int | tuple[str | int, ...] = field(default=(), metadata=LATER_FIELD)
    """See `Rendering.channels`; a number stands for the name that is that number."""
    stretch: Any = field(default=None, metadata=LATER_FIELD)
    """A name, a mapping with `name` and fields, or a `Stretch`; it becomes a `Stretch`. None for none."""

    def __post_init__(self) -> None:
        given = (self.channels,) if isinstance(self.channels, str | int) else self.channels
        object.__setattr__(self, "channels", tuple(map(str, given)))
        object.__setattr__(self, "stretch", stretch_of(self.stretch))
        _ = self.rendering  # refuses a wrong number of channels

    @property
    def rendering(self) -> Rendering:
        """Both of them."""
        return Rendering(channels=self.channels, stretch=self.stretch)  # type: ignore[arg-type]


def rendering_in(preprocessing: Mapping[str, Any]) -> Rendering:
    """What an encoder sees, by what a manifest or a model says of its preprocessing.

    Args:
        preprocessing: as `Encoder.preprocessing` returned it.

    Returns:
        The rendering; the default where nothing that raysal knows is said.
    """
    said = preprocessing.get(IN_PREPROCESSING)
    if not isinstance(said, Mapping):
        return PLAIN
    try:
        return Rendering(channels=tuple(said.get("channels", ())), stretch=stretch_of(said.get("stretch")))
    except (UserError, TypeError):  # of an encoder of somebody's own
        return PLAIN


def rendered(key: str, pixels: Pixels, rendering: Rendering, limit: int) -> Image.Image:
    """A picture as an encoder sees it.

    Args:
        key: the item's name, for the errors.
        pixels: its numbers, the highest row first.
        rendering: what is seen of them.
        limit: the most pixels it may have.

    Returns:
        The image, in mode L or RGB.

    Raises:
        BadItem: it lacks a channel, or has neither one nor three where none are named; it is too large; its numbers are
            no real ones; or without a stretch their range is not known.
    """
    values, names = pixels.values, names_of(pixels)
    if values.ndim not in (2, 3) or values.dtype.kind not in KINDS:
        raise BadItem(key, f"pixels {values.dtype} {values.shape}, expected numbers [h, w] or [h, w, channels]")
    check_size(key, values.shape[1], values.shape[0], limit)
    values = values.reshape(*values.shape[:2], -1)
    if len(names) != values.shape[2]:
        raise BadItem(key, f"{values.shape[2]} channels, and {len(names)} names of them ({listed(names)})")
    if rendering.channels:
        check_channels(key, rendering.channels, names)
        values = values[..., [names.index(name) for name in rendering.channels]]
    elif len(names) not in (1, 3):
        problem = f"{len(names)} channels ({listed(names)}), and an encoder takes 1 or 3"
        raise BadItem(key, problem, "say which in `channels` of the encoder (--channel)")
    if rendering.stretch is not None:
        grey = stretched(key, values, rendering.stretch)
    else:
        kind, bits = KINDS[values.dtype.kind], 1 if values.dtype.kind == "b" else 8 * values.dtype.itemsize
        how = "the file or the source, or choose a `stretch` of the encoder"
        grey = to_eight_bits(key, values, *fixed_range(key, kind, bits, pixels.stated, how))
    return Image.fromarray(np.ascontiguousarray(grey[..., 0] if grey.shape[2] == 1 else grey))


def names_of(pixels: Pixels) -> tuple[str, ...]:
    """The names of the channels of a picture; their numbers from 0 where it has none."""
    count = pixels.values.shape[2] if pixels.values.ndim == 3 else 1
    return pixels.channels or tuple(map(str, range(count)))


def check_channels(key: str, wanted: tuple[str, ...], names: tuple[str, ...]) -> None:
    """Refuse a picture that lacks a channel.

    Args:
        key: the item's name, for the error.
        wanted: the channels that the encoder takes.
        names: those of the picture.

    Raises:
        BadItem: it lacks one; the error names those that it has.
    """
    if lost := [name for name in wanted if name not in names]:
        problem = f"no channel {lost[0]!r}; its channels: {listed(names)}"
        raise BadItem(key, problem, "correct `channels` of the encoder (--channel), or what the source reads")


def listed(names: tuple[str, ...]) -> str:
    """Names of channels for people."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
