"""Items from a Lance table: ready vectors, images, or texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from raysal.buckets import local_or_url
from raysal.errors import ConfigError, SourceError
from raysal.sources.base import LATER
from raysal.sources.lance_fragments import LanceFiles
from raysal.sources.row_file import RowFile
from raysal.sources.table import Table


@dataclass(frozen=True, kw_only=True)
class LanceTable(Table):
    """The rows of a Lance table in its order; read as `Table` does. Lance reads them, also from s3, gs and az.

    A job reads one version: the newest, as it was when the job looked. A fragment counts as a file, so that a pool
    grows by those that are new or changed: rows that were appended are new items, rows that were updated or rewritten
    by a compaction are compared by their keys, and rows that were deleted are gone. Deleted rows are not listed.
    """

    key_column: str = "key"
    """The column of the items' keys; or `#`: `FRAGMENT:NUMBER`, by which Lance finds a row until it is rewritten."""
    version: int | str | None = field(default=None, metadata=LATER)
    """A version by its number, or a tag; None for the newest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.also:
            raise ConfigError("source.also", "a Lance table is one folder", "make a pool of each")

    @cached_property
    def _listing(self) -> LanceFiles:  # type: ignore[override]
        """The fragments of the table."""
        path = local_or_url(self.path)
        return LanceFiles(path if isinstance(path, str) else path.absolute(), self.version)

    @cached_property
    def _files(self) -> tuple[str, ...]:
        names = tuple(self._listing.names())
        if not names:
            raise SourceError(self.path, "the Lance table has no rows", "check the path and the version")
        return names

    def _file(self, name: str) -> RowFile:
        return self._listing.fragment(name)

    def _of_path(self, name: str) -> dict[str, str | None]:
        """Nothing: the paths of the files are chosen by Lance."""
        del name
        return {}

    def _numbering(self, name: str) -> tuple[str, int]:
        return f"{name.split()[-1]}:", 0
