"""Samples of WebDataset shards: tar archives whose members lie together by key."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NoReturn

from raysal.errors import ConfigError, SourceError
from raysal.sources.files import Files
from raysal.sources.kinds import IMAGES, OTHER_IMAGES, OTHER_TABLES, PACKED_SHARDS, SHARD, TABLES
from raysal.sources.listing import bad_item, check_carry, digest
from raysal.sources.places import PathOrUrl
from raysal.sources.roots import ALSO, files_of_roots
from raysal.sources.sample_values import NOWHERE, Wanted, bytes_in, text_in, values_in
from raysal.sources.shards import EXAMPLES, Left, Sample, images_in, open_shard, samples_of
from raysal.sources.tar import Member
from raysal.types import Item, Modality, PassedOver, SourceFile, Stamp, Unit

NO_SAMPLE, CUT = "in no sample", "not read to the end"
"""Groups of what is passed over, beside those of files: members, and shards."""
_OF_NAMES = ("sample", "shard")
"""Keys that no member has to be read for."""
_LEFTS = "_lefts_by_name"
"""Where a `WebDataset` keeps what was left out. It is no part of what it is, and stays out of its pickle."""


@dataclass
class _Places:
    """Where the items of a unit lie: the locator."""

    shards: list[tuple[str, int]] = field(default_factory=list)
    """(shard, number of consecutive items)"""
    payloads: list[tuple[int, int]] = field(default_factory=list)
    """(offset, bytes) [n, 2]"""
    carried: list[list[tuple[int, int]]] = field(default_factory=list)
    """The same of the members of each carried column [n, c, 2]; -1 bytes where a sample has none."""
    names: list[str] = field(default_factory=list)
    """The member of each payload."""
    problems: dict[int, str] = field(default_factory=dict)
    """{position in the unit: why the item is bad}"""


@dataclass(frozen=True, kw_only=True)
class WebDataset:
    """The samples of a `.tar` shard, or of all shards below a folder, in the order of the shards' relative paths.

    A sample is a run of members of one key. The key is a member's path up to the first dot of its base name, and the
    rest is its ending: `a/b.seg.png` has the key `a/b` and the ending `seg.png`. Upper and lower case of endings are
    one. Listing reads headers alone, and reading seeks: shards that are packed (`.tar.gz`) cannot be read by position.

    Payloads are the images: of each sample the only member whose whole ending is one of images, or else the only one
    that ends so. If the first sample has none, they are the texts (`txt`). A sample without one is quarantined.

    Carried values are text, because a column has one type. A value of JSON that is not text is carried as JSON.
    """

    path: PathOrUrl
    """A shard, a folder, or a pattern, as `data/train-*.tar`."""
    key_column: str = "sample"
    """`sample`: the key of an item is that of its sample; `shard`: with the shard's path and a slash before it; or a
    value in its members, as `json.id`."""
    image_column: str | None = None
    """Ending of the images, as `seg.png`; or several, as `jpg;png`: the first one that a sample has."""
    text_column: str | None = None
    """Ending of the texts, in the same way."""
    carry: tuple[str, ...] = ()
    """Endings of members to keep in the pool, as `cls`, and fields of JSON members, as `json.width`."""
    recursive: bool = True
    """Whether the folders inside are read too."""
    also: tuple[PathOrUrl, ...] = field(default=(), metadata=ALSO)
    """Other shards, folders or patterns; a shard is known by its path relative to its own one."""

    repeated_keys: ClassVar[str] = (
        "choose keys with the shard's name by --key-column shard; in one shard, a sample's members must lie together "
        "(tar --sort=name)"
    )
    """What to do about keys that occur more than once."""

    def __post_init__(self) -> None:
        check_carry(self.carry)
        if self.image_column and self.text_column:
            raise ConfigError("webdataset", "image_column and text_column are both given", "name one payload")

    @property
    def modality(self) -> Modality:
        """Image or text; if no ending is named, it reads the headers of the first sample."""
        return self._payload[0]

    @cached_property
    def _payload(self) -> tuple[Modality, tuple[str, ...]]:
        """The modality, and the endings of payloads; () for those of images."""
        if self.image_column or self.text_column:
            endings = (self.image_column or self.text_column or "").lower().split(";")
            return "image" if self.image_column else "text", tuple(one.strip().lstrip(".") for one in endings)
        found: Sample | None = None
        for name in self._names():
            for sample in self._samples(name):
                found = sample
                break
            if found is not None:
                break
        if found is None or images_in(found.members):
            return "image", ()
        if "txt" in found.members:
            return "text", ("txt",)
        has = ", ".join(f".{ending}" for ending in found.members)
        problem = f"cannot tell which members are the items; the first sample has {has}"
        raise SourceError(self.path, problem, "choose one with --image-column or --text-column")

    @cached_property
    def _files(self) -> Files:
        """The files at the path."""
        others = {*OTHER_IMAGES, *OTHER_TABLES, *IMAGES, *TABLES, *PACKED_SHARDS}
        files = files_of_roots(self.also, path=self.path, takes=(SHARD,), items=others, recursive=self.recursive)
        if (name := files.place.file.lower()) and not name.endswith(SHARD):
            packed = name.endswith(PACKED_SHARDS)
            problem = "is packed, and cannot be read by position" if packed else f"is no {SHARD} file"
            raise SourceError(self.path, problem, f"unpack it to a {SHARD} file" if packed else f"pass {SHARD} shards")
        return files

    def _names(self) -> Iterator[str]:
        """The shards, in order. An error if there are none."""
        empty = True
        for name in self._files.names():
            empty = False
            yield name
        if empty:
            self._refuse_empty()

    def _refuse_empty(self) -> NoReturn:
        found = str(self._files.passed_over())
        problem = f"no {SHARD} shards here; {found}" if found else f"no {SHARD} shards here"
        raise SourceError(self.path, problem, "check the path; unpack shards that are packed")

    def fingerprint(self) -> str:
        """Hex sha256 over the shards' names and sizes, and what is read of them. It costs one `stat` per shard."""
        sizes = ((file.name, file.bytes) for file in self.files())
        return digest([self.key_column, self._payload, self.carry, *sizes])

    def stamp(self) -> Stamp:
        """Names, sizes and times of all shards. It costs one `stat` per shard."""
        return self._files.stamp()

    def passed_over(self) -> PassedOver:
        """Files that are no shards, members of no sample, and shards that are cut short; see `PassesOver`.

        A shard that is cut short may have lost any number of samples, so it counts as a folder that cannot be listed.
        Shards that were listed before, and have the same times, are not listed again. Of a bucket only those count that
        were listed here: to look into the others, they would have to be downloaded.

        Returns:
            The counts.
        """
        files = self._files
        found = files.passed_over()
        counts, examples = dict(found.counts), dict(found.examples)
        cut = False

        def count(group: str, number: int, some: Iterable[str]) -> None:
            counts[group] = counts.get(group, 0) + number
            examples[group] = tuple([*examples.get(group, ()), *some][:EXAMPLES])

        for file in files.look():
            if files.bucket is not None and file.name not in self._lefts:
                continue
            name, left = file.name, self._left_of(file)
            if left.count:
                count(NO_SAMPLE, left.count, (f"{name}#{member}" for member in left.names))
            if left.cut:
                count(CUT, 1, [f"{name}: {left.cut}"])
                cut = True
        return PassedOver(
            counts=counts, examples=examples, taken=found.taken, lost=found.lost,
            unreadable=found.unreadable or cut,
        )  # fmt: skip

    def _left_of(self, file: SourceFile) -> Left:
        """What the listing of a shard left out, as it was when it was listed last."""
        known = self._lefts.get(file.name)
        if known is None or known[0] != file:
            for _ in self._samples(file.name):
                pass
            known = self._lefts[file.name]
        return known[1]

    @property
    def _lefts(self) -> dict[str, tuple[SourceFile, Left]]:
        """What was left out of the shards that were listed, which is little for each. It stays in this process."""
        known: dict[str, tuple[SourceFile, Left]] = self.__dict__.setdefault(_LEFTS, {})
        return known

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != _LEFTS}

    def _samples(self, name: str) -> Iterator[Sample]:
        """The samples of one shard, in order. At their end it keeps what is left out."""
        found, left = self._files.look_at(name), Left()
        with self._files.opened(name) as path:
            yield from samples_of(path, left)
        self._lefts[name] = found, left

    def files(self) -> Iterator[SourceFile]:
        """Every shard; see `OfFiles`."""
        empty = True
        for file in self._files.look():
            empty = False
            yield file
        if empty:
            self._refuse_empty()

    def units(self, chunk_rows: int) -> Iterator[Unit]:
        """List all samples; see `Source.units`. It reads the headers of the shards.

        Args:
            chunk_rows: items in one chunk.

        Yields:
            The chunks in order. A locator has the places of payloads and carried members.

        Raises:
            SourceError: there is no sample, or a shard cannot be opened.
        """
        empty = True
        for unit in self.units_in(self._names(), chunk_rows):
            empty = False
            yield unit
        if empty:
            found = str(self.passed_over())
            problem = f"no samples in these shards; {found}" if found else "no samples in these shards"
            raise SourceError(self.path, problem, "check the shards")

    def units_in(self, names: Iterable[str], chunk_rows: int) -> Iterator[Unit]:
        """List the samples of some shards; see `OfFiles`."""
        index = first_id = 0
        keys: list[str] = []
        places = _Places()
        for name in names:
            for key, sample in self._keyed(name):
                if not places.shards or places.shards[-1][0] != name:
                    places.shards.append((name, 0))
                places.shards[-1] = name, places.shards[-1][1] + 1
                self._place(sample, places, len(keys))
                keys.append(key)
                if len(keys) == chunk_rows:
                    yield Unit(index=index, first_id=first_id, keys=tuple(keys), locator=places)
                    index, first_id, keys, places = index + 1, first_id + len(keys), [], _Places()
        if keys:
            yield Unit(index=index, first_id=first_id, keys=tuple(keys), locator=places)

    def _keyed(self, name: str) -> Iterator[tuple[str, Sample]]:
        """The samples of one shard with the keys of their items."""
        if self.key_column in _OF_NAMES:
            before = f"{name}/" if self.key_column == "shard" else ""
            yield from ((before + sample.key, sample) for sample in self._samples(name))
            return
        wanted, file = Wanted.of(self.key_column), -1
        try:
            for sample in self._samples(name):
                if file < 0:
                    file = open_shard(self._files.path_of(name))
                member, key = sample.member(wanted.ending), None
                try:
                    key = values_in(file, [wanted], [_place_of(member)])[wanted.name]
                    problem = member if isinstance(member, str) and member else "it is not there" if not key else ""
                except ValueError as error:
                    problem = str(error)
                if problem:
                    sample.problem = sample.problem or f"its key {wanted.name} cannot be read: {problem}"
                yield key or f"{name}/{sample.key}", sample
        finally:
            if file >= 0:
                os.close(file)

    def spans(self, unit: Unit) -> Iterator[tuple[str, int]]:
        """In which shards the samples lie; see `OfFiles`."""
        return iter(unit.locator.shards)

    def _place(self, sample: Sample, places: _Places, position: int) -> None:
        """Write down where the members of a sample lie that are read."""
        payload = sample.payload(self._payload[1])
        carried = [sample.member(ending) if not sample.problem else "" for _, ending, _ in self._carried]
        problem = next((one for one in (payload, *carried) if isinstance(one, str) and one), "")
        if problem:
            places.problems[position] = problem
        places.payloads.append(_place_of(payload))
        places.carried.append([_place_of(one) for one in carried])
        places.names.append("" if isinstance(payload, str) else payload.name)

    @cached_property
    def _carried(self) -> list[Wanted]:
        """The values to keep."""
        return [Wanted.of(name) for name in self.carry]

    def read(self, unit: Unit, only: Collection[int] | None = None) -> Iterator[Item]:
        """Read a chunk; see `Source.read`. The payload of an image is its bytes, not decoded."""
        places, position = unit.locator, 0
        for name, count in places.shards:
            positions = range(position, position + count)
            wanted = [at for at in positions if only is None or unit.first_id + at in only]
            position += count
            if wanted:
                yield from self._read(name, unit, places, wanted)

    def _read(self, name: str, unit: Unit, places: _Places, wanted: list[int]) -> Iterator[Item]:
        """The items at some positions of a unit, which lie in one shard."""
        shard = self._files.uri_of(name)
        try:
            file = os.open(self._files.path_of(name), os.O_RDONLY)
        except OSError as error:
            problem = f"the shard cannot be read ({error.strerror})"
            yield from (bad_item(unit.keys[at], problem, uri=shard) for at in wanted)
            return
        try:
            for at in wanted:
                key, uri = unit.keys[at], f"{shard}#{places.names[at]}" if places.names[at] else shard
                carried: dict[str, str | None] = dict.fromkeys(self.carry)
                if at in places.problems:
                    yield bad_item(key, places.problems[at], uri=uri, carried=carried)
                    continue
                try:
                    carried |= values_in(file, self._carried, places.carried[at])
                    data = bytes_in(file, *places.payloads[at])
                    payload = text_in(data, "its text") if self.modality == "text" else data
                except ValueError as error:
                    yield bad_item(key, str(error), uri=uri, carried=carried)
                else:
                    yield Item(key=key, payload=payload, uri=uri, carried=carried)
        finally:
            os.close(file)


def _place_of(member: Member | str) -> tuple[int, int]:
    """Where a member lies: offset and bytes."""
    return NOWHERE if isinstance(member, str) else (member.offset, member.size)
