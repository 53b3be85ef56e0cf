"""Items that are in memory already. Python code passes them in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np

from raysal.errors import ConfigError, SourceError
from raysal.sources.listing import check_carry, digest, text_key, wanted_positions
from raysal.types import Item, Modality, Unit

_NOT_CONFIG = {"record": False}
"""Metadata of fields that hold data: they are no part of the config that a pool records."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """Vectors, images or texts in memory, with their keys.

    A unit's locator holds the payloads of its items. A pickled copy has no payloads: it can read units, which is all
    that a worker does, but cannot list them.

    Args:
        keys: the items' keys [n].
        vectors: float [n, d], or n rows of the same length.
        images: n images: encoded bytes, or uint8 [h, w] or [h, w, 3].
        texts: n strings. Exactly one of vectors, images and texts is given.
        carry: {column: values [n]} to keep in the pool.
    """

    keys: Sequence[Any] = field(default=(), repr=False, metadata=_NOT_CONFIG)
    vectors: Any = field(default=None, repr=False, metadata=_NOT_CONFIG)
    images: Any = field(default=None, repr=False, metadata=_NOT_CONFIG)
    texts: Any = field(default=None, repr=False, metadata=_NOT_CONFIG)
    carry: Mapping[str, Sequence[Any]] = field(default_factory=dict, repr=False, metadata=_NOT_CONFIG)

    def __post_init__(self) -> None:
        given = [name for name in ("vectors", "images", "texts") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError("memory", f"needs one of vectors, images, texts; got {', '.join(given) or 'none'}")
        check_carry(tuple(self.carry))
        count = len(self._payloads)
        for name, column in {"keys": self.keys, **self.carry}.items():
            if len(column) != count:
                raise ConfigError(f"memory.{name}", f"{len(column)} values for {count} {given[0]}")
        if self.vectors is not None and isinstance(self.vectors, np.ndarray) and self.vectors.ndim != 2:
            raise ConfigError("memory.vectors", f"shape {self.vectors.shape}, expected [n, d]")

    def __getstate__(self) -> dict[str, Any]:
        hollow = {name: () for name in ("vectors", "images", "texts") if getattr(self, name) is not None}
        return {
            "keys": (),
            "vectors": None,
            "images": None,
            "texts": None,
            "carry": dict.fromkeys(self.carry, ()),
            **hollow,
        }

    @property
    def modality(self) -> Modality:
        """The kind of payload that was given."""
        if self.vectors is not None:
            return "vector"
        return "image" if self.images is not None else "text"

    @property
    def _payloads(self) -> Sequence[Any]:
        """The payloads that were given."""
        for payloads in (self.vectors, self.images, self.texts):
            if payloads is not None:
                found: Sequence[Any] = payloads
                return found
        return ()

    def vector_dim(self) -> int:
        """Length of the first vector; 0 if there is none."""
        return len(self.vectors[0]) if self.vectors is not None and len(self.vectors) else 0

    def fingerprint(self) -> str:
        """Hex sha256 over keys, payloads and carried values, at about 1 GB/s."""
        parts = (sha256(_bytes(payload)).digest() for payload in self._payloads)
        columns = [(name, list(values)) for name, values in self.carry.items()]
        return digest([self.modality, *zip(map(str, self.keys), parts, strict=True), columns])

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        """List all items; see `Source.units`."""
        total = len(self._payloads)
        if total == 0:
            raise SourceError("memory", "no items", "a pickled copy cannot be listed; pass at least one item")
        for index, start in enumerate(range(0, total, chunk_rows)):
            rows = slice(start, min(start + chunk_rows, total))
            keys = tuple(text_key(key, "memory", f"item {start + place}") for place, key in enumerate(self.keys[rows]))
            carried = {name: list(values[rows]) for name, values in self.carry.items()}
            yield Unit(index=index, first_id=start, keys=keys, locator=(self._payloads[rows], carried))

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """Read a chunk; see `Source.read`. The payloads come with the unit."""
        payloads, carried = unit.locator
        for place in wanted_positions(unit, only):
            values = {name: column[place] for name, column in carried.items()}
            yield Item(key=unit.keys[place], payload=payloads[place], carried=values)


def _bytes(payload: Any) -> bytes:
    """The bytes of a payload, for the fingerprint."""
    if isinstance(payload, bytes):
        return payload
    if isinstance(payload, str):
        return payload.encode("utf-8", "surrogatepass")
    array = np.asarray(payload)
    return f"{array.dtype}{array.shape}".encode() + array.tobytes()
