"""`raysal.predict`: let a head label a whole pool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysal.pool import Pool

if TYPE_CHECKING:
    from raysal.models.head import Head
    from raysal.prediction import Predictions


def predict(
    pool: str | Path | Pool,
    *,
    out: str | Path,
    run: str | Path | None = None,
    round: int | None = None,
    head: Head | str | Path | None = None,
    **options: Any,
) -> Predictions:
    """What a head says of every item of `pool`, written into the directory `out`, or what is missing there.

    The head is that of a `run`, its newest or the one a `round` was chosen by; or a `head`, or a file of one. `options`
    are `predictive` ("map", "mean_field", "monte_carlo", "laplace_bridge"), `top` (a number of classes, or "all"),
    `uncertainty` (names of scores), `draws`, `seed`; see `raysal.prediction.Options`; and `partitions`, `backend`,
    `device` and `address`, as in a config's `[fleet]`.

    The same bytes for any partitions and backend (on CPUs), and however often it was interrupted. One pass over the
    pool; memory for one chunk per process.

    Raises:
        FingerprintMismatch: the head is of another encoder, or `out` of another pool or head.
        RunError: there is no such head, or `out` was begun with other options.
        ConfigError, UnknownName: an argument is of the wrong type or out of range, or the head cannot do it.
        PoolError: the pool cannot be opened. Damaged: a file in `out` is not as it was written.
    """
    from raysal.prediction import Predictions
    from raysal.prediction.job import predict_into

    predict_into(pool, out, run=run, round=round, head=head, **options)
    return Predictions(out)
