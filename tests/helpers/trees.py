"""Folders of files of many kinds, and by slow and obvious rules what has to become of each file."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

READ = {
    ".jpg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".apng": "PNG", ".webp": "WEBP",
    ".gif": "GIF", ".bmp": "BMP", ".dib": "BMP", ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM", ".pgm": "PPM",
    ".pnm": "PPM", ".pcx": "PCX", ".tga": "TGA", ".sgi": "SGI",
}  # fmt: skip
"""{suffix of images that every Pillow reads: format}."""
LOOK_LIKE_ITEMS = (
    ".svg",
    ".cr2",
    ".nef",
    ".dng",
    ".psd",
    ".jxl",
    ".exr",
    ".dcm",
    ".fits.gz",
    ".parquet",
    ".npz",
    ".h5",
)
SIDE = (".txt", ".json", ".csv", ".md", ".xmp", ".mp4", ".zip", ".db", ".py", ".jsonl.gz")
UNKNOWN = ("", ".weird", ".0001", ".jpg_large", ".this is a sentence")
"""Suffixes that say nothing: such a file looks like an item if it is a picture."""


class Tree(NamedTuple):
    """A folder, and what has to become of its files; each file is in one of the three."""

    root: Path
    items: dict[str, bool]
    """{key: whether it can be decoded}"""
    passed: dict[str, str]
    """{path: group}"""
    lost: set[str]
    """those of `passed` that look like items"""


def picture(form: str = "PNG", colour: int = 90) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (colour, 50, 10)).save(buffer, form)
    return buffer.getvalue()


def plant(root: Path, seed: int, files: int = 60, other: Sequence[str] = LOOK_LIKE_ITEMS) -> Tree:
    """A tree of folders up to three deep, with files of all kinds under names that never share a stem."""
    rng = random.Random(seed)
    tree = Tree(root, {}, {}, set())
    folders = ["", "a/", "a/b/", "a-b/", "ä ö/", "a/b/c.jpg/", "Z/", ".git/", "a/.cache/x/"]
    for number in range(files):
        folder = rng.choice(folders)
        hidden = ".git" in folder or ".cache" in folder
        kind = rng.choice(["read", "read", "read", "broken", "item", "side", "unknown", "unknown picture", "dot"])
        suffix = rng.choice(
            {"read": tuple(READ), "broken": tuple(READ), "item": other, "side": SIDE, "dot": tuple(READ)}.get(
                kind, UNKNOWN
            )
        )
        written = suffix.upper() if rng.random() < 0.3 else suffix
        name = f"{folder}{'.' if kind == 'dot' else ''}n{number} é{written}"
        content = {"read": picture(READ.get(suffix, "PNG")), "dot": picture(), "unknown picture": picture("JPEG")}
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.get(kind, rng.choice([b"", b"no picture"])))
        group = suffix if suffix not in ("", ".0001", ".this is a sentence") else "no suffix"
        if hidden or kind == "dot":
            tree.passed[name] = "hidden"
        elif kind in ("read", "broken"):
            tree.items[name] = kind == "read"
        else:
            tree.passed[name] = group
            if kind in ("item", "unknown picture"):
                tree.lost.add(name)
    return tree
