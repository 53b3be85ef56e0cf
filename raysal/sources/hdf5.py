"""HDF5 files, by h5py. Nothing outside of the file is read: links, virtual datasets and raw files are refused."""

from __future__ import annotations

import errno
from contextlib import suppress
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from raysal.errors import MissingExtra, SourceError
from raysal.numerics import ceil_div
from raysal.sources.datasets import Dataset, said_by

_UNWRITTEN = "nobody wrote it: the file has no numbers for it, only a fill value"


class Hdf5File:
    """An open HDF5 file. It may be used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open a file.

        Args:
            path: the file.

        Raises:
            SourceError: it is damaged, no HDF5 file, or open for writing elsewhere.
            MissingExtra: h5py is not installed.
        """
        self.path = path
        try:
            import h5py
        except ModuleNotFoundError:
            raise MissingExtra(str(path), "h5py", "arrays") from None
        self._h5py = h5py
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            problem, fix = _why_shut(error)
            raise SourceError(path, f"cannot be opened ({problem})", fix) from None
        self._whole: dict[str, bool] = {}

    def __enter__(self) -> Hdf5File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def datasets(self) -> dict[str, Dataset]:
        """All datasets; see `ArrayFile`. Links to other files are among them, with a problem."""
        found: dict[str, Dataset] = {}
        groups = [("", self._file)]
        seen = {self._file["/"].id}
        while groups:
            prefix, group = groups.pop()
            for name in group:
                place = f"{prefix}{name}"
                link = group.get(name, getlink=True)
                if isinstance(link, self._h5py.ExternalLink):
                    found[place] = _broken(place, f"a link to another file, {link.filename!r}; copy the data here")
                    continue
                try:
                    member = group[name]
                except Exception as error:  # a link to nothing, or a damaged object header
                    found[place] = _broken(place, f"it cannot be opened ({error})")
                    continue
                if member.file.filename != self._file.filename:
                    found[place] = _broken(place, "a link to another file; copy the data here")
                elif isinstance(member, self._h5py.Dataset):
                    found[place] = self._described(place, member, isinstance(link, self._h5py.SoftLink))
                elif isinstance(member, self._h5py.Group) and member.id not in seen:
                    seen.add(member.id)
                    groups.append((f"{place}/", member))
        return dict(sorted(found.items()))

    def _described(self, name: str, found: Any, alias: bool) -> Dataset:
        """What one dataset holds."""
        dtype = found.dtype
        texts = self._h5py.check_string_dtype(dtype) is not None
        of_bytes = self._h5py.check_vlen_dtype(dtype) == np.dtype(np.uint8)
        if problem := self._problem(found, texts, of_bytes):
            return Dataset(name=name, shape=found.shape or (), dtype=dtype, problem=problem, alias=alias)
        named = self._h5py.check_enum_dtype(dtype) or {}
        attributes = _attributes(found)
        return Dataset(
            name=name,
            shape=found.shape,
            dtype=dtype,
            holds="texts" if texts else "bytes" if of_bytes else "numbers",
            step=found.chunks[0] if found.chunks else 1,
            alias=alias,
            classes={} if dtype.kind == "b" else {value: name for name, value in named.items()},
            axes=tuple(axis.label for axis in found.dims) if any(axis.label for axis in found.dims) else (),
            **said_by(attributes, dtype),
        )

    def _problem(self, found: Any, texts: bool, of_bytes: bool) -> str:
        """Why a dataset cannot be read, or ""."""
        if not found.shape:
            return "a single value, or none"
        if found.dtype.names:
            return "rows of several fields (a compound type); store each field as a dataset of its own"
        if found.dtype.kind in "OV" and not (texts or of_bytes):
            return "objects, references or lists; store numbers, texts or bytes"
        if found.is_virtual:
            return "a virtual dataset, whose numbers lie in other files; name those by a pattern, or copy them here"
        if found.external:
            return "its numbers lie in another file; copy them here"
        made = found.id.get_create_plist()
        for at in range(made.get_nfilters()):
            code, _, _, name = made.get_filter(at)
            if not self._has_filter(code):
                said = f"{code} ({name.decode('utf-8', 'replace').partition(';')[0].strip() or 'without a name'})"
                return f"its filter {said} is not installed; pip install hdf5plugin"
        return ""

    def _has_filter(self, code: int) -> bool:
        if not self._h5py.h5z.filter_avail(code):
            with suppress(ImportError):
                import hdf5plugin  # noqa: F401  it registers the filters that it brings
        return bool(self._h5py.h5z.filter_avail(code))

    def lacking(self, dataset: Dataset, start: int, stop: int) -> dict[int, str]:
        """Rows that were never written; see `ArrayFile`."""
        found = self._file[dataset.name]
        if dataset.name not in self._whole:
            self._whole[dataset.name] = self._is_whole(found)
        if self._whole[dataset.name]:
            return {}
        if found.chunks is None:
            return dict.fromkeys(range(stop - start), _UNWRITTEN)
        rows, *others = found.chunks
        corners = [range(0, size, chunk) for size, chunk in zip(found.shape[1:], others, strict=True)]
        bad: dict[int, str] = {}
        for first in range(start // rows * rows, stop, rows):
            places = product([first], *corners)
            if any(found.id.get_chunk_info_by_coord(place).byte_offset is None for place in places):
                bad.update(dict.fromkeys(range(max(first, start) - start, min(first + rows, stop) - start), _UNWRITTEN))
        return bad

    def _is_whole(self, found: Any) -> bool:
        """Whether all of a dataset was written."""
        if found.chunks is None:
            kind = found.id.get_create_plist().get_layout()
            return kind == self._h5py.h5d.COMPACT or found.id.get_offset() is not None or not found.size
        chunks = zip(found.shape, found.chunks, strict=True)
        return bool(found.id.get_num_chunks() == np.prod([ceil_div(*pair) for pair in chunks]))

    def slice(self, dataset: Dataset, start: int, stop: int) -> Any:
        """Some rows; see `ArrayFile`."""
        values = self._file[dataset.name][start:stop]
        if dataset.holds == "bytes":
            return [value.tobytes() for value in values]
        return values.tolist() if dataset.holds == "texts" else values


def _broken(name: str, problem: str) -> Dataset:
    return Dataset(name=name, shape=(), dtype=np.dtype(object), problem=problem)


def _attributes(found: Any) -> dict[str, Any]:
    """The attributes of a dataset that can be read."""
    attributes: dict[str, Any] = {}
    for name in found.attrs:
        with suppress(Exception):  # of a type that h5py does not know
            attributes[name] = found.attrs[name]
    return attributes


def _why_shut(error: OSError) -> tuple[str, str]:
    """Why a file cannot be opened, and what to do."""
    said = str(error)
    if "truncated" in said:
        return "truncated: it ends too early", "copy it again"
    if "unable to lock" in said and error.errno in (errno.EAGAIN, errno.EACCES):
        return "another program has it open for writing", "close it there"
    if "unable to lock" in said:
        return "its file system has no locks", "set the environment variable HDF5_USE_FILE_LOCKING=FALSE"
    if "already open for write" in said or "consistency flags" in said:
        fix = "close it there; after a crash `h5clear -s FILE` says that it is closed"
        return "another program is writing it, or stopped while it did", fix
    if "signature not found" in said:
        return "no HDF5 file", "check it; files of HDF4 are not read"
    return said, "check the file"
