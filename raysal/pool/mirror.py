"""A pool in a bucket, and the directory on this machine that stands for it: its mirror.

The mirror is a pool directory that holds the records: the manifest, commit records and generations. `sync` brings them
from the bucket. All else is fetched when it is first read, into the cache of objects (`raysal.buckets.cached`), which
has a limit. So everything that reads a pool takes a mirror for one. What is derived of a pool lies in the mirror alone:
the key index and the indexes.

    .bucket.json     the URL; a directory with this file is a mirror (sealed)
    .objects.json    the last listing of the bucket: name, size, etag and time of each object

Writes go to the bucket first and to the mirror then, in the order in which the code makes them: so the laws of a
directory hold for the bucket, whenever a writer is killed. Nothing is renamed there. A file of a chunk has the digest
of its bytes in its name and counts when the record names it; every other object is written only over the version that
the writer knows, or only if it is absent. So of two writers one finds that it is not alone, and nothing is lost.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from raysal.buckets import Bucket, Object, cached
from raysal.buckets.cache import cache_folder, forget, keep
from raysal.buckets.lease import Lease
from raysal.errors import BucketError, Damaged, NotNow, Taken
from raysal.messages import call_by_place
from raysal.pool.files import IntactFile, PoolFiles, facts_of_file
from raysal.pool.intact import INTACT
from raysal.store import fsync_path, locked, read_sealed, temporary_name, write_file, write_sealed

MARKER, LISTING = ".bucket.json", ".objects.json"
RECORDS = ("", "commits", "generations")
"""The folders of the records."""
GENERATIONS = "generations/"
OWN = ("keys", "index", ".")
"""How names begin of what lies in the mirror alone."""
AT_ONCE = 32
"""Records that are fetched at a time: each is a wait for an answer."""
SYNCS = 10
"""How often a pool is listed where it changes meanwhile."""


class Mirror(PoolFiles):
    """The files of a pool in a bucket. One object stands for a mirror in a process: `mirror_at` gives it."""

    fetched = True

    def __init__(self, directory: Path, bucket: Bucket, mark: str) -> None:
        super().__init__(directory)
        self.bucket, self._mark = bucket, mark
        self._lease: Lease | None = None
        self._own: dict[str, Object | None] = {}
        """What this process wrote (None: deleted) since the listing."""
        self._listed: tuple[object, dict[str, Object]] = (None, {})
        self._guard = threading.Lock()

    @property
    def place(self) -> str:
        """The URL."""
        return self.bucket.url

    def where(self, name: str) -> str:
        """The URL of an object."""
        return self.bucket.url_of(name)

    # -- reading ------------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Bring the records of the pool as it is now. It costs one listing, and a request for each new record.

        Generations are listed before all else and at the end. If none came between, the records that the newest one
        names are in the listing: they were written before it, and are deleted only after a later one.

        Raises:
            BucketError: the bucket cannot be listed or read, or does not stop changing.
        """
        with _alone(self.directory):
            for _ in range(SYNCS):
                before = {found.name for found in self.bucket.list(GENERATIONS)}
                listed = {found.name: found for found in self.bucket.list()}
                if {name for name in listed if name.startswith(GENERATIONS)} == before and self._take(listed):
                    return
        raise BucketError(self.place, "did not stop changing while it was read", "run the same command again")

    def _take(self, listed: dict[str, Object]) -> bool:
        """Let the mirror hold the records of a listing; false if one of them changed meanwhile."""
        known = self.known()
        stale = [
            found for name, found in listed.items() if _is_record(name) and not self._is_here(found, known.get(name))
        ]
        for folder in {os.path.dirname(found.name) for found in stale}:
            (self.directory / folder).mkdir(exist_ok=True)
        try:
            if stale:
                with ThreadPoolExecutor(min(AT_ONCE, len(stale))) as helpers:
                    list(helpers.map(self._bring, stale))
        except BucketError as error:
            if error.reason in ("absent", "changed"):
                return False
            raise
        for folder in RECORDS:
            for path in (self.directory / folder).glob("*.json"):
                name = path.relative_to(self.directory).as_posix()
                if _is_record(name) and name not in listed:
                    path.unlink(missing_ok=True)
        self._own.clear()
        self._save(listed)
        return True

    def _is_here(self, found: Object, known: Object | None) -> bool:
        """Whether the mirror surely has a record in the version that was listed: without etags that is never sure."""
        try:
            size = (self.directory / found.name).stat().st_size
        except OSError:
            return False
        same = known is not None and found.etag is not None and known.etag == found.etag
        return same and size == found.size

    def _bring(self, found: Object) -> None:
        content = self.bucket.read(found.name, etag=found.etag, size=found.size)
        path = self.directory / found.name
        temporary = temporary_name(path, f"-{secrets.token_hex(4)}")
        temporary.write_bytes(content)  # not flushed: what a crash leaves has another size, and is brought again
        os.utime(temporary, ns=(found.changed_ns, found.changed_ns))
        os.replace(temporary, path)

    def known(self) -> dict[str, Object]:
        """The objects of the bucket, as they were listed last, and as this process wrote them since."""
        with self._guard:
            objects = {**self._listing(), **self._own}
            return {name: found for name, found in objects.items() if found is not None}

    def _object(self, name: str) -> Object | None:
        """The object that is known by a name."""
        with self._guard:
            return self._own[name] if name in self._own else self._listing().get(name)

    def _listing(self) -> dict[str, Object]:
        """The last listing, which another process of this machine may have made."""
        try:
            status = os.stat(self.directory / LISTING)
            version = status.st_ino, status.st_mtime_ns
            if self._listed[0] != version:
                rows = json.loads((self.directory / LISTING).read_bytes())
                self._listed = version, {row[0]: Object(*row) for row in rows}
        except (OSError, ValueError, TypeError):
            self._listed = None, {}
        return self._listed[1]

    def _remember(self, name: str, found: Object | None) -> None:
        """Note what this process wrote or deleted."""
        with self._guard:
            self._own[name] = found

    def _save(self, objects: Mapping[str, Object]) -> None:
        content = json.dumps([list(found) for found in objects.values()]).encode("utf-8", "surrogatepass")
        write_file(self.directory / LISTING, lambda path: path.write_bytes(content))

    def has(self, name: str) -> bool:
        """Whether there was such an object when the pool was synced, or was written since."""
        return super().has(name) if _is_record(name) else self._object(name) is not None

    def find(self, name: str) -> Path:
        """A record in the mirror, or a file of the cache; fetched if it is not here."""
        found = None if _is_record(name) else self._object(name)
        return super().find(name) if found is None else cached(self.bucket, found)

    def sizes(self, folder: str) -> Mapping[str, int]:
        """The objects of a folder, as they were listed last and written since."""
        start = f"{folder}/"
        return {name[len(start) :]: found.size for name, found in self.known().items() if name.startswith(start)}

    def top(self) -> frozenset[str]:
        """As of a directory; folders are those that hold objects."""
        return frozenset(name.partition("/")[0] for name in self.known())

    def check_size(self, name: str, size: int, fix: str) -> None:
        """As of a directory: by the listing, which is made again where it says otherwise."""
        if (found := self._object(name)) is None or found.size != size:
            self.sync()  # it may be new, of a worker of Ray
            found = self._object(name)
        if found is None:
            raise Damaged(self.where(name), "the object is missing", fix)
        if found.size != size:
            raise Damaged(self.where(name), f"{found.size} bytes, its record says {size}", fix)

    def intact(self, name: str, entry: Mapping[str, Any], fix: str, *, anew: bool = False) -> IntactFile:
        """As of a directory. A copy of this machine that went bad is fetched again; `anew` fetches it in any case."""
        wanted, sha256 = Object(name, entry["bytes"], None, 0), entry["sha256"]
        if anew:
            forget(self.bucket, wanted, sha256)
        try:
            for _ in range(2):
                path = cached(self.bucket, wanted, sha256)
                try:
                    return IntactFile(path, INTACT.check(path, sha256, fix, anew=anew))
                except Damaged:
                    forget(self.bucket, wanted, sha256)
        except BucketError as error:
            if error.reason in ("absent", "changed"):
                raise Damaged(error.where, error.problem, fix) from None
            raise
        raise Damaged(path, "the disk does not keep what is written", "set RAYSAL_CACHE to a folder on another one")

    # -- writing ------------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        """As of a directory, for all machines. The mirror has the records of now in the block."""
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.directory, "pool"))  # the other processes of this machine
            except NotNow as busy:
                raise NotNow(self.place, busy.problem, busy.fix) from None
            lease = stack.enter_context(Lease(self.bucket, f"{self._mark} {os.uname().nodename}", "pool"))
            self.sync()
            self._lease = lease
            try:
                yield
                self._delete_leftovers()
            finally:
                self._lease = None
                with _alone(self.directory):
                    self._save(self.known())
                    self._own.clear()

    def write(self, name: str, write: Callable[[Path], object]) -> dict[str, Any]:
        """Write an object, over the version that is known or where none is; only who has locked the pool may.

        Returns:
            Its `bytes` and `sha256`.

        Raises:
            NotNow: another process wrote it meanwhile, or took over the lock.
        """
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        temporary = temporary_name(path, f"-{secrets.token_hex(4)}")
        try:
            write(temporary)
            facts = facts_of_file(temporary)
            with _alone(self.directory):  # a process that syncs would take a record for deleted
                found = self._put(name, temporary)
                if _is_record(name):
                    fsync_path(temporary)
                    os.replace(temporary, path)
                else:
                    keep(self.bucket, found, None, temporary)
        finally:
            temporary.unlink(missing_ok=True)
        return facts

    def write_record(self, name: str, record: Mapping[str, Any]) -> None:
        """Write a sealed JSON record, likewise."""
        self.write(name, lambda path: write_sealed(path, record))

    def _put(self, name: str, path: Path) -> Object:
        """Write an object, if the bucket is as this process knows it."""
        self._check_lock()
        known = self._object(name)
        try:
            etag = None if known is None else known.etag
            found = self.bucket.write(name, path, only_if_absent=known is None, etag=etag)
        except Taken as error:
            problem = "another process wrote it meanwhile"
            raise NotNow(error.where, problem, "see who writes this pool, and run the same command again") from None
        self._remember(name, found)
        return found

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; only who has locked the pool may. One that is not there is no error."""
        there = [name for name in names if self._object(name) is not None or (_is_record(name) and self.has(name))]
        if not there:
            return
        self._check_lock()
        with _alone(self.directory):
            self.bucket.delete(there)
            for name in there:
                self._remember(name, None)
                if _is_record(name):
                    (self.directory / name).unlink(missing_ok=True)

    def stage(self, temporary: Path, facts: Mapping[str, Any], name: Callable[[str], str]) -> tuple[str, Any]:
        """As of a directory. The file lies in the bucket from here on, under a name that no other content has."""
        unique = name(facts["sha256"])
        found = self.bucket.write(unique, temporary)
        self._remember(unique, found)
        keep(self.bucket, found, facts["sha256"], temporary)
        return unique, {"temporary": None, **facts}

    def _delete_leftovers(self) -> None:
        """Delete what writers that were stopped left of chunks that have a record, which does not name it."""
        named: dict[str, set[str]] = {}
        for path in (self.directory / "commits").glob("*.json"):
            named[path.stem] = set(read_sealed(path)["files"])
        folders = {os.path.dirname(name) for names in named.values() for name in names}
        left = []
        for name in self.known():
            folder, _, file = name.rpartition("/")
            number = re.split(r"[-.]", file, maxsplit=1)[0]
            if folder in folders and number in named and name not in named[number]:
                left.append(name)
        self.delete(left)

    def _check_lock(self) -> None:
        """Refuse to write what belongs to the one who has locked the pool."""
        if self._lease is None:
            raise PermissionError(f"{self.place}: only who has locked the pool may write it")
        self._lease.check()


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Let one thread of one process of this machine change a mirror."""
    descriptor = os.open(directory / ".sync", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_record(name: str) -> bool:
    """Whether mirrors hold an object themselves."""
    folder, _, file = name.rpartition("/")
    return folder in RECORDS and file.endswith(".json") and not file.startswith(".")


_MIRRORS: dict[str, Mirror] = {}
"""Those of this process: who writes holds a lock there."""
_LOCK = threading.Lock()


def mirror_at(directory: Path) -> Mirror | None:
    """The mirror that a directory is; None if it is none. It costs some microseconds."""
    marker = os.path.join(directory, MARKER)
    if not os.path.exists(marker):
        return None
    with _LOCK:
        path = os.path.abspath(directory)
        if path not in _MIRRORS:
            said = read_sealed(Path(marker), "delete the directory: it is made again")
            _MIRRORS[path] = Mirror(Path(path), Bucket(said["url"]), said["mark"])
            call_by_place(path, _MIRRORS[path].place, OWN)
        return _MIRRORS[path]


def mirror_of(url: str) -> Mirror:
    """The mirror of a pool in a bucket on this machine, made if it is not there. Nothing is brought yet.

    Args:
        url: of the pool.

    Returns:
        The mirror.

    Raises:
        BucketError: it is no URL of a bucket.
        OSError: the cache cannot be written.
    """
    bucket = Bucket(url)
    name = re.sub(r"[^A-Za-z0-9.]+", "-", bucket.url).strip("-.")[:80]
    digest = hashlib.sha256(bucket.url.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    directory = (cache_folder() / "pools" / f"{name}-{digest}").absolute()
    if (found := mirror_at(directory)) is not None:
        return found
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(directory):
        if not (directory / MARKER).exists():
            write_sealed(directory / MARKER, {"url": bucket.url, "mark": secrets.token_hex(8)})
    found = mirror_at(directory)
    assert found is not None
    return found
