"""Predictions of a head for every item of a pool, as files: a job that goes on where it stopped.

They are computed beside the data and written there, one file for each chunk of the pool, under temporary names; the
driver renames them and keeps the records. So it holds a few numbers per chunk and never a prediction, and what is
written is a function of pool, head and options alone, for any number of partitions, here or on Ray (on CPUs). On a
cluster every process must see the folder under the same path, as it must the pool.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from raysal.arguments import Backend, as_path, as_whole_number
from raysal.config import FleetConfig
from raysal.errors import ConfigError, RunError, UnknownName
from raysal.fleet import Fleet, open_fleet
from raysal.models.head import Head
from raysal.models.predictive import Predictive, check_predictive
from raysal.pool import Pool, open_pool
from raysal.prediction.files import Plan, PredictionWriter, check_place
from raysal.prediction.partition import Job, chunks_begun, stage_chunk
from raysal.rounds.directory import RunDir
from raysal.scoring.inputs import ScoreInputs, score_inputs
from raysal.scoring.registry import SCORES
from raysal.store import locked

Progress = Callable[[str, int, int], None]
"""(stage, done, total)"""

DRAWS = 128
"""Draws of the posterior that `monte_carlo` averages over, and scores that compare draws."""
BEYOND = {"influence": "the labels, beside the head", "previous": "the head of an earlier round, beside this one"}
"""What some scores need that is not in a head."""
TOGETHER = 2048
"""Columns that the draws of one product have: a block of them takes 8 MB."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is predicted.

    Raises:
        ConfigError, UnknownName: a field is out of range.
    """

    predictive: str = "map"
    """`map`, what the mean of the weights says; or what the posterior says: see `raysal.models.predictive`"""
    top: int | str = 3
    """how many of the likeliest are written with their probabilities, or `all`"""
    uncertainty: tuple[str, ...] | None = None
    """scores to write: those that need no draws judge the probabilities written. Default: entropy, for numbers none"""
    draws: int = DRAWS
    seed: int = 0

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
    """What a job did. `items` and `quarantined` are of the whole pool; `predicted` is this run's share."""

    items: int
    quarantined: int
    """items without a vector, which are not predicted"""
    chunks: int
    resumed: int
    """chunks found committed"""
    predicted: int
    head: str
    """digest"""
    head_version: int
    seconds: float


def predict_pool(
    pool: Pool, fleet: Fleet, head: Head, out: Path, options: Options, report: Progress | None = None
) -> PredictReport:
    """Predict every item of `pool` into the folder `out`, or finish doing so. `fleet` is over that pool.

    A chunk that is committed is not done again, and the finished folder has the same bytes however often it was
    stopped. A round trip does one chunk per partition. Memory: 4 bytes per probability of one chunk in each process.

    Raises:
        FingerprintMismatch: the head is of another encoder, or the folder of another pool or head.
        PoolError: the folder holds something else.
        RunError: the folder was begun with another option, or another process is at work on it.
        ConfigError: the head cannot do what is asked for.
        Damaged: a committed file is not as it was written.
        PoolError: an item cannot be predicted, as its vector is too large for the head; it names the item.
    """
    encoder = str(pool.manifest.encoder["fingerprint"])
    head.check(encoder, pool.dim)
    tell, started, out = report or _silent, time.perf_counter(), out.absolute()
    job, written = job_for(head, pool, out, options)
    plan = Plan(
        pool=pool.fingerprint,
        items=len(pool),
        quarantined=pool.info().quarantined,
        chunks=len(pool.chunks),
        chunk_rows=pool.manifest.chunk_rows,
        encoder=encoder,
        head=head.digest(),
        head_version=head.version,
        link=head.likelihood.name,
        classes=head.classes,
        options=written,
    )
    check_place(out)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "folder of predictions"):
        writer = PredictionWriter(out, plan)
        resumed, already = len(writer.committed), sum(writer.committed.values())
        tell("predict", already, len(pool))
        try:
            for wave in waves(fleet, [index for index in range(plan.chunks) if index not in writer.committed]):
                fleet.reset()
                for staged in fleet.each(stage_chunk, job, wave):
                    if staged is not None:
                        writer.commit(staged)
                tell("predict", sum(writer.committed.values()), len(pool))
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
    )


