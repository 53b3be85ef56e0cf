"""More like this: the items of a pool nearest to an item of it, a text, an image or a vector.

    raysal.search("pool", key="beach/0042.jpg", k=10)
    raysal.search("pool", image="found.jpg", columns=["label"])

Texts and images go through the pool's own encoder, made again from what the pool's manifest says of it, and refused
if its fingerprint is another one: vectors of two models cannot be compared.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arguments import Backend, as_place, as_whole_number
from raysal.arrays import texts_of
from raysal.config import FleetConfig
from raysal.embedding.queries import as_vectors, encoded, image_of
from raysal.errors import ConfigError, UnknownName
from raysal.fleet import Fleet, exclude, open_fleet, vectors_of
from raysal.pool import Pool, open_pool
from raysal.scoring.sweep import Search, SweepRequest, sweep
from raysal.scoring.top_k import best_of

if TYPE_CHECKING:
    from raysal.embedding.base import Encoder
    from raysal.index import Index
    from raysal.scoring.top_k import BestItems

OWN = ("rank", "key", "similarity", "uri")
"""Columns of every result, before those asked for."""


def search(
    pool: str | Path | Pool,
    *,
    key: str | Sequence[str] | None = None,
    text: str | None = None,
    image: str | Path | bytes | NDArray[np.uint8] | None = None,
    vector: Any = None,
    k: int = 10,
    exact: bool = False,
    columns: Sequence[str] = (),
    encoder: Encoder | None = None,
    partitions: int | None = None,
    backend: Backend = "local",
    service: str | None = None,
) -> pa.Table:
    """The k items of a pool nearest to what is asked for, best first.

    Exactly one of `key`, `text`, `image` and `vector` is given. Of several keys or vectors, an item counts as near as
    it is to the nearest of them. Items asked for by key are not among the results.

    The similarity is the cosine, or in a pool of Euclidean distances minus the squared distance, of vectors as they
    were given, whatever the pool's scale. Ties go to the lower id. The pool's index is used where it covers the whole
    pool; otherwise the search is one pass over the pool. The same for any `partitions` and `backend`.

    Args:
        pool: an embedded pool, its path or its URL.
        key: an item of the pool, or several.
        text: a text, in a pool of texts, or of an encoder that encodes both, as `open_clip`.
        image: a file, its bytes, or pixels uint8 [h, w, 3], in a pool of images.
        vector: numbers [d], or several [m, d], of the magnitude that the pool's vectors were given with: a list, an
            array, a tensor, a Series, a sparse matrix.
        k: how many items; with k beyond the pool, all items come.
        exact: whether to leave the index alone.
        columns: carried columns to add to the result.
        encoder: for a pool embedded by an encoder of one's own, which cannot be made again from its name.
        partitions: parts that the pool is cut into; by default one, and with Ray one per CPU.
        backend: this process, or Ray.
        service: the name of a running `raysal index serve`, whose partitions are used.

    Returns:
        The columns rank (from 1), key, similarity, uri, and `columns`. The metadata of the table's schema say under
        `found` whether the index was used, and if not, why.

    Raises:
        ConfigError: not exactly one thing is asked for, or an argument is of the wrong type or out of range.
        UnknownName: there is no such backend.
        LabelError: a key is not in the pool.
        EncoderError: the pool's items are of another kind, or its encoder cannot be made again, or fails.
        FingerprintMismatch: the encoder is not the one the pool was embedded by.
        BadItem: the text or image cannot be embedded.
        PoolError: the pool cannot be opened, or has no such column.
        Damaged: the pool or its index was altered.
    """
    k = as_whole_number("k", k, 1)
    parts = 0 if partitions is None else as_whole_number("partitions", partitions, 1)
    if backend not in ("local", "ray"):
        raise UnknownName("backend", backend, ["local", "ray"])
    asked: dict[str, Any] = {"key": key, "text": text, "image": image, "vector": vector}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) != 1:
        found = " and ".join(given) if given else "nothing"
        raise ConfigError("search", f"{found} to search for", "give exactly one of key, text, image (Python: vector)")
    pool = pool if isinstance(pool, Pool) else open_pool(as_place("pool", pool))
    names = carried(pool, columns)
    ids, vectors = np.empty(0, np.int64), np.empty((0, pool.dim), np.float32)
    if key is not None:
        ids = np.array(sorted(pool.ids_of(keys_of(key)).values()), np.int64)
    elif vector is not None:
        vectors = as_vectors(vector, pool.dim, pool.scale)
    elif text is not None:
        vectors = encoded(pool, "text", "the text", text, encoder)
    else:
        vectors = encoded(pool, "image", *image_of(image), encoder)
    config = FleetConfig(backend="ray" if service else backend, partitions=parts, service=service)
    with open_fleet(pool, config) as fleet:
        fleet.reset()
        if len(ids):
            found_here = fleet.each(vectors_of, ids)
            vectors = np.concatenate([some for _, some in found_here])
        fleet.each(exclude, ids)
        nearest, how = nearest_to(fleet, pool, vectors, k, exact)
    return table_of(pool, nearest, names).replace_schema_metadata({"found": how})


def nearest_to(fleet: Fleet, pool: Pool, vectors: NDArray[np.float32], k: int, exact: bool) -> tuple[BestItems, str]:
    """The k available items nearest to any of some vectors, and how they were found.

    Args:
        fleet: the pool's partitions.
        pool: the pool.
        vectors: float32 [m, d].
        k: how many items.
        exact: whether to leave the index alone.

    Returns:
        Ids and similarities, best first; and in words whether the index was used, and if not, why.

    Raises:
        Damaged, FingerprintMismatch, PoolError: the pool's index cannot be used.
    """
    from raysal.index import current_generation, with_index

    if exact or not current_generation(pool.path):
        return nearest_exactly(fleet, vectors, k), "exact"
    if importlib.util.find_spec("faiss") is None:
        return nearest_exactly(fleet, vectors, k), "exact (faiss is not installed to read the index)"
    return with_index(pool, lambda index: nearest_by(fleet, pool, vectors, k, index))


def nearest_exactly(fleet: Fleet, vectors: NDArray[np.float32], k: int) -> BestItems:
    """The k available items nearest to any of the vectors [m, d], by one pass over the pool."""
    return sweep(fleet, None, SweepRequest(searches=(Search(anchors=vectors, nearest=k),))).searches[0].nearest


def nearest_by(fleet: Fleet, pool: Pool, vectors: NDArray[np.float32], k: int, index: Index) -> tuple[BestItems, str]:
    """As `nearest_to`, by an index if it lacks nothing of the pool."""
    from raysal.index import coverage, index_neighbours

    if lacking := coverage(pool, index).missing_rows:
        return nearest_exactly(fleet, vectors, k), f"exact (the index lacks {lacking:,} rows)"
    # What is among the k nearest to any vector is among the k nearest to one of them.
    found = index_neighbours(fleet, index, vectors, k)
    ids = np.concatenate([some for some, _ in found])
    values = np.concatenate([some for _, some in found])
    best = np.lexsort((-values, ids))
    best = best[np.unique(ids[best], return_index=True)[1]]  # of each item, its similarity to the nearest
    return best_of(ids[best], values[best], k, ties=None), f"index {index.label}"


def table_of(pool: Pool, nearest: BestItems, columns: Sequence[str]) -> pa.Table:
    """A result as people see it. One streaming pass over the items."""
    ids, similarities = nearest
    items = pool.rows_where("id", ids.tolist(), ["id", "key", "uri", *columns])
    place = np.empty(len(ids), np.int64)
    place[np.argsort(ids)] = np.arange(len(ids))  # `rows_where` answers in id order
    # What the pool holds has its scale; a squared distance has it twice, the cosine not at all.
    units = pool.scale**2 if pool.metric == "l2" else 1.0
    items = items.take(place)
    result = {
        "rank": pa.array(range(1, len(ids) + 1), pa.int64()),
        "key": items["key"],
        "similarity": pa.array(similarities.astype(np.float64) / units, pa.float64()),
        "uri": items["uri"].cast(pa.string()),
    }
    return pa.table({**result, **{name: items[name] for name in columns}})


def carried(pool: Pool, columns: Sequence[str]) -> list[str]:
    """The columns to add to a result, each once.

    Args:
        pool: the pool.
        columns: names as they were asked for.

    Returns:
        Those that a result does not have anyway.

    Raises:
        ConfigError: a result has a column of that name of its own, or these are not names.
        PoolError: the pool has no such column.
    """
    if isinstance(columns, str) or not all(isinstance(name, str) for name in columns):
        raise ConfigError("columns", f"{columns!r} is not a list of names", "for example ['label']")
    for name in {"rank", "similarity"}.intersection(columns):
        raise ConfigError("columns", f"every result has a {name!r} of its own", "leave it out")
    names = [name for name in dict.fromkeys(columns) if name not in OWN]
    pool.items(names)  # refuses a column that is not there before any work is done
    return names


def keys_of(key: str | Sequence[str]) -> list[str]:
    """The keys that were asked for, at least one.

    Args:
        key: a key, or several.

    Returns:
        The keys as a list.

    Raises:
        ConfigError: there is none, or they are no column of texts.
    """
    keys = [key] if isinstance(key, str) else texts_of("key", key)
    if not keys:
        raise ConfigError("key", "an empty list of keys", "name at least one item")
    return keys
