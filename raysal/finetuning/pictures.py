"""The pictures of a training, decoded once into a file of the disk: random steps read them from there.

work/pixels.u8    uint8 [n, size, size, 3], a picture after the other; nothing else
work/pixels.json  which keys they are of, which could not be read, and the sha256 of the file (sealed)

Memory: one chunk of the source at a time. The file is mapped, so the system keeps of it what fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.embedding.backbone import Backbone
from raysal.embedding.decode import fast_square_pixels, square_pixels
from raysal.errors import BadItem, Damaged
from raysal.finetuning.views import Pixels
from raysal.sources.base import Source
from raysal.store import check_bytes, check_size, digest_of, read_sealed, sha256_of, write_file, write_sealed
from raysal.types import Item, Report, no_report

PIXELS, INDEX = "pixels.u8", "pixels.json"
CHUNK = 1024
"""Items of the source that are listed at a time."""
ABSENT = "not in the source"


class Pictures(NamedTuple):
    """Decoded pictures."""

    pixels: NDArray[np.uint8]
    """[n, size, size, 3], mapped from the disk"""
    kept: list[str]
    """Their keys, in the order that was asked for."""
    lost: dict[str, str]
    """{key: why there is no picture}, in the order that was asked for"""


def gather_pictures(
    source: Source, keys: Sequence[str], backbone: Backbone, work: Path, threads: int, report: Report = no_report
) -> Pictures:
    """Decode pictures by key, unless they lie in the folder already.

    Args:
        source: where they are. It is listed up to the last of them.
        keys: which, each once.
        backbone: says what becomes of a picture.
        work: the folder to write to.
        threads: how many decode.
        report: told of the pictures as they are decoded.

    Returns:
        The pictures that could be decoded, in the order of `keys`, and the others with the reason.

    Raises:
        Damaged: the folder holds an altered file.
        SourceError: the source cannot be listed.
        OSError: the disk is full.
    """
    seen = {"size": backbone.size, "fast": backbone.fast, **backbone.rendering.in_preprocessing()}
    size, asked = backbone.size, digest_of({"keys": list(keys), **seen})
    if (work / INDEX).exists():
        found = read_sealed(work / INDEX, _anew(work))
        if found["asked"] == asked:
            return _opened(work, found, keys, size)
    places = {key: place for place, key in enumerate(keys)}
    decode = fast_square_pixels if backbone.fast else square_pixels
    good, lost, done = np.zeros(len(keys), bool), {}, 0

    def one(item: Item) -> tuple[str, Pixels | None, str]:
        try:
            if isinstance(item.payload, BadItem):
                raise item.payload
            return item.key, decode(item.key, item.payload, size, backbone.rendering), ""
        except BadItem as error:
            return item.key, None, error.problem + (f"; {error.fix}" if error.fix else "")

    def write(temporary: Path) -> None:
        nonlocal done
        shape = (max(1, len(keys)), size, size, 3)
        pixels = np.memmap(temporary, np.uint8, "w+", shape=shape)
        with ThreadPoolExecutor(threads) as decoders:
            for unit in source.units(CHUNK):
                ids = [unit.first_id + place for place, key in enumerate(unit.keys) if key in places]
                if not ids:
                    continue
                for key, picture, reason in decoders.map(one, source.read(unit, set(ids))):
                    if picture is None:
                        lost[key] = reason
                    else:
                        pixels[places[key]], good[places[key]] = picture, True
                    done += 1
                report("pictures", done, len(keys))
                if done == len(keys):
                    break
        pixels.flush()

    write_file(work / PIXELS, write)
    for key, place in places.items():
        if not good[place]:
            lost.setdefault(key, ABSENT)
    file = {"bytes": (work / PIXELS).stat().st_size, "sha256": sha256_of(work / PIXELS)}
    record = {"asked": asked, "lost": {key: lost[key] for key in keys if key in lost}, "file": file}
    write_sealed(work / INDEX, record)
    return _opened(work, record, keys, size)


def _opened(work: Path, record: dict[str, Any], keys: Sequence[str], size: int) -> Pictures:
    """Pictures that lie in the folder, checked."""
    check_size(work / PIXELS, record["file"]["bytes"], _anew(work))
    check_bytes(work / PIXELS, record["file"]["sha256"], _anew(work))
    pixels = np.memmap(work / PIXELS, np.uint8, "r", shape=(max(1, len(keys)), size, size, 3))
    lost = {key: record["lost"][key] for key in keys if key in record["lost"]}
    kept = [key for key in keys if key not in lost]
    if len(kept) + len(lost) != len(keys):
        raise Damaged(work / INDEX, "is of other pictures", _anew(work))
    return Pictures(pixels, kept, lost)


def _anew(work: Path) -> str:
    return f"delete {work} and run the same command again: the training begins anew"
