"""What a run would do, as a value that can be printed: its stages, and how much of each is still to be done."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from raysal.config import RunConfig
from raysal.embedding import ENCODERS
from raysal.embedding.job import CHUNK_ROWS
from raysal.embedding.recorded import encoder_for_source
from raysal.errors import PoolError, PoolExhausted
from raysal.index import current_generation
from raysal.narrowing import NARROWERS
from raysal.pool import Manifest, Pool, open_pool
from raysal.pool.layout import MANIFEST, read_records
from raysal.pool.owners import OwnersOf, pool_of_labels
from raysal.pool.place import directory_of
from raysal.rounds.arms import check_search, validate
from raysal.rounds.binding import check_pool
from raysal.rounds.configs import config_of, control_config
from raysal.rounds.directory import RunDir
from raysal.rounds.parts import RunParts
from raysal.rounds.ready import pool_is_ready
from raysal.rounds.stages import CLOSING, ROUND, Stage
from raysal.sources import SOURCES
from raysal.sources.begun import listed_for
from raysal.types import Unit


@dataclass(frozen=True, kw_only=True)
class EmbedPlan:
    """The embedding that comes before the rounds."""

    source: str
    encoder: str
    chunks: int
    chunks_done: int
    """committed by an earlier run, and not done again"""


@dataclass(frozen=True, kw_only=True)
class ArmPlan:
    """The rounds of one arm."""

    name: str
    """`rounds`, or `control`"""
    narrow: str
    select: str
    start: str
    """the strategy while there is no label"""
    oracle: str
    k: int
    """items in each batch; the last one has fewer where fewer are left"""
    rounds: int
    rounds_done: int
    labels: int
    """what rounds to come will ask for: what they are to, or all that is available"""
    waiting: int
    """what earlier rounds asked for and nobody answered yet"""
    available: int
    """about how many items may still be offered"""
    each: float = 1.0
    """about how many labels a pick of a batch asks for: above 1 where owners are picked, and labels are of parts"""

    def shortfall(self) -> str:
        """What happens where the items run out before the rounds do; empty where they do not."""
        return shortfall(self.k, self.rounds - self.rounds_done, round(self.available / self.each))


def shortfall(k: int, rounds: int, available: int) -> str:
    """What happens where items run out.

    Args:
        k: items in a batch.
        rounds: rounds to come.
        available: items that are left to offer.

    Returns:
        A sentence; empty if there are as many items as the rounds ask for.
    """
    if k * rounds <= available:
        return ""
    full, rest = divmod(available, k)
    batches = [f"{full} of {k}"] * bool(full) + [f"one of {rest}"] * bool(rest)
    made = f"batches: {' and '.join(batches)}" if batches else "no batch"
    asked = f"the items run out before the rounds do ({k * rounds:,} asked for, about {available:,} left)"
    return f"{asked}; {made}; then the run is closed"


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run would do, in this order."""

    run: str
    pool: str
    backend: str
    """where the partitions of the pool would live: `local` or `ray`"""
    partitions: int
    """0 is one per CPU with ray, and one in this process"""
    items: int
    """in the pool, or in the source where it is yet to be embedded"""
    held_out: int
    """about how many of them are kept for the evaluation"""
    embed: EmbedPlan | None
    """None where the pool is ready"""
    index: bool
    """whether the index of the pool is built before the first round"""
    stages: tuple[Stage, ...]
    """of every round"""
    closing: tuple[Stage, ...]
    """after the last round"""
    arms: tuple[ArmPlan, ...]
    exhausted: bool
    """whether the items run out before the rounds do: then the last batch is a shorter one, and the run is closed"""

    def lines(self) -> list[str]:
        """The plan for people."""
        lines = [f"{self.run}: nothing is started, this is what would be done"]
        if self.embed is None:
            lines.append(f"  pool {self.pool}: ready, {self.items:,} items")
        else:
            left = self.embed.chunks - self.embed.chunks_done
            lines.append(
                f"  embed: {self.items:,} items of {self.embed.source} by {self.embed.encoder} into {self.pool}, "
                f"{left} of {self.embed.chunks} chunks to do"
            )
        default = "one partition per CPU" if self.backend == "ray" else "one partition"
        count = f"{self.partitions} partitions" if self.partitions else default
        lines.append(f"  fleet: {'on Ray' if self.backend == 'ray' else 'in this process'}, {count}")
        if self.index:
            lines.append("  index: built before the first round")
        if self.held_out:
            lines.append(f"  hold out: about {self.held_out:,} items, to measure accuracy on")
        for arm in self.arms:
            left = arm.rounds - arm.rounds_done
            what = f"narrow {arm.narrow}, select {arm.select} (first batch: {arm.start}), oracle {arm.oracle}"
            lines.append(f"  {arm.name}: {left} of {arm.rounds} rounds of {arm.k} to do, {arm.labels:,} labels; {what}")
            if arm.waiting:
                lines.append(f"    {arm.waiting:,} labels of earlier rounds are waited for")
        if any(arm.rounds_done < arm.rounds for arm in self.arms):
            lines.append("  each round:")
            lines += [f"    {stage}" for stage in self.stages]
        lines.append(f"  finish: {', '.join(stage.name for stage in self.closing)}")
        if self.exhausted:
            lines += [f"  {arm.name}: {said}" for arm in self.arms if (said := arm.shortfall())]
        return lines


