"""What a URL of a bucket is made of, and what is no URL: a path."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from raysal.errors import BucketError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
"""A scheme has two letters or more, so that no drive of Windows is one."""
_SAME = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "azure": "az", "abfs": "abfss"}
"""{another name of a scheme: the one that addresses have here}"""
_SHOWS_SECRETS = ("http", "https")
"""Schemes whose addresses may be signed: what is behind a `?` gives access to whoever reads it."""


def is_url(place: str | Path) -> bool:
    """Whether a place is a URL, such as `s3://bucket/folder`, and no path."""
    return isinstance(place, str) and _URL.match(place) is not None


def local_or_url(place: str | Path) -> str | Path:
    """The URL as it is written in records, or the path.

    Args:
        place: what a person gave: a URL, a path, or `file://` with an absolute path.

    Returns:
        A URL as text, as `normalised` gives it, or a path.

    Raises:
        BucketError: the URL is not complete, or holds a password.
    """
    if not isinstance(place, str) or not is_url(place):
        return Path(place)
    if place[:7].lower() != "file://":
        return normalised(place)
    host, slash, path = place[7:].partition("/")
    if host not in ("", "localhost") or not slash:
        raise BucketError(place, "is no file of this machine", "write the path, or file:///PATH")
    return Path(unquote(f"/{path}"))


class Address(NamedTuple):
    """A URL, taken apart."""

    scheme: str
    bucket: str
    """Name of the bucket, or the host; "" for a scheme without."""
    path: str
    """What is behind it, without slashes at its ends; "" is the whole bucket."""

    @property
    def root(self) -> str:
        """The URL of the whole bucket."""
        return f"{self.scheme}://{self.bucket}"


def address_of(url: str) -> Address:
    """Take a URL apart. What is behind the bucket is a name, letter by letter: nothing is decoded.

    Args:
        url: such as `s3://bucket/folder`.

    Returns:
        Its parts.

    Raises:
        BucketError: it is no URL, names no bucket, or holds a password.
    """
    found = _URL.match(url)
    if found is None:
        raise BucketError(url, "is no URL", "write it as s3://BUCKET/FOLDER")
    scheme = found[1].lower()
    scheme = _SAME.get(scheme, scheme)
    bucket, _, path = url[found.end() :].partition("/")
    before, at, host = bucket.rpartition("@")
    if at and ":" in before:
        hidden = f"{scheme}://...@{host}"
        raise BucketError(hidden, "the URL holds a password", "take it out; credentials come from the environment")
    if scheme in _SHOWS_SECRETS and "?" in url:
        shown = url.partition("?")[0]
        raise BucketError(shown, "the URL has a part behind a `?`, which may be a secret", "take it out")
    if not bucket and scheme in ("s3", "gs", "az", "abfss", *_SHOWS_SECRETS):
        raise BucketError(url, "names no bucket", f"write it as {scheme}://BUCKET/FOLDER")
    return Address(scheme, bucket, path.strip("/"))


def normalised(url: str) -> str:
    """The one way in which records have a URL: its scheme in small letters, no slash at its end.

    Args:
        url: as a person gave it.

    Returns:
        The URL.

    Raises:
        BucketError: as `address_of` does.
    """
    root, path = (address := address_of(url)).root, address.path
    return f"{root}/{path}" if path else root


def joined(*parts: str) -> str:
    """Parts of a name with slashes between; empty ones are left out."""
    return "/".join(part for part in parts if part)
