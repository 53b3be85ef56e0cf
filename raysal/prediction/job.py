"""The prediction job: what a head predicts for every item of a pool, as files. An interrupted job is resumed.

The partitions compute the predictions beside the data and write one file for each chunk of the pool, under temporary
names. The driver renames the files and writes the records: it holds a few numbers per chunk and no prediction. The
files depend on the pool, the head and the options alone, for any number of partitions, here or on Ray (on CPUs). On a
cluster, every process must see the folder and the pool under the same path.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from raysal.arguments import Backend, Part, as_path, as_place, as_whole_number
from raysal.config import FleetConfig, Named, choice
from raysal.errors import ConfigError, UnknownName
from raysal.fleet import Fleet, open_fleet
from raysal.fleet.chunks import waves_of_chunks
from raysal.models.head import OTHERWISE, Head
from raysal.models.predictive import Predictive, check_predictive
from raysal.pool import Pool, open_pool
from raysal.prediction.files import Plan, PredictionWriter, check_place, unfinished
from raysal.prediction.heads import ALL, fit_head, head_for, head_to_go_on_with, labels_behind, load_head
from raysal.prediction.partition import HeadJob, Job, stage_chunk
from raysal.rng import derive
from raysal.rounds.directory import RunDir
from raysal.scoring.base import Need
from raysal.scoring.inputs import ScoreInputs, score_inputs
from raysal.scoring.novelty.base import Novelty
from raysal.scoring.novelty.registry import NOVELTIES
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
NAME_A_HEAD = "pass --run RUN or --head FILE; or --novelty NAME, which needs no head"
"""What an error says to do where nothing can be predicted."""
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
    """scores to write; None is entropy, and for numbers no score, and with a target also its probability. A score
    without samples judges the written output"""
    draws: int = DRAWS
    """posterior samples"""
    seed: int = 0
    """another seed gives other posterior samples, and another sample for novelty"""
    target: tuple[str, ...] = ()
    """the classes that are looked for, for the scores `probability` and `log_odds`"""
    novelty: Named[Novelty] | None = None
    """how unlike the pool each item is; it needs no head"""

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
    head: str | None
    """digest; None without a head"""
    head_version: int | None
    seconds: float
    """of this job"""
    novelty: str | None = None
    """the novelty that was written"""
    note: str | None = None
    """what is worth knowing of the head"""
    head_from: str | None = None
    """whose head it is; None where it was given, or there is none"""


def predict_pool(
    pool: Pool,
    fleet: Fleet,
    head: Head | None,
    out: Path,
    options: Options,
    report: Report | None = None,
    *,
    head_from: str | None = None,
    labels_digest: str | None = None,
) -> PredictReport:
    """Predict every item of a pool into a folder, or finish a job that was stopped.

    A committed chunk is not done again. The finished folder has the same bytes however often the job was stopped. A
    round trip does one chunk per partition. Memory: 4 bytes per probability of one chunk, in each process.

    Args:
        pool: the items.
        fleet: is over that pool.
        head: makes the predictions; None for novelty alone.
        out: the folder to make or to finish.
        options: what is predicted.
        report: called with (`predict`, items done, items in all) at the start and after every round trip.
        head_from: whose head it is, for people.
        labels_digest: digest of the labels behind the head.

    Returns:
        What the job did.

    Raises:
        FingerprintMismatch: the head is of another encoder, or the folder of another pool or head.
        PoolError: the folder holds something else; or an item's vector is too large for the head, and the error names
            the item.
        RunError: the folder was begun with another option, or another process is at work on it.
        ConfigError: the head cannot do what is asked for; or there is none, and nothing but a head can.
        UnknownName: a class that is looked for is none of the head's.
        Damaged: a committed file is not as it was written.
    """
    report, started, out = report or no_report, time.perf_counter(), out.absolute()
    recorded: dict[str, Any] = {}
    predicting = None
    if head is not None:
        head.check(pool)
        predicting, recorded = make_head_job(head, options)
    elif options.novelty is None:
        raise ConfigError("head", "there is none, and no novelty is asked for", NAME_A_HEAD)
    if options.novelty is not None:
        recorded |= {"novelty": novelty_record(options.novelty), "seed": options.seed}
    plan = Plan(
        pool=pool.fingerprint,
        items=len(pool),
        quarantined=pool.info().quarantined,
        chunks=len(pool.chunks),
        chunk_rows=pool.manifest.chunk_rows,
        encoder=pool.vector_space,
        head=None if head is None else head.digest(),
        head_version=None if head is None else head.version,
        link=None if head is None else head.likelihood.name,
        classes=() if head is None else head.classes,
        options=recorded,
        head_from=head_from,
        labels_digest=labels_digest,
    )
    check_place(out)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "folder of predictions"):
        writer = PredictionWriter(out, plan, head)
        resumed, already = len(writer.committed), sum(writer.committed.values())
        report("predict", already, len(pool))
        fitted = None
        left = [range(chunk, chunk + 1) for chunk in range(plan.chunks) if chunk not in writer.committed]
        if options.novelty is not None and left:
            fleet.reset()  # to the whole pool
            fitted = options.novelty.part.fit(fleet, derive(options.seed, "novelty"))
        job = Job(out=str(out), pool=pool.fingerprint, head=predicting, novelty=fitted)
        try:
            for wave in waves_of_chunks(fleet, left):
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
        novelty=None if options.novelty is None else options.novelty.name,
        note=OTHERWISE if head is not None and head.fitted_otherwise else None,
        head_from=head_from,
    )


def novelty_record(novelty: Named[Novelty]) -> dict[str, Any]:
    """A novelty as predict.json records it: its name and all its fields."""
    fields: dict[str, Any] = asdict(novelty.part)  # type: ignore[call-overload]
    return {"name": novelty.name, **fields}


def make_head_job(head: Head, options: Options) -> tuple[HeadJob, dict[str, Any]]:
    """Make what of a head travels to the partitions.

    Args:
        head: makes the predictions.
        options: what is predicted.

    Returns:
        The job, and its options as predict.json records them: those that change nothing are None.

    Raises:
        ConfigError: the head cannot do what is asked for.
        UnknownName: a class that is looked for is none of the head's.
    """
    check_predictive(options.predictive, head.likelihood)
    labels = head.likelihood
    # Numbers are reported with their standard deviation, which says how unsure the head is.
    usual: tuple[str, ...] = (labels.usual_score,) if labels.discrete else ()
    if options.target:
        if not labels.discrete:
            raise ConfigError("target", f"names classes, and the head predicts {labels.words}", "leave it out")
        for name in options.target:
            if name not in head.classes:
                raise UnknownName("target", name, head.classes)
        usual += ("probability",)
    scores = options.uncertainty if options.uncertainty is not None else usual
    for name in scores:
        if missing := [NOT_IN_A_HEAD[need] for need in SCORES[name].needs(labels) if need in NOT_IN_A_HEAD]:
            raise ConfigError("uncertainty", f"{name} needs {missing[0]}", "use another score, or `raysal select`")
    spread = labels.quadratic or options.predictive in ("laplace_bridge", "mean_field")
    needs: tuple[Need, ...] = ("variance",) if spread else ()
    inputs = score_inputs(head, scores, needs=needs, target=options.target, draws=options.draws, key=options.seed)
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
    recorded |= {"target": list(options.target)} if options.target else {}
    job = HeadJob(
        classes=head.classes,
        hidden_layer=head.hidden_layer,
        inputs=inputs,
        draws=tuple(groups),
        predictive=cast(Predictive, options.predictive),
        top=top,
        scores=tuple(scores),
    )
    return job, recorded


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
    target: str | Sequence[str] = (),
    novelty: Part | None = None,
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
        run: a run directory; the head that all its labels make now makes the predictions (`head_for`). Exactly one of
            `run` and `head` is given; neither for novelty alone.
        round: the round of `run` whose head is used instead.
        head: a head, or the file of one.
        predictive: see `Options`.
        top: see `Options`.
        uncertainty: see `Options`; also the name of one score.
        target: see `Options`; also one class. By default the classes that the run looks for.
        novelty: a name of `raysal.scoring.novelty`, or a mapping with `name` and fields.
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
        UnknownName: there is no such backend, predictive, score or novelty; or a class that is looked for is none of
            the head's.
        RaysalError: as `predict_pool` and `head_for`.
    """
    if run is not None and head is not None:
        raise ConfigError("head", "exactly one of a run and a head is needed", "pass --run RUN or --head FILE")
    if run is None and head is None and novelty is None:
        raise ConfigError("head", "one of a run, a head and a novelty is needed", NAME_A_HEAD)
    if round is not None and run is None:
        raise ConfigError("round", "is a round of a run", "pass --run RUN, too")
    looked_for = (target,) if isinstance(target, str) else tuple(target)
    if run is None and head is None:
        of_a_head = {"predictive": predictive != "map", "top": top != 3, "uncertainty": uncertainty is not None}
        for name, given in {**of_a_head, "target": looked_for}.items():
            if given:
                raise ConfigError(name, "is asked of a head, and there is none", "pass --run RUN or --head FILE, too")
    named = (uncertainty,) if isinstance(uncertainty, str) else None if uncertainty is None else tuple(uncertainty)
    options = Options(
        predictive=predictive,
        top=top,
        uncertainty=named,
        draws=as_whole_number("draws", draws, 2),
        seed=as_whole_number("seed", seed, 0),
        target=looked_for,
        novelty=None if novelty is None else choice(novelty, "novelty").build_named("novelty", NOVELTIES),
    )
    parts = 0 if partitions is None else as_whole_number("partitions", partitions, 1)
    if backend not in ("local", "ray"):
        raise UnknownName("backend", backend, ["local", "ray"])
    if address is not None and backend != "ray":
        raise ConfigError("address", f"is of a Ray cluster, the backend is {backend}", "pass --backend ray, too")
    pool = pool if isinstance(pool, Pool) else open_pool(as_place("pool", pool))
    out = as_path("out", out)
    found: Head | None = None
    head_from: str | None = None
    said: str | None = None
    labels_digest: str | None = None
    if run is not None:
        run = as_path("run", run)
        found, head_from = head_for(run, pool, None if round is None else as_whole_number("round", round, 0))
        said, begun = head_from, unfinished(out)
        if begun is not None and (kept := head_to_go_on_with(out, begun, run, pool, head_from)) is not None:
            found, said = kept
    elif head is not None:
        found = head if isinstance(head, Head) else load_head(as_path("head", head))
        found.check(pool)  # before any process is started
    config = FleetConfig(backend=backend, partitions=parts, device=device, address=address)
    with open_fleet(pool, config) as fleet:
        if found is None and run is not None:
            found = fit_head(run, pool, fleet)
        if run is not None and found is not None and head_from == ALL:
            _, labels_digest = labels_behind(run, pool, found)
        if run is not None and found is not None and found.likelihood.discrete and not looked_for:
            options = replace(options, target=RunDir(run).require_config().target)
        made = predict_pool(pool, fleet, found, out, options, report, head_from=head_from, labels_digest=labels_digest)
        return replace(made, head_from=said)
