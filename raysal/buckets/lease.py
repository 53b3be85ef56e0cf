"""Who writes a folder of a bucket: a lock that is an object, and that runs out if nobody renews it.

The object is written only if it is absent, renewed only over the version that its holder wrote, and taken over only
over the version that was found to have run out. So one holder at a time is sure of it, whatever the clocks say: one
that was taken for dead finds another version, and stops before it commits. How old a lock is, the clock of the service
tells: the times at which it wrote two objects are compared.

Who is done writes over his version that the lock has ended, and the object stays. To look and then delete could delete
the lock of another, who took it over in between; and few services delete on a condition.

A lock of a process that ran on this machine, over the same directory, is taken over at once: who asks has locked the
directory, so that process has ended.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from raysal.buckets.base import Object
from raysal.buckets.bucket import Bucket
from raysal.errors import BucketError, NotNow, Taken

NAME = ".writer.json"
"""Of the object. (`.lock` is what locks a directory, and may be copied with it.)"""
SECONDS = 120.0
"""After so long without a renewal a lock may be taken over: longer than the retries of one request (a minute)."""
RENEWALS = 4
"""How often a lock is renewed in that time."""
SLACK_S = 5.0
"""Seconds that are added before a lock counts as run out: services write times in whole seconds."""
ATTEMPTS = 10
"""How often the lock is asked for where it changes between two requests."""


class Lease:
    """The lock on a folder of a bucket, held while the block runs.

    Args:
        bucket: the folder.
        mark: names the directory on this machine that the caller has locked.
        what: what an error calls the folder, as "pool".
        seconds: how long the lock holds without a renewal.
    """

    def __init__(self, bucket: Bucket, mark: str, what: str, seconds: float = SECONDS) -> None:
        self._bucket, self._mark, self._what, self._seconds = bucket, mark, what, seconds
        self._token, self._count = secrets.token_hex(8), 0
        self._held: Object | None = None
        self._renewed = 0.0
        self._lost = False
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="raysal-lease", daemon=True)

    def __enter__(self) -> Self:
        """Take the lock.

        Returns:
            This object.

        Raises:
            NotNow: another process holds it.
            BucketError: the bucket cannot be read or written.
        """
        for _ in range(ATTEMPTS):
            self._renewed = _now()
            with suppress(Taken):
                self._held = self._bucket.write(NAME, self._content(), only_if_absent=True)
                break
            found, said = self._look()
            if found is None:
                continue
            if not (said.get("ended") or said.get("mark") == self._mark or self._has_run_out(found, said)):
                problem = f"another process is at work on this {self._what}: {said.get('holder', 'unknown')}"
                fix = f"wait for it, or stop it; its lock runs out {self._seconds_of(said):.0f} s after its end"
                raise NotNow(self._bucket.url, problem, fix)
            self._renewed = _now()
            with suppress(Taken):
                self._held = self._bucket.write(NAME, self._content(), etag=found.etag)
                break
        else:
            problem = f"several processes ask for this {self._what} at once"
            raise NotNow(self._bucket.url, problem, "run the same command again")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back, if it is held still."""
        self._stop.set()
        self._thread.join()
        with suppress(BucketError):  # then it runs out
            self._write_over(ended=True)

    def check(self) -> None:
        """Make sure that the lock is held.

        Raises:
            NotNow: it ran out, and another process took it over.
            BucketError: it is to be renewed, and the bucket cannot be reached.
        """
        if not self._lost and _now() - self._renewed > self._seconds:
            self._renew()
        if self._lost:
            problem = f"another process took over the lock of this {self._what}, which was not renewed in time"
            raise NotNow(self._bucket.url, problem, "see what it does, and run the same command again")

    def _keep(self) -> None:
        """Renew the lock until it is given back or lost."""
        while not self._stop.wait(self._seconds / RENEWALS) and not self._lost:
            with suppress(BucketError):  # it is tried again, and `check` says so where it matters
                self._renew()

    def _renew(self) -> None:
        self._write_over(ended=False)

    def _write_over(self, ended: bool) -> None:
        """Write over the version that is held; if it is there no more, the lock is lost.

        Where a service tells no versions, only a look tells whose lock is there: it may change behind the look.
        """
        with self._guard:
            if self._lost or self._held is None:
                return
            if self._held.etag is None and not self._is_ours():
                self._lost = True
                return
            for _ in range(ATTEMPTS):
                began = _now()
                with suppress(Taken):
                    self._held = self._bucket.write(NAME, self._content(ended), etag=self._held.etag)
                    self._renewed = began
                    return
                found, said = self._look()
                if found is None or said.get("token") != self._token:
                    break
                self._held = found  # of a renewal that failed here, as no answer came, and was done there
            self._lost = True

    def _is_ours(self) -> bool:
        """Whether the lock that is there is the one of this object."""
        return self._look()[1].get("token") == self._token

    def _content(self, ended: bool = False) -> bytes:
        said: dict[str, Any] = {"token": self._token}
        if ended:
            said |= {"ended": True, "seconds": 0.0}  # an older raysal, which knows no end, finds it run out
        else:
            self._count += 1
            holder = f"process {os.getpid()} on {os.uname().nodename}"
            said |= {"holder": holder, "mark": self._mark, "seconds": self._seconds, "count": self._count}
        return json.dumps(said).encode()

    def _look(self) -> tuple[Object | None, dict[str, Any]]:
        """The lock that is there, and what it says; None if there is none, or another one by now."""
        found = self._bucket.look_at(NAME)
        if found is None:
            return None, {}
        try:
            said = json.loads(self._bucket.read(NAME, etag=found.etag))
        except ValueError:
            said = None
        except BucketError as error:
            if error.reason in ("absent", "changed"):
                return None, {}
            raise
        return found, said if isinstance(said, dict) else {}

    def _has_run_out(self, found: Object, said: dict[str, Any]) -> bool:
        """Whether nobody renewed a lock for long enough, by the clock of the service."""
        clock = f".clock-{self._token}"
        try:
            self._bucket.write(clock, b"")
            now = self._bucket.look_at(clock)
        finally:
            self._bucket.delete([clock])
        return now is not None and (now.changed_ns - found.changed_ns) / 1e9 > self._seconds_of(said) + SLACK_S

    def _seconds_of(self, said: dict[str, Any]) -> float:
        seconds = said.get("seconds")
        return float(seconds) if isinstance(seconds, int | float) and seconds >= 0 else self._seconds


def _now() -> float:
    """Seconds of a clock that goes on while the machine sleeps, as the lock runs out then."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
