"""What a run that looks for classes has found, how much is left, and what speaks for stopping: from its files alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.config import RunConfig
from raysal.labels import Ledger
from raysal.labels.ledger import EXAMPLES_ROUND
from raysal.models.intervals import Interval
from raysal.models.likelihood import Likelihood
from raysal.models.ranking_measures import mean_and_interval
from raysal.rounds.directory import RunDir
from raysal.rounds.tested import Tested, read_tests
from raysal.types import Found

FEWEST = 30
"""Labels without a find that are worth a hint."""
RULE_OF_THREE = 3
"""Where n independent answers hold none, the share is below 3 / n with 95 %: (1 - 3 / n)^n is about 1 / 20."""


def found_by(
    run: RunDir, config: RunConfig, ledger: Ledger, likelihood: Likelihood, items: int | None, last: Mapping[str, Any]
) -> Found | None:
    """What a run has found, and what is left.

    Args:
        run: the run directory.
        config: its config.
        ledger: its labels.
        likelihood: what they are.
        items: how many the pool has; None where that is not known.
        last: the last evaluation, if there is one.

    Returns:
        The numbers; None where the run looks for no class.
    """
    if not config.target:
        return None
    wanted = set(config.target)
    labels = ledger.labels()
    of_target = {item.id for item in labels if wanted & set(likelihood.names_in(item.label, repr(item.key)))}
    before = began_with(run, ledger)
    since = [item for item in labels if item.id not in before]
    finds = [item.since for item in since if item.id in of_target]
    newest = max(finds, default=0)
    tested = read_tests(run, ledger)
    # Also of items that train, as some do once the run was matched with another pool: the prevalence is of no head.
    answered = tested.answered({item.id for item in labels})
    share, interval = _prevalence(tested, answered, of_target, last)
    known, count = len(of_target), len(since)
    left, left_interval = None, None
    if share is not None and interval is not None and items is not None:
        left = max(0.0, items * share - known)
        left_interval = max(0.0, items * interval[0] - known), max(0.0, items * interval[1] - known)
    since_find = sum(item.since > newest for item in since)
    return Found(
        target=config.target,
        found=len(finds),
        known=known,
        labels=count,
        precision=len(finds) / count if count else None,
        since_find=since_find,
        drawn=int(tested.tests.sum()),
        answered=int((tested.tests & answered).sum()),
        prevalence=share,
        prevalence_interval=interval,
        left=left,
        left_interval=left_interval,
        hints=tuple(_hints(since_find, config, share, left_interval)),
    )


def began_with(run: RunDir, ledger: Ledger) -> set[int]:
    """The labeled items that a run began with: those from before its first round, and examples, whenever they came.

    Args:
        run: the run directory.
        ledger: its labels.

    Returns:
        Their ids.
    """
    begun = run.record(0)["ledger_seq"] if run.rounds else ledger.head_seq
    examples = {item.id for item in ledger.labels() if item.round == EXAMPLES_ROUND}
    return examples | {item.id for item in ledger.labels(upto=begun)}


def _prevalence(
    tested: Tested, answered: NDArray[np.bool_], of_target: set[int], last: Mapping[str, Any]
) -> tuple[float | None, Interval | None]:
    """The share of the pool that is looked for, and its interval; by the last evaluation where nothing was drawn."""
    if (tested.sample.drawn & answered).any():
        value = np.array([id in of_target for id in tested.ids.tolist()], np.float64) * answered
        return mean_and_interval(value, answered, tested.sample)
    share = last.get("measures", {}).get("prevalence")
    interval = last.get("intervals", {}).get("prevalence")
    return share, None if interval is None else (interval[0], interval[1])


def _hints(since_find: int, config: RunConfig, share: float | None, left: Interval | None) -> list[str]:
    """What speaks for stopping, or for measuring."""
    hints = []
    if since_find >= max(FEWEST, config.rounds.k):
        hints.append(
            f"the last {since_find} labels found nothing new: fewer than 1 in {since_find // RULE_OF_THREE} of what is "
            "labelled now is looked for (95 %, rule of three)"
        )
    if left is not None and left[1] < 1:
        hints.append("nothing is left to find (95 %)")
    if share is None:
        hints.append(
            "nothing says yet how much is left: label the test draws of the batch"
            if config.rounds.tests
            else "nothing says how much is left: label held-out items (`raysal label export RUN --holdout 200`)"
            if config.rounds.holdout
            else "nothing can say how much is left, as the run holds out no items; begin one with holdout and tests"
        )
    return hints
