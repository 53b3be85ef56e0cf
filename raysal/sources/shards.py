"""What a shard of WebDataset holds: samples, which are runs of members of one key, and what belongs to none."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from raysal.errors import SourceError
from raysal.sources.kinds import IMAGES
from raysal.sources.places import for_people
from raysal.sources.tar import Member, Torn, members_of

MAX_BYTES = 1 << 30
"""Size of a member that is read. A picture of the most pixels that are decoded, in float64, is smaller."""
EXAMPLES = 3
"""Names that are kept of members of no sample."""
_SHUT = (errno.EACCES, errno.EPERM, errno.ELOOP)
"""Errors of opening that stay. After any other error the shard might be listed, and ids would shift."""
_METADATA = re.compile(r"__[^/]*__(/|$)")
"""Names of members that WebDataset leaves out."""


@dataclass
class Sample:
    """Consecutive members of one key."""

    key: str
    members: dict[str, Member] = field(default_factory=dict)
    """By their endings, in lower case and without the first dot: `jpg`, `seg.png`."""
    problem: str = ""
    """Why it is no item; "" if it is one."""
    cut: bool = False
    """Whether the shard is cut short within this sample, or right behind it."""

    def member(self, ending: str) -> Member | str:
        """The member of an ending.

        Args:
            ending: in lower case, without the first dot.

        Returns:
            The member; in words, why it cannot be read; "" if the sample has none.
        """
        found = self.members.get(ending)
        if found is None:
            return "the shard is cut short within its sample" if self.cut else ""
        if found.problem:
            return f"member {found.name!r}: {found.problem}"
        if found.size > MAX_BYTES:
            return f"member {found.name!r}: {found.size} bytes, at most {MAX_BYTES} are read"
        return found

    def payload(self, endings: Sequence[str]) -> Member | str:
        """The member that is the item.

        Args:
            endings: the first one that the sample has is taken; none for the only image.

        Returns:
            The member, or why there is none, in words.
        """
        if self.problem:
            return self.problem
        if endings:
            chosen = [ending for ending in endings if ending in self.members][:1]
            what = f"no member {' or '.join(f'.{ending}' for ending in endings)}"
        else:
            chosen = images_in(self.members)
            what = "no image among its members"
        if len(chosen) > 1:
            several = ", ".join(f".{ending}" for ending in chosen)
            return f"it has several images ({several}); choose one with --image-column"
        if chosen:
            return self.member(chosen[0])
        return self.member("") if self.cut else f"{what}; it has {', '.join(f'.{one}' for one in self.members)}"


def images_in(endings: Sequence[str] | dict[str, Member]) -> list[str]:
    """Which endings are those of images: whole ones (`jpg`), or where there is none, those that end so (`left.jpg`)."""
    whole = [ending for ending in endings if f".{ending}" in IMAGES]
    return whole or [ending for ending in endings if f".{ending}".endswith(IMAGES)]


@dataclass
class Left:
    """What is left out of one shard."""

    count: int = 0
    """Members of no sample."""
    names: list[str] = field(default_factory=list)
    """The first few of them."""
    cut: str = ""
    """Why the rest of the shard cannot be read; "" if it was read to its end."""


def open_shard(path: Path) -> int:
    """Open a shard.

    Args:
        path: the shard.

    Returns:
        Its descriptor.

    Raises:
        SourceError: it cannot be opened.
    """
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise SourceError(path, f"cannot be read ({error.strerror})", "check the path") from error


def samples_of(path: Path, left: Left) -> Iterator[Sample]:
    """List the samples of a shard. It reads the headers of its members.

    Args:
        path: the shard.
        left: where to say what is left out.

    Yields:
        The samples, in order.

    Raises:
        SourceError: the shard cannot be opened or read.
    """
    try:
        file = open_shard(path)
    except SourceError as error:
        cause = error.__cause__
        shut = (*_SHUT, errno.ENOENT) if os.path.islink(path) else _SHUT
        if isinstance(cause, OSError) and cause.errno in shut:
            left.cut = f"it {error.problem}"
            return
        raise
    sample = None
    try:
        for member in members_of(file):
            split = split_name(member.name)
            if split is None:
                left.count += 1
                if len(left.names) < EXAMPLES:
                    left.names.append(for_people(member.name.encode("utf-8", "surrogateescape")))
                continue
            key, ending = split
            if sample is None or key != sample.key:
                if sample is not None:
                    yield _checked(sample)
                sample = Sample(key)
            if ending in sample.members:
                sample.problem = f"it has two members .{ending}"
            sample.members[ending] = member
    except Torn as torn:
        left.cut = str(torn)
        if sample is not None:
            sample.cut = True
    except OSError as error:
        raise SourceError(path, f"cannot be read ({error.strerror})") from None
    finally:
        os.close(file)
    if sample is not None:
        yield _checked(sample)


def split_name(name: str) -> tuple[str, str] | None:
    """Cut the name of a member as WebDataset does: at the first dot of its base name.

    Args:
        name: a path.

    Returns:
        The key and the ending in lower case; None for a member of no sample: without a dot, hidden, or metadata.
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, ending = base.partition(".")
    if not stem or not dot or (name.startswith("__") and _METADATA.match(name)):
        return None
    return folder + slash + stem, ending.lower()


def _checked(sample: Sample) -> Sample:
    """A sample whose key is text, and does not lead out of a folder."""
    if sample.key.startswith("/") or ".." in sample.key.split("/"):
        sample.problem = "its name leads out of the archive; rename its members"
    try:
        sample.key.encode()
    except UnicodeEncodeError:
        sample.key = sample.key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        sample.problem = "its name is not UTF-8; rename its members"
    return sample
