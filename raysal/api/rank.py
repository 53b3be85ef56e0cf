"""`raysal.rank`: the whole pool of a run in the order of a score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raysal.arguments import Backend, Part
from raysal.pool import Pool

if TYPE_CHECKING:
    from raysal.ranking import Ranking


def rank(
    run: str | Path,
    *,
    out: str | Path,
    pool: str | Path | Pool | None = None,
    score: str = "probability",
    target: str | Sequence[str] = (),
    novelty: Part | None = None,
    top: int | None = None,
    round: int | None = None,
    draws: int = 128,
    seed: int = 0,
    partitions: int | None = None,
    backend: Backend = "local",
    device: str = "cpu",
    address: str | None = None,
) -> Ranking:
    """The items of a run's pool in the order of a score, written into a directory; or what is still missing there.

    Every head adds a version beside those that are there, which never change. To rank again by the same head, score and
    options finds the version. Labelled, leased and held-out items are in it, and marked. Equal scores go by a hash of
    the item. The files have the same bytes for any partitions and backend (on CPUs), and however often the job was
    interrupted. Costs one pass over the pool and a sort; memory for half a million items per process.

    Args:
        run: a run directory; it is left as it is.
        out: the directory of the ranking.
        pool: the run's pool, its path or its URL, where it was moved.
        score: a name of `raysal.scoring.SCORES`. `probability`, that an item is of a class that is looked for, ranks by
            its `log_odds`, which tell apart what float32 rounds to 1.
        target: the class that is looked for, or several; by default those of the run.
        novelty: how unlike the pool an item is, in place of a score: `knn`, `isolation_forest`, `local_density` or
            `mahalanobis`, or a mapping with `name` and fields. It needs no label.
        top: keep only so many of the best.
        round: rank by the head that chose this round; by default by the head that all labels of now make.
        draws: samples of the posterior, for scores that need them.
        seed: randomness of these samples, and of the sample that novelty goes by.
        partitions: parts that the pool is cut into; by default one, and with Ray one per CPU.
        backend: this process, or Ray.
        device: `cpu`, or `cuda`, `cuda:1`, ...
        address: a Ray cluster; by default one is started on this machine.

    Returns:
        The version, of which pages can be read: `raysal.rank(...).page(0, 20)`.

    Raises:
        RunError: no run is there, or it has no labels; or another process is at work on the ranking.
        FingerprintMismatch: the run, or the ranking, is of another pool or encoder.
        ConfigError: an argument is of the wrong type or out of range, or no class is named that is looked for.
        UnknownName: there is no such score, novelty or backend.
        PoolError: the pool cannot be opened; or an item has no score, and the error names it.
        Damaged: a file in `out` is not as it was written.
    """
    from raysal.arguments import as_path
    from raysal.ranking import Ranking
    from raysal.ranking.of_run import rank_into

    found = rank_into(
        run,
        out,
        pool=pool,
        score=score,
        target=target,
        novelty=novelty,
        top=top,
        round=round,
        draws=draws,
        seed=seed,
        partitions=partitions,
        backend=backend,
        device=device,
        address=address,
    )
    return Ranking.open(as_path("out", out), found.version)
