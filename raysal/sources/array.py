"""Rows of the arrays of HDF5 files and Zarr stores: ready vectors, or images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import array_of
from raysal.buckets import local_or_url
from raysal.errors import BadItem, ConfigError, SourceError
from raysal.sources.array_columns import bad_of, carried_of, keys_of
from raysal.sources.base import UNLESS_DEFAULT
from raysal.sources.dataset_choice import Chosen, choose, picture_of
from raysal.sources.datasets import ArrayFile, Dataset, blocks, read_block
from raysal.sources.files import Files
from raysal.sources.hdf5 import Hdf5File
from raysal.sources.kinds import HDF5, IMAGES, NPY, OTHER_IMAGES, OTHER_TABLES, TABLES, ZARR
from raysal.sources.listing import (
    check_carry,
    check_channels,
    digest,
    stamp_of_files,
    stamp_of_looks,
    wanted_positions,
)
from raysal.sources.npy_images import NpyFile
from raysal.sources.places import PathOrUrl
from raysal.sources.segments import Part, units_of_rows
from raysal.sources.vectors import (
    BATCH_BYTES,
    batch_rows,
    columns_of_matrix,
    columns_of_rows,
    vector_or_bad,
)
from raysal.sources.zarr_places import InBucket, OnDisk
from raysal.sources.zarr_store import ZarrStore, is_store, look_at_store, parts_of
from raysal.types import Columns, Item, PassedOver, SourceFile, Stamp, Unit

_STORES = "_stores"
"""Where an `Array` keeps the listings of stores in buckets. They go with it, so that workers read what was listed."""
_KEYS = 1 << 16
"""Keys that are read at a time."""


@dataclass(frozen=True, kw_only=True)
class Array:
    """The rows of one dataset of each HDF5 file (`.h5`, `.hdf5`, `.hdf`, `.he5`) or Zarr store (a folder `.zarr`).

    Also of images in `.npy` files, if the path ends so.

    A dataset [n, d] or [n, 1, d] of numbers holds vectors; one of [n, h, w], [n, h, w, c] or [n, c, h, w], or of n
    byte strings of any length (encoded images), holds images. If a file has one such dataset, no name is needed. Files
    are read in the order of their relative paths. Memory: some megabytes, or what is stored together, if that is more,
    up to a chunk of the pool.

    What was never written is no item: rows for which the file has only a fill value are quarantined, and so are those
    whose part cannot be read. Data outside of the file (links, virtual datasets) and Python objects are refused.
    """

    path: PathOrUrl
    """A file or store, a directory of them, or a pattern, as `data/*.h5` or `data/*.npy`."""
    vector_column: str | None = None
    """The path of the dataset of vectors, as `train/embeddings`."""
    image_column: str | None = None
    """The path of the dataset of images."""
    key_column: str | None = None
    """The dataset [n] of the items' keys, texts or whole numbers. By default the one that is called key, keys, id or
    ids, if there is one; else the keys are the numbers of the rows, from 0; of several files `NAME:NUMBER`."""
    carry: tuple[str, ...] = ()
    """Datasets [n] to keep in the pool."""
    axes: str | None = None
    """What the axes of an image are: `hw`, `hwc` or `chw`, where the file does not say it. A `.npy` file that has no
    others is one image."""
    channels: tuple[str | int, ...] = ()
    """Channels to take of an image, in this order, by their names or by their numbers from 0."""
    stated_range: tuple[float, float] | None = None
    """The numbers that are black and white in the images, where the file does not say it."""
    channel_names: tuple[str, ...] = field(default=(), metadata={"record": UNLESS_DEFAULT})
    """Names of all channels of an image, in order, where the file does not say them, or other ones."""
    recursive: bool = field(default=True)
    """Whether directories inside a directory are read too."""

    def __post_init__(self) -> None:
        check_carry([_plain(name) for name in self.carry])
        check_channels(self.channel_names)
        if self.vector_column and self.image_column:
            raise ConfigError("array", "vector_column and image_column are both given", "name one payload column")
        if self.axes not in (None, "hw", "hwc", "chw"):
            raise ConfigError("source.axes", f"{self.axes!r}", "use hw, hwc or chw")

    @property
    def modality(self) -> Literal["vector", "image"]:
        """What the rows are, by the first file."""
        return self._first[0].modality

    @cached_property
    def _listing(self) -> Files:
        others = {*TABLES, *IMAGES, *OTHER_TABLES, *OTHER_IMAGES} - set(HDF5)
        if str(self.path).lower().endswith(NPY):
            return Files(path=self.path, takes=(NPY,), items=others - {NPY}, recursive=self.recursive)
        path = local_or_url(self.path)
        named: tuple[str, ...] = ()
        if isinstance(path, Path):
            path = path if path.name else path.resolve()
            named = (path.name.lower(),) if is_store(path) else ()  # a store by what is in it, whatever it is called
        return Files(path=path, takes=HDF5, items=others, stores=(ZARR, *named), recursive=self.recursive)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """The files' names relative to the root, as they were when this was first asked. An error if there are none."""
        names = tuple(self._listing.names())
        if not names:
            raise SourceError(
                self.path, f"no HDF5 files or Zarr stores here ({', '.join((*HDF5, ZARR))})", "check the path"
            )
        return names

    @contextmanager
    def _open(self, name: str) -> Iterator[ArrayFile]:
        if self._is_in_bucket(name):
            with ZarrStore(self._store(name)) as file:
                yield file
            return
        with self._listing.opened(name) as path, self._opened(path) as opened:
            yield opened

    def _opened(self, path: Path) -> ArrayFile:
        if path.name.lower().endswith(NPY):
            return NpyFile(path, self.axes)
        return ZarrStore(OnDisk(path)) if is_store(path) else Hdf5File(path)

    def _is_in_bucket(self, name: str) -> bool:
        """Whether a file is a store in a bucket."""
        return self._listing.bucket is not None and name.lower().endswith(ZARR)

    def _store(self, name: str, *, anew: bool = False) -> InBucket:
        """A store in a bucket, as it was listed last."""
        stores: dict[str, InBucket] = self.__dict__.setdefault(_STORES, {})
        if anew or name not in stores:
            assert self._listing.bucket is not None
            stores[name] = InBucket(self._listing.bucket.below(name))
        return stores[name]

    def _chosen(self, file: ArrayFile) -> Chosen:
        """The datasets of an open file that this source reads."""
        vectors, images, keys = (
            None if one is None else _plain(one) for one in (self.vector_column, self.image_column, self.key_column)
        )
        return choose(file.path, file.datasets(), vectors, images, keys, [_plain(one) for one in self.carry])

    @cached_property
    def _first(self) -> tuple[Chosen, str]:
        """The datasets of the first file, and its name."""
        with self._open(self._names[0]) as file:
            return self._chosen(file), self._names[0]

    def _like_the_first(self, file: ArrayFile) -> Chosen:
        """The datasets of an open file. Raises SourceError where they hold something else than those of the first."""
        chosen, (first, name) = self._chosen(file), self._first
        if chosen.modality != first.modality:
            raise SourceError(
                file.path, f"holds {chosen.modality}s, and {name} holds {first.modality}s", "name files of one kind"
            )
        if first.modality == "vector" and chosen.payload.shape[-1] != first.payload.shape[-1]:
            problem = f"vectors of length {chosen.payload.shape[-1]}, and {name} has others"
            raise SourceError(file.path, problem, "name files of one length")
        if (chosen.keys is None) != (first.keys is None):
            raise SourceError(file.path, f"has {'no ' * (chosen.keys is None)}keys, unlike {name}", "say --key-column")
        return chosen

    def passed_over(self) -> PassedOver:
        """The files of the directory that are not taken; see `PassesOver`."""
        return self._listing.passed_over()

    def vector_dim(self) -> int:
        """The d of the vectors; 0 where there are images."""
        return self._first[0].payload.shape[-1] if self.modality == "vector" else 0

    def fingerprint(self) -> str:
        """Hex sha256 over the names, sizes and shapes of the files, and what is read of them.

        Returns:
            The digest. It opens each file; in a bucket the versions stand for the shapes.
        """
        read = [self.modality, self.vector_column, self.image_column, self.key_column, self.carry]
        how = [self.axes, self.channels, self.stated_range, *([self.channel_names] if self.channel_names else [])]
        shapes = ((file.name, file.bytes, file.etag or self._shape(file.name)) for file in self.files())
        return digest([*read, *how, *shapes])

    def _shape(self, name: str) -> tuple[int, ...]:
        with self._open(name) as file:
            return self._chosen(file).payload.shape

    def stamp(self) -> Stamp:
        """Names, sizes and times of the files, and of all parts of the stores."""
        if self._listing.bucket is not None:
            return stamp_of_looks(self._looks(anew=False))
        files = replace(self._listing)  # a copy looks at the path anew
        return stamp_of_files(part for name in files.names() for part in parts_of(name, files.file(name)))

    def files(self) -> Iterator[SourceFile]:
        """Every file and store; see `OfFiles`."""
        return self._looks(anew=True)

    def _looks(self, *, anew: bool) -> Iterator[SourceFile]:
        """Every file and store; `anew` for what is read from here on."""
        for file in self._listing.look():
            if self._is_in_bucket(file.name):
                assert self._listing.bucket is not None
                place = self._store(file.name, anew=True) if anew else InBucket(self._listing.bucket.below(file.name))
                yield place.look(file.name)
                continue
            on_disk = self._listing.bucket is None and is_store(self._listing.path_of(file.name))
            yield look_at_store(file.name, self._listing.file(file.name)) if on_disk else file

    def spans(self, unit: Unit) -> Iterator[tuple[str, int]]:
        """In which files the items lie; see `OfFiles`."""
        return ((name, count) for name, _, count in unit.locator)

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        """List all items; see `Source.units`. It reads only the keys. A locator is a tuple of `Segment`."""
        return self.units_in(self._names, chunk_rows)

    def units_in(self, names: Iterable[str], chunk_rows: int) -> Iterator[Unit]:
        """List the items of some files; see `OfFiles`.

        Args:
            names: of files.
            chunk_rows: items in one chunk.

        Returns:
            The chunks in order. A locator is a tuple of `Segment`, whose parts are (name of a file,).

        Raises:
            SourceError: a file cannot be read, or lacks a dataset or a key.
        """
        return units_of_rows(self._keys(names), chunk_rows)

    def _keys(self, names: Iterable[str]) -> Iterator[tuple[Part, int, pa.Array]]:
        """File, first row, and keys of some items after the others."""
        import pyarrow.compute as pc

        for name in names:
            with self._open(name) as file:
                chosen = self._like_the_first(file)
                if chosen.modality == "image":
                    self._image_of(file.path, chosen.payload)
                rows = chosen.payload.shape[0]
                step = 1 if chosen.keys is None else chosen.keys.step
                for start, stop in blocks(0, rows, step, _KEYS):
                    if chosen.keys is not None:
                        yield (name,), start, keys_of(file, chosen.keys, start, stop)
                        continue
                    numbers = array_of(np.arange(start, stop), pa.int64()).cast(pa.string())
                    alone = bool(self._listing.place.file)
                    yield (name,), start, numbers if alone else pc.binary_join_element_wise(name, numbers, ":")

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """Read a chunk; see `Source.read`. An image is encoded bytes, uint8 of 1 or 3 channels, or `Pixels`."""
        wanted = set(wanted_positions(unit, only))
        place = 0
        for name, first, count in unit.locator:
            here = sorted(at - place + first for at in wanted if place <= at < place + count)
            if here:
                keys = {row: unit.keys[place + row - first] for row in here}
                with self._open(name) as file:
                    chosen = self._chosen(file)
                    there = {row: key for row, key in keys.items() if row < chosen.payload.shape[0]}
                    yield from self._items(file, chosen, there)
                    if len(there) < len(keys):  # the file has fewer rows now: whoever misses them says so
                        return
            place += count

    def _items(self, file: ArrayFile, chosen: Chosen, keys: Mapping[int, str]) -> Iterator[Item]:
        """The items of some rows {row: key}, which are in order."""
        if not keys:
            return
        first, end = min(keys), max(keys) + 1
        columns, lacking = carried_of(file, chosen, first, end)
        carried = {name: v.to_pylist() if isinstance(v, pa.Array) else v for name, v in columns.items()}
        make = None if chosen.modality == "vector" else self._image_of(file.path, chosen.payload)
        most = max(1, BATCH_BYTES // chosen.payload.row_bytes)
        for start, stop in blocks(first, end, chosen.payload.step, most):
            rows = [row for row in range(start, stop) if row in keys]
            if not rows:
                continue
            block = read_block(file, chosen.payload, rows[0], rows[-1] + 1)
            unusable = block.unusable
            for row in rows:
                at, key = row - rows[0], keys[row]
                why = unusable.get(at) or lacking.get(row - first)
                value = block.values[at]
                payload = bad_of(key, why) if why else vector_or_bad(value, key) if make is None else make(value)
                values = {name: column[row - first] for name, column in carried.items()}
                yield Item(key=key, payload=payload, carried=values)

    def _image_of(self, where: PathOrUrl, images: Dataset) -> Callable[[Any], Any]:
        return picture_of(where, images, self.axes, self.channels, self.stated_range, self.channel_names)

    def columns(self, unit: Unit, dim: int) -> Iterator[Columns]:
        """Read a chunk of vectors as columns; see `ColumnSource`."""
        place = 0
        for name, first, count in unit.locator:
            with self._open(name) as file:
                chosen = self._chosen(file)
                end = min(first + count, chosen.payload.shape[0])
                carried, lacking = carried_of(file, chosen, first, end)
                for start, stop in blocks(first, end, chosen.payload.step, batch_rows(dim)):
                    block = read_block(file, chosen.payload, start, stop)
                    matrix = block.values[:, 0] if block.values.ndim == 3 else block.values
                    bad = {row - start + first: why for row, why in lacking.items()} | block.unusable
                    for low in range(0, stop - start, batch_rows(dim)):
                        high = min(low + batch_rows(dim), stop - start)
                        keys = unit.keys[place + low : place + high]
                        at = start - first + low
                        some = {name: values[at : at + len(keys)] for name, values in carried.items()}
                        odd = {row - low: bad_of(keys[row - low], bad[row]) for row in sorted(bad) if low <= row < high}
                        yield from _columns(keys, matrix[low:high], some, odd, dim)
                    place += stop - start
                if end < first + count:  # as in `read`
                    return


def _columns(
    keys: Sequence[str], matrix: NDArray[Any], carried: Mapping[str, Any], odd: Mapping[int, BadItem], dim: int
) -> Iterator[Columns]:
    """Vectors [m, d] as columns, of which the odd ones are bad."""
    if matrix.shape[1] == dim and matrix.dtype.itemsize <= 8:
        for part in columns_of_matrix(keys, matrix, carried):
            yield replace(part, odd=odd)
        return
    rows = [odd.get(at) or vector_or_bad(row, key) for at, (row, key) in enumerate(zip(matrix, keys, strict=True))]
    yield from columns_of_rows(keys, rows, carried, dim)


def _plain(name: str) -> str:
    """The path of a dataset without the slash before it."""
    return name.strip("/") or "/"
