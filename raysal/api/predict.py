"""`raysal.predict`: let a head label a whole pool, or say how novel each item is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raysal.arguments import Backend, Part
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
    predictive: str = "map",
    top: int | str = 3,
    uncertainty: str | Sequence[str] | None = None,
    target: str | Sequence[str] = (),
    novelty: Part | None = None,
    draws: int = 128,
    seed: int = 0,
    partitions: int | None = None,
    backend: Backend = "local",
    device: str = "cpu",
    address: str | None = None,
) -> Predictions:
    """What a head says of every item of a pool, written into a directory, or what is still missing there.

    The files have the same bytes for any partitions and backend (on CPUs), and however often the job was interrupted.
    Costs one pass over the pool; memory for one chunk per process.

    Args:
        pool: an embedded pool, its path or its URL.
        out: the directory of the predictions.
        run: a run directory: the head that all its labels make now is taken, as `raysal.rank` takes it; over another
            pool than the run's, the newest head that the run has kept. Give either a run or a head; neither for novelty
            alone.
        round: the round of the run whose head is taken instead, counted from 0.
        head: a head, or the file of one.
        predictive: how probabilities come from the posterior: `map`, `mean_field`, `monte_carlo` or `laplace_bridge`.
        top: how many classes are listed for each item, or `all`.
        uncertainty: names of scores (`raysal.scoring.SCORES`); by default one that fits the head, and `probability`
            where classes are looked for. The columns of scores of these are `target_probability` and `target_log_odds`.
        target: the class that is looked for, or several. By default those of the run.
        novelty: how unlike the pool each item is, in the column `novelty`, in [0, 1]: a name of
            `raysal.scoring.novelty`, as `knn`, or a mapping with `name` and fields. It needs no head.
        draws: samples of the posterior, where they are needed.
        seed: randomness of these samples, and of the sample that novelty goes by.
        partitions: parts that the pool is cut into; by default one, and with Ray one per CPU.
        backend: this process, or Ray.
        device: `cpu`, or `cuda`, `cuda:1`, ... (has not run on a GPU).
        address: a Ray cluster; by default one is started on this machine.

    Returns:
        The predictions, one Parquet file per chunk of the pool.

    Raises:
        FingerprintMismatch: the head is of another encoder, or `out` of another pool or head.
        RunError: there is no such head, or `out` was begun with other options.
        ConfigError: an argument is of the wrong type or out of range, or the head cannot do it.
        UnknownName: there is no such score, novelty, predictive or backend; or a class that is looked for is none of
            the head's.
        PoolError: the pool cannot be opened.
        Damaged: a file in `out` is not as it was written.
    """
    from raysal.prediction import Predictions
    from raysal.prediction.job import predict_into

    predict_into(
        pool,
        out,
        run=run,
        round=round,
        head=head,
        predictive=predictive,
        top=top,
        uncertainty=uncertainty,
        target=target,
        novelty=novelty,
        draws=draws,
        seed=seed,
        partitions=partitions,
        backend=backend,
        device=device,
        address=address,
    )
    return Predictions(out)
