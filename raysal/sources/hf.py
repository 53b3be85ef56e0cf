"""Items from folders that Hugging Face's `datasets` saved (`Dataset.save_to_disk`, `DatasetDict.save_to_disk`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from raysal.errors import SourceError
from raysal.sources.columns import ArrowFile
from raysal.sources.files import Files
from raysal.sources.kinds import SPLITS, STATE, is_saved
from raysal.sources.table import NUMBERS, Table
from raysal.types import PassedOver

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

    @cached_property
    def _listing(self) -> Files:
        """The files of the data set."""
        return _SavedFiles(path=self.path, takes=(".arrow",))

    @cached_property
    def _key(self) -> str:
        """The column of the keys, or `NUMBERS`."""
        if self.key_column:
            return self.key_column
        return "key" if "key" in ArrowFile(self._root / self._files[0]).schema.names else NUMBERS

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
        return {name: sum(rows for _, rows in ArrowFile(self._root / name).part_rows()) for name in self._files}


@dataclass(frozen=True, kw_only=True)
class _SavedFiles(Files):
    """The files of a saved data set: those that its splits name, in their order."""

    def names(self) -> Iterator[str]:
        """List the files that belong to the data set; see `Files.names`."""
        path = Path(self.path)
        return (name for split in _splits(path) for name in _files_of(path, split))

    def passed_over(self) -> PassedOver:
        """Count the others, also those that describe the data set, as `.json`; see `Files.passed_over`."""
        found, own = super().passed_over(), set(self.names() if is_saved(Path(self.path)) else ())
        others = [name for name in super().names() if name not in own]
        if not others:
            return found
        counts = {**found.counts, OUTSIDE: len(others)}
        examples = {**found.examples, OUTSIDE: tuple(others[:3])}
        return replace(found, counts=counts, examples=examples, taken=len(own))


def _splits(path: Path) -> list[str]:
    """The folders of the splits; [""] for a data set without."""
    if not is_saved(path):
        raise SourceError(path, f"holds neither {STATE} nor {SPLITS}", "pass a folder that `save_to_disk` made")
    if not (path / SPLITS).is_file():
        return [""]
    splits = _json(path / SPLITS).get("splits")
    if not isinstance(splits, list) or not splits or not all(isinstance(one, str) and one for one in splits):
        raise SourceError(path / SPLITS, "names no splits", _AGAIN)
    for split in splits:
        _check_inside(path / SPLITS, split)
    return splits


def _files_of(path: Path, split: str) -> list[str]:
    """The files of one split, in order."""
    state = path / split / STATE
    facts = _json(state)
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
        if not (path / split / name).is_file():
            raise SourceError(path / split / name, f"no such file, but {STATE} names it", "copy the whole folder")
    return [f"{split}/{name}" if split else name for name in names]


def _check_inside(where: Path, name: str) -> None:
    """Refuse a name that leads to another folder."""
    if "/" in name or name in ("..", "."):
        raise SourceError(where, f"{name!r} is no name of a file in this folder", _AGAIN)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SourceError(path, f"cannot be read ({error.strerror})", "copy the whole folder") from None
    except ValueError as error:
        raise SourceError(path, f"is not JSON ({error})", _AGAIN) from None
    if not isinstance(found, dict):
        raise SourceError(path, "is no object of JSON", _AGAIN)
    return found
