"""Queries for what a run looks for: examples that are no items, embedded for its pool and kept with the run.

A run keeps the pictures, too, so that it can go on over a pool of another encoder, whatever became of their files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.config import LikeConfig
from raysal.embedding.queries import as_vectors, encoded, image_of
from raysal.errors import ConfigError, Damaged, FingerprintMismatch
from raysal.pool import Pool
from raysal.rounds.directory import LIKE, LIKE_FILES, RESTORE, RunDir
from raysal.store import read_sealed, write_file, write_sealed


@dataclass(frozen=True, kw_only=True)
class Queries:
    """The queries of a run in the space of a pool."""

    record: Mapping[str, Any]
    """What `like.json` says: their space, names, vectors, and the sha256 of each picture."""
    pictures: Mapping[str, bytes]
    """{path in the run directory: its content}"""

    @property
    def vectors(self) -> NDArray[np.float32]:
        """They themselves [q, d]."""
        return np.array(self.record["vectors"], np.float32)


def embed_queries(run: RunDir, like: LikeConfig, pool: Pool) -> Queries | None:
    """The queries of a run as vectors, for `keep_queries`. Writes nothing, so that a run with a wrong one is not begun.

    They are embedded when the run begins, and again when it meets a pool of another encoder.

    Args:
        run: the run directory, there or not.
        like: what its config looks for.
        pool: its pool, whose encoder is used.

    Returns:
        What to keep; None where there are none, or the run has them for this pool already.

    Raises:
        ConfigError: a file cannot be read, or holds no vectors of the pool's length.
        FingerprintMismatch: vectors are of another space than the pool; or its encoder is not what it was.
        EncoderError, BadItem: as `raysal.search` raises them.
        Damaged: what the run has kept was altered.
    """
    if not (like.text or like.image or like.vectors):
        return None
    kept = read_sealed(run.path / LIKE) if (run.path / LIKE).exists() else None
    if kept is not None and kept["space"] == pool.vector_space:
        return None
    if kept is not None and like.vectors is not None:
        fix = "begin a new run over this pool with vectors of its own space, and tell it the labels of this one"
        raise FingerprintMismatch(like.vectors, "the space of its vectors", pool.vector_space, kept["space"], fix)
    pictures = {
        f"{LIKE_FILES}/{number}{path.suffix.lower()}": (path, _picture(run, kept, number, path))
        for number, path in enumerate(like.image)
    }
    names = [*map(repr, like.text), *map(str, like.image)]
    found = [encoded(pool, "text", repr(text), text, None) for text in like.text]
    found += [encoded(pool, "image", str(path), content, None) for path, content in pictures.values()]
    if like.vectors is not None:
        found.append(as_vectors(_loaded(like.vectors), pool.dim, pool.scale).astype(np.float16).astype(np.float32))
        names += [f"{like.vectors} row {row}" for row in range(len(found[-1]))]
    vectors = np.concatenate(found)
    if not np.isfinite(vectors).all():
        raise ConfigError("like.vectors", "they are far larger than the pool's vectors", "check their unit")
    copies = {name: content for name, (_, content) in pictures.items()}
    files = {name: hashlib.sha256(content).hexdigest() for name, content in copies.items()}
    record = {"space": pool.vector_space, "queries": names, "vectors": vectors.tolist(), "pictures": files}
    return Queries(record=record, pictures=copies)


def _picture(run: RunDir, kept: Mapping[str, Any] | None, number: int, path: Path) -> bytes:
    """The content of a picture: what the run has kept, or else its file."""
    copies = [] if kept is None else list(kept.get("pictures", {}).items())
    if copies:
        name, sha256 = copies[number]
        place = run.path / name
        content = place.read_bytes() if place.is_file() else b""
        if hashlib.sha256(content).hexdigest() != sha256:
            raise Damaged(place, f"is not the picture that {LIKE} names", RESTORE)
        return content
    if kept is not None and not path.is_file():  # of an earlier version, which kept no copies
        problem = f"{path} is gone, and this pool has another encoder than the one it was embedded by"
        raise ConfigError("like.image", problem, "put it back, or go on over the pool of before (--pool)")
    return bytes(image_of(path)[1])


def keep_queries(run: RunDir, queries: Queries | None) -> None:
    """Write what `embed_queries` gave into a run that is begun. Its `like.json` comes last, in one step."""
    if queries is None:
        return
    for name, content in queries.pictures.items():
        place = run.path / name
        place.parent.mkdir(exist_ok=True)
        if not place.is_file() or place.read_bytes() != content:
            write_file(place, partial(Path.write_bytes, data=content))
    write_sealed(run.path / LIKE, queries.record)


def queries_of(run: RunDir, like: LikeConfig, pool: Pool) -> NDArray[np.float32] | None:
    """The queries of a run as vectors of a pool. Those that the run has for another encoder are embedded anew.

    Args:
        run: the run directory.
        like: what its config looks for.
        pool: its pool, or one that its labels are matched with.

    Returns:
        float32 [q, d]; None where it has none.

    Raises:
        FingerprintMismatch, ConfigError, EncoderError, Damaged: as `embed_queries`.
    """
    found = embed_queries(run, like, pool)
    if found is not None:
        return found.vectors
    path = run.path / LIKE
    return np.array(read_sealed(path)["vectors"], np.float32) if path.exists() else None


def _loaded(path: Path) -> NDArray[np.generic]:
    """The array in a .npy file."""
    try:
        found: NDArray[np.generic] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigError("like.vectors", f"{path} cannot be read ({error})", "pass a .npy file [q, d]") from None
    return found
