"""The fragments of a Lance table as the files of a source. A fragment is rows that were written together.

Lance never changes a data file: what is appended or updated is a new fragment, and rows that are deleted are named in a
small file beside theirs. So a fragment is known by its files, and a pool that grows reads what is new or changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pyarrow as pa

from raysal.buckets import Bucket, Object
from raysal.buckets.address import address_of
from raysal.errors import MissingExtra, SourceError
from raysal.messages import brief
from raysal.sources.listing import digest, look_at, stamp_of_looks
from raysal.sources.places import PathOrUrl, Place, as_source_errors
from raysal.sources.row_file import BATCH_ROWS, RowFile
from raysal.types import PassedOver, SourceFile, Stamp

VERSIONS = "_versions"
"""The folder by which a Lance table is known."""
_MANIFEST = ".manifest"
SCHEMES = ("s3", "gs", "az")
"""Of buckets that Lance reads by itself, with the credentials of the environment."""
_NAME = "fragment {}"
_MEDIA_ROWS = 256
"""Rows that are read at a time, where they hold bytes of any length."""
_RUST = re.compile(r"(, /\S+\.rs:\d+:\d+)+.*$")
"""Where in its own source an error of Lance was made."""


class _Version(NamedTuple):
    """A table as it was at a time."""

    number: int
    fragments: Mapping[str, Any]
    """{name: fragment, as `lance.fragment.LanceFragment`}, in the order of the rows."""
    schema: pa.Schema
    objects: Mapping[str, Object]
    """{name relative to the table: object} of what is in a bucket."""


class LanceFiles:
    """The fragments of a table. It reads the version that was listed last, or the one that is named."""

    def __init__(self, path: PathOrUrl, version: int | str | None) -> None:
        """Nothing is opened yet; `version` is a number or a tag."""
        self.path, self._wanted = path, version
        self._number: int | None = None
        """Of the version that was listed last."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_listed"}

    @cached_property
    def bucket(self) -> Bucket | None:
        """The folder of a bucket that holds the table; None on a disk."""
        if not isinstance(self.path, str):
            return None
        if address_of(self.path).scheme not in SCHEMES:
            problem = "Lance tables are not read by this scheme"
            raise SourceError(self.path, problem, f"name one at {', '.join(f'{one}://' for one in SCHEMES)} or a path")
        return Bucket(self.path)

    def names(self) -> Iterator[str]:
        """The fragments of the version that was listed last, in the order of their rows."""
        return iter(self._now.fragments)

    def look(self) -> Iterator[SourceFile]:
        """List the fragments as they are now; what is read from here on is of this version.

        Returns:
            The fragments, each with the size of its files and the time of the newest; in a bucket with a version.

        Raises:
            SourceError: the table cannot be opened.
        """
        self.__dict__["_listed"] = found = self._opened(self._wanted)
        self._number = found.number
        return (self._described(found, name) for name in found.fragments)

    def look_at(self, name: str) -> SourceFile:
        """A fragment of the version that was listed last."""
        return self._described(self._now, name)

    def stamp(self, others: Iterable[tuple[str, str | bytes | Path]] = ()) -> Stamp:
        """Describe the fragments as they are now; see `Files.stamp`. An index or a tag changes nothing."""
        found = self._opened(self._wanted)
        looks = (self._described(found, name) for name in found.fragments)
        return stamp_of_looks(chain(looks, (look_at(name, path) for name, path in others)))

    def passed_over(self) -> PassedOver:
        """Nothing: each file of the table is its own."""
        return PassedOver()

    @contextmanager
    def opened(self, name: str) -> Iterator[None]:
        """As `Files.opened`. Errors name the table and the fragment by themselves."""
        del name
        yield

    def uri_of(self, name: str) -> str:
        """The place of the table, which is that of each fragment."""
        del name
        return str(self.path)

    def fragment(self, name: str) -> Fragment:
        """Open a fragment.

        Args:
            name: as it is listed.

        Returns:
            The fragment, in the version that was listed last.

        Raises:
            SourceError: that version has no such fragment.
        """
        found = self._now
        if name not in found.fragments:
            fix = "run it again: what is there by then is taken in"
            raise SourceError(self.path, f"version {found.number} has no {name}: it was rewritten since", fix)
        return Fragment(self, found, name)

    @property
    def number(self) -> int:
        """Of the version that was listed last."""
        return self._now.number

    @property
    def _now(self) -> _Version:
        found: _Version | None = self.__dict__.get("_listed")
        if found is None:
            found = self.__dict__["_listed"] = self._opened(self._wanted if self._number is None else self._number)
            self._number = found.number
        return found

    def _opened(self, version: int | str | None) -> _Version:
        """The table as it is now, or as a version says."""
        try:
            import lance
        except ModuleNotFoundError:
            raise MissingExtra(str(self.path), "lance", "lance") from None
        objects: dict[str, Object] = {}
        if self.bucket is not None:
            with as_source_errors():
                for folder in ("data/", "_deletions/"):
                    objects |= {one.name: one for one in self.bucket.list(folder)}
        try:
            table = lance.dataset(str(self.path), version=version)
            fragments = {_NAME.format(one.fragment_id): one for one in table.get_fragments()}
            scanned = table.scanner(blob_handling="all_binary").projected_schema
            schema = scanned.with_metadata(table.schema.metadata)
        except BaseException as error:
            refuse(self.path, "the Lance table cannot be opened", error, "check the path and the version")
        return _Version(table.version, fragments, schema, objects)

    def _described(self, found: _Version, name: str) -> SourceFile:
        """One fragment by its files. Of a bucket their versions stand for size and time."""
        facts = dict(found.fragments[name].metadata.to_json())
        data = [*facts["files"], *(one for overlay in facts.get("overlays") or () for one in overlay.get("files", ()))]
        removed = facts["deletion_file"]
        if any(one.get("base_id") is not None for one in (*data, removed or {})):
            problem = f"{name} lies in another table, of which this one is a shallow clone"
            raise SourceError(self.path, problem, "name that table, or write the rows into one of their own")
        names = [f"data/{one['path']}" for one in data]
        if removed is not None:
            ending = {"array": "arrow", "bitmap": "bin"}[removed["file_type"]]
            names.append(f"_deletions/{facts['id']}-{removed['read_version']}-{removed['id']}.{ending}")
        if self.bucket is not None:
            there = [found.objects.get(one) or Object(one, -1, None, 0) for one in names]
            etag = digest((one.name, one.size, one.etag or one.changed_ns) for one in there)
            newest = max(one.changed_ns for one in there)
            return SourceFile(name=name, bytes=sum(one.size for one in there), changed_ns=newest, etag=etag)
        paths = [Path(self.path) / one for one in names]
        looks = [look_at(one, path) for one, path in zip(names, paths, strict=True)]
        newest = max(one.changed_ns for one in looks)
        return SourceFile(name=name, bytes=sum(one.bytes for one in looks), changed_ns=newest, parts=tuple(paths))


