"""`raysal.find`: begin a search for the rest of a few examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raysal.arguments import as_path, as_place, as_whole_number
from raysal.pool import Pool
from raysal.rounds.searching import begin_search, labels_of_examples, rest_of, search_config
from raysal.rounds.session import Session
from raysal.types import no_report


def find(
    pool: str | Path | Pool,
    *,
    out: str | Path,
    examples: Sequence[str] | Mapping[str, str] = (),
    others: Sequence[str] = (),
    target: str | Sequence[str] | None = None,
    rest: str | None = None,
    k: int | None = None,
    **fields: Any,
) -> Session:
    """Begin to search a pool for the rest of a few examples, or go on with a search.

    The search is a run (`raysal.Session`) with the strategy `search`. Ask it for batches with `query`, tell it what
    they are with `tell`, show it with `raysal serve`, and write the whole pool in order of the probability with
    `raysal.rank`. Without any example it begins with what is like a query (`like={"image": ["lens.png"]}`), or else
    unlike the rest of the pool.

        with raysal.find("pool", examples=["a.jpg", "b.jpg", "c.jpg"], out="lenses") as session:
            batch = session.query()
            session.tell({key: "positive" if is_lens(key) else "negative" for key in batch.keys})

    Args:
        pool: an embedded pool, its path or its URL.
        out: the run directory; made if it is not there. To begin the same search again adds the examples; what is not
            named then is as the run has it.
        examples: keys of items that are looked for; {key: class} where they are of several classes.
        others: keys of items that are not.
        target: the class that is looked for, or several; `positive` by default.
        rest: what `others` are called, and all else that is not looked for; `negative` by default.
        k: items in a batch; 25 by default.
        fields: further fields of `RunConfig`, as `seed=1`, `rounds={"holdout": 0}`.

    Returns:
        The session; close it after use.

    Raises:
        LabelError: an example is not in the pool. No run directory is left where none was.
        ConfigError: a field is unknown or out of range, or the examples contradict each other.
        RunError: the run there is another one.
        PoolError: the pool cannot be opened.
    """
    path = pool.place if isinstance(pool, Pool) else as_place("pool", pool)
    names = (target,) if isinstance(target, str) else target
    out = as_path("out", out)
    size = None if k is None else as_whole_number("k", k, 1)
    config = search_config(path, out, target=names, rest=rest, k=size, **fields)
    labels = labels_of_examples(examples, others, config.target, rest_of(config) if rest is None else rest)
    begin_search(config, out, labels, no_report)
    return Session(out, pool, config=config)
