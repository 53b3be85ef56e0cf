"""The images that a table names: by paths that begin at its folder, or by URLs of buckets; no web is asked."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from raysal.arrow import ColumnKind, plain_array, plain_type
from raysal.buckets import Bucket, Object, is_url
from raysal.buckets.address import address_of
from raysal.errors import BucketError
from raysal.sources.listing import look_at
from raysal.sources.places import PathOrUrl, as_source_errors
from raysal.sources.reading_ahead import read_ahead
from raysal.types import SourceFile

_LOOKS = 100
"""Images of one folder that are looked at one by one; of more, the folder is listed."""
_BUCKETS = ("s3", "gs", "az", "abfss")
"""Schemes of URLs that are read. A link of the web that is dead would stop the job: raysal cannot tell whether a web
server fails for one; and what fsspec knows may lead to any file of this machine."""
_OUTSIDE = "its bytes are not in the table, and"


class NamedImages:
    """The images that one table names. Of buckets, folders that were listed are kept as long as this lives."""

    def __init__(self, folder: PathOrUrl) -> None:
        """`folder` holds the table: a path, or a URL."""
        self._folder = folder
        self._listed: dict[Bucket, dict[str, Object]] = {}

    def place_of(self, path: str) -> Path | tuple[Bucket, str]:
        """Where an image is.

        Args:
            path: as the table has it: relative to its folder, absolute, or a URL.

        Returns:
            A path; or of a bucket the folder, and the name in it.

        Raises:
            ValueError: there can be no such image, or the table may not name it.
        """
        url = path
        if not is_url(path):
            if isinstance(self._folder, Path):
                return self._folder / path
            address = address_of(self._folder)
            inside = posixpath.normpath(posixpath.join(address.path, path))
            if path.startswith("/") or inside.startswith("../"):
                raise ValueError(f"{_OUTSIDE} {path!r} leads out of the bucket of the table; write a URL, as s3://...")
            url = f"{address.root}/{inside}"
        try:
            if address_of(url).scheme not in _BUCKETS:
                raise ValueError(f"{_OUTSIDE} {path!r} is no local file, and no URL of a bucket")
            whole = Bucket(url)
            above, _, name = whole.url.rpartition("/")
            if not name or above.endswith("/"):
                raise ValueError(f"{_OUTSIDE} {path!r} names a bucket, and no object in it")
            return Bucket(above), name
        except BucketError as error:
            raise ValueError(f"{_OUTSIDE} {error}") from None

    def read(self, paths: Sequence[str | None]) -> Iterator[bytes | ValueError]:
        """Read images; of buckets many at the same time.

        Args:
            paths: as the table has them.

        Yields:
            The bytes of each, or why there are none.

        Raises:
            SourceError: a bucket cannot be read.
        """
        places = [self._place_or_error(path) for path in paths]
        far = [(place[1], (place[0],)) for place in places if isinstance(place, tuple)]
        with as_source_errors():
            found = read_ahead(far)
            for path, place in zip(paths, places, strict=True):
                if isinstance(place, ValueError):
                    yield place
                elif isinstance(place, Path):
                    yield _bytes_of(str(path), place)
                else:
                    one = next(found)
                    wrong = isinstance(one, BucketError)
                    yield ValueError(f"{_OUTSIDE} {path!r}: {one.problem}") if wrong else one.data  # type: ignore[union-attr]

    def _place_or_error(self, path: str | None) -> Path | tuple[Bucket, str] | ValueError:
        if not path:
            return ValueError("the image has neither bytes nor a path")
        try:
            return self.place_of(path)
        except ValueError as error:
            return error

    def look(self, paths: Iterable[str]) -> Iterator[SourceFile]:
        """Look at images as they are now; see `OfFiles.files`. Memory: for their paths.

        Args:
            paths: as the table has them. Those that name no image are left out: to read them fails, and says so.

        Yields:
            What is known of each, under its path.

        Raises:
            SourceError: a bucket cannot be looked at.
        """
        pairs = [(path, self._place_or_error(path)) for path in paths]
        counts: dict[Bucket, int] = {}
        for _, place in pairs:
            if isinstance(place, tuple):
                counts[place[0]] = counts.get(place[0], 0) + 1
        for path, place in pairs:
            if isinstance(place, Path):
                if "\0" not in path:
                    yield look_at(path, place)
            elif isinstance(place, tuple):
                yield self._look(path, *place, counts[place[0]])

    def _look(self, path: str, folder: Bucket, name: str, count: int) -> SourceFile:
        with as_source_errors():
            if folder not in self._listed and count > _LOOKS:
                self._listed[folder] = {one.name: one for one in folder.list() if "/" not in one.name}
            here = self._listed.get(folder)
            found = folder.look_at(name) if here is None else here.get(name)
        if found is None:
            return SourceFile(name=path, bytes=-1, changed_ns=0)
        return SourceFile(name=path, bytes=found.size, changed_ns=found.changed_ns, etag=found.etag)


def _bytes_of(path: str, place: Path) -> bytes | ValueError:
    try:
        return place.read_bytes()
    except (OSError, ValueError) as error:  # a path may hold a null character
        reason = error.strerror if isinstance(error, OSError) else error
        return ValueError(f"{_OUTSIDE} {path!r} cannot be read ({reason})")


def are_named(kind: ColumnKind) -> bool:
    """Whether a column of images may name files: it is text, or structs of bytes and a path."""
    if not pa.types.is_struct(kind.type):
        return kind.is_text
    return bool(kind.type.get_field_index("path") >= 0 and kind.type.get_field_index("bytes") >= 0)


def paths_in(column: pa.Array) -> Iterator[tuple[int, str | None]]:
    """The images that a column names.

    Args:
        column: some rows of a column for which `are_named` holds.

    Yields:
        The row of each, and its path; None where there is neither a path nor bytes. Rows that are null are left out.
    """
    if not pa.types.is_struct(plain_type(column.type)):
        yield from ((row, path or None) for row, path in enumerate(plain_array(column).to_pylist()) if path is not None)
        return
    column = plain_array(column)
    valid, missing = column.is_valid().to_pylist(), column.field("bytes").is_null().to_pylist()
    paths = column.field("path").to_pylist()
    for row, (there, lacks, path) in enumerate(zip(valid, missing, paths, strict=True)):
        if there and lacks:
            yield row, path or None


def folder_of(place: Any) -> PathOrUrl:
    """The folder of a file: of a path, or of a URL."""
    return place.parent if isinstance(place, Path) else str(place).rpartition("/")[0]
