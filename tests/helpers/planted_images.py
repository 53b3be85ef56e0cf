"""A folder of pictures with planted copies, slightly changed copies, rotations and blanks, as crawled data has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Planted:
    """What is in the folder, by key."""

    folder: Path
    originals: Sequence[str]
    copies: Mapping[str, str]
    """{key of a file with the same bytes: key of its original}"""
    changed: Mapping[str, str]
    """{key of one that was made brighter and saved as JPEG: key of its original}"""
    rotations: Mapping[str, str]
    """{key of one that was turned: key of its original}"""
    blanks: Sequence[str]

    @property
    def planted(self) -> dict[str, str]:
        """All that was made of an original."""
        return {**self.copies, **self.changed, **self.rotations}


def plant_images(
    folder: Path,
    images: NDArray[np.uint8],
    labels: Sequence[str],
    *,
    each: int = 5,
    degrees: float = 4.0,
    seed: int = 0,
) -> Planted:
    """Write pictures as files, and plant others among them.

    Args:
        folder: to be made: FOLDER/LABEL/NAME.png; what is planted is listed after its original.
        images: [n, h, w] of different pictures.
        labels: [n], the folder of each.
        each: how many copies, changed ones, rotations and blanks there are.
        degrees: how far rotations are turned.
        seed: which originals are taken.

    Returns:
        What was written.
    """
    keys = [f"{label}/{number:05d}.png" for number, label in enumerate(labels)]
    taken = np.random.default_rng(seed).permutation(len(images))[: 3 * each].reshape(3, each)
    for key, image in zip(keys, images, strict=True):
        _save(folder / key, Image.fromarray(image))
    made: list[dict[str, str]] = [{}, {}, {}]
    for number in taken[0]:
        made[0][name := f"{keys[number][:-4]}_copy.png"] = keys[number]
        (folder / name).write_bytes((folder / keys[number]).read_bytes())
    for number in taken[1]:
        made[1][name := f"{keys[number][:-4]}_saved.jpg"] = keys[number]
        brighter = np.clip(images[number].astype(np.float32) * 1.04 + 2, 0, 255).astype(np.uint8)
        _save(folder / name, Image.fromarray(brighter))
    for number in taken[2]:
        made[2][name := f"{keys[number][:-4]}_turned.png"] = keys[number]
        _save(folder / name, Image.fromarray(images[number]).rotate(degrees, Image.Resampling.BICUBIC))
    blanks = [f"{labels[0]}/blank-{number}.png" for number in range(each)]
    for number, key in enumerate(blanks):
        _save(folder / key, Image.new("L", (images.shape[2], images.shape[1]), 40 * number % 256))
    return Planted(folder=folder, originals=keys, copies=made[0], changed=made[1], rotations=made[2], blanks=blanks)


def _save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=92)  # of a JPEG; a PNG passes it over
