"""Many small objects of a bucket, read at the same time and given in order, ahead of whoever decodes them.

One request for a picture takes some ten milliseconds, whatever its size; so they are made beside each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from raysal.buckets import Bucket, Object
from raysal.errors import BucketError

READERS = 32
"""Requests at the same time: with 30 ms each, some thousand pictures a second."""
AHEAD_BYTES = 32 << 20
"""Bytes that are read and not yet taken, as far as the sizes of the objects before foretell it."""
_GUESS = 8 << 20
"""Bytes that the first objects are taken to have: so four requests are made before anything is known."""


class Read(NamedTuple):
    """An object that was read."""

    bucket: Bucket
    object: Object
    data: bytes


def read_ahead(wanted: Iterable[tuple[str, Sequence[Bucket]]]) -> Iterator[Read | BucketError]:
    """Read objects.

    Memory: `AHEAD_BYTES`, or one object if that is more, while sizes do not differ much.

    Args:
        wanted: the name of each object, and the folders where it may be: the first that has it counts.

    Yields:
        Each with its bytes, in order; or why an object cannot be read, if that is about this one alone: it is gone.

    Raises:
        BucketError: the bucket cannot be read.
    """
    rest = iter(wanted)
    waiting: deque[Future[Read]] = deque()
    size = float(_GUESS)
    with ThreadPoolExecutor(READERS) as readers:
        try:
            while True:
                room = max(1, min(READERS, int(AHEAD_BYTES / size)))
                waiting += [readers.submit(_read, *one) for one in islice(rest, max(0, room - len(waiting)))]
                if not waiting:
                    return
                try:
                    found = waiting.popleft().result()
                except BucketError as error:
                    if error.reason != "absent":
                        raise
                    yield error
                    continue
                size = max(len(found.data), 0.9 * size, 1.0)
                yield found
        finally:
            for future in waiting:
                future.cancel()


def _read(name: str, buckets: Sequence[Bucket]) -> Read:
    """Read an object from the first folder that has it."""
    for bucket in buckets[:-1]:
        try:
            return Read(bucket, *bucket.read_object(name))
        except BucketError as error:
            if error.reason != "absent":
                raise
    return Read(buckets[-1], *buckets[-1].read_object(name))
