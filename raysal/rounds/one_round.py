"""One round of a run: head, narrow, select, evaluate, commit; and the closing of a run, which has no batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

from raysal.context import RoundContext
from raysal.errors import PoolExhausted
from raysal.fleet import Fleet
from raysal.labels import Ledger, revealing
from raysal.models.head import Head
from raysal.rng import derive
from raysal.rounds.batch import Batch, batch_table
from raysal.rounds.choose import choose
from raysal.rounds.directory import Record
from raysal.rounds.draws import TESTS, DrawnTests
from raysal.rounds.evaluation import evaluate, known_labels
from raysal.rounds.given_probabilities import read_probabilities
from raysal.rounds.held_out import Half, HeldOut
from raysal.rounds.learner import HeadUpdate, next_head
from raysal.rounds.opening import OpenRun
from raysal.rounds.program import start_program
from raysal.rounds.queries import queries_of
from raysal.rounds.stages import COMMIT, EVALUATE, NARROW, UPDATE, Clock
from raysal.rounds.tested import read_tests
from raysal.rounds.testing import draw_tests
from raysal.rounds.training_labels import TrainingLabels
from raysal.rounds.yields import shares_record, yields_of


def choose_round(opened: OpenRun, ledger: Ledger, fleet: Fleet, k: int) -> tuple[Batch, Head | None]:
    """Choose the next batch, commit it, and lease its items.

    Args:
        opened: the run, which no other process is at work on.
        ledger: its labels.
        fleet: the pool's partitions.
        k: items in the batch.

    Returns:
        The batch, and the head that chose it.

    Raises:
        PoolExhausted: fewer than k items are left to offer. Nothing is committed then.
    """
    run, pool, config, parts = opened.run, opened.pool, opened.config, opened.parts
    round, clock = run.rounds, Clock()
    with clock.stage(UPDATE):
        available = start_program(fleet, ledger.excluded(), HeldOut.of(config, pool), parts.rows)
        if k > available and not config.rounds.tests:  # before the work of a fit
            raise PoolExhausted(wanted=k, available=available)
        update = next_head(fleet, pool, run, ledger, parts.trainer, config)
    with clock.stage(EVALUATE):
        tests = draw_tests(opened, ledger, fleet, update.head, k, available)
    given = None
    if update.head is None and config.probabilities is not None:
        given = read_probabilities(pool, config.probabilities)
    context = RoundContext(
        head=update.head,
        labelled=update.known,
        pool=pool,
        k=k - (0 if tests is None else len(tests)),
        available=available,
        key=derive(config.seed, round),
        target=config.target,
        like=queries_of(run, config.like, pool),
        background=update.background or 0,
        yields=yields_of(
            run, TrainingLabels.of(ledger, config, pool), update.ledger_seq, config.target, parts.likelihood
        ),
        previous=update.previous,
        memory=run.memory(round - 1) if round and run.is_of(round - 1, pool) else None,
        index=config.index,
        reveal=None if parts.rows.labels_of_parts_of_owners else revealing(parts.oracle, pool),
        given=given,
        pool_scale=pool.scale,
        held_out_labels=partial(reference_labels, opened, ledger, fleet, update)
        if parts.learns_from_held_out
        else None,
    )
    selector, choice = parts.selector, config.select
    if update.head is None:
        selector, choice = parts.start, config.start
    with clock.stage(NARROW):
        context = parts.rows.look(fleet, context, selector)
    chosen = choose(fleet, context, parts.narrower, selector, clock)
    picks, owners = parts.rows.asked(fleet, pool, chosen.picks)
    parts.rows.as_learnt(fleet)
    with clock.stage(EVALUATE):
        evaluation = evaluation_of(opened, ledger, fleet, update, tests)
    with clock.stage(COMMIT):
        table = batch_table(pool, picks, choice.name, update.head, tests, owners)
        record = {
            "round": round,
            "pool": pool.fingerprint,
            "k": k,
            "strategy": choice.name,
            "narrow": chosen.candidates.rule,
            **update.record(),
            **({} if given is None else {"probabilities": given.digest}),
            **chosen.summary(update.head),
            **({} if tests is None else {TESTS: tests.record()}),
            **shares_record(picks, pool),
            "evaluation": evaluation,
            "seconds": clock.so_far(),
        }
        run.publish(round, record, update.head, table, chosen.candidates.memory)
        batch = Batch(round=round, table=table)
        ledger.lease(round, batch.ids, batch.keys, batch.tests)
    return batch, update.head


def close_run(opened: OpenRun, ledger: Ledger, fleet: Fleet) -> Head | None:
    """Commit the head after all labels, and its evaluation, as the closing record.

    Args:
        opened: the run, which no other process is at work on.
        ledger: its labels.
        fleet: the pool's partitions.

    Returns:
        The head.
    """
    clock = Clock()
    with clock.stage(UPDATE):
        update = head_now(opened, ledger, fleet)
    with clock.stage(EVALUATE):
        tests = draw_tests(opened, ledger, fleet, update.head, 0, 0)
        evaluation = evaluation_of(opened, ledger, fleet, update, tests)
    record = {"round": opened.run.rounds, **update.record(), "evaluation": evaluation}
    opened.run.publish(None, {**record, "seconds": clock.seconds}, update.head, None)
    return update.head


def head_now(opened: OpenRun, ledger: Ledger, fleet: Fleet) -> HeadUpdate:
    """The head that the next round would have. Begins a program of the fleet, and leaves no trace in the run."""
    start_program(fleet, ledger.excluded(), HeldOut.of(opened.config, opened.pool), opened.parts.rows)
    return next_head(fleet, opened.pool, opened.run, ledger, opened.parts.trainer, opened.config)


def evaluation_of(
    opened: OpenRun, ledger: Ledger, fleet: Fleet, update: HeadUpdate, tests: DrawnTests | None = None
) -> Record | None:
    """How a head does on the held-out items that it was not fitted on, where people or the oracle know some.

    Args:
        opened: the run.
        ledger: its labels.
        fleet: the pool's partitions.
        update: the head.
        tests: those that were just drawn, and what is known beside them.

    Returns:
        The evaluation, for the record; None where nothing is known.
    """
    config = opened.config
    if update.head is None or (held_out := HeldOut.of(config, opened.pool)) is None:
        return None
    truth, told = truth_of_held_out(opened, ledger, update)
    half: Half = "measure" if opened.parts.learns_from_held_out else "all"
    tested = None if tests is None else read_tests(opened.run, ledger, tests.record())
    found = evaluate(
        fleet,
        update.head,
        held_out.key,
        held_out.share,
        truth,
        told,
        half,
        owners=held_out.owners,
        tested=tested,
        target=config.target,
        k=config.rounds.k,
    )
    return None if found is None else asdict(found)


def reference_labels(opened: OpenRun, ledger: Ledger, fleet: Fleet, update: HeadUpdate) -> dict[int, str]:
    """The labels that people or the oracle know of the held-out items that measure nothing, by id."""
    if (held_out := HeldOut.of(opened.config, opened.pool)) is None:
        return {}
    known = truth_of_held_out(opened, ledger, update)
    return known_labels(fleet, held_out.key, held_out.share, *known, "reference", owners=held_out.owners)


def truth_of_held_out(
    opened: OpenRun, ledger: Ledger, update: HeadUpdate
) -> tuple[Callable[[Sequence[int]], dict[int, str]], dict[int, str]]:
    """What the oracle knows of held-out items that the head was not fitted on, and what people say of such items."""
    # Which items are held out goes by their ids; in another pool, some that trained before are among them.
    seen = set(update.known.ids.tolist())

    def truth(ids: Sequence[int]) -> dict[int, str]:
        return opened.parts.oracle.truth([id for id in ids if id not in seen])

    return truth, TrainingLabels.of(ledger, opened.config, opened.pool).tests(update.ledger_seq)
