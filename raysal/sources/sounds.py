"""Sounds in a folder. A sound's key is its path relative to the folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from raysal.sources.folder import Folder
from raysal.sources.kinds import OTHER_SOUNDS, SOUNDS


@dataclass(frozen=True, kw_only=True)
class Sounds(Folder):
    """The sound files under a folder, listed and read as `Folder` lists and reads those of images."""

    suffixes: tuple[str, ...] = SOUNDS
    """The suffixes of sounds, in lower case; a file's own may be in any case. The rest is passed over."""
    _WORD: ClassVar[str] = "sounds"
    _ITEMS: ClassVar[frozenset[str]] = OTHER_SOUNDS | {*SOUNDS}
    _PICTURES: ClassVar[bool] = False

    @property
    def modality(self) -> Literal["sound"]:
        """Sound."""
        return "sound"
