"""Zarr stores, versions 2 and 3, by zarr. A store is a folder; the arrays in it are found by their own metadata."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from raysal.errors import MissingExtra, SourceError
from raysal.messages import brief
from raysal.numerics import ceil_div
from raysal.sources.datasets import ROOT, Dataset, said_by
from raysal.sources.kinds import ZARR
from raysal.sources.zarr_places import StorePlace
from raysal.types import SourceFile

METADATA = ("zarr.json", ".zgroup", ".zarray")
"""Files of which a store has one."""
_OBJECTS = ("vlen-utf8", "vlen-bytes")
_ABSENT = np.uint64(2**64 - 1)
"""Where a chunk of a shard begins that was not written."""


def is_store(path: Path) -> bool:
    """Whether a path is a Zarr store."""
    return path.is_dir() and (path.suffix.lower() == ZARR or any((path / name).is_file() for name in METADATA))


def parts_of(name: str, path: bytes) -> Iterator[tuple[str, bytes]]:
    """A file; or all files and folders of a store, in a fixed order.

    Args:
        name: of the file or store.
        path: where it is.

    Yields:
        The name of a part, and where it is.
    """
    if not os.path.isdir(path):
        yield name, path
        return
    for folder, folders, files in os.walk(path):
        folders.sort()
        inner = os.path.relpath(folder, path)
        for part in (b"", *sorted(files)):
            yield f"{name}/{os.path.join(inner, part).decode('utf-8', 'backslashreplace')}", os.path.join(folder, part)


def look_at_store(name: str, store: bytes) -> SourceFile:
    """A store as it is now: the size of all its files, and the time of the newest. It costs one `stat` per file."""
    size, newest, files = 0, 0, list[bytes]()
    for _, part in parts_of(name, store):
        try:
            found = os.stat(part)
        except OSError:
            continue  # it was deleted while we looked; its folder has a new time
        newest = max(newest, found.st_mtime_ns, found.st_ctime_ns)
        if not os.path.isdir(part):
            size += found.st_size
            files.append(part)
    return SourceFile(name=name, bytes=size if newest else -1, changed_ns=newest, parts=tuple(files))


class _Shards(NamedTuple):
    """How the chunks of a shard are found."""

    chunk: tuple[int, ...]
    at_end: bool
    checked: bool
    """Whether a checksum of 4 bytes follows the index."""


class ZarrStore:
    """A Zarr store."""

    def __init__(self, place: StorePlace) -> None:
        """Find the arrays of a store.

        Args:
            place: where it is.

        Raises:
            SourceError: it cannot be listed.
            MissingExtra: zarr is not installed.
        """
        self.path, self._place = place.path, place
        try:
            import zarr
        except ModuleNotFoundError:
            raise MissingExtra(str(self.path), "zarr", "arrays") from None
        self._zarr = zarr
        self._places = dict(self._found())
        self._arrays: dict[str, Any] = {}

    def __enter__(self) -> ZarrStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._arrays.clear()

    def _found(self) -> Iterator[tuple[str, str]]:
        """Names and folders of the arrays. Groups need no metadata of their own."""
        folders = [""]
        while folders:
            folder = folders.pop()
            files, inner = self._place.entries(folder)
            if ".zarray" in files or ("zarr.json" in files and self._is_array(_below(folder, "zarr.json"))):
                yield folder or ROOT, folder
                continue
            folders += inner

    def _is_array(self, name: str) -> bool:
        try:
            return bool(json.loads(self._bytes(name))["node_type"] == "array")
        except (OSError, ValueError, KeyError, TypeError) as error:
            where = f"{self.path}/{name}"
            raise SourceError(where, f"is no metadata of Zarr ({brief(error)})", "write the store again") from None

    def _bytes(self, name: str) -> bytes:
        """The bytes of a small file that is there."""
        found = self._place.find(name)
        if found is None:
            raise FileNotFoundError(name)
        return found.read_bytes()

    def datasets(self) -> dict[str, Dataset]:
        """All arrays; see `ArrayFile`."""
        return {name: self._described(name) for name in sorted(self._places)}

    def _described(self, name: str) -> Dataset:
        nothing = np.dtype(object)
        try:
            if problem := self._of_objects(name):
                return Dataset(name=name, shape=(), dtype=nothing, problem=problem)
            array = self._array(name)
            dtype, shape, meta = np.dtype(array.dtype), tuple(array.shape), array.metadata
            kind = type(getattr(meta, "data_type", None) or meta.dtype).__name__
            texts = dtype.kind in "UST" or kind == "VariableLengthUTF8"
            of_bytes = kind == "VariableLengthBytes"
            problem = self._problem(array, dtype, texts or of_bytes)
            if problem:
                return Dataset(name=name, shape=shape, dtype=dtype, problem=problem)
            attributes = array.attrs.asdict()
            axes = getattr(meta, "dimension_names", None) or attributes.get("_ARRAY_DIMENSIONS") or ()
            return Dataset(
                name=name,
                shape=shape,
                dtype=dtype,
                holds="texts" if texts else "bytes" if of_bytes else "numbers",
                step=array.chunks[0],
                axes=tuple(str(axis or "") for axis in axes) if len(axes) == len(shape) else (),
                **said_by(attributes, dtype),
            )
        except SourceError:
            raise
        except Exception as error:  # zarr and its codecs raise anything on metadata that they do not know
            problem = f"it cannot be opened ({type(error).__name__}: {brief(error)}); pip install its codec"
            return Dataset(name=name, shape=(), dtype=nothing, problem=problem)

    def _of_objects(self, name: str) -> str:
        """Why a dataset of objects is refused, before anything is made of its metadata: it may be a pickle."""
        file = _below(self._places[name], ".zarray")
        if not self._place.has(file):
            return ""
        said = json.loads(self._bytes(file))
        filters = said.get("filters") or []
        if "pickle" in [one.get("id") for one in [*filters, said.get("compressor") or {}]]:
            return "Python objects, as a pickle; store numbers, texts or bytes"
        if said.get("dtype") == "|O" and not (filters and filters[0].get("id") in _OBJECTS):
            return "Python objects; store numbers, texts or bytes"
        return ""

    def _problem(self, array: Any, dtype: np.dtype[Any], is_known: bool) -> str:
        """Why an array cannot be read, or ""."""
        if not array.shape:
            return "a single value"
        if dtype.names:
            return "rows of several fields (a structured type); store each field as an array of its own"
        if dtype.kind in "OV" and not is_known:
            return "objects; store numbers, texts or bytes"
        if array.shards is not None:
            self._shards(array)
        return ""

    def _array(self, name: str) -> Any:
        if name not in self._arrays:
            with warnings.catch_warnings():  # types of version 3 that have no specification yet
                warnings.simplefilter("ignore")
                self._arrays[name] = self._zarr.open_array(self._place.for_zarr(self._places[name]), mode="r")
        return self._arrays[name]

    def _shards(self, array: Any) -> _Shards:
        """How the index of a shard is read. Raises ValueError for one that is stored in an unusual way."""
        codec, *others = array.metadata.codecs
        names = [type(one).__name__ for one in codec.index_codecs]
        inner = [type(one).__name__ for one in codec.codecs]
        order = str(getattr(getattr(codec.index_codecs[0], "endian", None), "value", ""))
        usual = names in (["BytesCodec"], ["BytesCodec", "Crc32cCodec"]) and order == "little"
        if others or not usual or "ShardingCodec" in inner:
            raise ValueError("shards in shards, or with an index of another form, are not read")
        return _Shards(tuple(codec.chunk_shape), codec.index_location.value == "end", len(names) == 2)

    def lacking(self, dataset: Dataset, start: int, stop: int) -> dict[int, str]:
        """Rows of which a chunk is not in the store; see `ArrayFile`. Most writers leave out chunks of fill values."""
        array, folder = self._array(dataset.name), self._places[dataset.name]
        outer = array.shards or array.chunks
        counts = [range(ceil_div(size, step)) for size, step in zip(array.shape[1:], outer[1:], strict=True)]
        shards = self._shards(array) if array.shards else None
        by_blosc = _last_codec(array) in ("Blosc", "BloscCodec")
        bad: dict[int, str] = {}
        for part in range(start // outer[0], ceil_div(stop, outer[0])):
            for place in product([part], *counts):
                key = array.metadata.encode_chunk_key(place)
                first, name = part * outer[0], _below(folder, key)
                whole = [(first, first + outer[0])]
                why = f"its chunk {key} is not in the store: it was not written, or left out as a fill value"
                why += "; write all chunks (zarr: config array.write_empty_chunks)"
                if self._place.has(name):
                    left = [size - at * step for size, at, step in zip(array.shape, place, outer, strict=True)]
                    file = self._place.find(name) if by_blosc or shards is not None else None
                    whole = [] if shards is None or file is None else list(_absent_in(file, shards, outer, left, first))
                    if by_blosc and file is not None and _is_cut(file):
                        whole, why = [(first, first + outer[0])], f"its chunk {key} is cut short; copy it again"
                for low, high in whole:
                    bad.update(dict.fromkeys(range(max(low, start) - start, min(high, stop) - start), why))
        return bad

    def slice(self, dataset: Dataset, start: int, stop: int) -> Any:
        """Some rows; see `ArrayFile`."""
        values = self._array(dataset.name)[start:stop]
        if dataset.holds == "bytes":
            return [bytes(value) for value in values]
        return values.tolist() if dataset.holds == "texts" else values


def _below(folder: str, name: str) -> str:
    """The name of a file in a folder of a store; "" is the store."""
    return f"{folder}/{name}" if folder else name


def _last_codec(array: Any) -> str:
    """The name of the class of what wrote the bytes of a chunk."""
    meta = array.metadata
    return type(meta.compressor if hasattr(meta, "compressor") else meta.codecs[-1]).__name__


def _is_cut(file: Path) -> bool:
    """Whether a chunk that Blosc wrote has fewer bytes than it says. Blosc itself would read beyond its end."""
    with file.open("rb") as opened:
        head = opened.read(16)
    return len(head) < 16 or int.from_bytes(head[12:], "little") != file.stat().st_size


def _absent_in(
    file: Path, shards: _Shards, shape: tuple[int, ...], left: list[int], first: int
) -> Iterator[tuple[int, int]]:
    """Rows of the chunks that a shard does not hold; one that is damaged is left to the reader.

    Args:
        file: the shard.
        shards: how it is read.
        shape: of a shard.
        left: what of the array lies from the beginning of this shard on; chunks beyond it need not be there.
        first: number of its first row.

    Yields:
        The first row of a part, and the row after its last one.
    """
    grid = [size // chunk for size, chunk in zip(shape, shards.chunk, strict=True)]
    size = 16 * int(np.prod(grid))
    with file.open("rb") as opened:
        if shards.at_end:
            length = opened.seek(0, os.SEEK_END)
            opened.seek(max(0, length - size - 4 * shards.checked))
        index = opened.read(size)
    if len(index) < size:
        return
    inside = tuple(slice(ceil_div(rest, chunk)) for rest, chunk in zip(left, shards.chunk, strict=True))
    absent = (np.frombuffer(index, "<u8").reshape(*grid, 2) == _ABSENT).all(-1)[inside]
    for row in np.flatnonzero(absent.reshape(len(absent), -1).any(1)).tolist():
        yield first + row * shards.chunk[0], first + (row + 1) * shards.chunk[0]
