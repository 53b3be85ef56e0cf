"""Where curation keeps what it derives of a pool: in the pool, or beside it where the pool cannot be written."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from raysal.buckets.cache import FOLDER as CACHE
from raysal.buckets.cache import cache_folder
from raysal.errors import PoolError, RaysalWarning
from raysal.pool import Pool
from raysal.store import digest_of

DERIVED = "derived"
"""The folder in the cache."""
_LETTERS = 16


def home_of(pool: Pool) -> Path:
    """The directory in which the folders of curation lie.

    Args:
        pool: the items.

    Returns:
        That of the pool. Where this process may not write there, as on a disk that is mounted to be read, one in the
        cache of this machine (`$RAYSAL_CACHE`, by default `~/.cache/raysal`), which need not be there.
    """
    if os.access(pool.path, os.W_OK | os.X_OK):
        return pool.path
    place = pool.path.resolve()
    return cache_folder().absolute() / DERIVED / f"{place.name}-{digest_of({'place': str(place)})[:_LETTERS]}"


def make_home_of(pool: Pool) -> Path:
    """As `home_of`, where something is to be written now; it warns where that is not the pool.

    Args:
        pool: the items.

    Returns:
        The directory; it is there.

    Raises:
        PoolError: the pool cannot be written, and the cache neither.
    """
    home = home_of(pool)
    if home != pool.path:
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"cannot be written, nor can {home} ({error.strerror})"
            raise PoolError(pool.path, problem, f"set {CACHE} to a folder that can be") from None
        words = f"{pool.path} cannot be written: what is found is kept in {home} ({CACHE} names another place)"
        warnings.warn(words, RaysalWarning, stacklevel=3)
    return home
