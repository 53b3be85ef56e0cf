"""What a pool is ranked by, and the plan of a version that follows from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from raysal.config import Named
from raysal.errors import ConfigError, UnknownName
from raysal.models.head import Head
from raysal.pool import Pool
from raysal.prediction.job import NOT_IN_A_HEAD, novelty_record
from raysal.ranking.layout import Plan
from raysal.scoring.inputs import ScoreInputs, score_inputs
from raysal.scoring.novelty.base import Novelty
from raysal.scoring.registry import SCORES

DRAWS = 128
"""Samples of the posterior for scores that compare samples."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a pool is ranked by.

    Raises:
        ConfigError: a field is out of range.
        UnknownName: there is no such score.
    """

    score: str = "probability"
    """a name of `SCORES`. The `probability` of the classes looked for ranks by their `log_odds`, which tell apart what
    float32 rounds to 1"""
    target: tuple[str, ...] = ()
    """the classes that are looked for"""
    novelty: Named[Novelty] | None = None
    """how unlike the pool an item is, in place of a score; it needs no head"""
    top: int | None = None
    """keep only so many of the best; None for all"""
    draws: int = DRAWS
    """samples of the posterior"""
    seed: int = 0
    """another seed gives other samples of the posterior, and another sample for novelty"""

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise UnknownName("score", self.score, sorted(SCORES))
        if self.top is not None and self.top < 1:
            raise ConfigError("top", f"{self.top} is below 1", "leave it out for all items")


def plan_of(pool: Pool, head: Head | None, options: Options) -> tuple[Plan, ScoreInputs | None]:
    """What a version is to hold, and what its score needs of the head.

    Args:
        pool: the items.
        head: what the score is of; None for novelty.
        options: what the pool is ranked by.

    Returns:
        The plan, without states, held-out items and sizes; and the inputs, None without a head.

    Raises:
        FingerprintMismatch: the head is of another encoder.
        ConfigError: the head has no such score, or no class is named that is looked for; or there is a head and a
            novelty, or neither.
    """
    if (head is None) == (options.novelty is None):
        raise ConfigError("novelty", "needs no head, and a score needs one", "give a head, or a novelty")
    plan = Plan(
        pool=pool.fingerprint,
        items=len(pool),
        chunks=len(pool.chunks),
        chunk_rows=pool.manifest.chunk_rows,
        head=None,
        head_version=None,
        labels=None,
        link=None,
        classes=(),
        score="novelty",
        novelty=None,
        target=(),
        top=options.top,
        draws=None,
        seed=options.seed,
        states="",
        held_out=None,
    )
    if head is None:
        assert options.novelty is not None
        return replace(plan, novelty=novelty_record(options.novelty)), None
    head.check(pool)
    score = "log_odds" if options.score == "probability" else options.score
    needs = SCORES[score].needs(head.likelihood)
    if missing := [NOT_IN_A_HEAD[need] for need in needs if need in NOT_IN_A_HEAD]:
        raise ConfigError("score", f"{score} needs {missing[0]}", "use another score, or `raysal select`")
    target = tuple(sorted(set(options.target))) if head.likelihood.discrete else ()
    if unknown := sorted(set(target) - set(head.classes)):
        problem = f"{unknown[0]!r} is none of the classes of the head"
        raise ConfigError("target", problem, f"its classes are {', '.join(head.classes)}")
    if score == "log_odds" and target and head.likelihood.exclusive and set(head.classes) <= set(target):
        problem = "is every class that the head knows, so that all items are as likely"
        raise ConfigError("target", problem, "label some items that are none of it, or rank by another score")
    inputs = score_inputs(
        head, (score,), needs=("target",) if target else (), target=target, draws=options.draws, key=options.seed
    )
    sampled = "samples" in needs
    of_head = replace(
        plan,
        head=head.digest(),
        head_version=head.version,
        labels=head.labels_seen,
        link=head.likelihood.name,
        classes=head.classes,
        score=score,
        target=target,
        draws=options.draws if sampled else None,
        seed=options.seed if sampled else None,
    )
    return of_head, inputs
