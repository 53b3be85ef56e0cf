"""Which datasets of an array file are the items, their keys and columns, and what the axes of images are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.errors import SourceError
from raysal.sources.datasets import Dataset
from raysal.sources.places import PathOrUrl
from raysal.types import Pixels

KEY_NAMES = ("key", "keys", "id", "ids")
"""Datasets that are taken for keys, where nobody names one."""
_LISTED = 20
"""Datasets that an error lists."""
_CHANNEL_AXES = ("c", "channel", "channels", "band", "bands")
_MOST_CHANNELS = 4
"""Of two axes the one of this size or less is that of the channels, if the other one is longer."""


class Chosen(NamedTuple):
    """The datasets that a source reads."""

    modality: Literal["vector", "image"]
    payload: Dataset
    keys: Dataset | None
    carry: tuple[Dataset, ...]


def choose(
    where: PathOrUrl,
    found: Mapping[str, Dataset],
    vectors: str | None,
    images: str | None,
    keys: str | None,
    carry: Sequence[str],
) -> Chosen:
    """Say which datasets are the items, their keys and the columns to keep.

    Args:
        where: the file, for errors.
        found: its datasets.
        vectors: name of the dataset of vectors, if somebody named it.
        images: that of images.
        keys: that of keys.
        carry: names of the columns to keep.

    Returns:
        The datasets.

    Raises:
        SourceError: there is none of that name, it does not hold that, has another number of rows than the items, or
            which one is meant is not plain. The error lists what is there.
    """
    there = [str(one) for one in found.values()]
    listed = ", ".join(there[:_LISTED]) + (f" and {len(there) - _LISTED} more" if len(there) > _LISTED else "")
    names = [(vectors, "--vector-column"), (images, "--image-column"), (keys, "--key-column")]
    wanted = [(name, flag) for name, flag in names if name] + [(name, "--carry") for name in carry]
    if lost := [pair for pair in wanted if pair[0] not in found]:
        problem = f"no dataset {lost[0][0]!r}; its datasets: {listed or 'none'}"
        raise SourceError(where, problem, f"choose one with {lost[0][1]}")
    name = vectors or images
    if name is None:
        items = [one for one in found.values() if one.modality and not one.alias]
        if len(items) != 1:
            problem = f"cannot tell which dataset holds the items; its datasets: {listed or 'none'}"
            raise SourceError(where, problem, "choose one with --vector-column or --image-column")
        payload, modality = items[0], items[0].modality
    else:
        payload, modality = found[name], "vector" if vectors else "image"
        is_images = modality == "image" and payload.modality and (payload.holds == "bytes" or len(payload.shape) > 2)
        if payload.modality != modality and not is_images:
            expected = "numbers [n, d]" if vectors else "numbers [n, h, w], [n, h, w, c] or [n, c, h, w], or bytes [n]"
            _refuse(where, payload, f"{modality}s", expected)
    assert modality is not None
    rows = payload.shape[0]
    columns = [found[one] for one in carry]
    for one in columns:
        if not one.is_column:
            _refuse(where, one, "a column", "texts or real numbers [n]")
    if keys is None:
        likely = [
            found[one] for one in KEY_NAMES if one in found and found[one].is_keys and found[one].shape == (rows,)
        ]
        if len(likely) > 1:
            problem = f"cannot tell which dataset holds the keys: {' or '.join(one.name for one in likely)}"
            raise SourceError(where, problem, "choose one with --key-column")
        key = likely[0] if likely else None
    else:
        key = found[keys]
        if not key.is_keys:
            _refuse(where, key, "keys", "texts or whole numbers [n]")
    for one in [*columns, *([key] if key else [])]:
        if one.shape[0] != rows:
            problem = f"dataset {one.name!r} has {one.shape[0]:,} rows, and {payload.name!r} has {rows:,}"
            raise SourceError(where, problem, "give each item one value")
    return Chosen(modality, payload, key, tuple(columns))


def _refuse(where: PathOrUrl, dataset: Dataset, what: str, expected: str) -> None:
    problem, _, fix = dataset.problem.partition("; ")
    if problem:
        raise SourceError(where, f"dataset {dataset.name!r} cannot be read: {problem}", fix)
    raise SourceError(where, f"dataset {dataset} cannot be read as {what}", f"expected {expected}")


def channel_axis(where: PathOrUrl, dataset: Dataset, axes: str | None) -> int | None:
    """Which axis of images [n, ...] is that of the channels.

    Args:
        where: the file, for errors.
        dataset: the images.
        axes: `hw`, `hwc` or `chw`, where somebody says so.

    Returns:
        The axis; None if there is none.

    Raises:
        SourceError: it has another number of axes, or which one it is is not plain.
    """
    if dataset.holds == "bytes":
        return None
    if axes is not None:
        if len(axes) != len(dataset.shape) - 1:
            raise SourceError(where, f"dataset {dataset}: its images are not {axes!r}", "correct axes")
        return axes.index("c") + 1 if "c" in axes else None
    if len(dataset.shape) == 3:
        return None
    named = [at for at, name in enumerate(dataset.axes) if name.lower() in _CHANNEL_AXES]
    short = [at for at in (1, 3) if dataset.shape[at] <= _MOST_CHANNELS]
    for likely in (named, short):
        if len(likely) == 1 and likely[0] in (1, 3):
            return likely[0]
    raise SourceError(where, f"dataset {dataset}: which axis has the channels?", "set `axes` of the source: hwc or chw")


def picture_of(
    where: PathOrUrl,
    images: Dataset,
    axes: str | None,
    channels: Sequence[str | int],
    stated_range: tuple[float, float] | None,
    channel_names: Sequence[str] = (),
) -> Callable[[Any], Any]:
    """What makes the payload of a row of a dataset of images.

    Args:
        where: the file, for errors.
        images: the dataset.
        axes: `hw`, `hwc` or `chw`, where somebody says so.
        channels: names or numbers of the channels to take; () for all.
        stated_range: black and white, where somebody says so.
        channel_names: names of all channels, where somebody says so.

    Returns:
        A function of a row, which returns encoded bytes, uint8 of 1 or 3 channels without names, or `Pixels`.

    Raises:
        SourceError: the axes are not plain, there is no such channel, or there are more or fewer names than channels.
    """
    if images.holds == "bytes":
        return lambda row: row
    axis = channel_axis(where, images, axes)
    count = 1 if axis is None else images.shape[axis]
    if len(channel_names) not in (0, count):
        problem = f"dataset {images}: {count} channels, and {len(channel_names)} `channel_names`"
        raise SourceError(where, problem, "give each channel a name")
    names = tuple(channel_names) or _distinct(images.channels, count)
    wanted = _numbers_of(where, images, 0 if axis is None else count, names, channels)
    stated = stated_range or images.stated
    taken = names if wanted is None or not names else tuple(names[at] for at in wanted)

    def make(row: NDArray[Any]) -> Any:
        values = row if axis is None else np.moveaxis(row, axis - 1, -1)
        values = np.ascontiguousarray(values if wanted is None else values[..., wanted])
        is_plain = values.dtype == np.uint8 and values.shape[2:] in ((), (1,), (3,)) and not taken
        return values if is_plain else Pixels(values=values, stated=stated, channels=taken)

    return make


def _distinct(names: tuple[str, ...], count: int) -> tuple[str, ...]:
    """The names that a file has for its channels; none where they do not tell which is which."""
    return names if len(names) == count == len(set(names)) else ()


def _numbers_of(
    where: PathOrUrl, images: Dataset, count: int, names: Sequence[str], channels: Sequence[str | int]
) -> list[int] | None:
    """The numbers of the channels that were asked for, of so many; None for all."""
    if not channels:
        return None
    numbers = [names.index(one) if one in names else one for one in channels]
    found = [at for at in numbers if isinstance(at, int) and 0 <= at < count]
    if len(found) < len(channels):
        lost = next(one for one, at in zip(channels, numbers, strict=True) if at not in found)
        known = ", ".join(names) or (f"0 to {count - 1}, without names" if count else "none")
        raise SourceError(
            where, f"dataset {images.name!r} has no channel {lost!r}; its channels: {known}", "correct it"
        )
    return found