def job_for(head: Head, pool: Pool, out: Path, options: Options) -> tuple[Job, dict[str, Any]]:
    """The job, and its options as the folder keeps them.

    Raises:
        ConfigError: the head cannot do what is asked for.
    """
    check_predictive(options.predictive, head.likelihood)
    labels = head.likelihood
    # Numbers are reported with their standard deviation, which says how unsure the head is.
    usual = (labels.usual_score,) if labels.discrete else ()
    scores = options.uncertainty if options.uncertainty is not None else usual
    for name in scores:
        if missing := [BEYOND[need] for need in SCORES[name].needs(labels) if need in BEYOND]:
            raise ConfigError("uncertainty", f"{name} needs {missing[0]}", "use another score, or `raysal select`")
    spread = labels.quadratic or options.predictive in ("laplace_bridge", "mean_field")
    inputs = score_inputs(
        head, scores, needs=("variance",) if spread else (), draws=options.draws, key=options.seed
    )  # fmt: skip
    groups: list[ScoreInputs] = []
    if options.predictive == "monte_carlo" and not labels.quadratic:
        plain = score_inputs(head)
        drawn = score_inputs(head, needs=("draws",), draws=options.draws, key=options.seed).draws
        assert drawn is not None
        step = max(TOGETHER // len(head.classes), 1)
        groups = [plain._replace(draws=drawn[first : first + step]) for first in range(0, len(drawn), step)]
    top = min(options.top, len(head.classes)) if isinstance(options.top, int) else 0
    written: dict[str, Any] = {"predictive": options.predictive, "uncertainty": list(scores), "top": options.top}
    sampled = bool(groups) or inputs.draws is not None
    written |= {"draws": options.draws, "seed": options.seed} if sampled else {"draws": None, "seed": None}
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
    return job, written


def waves(fleet: Fleet, chunks: Sequence[int]) -> Iterator[tuple[int | None, ...]]:
    """The chunks, one per partition at a time: each goes to the one it begins in."""
    fleet.reset()
    begin = {chunk: place for place, found in enumerate(fleet.each(chunks_begun)) for chunk in found}
    queues: list[list[int]] = [[] for _ in range(fleet.size)]
    for chunk in chunks:
        queues[begin.get(chunk, 0)].append(chunk)  # one without rows begins nowhere
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
    draws: int = 128,
    seed: int = 0,
    partitions: int | None = None,
    backend: Backend = "local",
    device: str = "cpu",
    address: str | None = None,
    report: Progress | None = None,
) -> PredictReport:
    """The job behind `predict`, and what it did."""
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
    if run is not None:
        head = head_of_run(as_path("run", run), None if round is None else as_whole_number("round", round, 0))
    elif not isinstance(head, Head):
        path = as_path("head", head)
        if path.is_dir():
            raise ConfigError("head", f"{path} is a directory", "name the head.safetensors in it, or pass --run")
        head = Head.load(path)
    pool = pool if isinstance(pool, Pool) else open_pool(as_path("pool", pool))
    head.check(str(pool.manifest.encoder["fingerprint"]), pool.dim)  # before any process is started
    config = FleetConfig(backend=backend, partitions=parts, device=device, address=address)
    with open_fleet(pool, config) as fleet:
        return predict_pool(pool, fleet, head, as_path("out", out), options, report)


def head_of_run(run: Path, round: int | None = None) -> Head:
    """The head a round was chosen by; or the newest of the run, its closing one if it is closed.

    Raises:
        RunError: there is no run, no such round, or no head there yet.
        Damaged: the head is not the one its record names.
    """
    there = RunDir(run)
    if there.config() is None:
        raise RunError(run, "no run is there", "start one with `raysal run CONFIG --out RUN`, or check the path")
    rounds = there.rounds
    if round is not None:
        if not 0 <= round < rounds:
            raise RunError(run, f"has no round {round}", f"it has {rounds}, counted from 0")
        chosen: list[int | None] = [round]
    else:
        chosen = [*([None] if there.final() is not None else []), *reversed(range(rounds))]
    for place in chosen:
        head = there.head(place)
        if head is not None:
            return head
    raise RunError(run, "has no head yet" if round is None else f"round {round} had no head", "label some items first")


def _silent(stage: str, done: int, total: int) -> None:
    del stage, done, total
