"""Class probabilities from outside, for the start of a run: read, matched with the items by key, and put in place."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.context import RoundContext
from raysal.errors import ConfigError
from raysal.fleet import Fleet
from raysal.pool import Pool
from raysal.rounds.probability_tables import FIELD, SHOWN, open_table, refuse_absent, refuse_twice, some
from raysal.scoring.given_probabilities import GivenProbabilities, place_given
from raysal.strategies.base import Selector


def read_probabilities(pool: Pool, given: Any) -> GivenProbabilities:
    """Read class probabilities, and match them with the items of a pool by key.

    One streaming pass over the items. Memory: the table, and 8 + 4 C bytes for each of its rows.

    Args:
        pool: whose items the keys name.
        given: a file, a folder of predictions, or a frame: of pandas, Polars or Arrow, or a mapping of columns.

    Returns:
        The probabilities by id. Items of the pool may lack some; `place` names them.

    Raises:
        ConfigError: it cannot be read; a key is missing, twice or not in the pool; or the numbers of an item are no
            probabilities. It names the items.
        PoolError, Damaged: a folder holds no predictions, or damaged ones.
    """
    table = open_table(given)
    pieces = list(table.pieces)
    keys = pa.concat_arrays([pa.array([], pa.string()), *(piece.keys for piece in pieces)])
    values = np.concatenate([np.empty((0, len(table.classes))), *(piece.values for piece in pieces)])
    counts = keys.value_counts()
    refuse_twice(counts.field("values").filter(pa.array(counts.field("counts").to_numpy() > 1)).to_pylist())
    ids = _ids_of(pool, keys)
    order = np.argsort(ids)
    ids, values = ids[order], values[order].astype(np.float32)
    digest = hashlib.sha256("\x1f".join(table.classes).encode("utf-8", "surrogatepass"))
    digest.update(ids.astype("<i8").tobytes())
    digest.update(values.astype("<f4").tobytes())
    return GivenProbabilities(ids=ids, values=values, classes=table.classes, digest=digest.hexdigest())


def place(fleet: Fleet, context: RoundContext) -> None:
    """Put the probabilities that count beside the data: none where there is a head. One round trip.

    Args:
        fleet: the pool's partitions, in a program from which what must not be offered was taken out.
        context: what the round knows.

    Raises:
        ConfigError: an item that may be offered has none; it names the first ones.
    """
    if context.given is None or context.head is not None:
        return
    lacking = fleet.each(place_given, context.given)
    if total := sum(part.total for part in lacking):
        ids = np.concatenate([part.ids for part in lacking])[:SHOWN].tolist()
        keys = context.pool.rows_where("id", ids, ["key"])["key"].to_pylist()
        items = "1 item that may be offered has" if total == 1 else f"{total:,} items that may be offered have"
        raise ConfigError(FIELD, f"{items} none: {some(keys, total)}", "give a row for every item of the pool")


def check_strategy(name: str, selector: Selector) -> None:
    """Refuse probabilities for a strategy that cannot go by them.

    Args:
        name: what the strategy is called.
        selector: carries it out.

    Raises:
        ConfigError: it cannot.
    """
    if not selector.takes_probabilities:
        fix = "use one that can, as margin or class_balanced:typiclust (alone it is class_balanced:badge)"
        raise ConfigError(FIELD, f"the strategy {name!r} cannot go by them", fix)


def _ids_of(pool: Pool, keys: pa.Array) -> NDArray[np.int64]:
    """The ids of items by key, [n]. One streaming pass over the items."""
    import pyarrow.compute as pc

    ids = np.full(len(keys), -1, np.int64)
    for items in pool.items(["id", "key"]):
        found = pc.index_in(items["key"].combine_chunks().cast(pa.string()), value_set=keys)
        there = found.is_valid().to_numpy(zero_copy_only=False)
        ids[found.drop_null().to_numpy()] = items["id"].to_numpy()[there]
    refuse_absent(pool, keys.filter(pa.array(ids < 0)).to_pylist())
    return ids