def plan_run(config: RunConfig, out: Path, *, rebind: bool = False) -> RunPlan:
    """What `raysal.rounds.loop.run` would do with these arguments. Starts nothing and writes nothing.

    Reads the config of the run in `out`, the records of the pool, and, where items are yet to be embedded, the whole
    listing of the source; one chunk of it at a time.

    Args:
        config: the config of the run.
        out: the run directory, there or not yet.
        rebind: as in `raysal.rounds.loop.run`.

    Returns:
        The plan.

    Raises:
        ConfigError, PoolError, RunError, FingerprintMismatch, Damaged: what the run would be refused for before its
            first round.
        PoolExhausted: the pool has nothing to offer, and the run no labels.
    """
    validate(config)
    ready = pool_is_ready(config, keep=False)
    check_search(config, ready)
    main, control = RunDir(out), RunDir(out).control
    config = config_of(main, config.pool, config, None, {})
    if ready:
        pool = pool_of_labels(open_pool(config.pool), config.parts)
        if main.has_ledger and not rebind:
            with main.open_ledger() as ledger:
                check_pool(main, ledger, pool)
        RunParts.of(config, pool)
        items, embed, each = len(pool), None, _labels_each(pool, config)
    else:
        items, embed, each = _listed(config)
    held_out = round(config.rounds.holdout * items)
    arms = [_arm("rounds", config, main, items - held_out, each)]
    if config.rounds.control:
        arms.append(_arm("control", control_config(config), control, items - held_out, each))
    return RunPlan(
        run=str(out),
        pool=str(config.pool),
        backend=config.fleet.backend,
        partitions=config.fleet.partitions,
        items=items,
        held_out=held_out,
        embed=embed,
        index=_builds_index(config),
        stages=ROUND,
        closing=CLOSING,
        arms=tuple(arms),
        exhausted=any(arm.shortfall() for arm in arms),
    )


def notes_on(config: RunConfig) -> list[str]:
    """What a run by a config will come to, and its writer may not expect. Reads the pool's records, if there are any.

    Args:
        config: a valid config.

    Returns:
        Sentences, each with the field that it is about.
    """
    notes = []
    try:
        pool = pool_of_labels(open_pool(config.pool), config.parts)
        items, each = len(pool), _labels_each(pool, config)
    except PoolError:  # yet to be embedded, or refused by what opens it
        items, each = None, 1.0
    if items is not None:
        offered = round((items - round(config.rounds.holdout * items)) / each)
        if said := shortfall(config.rounds.k, config.rounds.count, offered):
            notes.append(f"rounds.count: {said}")
    if config.rounds.holdout and config.oracle.name == "files" and not config.rounds.tests:
        notes.append(
            "rounds.holdout: these items are never offered; to measure the run, label some of them "
            "(`raysal label export RUN --holdout 200 -o test.csv`), or have each batch draw some (tests = 0.2)"
        )
    return notes


def _labels_each(pool: Pool, config: RunConfig) -> float:
    """How many labels a pick asks for: the mean number of parts of an owner, where these are picked for theirs."""
    if not config.parts.labels_of_parts_of_owners:
        return 1.0
    return len(pool) / max(len(OwnersOf(pool)), 1)


def _arm(name: str, config: RunConfig, run: RunDir, offered: int, each: float) -> ArmPlan:
    """The rounds of an arm, those in its directory being done.

    Args:
        name: `rounds`, or `control`.
        config: the config of the arm.
        run: its directory, there or not yet.
        offered: items that are not held out.
        each: labels that a pick asks for.

    Returns:
        What is done and what is left.

    Raises:
        Damaged: its ledger is missing beside rounds, or was altered.
        PoolExhausted: nothing is left to offer, and nothing is labelled.
    """
    done, waiting, taken = min(run.rounds, config.rounds.count), 0, 0
    if run.has_ledger:
        with run.open_ledger() as ledger:
            waiting, taken = len(ledger.outstanding()), len(ledger.excluded())
    available = max(offered - taken, 0)
    if not (available or taken or done):
        raise PoolExhausted(wanted=config.rounds.k, available=0)
    return ArmPlan(
        name=name,
        narrow=config.narrow.name,
        select=config.select.name,
        start=config.start.name,
        oracle=config.oracle.name,
        k=config.rounds.k,
        rounds=config.rounds.count,
        rounds_done=done,
        labels=min(round((config.rounds.count - done) * config.rounds.k * each), available),
        waiting=waiting,
        available=available,
        each=each,
    )


def _owners_in(unit: Unit) -> int:
    """How many owners the items of a unit have; what is no part is its own."""
    if unit.owners is None:
        return len(unit.keys)
    return sum(owner is None or owner != before for before, owner in pairwise([None, *unit.owners]))


def _builds_index(config: RunConfig) -> bool:
    """Whether the first round is preceded by building an index."""
    wanted = config.narrow.build("narrow", NARROWERS).wants_index()
    return config.index.build and wanted and not current_generation(directory_of(config.pool, synced=False))


def _listed(config: RunConfig) -> tuple[int, EmbedPlan, float]:
    """How many items the source lists, what of their embedding is to be done, and how many labels a pick asks for."""
    assert config.source is not None
    assert config.encoder is not None
    pool = directory_of(config.pool)
    source = listed_for(pool, config.source.build("source", SOURCES))
    encoder_for_source(config.encoder.build("encoder", ENCODERS), source)
    rows = config.embed.chunk_rows or CHUNK_ROWS[source.modality]
    parts = owners = chunks = 0
    for unit in source.units(rows):
        parts, owners, chunks = parts + len(unit.keys), owners + _owners_in(unit), chunks + 1
    begun = (pool / MANIFEST).exists()
    done = len(read_records(pool, Manifest.read(pool))) if begun else 0
    plan = EmbedPlan(source=config.source.name, encoder=config.encoder.name, chunks=chunks, chunks_done=done)
    each = parts / max(owners, 1) if config.parts.labels_of_parts_of_owners else 1.0
    return owners if config.parts.labels_of_owners else parts, plan, each
