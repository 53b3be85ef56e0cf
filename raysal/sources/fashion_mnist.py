"""Fashion-MNIST (Xiao, Rasul & Vollgraf, arXiv 1708.07747): 70,000 images of clothes, 28 x 28 grey pixels."""

from __future__ import annotations

import gzip
import hashlib
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError, SourceError
from raysal.rng import derive, item_uniform
from raysal.sources.listing import digest, units_of, wanted_positions
from raysal.store import write_file
from raysal.types import Item, Stamp, Unit

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
SYSTEM_DIR = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""
CACHE_DIR = Path("~/.cache/raysal/fashion-mnist")
"""Where a download is kept."""
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
TIMEOUT_S = 30.0
"""How long a download may give no bytes, in seconds."""

SHA256 = {
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
}
"""Digest of each file's decompressed content. (The compressed bytes depend on who packed them.)"""
FILES = {
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", 10_000),
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 60_000),
}
"""{split: (file of images, file of labels, number of images)}."""


@dataclass(frozen=True, kw_only=True)
class FashionMnist:
    """Images of clothes. Payloads are uint8 [28, 28]; keys are `test/00042`; `label` carries the name of the class.

    It looks for the files in `data`, in `SYSTEM_DIR` and in `CACHE_DIR`, in this order. If they are in none of these,
    it downloads them into `CACHE_DIR`. It always checks their content.
    """

    data: Path | None = None
    """A folder that holds the data set's .gz files."""
    split: Literal["test", "train"] = "test"
    thin: Mapping[str, float] = field(default_factory=dict)
    """Shares in [0, 1] that make classes rare: `{Dress = 0.1}` keeps a tenth of the dresses, those with the lowest
    hash, and every other image. Keys stay those of the whole split."""

    def __post_init__(self) -> None:
        if self.split not in FILES:
            raise ConfigError("fashion_mnist.split", f"{self.split!r} is not a split", "use test or train")
        for name, share in self.thin.items():
            if name not in CLASSES:
                problem = f"{name!r} is not a class"
                raise ConfigError("fashion_mnist.thin", problem, f"the classes: {', '.join(CLASSES)}")
            if not 0 <= share <= 1:
                raise ConfigError(f"fashion_mnist.thin.{name}", f"{share} is not a share", "give a number from 0 to 1")

    @property
    def modality(self) -> Literal["image"]:
        """Image."""
        return "image"

    def fingerprint(self) -> str:
        """Hex sha256 over the digests of the split's files, and over `thin`. It reads no file."""
        images, labels, _ = FILES[self.split]
        thinned = [sorted(self.thin.items())] if self.thin else []
        return digest(["fashion_mnist", SHA256[images], SHA256[labels], *thinned])

    def stamp(self) -> Stamp:
        """The fingerprint, which covers the contents."""
        return Stamp(digest=self.fingerprint(), by_content=True)

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        """List all items; see `Source.units`.

        Args:
            chunk_rows: items in one chunk.

        Returns:
            The chunks in order.

        Raises:
            SourceError: the files are nowhere and cannot be downloaded, or their content is wrong.
        """
        _, labels = self._arrays()
        return units_of((f"{self.split}/{row:05d}" for row in self._kept(labels)), chunk_rows)

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """Read a chunk; see `Source.read`. A process keeps the split that it read last (47 MB for train)."""
        images, labels = self._arrays()
        for position in wanted_positions(unit, only):
            row = int(unit.keys[position].rpartition("/")[2])
            yield Item(key=unit.keys[position], payload=images[row], carried={"label": CLASSES[labels[row]]})

    def _kept(self, labels: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Positions in the split of the images that `thin` keeps, ascending."""
        kept = np.ones(len(labels), bool)
        for name, share in self.thin.items():
            own = np.flatnonzero(labels == CLASSES.index(name))
            order = np.argsort(item_uniform(derive(0, "fashion_mnist", "thin"), own), kind="stable")
            kept[own[order[round(share * len(own)) :]]] = False
        return np.flatnonzero(kept)

    def _arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The split's images uint8 [n, 28, 28] and class numbers uint8 [n]."""
        return _load(self.split, None if self.data is None else Path(self.data))


@lru_cache(maxsize=1)
def _load(split: str, data: Path | None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A split's images uint8 [n, 28, 28] and class numbers uint8 [n]."""
    images, labels, count = FILES[split]
    pixels = np.frombuffer(_content(images, data), np.uint8, offset=16).reshape(count, 28, 28)
    return pixels, np.frombuffer(_content(labels, data), np.uint8, offset=8)


def _content(name: str, data: Path | None) -> bytes:
    """The decompressed content of one file, after a check of its digest."""
    cache = CACHE_DIR.expanduser()
    places = [place / f"{name}.gz" for place in (*([data] if data else []), SYSTEM_DIR, cache)]
    for place in places:
        if place.exists():
            return _verified(place, place.read_bytes(), name)
    url = f"{URL}/{name}.gz"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            packed: bytes = response.read()
    except (urllib.error.URLError, OSError) as error:
        looked = ", ".join(str(place) for place in places)
        raise SourceError(
            "fashion_mnist",
            f"not found in {looked}; {url} cannot be read ({error})",
            "apt install dataset-fashion-mnist, or pass --data with the folder of its .gz files",
        ) from None
    content = _verified(url, packed, name)
    cache.mkdir(parents=True, exist_ok=True)
    write_file(cache / f"{name}.gz", lambda temporary: temporary.write_bytes(packed))
    return content


def _verified(where: object, packed: bytes, name: str) -> bytes:
    """The decompressed bytes of a file, if they are those of the data set."""
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError) as error:
        raise SourceError(where, f"not a whole gzip file ({error})", "delete it and run again") from None
    got = hashlib.sha256(content).hexdigest()
    if got != SHA256[name]:
        raise SourceError(where, f"its content has sha256 {got}, expected {SHA256[name]}", "delete it and run again")
    return content
