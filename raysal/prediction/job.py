"""The prediction job: what a head predicts for every item of a pool, as files. An interrupted job is resumed.

The partitions compute the predictions beside the data and write one file for each chunk of the pool, under temporary
names. The driver renames the files and writes the records: it holds a few numbers per chunk and no prediction. The
files depend on the pool, the head and the options alone, for any number of partitions, here or on Ray (on CPUs). On a
cluster, every process must see the folder and the pool under the same path.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from raysal.arguments import Backend, as_path, as_whole_number
from raysal.config import FleetConfig
from raysal.errors import ConfigError, UnknownName
from raysal.fleet import Fleet, open_fleet
from raysal.models.head import OTHERWISE, Head
from raysal.models.predictive import Predictive, check_predictive
from raysal.pool import Pool, open_pool
from raysal.prediction.files import Plan, PredictionWriter, check_place
from raysal.prediction.heads import check_labelled, fit_head, head_of_run, load_head, newest_head
from raysal.prediction.partition import Job, chunks_begun, stage_chunk
from raysal.scoring.inputs import ScoreInputs, score_inputs
from raysal.scoring.registry import SCORES
from raysal.store import locked
from raysal.types import Report, no_report

DRAWS = 128
"""Posterior samples for `monte_carlo`, and for scores that compare samples."""
NOT_IN_A_HEAD = {
    "influence": "the labels and a sample of the pool, beside the head",
    "previous": "the head of an earlier round, beside this one",
}
"""What some scores need and a head does not hold."""
OUTPUTS_PER_PRODUCT = 2048
"""Outputs (posterior samples x classes) of one matrix product; those of a block of 1024 rows take 8 MB."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is predicted.

    Raises:
        ConfigError: a field is out of range.
        UnknownName: there is no such predictive or score.
    """

    predictive: str = "map"
    """`map` uses the mean of the weights; the others use their posterior: see `raysal.models.predictive`"""
    top: int | str = 3
    """how many of the likeliest classes are written with their probabilities, or `all`"""
    uncertainty: tuple[str, ...] | None = None
    """scores to write; None is entropy, and for numbers no score. A score without samples judges the written output"""
    draws: int = DRAWS
    """posterior samples"""
    seed: int = 0
    """another seed gives other posterior samples"""

    def __post_init__(self) -> None:
        if self.predictive not in get_args(Predictive):
            raise UnknownName("predictive", self.predictive, get_args(Predictive))
        for name in self.uncertainty or ():
            if name not in SCORES:
                raise UnknownName("uncertainty", name, sorted(SCORES))
        if len(set(self.uncertainty or ())) != len(self.uncertainty or ()):
            raise ConfigError("uncertainty", "names a score twice", "name it once")
        if self.top != "all" and (isinstance(self.top, bool) or not isinstance(self.top, int) or self.top < 1):
            raise ConfigError("top", f"{self.top!r} is not a number of classes", "use 1 or more, or all")
        if self.draws < 2:
            raise ConfigError("draws", f"{self.draws} is below 2")


@dataclass(frozen=True, kw_only=True)
class PredictReport:
    """What a job did."""

    items: int
    """in the whole pool, with a vector"""
    quarantined: int
    """in the whole pool, without a vector: they are not predicted"""
    chunks: int
    """in the whole pool"""
    resumed: int
    """chunks that were committed before"""
    predicted: int
    """items that this job predicted itself"""
    head: str
    """digest"""
    head_version: int
    seconds: float
    """of this job"""
    note: str | None = None
    """what is worth knowing of the head"""


def predict_pool(
    pool: Pool, fleet: Fleet, head: Head, out: Path, options: Options, report: Report | None = None
) -> PredictReport:
    """Predict every item of a pool into a folder, or finish a job that was stopped.

    A committed chunk is not done again. The finished folder has the same bytes however often the job was stopped. A
    round trip does one chunk per partition. Memory: 4 bytes per probability of one chunk, in each process.

    Args:
        pool: the items.
        fleet: is over that pool.
        head: makes the predictions.
        out: the folder to make or to finish.
        options: what is predicted.
        report: called with (`predict`, items done, items in all) at the start and after every round trip.

    Returns:
        What the job did.

    Raises:
        FingerprintMismatch: the head is of another encoder, or the folder of another pool or head.
        PoolError: the folder holds something else; or an item's vector is too large for the head, and the error names
            the item.
        RunError: the folder was begun with another option, or another process is at work on it.
        ConfigError: the head cannot do what is asked for.
        Damaged: a committed file is not as it was written.
    """
    head.check(pool)
    report, started, out = report or no_report, time.perf_counter(), out.absolute()
    job, recorded_options = make_job(head, pool, out, options)
    plan = Plan(
        pool=pool.fingerprint,
        items=len(pool),
        quarantined=pool.info().quarantined,
        chunks=len(pool.chunks),
        chunk_rows=pool.manifest.chunk_rows,
        encoder=pool.vector_space,
        head=head.digest(),
        head_version=head.version,
        link=head.likelihood.name,
        classes=head.classes,
        options=recorded_options,
    )
    check_place(out)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "folder of predictions"):
        writer = PredictionWriter(out, plan)
        resumed, already = len(writer.committed), sum(writer.committed.values())
        report("predict", already, len(pool))
        try:
            for wave in make_waves(fleet, [index for index in range(plan.chunks) if index not in writer.committed]):
                fleet.reset()
                for staged in fleet.each(stage_chunk, job, wave):
                    if staged is not None:
                        writer.commit(staged)
                report("predict", sum(writer.committed.values()), len(pool))
        finally:
            writer.remove_leftovers()  # of a process that was given up on
    return PredictReport(
        items=plan.items,
        quarantined=plan.quarantined,
        chunks=plan.chunks,
        resumed=resumed,
        predicted=plan.items - already,
        head=plan.head,
        head_version=plan.head_version,
        seconds=time.perf_counter() - started,
        note=OTHERWISE if head.fitted_otherwise else None,
    )


def make_job(head: Head, pool: Pool, out: Path, options: Options) -> tuple[Job, dict[str, Any]]:
    """Make what travels to the partitions.

    Args:
        head: makes the predictions.
        pool: the items.
        out: the folder of predictions, an absolute path.
        options: what is predicted.

    Returns:
        The job, and its options as predict.json records them: those that change nothing are None.

    Raises:
        ConfigError: the head cannot do what is asked for.
    """
    check_predictive(options.predictive, head.likelihood)
    labels = head.likelihood
    # Numbers are reported with their standard deviation, which says how unsure the head is.
    usual = (labels.usual_score,) if labels.discrete else ()
    scores = options.uncertainty if options.uncertainty is not None else usual
    for name in scores:
        if missing := [NOT_IN_A_HEAD[need] for need in SCORES[name].needs(labels) if need in NOT_IN_A_HEAD]:
            raise ConfigError("uncertainty", f"{name} needs {missing[0]}", "use another score, or `raysal select`")
    spread = labels.quadratic or options.predictive in ("laplace_bridge", "mean_field")
    inputs = score_inputs(
        head, scores, needs=("variance",) if spread else (), draws=options.draws, key=options.seed
    )  # fmt: skip
    groups: list[ScoreInputs] = []
    if options.predictive == "monte_carlo" and not labels.quadratic:
        plain = score_inputs(head)
        samples = score_inputs(head, needs=("samples",), draws=options.draws, key=options.seed).samples
        assert samples is not None
        step = max(OUTPUTS_PER_PRODUCT // len(head.classes), 1)
        groups = [plain._replace(samples=samples[first : first + step]) for first in range(0, len(samples), step)]
    top = min(options.top, len(head.classes)) if isinstance(options.top, int) else 0
    recorded: dict[str, Any] = {"predictive": options.predictive, "uncertainty": list(scores), "top": options.top}
    sampled = bool(groups) or inputs.samples is not None
    recorded |= {"draws": options.draws, "seed": options.seed} if sampled else {"draws": None, "seed": None}
    job = Job(
        out=str(out),
        pool=pool.fingerprint,
        classes=head.classes,
        hidden_layer=head.hidden_layer,
        inputs=inputs,
        draws=tuple(groups),
        predictive=cast(Predictive, options.predictive),
        top=top,
        scores=tuple(scores),
    )
    return job, recorded


def make_waves(fleet: Fleet, chunks: Sequence[int]) -> Iterator[tuple[int | None, ...]]:
    """Cut chunks into round trips. Each chunk goes to the partition that holds its first row.

    Args:
        fleet: its partitions are asked where chunks begin.
        chunks: the chunks still to be predicted.

    Yields:
        For each partition the chunk of this round trip, or None.
    """
    fleet.reset()
    begin = {chunk: place for place, found in enumerate(fleet.each(chunks_begun)) for chunk in found}
    queues: list[list[int]] = [[] for _ in range(fleet.size)]
    for chunk in chunks:
        queues[begin.get(chunk, 0)].append(chunk)  # a chunk without rows begins nowhere
    for turn in range(max(map(len, queues), default=0)):
        yield tuple(queue[turn] if turn < len(queue) else None for queue in queues)


def predict_into(
    pool: str | Path | Pool,
    out: str | Path,
    *,
    run: str | Path | None = None,
    round: int | None = None,
    head: Head | str | Path | None = None,
    predictive: str = "map",
    top: int | str = 3,
    uncertainty: str | Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    partitions: int | None = None,
    backend: Backend = "local",
    device: str = "cpu",
    address: str | None = None,
    report: Report | None = None,
) -> PredictReport:
    """Run the job behind `raysal.predict`: check its arguments, find the head, open the pool and the fleet.

    Args:
        pool: the items.
        out: the folder of predictions to make or to finish.
        run: a run directory; its newest head makes the predictions. If no round has a head yet, but items are labelled,
            it is the head that the next round would have. Exactly one of `run` and `head` is given.
        round: the round of `run` whose head is used; None is the newest.
        head: a head, or the file of one.
        predictive: see `Options`.
        top: see `Options`.
        uncertainty: see `Options`; also the name of one score.
        draws: see `Options`.
        seed: see `Options`.
        partitions: partitions of the pool; None is one here, and one per CPU on Ray.
        backend: this process, or Ray.
        device: where products are computed, as `cpu` or `cuda`.
        address: the Ray cluster to join.
        report: see `predict_pool`.

    Returns:
        What the job did.

    Raises:
        ConfigError: an argument is of the wrong type or out of range, or the head cannot do what is asked for.
        UnknownName: there is no such backend, predictive or score.
        RaysalError: as `predict_pool` and `head_of_run`.
    """
    if (run is None) == (head is None):
        raise ConfigError("head", "exactly one of a run and a head is needed", "pass --run RUN or --head FILE")
    if round is not None and run is None:
        raise ConfigError("round", "is a round of a run", "pass --run RUN, too")
    named = (uncertainty,) if isinstance(uncertainty, str) else None if uncertainty is None else tuple(uncertainty)
    options = Options(
        predictive=predictive,
        top=top,
        uncertainty=named,
        draws=as_whole_number("draws", draws, 2),
        seed=as_whole_number("seed", seed, 0),
    )
    parts = 0 if partitions is None else as_whole_number("partitions", partitions, 1)
    if backend not in ("local", "ray"):
        raise UnknownName("backend", backend, ["local", "ray"])
    if address is not None and backend != "ray":
        raise ConfigError("address", f"is of a Ray cluster, the backend is {backend}", "pass --backend ray, too")
    pool = pool if isinstance(pool, Pool) else open_pool(as_path("pool", pool))
    if run is not None:
        run = as_path("run", run)
        found = newest_head(run) if round is None else head_of_run(run, as_whole_number("round", round, 0))
    else:
        found = head if isinstance(head, Head) else load_head(as_path("head", head))
    if found is not None:
        found.check(pool)  # before any process is started
    elif run is not None:
        check_labelled(run, pool)
    config = FleetConfig(backend=backend, partitions=parts, device=device, address=address)
    with open_fleet(pool, config) as fleet:
        if found is None:
            assert run is not None
            found = fit_head(Path(run), pool, fleet)
        return predict_pool(pool, fleet, found, as_path("out", out), options, report)
