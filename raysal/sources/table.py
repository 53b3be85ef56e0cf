"""Items from Parquet or Arrow IPC files: ready vectors, encoded images, or texts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from raysal.errors import ConfigError, SourceError
from raysal.sources.base import AS_BEGUN
from raysal.sources.columns import ArrowFile, is_binary, is_text, is_vector, vectors_of
from raysal.sources.files import Files
from raysal.sources.kinds import IMAGES, OTHER_IMAGES, OTHER_TABLES, TABLES
from raysal.sources.listing import bad_item, check_carry, check_columns, digest, hive_values, size_of, text_key
from raysal.types import Item, Modality, PassedOver, Unit

Segment = tuple[str, int, int, int]
"""Name of a file, part within it, first row within the part, number of rows. A unit's locator lists such segments."""
HIDDEN = (".", "_")
"""How names begin that directories of tables leave out: `_SUCCESS`, `_delta_log`, `_metadata`."""
_FITS = {"vector": is_vector, "image": is_binary, "text": is_text}
"""{modality: whether a column of this type can hold it}."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of a `.parquet`, `.pq`, `.arrow`, `.feather` or `.ipc` file, or of all such files below a directory.

    Files are read in the order of their relative paths. Names that begin with a dot or an underscore are left out, as
    writers of tables do. A folder `year=2024` in the path is a column too, which `carry` may name; its values are text.

    Name at most one of the three payload columns. If none is named, it takes the vector column called "vector" or the
    only vector column; else the only binary column, as images; else the column "text".
    """

    path: Path
    """A file, a directory, or a pattern, as `data/*.parquet`."""
    key_column: str = "key"
    """The column of the items' keys."""
    image_column: str | None = None
    """A column of encoded images."""
    text_column: str | None = None
    vector_column: str | None = None
    """A column of lists of floats."""
    carry: tuple[str, ...] = ()
    """Columns to keep in the pool."""
    recursive: bool = field(default=True, metadata={AS_BEGUN: False})
    """Whether directories inside a directory are read too."""

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
        return Files(path=self.path, takes=TABLES, items=others, recursive=self.recursive, hidden=HIDDEN)

    @cached_property
    def _files(self) -> tuple[str, ...]:
        """The files' names relative to `_root`. An error if there are none."""
        names = tuple(self._listing.names())
        if not names:
            raise SourceError(self.path, f"no tables here ({', '.join(TABLES)})", "check the path")
        if not names[0].lower().endswith(TABLES):
            raise SourceError(self.path, f"not one of {', '.join(TABLES)}", "rename or convert the file")
        return names

    @property
    def _root(self) -> Path:
        """The directory that the names of the files are relative to."""
        return self._listing.root

    def passed_over(self) -> PassedOver:
        """The files of the directory that are no tables; see `PassesOver`."""
        return self._listing.passed_over()

    @cached_property
    def _payload(self) -> tuple[Modality, str]:
        """The modality and the column of the payloads, from the first file's schema."""
        file = ArrowFile(self._root / self._files[0])
        schema = file.schema
        given: list[tuple[Modality, str | None]] = [
            ("vector", self.vector_column), ("image", self.image_column), ("text", self.text_column),
        ]  # fmt: skip
        for modality, column in given:
            if column is not None:
                check_columns(file.path, [(column, f"--{modality}-column")], schema.names)
                if not _FITS[modality](schema.field(column).type):
                    raise SourceError(
                        file.path, f"column {column!r} holds {schema.field(column).type}, not {modality}s",
                        "name another column",
                    )  # fmt: skip
                return modality, column
        vectors = [field.name for field in schema if is_vector(field.type)]
        if "vector" in vectors or len(vectors) == 1:
            return "vector", "vector" if "vector" in vectors else vectors[0]
        images = [field.name for field in schema if is_binary(field.type) and field.name != self.key_column]
        if not vectors and len(images) == 1:
            return "image", images[0]
        if not vectors and not images and "text" in schema.names and is_text(schema.field("text").type):
            return "text", "text"
        raise SourceError(
            file.path,
            f"cannot tell which column holds the items; its columns: {', '.join(schema.names)}",
            "choose one with --vector-column, --image-column or --text-column",
        )

    def _open(self, name: str) -> ArrowFile:
        """Open one file, and check that it has the columns that this source reads."""
        file = ArrowFile(self._root / name)
        modality, column = self._payload
        flags = [(self.key_column, "--key-column"), (column, f"--{modality}-column")]
        check_columns(file.path, flags, file.schema.names)
        check_columns(file.path, [(carry, "--carry") for carry in self.carry], [*file.schema.names, *hive_values(name)])
        if not _FITS[modality](file.schema.field(column).type):
            kind = file.schema.field(column).type
            raise SourceError(file.path, f"column {column!r} holds {kind}, unlike {self._files[0]}", "convert the file")
        return file

    def vector_dim(self) -> int:
        """Length of a vector, from the column's type or the first row that is not null; 0 if there is none."""
        modality, column = self._payload
        if modality != "vector":
            return 0
        for name in self._files:
            file = self._open(name)
            kind = file.schema.field(column).type
            if pa.types.is_fixed_size_list(kind):
                return int(kind.list_size)
            for _, batches in file.parts([column]):
                for batch in batches:
                    for vector in vectors_of(batch.column(column)):
                        if vector is not None:
                            return len(vector)
        return 0

    def fingerprint(self) -> str:
        """Hex sha256 over the files' names and sizes, and the names of the columns that are read."""
        columns = [self.key_column, self._payload, self.carry]
        return digest([*columns, *((name, size_of(self._root / name)) for name in self._files)])

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        """List all items; see `Source.units`. It reads only the column of keys.

        Args:
            chunk_rows: items in one chunk.

        Yields:
            The chunks in order. A locator is a tuple of `Segment`.

        Raises:
            SourceError: a file cannot be read, lacks a column, or has a null key. The error names the key's row.
        """
        keys: list[str] = []
        segments: list[Segment] = []
        first_id = index = 0
        for name, part, row, key in self._keys():
            if segments and segments[-1][:2] == (name, part):
                segments[-1] = (name, part, segments[-1][2], segments[-1][3] + 1)
            else:
                segments.append((name, part, row, 1))
            keys.append(key)
            if len(keys) == chunk_rows:
                yield Unit(index=index, first_id=first_id, keys=tuple(keys), locator=tuple(segments))
                first_id, index, keys, segments = first_id + len(keys), index + 1, [], []
        if keys:
            yield Unit(index=index, first_id=first_id, keys=tuple(keys), locator=tuple(segments))

    def _keys(self) -> Iterator[tuple[str, int, int, str]]:
        """File, part, row within the part, and key of every item."""
        for name in self._files:
            file = self._open(name)
            row_of_file = 0
            for part, batches in file.parts([self.key_column]):
                row = 0
                for batch in batches:
                    for value in batch.column(self.key_column).to_pylist():
                        yield name, part, row, text_key(value, file.path, f"row {row_of_file}")
                        row, row_of_file = row + 1, row_of_file + 1

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """Read a chunk; see `Source.read`. The encoder checks the length and values of vectors."""
        column = self._payload[1]
        position = 0
        for name, part, start, count in unit.locator:
            file = self._open(name)
            own = [carry for carry in self.carry if carry in file.schema.names]
            of_file = hive_values(name)
            for batch in file.rows(part, start, count, [column, *own]):
                carried = {carry: batch.column(carry) for carry in own}
                for row, payload in enumerate(self._payloads(batch.column(column))):
                    if only is None or unit.first_id + position in only:
                        key = unit.keys[position]
                        values = {c: carried[c][row].as_py() if c in carried else of_file[c] for c in self.carry}
                        if payload is None:
                            yield bad_item(key, f"column {column!r} is null", carried=values)
                        else:
                            yield Item(key=key, payload=payload, carried=values)
                    position += 1

    def _payloads(self, column: pa.Array) -> Iterator[Any]:
        """The payloads in a column; None for a null."""
        return vectors_of(column) if self.modality == "vector" else (value.as_py() for value in column)
