"""The payload of one item of a pool: read again from the pool's source by id, or from the file that its key names.

Nothing that a request says becomes a path. A request names an id; the pool, whose files carry their digests, says its
key; and the source opens what the key means to it. Of pools of ready vectors, the source has vectors alone. There, a
key that ends as the name of a picture or a sound does is the path of one, below the folder of the source (or below
`media`, if people name that); it is followed only if it ends up inside that folder.

An owner is seen by its parts (`raysal.web.composed`), which the catalogue names.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from raysal.buckets import is_url
from raysal.embedding.decode import check_text
from raysal.errors import BadItem, RaysalError, SourceError
from raysal.pool import Pool
from raysal.pool.taken_files import file_names_of
from raysal.sources.base import OfFiles, Source
from raysal.sources.boxes import Boxes
from raysal.sources.digits import Digits
from raysal.sources.files import Files
from raysal.sources.folder import Folder
from raysal.sources.kinds import IMAGES, SOUNDS, ZARR, suffix_of
from raysal.sources.of_pool import source_of, units_of_file
from raysal.sources.places import place_of
from raysal.sources.text import text_of_parts
from raysal.types import Cut, Unit
from raysal.web.catalogue import Entry
from raysal.web.composed import Composed, evenly
from raysal.web.refusals import facts_of

Kind = Literal["image", "text", "table", "sound", "vector"]
MAX_BYTES = 256 << 20
"""Size of a file that is read."""
UNITS_BYTES = 512 << 20
"""About how much memory the listing of a source may take, of which most is the texts of a file of texts."""
PAYLOADS_BYTES = 64 << 20
"""Memory of the payloads that were read last."""


class Payloads:
    """What the items of one pool are made of. Several threads may share it."""

    def __init__(
        self, pool: Pool, media: Path | None = None, parts: Callable[[int], Sequence[Entry]] | None = None
    ) -> None:
        """Read the payloads of a pool.

        Args:
            pool: the pool.
            media: the folder that keys are paths below, for pools of ready vectors; by default that of the source.
            parts: names the parts of an item of a pool of owners; None where items are no owners.
        """
        self._pool, self._media, self._parts = pool, media, parts if pool.stored is not pool else None
        self._lock = Lock()  # of the listing and of what is kept
        self._units: OrderedDict[int, Unit] = OrderedDict()
        self._sizes: dict[int, int] = {}
        self._listing: Iterator[Unit] | None = None
        self._read: OrderedDict[int, Any] = OrderedDict()
        self._bytes = 0

    @cached_property
    def source(self) -> Source:
        """The source of the pool. Raises `SourceError` or another `UserError` where it cannot be made again."""
        return source_of(self._pool)

    def kind(self, entry: Entry, has_columns: bool) -> Kind:
        """How an item is shown.

        Args:
            entry: the item.
            has_columns: whether the pool carries columns.

        Returns:
            Its kind. No file is looked at.
        """
        modality = self._pool.manifest.modality
        if modality != "vector":
            return modality
        suffix = suffix_of(self._file_of(entry).key.rpartition("/")[2])
        if self.root is not None:
            if suffix in SOUNDS:
                return "sound"
            if suffix in IMAGES:
                return "image"
        return "table" if has_columns else "vector"

    def _file_of(self, entry: Entry) -> Entry:
        """What names the file that is shown of an item of ready vectors or of sounds: an owner, or its first part."""
        if self._parts is None or suffix_of(entry.key.rpartition("/")[2]) in (*SOUNDS, *IMAGES):
            return entry
        return next(iter(self._parts(entry.id)), entry)

    @cached_property
    def _pictures(self) -> Files:
        """The files of a folder of pictures."""
        assert isinstance(self.source, Folder)
        return self.source.listing()

    @cached_property
    def root(self) -> Path | None:
        """The folder that keys of ready vectors are paths below; None where there is none."""
        if self._media is not None:
            return self._media
        path = (self._pool.manifest.source.get("config") or {}).get("path")
        try:
            return None if path is None or is_url(path) else place_of(Path(path), (ZARR,)).root
        except SourceError:
            return None

    def read(self, entry: Entry) -> Any:
        """The payload of an item: encoded bytes or pixels of a picture, a text, the bytes of a sound.

        Args:
            entry: the item.

        Returns:
            The payload.

        Raises:
            BadItem: the item cannot be read, or the source has another one in its place now.
            RaysalError: the source cannot be made again or listed.
        """
        with self._lock:
            if entry.id in self._read:
                self._read.move_to_end(entry.id)
                return self._read[entry.id]
        if self._pool.manifest.modality == "vector":
            payload = self._beside(entry)
        elif self._parts is None:
            payload = self._from_source([entry])[0]
            if isinstance(payload, BadItem):
                raise payload
        else:
            payload = self._of_owner(entry, self._parts(entry.id))
        size = len(payload) if isinstance(payload, bytes | str) else getattr(payload, "nbytes", 0)
        with self._lock:
            if entry.id not in self._read and size <= PAYLOADS_BYTES // 8:
                self._read[entry.id] = payload
                self._bytes += size
            while self._bytes > PAYLOADS_BYTES:
                gone = self._read.popitem(last=False)[1]
                self._bytes -= len(gone) if isinstance(gone, bytes | str) else getattr(gone, "nbytes", 0)
        return payload

    def path_of(self, entry: Entry) -> Path:
        """The file of a sound, or that a key of ready vectors names.

        Args:
            entry: the item.

        Returns:
            Its place, below the folder of the source, behind all links.

        Raises:
            BadItem: it cannot be read, is elsewhere, is no plain file, or is larger than `MAX_BYTES`.
        """
        root = self.root
        if root is None:
            raise BadItem(entry.key, "the pool was made of vectors alone", "say where the files are: --media FOLDER")
        real = os.path.realpath(root)
        path = os.path.realpath(os.path.join(real, self._file_of(entry).key))
        if os.path.commonpath([real, path]) != real or path == real:
            raise BadItem(entry.key, "this key leads out of the folder of the source", "name another one: --media")
        check_bytes(entry.key, path)
        return Path(path)

    def _beside(self, entry: Entry) -> bytes:
        path = self.path_of(entry)
        with reading(entry.key), path.open("rb") as file:
            return file.read(MAX_BYTES)

    def _of_owner(self, entry: Entry, parts: Sequence[Entry]) -> Any:
        """The payload of an owner: that of its only part, a text, or what a picture is made of."""
        if not parts:
            raise BadItem(entry.key, "none of its parts is there")
        cut = isinstance(self.source, Boxes)  # all boxes are in one picture
        text = self._pool.manifest.modality == "text"
        shown = parts if cut or text else [parts[place] for place in evenly(len(parts))]
        found = [(one.key, payload) for one, payload in zip(shown, self._from_source(shown), strict=True)]
        good = [(key, payload) for key, payload in found if not isinstance(payload, BadItem)]
        if not good:
            raise next(payload for _, payload in found if isinstance(payload, BadItem))
        if text:
            texts = [(key, check_text(key, one)) for key, one in good]
            return text_of_parts(texts, getattr(self.source, "overlap", 0))
        alone = len(parts) == 1 and not isinstance(good[0][1], Cut)
        return good[0][1] if alone else Composed(key=entry.key, parts=found)

    def _from_source(self, entries: Sequence[Entry]) -> list[Any]:
        """The payloads of an item, or of the parts of one owner, which are in one unit; a `BadItem` for a bad one."""
        source = self.source
        unit = self._unit_of(entries)
        if isinstance(source, Folder):
            for entry in entries:
                if self._pictures.bucket is None:
                    check_bytes(entry.key, self._pictures.path_of(entry.key))
                else:
                    check_size(entry.key, self._pictures.look_at(entry.key).bytes)
        wanted = {entry.key for entry in entries}
        # By key: of a pool that changed, ids are no places in the listing.
        places = [place for place, key in enumerate(unit.keys) if key in wanted] if len(entries) > 1 else None
        only = {entries[0].id} if places is None else {unit.first_id + place for place in places}
        read = list(source.read(unit, only=frozenset(only)))
        if places is None and [item.key for item in read] != [entries[0].key]:
            now = repr(read[0].key) if read else "nothing"
            raise BadItem(entries[0].key, f"the source has {now} in its place now", "embed it again")
        by_key = {item.key: item.payload for item in read}
        missing = "the source does not have it any more"
        return [by_key.get(entry.key, BadItem(entry.key, missing, "embed it again")) for entry in entries]

    def _unit_of(self, entries: Sequence[Entry]) -> Unit:
        """A unit that holds the items. A source that finds items by key or id needs no listing for that."""
        entry = entries[0]
        if isinstance(self.source, Folder | Digits):
            return Unit(index=0, first_id=entry.id, keys=tuple(one.key for one in entries))
        if self._pool.generation:
            return self._unit_by_key(entry)
        chunks = [chunk for chunk in self._pool.chunks_of([entry.id]) if chunk.stored]
        wanted = chunks[-1].index if chunks else -1
        with self._lock:
            if wanted in self._units:
                self._units.move_to_end(wanted)
                return self._units[wanted]
            # From where the listing stopped; from its beginning where the unit was passed and let go again.
            if self._listing is None or any(index >= wanted for index in self._sizes):
                self._listing, self._sizes = self.source.units(self._pool.manifest.chunk_rows), {}
                self._units.clear()
            while (unit := next(self._listing, None)) is not None:
                self._keep(unit)
                if unit.index == wanted:
                    return unit
            self._listing = None
        raise BadItem(entry.key, "the source ends before it now", "embed it again")

    def _unit_by_key(self, entry: Entry) -> Unit:
        """The same where the pool changed: ids are no places in the listing then. Its file is looked at first."""
        rows = self._pool.manifest.chunk_rows
        name = file_names_of(self._pool.path, self._pool.generation, [entry.id]).get(entry.id)
        of_file = () if name is None or not isinstance(self.source, OfFiles) else units_of_file(self.source, name, rows)
        for unit in chain(of_file, self.source.units(rows)):
            if entry.key in unit.keys:
                return replace(unit, first_id=entry.id - list(unit.keys).index(entry.key))
        raise BadItem(entry.key, "the source does not have it any more", "embed it again")

    def _keep(self, unit: Unit) -> None:
        texts = unit.locator if isinstance(unit.locator, tuple) and len(unit.locator) == len(unit.keys) else ()
        letters = (len(part) for parts in texts if isinstance(parts, tuple) for part in parts if isinstance(part, str))
        size = 100 * len(unit.keys) + sum(letters)
        self._units[unit.index], self._sizes[unit.index] = unit, size
        while sum(self._sizes[index] for index in self._units) > UNITS_BYTES and len(self._units) > 1:
            self._units.popitem(last=False)


@contextmanager
def reading(key: str) -> Iterator[None]:
    """Say of an item why its file cannot be read.

    Args:
        key: the item's key.

    Yields:
        To the block that reads.

    Raises:
        BadItem: the block raises an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise BadItem(key, f"the file cannot be read ({error.strerror})") from None


def check_bytes(key: str, path: str | Path) -> None:
    """Refuse a file that is not there, no plain file, or larger than `MAX_BYTES`, before it is opened.

    Args:
        key: the item's key, for the error.
        path: the file.

    Raises:
        BadItem: it is refused.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadItem(key, f"the file cannot be read ({reason})") from None
    if not os.path.isfile(path):
        raise BadItem(key, "not a plain file")
    check_size(key, found.st_size)


def check_size(key: str, size: int) -> None:
    """Refuse a file that is larger than `MAX_BYTES`, before it is read.

    Args:
        key: the item's key, for the error.
        size: of the file, in bytes; -1 if it is not there.

    Raises:
        BadItem: it is refused.
    """
    if size < 0:
        raise BadItem(key, "the file is not there")
    if size > MAX_BYTES:
        raise BadItem(key, f"{size} bytes, at most {MAX_BYTES} are read", "make a smaller copy")


def problem_of(error: RaysalError) -> str:
    """What a page says of an item that cannot be shown: the problem alone, without paths of the server."""
    what, problem, fix = facts_of(error)
    if isinstance(error, BadItem):
        return problem
    return f"{what}: {problem}" + (f"; {fix}" if fix else "")
