"""s3, gs, az and http by `obstore`, which is object_store of Rust."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from raysal.buckets import retries
from raysal.buckets.base import Body, Failure, Object, Reason
from raysal.errors import MissingExtra
from raysal.messages import brief

SCHEMES = ("s3", "gs", "az", "abfss", "http", "https")
_PAGE = 1000
"""Objects that a service gives at once."""
_PIECE = 2**20
"""Bytes that are handed on at once."""
_LONGEST_BODY = timedelta(hours=6)
"""The library ends a response after a time. One that moves may take long; if it is cut, it goes on."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STATUS = re.compile(r"status code: (\d{3})")
_THERE = re.compile("(Blob|Path)AlreadyExists")
"""What Azure says with a 409 where an object is there already. Of S3 a 409 is a conflict that passes."""
_PREAMBLE = re.compile(r".* in [0-9.]+[mµn]?s - ")
"""What is before the answer of the service: which request, and how long it took."""
_QUERY = re.compile(r"(https?://[^\s?]*)\?\S*")
_PLAIN_HTTP = ("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP", "ALLOW_HTTP")
_METADATA = ("/latest/api/token", "/latest/meta-data/", "/computeMetadata/", "/metadata/identity/")
"""Where machines of a cloud get credentials. This is asked where the environment names none."""


class ObstoreTransport:
    """One bucket of one of the big services."""

    def __init__(self, root: str) -> None:
        try:
            import obstore
        except ModuleNotFoundError:
            raise MissingExtra(root, "obstore", "cloud") from None
        self.root, self.requests = root, obstore
        try:
            self.store = open_store(root)
        except Exception as error:  # no request was made: to try again is no use
            raise Failure("refused", said_by(error)) from error

    def list(self, folder: str, after: str) -> Iterator[Object]:
        """See `Transport.list`."""
        try:
            pages = self.requests.list(self.store, folder or None, offset=after or None, chunk_size=_PAGE)
            yield from _without_markers(object_of(found) for page in pages for found in page)
        except Exception as error:
            fail(error)

    def head(self, name: str) -> Object:
        """See `Transport.head`."""
        try:
            return object_of(self.requests.head(self.store, name))
        except Exception as error:
            fail(error)

    def get(self, name: str, etag: str | None, start: int, stop: int | None) -> Body:
        """See `Transport.get`."""
        options: dict[str, Any] = {}
        if etag is not None:
            options["if_match"] = etag
        if stop is not None:
            options["range"] = (start, stop)
        elif start:
            options["range"] = {"offset": start}
        try:
            result = self.requests.get(self.store, name, options=options)
            return Body(object_of(result.meta), _pieces(result))
        except Exception as error:
            fail(error)

    def put(self, name: str, data: bytes | Path, only_if_absent: bool, etag: str | None) -> str | None:
        """See `Transport.put`."""
        try:
            mode = "create" if only_if_absent else "overwrite" if etag is None else self._over(name, etag)
            written: str | None = self.requests.put(self.store, name, data, mode=mode)["e_tag"]
            return written
        except Failure:
            raise
        except Exception as error:
            fail(error)

    def _over(self, name: str, etag: str) -> Any:
        """How to write over a version. Google compares numbers of generations, which listings do not tell."""
        if not self.root.startswith("gs:"):
            return {"e_tag": etag}
        found = self.requests.head(self.store, name)
        if found["e_tag"] != etag:
            raise Failure("changed", f"its version is {found['e_tag']}")
        return {"e_tag": etag, "version": found["version"]}

    def delete(self, names: Sequence[str]) -> None:
        """See `Transport.delete`."""
        try:
            self.requests.delete(self.store, list(names))
        except FileNotFoundError:
            if len(names) > 1:  # others may be there still
                for name in names:
                    self.delete([name])
        except Exception as error:
            fail(error)


