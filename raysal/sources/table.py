"""Items from Parquet or Arrow IPC files and streams: ready vectors, encoded images, or texts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from raysal.arrow import HOLDS, ColumnKind
from raysal.buckets import is_url
from raysal.errors import BadItem, ConfigError, SourceError
from raysal.sources.base import AS_BEGUN, LATER
from raysal.sources.columns import ArrowFile
from raysal.sources.files import Files
from raysal.sources.kinds import IMAGES, OTHER_IMAGES, OTHER_TABLES, TABLES
from raysal.sources.listing import (
    Row,
    check_carry,
    check_columns,
    digest,
    hive_values,
    joined_stamps,
    stamp_of_looks,
    text_key,
)
from raysal.sources.named_images import NamedImages, are_named, folder_of, paths_in
from raysal.sources.payloads import guessed_payload, vector_length
from raysal.sources.places import PathOrUrl
from raysal.sources.roots import ALSO, files_of_roots
from raysal.sources.row_file import BATCH_ROWS, RowFile
from raysal.sources.segments import Part, units_of_parts, units_of_rows
from raysal.sources.table_items import item_of, no_value
from raysal.sources.vectors import batch_rows, carried_in, keys_in, table_columns, values_in
from raysal.types import Columns, Item, Modality, PassedOver, SourceFile, Stamp, Unit

HIDDEN = (".", "_")
"""How names begin that directories of tables leave out: `_SUCCESS`, `_delta_log`, `_metadata`."""
NUMBERS = "#"
"""What `key_column` is where no column holds the keys."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of a `.parquet`, `.pq`, `.arrow`, `.feather` or `.ipc` file, or of all such files below a directory.

    Files are read in the order of their relative paths. Names that begin with a dot or an underscore are left out, as
    writers of tables do. A folder `year=2024` in the path is a column too, which `carry` may name; its values are text.

    Name at most one of the three payload columns. If none is named, it takes the vector column called "vector" or the
    only column of floating point vectors; else the only column of images; else the column "text"; else the only column
    of integer vectors.

    Columns have any layout of Arrow: strings and binaries plain, large, as views or as dictionaries; lists, list views
    and lists of fixed size; tensors, and extension types by what they store. Vectors are numbers of any type, and taken
    as they are: those of int8 are not scaled. A row that is null, or whose vector lacks a value, is quarantined.

    As Hugging Face's data sets write it, an image may be a struct of `bytes` and `path`; where there are no bytes, the
    file is read, by a path that is relative to the table, or a URL. So is one in a column of texts, if `image_column`
    names it. A column whose classes the metadata name (`ClassLabel`) is
    carried as these names.
    """

    path: PathOrUrl
    """A file, a directory, or a pattern, as `data/*.parquet`."""
    key_column: str = "key"
    """The column of the items' keys; or `#`: the numbers of the rows, from 0, and of several files `FILE:NUMBER`."""
    image_column: str | None = None
    """A column of images: encoded, or uint8 [h, w], [h, w, 1] or [h, w, 3]; or of paths and URLs."""
    text_column: str | None = None
    vector_column: str | None = None
    """A column of lists of numbers."""
    carry: tuple[str, ...] = ()
    """Columns to keep in the pool."""
    recursive: bool = field(default=True, metadata={AS_BEGUN: False})
    """Whether directories inside a directory are read too."""
    owner: str | None = field(default=None, metadata=LATER)
    """The column of the keys of what each row is a part of; a row where it is null is no part. The rows of an owner
    follow each other."""
    also: tuple[PathOrUrl, ...] = field(default=(), metadata=ALSO)
    """Other files, directories or patterns; a table is known by its path relative to its own one."""

    def __post_init__(self) -> None:
        check_carry(self.carry)
        named = [f"{what}_column" for what in ("image", "text", "vector") if getattr(self, f"{what}_column")]
        if len(named) > 1:
            raise ConfigError("table", f"{' and '.join(named)} are both given", "name one payload column")

    @property
    def modality(self) -> Modality:
        """The kind of payload in the column; reads the first file's schema."""
        return self._payload[0]

    @cached_property
    def _listing(self) -> Files:
        """The files at the path."""
        others = OTHER_TABLES | OTHER_IMAGES | set(IMAGES)
        rules: dict[str, Any] = {"takes": TABLES, "items": others, "recursive": self.recursive, "hidden": HIDDEN}
        return files_of_roots(self.also, path=self.path, **rules)

    @cached_property
    def _files(self) -> tuple[str, ...]:
        """The files' relative names, as they were when this was first asked. An error if there are none."""
        names = tuple(self._listing.names())
        if not names:
            raise SourceError(self.path, f"no tables here ({', '.join(TABLES)})", "check the path")
        if not names[0].lower().endswith(TABLES):
            raise SourceError(self.path, f"not one of {', '.join(TABLES)}", "rename or convert the file")
        return names

    @property
    def _key(self) -> str:
        """The column of the keys, or `NUMBERS`."""
        return self.key_column

    def _of_path(self, name: str) -> dict[str, str | None]:
        """The columns that the path of a file gives, and their value in it."""
        return hive_values(name)

    def _numbering(self, name: str) -> tuple[str, int]:
        """How keys that are numbers begin in a file, and the number of its first row."""
        return ("" if self._listing.place.file else f"{name}:"), 0

    def passed_over(self) -> PassedOver:
        """The files of the directory that are no tables; see `PassesOver`."""
        return self._listing.passed_over()

    @cached_property
    def _payload(self) -> tuple[Modality, str]:
        """The modality and the column of the payloads, from the first file's schema."""
        with self._listing.opened(self._files[0]):
            return self._payload_of(self._file(self._files[0]))

    def _payload_of(self, file: RowFile) -> tuple[Modality, str]:
        schema = file.schema
        unlike = [name for name in schema.names if schema.names.count(name) == 1]
        given: list[tuple[Modality, str | None]] = [
            ("vector", self.vector_column), ("image", self.image_column), ("text", self.text_column),
        ]  # fmt: skip
        for modality, column in given:
            if column is not None:
                check_columns(file.path, [(column, f"--{modality}-column")], schema.names)
                if not file.kind(column).fits(modality):
                    fit = [name for name in unlike if file.kind(name).fits(modality)]
                    others = [name for name in fit if modality == "text" or not file.kind(name).is_text]
                    raise SourceError(
                        file.path, f"column {column!r} holds {schema.field(column).type}, not {modality}s",
                        f"{_A[modality]} column is {HOLDS[modality]}; here: {', '.join(others) or 'none'}",
                    )  # fmt: skip
                return modality, column
        if guess := guessed_payload({name: file.kind(name) for name in unlike if name != self._key}):
            return guess
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        problem = f"cannot tell which column holds the items; its columns: {columns}"
        raise SourceError(file.path, problem, "choose one with --vector-column, --image-column or --text-column")

    def _file(self, name: str) -> RowFile:
        """Open one file. Errors name it as it is on this machine; see `Files.opened`."""
        return ArrowFile(self._listing.path_of(name))

    def _open(self, name: str) -> RowFile:
        """Open one file, and check that it has the columns that this source reads."""
        with self._listing.opened(name):
            return self._checked(name, self._file(name))

    def _checked(self, name: str, file: RowFile) -> RowFile:
        modality, column = self._payload
        flags = [] if self._key == NUMBERS else [(self._key, "--key-column, where '#' is the number of the row")]
        flags += [] if self.owner is None else [(self.owner, "--owner")]
        check_columns(file.path, [*flags, (column, f"--{modality}-column")], file.schema.names)
        of_folders = [column for column in self._of_path(name) if column not in file.schema.names]
        check_columns(file.path, [(carry, "--carry") for carry in self.carry], [*file.schema.names, *of_folders])
        if not file.kind(column).fits(modality):
            kind = file.schema.field(column).type
            raise SourceError(file.path, f"column {column!r} holds {kind}, unlike {self._files[0]}", "convert the file")
        return file

    def vector_dim(self) -> int:
        """Length of a vector, from the column's type, or that of most of its first rows; 0 if there is none."""
        modality, column = self._payload
        if modality != "vector":
            return 0
        first = self._open(self._files[0]).kind(column)
        return vector_length(self._vectors()) if first.length is None else first.length

    def _vectors(self) -> Iterator[Any]:
        """The column of vectors, of all files."""
        column = self._payload[1]
        for name in self._files:
            file = self._open(name)
            kind = file.kind(column)
            for _, batches in file.parts([column]):
                for batch in batches:
                    yield from kind.arrays(batch.column(column))

    def fingerprint(self) -> str:
        """Hex sha256 over the files' names and sizes, and the names of the columns that are read."""
        columns: list[Any] = [self.key_column, self._payload, self.carry]
        columns += [] if self.owner is None else [{"owner": self.owner}]
        return digest([*columns, *((name, self._listing.look_at(name).bytes) for name in self._files)])

    def stamp(self) -> Stamp:
        """Names, sizes and times of the files, and of the images that they name; of those in buckets their versions."""
        far: list[SourceFile] = []

        def near() -> Iterator[tuple[str, Any]]:
            for file in self._listing.look() if self._names_images else ():
                for image in self._images_of(file.name):
                    if image.parts:
                        yield image.name, image.parts[0]
                    else:
                        far.append(image)

        found = self._listing.stamp(near())
        return joined_stamps(found, stamp_of_looks(far)) if far else found

    @cached_property
    def _names_images(self) -> bool:
        """Whether the column of the payloads may name files."""
        modality, column = self._payload
        return modality == "image" and are_named(self._open(self._files[0]).kind(column))

    def _named(self, name: str) -> NamedImages:
        """The images that a table names."""
        where = self._listing.uri_of(name)
        return NamedImages(folder_of(where if is_url(where) else Path(where)))

    def _images_of(self, name: str) -> Iterator[SourceFile]:
        """The images outside of a table, as they are now."""
        file, column = self._file(name), self._payload[1]
        if self._names_images and column in file.schema.names:  # else to read it will fail, and say so
            yield from self._named(name).look(file.files_named(column))

    def files(self) -> Iterator[SourceFile]:
        """The tables; see `OfFiles`. One is changed where an image is that it names."""
        for file in self._listing.look():
            images = list(self._images_of(file.name)) if self._names_images else []
            newest = max(file.changed_ns, *(image.changed_ns for image in images), 0)
            parts = (*file.parts, *(part for one in images for part in one.parts)) if file.parts else ()
            far = [(one.name, one.bytes, one.etag or one.changed_ns) for one in images if not one.parts]
            if far:  # times of buckets are whole seconds
                yield replace(file, changed_ns=newest, parts=(), etag=digest([file.etag or (file.bytes, newest), *far]))
            else:
                yield replace(file, changed_ns=newest, parts=parts)

    def spans(self, unit: Unit) -> Iterator[tuple[str, int]]:
        """See `OfFiles`."""
        return ((name, count) for name, _, _, count in unit.locator)

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        """List all items; see `Source.units` and `units_in`."""
        return self.units_in(self._files, chunk_rows)

    def units_in(self, names: Iterable[str], chunk_rows: int) -> Iterator[Unit]:
        """List the items of some tables; see `OfFiles`. It reads only the columns of keys.

        Args:
            names: of files.
            chunk_rows: items in one chunk.

        Returns:
            The chunks in order. A locator is a tuple of `Segment`, whose parts are (name of a file, part of it).

        Raises:
            SourceError: a file cannot be read, lacks a column, or has a null key. The error names the key's row. Or an
                owner has more than `chunk_rows` parts.
        """
        if self.owner is None:
            return units_of_rows(self._keys(names), chunk_rows)
        return units_of_parts(self._parts(names, self.owner), chunk_rows, self.path)

    def _parts(self, names: Iterable[str], column: str) -> Iterator[Row]:
        """Key, owner, and (part of a file, row within it) of every row."""
        for name in names:
            file = self._open(name)
            kind = file.kind(column)
            batches = (batch.column(column) for _, batches in file.parts([column]) for batch in batches)
            owners = chain.from_iterable(values_in(kind, some) for some in batches)
            row_of_file = 0
            for part, row, keys in self._keys([name]):
                for at, (key, owner) in enumerate(zip(keys.to_pylist(), islice(owners, len(keys)), strict=True)):
                    text = None if owner is None else text_key(owner, file.path, f"row {row_of_file + at}, {column!r}")
                    yield key, text, (part, row + at)
                row_of_file += len(keys)

    def _keys(self, names: Iterable[str]) -> Iterator[tuple[Part, int, pa.Array]]:
        """The part of a file, the first row within it, and the keys of some items after the others."""
        for name in names:
            with self._listing.opened(name):
                yield from (((name, part), row, keys) for part, row, keys in self._keys_in(name, self._open(name)))

    def _keys_in(self, name: str, file: RowFile) -> Iterator[tuple[int, int, pa.Array]]:
        if self._key == NUMBERS:
            yield from file.numbers(*self._numbering(name))
            return
        kind = file.kind(self._key)
        row_of_file = 0
        for part, batches in file.parts([self._key]):
            row = 0
            for batch in batches:
                column = batch.column(self._key)
                yield part, row, keys_in(kind, column, file.path, row_of_file)
                row, row_of_file = row + len(column), row_of_file + len(column)

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """Read a chunk; see `Source.read`. The encoder checks the length and values of vectors."""
        column = self._payload[1]
        for position, name, batch, kinds, of_file in self._batches(unit):
            carried = {c: values_in(kinds[c], batch.column(c)) for c in self.carry if c in kinds}
            wanted = [row for row in range(batch.num_rows) if only is None or unit.first_id + position + row in only]
            named, chosen = {}, frozenset(wanted)
            if self._names_images:
                named = {row: path for row, path in paths_in(batch.column(column)) if row in chosen}
            outside = self._named(name).read(list(named.values())) if named else iter(())
            payloads = enumerate(self._payloads(kinds[column], batch.column(column)))
            for row in wanted:
                payload = next(payload for at, payload in payloads if at == row)
                payload = next(outside) if row in named else payload
                values = {c: carried[c][row] if c in carried else of_file[c] for c in self.carry}
                yield item_of(unit.keys[position + row], payload, values, *self._payload)

    def columns(self, unit: Unit, dim: int) -> Iterator[Columns]:
        """Read a chunk of vectors as columns; see `ColumnSource`."""
        name = self._payload[1]
        for start, _, batch, kinds, of_file in self._batches(unit, batch_rows(dim)):
            keys = unit.keys[start : start + batch.num_rows]
            carried: dict[str, Any] = {}
            odd: dict[int, BadItem] = {}
            for c in self.carry:
                carried[c] = carried_in(kinds[c], batch.column(c)) if c in kinds else [of_file[c]] * len(keys)
                if isinstance(carried[c], list):
                    bad = {row: found for row, value in enumerate(carried[c]) if (found := no_value(value))}
                    odd = {row: BadItem(keys[row], f"column {c!r}: {one}") for row, one in bad.items()} | odd
                    carried[c] = [None if row in bad else value for row, value in enumerate(carried[c])]
            yield from table_columns(kinds[name], batch.column(name), name, keys, carried, odd, dim)

    def _batches(
        self, unit: Unit, rows: int = BATCH_ROWS
    ) -> Iterator[tuple[int, str, pa.RecordBatch, dict[str, ColumnKind], dict[str, str | None]]]:
        """The rows of a chunk in batches: first row, name of the file, rows, kinds of columns, values by folders."""
        position = 0
        for name, part, start, count in unit.locator:
            with self._listing.opened(name):
                file = self._reader(name)
                kinds = {c: file.kind(c) for c in (self._payload[1], *self.carry) if c in file.schema.names}
                for whole in file.rows(part, start, count, list(kinds), rows):
                    for batch in (whole[at : at + rows] for at in range(0, whole.num_rows, rows)):
                        yield position, name, batch, kinds, self._of_path(name)
                        position += batch.num_rows

    def _reader(self, name: str) -> RowFile:
        """One file, as it was left by the last reading if nobody wrote it since."""
        last = self.__dict__.get(_LAST)
        if last is None or last[0] != name or not last[1].is_as_opened():
            last = self.__dict__[_LAST] = name, self._open(name)
        file: RowFile = last[1]
        return file

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != _LAST}

    def _payloads(self, kind: ColumnKind, column: pa.Array) -> Iterator[Any]:
        """The payloads in a column as they lie there; None for a null."""
        if kind.is_text:
            return iter(values_in(kind, column))
        return (value.as_py() for value in column) if kind.is_encoded_image else kind.arrays(column)


_LAST = "_last"
"""Where a `Table` keeps the file that it read last. It is no part of what it is, and stays out of its pickle."""
_A = {"vector": "a vector", "image": "an image", "text": "a text"}
"""{modality: what a column of it is called}."""
