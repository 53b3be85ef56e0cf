"""A source lists items in a stable order and reads them chunk by chunk."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Protocol

from raysal.types import Item, Modality, Unit


class Source(Protocol):
    """Where items come from. Constructor fields are its config; instances are small and picklable."""

    @property
    def modality(self) -> Modality: ...

    def fingerprint(self) -> str:
        """Hex sha256 of the listing (names and sizes, not contents): what was embedded, to refuse another."""
        ...

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        """The whole listing, as chunks of `chunk_rows` consecutive items (the last may be shorter).

        Ids count from 0 in listing order; the order is the same every time. Streams: memory for one chunk.

        Raises:
            SourceError: the source cannot be listed. Keys are checked for uniqueness by the caller.
        """
        ...

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """The items of a unit in id order, or those of them whose id is in `only`.

        An item that cannot be read still comes, its payload a `BadItem`: nothing is skipped.
        """
        ...
