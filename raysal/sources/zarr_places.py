"""Where a Zarr store lies: in a folder of a disk, or of a bucket, whose objects are read through the cache."""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterable
from io import UnsupportedOperation
from pathlib import Path
from typing import Any, Protocol

from raysal.buckets import Bucket, Object, cached
from raysal.errors import SourceError
from raysal.sources.bucket_listing import kept_objects
from raysal.sources.listing import digest
from raysal.sources.places import PathOrUrl, as_source_errors
from raysal.types import SourceFile


class StorePlace(Protocol):
    """Where a store lies. Names are relative to it, with slashes between their parts."""

    path: PathOrUrl
    """The place, for errors."""

    def entries(self, folder: str) -> tuple[set[str], list[str]]:
        """The names of the files in a folder ("" for the store), and the folders in it that do not lead back up."""
        ...

    def find(self, name: str) -> Path | None:
        """A file on this machine with the bytes of a file of the store; None if it has none. Open it at once."""
        ...

    def has(self, name: str) -> bool:
        """Whether the store has a file."""
        ...

    def for_zarr(self, folder: str) -> Any:
        """An array of the store, as `zarr.open_array` takes it."""
        ...


class OnDisk:
    """A store in a folder of a disk."""

    def __init__(self, path: Path) -> None:
        """`path` is the folder."""
        self.path: PathOrUrl = path
        self._root = path
        self._above: dict[str, frozenset[tuple[int, int]]] = {"": frozenset()}

    def entries(self, folder: str) -> tuple[set[str], list[str]]:
        """See `StorePlace.entries`."""
        place = self._root / folder
        try:
            status = os.stat(place)
            entries = list(os.scandir(place))
        except OSError as error:
            raise SourceError(place, f"cannot be listed ({error.strerror})", "make it readable") from None
        here = status.st_dev, status.st_ino
        if here in self._above[folder]:
            return set(), []
        inner = [f"{folder}/{entry.name}".lstrip("/") for entry in entries if entry.is_dir()]
        self._above |= dict.fromkeys(inner, self._above[folder] | {here})
        return {entry.name for entry in entries if not entry.is_dir()}, inner

    def find(self, name: str) -> Path | None:
        """See `StorePlace.find`."""
        file = self._root / name
        return file if file.exists() else None

    def has(self, name: str) -> bool:
        """See `StorePlace.has`."""
        return (self._root / name).exists()

    def for_zarr(self, folder: str) -> Any:
        """See `StorePlace.for_zarr`."""
        return str(self._root / folder)


class InBucket:
    """A store in a folder of a bucket, as it is listed now. Memory: some 300 bytes for each of its objects."""

    def __init__(self, bucket: Bucket) -> None:
        """List the store.

        Args:
            bucket: its folder.

        Raises:
            SourceError: it cannot be listed.
        """
        self.bucket = bucket
        self.path: PathOrUrl = bucket.url
        with as_source_errors():
            self._objects = {found.name: found for found in kept_objects(bucket)}
        self._names = list(self._objects)

    def look(self, name: str) -> SourceFile:
        """The store as it was listed, under a name: the sizes and versions of all its objects."""
        facts = (_facts(one) for one in self._objects.values())
        size, newest = (sum(one.size for one in self._objects.values()), self._newest())
        return SourceFile(name=name, bytes=size if self._objects else -1, changed_ns=newest, etag=digest(facts))

    def _newest(self) -> int:
        return max((one.changed_ns for one in self._objects.values()), default=0)

    def entries(self, folder: str) -> tuple[set[str], list[str]]:
        """See `StorePlace.entries`. What is in the folders inside is not looked at."""
        begin = f"{folder}/" if folder else ""
        files, inner = set(), list[str]()
        at = bisect_left(self._names, begin)
        while at < len(self._names) and self._names[at].startswith(begin):
            name, slash, _ = self._names[at][len(begin) :].partition("/")
            if slash:
                inner.append(begin + name)
                at = bisect_left(self._names, f"{begin}{name}0")  # "0" is the letter behind "/"
            else:
                files.add(name)
                at += 1
        return files, inner

    def has(self, name: str) -> bool:
        """See `StorePlace.has`."""
        return name in self._objects

    def find(self, name: str) -> Path | None:
        """See `StorePlace.find`. Raises SourceError where an object is gone, was changed, or cannot be read."""
        if (found := self._objects.get(name)) is None:
            return None
        with as_source_errors():
            return cached(self.bucket, found)

    def read(self, name: str, start: int | None, stop: int | None) -> bytes | None:
        """Bytes of an object; a negative `start` counts from the end."""
        while (path := self.find(name)) is not None:
            try:
                with path.open("rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    first = 0 if start is None else start if start >= 0 else max(0, size + start)
                    file.seek(first)
                    return file.read() if stop is None else file.read(max(0, stop - first))
            except FileNotFoundError:
                continue  # the cache let it go before it was opened
        return None

    def for_zarr(self, folder: str) -> Any:
        """See `StorePlace.for_zarr`."""
        return _store_class()(self, folder)


def _facts(one: Object) -> tuple[Any, ...]:
    return one.name, one.size, one.etag or one.changed_ns


def _store_class() -> Any:
    """The class of a store of zarr over `InBucket`; zarr is imported by whoever asks for it."""
    from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest

    class Cached(Store):  # type: ignore[misc]
        """A store whose objects are read through the cache of raysal, and so tried again by its rules."""

        supports_writes = supports_deletes = False
        supports_listing = True

        def __init__(self, place: InBucket, folder: str) -> None:
            super().__init__(read_only=True)
            self.place, self.folder = place, folder

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Cached) and (other.place, other.folder) == (self.place, self.folder)

        def __hash__(self) -> int:
            return hash((id(self.place), self.folder))

        def _name(self, key: str) -> str:
            return f"{self.folder}/{key}".strip("/")

        async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
            start = stop = None
            if isinstance(byte_range, RangeByteRequest):
                start, stop = byte_range.start, byte_range.end
            elif isinstance(byte_range, OffsetByteRequest):
                start = byte_range.offset
            elif isinstance(byte_range, SuffixByteRequest):
                start = -byte_range.suffix
            data = await asyncio.to_thread(self.place.read, self._name(key), start, stop)
            if data is None:
                return None
            if prototype is None:
                from zarr.core.buffer import default_buffer_prototype

                prototype = default_buffer_prototype()
            return prototype.buffer.from_bytes(data)

        async def get_partial_values(self, prototype: Any, key_ranges: Iterable[Any]) -> list[Any]:
            return [await self.get(key, prototype, some) for key, some in key_ranges]

        async def exists(self, key: str) -> bool:
            return self.place.has(self._name(key))

        async def list(self) -> AsyncIterator[str]:
            async for key in self.list_prefix(""):
                yield key

        async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
            begin = f"{self.folder}/" if self.folder else ""
            for name in self.place._names:
                if name.startswith(begin + prefix):
                    yield name[len(begin) :]

        async def list_dir(self, prefix: str) -> AsyncIterator[str]:
            files, folders = self.place.entries(self._name(prefix))
            for name in (*sorted(files), *(one.rpartition("/")[2] for one in folders)):
                yield name

        async def set(self, key: str, value: Any) -> None:
            del value
            raise UnsupportedOperation(f"{key}: the store of a source is only read")

        async def delete(self, key: str) -> None:
            raise UnsupportedOperation(f"{key}: the store of a source is only read")

    return Cached