def open_store(root: str) -> Any:
    """The library's store for a whole bucket. It is given no credentials by us: it finds them."""
    from obstore.store import from_url

    client: dict[str, Any] = {"timeout": _LONGEST_BODY, "read_timeout": timedelta(seconds=retries.SILENCE_S)}
    if root.startswith("http:") or any(os.environ.get(name, "").lower() in ("1", "true") for name in _PLAIN_HTTP):
        client["allow_http"] = True  # the library does not look where it is given any option
    options: dict[str, Any] = {"client_options": client, "retry_config": {"max_retries": 0}}  # see retries.py
    if root.startswith("s3:") and (provider := _of_aws_files()):
        options["credential_provider"] = provider
    return from_url(root, **options)


def _of_aws_files() -> Any:
    """Credentials as `aws configure` and `aws sso login` leave them, which obstore does not read; None without."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE", "AWS_WEB_IDENTITY_TOKEN_FILE")
    if any(map(os.environ.get, names)) or importlib.util.find_spec("boto3") is None:
        return None
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider()
    except ValueError:  # there are none
        return None


def object_of(meta: Mapping[str, Any]) -> Object:
    """An object as the library describes it."""
    changed = (meta["last_modified"] - _EPOCH) // timedelta(microseconds=1) * 1000
    return Object(meta["path"], meta["size"], meta["e_tag"], changed)


def _without_markers(objects: Iterator[Object]) -> Iterator[Object]:
    """Give folder markers their names back, such as `photos/`.

    Consoles make such empty objects for folders. The library takes the slash off their names, but they keep their
    place in the order: before all that is in the folder.

    Yields:
        The objects.
    """
    last: Object | None = None
    before = ""
    for found in objects:
        if last is not None:
            yield _marked(last, before, found.name)
            before = max(before, last.name)
        last = found
    if last is not None:
        yield _marked(last, before, "")


def _marked(found: Object, before: str, behind: str) -> Object:
    name = f"{found.name}/"
    marks = found.size == 0 and (behind.startswith(name) or found.name < before)
    return found._replace(name=name) if marks else found


def _pieces(result: Any) -> Iterator[bytes]:
    try:
        for piece in result.stream(min_chunk_size=_PIECE):
            yield bytes(piece)
    except Exception as error:
        fail(error)


def fail(error: Exception) -> NoReturn:
    """Say as a `Failure` what an error of the library means.

    Raises:
        Failure: always.
    """
    raise Failure(reason_of(error), said_by(error)) from error


def reason_of(error: Exception) -> Reason:
    """Why a request failed."""
    from obstore import exceptions

    text = str(error)
    status = found[1] if (found := _STATUS.search(text)) else ""
    known: list[tuple[Callable[[], bool], Reason]] = [
        (lambda: isinstance(error, FileNotFoundError) or status == "404", "absent"),
        (lambda: status == "412" or isinstance(error, exceptions.PreconditionError), "changed"),
        (lambda: status == "409" and _THERE.search(text) is not None, "taken"),
        (lambda: status == "501", "refused"),
        (lambda: status == "409" or status in ("408", "429") or status.startswith("5"), "passing"),
        (lambda: isinstance(error, exceptions.AlreadyExistsError), "taken"),
        (lambda: status in ("401", "403") or any(place in text for place in _METADATA), "forbidden"),
        (lambda: bool(status) or "builder error" in text or "InvalidPath" in type(error).__name__, "refused"),
        (lambda: isinstance(error, exceptions.GenericError), "passing"),
    ]
    return next((reason for holds, reason in known if holds()), "refused")


def said_by(error: Exception) -> str:
    """What the library says, on one line, without what is behind a `?` in a URL: that may be a signature."""
    if any(place in str(error) for place in _METADATA):
        return "no credentials were found"
    line = next(iter(str(error).splitlines()), "")
    found = _PREAMBLE.match(line)
    said = line[found.end() :].partition(": <")[0] if found else brief(error)
    return _QUERY.sub(r"\1", said)[:200]
