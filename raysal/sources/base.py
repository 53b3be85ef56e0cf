"""What a source is: it lists items in an order that never changes, and reads them chunk by chunk.

A source is a frozen, keyword-only dataclass. Its constructor fields are its config. Its work is two methods: `units`
lists all items as chunks, and `read` gives the items of one chunk. `units` runs once, in the driver; `read` runs in
the workers.

What a source must keep:

- The order of the listing is the same every time. An item's id is its position in the listing, so an order that
  changes puts labels on other items.
- Keys are distinct. The caller checks this (`raysal.sources.keys.check_keys`). What to do about those that are not, a
  source may say as `repeated_keys`.
- `units` and `read` stream: they hold one chunk in memory, never the listing.
- `read` gives every item that was listed. An item that cannot be read has a `BadItem` as its payload, so that the job
  can quarantine it with its reason.
- `fingerprint` changes if the listing changes. A pool refuses to go on with another fingerprint.
- What a listing leaves out is counted: a source that looks through folders has `passed_over` (`PassesOver`).
- A listing does not depend on what is installed, nor on the locale.
- `stamp` (optional, see `Stamped`) changes if any content may have changed. While it is the same, the embed job trusts
  the source. If it differs, or a source has none, the job reads again what the pool holds and compares it with the
  digests in the commit records.
- `files`, `units_in` and `spans` (optional, see `OfFiles`) let a pool grow by what is new in the source: a file that a
  pool has taken in is neither opened nor listed again while its size and time stay the same.

Pitfalls:

- Sort a directory's entries: the file system gives them in any order.
- Make keys as text. Two keys such as 1 and "1" are one key.
- An instance travels to workers by pickle, and workers must see the same paths. Do not keep open files or payloads in
  its fields. (`Memory` leaves its payloads behind; its units carry them.)
- A large locator travels with its unit. Put offsets into it, and payloads only if the source cannot be read by
  position.

To add a source: write one file with its class, and add one line to `raysal.sources.registry`. `raysal.embed` and the
config then know its name, and the contract tests ask for an example of it. If it needs no path, also add its name to
`_NAMED` in `raysal.sources`, so that `raysal embed NAME` finds it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol, runtime_checkable

from raysal.types import Columns, Item, Modality, PassedOver, SourceFile, Stamp, Unit

AS_BEGUN = "as_begun"
"""Key in the metadata of a field that decides what is listed: its value in the pools that do not record it. A begun
pool goes on with the value that it was begun with, unless the caller chooses another one."""

UNLESS_DEFAULT = "unless default"
"""The value of the key `record` in the metadata of a field that a pool records where it does not have its default, as
older pools did not know of it."""
LATER = {AS_BEGUN: None, "record": UNLESS_DEFAULT}
"""The metadata of such a field of a source, whose default is None."""


class Source(Protocol):
    """Where items come from."""

    @property
    def modality(self) -> Modality:
        """What kind of payload every item has."""
        ...

    def fingerprint(self) -> str:
        """Hex sha256 that identifies the listing, so that a pool can refuse another one.

        It usually covers names and sizes, not contents, so that it is fast to compute.
        """
        ...

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        """List all items as chunks of consecutive items. Ids count from 0 in the order of the listing.

        Args:
            chunk_rows: items in one chunk; the last chunk may have fewer.

        Returns:
            The chunks in order. They are made one by one: memory for one chunk.

        Raises:
            SourceError: the source cannot be listed.
        """
        ...

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """Read the items of one chunk.

        Args:
            unit: a chunk from `units`.
            only: ids of the items to read. None for all.

        Returns:
            The items in order of id. An item that cannot be read has a `BadItem` as its payload.
        """
        ...


@runtime_checkable
class VectorSource(Protocol):
    """A source of vectors that knows their length. `Precomputed` asks for it."""

    def vector_dim(self) -> int:
        """Length of a vector; 0 if there is none."""
        ...


@runtime_checkable
class ColumnSource(VectorSource, Protocol):
    """A source of vectors that gives many items at once. `raysal.sources.vectors` helps to write one."""

    def columns(self, unit: Unit, dim: int) -> Iterator[Columns]:
        """Read the items of one chunk, as `Source.read` does.

        Args:
            unit: a chunk from `units`.
            dim: length of a vector; one of another length is odd.

        Returns:
            The items in order of id, some megabytes at a time. What is said of an item does not depend on those beside
            it.
        """
        ...


@runtime_checkable
class PassesOver(Protocol):
    """A source that leaves out some of the files it meets. `raysal.sources.files.Files` does the work."""

    def passed_over(self) -> PassedOver:
        """Count what the listing leaves out. Every file is listed or counted here, and none is both.

        Returns:
            The counts.

        Raises:
            SourceError: the source cannot be listed.
        """
        ...


@runtime_checkable
class Stamped(Protocol):
    """A source that can tell, without reading, whether its contents may have changed."""

    def stamp(self) -> Stamp:
        """Describe the files as they are now, at the cost of one `stat` per file.

        Raises:
            SourceError: the source cannot be listed.
        """
        ...


@runtime_checkable
class OfFiles(Protocol):
    """A source whose items lie in files, each with its own items, so that a pool can take in what is new or changed."""

    def files(self) -> Iterator[SourceFile]:
        """List the files as they are now, in the order of the listing, at the cost of one `stat` per file.

        Those with `parts` can be hashed; of others, `--check hash` compares the contents of all items each time.

        Raises:
            SourceError: the source cannot be listed.
        """
        ...

    def units_in(self, names: Iterable[str], chunk_rows: int) -> Iterator[Unit]:
        """List the items of some files, as `Source.units` lists those of all: ids and chunks count from 0.

        Args:
            names: of files, in the order of the listing.
            chunk_rows: items in one chunk.

        Returns:
            The chunks in order; none if these files hold no item.

        Raises:
            SourceError: a file cannot be listed.
        """
        ...

    def spans(self, unit: Unit) -> Iterator[tuple[str, int]]:
        """In which files the items of a unit lie.

        Args:
            unit: from `units` or `units_in`.

        Returns:
            The name of a file and how many consecutive items of the unit it holds, in order.
        """
        ...
