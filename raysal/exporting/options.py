"""What an export is asked for: the form of its files, and how they are cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from raysal.arguments import as_whole_number
from raysal.errors import ConfigError, UnknownName
from raysal.exporting.lance_table import import_lance
from raysal.pool import Pool

Form = Literal["coco", "csv", "lance", "links", "parquet", "webdataset"]
FORMS: tuple[Form, ...] = get_args(Form)
"""The forms of an export."""
SUFFIXES: dict[str, str] = {"csv": ".csv", "lance": ".lance", "parquet": ".parquet", "webdataset": ".tar"}
"""What the shards of a form end in. The others are folders of files."""
WITH_VECTORS = ("lance", "parquet")
"""The forms that can hold vectors."""
SHARD_ITEMS = 10_000
SHARD_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class Options:
    """How an export is written. The files depend on all of it."""

    form: Form
    shard_items: int = SHARD_ITEMS
    """Most items of a shard."""
    shard_bytes: int = SHARD_BYTES
    """Most bytes of media in a shard; of one item there may be more."""
    vectors: bool = False
    """Parquet and Lance: also the vectors."""
    copy: bool = False
    """Links: copies of the files instead."""

    @property
    def suffix(self) -> str | None:
        """What shards end in; None for a folder of files."""
        return SUFFIXES.get(self.form)

    def needs_media(self, pool: Pool) -> bool:
        """Whether the media of the items are read."""
        return self.form != "csv" and pool.manifest.modality != "vector"

    def record(self) -> dict[str, Any]:
        """What a plan says of the options: those that are of the form."""
        own: dict[str, Any] = {"as": self.form, "shard_items": self.shard_items}
        if self.form != "csv":
            own["shard_bytes"] = self.shard_bytes
        if self.form in WITH_VECTORS:
            own["vectors"] = self.vectors
        if self.form == "links":
            own["copy"] = self.copy
        return own

    def check(self, pool: Pool) -> None:
        """Refuse what does not go with the form, or with the items of the pool.

        Raises:
            UnknownName: there is no such form.
            ConfigError: an option is of another form or out of range, or the items have no media for the form.
            MissingExtra: lance is asked for, and not installed.
        """
        if self.form not in FORMS:
            raise UnknownName("as", str(self.form), FORMS)
        as_whole_number("shard_items", self.shard_items, 1)
        as_whole_number("shard_bytes", self.shard_bytes, 1)
        if self.vectors and self.form not in WITH_VECTORS:
            raise ConfigError("vectors", f"{self.form} holds no vectors", "export as parquet or lance")
        if self.copy and self.form != "links":
            problem = "is of links: every other form with media copies them"
            raise ConfigError("copy", problem, "leave it out")
        modality = pool.manifest.modality
        if modality == "vector" and self.form not in ("csv", *WITH_VECTORS):
            problem = f"the items of {pool.path} are ready vectors, without media to write as {self.form}"
            raise ConfigError("as", problem, "export as parquet or lance (with --vectors), or csv")
        if modality in ("text", "sound") and self.form == "coco":
            problem = f"coco is of images, and the items are {modality}s"
            raise ConfigError("as", problem, "export as parquet, csv or webdataset")
        if modality == "text" and self.form == "links" and not self.copy:
            problem = "texts are rows of files, to which no link can lead"
            raise ConfigError("as", problem, "add --copy for a file of each, or export as parquet")
        if self.form == "lance":
            import_lance()
