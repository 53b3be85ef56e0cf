"""Queries for what a run looks for: examples that are no items, embedded once and kept with the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.config import LikeConfig
from raysal.embedding.queries import as_vectors, encoded, image_of
from raysal.errors import ConfigError, FingerprintMismatch
from raysal.pool import Pool
from raysal.rounds.directory import LIKE, RunDir
from raysal.store import read_sealed, write_sealed


def embed_queries(run: RunDir, like: LikeConfig, pool: Pool) -> Mapping[str, Any] | None:
    """The queries of a run as vectors, for `keep_queries`. Writes nothing, so that a run with a wrong one is not begun.

    Args:
        run: the run directory, there or not.
        like: what its config looks for.
        pool: its pool, whose encoder is used.

    Returns:
        The record to keep; None where there are none, or the run has it already.

    Raises:
        ConfigError: a file cannot be read, or holds no vectors of the pool's length.
        EncoderError, FingerprintMismatch, BadItem: as `raysal.search` raises them.
    """
    if (run.path / LIKE).exists() or not (like.text or like.image or like.vectors):
        return None
    names = [*map(repr, like.text), *map(str, like.image)]
    found = [encoded(pool, "text", repr(text), text, None) for text in like.text]
    found += [encoded(pool, "image", *image_of(path), None) for path in like.image]
    if like.vectors is not None:
        found.append(as_vectors(_loaded(like.vectors), pool.dim, pool.scale).astype(np.float16).astype(np.float32))
        names += [f"{like.vectors} row {row}" for row in range(len(found[-1]))]
    vectors = np.concatenate(found)
    if not np.isfinite(vectors).all():
        raise ConfigError("like.vectors", "they are far larger than the pool's vectors", "check their unit")
    return {"space": pool.vector_space, "queries": names, "vectors": vectors.tolist()}


def keep_queries(run: RunDir, record: Mapping[str, Any] | None) -> None:
    """Write what `embed_queries` gave into a run that is begun, in one step."""
    if record is not None:
        write_sealed(run.path / LIKE, record)


def queries_of(run: RunDir, pool: Pool) -> NDArray[np.float32] | None:
    """The queries of a run as vectors of its pool.

    Args:
        run: the run directory.
        pool: its pool.

    Returns:
        float32 [q, d]; None where it has none.

    Raises:
        FingerprintMismatch: they are in another space than this pool.
        Damaged: the file was altered.
    """
    path = run.path / LIKE
    if not path.exists():
        return None
    record = read_sealed(path)
    if record["space"] != pool.vector_space:
        fix = "begin a new run over this pool, and tell it the labels of this one"
        raise FingerprintMismatch(path, "the encoder of the queries", pool.vector_space, record["space"], fix)
    return np.array(record["vectors"], np.float32)


def _loaded(path: Path) -> NDArray[np.generic]:
    """The array in a .npy file."""
    try:
        found: NDArray[np.generic] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigError("like.vectors", f"{path} cannot be read ({error})", "pass a .npy file [q, d]") from None
    return found
