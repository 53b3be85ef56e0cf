"""A bucket, or a folder of one: what is in it, and how its objects are read and written.

The laws: a listing is in the order of names, by code point. An object is read whole, in the version that was asked for,
or not at all. A write is one step. What may pass is tried again (`retries.py`); what will not is a `BucketError`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

from raysal.buckets import retries
from raysal.buckets.address import address_of, joined, normalised
from raysal.buckets.base import Body, Failure, Object, Transport
from raysal.buckets.retries import Patience, with_retries
from raysal.errors import BucketError, Taken
from raysal.store import write_file

_PER_REQUEST = 1000
"""Objects that one request deletes; services take no more."""


@dataclass(frozen=True)
class Bucket:
    """A bucket, or a folder of one. It is only an address, and travels as such; connections are opened when needed.

    Args:
        url: such as `s3://bucket/folder`. It is kept without a slash at its end.

    Raises:
        BucketError: it is no URL, or it holds a password.
    """

    url: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", normalised(self.url))

    def below(self, name: str) -> Bucket:
        """A folder of this one."""
        return Bucket(f"{self.url}/{name}")

    def url_of(self, name: str) -> str:
        """The URL of an object; of the bucket itself if the name is empty."""
        return joined(self.url, name)

    @property
    def _folder(self) -> str:
        return address_of(self.url).path

    def _whole(self, name: str) -> str:
        """The name of an object in the whole bucket."""
        return joined(self._folder, name)

    def _transport(self) -> Transport:
        """The connections of this process to the whole bucket."""
        address = address_of(self.url)
        try:
            return _transport(address.scheme, address.root, os.getpid())
        except Failure as failure:
            self._refuse(failure, "", "opened")

    def list(self, prefix: str = "") -> Iterator[Object]:
        """List the objects, in the order of their names, by code point. Empty objects that mark folders are left out.

        Args:
            prefix: how the names begin, such as `2024/` or `2024/IMG_`.

        Yields:
            The objects, one by one; memory for a page of a thousand. None if there are none.

        Raises:
            BucketError: the bucket is not there, or cannot be listed.
        """
        transport, patience = self._transport(), Patience()
        inner, _, begin = prefix.rpartition("/")
        folder = self._whole(inner)
        cut = len(self._folder) + 1 if self._folder else 0
        last = joined(folder, begin[:-1]) if len(begin) > 1 else ""
        again = True  # the listing may begin with names up to `last`: of another prefix, or given before a fault
        while True:
            try:
                for found in transport.list(folder, last):
                    name = found.name[cut:]
                    if found.name.endswith("/") or not name:
                        continue  # a folder's marker
                    if found.name <= last:
                        if again:
                            continue
                        self._refuse_order(found.name, last)
                    last, again = found.name, False
                    patience.progress()
                    if name.startswith(prefix):
                        yield found._replace(name=name)
                    elif name > prefix:
                        return  # all that is behind begins otherwise
                return
            except Failure as failure:
                self._try_again(patience, failure, "", "listed")
                again = True

    def look_at(self, name: str) -> Object | None:
        """Look at an object.

        Args:
            name: of the object.

        Returns:
            What is known of it now; None if it is not there.

        Raises:
            BucketError: it cannot be looked at.
        """
        transport = self._transport()
        try:
            return with_retries(lambda: transport.head(self._whole(name)))._replace(name=name)
        except Failure as failure:
            if failure.reason == "absent":
                return None
            self._refuse(failure, name, "read")

    def read(
        self, name: str, *, etag: str | None = None, start: int = 0, length: int | None = None, size: int | None = None
    ) -> bytes:
        """Read an object, or some of its bytes.

        Args:
            name: of the object.
            etag: the version that is wanted; None for the one of now.
            size: how many bytes the whole object has, as it was listed.
            start: the first byte.
            length: how many bytes; None for all to the end.

        Returns:
            The bytes; fewer than `length` only if the object ends before.

        Raises:
            BucketError: the object is not there, was changed, or cannot be read.
        """
        pieces = self._pieces(name, etag, start, None if length is None else start + length, size)
        return b"".join(piece for _, piece in pieces)

    def read_object(self, name: str) -> tuple[Object, bytes]:
        """Read an object, and say which version it is.

        Args:
            name: of the object.

        Returns:
            What is known of it, and its bytes.

        Raises:
            BucketError: as for `read`.
        """
        pieces = list(self._pieces(name, None, 0, None, None))
        found = pieces[0][0] if pieces else self.look_at(name)  # an empty one has no pieces
        if found is None:
            self._refuse(Failure("absent", ""), name, "read")
        return found._replace(name=name), b"".join(piece for _, piece in pieces)

    def fetch(self, name: str, target: Path, *, size: int | None = None, etag: str | None = None) -> None:
        """Copy an object to a file, which appears in one step. Memory: some megabytes.

        Args:
            name: of the object.
            target: the file; one that is there is replaced.
            size: how many bytes it has, as it was listed.
            etag: the version that is wanted.

        Raises:
            BucketError: the object is not there, was changed, or cannot be read.
            OSError: the file cannot be written.
        """

        def write(path: Path) -> None:
            with open(path, "wb") as file:
                for _, piece in self._pieces(name, etag, 0, None, size):
                    file.write(piece)

        write_file(target, write)

    def _pieces(
        self, name: str, etag: str | None, start: int, stop: int | None, size: int | None
    ) -> Iterator[tuple[Object, bytes]]:
        """The bytes of one version of an object, in pieces. After a fault they go on where they stopped."""
        transport, patience = self._transport(), Patience()
        at, version = start, etag
        while stop is None or at < stop:
            try:
                body = self._body(transport, name, version, at, stop)
                version = version or body.whole.etag
                if size is not None and body.whole.size > size:
                    raise Failure("changed", f"it has {body.whole.size} bytes, and had {size}")
                whole = body.whole.size if size is None else size
                for piece in body.parts:
                    yield body.whole, piece
                    at += len(piece)
                    patience.progress()
                end = whole if stop is None else min(stop, whole)
                if at >= end:
                    return
                raise Failure("passing", f"the body was cut short: {at} of {end} bytes came")
            except Failure as failure:
                self._try_again(patience, failure, name, "read", etag is not None or size is not None)

    def _body(self, transport: Transport, name: str, etag: str | None, start: int, stop: int | None) -> Body:
        """The answer to a request for bytes. No service answers one for bytes behind the end; here there are none."""
        try:
            return transport.get(self._whole(name), etag, start, stop)
        except Failure as failure:
            if failure.reason != "refused" or (start == 0 and stop is None):
                raise
            whole = transport.head(self._whole(name))
            if start < whole.size:
                raise
            return Body(whole, iter(()))

    def write(self, name: str, data: bytes | Path, *, only_if_absent: bool = False, etag: str | None = None) -> Object:
        """Write an object in one step.

        A condition is decided by the service, so of many writers one wins. If an answer was lost, the object is looked
        at: the write was ours if it holds our bytes. Who writes to win something puts a mark of his own in the bytes.

        The version is the one that the service names in its answer. Where it names none, the object is looked at; if
        the write had a condition, the version that is there is ours only if it holds our bytes.

        Args:
            name: of the object.
            data: its bytes, or a file.
            only_if_absent: write it only if there is none of that name.
            etag: write it only over this version.

        Returns:
            The object as it was written. When that was is known only if it had to be looked at.

        Raises:
            Taken: the condition does not hold; or nothing but the bytes tells versions apart, and others are there.
            BucketError: it cannot be written.
        """
        transport, patience = self._transport(), Patience()
        conditional = only_if_absent or etag is not None
        whole, unsure = self._whole(name), False
        while True:
            try:
                version = transport.put(whole, data, only_if_absent, etag)
                break
            except Failure as failure:
                refused = failure.reason in ("taken", "changed") or (etag is not None and failure.reason == "absent")
                if conditional and refused:
                    if unsure and (found := self._look_for(name, data)):
                        return found  # an earlier try of ours, whose answer was lost
                    self._refuse_taken(name, only_if_absent)
                unsure = True
                self._try_again(patience, failure, name, "written")
        if version is not None:
            return Object(name, _size_of(data), version, 0)
        written = self._look_for(name, data) if conditional else self.look_at(name)
        if written is None:
            if conditional:
                self._refuse_taken(name, only_if_absent)
            raise BucketError(self.url_of(name), "was written, and is not there", "see who deletes it", "absent")
        return written

    def _look_for(self, name: str, data: bytes | Path) -> Object | None:
        """The object of a name, in the version that is there, if that has these bytes."""
        found = self.look_at(name)
        if found is None or found.size != _size_of(data):
            return None
        try:
            there = self.read(name, etag=found.etag, size=found.size)
        except BucketError as error:
            if error.reason in ("absent", "changed"):
                return None  # it is another one by now
            raise
        return found if there == (data if isinstance(data, bytes) else data.read_bytes()) else None

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects. One that is not there is no error.

        Args:
            names: of the objects.

        Raises:
            BucketError: they cannot be deleted.
        """
        transport, whole = self._transport(), [self._whole(name) for name in names]
        for first in range(0, len(whole), _PER_REQUEST):
            some = whole[first : first + _PER_REQUEST]
            try:
                with_retries(lambda some=some: transport.delete(some))  # type: ignore[misc]
            except Failure as failure:
                self._refuse(failure, "", "changed")

    # -- errors -------------------------------------------------------------------------------------------------------

    def _try_again(self, patience: Patience, failure: Failure, name: str, done: str, listed: bool = False) -> None:
        try:
            patience.after(failure)
        except Failure:
            self._refuse(failure, name, done, listed)

    def _refuse(self, failure: Failure, name: str, done: str, listed: bool = False) -> NoReturn:
        """Say for people why something cannot be done."""
        where = self.url_of(name)
        root = address_of(self.url).root
        if failure.reason == "absent":
            gone = "is gone; it was there when the bucket was listed" if listed else "there is no such object"
            problem = gone if name and done != "written" else "there is no such bucket"
            fix = "list it again" if listed else "check the URL"
        elif failure.reason == "changed":
            problem, fix = "was changed since it was listed", "list it again, by the same command"
        elif failure.reason == "forbidden":
            problem = f"may not be {done} ({failure.said})"
            fix = f"set credentials in the environment, and let them list, read and write what you need of {root}"
        elif failure.reason == "passing":
            problem = f"could not be {done}, {retries.TRIES} times in turn ({failure.said})"
            fix = "check the network and the service, and run the same command again"
        else:
            problem, fix = f"cannot be {done} ({failure.said})", "check the URL and the settings of the service"
        raise BucketError(where, problem, fix, failure.reason) from failure

    def _refuse_taken(self, name: str, only_if_absent: bool) -> NoReturn:
        problem = "is there already" if only_if_absent else "is not the version that was to be replaced"
        raise Taken(self.url_of(name), problem, "read it, and decide again", "taken")

    def _refuse_order(self, name: str, last: str) -> NoReturn:
        problem = f"its service does not list names in order: {name!r} came behind {last!r}"
        raise BucketError(self.url, problem, "copy the objects to a bucket that does, or to a disk", "refused")


def _size_of(data: bytes | Path) -> int:
    return len(data) if isinstance(data, bytes) else data.stat().st_size


@cache
def _transport(scheme: str, root: str, process: int) -> Transport:
    """The connections of one process to one bucket; a process that was forked has its own."""
    del process
    from raysal.buckets import obstore_transport

    if scheme in obstore_transport.SCHEMES:
        return obstore_transport.ObstoreTransport(root)
    from raysal.buckets.fsspec_transport import FsspecTransport

    return FsspecTransport(root)