class Fragment(RowFile):
    """The rows of a fragment that are not deleted, as one part."""

    def __init__(self, files: LanceFiles, version: _Version, name: str) -> None:
        self.path, self.schema = Path(files.path), version.schema
        self._files, self._version, self._name = files, version.number, name
        self._fragment = version.fragments[name]

    def is_as_opened(self) -> bool:
        """Whether the source still reads this version."""
        return self._files.number == self._version

    def parts(self, columns: Sequence[str]) -> Iterator[tuple[int, Iterator[pa.RecordBatch]]]:
        """See `RowFile.parts`."""
        yield 0, self._scan(list(columns), BATCH_ROWS)

    def part_rows(self) -> Iterator[tuple[int, int]]:
        """See `RowFile.part_rows`."""
        with self._readable():
            rows = self._fragment.count_rows()
        yield 0, rows

    def rows(
        self, part: int, start: int, count: int, columns: Sequence[str], batch_rows: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """See `RowFile.rows`."""
        del part
        return self._scan(list(columns), batch_rows, offset=start, limit=count)

    def numbers(self, begin: str, first: int) -> Iterator[tuple[int, int, pa.Array]]:
        """Number the rows as Lance does, which stays so when others are deleted; see `RowFile.numbers`."""
        row = 0
        for batch in self._scan([], BATCH_ROWS, with_row_address=True):
            places = (address & 0xFFFFFFFF for address in batch.column("_rowaddr").to_pylist())
            yield 0, row, pa.array([f"{begin}{first + place}" for place in places], pa.string())
            row += batch.num_rows

    def _scan(self, columns: list[str], rows: int, **how: Any) -> Iterator[pa.RecordBatch]:
        """The rows in order. Memory: a few batches, which Lance reads ahead."""
        if any(self.kind(name).is_encoded_image for name in columns):
            rows = min(rows, _MEDIA_ROWS)
        with self._readable():
            yield from self._fragment.scanner(
                columns=columns, batch_size=rows, batch_readahead=2, blob_handling="all_binary", **how
            ).to_batches()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            fix = "bring its files back, or delete these rows; `lance` can restore an older version"
            refuse(self._files.path, f"{self._name} cannot be read", error, fix)


def refuse(path: PathOrUrl, problem: str, error: BaseException, fix: str) -> NoReturn:
    """Make an error of a source of what Lance raises: any exception, and a panic, which is none.

    Args:
        path: of the table.
        problem: what cannot be done.
        error: what Lance raised.
        fix: what to do.

    Raises:
        SourceError: of this.
    """
    panic = type(error).__name__ == "PanicException"
    if isinstance(error, SourceError | MissingExtra) or not (isinstance(error, Exception) or panic):
        raise error
    said = brief(ValueError(_RUST.sub("", next(iter(str(error).splitlines()), type(error).__name__))))
    raise SourceError(path, f"{problem} ({said})", fix) from None


def is_lance(place: Place) -> bool:
    """Whether a folder is a Lance table.

    Args:
        place: a folder; anything else is none.

    Returns:
        Yes or no. In a bucket it costs one request.
    """
    if place.file or place.pattern:
        return False
    if place.bucket is not None:
        with as_source_errors():
            return any(one.name.endswith(_MANIFEST) for one in place.bucket.list(f"{VERSIONS}/"))
    try:
        with os.scandir(place.root / VERSIONS) as entries:
            return any(entry.name.endswith(_MANIFEST) for entry in entries)
    except OSError:
        return False
