"""Writers of a bucket that are stopped: by a network that fails for good after some writes, or by SIGKILL."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

from object_store import ObjectStore
from warm import child, ended

from raysal.errors import BucketError


@contextmanager
def cut_off_after(store: ObjectStore, writes: int) -> Iterator[list[str]]:
    """Let nothing through after so many objects were written or deleted. The answer to the last is lost, too.

    Yields:
        What was written or deleted in the block, in order.
    """
    names: list[str] = []

    def watch(method: str) -> None:
        def call() -> None:
            if len(names) < writes:
                names.append(f"{method} {store.requests(method)[-1][1]}")
                watch(method)
            if len(names) == writes:
                store.fail("busy", times=-1)

        store.before(method, "*", call)

    watch("PUT")
    watch("POST")
    try:
        yield names
    except BucketError:
        assert len(names) == writes
    finally:
        store.proxy.forget()


def started(work: Callable[..., object], *args: Any) -> BaseProcess:
    """A process that does work in the environment of now."""
    process = child(work, *args)
    process.start()
    return process


def killed_at(write: int, work: Callable[..., object], *args: Any) -> bool:
    """Do work in a process that is killed behind the n-th object that it writes.

    Returns:
        Whether it wrote so many.
    """
    code = ended(_until, write, work, args)
    assert code in (-signal.SIGKILL, 0), code
    return code != 0


def _until(write: int, work: Callable[..., object], args: tuple[Any, ...]) -> None:
    from raysal.buckets import Bucket

    left, original = write, Bucket.write

    def writing(self: Bucket, *given: Any, **named: Any) -> Any:
        nonlocal left
        found = original(self, *given, **named)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    Bucket.write = writing  # type: ignore[method-assign]
    work(*args)
