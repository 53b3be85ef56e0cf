"""Many small objects of a bucket, read at the same time and given in order, ahead of whoever decodes them.

One request for a picture takes some ten milliseconds, whatever its size; so they are made beside each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from raysal.buckets import Bucket, Object
from raysal.errors import BucketError

READERS = 32
"""Requests at the same time: with 30 ms each, some thousand pictures a second."""
AHEAD_BYTES = 32 << 20
"""Bytes that are read and not yet taken, as far as the sizes of the objects before foretell it."""
_GUESS = 8 << 20
"""Bytes that the first objects are taken to have: so four requests are made before anything is known."""


def read_ahead(bucket: Bucket, names: Iterable[str]) -> Iterator[tuple[Object, bytes] | BucketError]:
    """Read objects.

    Memory: `AHEAD_BYTES`, or one object if that is more, while sizes do not differ much.

    Args:
        bucket: where they are.
        names: of the objects.

    Yields:
        Each with its bytes, in order; or why an object cannot be read, if that is about this one alone: it is gone.

    Raises:
        BucketError: the bucket cannot be read.
    """
    rest = iter(names)
    waiting: deque[Future[tuple[Object, bytes]]] = deque()
    size = float(_GUESS)
    with ThreadPoolExecutor(READERS) as readers:
        try:
            while True:
                room = max(1, min(READERS, int(AHEAD_BYTES / size)))
                waiting += [
                    readers.submit(bucket.read_object, name) for name in islice(rest, max(0, room - len(waiting)))
                ]
                if not waiting:
                    return
                try:
                    found, data = waiting.popleft().result()
                except BucketError as error:
                    if error.reason != "absent":
                        raise
                    yield error
                    continue
                size = max(len(data), 0.9 * size, 1.0)
                yield found, data
        finally:
            for future in waiting:
                future.cancel()
