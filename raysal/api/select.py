"""`raysal.select`: name a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from raysal.arguments import Backend, Part, as_number_above_0, as_place, as_whole_number
from raysal.arrow_values import array_of
from raysal.config import FleetConfig, IndexConfig, PartsConfig, as_section, choice
from raysal.errors import ConfigError, PoolExhausted, UnknownName
from raysal.fleet import open_fleet
from raysal.pool import Pool, open_pool
from raysal.rng import derive
from raysal.rounds.known_labels import LabelsArgument, known_labels


def select(
    pool: str | Path | Pool,
    *,
    k: int | None = None,
    strategy: Part = "badge",
    labels: LabelsArgument | None = None,
    narrow: Part | None = None,
    partitions: int | None = None,
    backend: Backend = "local",
    seed: int = 0,
    rebind: bool = False,
    probabilities: Any = None,
    target: str | Sequence[str] = (),
    only_new: bool = False,
    parts: Mapping[str, Any] | PartsConfig | None = None,
    budget: float | None = None,
    cost: str | None = None,
) -> pa.Table:
    """A batch of k items in pick order; or of as many as a budget pays for.

    What has a label is not picked again; what annotators disagree about is neither picked nor learnt from. The head is
    logistic. With a run directory, items that wait for a label or are held out are not picked either, and the head is
    the one that the run's next round would have: by its trainer, its updates and its seed. The run is left as it is.

    Without labels the batch is the cold start, `typiclust`, unless the strategy works without a head. `coreset`
    works without one, but would begin with the outliers, so it counts as a strategy that does not. The reason says so.
    `novelty` does begin with them, as they are what it is asked for. For `random`, `typiclust`, `coreset` and
    `novelty`, which never look at a head, none is made of labels.

    Deterministic in (pool, labels, arguments); the same for any `partitions` and `backend`. Costs one sweep, and what
    the strategy costs. The pool is never gathered.

    Args:
        pool: an embedded pool, its path or its URL.
        k: items in the batch, unless there is a budget.
        strategy: a name of `raysal.strategies.SELECTORS` or of a score (`raysal.scoring.SCORES`), as `margin`, whose
            highest are then picked; or a mapping with `name` and fields.
        labels: a label file, a run directory (its ledger), {key: label}, `Label`s, a Series of pandas whose index holds
            the keys, or a frame with the columns `key` and `label`.
        narrow: a name of `raysal.narrowing.NARROWERS`, or a mapping with `name` and fields; none chooses from the whole
            pool.
        partitions: parts that the pool is cut into; by default one, and with Ray one per CPU.
        backend: this process, or Ray.
        seed: randomness.
        probabilities: where there are no labels yet, what a zero-shot model or another network predicts. It is a .csv,
            .tsv or .parquet file, or a frame, with the column `key` and one column of probabilities for each class; or
            a folder that `raysal.predict(..., top="all")` wrote. Every item that may be offered needs them. For
            `class_balanced` (around `typiclust`, `random`, `margin` ...), `margin`, `entropy` and `least_confidence`.
        target: the class that is looked for, or several, for scores of these (`probability`). By default those of the
            run in `labels`.
        only_new: only items that came since the last round of the run in `labels`, or else since the pool grew last;
            all where it has not grown.
        rebind: if the run in `labels` is of another pool, match its labels with the items of this one by key. The run
            itself stays with its pool.

        parts: in a pool of parts (boxes, tiles, frames, windows), whether to choose parts or what owns them, and how:
            the fields of `raysal.config.PartsConfig`, as `{"by": "owner", "aggregate_scores": "max"}`. By owner, every
            strategy and narrower works on owners, and keys and labels are those of owners.
        budget: in place of k, what the batch may cost. Picks end before the first that would exceed it.
        cost: the carried column of what an item costs; an owner costs the sum over its parts. By default an item costs
            1, and an owner the number of its parts.

    Returns:
        The columns id, key, rank (from 1), score, reason; with a budget also cost. The metadata of the table's schema
        say under `narrow` which candidates the batch was chosen from.

    Raises:
        PoolExhausted: fewer than k items are left.
        LabelError: a label's key is not in the pool, or a label cannot be accepted.
        UnknownName: there is no such strategy, narrower or backend.
        ConfigError: a field of a strategy or narrower does not exist; an argument is of the wrong type or out of range;
            or `probabilities` cannot be used, and the error names the item or key.
            Or `labels` is a run whose labels are of parts, where those of owners are asked for; or the other way round.
        RunError: `labels` is a directory without a run.
        FingerprintMismatch: `labels` is the run of another pool, and `rebind` is false.
        PoolError: the pool cannot be opened, or has no index and the narrower searches one.
    """
    from raysal.context import RoundContext
    from raysal.fleet.masks import exclude_before
    from raysal.index import check_index
    from raysal.narrowing import NARROWERS
    from raysal.narrowing.base import searches_index
    from raysal.pool.owners import pool_of_labels
    from raysal.rounds.batch import batch_table
    from raysal.rounds.budgets import Budget, costs_of
    from raysal.rounds.choose import choose
    from raysal.rounds.given_probabilities import check_strategy, read_probabilities
    from raysal.rounds.offered import RowsOffered
    from raysal.rounds.preflight import check_target
    from raysal.rounds.program import start_program
    from raysal.strategies import SELECTORS

    if (k is None) == (budget is None):
        problem = "neither is given" if k is None else "both are given"
        raise ConfigError("k, budget", problem, "say how many items, or what they may cost")
    if cost is not None and budget is None:
        raise ConfigError("cost", "there is no budget", "give a budget in place of k")
    paying = None if budget is None else Budget(cost=as_number_above_0("budget", budget), column=cost)
    wanted = 1 if k is None else as_whole_number("k", k, 1)
    seed = as_whole_number("seed", seed, 0)
    offered = RowsOffered.of(as_section(PartsConfig, {} if parts is None else parts, "parts"))
    count = 0 if partitions is None else as_whole_number("partitions", partitions, 1)
    if backend not in ("local", "ray"):
        raise UnknownName("backend", backend, ["local", "ray"])
    chosen_strategy = choice(strategy, "strategy")
    selector = chosen_strategy.build("strategy", SELECTORS)
    narrower = choice("none" if narrow is None else narrow, "narrow").build("narrow", NARROWERS)
    parts_pool = pool if isinstance(pool, Pool) else open_pool(as_place("pool", pool))
    pool = pool_of_labels(parts_pool, offered.config)
    parts_pool = pool.stored
    chosen_pool = pool_of_labels(pool, PartsConfig(by=offered.config.by))
    offered.refuse_probabilities(probabilities)
    with known_labels(pool, labels, rebind=rebind) as known:
        looked_for = (target,) if isinstance(target, str) else tuple(target) or known.target
        check_target(looked_for, selector, narrower)
        if searches_index(narrower, known.trainer):
            offered.refuse_index()
            check_index(pool, IndexConfig())
        with open_fleet(parts_pool, FleetConfig(backend=backend, partitions=count)) as fleet:
            available = start_program(fleet, known.taken, known.held_out, offered)
            if only_new:
                left = fleet.each(exclude_before, pool.first_new_id(known.pool_seen))
                available = sum(left)
            if wanted > available:
                raise PoolExhausted(wanted=wanted, available=available)
            looked_at = selector.looks_at_head or narrower.looks_at_head() or offered.looks_at_head
            looked_at = looked_at or known.trainer.hidden_layer
            update = known.next_head(fleet, pool, seed) if looked_at else known.without_head(fleet, pool)
            given = None
            if probabilities is not None:
                if len(update.known):
                    raise ConfigError("probabilities", "there are labels, so a head predicts", "leave out one of them")
                check_strategy(chosen_strategy.name, selector)
                given = read_probabilities(pool, probabilities)
            cold = not len(update.known) and given is None and not selector.can_start_cold
            context = RoundContext(
                head=update.head,
                labelled=update.known,
                pool=chosen_pool,
                k=wanted,
                available=available,
                key=derive(seed, 0),
                target=looked_for,
                like=known.queries(pool),
                background=update.background or 0,
                yields=known.yields,
                previous=update.previous,
                given=given,
                pool_scale=pool.scale,
            )
            used = SELECTORS["typiclust"]() if cold else selector
            context = offered.look(fleet, context, used)
            if paying is not None:
                context = replace(context, k=paying.most_items(fleet))
            chosen = choose(fleet, context, narrower, used, budget=paying)
            costs = None if paying is None else costs_of(fleet, chosen.picks.ids, cost)
    table = batch_table(chosen_pool, chosen.picks)
    if costs is not None:
        table = table.append_column("cost", array_of(costs, pa.float64()))
    if cold:
        prefix = f"no labels yet, so typiclust instead of {chosen_strategy.name}: "
        reasons = array_of([prefix + reason for reason in chosen.picks.reasons], pa.string())
        table = table.set_column(table.column_names.index("reason"), "reason", reasons)
    return table.replace_schema_metadata({"narrow": chosen.candidates.rule})
