"""Ready vectors from `.npy` files."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrays import not_numbers
from raysal.arrow import ColumnKind
from raysal.arrow_values import Texts, array_of
from raysal.errors import SourceError
from raysal.sources.files import Files
from raysal.sources.kinds import IMAGES, NPY, OTHER_IMAGES, OTHER_TABLES, TABLES
from raysal.sources.listing import digest, look_at, size_of, wanted_positions
from raysal.sources.places import PathOrUrl
from raysal.sources.vectors import batch_rows, columns_of_matrix, keys_in, vector_or_bad
from raysal.types import Columns, Item, PassedOver, SourceFile, Stamp, Unit

Segment = tuple[str, int, int]
"""Name of a file, first row within it, number of rows. A unit's locator lists such segments."""
_HEADER = 1 << 12
"""Bytes in which the header of a matrix lies."""
_BLOCK = 1 << 16
"""Keys of an array, or letters of a text, that are read at a time."""


@dataclass(frozen=True, kw_only=True)
class Npy:
    """The rows of matrices that `numpy.save` wrote: numbers [n, d], or [n, 1, d]. They are mapped into memory.

    Numbers of any real type are taken as they are. An array of Python objects is refused, because it is a pickle.
    Several files are read in the order of their relative paths.
    """

    path: PathOrUrl
    """A `.npy` file, a directory of them, or a pattern, as `data/*.npy`."""
    keys: Path | None = None
    """A file of the items' keys in order: text with one key per line, or a `.npy` file of texts or whole numbers.
    Without one, the keys are the numbers of the rows, from 0; of several files `NAME.npy:NUMBER`."""

    @property
    def modality(self) -> Literal["vector"]:
        """Vectors."""
        return "vector"

    @cached_property
    def _listing(self) -> Files:
        """The files at the path."""
        others = {*TABLES, *IMAGES, *OTHER_TABLES, *OTHER_IMAGES} - {NPY}
        return Files(path=self.path, takes=(NPY,), items=others)

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, int]]:
        """{file: (n, d)}, as they were when this was first asked. An error if there are none, or if two d differ."""
        found: dict[str, tuple[int, int]] = {}
        for name in self._listing.names():
            rows, dim = self._shape(name)
            if found and dim != next(iter(found.values()))[1]:
                problem = f"vectors of length {dim}, and {next(iter(found))} has others"
                raise SourceError(self._listing.uri_of(name), problem, "name files of one length")
            found[name] = rows, dim
        if not found:
            raise SourceError(self.path, f"no {NPY} files here", "check the path")
        return found

    def _shape(self, name: str) -> tuple[int, int]:
        """(n, d) of a file. Of one in a bucket only the header is read, if it is a plain one."""
        head = self._listing.head_of(name, _HEADER) if self._listing.bucket is not None else b""
        with suppress(ValueError):
            text = io.BytesIO(head)
            if np.lib.format.read_magic(text) == (1, 0):
                shape, _, kind = np.lib.format.read_array_header_1_0(text)
                if len(shape) == 2 and not not_numbers(kind):
                    return shape[0], shape[1]
        rows, dim = self._matrix(name).shape
        return rows, dim

    def _matrix(self, name: str) -> NDArray[Any]:
        """The vectors [n, d] of one file, mapped anew."""
        with self._listing.opened(name) as path:
            found = load_array(path)
            if problem := not_numbers(found.dtype):
                raise SourceError(path, f"holds {problem}", "save an array of numbers [n, d]")
            if found.ndim == 3 and found.shape[1] == 1:
                found = found[:, 0]
            if found.ndim != 2:
                fix = "save a matrix; name images by a pattern, as 'data/*.npy'"
                raise SourceError(path, f"an array of shape {found.shape}, expected [n, d]", fix)
            return found

    def passed_over(self) -> PassedOver:
        """The files of the directory that are not taken; see `PassesOver`."""
        return self._listing.passed_over()

    def vector_dim(self) -> int:
        """The d of the matrices."""
        return next(iter(self._shapes.values()))[1]

    def fingerprint(self) -> str:
        """Hex sha256 over the files' names and sizes, and the shapes of the matrices."""
        sizes = ((name, shape, self._listing.look_at(name).bytes) for name, shape in self._shapes.items())
        return digest([None if self.keys is None else size_of(self.keys), *sizes])

    def stamp(self) -> Stamp:
        """Names, sizes and times of the files."""
        return self._listing.stamp([] if self.keys is None else [("", self.keys)])

    def files(self) -> Iterator[SourceFile]:
        """See `OfFiles`. Each is changed where the file of the keys is."""
        keys = [] if self.keys is None else [look_at("", self.keys)]
        newest = max([one.changed_ns for one in keys], default=0)
        more = tuple(part for one in keys for part in one.parts)
        for file in self._listing.look():
            etag = _with(file.etag, newest) if keys else file.etag
            parts = (*file.parts, *more) if file.parts else ()
            yield replace(file, changed_ns=max(file.changed_ns, newest), etag=etag, parts=parts)

    def spans(self, unit: Unit) -> Iterator[tuple[str, int]]:
        """See `OfFiles`."""
        return ((name, count) for name, _, count in unit.locator)

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        """List all items; see `Source.units` and `units_in`."""
        return self.units_in(self._shapes, chunk_rows)

    def units_in(self, names: Iterable[str], chunk_rows: int) -> Iterator[Unit]:
        """List the rows of some files; see `OfFiles`. It reads only the keys.

        Args:
            names: of files.
            chunk_rows: items in one chunk.

        Yields:
            The chunks in order. A locator is a tuple of `Segment`.

        Raises:
            SourceError: a file cannot be read, there are not as many keys as rows, or a key is empty.
        """
        given = None if self.keys is None else _Keys(self.keys)
        index = first_id = held = 0
        segments: list[Segment] = []
        keys: list[pa.Array] = []  # taken where their rows are met, as those of other files lie between them
        wanted = set(names)
        for name, (rows, _) in self._shapes.items():
            start = 0
            if name not in wanted:
                if given is not None and len(given.take(rows)) < rows:
                    self._wrong_count(first_id)
                continue
            while start < rows:
                count = min(rows - start, chunk_rows - held)
                segments.append((name, start, count))
                keys.append(self._numbered(name, start, count) if given is None else given.take(count))
                if len(keys[-1]) < count:
                    self._wrong_count(first_id + held + len(keys[-1]))
                held, start = held + count, start + count
                if held == chunk_rows:
                    yield _unit(index, first_id, segments, keys)
                    index, first_id, held, segments, keys = index + 1, first_id + held, 0, [], []
        if held:
            yield _unit(index, first_id, segments, keys)
        if given is not None and len(given.take(1)):
            self._wrong_count(first_id + held + 1)

    def _numbered(self, name: str, start: int, count: int) -> pa.Array:
        """The keys of rows without keys of their own."""
        import pyarrow.compute as pc

        numbers = array_of(np.arange(start, start + count), pa.int64()).cast(pa.string())
        return numbers if self._listing.place.file else pc.binary_join_element_wise(name, numbers, ":")

    def _wrong_count(self, found: int) -> None:
        count = sum(rows for rows, _ in self._shapes.values())
        problem = f"{found:,} keys for {count:,} vectors" if found < count else f"more keys than the {count:,} vectors"
        raise SourceError(self.keys or self.path, problem, "give each row one key")

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """Read a chunk; see `Source.read`."""
        rows = (row for segment in unit.locator for row in self._rows(*segment))
        wanted = set(wanted_positions(unit, only))
        for place, row in enumerate(rows):
            if place in wanted:
                yield Item(key=unit.keys[place], payload=vector_or_bad(row, unit.keys[place]))

    def columns(self, unit: Unit, dim: int) -> Iterator[Columns]:
        """Read a chunk as columns; see `ColumnSource`."""
        place = 0
        for segment in unit.locator:
            rows = self._rows(*segment)
            for start in range(0, len(rows), batch_rows(dim)):
                some = np.asarray(rows[start : start + batch_rows(dim)])
                yield from columns_of_matrix(unit.keys[place : place + len(some)], some, {})
                place += len(some)

    def _rows(self, name: str, start: int, count: int) -> NDArray[Any]:
        return self._matrix(name)[start : start + count]


