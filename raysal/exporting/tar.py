"""Tar shards as WebDataset reads them: for each item its media, and a .json of all else, one after the other."""

from __future__ import annotations

import tarfile
from pathlib import Path

from raysal.exporting.base import Entry, Noted
from raysal.exporting.names import sample_name
from raysal.store import dumps


class TarShard:
    """A tar file that is being written. Its bytes depend on the items alone: no time, no user. Memory for one item.

    `tarfile` makes the heads; to let it copy the contents, too, takes twice as long.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb")  # noqa: SIM115

    def add(self, entry: Entry) -> Noted:
        """Add an item; see `Shard.add`. The key is in the .json to the letter."""
        assert entry.media is not None
        name = sample_name(entry.key)
        member = f"{name}{entry.media.suffix}"
        self._member(member, entry.media.content)
        self._member(f"{name}.json", (dumps(entry.facts()) + "\n").encode())
        return Noted(member)

    def _member(self, name: str, content: bytes) -> None:
        head = tarfile.TarInfo(name)  # of time 0, and of the user 0 without a name
        head.size, head.mode = len(content), 0o644
        plain = len(name) <= tarfile.LENGTH_NAME and len(content) < 8**11  # then both forms are the same bytes
        self._file.write(head.tobuf(tarfile.USTAR_FORMAT if plain else tarfile.PAX_FORMAT))
        self._file.write(content)
        self._file.write(bytes(-len(content) % tarfile.BLOCKSIZE))

    def close(self) -> None:
        """Write the end of the file: two empty blocks, and more up to a whole record."""
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))
        self._file.write(bytes(-self._file.tell() % tarfile.RECORDSIZE))
        self._file.close()
