"""Items from folders that Hugging Face's `datasets` saved (`Dataset.save_to_disk`, `DatasetDict.save_to_disk`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from raysal.errors import ConfigError, SourceError
from raysal.sources.files import Files
from raysal.sources.kinds import SPLITS, STATE
from raysal.sources.places import Place, is_saved
from raysal.sources.table import NUMBERS, Table
from raysal.types import PassedOver, SourceFile

SPLIT = "split"
"""A column that every row of several splits has: the name of its split."""
OUTSIDE = "not in state.json"
"""Group of files that are passed over: tables that are no part of the data set, as `cache-0123abcd.arrow`."""
_AGAIN = "save the data set again"


@dataclass(frozen=True, kw_only=True)
class SavedDataset(Table):
    """The rows of a saved data set, or of all its splits in the order that it names them; read as `Table` does.

    Its `state.json` names the files, which are streams of Arrow. Other files in the folder are no part of it. A row's
    key is the number by which `datasets` finds it, after the name of its split if there are several: `train/17`.
    `carry` may name the column `split`. A pool of one split is made of the folder of that split.
    """

    key_column: str = ""
    """The column of the items' keys. By default it is `key` if there is one, and else `#`, the numbers of the rows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.also:
            raise ConfigError("source.also", "a saved data set is one folder", "make a pool of each")

    @cached_property
    def _listing(self) -> Files:
        """The files of the data set."""
        return _SavedFiles(path=self.path, takes=(".arrow",))

    @cached_property
    def _key(self) -> str:
        """The column of the keys, or `NUMBERS`."""
        if self.key_column:
            return self.key_column
        with self._listing.opened(self._files[0]):
            return "key" if "key" in self._file(self._files[0]).schema.names else NUMBERS

    def _of_path(self, name: str) -> dict[str, str | None]:
        """The split of a file."""
        split = PurePosixPath(name).parent.as_posix()
        return {} if split == "." else {SPLIT: split}

    def _numbering(self, name: str) -> tuple[str, int]:
        """How keys begin in a file, and the number of its first row in its split."""
        split, number = self._of_path(name).get(SPLIT), 0
        for other in self._files:
            if other == name:
                break
            if self._of_path(other).get(SPLIT) == split:
                number += self._rows[other]
        return "" if split is None else f"{split}/", number

    @cached_property
    def _rows(self) -> dict[str, int]:
        """{file: number of rows}."""
        found = {}
        for name in self._files:
            with self._listing.opened(name):
                found[name] = sum(rows for _, rows in self._file(name).part_rows())
        return found


@dataclass(frozen=True, kw_only=True)
class _SavedFiles(Files):
    """The files of a saved data set: those that its splits name, in their order."""

    def names(self) -> Iterator[str]:
        """List the files that belong to the data set; see `Files.names`."""
        return (name for split in _splits(self.place) for name in _files_of(self.place, split))

    def look(self) -> Iterator[SourceFile]:
        """Look at each of them; see `Files.look`."""
        if self.bucket is None:
            return super().look()
        known = {file.name: file for file in super().look()}
        return (known.get(name) or self.look_at(name) for name in self.names())

    def passed_over(self) -> PassedOver:
        """Count the others, also those that describe the data set, as `.json`; see `Files.passed_over`."""
        found, own = super().passed_over(), set(self.names() if is_saved(self.place) else ())
        others = [name for name in super().names() if name not in own]
        if not others:
            return found
        counts = {**found.counts, OUTSIDE: len(others)}
        examples = {**found.examples, OUTSIDE: tuple(others[:3])}
        return replace(found, counts=counts, examples=examples, taken=len(own))


def _splits(place: Place) -> list[str]:
    """The folders of the splits; [""] for a data set without."""
    if not is_saved(place):
        where = place.where(place.file)
        raise SourceError(where, f"holds neither {STATE} nor {SPLITS}", "pass a folder that `save_to_disk` made")
    if not place.is_file(SPLITS):
        return [""]
    splits = _json(place, SPLITS).get("splits")
    if not isinstance(splits, list) or not splits or not all(isinstance(one, str) and one for one in splits):
        raise SourceError(place.where(SPLITS), "names no splits", _AGAIN)
    for split in splits:
        _check_inside(place.where(SPLITS), split)
    return splits


def _files_of(place: Place, split: str) -> list[str]:
    """The files of one split, in order."""
    folder = f"{split}/" if split else ""
    state = place.where(folder + STATE)
    facts = _json(place, folder + STATE)
    for field, value in facts.items():
        if field.startswith("_indices") and value:
            problem = f"{field}: its rows are chosen by indices that an old version of `datasets` saved beside them"
            raise SourceError(state, problem, "load it with that version, then flatten_indices() and save it again")
    names = []
    with suppress(KeyError, TypeError):
        names = [file["filename"] for file in facts["_data_files"]]
    if not names or not all(isinstance(name, str) for name in names):
        raise SourceError(state, "names no files", _AGAIN)
    for name in names:
        _check_inside(state, name)
        if not place.is_file(folder + name):
            raise SourceError(
                place.where(folder + name), f"no such file, but {STATE} names it", "copy the whole folder"
            )
    return [folder + name for name in names]


def _check_inside(where: str, name: str) -> None:
    """Refuse a name that leads to another folder."""
    if "/" in name or name in ("..", "."):
        raise SourceError(where, f"{name!r} is no name of a file in this folder", _AGAIN)


def _json(place: Place, name: str) -> dict[str, Any]:
    try:
        found = json.loads(place.read(name).decode())
    except OSError as error:
        raise SourceError(place.where(name), f"cannot be read ({error.strerror})", "copy the whole folder") from None
    except ValueError as error:
        raise SourceError(place.where(name), f"is not JSON ({error})", _AGAIN) from None
    if not isinstance(found, dict):
        raise SourceError(place.where(name), "is no object of JSON", _AGAIN)
    return found