def _with(etag: str | None, keys_ns: int) -> str | None:
    """The version of a file and that of its keys."""
    return etag and f"{etag} {keys_ns}"


def _unit(index: int, first_id: int, segments: list[Segment], keys: list[pa.Array]) -> Unit:
    return Unit(index=index, first_id=first_id, keys=Texts(pa.concat_arrays(keys)), locator=tuple(segments))


def load_array(path: Path, what: str = "an array of numbers [n, d]") -> NDArray[Any]:
    """The array in a `.npy` file, mapped into memory.

    Args:
        path: the file.
        what: it should hold, for the error.

    Returns:
        The array, to be read only.

    Raises:
        SourceError: it cannot be read, or holds Python objects.
    """
    try:
        found: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        problem = "an array of Python objects" if "object" in str(error).lower() else f"cannot be read ({error})"
        raise SourceError(path, problem, f"save {what} with numpy.save") from None
    return found


class _Keys:
    """The keys in a file, in order."""

    def __init__(self, path: Path) -> None:
        self.pieces = _of_array(path) if path.suffix.lower() == NPY else _of_lines(path)
        self.rest = pa.array([], pa.string())

    def take(self, count: int) -> pa.Array:
        """The next ones; fewer than asked for at the end."""
        taken = []
        while count > 0:
            if not len(self.rest) and (piece := next(self.pieces, None)) is not None:
                self.rest = piece
            if not len(self.rest):
                break
            taken.append(self.rest[:count])
            self.rest, count = self.rest[count:], count - len(taken[-1])
        return pa.concat_arrays(taken) if taken else self.rest


def _of_array(path: Path) -> Iterator[pa.Array]:
    """Keys of an array of texts or whole numbers."""
    found = load_array(path, "texts or whole numbers [n]")
    if found.ndim != 1 or found.dtype.kind not in "USiu":
        problem = f"an array of {found.dtype} of shape {found.shape}"
        raise SourceError(path, problem, "save texts or whole numbers [n]")
    for start in range(0, len(found), _BLOCK):
        some = pa.array(found[start : start + _BLOCK].astype(found.dtype.newbyteorder("=")))
        yield keys_in(ColumnKind(some.type), some, path, start)


def _of_lines(path: Path) -> Iterator[pa.Array]:
    """Keys of a text with one in each line."""
    first = 1
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            while lines := file.readlines(_BLOCK):
                keys = array_of([line.removesuffix("\n").removesuffix("\r") for line in lines], pa.string())
                yield keys_in(ColumnKind(keys.type), keys, path, first, "line")
                first += len(lines)
    except UnicodeDecodeError as error:
        raise SourceError(path, f"not UTF-8 ({error.reason} at byte {error.start})", "convert it to UTF-8") from None
    except OSError as error:
        raise SourceError(path, f"cannot be read ({error.strerror})", "check the path") from None
