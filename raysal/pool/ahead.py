"""Chunks one after the other, while the files of the next ones are fetched."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from raysal.pool.chunk import Chunk

NEXT = 16
"""Files that are fetched at a time, ahead of their reader: small ones, of which each is a wait for an answer. The cache
keeps twice as many from being deleted."""


def fetched_ahead(chunks: Sequence[Chunk], kind: str) -> Iterator[Chunk]:
    """Chunks in their order. Of a pool in a bucket, threads fetch files ahead of the reader.

    Args:
        chunks: of one pool.
        kind: the files that will be read of each: vectors, items or quarantine.

    Yields:
        Each chunk, when its file is here. What is wrong with a file, its reader finds.
    """
    if not any(chunk.is_fetched for chunk in chunks[:1]):
        yield from chunks
        return
    helpers = ThreadPoolExecutor(min(NEXT, len(chunks)), thread_name_prefix="raysal-fetch")
    coming: deque[Future[Any]] = deque()
    try:
        for place, chunk in enumerate(chunks):
            for later in chunks[place + len(coming) : place + NEXT]:
                coming.append(helpers.submit(later.check_bytes, kind))
            coming.popleft().exception()  # is raised again where the chunk is read
            yield chunk
    finally:
        helpers.shutdown(wait=False, cancel_futures=True)
