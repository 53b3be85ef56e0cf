"""Images in a folder. An image's key is its path relative to the folder."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import ClassVar, Literal

from raysal.buckets import Bucket, is_url
from raysal.errors import BucketError, ConfigError, SourceError
from raysal.sources.base import AS_BEGUN, LATER
from raysal.sources.files import Files, as_file
from raysal.sources.kinds import FIRST_IMAGES, IMAGES, OTHER_IMAGES, OTHER_TABLES, TABLES
from raysal.sources.listing import bad_item, digest, units_of, wanted_positions, whole_owners
from raysal.sources.places import PathOrUrl, as_source_errors
from raysal.sources.reading_ahead import read_ahead
from raysal.sources.roots import ALSO, SeveralFiles, files_of_roots
from raysal.types import Item, PassedOver, SourceFile, Stamp, Unit


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The image files under a folder, in the order of their relative POSIX paths. Hidden files are left out.

    The listing holds the entries of one directory at a time, not of the whole tree. It follows links to folders, except
    links into a folder that contains them.
    """

    path: PathOrUrl
    """The folder, on a disk or in a bucket; or a pattern, as `photos/**/*.jpg`."""
    recursive: bool = True
    """Whether the folders inside are read too."""
    suffixes: tuple[str, ...] = field(default=IMAGES, metadata={AS_BEGUN: FIRST_IMAGES})
    """The suffixes of images, in lower case; a file's own may be in any case. The rest is passed over."""
    _WORD: ClassVar[str] = "images"
    _ITEMS: ClassVar[frozenset[str]] = OTHER_IMAGES | OTHER_TABLES | {*IMAGES, *TABLES}
    """Suffixes of files that look like items, if they are passed over."""
    _PICTURES: ClassVar[bool] = True
    """Whether files of unknown suffixes are looked into, and count as items if they are pictures."""

    owner: Literal["folder"] | None = field(default=None, metadata=LATER)
    """What images are parts of: `folder`, for frames that lie in a folder for each video. The owner's key is the path
    of the folder; an image at the top is no part. No frame may lie beside a folder of frames."""
    also: tuple[PathOrUrl, ...] = field(default=(), metadata=ALSO)
    """Other folders or patterns; a key is the path relative to its own one, and two of one key are an error."""

    def __post_init__(self) -> None:
        for suffix in self.suffixes:
            if not suffix.startswith(".") or suffix != suffix.lower():
                raise ConfigError("source.suffixes", f"{suffix!r}", "write suffixes in lower case, with the dot")

    @property
    def modality(self) -> Literal["image", "sound"]:
        """Image."""
        return "image"

    def listing(self) -> Files:
        """The files as they are now; the folder is looked at anew.

        Returns:
            Those of the items, which their keys name.

        Raises:
            SourceError: there is no folder.
        """
        files = files_of_roots(
            self.also,
            path=self.path,
            takes=tuple(self.suffixes),
            items=self._ITEMS,
            recursive=self.recursive,
            pictures=self._PICTURES,
            by_parts=False,
        )
        if files.place.file:
            raise SourceError(self.path, "is a file, not a folder", f"pass a folder of {self._WORD}")
        return files

    @cached_property
    def _in_buckets(self) -> tuple[Bucket, ...]:
        """The folders in buckets, looked for once; none on a disk."""
        if not is_url(self.path):
            return ()
        files = self.listing()
        roots = files.roots if isinstance(files, SeveralFiles) else (files,)
        return tuple(root.bucket for root in roots if root.bucket is not None)

    def fingerprint(self) -> str:
        """Hex sha256 over the relative path and the size of every image. It costs one `stat` per file."""
        sizes = ((file.name, file.bytes) for file in self.files())
        return digest(sizes if self.owner is None else chain([{"owner": self.owner}], sizes))

    def stamp(self) -> Stamp:
        """Names, sizes and times of all images. It costs one `stat` per file."""
        return self.listing().stamp()

    def keys(self) -> Iterator[str]:
        """List the keys of all images.

        Returns:
            Relative POSIX paths, in ascending order of their text.

        Raises:
            SourceError: the folder is missing or unreadable.
        """
        return self.listing().names()

    def passed_over(self) -> PassedOver:
        """The files that are no images of the chosen suffixes; see `PassesOver`."""
        return self.listing().passed_over()

    def files(self) -> Iterator[SourceFile]:
        """Every image, which is one item; see `OfFiles`."""
        return self.listing().look()

    def units_in(self, names: Iterable[str], chunk_rows: int) -> Iterator[Unit]:
        """List some of the images; see `OfFiles`."""
        if self.owner is None:
            yield from units_of(names, chunk_rows)
            return
        rows = ((key, key.rpartition("/")[0] or None, None) for key in names)
        first_id = 0
        for index, some in enumerate(whole_owners(rows, chunk_rows, self.path)):
            keys, owners, _ = zip(*some, strict=True)
            yield Unit(index=index, first_id=first_id, keys=keys, owners=owners)
            first_id += len(some)

    def spans(self, unit: Unit) -> Iterator[tuple[str, int]]:
        """Each item is a file of its own; see `OfFiles`."""
        return ((key, 1) for key in unit.keys)

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        """List all items; see `Source.units`.

        Args:
            chunk_rows: items in one chunk.

        Yields:
            The chunks in order.

        Raises:
            SourceError: as for `keys`, or there is no image.
        """
        empty = True
        for unit in self.units_in(self.keys(), chunk_rows):
            empty = False
            yield unit
        if empty:
            found = str(self.passed_over())
            raise SourceError(
                self.path,
                f"no {self._WORD} in this folder; {found}" if found else f"no {self._WORD} in this folder",
                f"check the path; {self._WORD} end in {', '.join(self.suffixes)}",
            )

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """Read a chunk; see `Source.read`. A payload is the bytes of the file, not decoded."""
        keys = [unit.keys[position] for position in wanted_positions(unit, only)]
        if self._in_buckets:
            yield from (item for item, _ in self._read_in(self._in_buckets, keys))
            return
        files = self.listing()
        for key in keys:
            file = files.file(key)
            uri = file.decode("utf-8", "backslashreplace")
            try:
                with open(file, "rb") as opened:
                    yield Item(key=key, payload=opened.read(), uri=uri)
            except OSError as error:
                yield bad_item(key, f"the file cannot be read ({error.strerror})", uri=uri)

    def read_looking(self, keys: Sequence[str]) -> Iterator[tuple[Item, SourceFile]]:
        """Read images by their keys, and look at each file when it was read.

        Args:
            keys: some that `keys` lists.

        Yields:
            The item, and its file.
        """
        if self._in_buckets:
            yield from self._read_in(self._in_buckets, keys)
            return
        files = self.listing()
        unit = Unit(index=0, first_id=0, keys=tuple(keys))
        yield from ((item, files.look_at(item.key)) for item in self.read(unit))

    def _read_in(self, buckets: Sequence[Bucket], keys: Sequence[str]) -> Iterator[tuple[Item, SourceFile]]:
        """The items of folders of buckets, many at the same time. One that is gone is a bad item."""
        with as_source_errors():
            for key, found in zip(keys, read_ahead([(key, buckets) for key in keys]), strict=True):
                if isinstance(found, BucketError):
                    uri = buckets[0].url_of(key)
                    yield bad_item(key, found.problem, uri=uri), SourceFile(name=key, bytes=-1, changed_ns=0)
                else:
                    yield Item(key=key, payload=found.data, uri=found.bucket.url_of(key)), as_file(found.object)
