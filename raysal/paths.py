"""Paths that people write: `~` for their home, and relative ones in a config file."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raysal.buckets.address import is_url, local_or_url
from raysal.errors import ConfigError


def path_or_url(place: str | os.PathLike[str]) -> Path | str:
    """What a person gave as the place of data.

    Args:
        place: a path, which may begin with `~`; or a URL, as `s3://bucket/folder`, `file://` included.

    Returns:
        The path; or the URL as text, as records have it.

    Raises:
        BucketError: the URL is not complete, or holds a password.
    """
    text = os.fspath(place)
    found = local_or_url(text)
    return found if isinstance(found, str) or is_url(text) else with_home(place)


def with_home(path: str | os.PathLike[str]) -> Path:
    """A path with `~` or `~user` at its beginning replaced by the home directory."""
    return Path(os.path.expanduser(path))


ColumnOrFile = str
"""A field of a step that names a column or a file. In a config it is a path if it has a `/`, or an ending as `.csv`."""
PATHS = {"source": ("path", "also", "data", "keys", "catalogue"), "oracle": ("labels",), "like": ("image", "vectors")}
"""{kind of part in a config: its fields that hold a path, or a list of them}; beside them, `pool` and `probabilities`
are paths."""

AFTER_COLON = {"encoder": ("finetuned",)}
"""{kind of part in a config: the names of parts that take a path after a colon, as `finetuned:MODEL`}."""


def find_paths(values: dict[str, Any], folder: Path, say: Callable[[str], None] | None) -> None:
    """Replace the paths in the values of a config file by those that are meant; see `from_config`.

    Args:
        values: what the file says; changed in place.
        folder: the folder of the file.
        say: is called with a line for each path that starts from that folder.
    """
    places = [(values, name, name) for name in ("pool", "probabilities")]
    for kind, names in PATHS.items():
        if isinstance(part := values.get(kind), dict):
            places += [(part, name, f"{kind}.{name}") for name in names]

    def meant(field: str, given: Any) -> Any:
        if not isinstance(given, str):
            return [meant(field, one) for one in given] if isinstance(given, list) else given
        if is_url(given):
            return str(local_or_url(given))
        path = from_config(field, Path(given), folder)
        if say is not None and path != with_home(given):
            say(f"{field}: {given} is taken from the folder of the config: {path}")
        return str(path)

    for holder, name, field in places:
        if name in holder:
            holder[name] = meant(field, holder[name])
    for kind, names in AFTER_COLON.items():
        part = values.get(kind)
        holder, place = (part, "name") if isinstance(part, dict) else (values, kind)
        if isinstance(given := holder.get(place), str):
            name, colon, path = given.partition(":")
            if colon and name in names:
                holder[place] = f"{name}:{meant(kind, path)}"


def from_config(field: str, path: Path, folder: Path) -> Path:
    """The path that a config file means.

    A relative path starts from the working directory. If nothing is there, and something is there from the folder of
    the config, that is meant.

    Args:
        field: the dotted path of the field, for the error.
        path: what the config says; it may be a pattern.
        folder: the folder of the config file.

    Returns:
        The path: as it is, or absolute if it starts from the folder.

    Raises:
        ConfigError: there is something in both places.
    """
    path = with_home(path)
    beside = folder.absolute() / path
    if path.is_absolute() or not _is_there(beside):
        return path
    if not _is_there(path):
        return beside
    if os.path.realpath(path) == os.path.realpath(beside):
        return path
    problem = f"{path} may be {path.absolute()} (from the working directory) or {beside} (beside the config)"
    raise ConfigError(field, problem, "write the whole path")


def _is_there(path: Path) -> bool:
    """Whether there is something at a path, or a pattern matches."""
    return os.path.lexists(path) or (glob.has_magic(str(path)) and any(glob.iglob(str(path), recursive=True)))


def pool_around(place: Path) -> Path | None:
    """The pool that a place on this machine lies in, whose files are its own.

    Args:
        place: a file or a folder, there or not.

    Returns:
        The directory of the pool; None where it lies in none.
    """
    return next((folder for folder in place.absolute().parents if (folder / "pool.json").exists()), None)
