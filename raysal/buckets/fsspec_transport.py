"""Every scheme that `obstore` has not, by fsspec: hf, sftp, hdfs, webdav, memory ...

fsspec has no one word for a version, so one is made of what a file system says: its own etag or checksum, else size
and time. To write on a condition is one step only where the file system knows an exclusive write; else it looks first,
and then writes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from raysal.buckets.base import Body, Failure, Object
from raysal.errors import MissingExtra
from raysal.messages import brief

_VERSION = ("ETag", "etag", "e_tag", "sha256", "md5", "checksum", "blob_id")
_CHANGED = ("LastModified", "last_modified", "mtime", "modified", "updated", "created")
_PIECE = 2**20


class FsspecTransport:
    """One file system of fsspec; the bucket is the first folder, or the host."""

    def __init__(self, root: str) -> None:
        scheme = root.partition("://")[0]
        try:
            import fsspec
        except ModuleNotFoundError:
            raise MissingExtra(root, "fsspec", "fsspec") from None
        try:
            self.system, self.root = fsspec.core.url_to_fs(root)
        except ValueError:
            problem = f"no file system is known for {scheme}://"
            raise Failure("refused", problem) from None
        except ImportError as error:
            raise Failure("refused", brief(error)) from None
        except Exception as error:
            fail(error)

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    def _object(self, name: str, facts: Mapping[str, Any]) -> Object:
        size = int(facts.get("size") or 0)
        changed = next((nanoseconds(facts[field]) for field in _CHANGED if facts.get(field) is not None), 0)
        own = next((str(facts[field]) for field in _VERSION if facts.get(field)), None)
        return Object(name, size, own or (f"{size}-{changed}" if changed else None), changed)

    def list(self, folder: str, after: str) -> Iterator[Object]:
        """See `Transport.list`. Memory: the entries of one folder, and of those above it."""
        del after
        try:
            self.system.invalidate_cache()
            yield from self._below(folder)
        except FileNotFoundError:
            return
        except Exception as error:
            fail(error)

    def _below(self, folder: str) -> Iterator[Object]:
        entries = []
        for facts in self.system.ls(self._path(folder), detail=True):
            name = facts["name"].rstrip("/").rpartition("/")[2]
            entries.append((f"{name}/" if facts["type"] == "directory" else name, facts))
        for name, facts in sorted(entries, key=lambda entry: entry[0]):
            whole = f"{folder}/{name}" if folder else name
            if name.endswith("/"):
                yield from self._below(whole[:-1])
            else:
                yield self._object(whole, facts)

    def head(self, name: str) -> Object:
        """See `Transport.head`."""
        try:
            self.system.invalidate_cache()
            facts = self.system.info(self._path(name))
        except Exception as error:
            fail(error)
        if facts.get("type") == "directory":
            raise Failure("absent", "a folder")
        return self._object(name, facts)

    def get(self, name: str, etag: str | None, start: int, stop: int | None) -> Body:
        """See `Transport.get`. The version is compared before and behind the bytes."""
        found = self._as_listed(name, etag)
        return Body(found, self._pieces(name, found, start, found.size if stop is None else stop))

    def _pieces(self, name: str, found: Object, start: int, stop: int) -> Iterator[bytes]:
        for first in range(start, min(stop, found.size), _PIECE):
            try:
                yield self.system.cat_file(self._path(name), start=first, end=min(first + _PIECE, stop))
            except Exception as error:
                fail(error)
        self._as_listed(name, found.etag)

    def _as_listed(self, name: str, etag: str | None) -> Object:
        found = self.head(name)
        if etag is not None and found.etag != etag:
            raise Failure("changed", f"its version is {found.etag}")
        return found

    def put(self, name: str, data: bytes | Path, only_if_absent: bool, etag: str | None) -> None:
        """See `Transport.put`. No file system of fsspec answers with a version."""
        if etag is not None:
            self._as_listed(name, etag)
        path, content = self._path(name), data if isinstance(data, bytes) else data.read_bytes()
        try:
            if "/" in path:
                self.system.makedirs(path.rpartition("/")[0], exist_ok=True)
            if only_if_absent:
                if self.system.exists(path):
                    raise FileExistsError(path)
                with contextlib.suppress(NotImplementedError, TypeError, ValueError):
                    self.system.pipe_file(path, content, mode="create")
                    return
            self.system.pipe_file(path, content)
        except Exception as error:
            fail(error)

    def delete(self, names: Sequence[str]) -> None:
        """See `Transport.delete`."""
        for name in names:
            try:
                self.system.rm_file(self._path(name))
            except FileNotFoundError:
                continue
            except Exception as error:
                fail(error)


def nanoseconds(moment: Any) -> int:
    """A time of a file system, as nanoseconds since 1970; 0 if it cannot be read as one."""
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            return 0
    if isinstance(moment, datetime):
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return int(moment * 1_000_000) * 1000 if isinstance(moment, int | float) else 0


def fail(error: Exception) -> NoReturn:
    """Say as a `Failure` what an error of a file system means.

    Raises:
        Failure: always.
    """
    if isinstance(error, Failure):
        raise error
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        raise Failure("absent", brief(error)) from error
    if isinstance(error, FileExistsError):
        raise Failure("taken", brief(error)) from error
    if isinstance(error, PermissionError):
        raise Failure("forbidden", brief(error)) from error
    passing = isinstance(error, OSError | EOFError) or "Timeout" in type(error).__name__
    raise Failure("passing" if passing else "refused", brief(error)) from error
