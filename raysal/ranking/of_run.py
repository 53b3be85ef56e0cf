"""Ranking the pool of a run: by the head that its labels make, or by that of a round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from raysal.arguments import Backend, Part, as_path, as_place, as_whole_number
from raysal.config import FleetConfig, choice
from raysal.errors import ConfigError, UnknownName
from raysal.fleet import open_fleet
from raysal.labels.records import KnownItem
from raysal.models.head import Head
from raysal.pool import Pool, open_pool
from raysal.prediction.heads import fit_head, head_for, head_to_go_on_with, labels_behind
from raysal.ranking.job import RankReport, rank_pool
from raysal.ranking.layout import Plan, unfinished
from raysal.ranking.options import DRAWS, Options, plan_of
from raysal.rounds.binding import own_pool
from raysal.rounds.directory import RunDir
from raysal.rounds.held_out import HeldOut
from raysal.rounds.known_labels import labels_of_run
from raysal.scoring.novelty.registry import NOVELTIES
from raysal.types import Report


def rank_into(
    run: str | Path,
    out: str | Path,
    *,
    pool: str | Path | Pool | None = None,
    score: str = "probability",
    target: str | Sequence[str] = (),
    novelty: Part | None = None,
    top: int | None = None,
    round: int | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    partitions: int | None = None,
    backend: Backend = "local",
    device: str = "cpu",
    address: str | None = None,
    report: Report | None = None,
) -> RankReport:
    """Run the job behind `raysal.rank`: check its arguments, open the pool and the fleet, make or find the head.

    Args:
        run: a run directory; it is left as it is.
        out: the ranking to make or to add to.
        pool: the run's pool, where it was moved; None is the place that the run knows.
        score: see `Options`.
        target: the class that is looked for, or several; those of the run by default.
        novelty: rank by how unlike the pool each item is, in place of a score: a name of `raysal.scoring.novelty`, or a
            mapping with `name` and fields. It needs no label.
        top: see `Options`.
        round: rank by the head that chose this round; None is the head that the labels of now make.
        draws: see `Options`.
        seed: see `Options`.
        partitions: partitions of the pool; None is one here, and one per CPU on Ray.
        backend: this process, or Ray.
        device: where products are computed, as `cpu` or `cuda`.
        address: the Ray cluster to join.
        report: see `rank_pool`.

    Returns:
        What the job did.

    Raises:
        ConfigError: an argument is of the wrong type or out of range, or no class is named that is looked for.
        UnknownName: there is no such backend, score or novelty.
        RunError: no run is there, or it has no label and so no head.
        RaysalError: as `rank_pool` and `head_for`.
    """
    run = as_path("run", run)
    config = RunDir(run).require_config()
    named = (target,) if isinstance(target, str) else tuple(target)
    if novelty is not None:
        of_a_head = {"target": bool(named), "round": round is not None, "score": score != "probability"}
        if asked := [name for name, given in of_a_head.items() if given]:
            raise ConfigError(asked[0], "is of a head, and novelty needs none", "leave one of them out")
    options = Options(
        score=score,
        target=named or config.target,
        novelty=None if novelty is None else choice(novelty, "novelty").build_named("novelty", NOVELTIES),
        top=None if top is None else as_whole_number("top", top, 1),
        draws=as_whole_number("draws", draws, 2),
        seed=as_whole_number("seed", seed, 0),
    )
    parts = 0 if partitions is None else as_whole_number("partitions", partitions, 1)
    if backend not in ("local", "ray"):
        raise UnknownName("backend", backend, ["local", "ray"])
    if address is not None and backend != "ray":
        raise ConfigError("address", f"is of a Ray cluster, the backend is {backend}", "pass --backend ray, too")
    if not isinstance(pool, Pool):
        pool = own_pool(config).stored if pool is None else open_pool(as_place("pool", pool))
    out, head, head_from, said = as_path("out", out), None, None, None
    if novelty is None:
        head, head_from = head_for(run, pool, None if round is None else as_whole_number("round", round, 0))
        said = head_from
        for version, begun in unfinished(out):
            kept = head_to_go_on_with(version, begun, run, pool, head_from) if begun.pool == pool.fingerprint else None
            if kept is not None and _is_same(pool, kept[0], options, begun):
                head, said = kept
    fleet_config = FleetConfig(backend=backend, partitions=parts, device=device, address=address)
    with open_fleet(pool, fleet_config) as fleet:
        if head is None and novelty is None:
            head = fit_head(run, pool, fleet)
        labels, digest = (None, None) if head is None else labels_behind(run, pool, head)
        made = rank_pool(
            pool,
            fleet,
            head,
            out,
            options,
            states=lambda: states_of_run(run, pool),
            held_out=HeldOut.of(config, pool),
            labels=labels,
            head_from=head_from,
            labels_digest=digest,
            report=report,
        )
        return made if said == head_from else replace(made, head_from=said)


def _is_same(pool: Pool, head: Head, options: Options, begun: Plan) -> bool:
    """Whether a version that was begun is what these options ask of its head."""
    try:
        return plan_of(pool, head, options)[0].identity == begun.identity
    except (ConfigError, UnknownName):  # a class came since
        return False


def states_of_run(run: Path, pool: Pool) -> dict[int, KnownItem]:
    """What a run knows of items now, by id, in order of id.

    Args:
        run: the run directory.
        pool: its pool.

    Returns:
        {id: what is known}; nothing where the run has no ledger.

    Raises:
        FingerprintMismatch: the run is of another pool.
    """
    with labels_of_run(pool, run) as known:
        if known.ledger is None:
            return {}
        states = dict(sorted(known.ledger.states().items()))
        ids = np.array(list(states), np.int64)
        trains = known.ledger.asked(ids) & ~known.ledger.drawn(ids)  # a test draw stays held out
        labels = {item.id: item.label for item in known.ledger.labels()}
        found = zip(states.items(), trains.tolist(), strict=True)
        return {id: KnownItem(state, does, labels.get(id)) for (id, state), does in found}
