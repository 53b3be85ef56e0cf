"""Every strategy from Python, on the whole pool and on candidates; a new entry of the registry joins by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pools import make_pool, mixture
from programs import labelled_of, local, random_head, run_program, small, strategy
from small_run import begin

import raysal
from raysal.narrowing import NARROWERS
from raysal.pool import Pool
from raysal.strategies import SELECTORS

every_strategy = pytest.mark.parametrize("strategy", sorted({*SELECTORS} - {"reveal"}))
"""`reveal` asks an oracle, which only a session has."""
N, K = 240, 9
LABELLED = range(0, 60, 2)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return make_pool(tmp_path_factory.mktemp("strategies") / "pool", mixture(N, 8, classes=3)[0], chunk_rows=100)


@pytest.fixture(scope="module")
def labels() -> dict[str, str]:
    names = mixture(N, 8, classes=3)[1]
    return {f"item-{i:06d}": names[i] for i in LABELLED}


@every_strategy
@pytest.mark.parametrize("narrow", [None, {"name": "uniform", "size": 60}], ids=["whole", "candidates"])
def test_every_strategy_picks_a_batch(
    strategy: str, narrow: dict[str, object] | None, pool: Pool, labels: dict[str, str]
) -> None:
    table = raysal.select(pool, k=K, strategy=strategy, labels=labels, narrow=narrow, seed=1, target="class-1")
    assert table["rank"].to_pylist() == list(range(1, K + 1))
    assert len(set(table["id"].to_pylist())) == K
    assert not set(table["key"].to_pylist()) & set(labels)
    for reason in table["reason"].to_pylist():
        assert reason
        assert "no labels yet" not in reason


@every_strategy
def test_every_strategy_has_a_first_batch(strategy: str, pool: Pool) -> None:
    table = raysal.select(pool, k=K, strategy=strategy, target="class-1")
    assert len(set(table["id"].to_pylist())) == K


@every_strategy
@pytest.mark.parametrize("wrapper", ["class_balanced", "skip_extremes"])
def test_every_strategy_works_inside_a_wrapper(wrapper: str, strategy: str, pool: Pool, labels: dict[str, str]) -> None:
    table = raysal.select(pool, k=K, strategy=f"{wrapper}:{strategy}", labels=labels, target="class-1")
    assert len(set(table["id"].to_pylist())) == K


def test_wrappers_are_spelled_in_two_ways(pool: Pool, labels: dict[str, str]) -> None:
    short = raysal.select(pool, k=K, strategy="skip_extremes:class_balanced:coreset", labels=labels)
    inner = {"name": "class_balanced", "of": "coreset"}
    assert raysal.select(pool, k=K, strategy={"name": "skip_extremes", "of": inner}, labels=labels).equals(short)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pool, Pool]:
    """Two pools that differ in every row that is labelled or excluded, and in no other."""
    x = mixture(N, 8, classes=3)[0]
    others, out = x.copy(), [*LABELLED, *EXCLUDED]
    others[out] = np.random.default_rng(5).normal(size=(len(out), 8)) * 4
    root = tmp_path_factory.mktemp("twins")
    return make_pool(root / "a", x, chunk_rows=100), make_pool(root / "b", others, chunk_rows=100)


EXCLUDED = range(1, N, 7)
"""Leased, held out or dropped."""


@pytest.mark.parametrize(
    ("strategy_name", "narrower"),
    [*((name, "none") for name in sorted(SELECTORS)), *(("top_score", name) for name in sorted(NARROWERS))],
)
def test_what_is_excluded_changes_nothing(strategy_name: str, narrower: str, twins: tuple[Pool, Pool]) -> None:
    """Neither picks nor scores: an item that is held out is known to no part of a round."""
    x, names = mixture(N, 8, classes=3)
    outcomes = [
        run_program(
            local(pool, 2),
            strategy(strategy_name),
            small(narrower),
            head=random_head(8, 3),
            labelled=labelled_of(x, names, LABELLED),
            excluded=EXCLUDED,
            previous=random_head(8, 3, seed=1),
            reveal=lambda ids: {id: names[id] for id in ids},
        )
        for pool in twins
    ]
    assert outcomes[1].same_as(outcomes[0])


BLIND = [name for name in sorted(SELECTORS) if not strategy(name).looks_at_head]


@pytest.mark.parametrize("name", BLIND)
@pytest.mark.parametrize("narrow", [name for name in sorted(NARROWERS) if not small(name).looks_at_head()])
def test_what_never_looks_at_a_head_picks_the_same_without_one(name: str, narrow: str, pool: Pool) -> None:
    x, names = mixture(N, 8, classes=3)
    one, other = (
        run_program(local(pool, 2), strategy(name), small(narrow), head=head, labelled=labelled_of(x, names, LABELLED))
        for head in (None, random_head(8, 3))
    )
    assert np.array_equal(one.picks.ids, other.picks.ids)
    assert np.array_equal(one.picks.scores, other.picks.scores)
    assert one.picks.reasons == other.picks.reasons
    assert one.candidates.rule == other.candidates.rule


@pytest.mark.parametrize("name", BLIND)
def test_no_head_is_made_for_a_strategy_that_never_looks_at_one(
    name: str, pool: Pool, labels: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a head was fitted")

    monkeypatch.setattr("raysal.models.trainers.logistic.Logistic.fit", refuse)
    for narrow in ("none", {"name": "uniform", "size": 60}):
        found = raysal.select(pool, k=K, strategy=name, labels=labels, narrow=narrow)
        assert not any("no labels yet" in reason for reason in found["reason"].to_pylist())
    for looking in ({"strategy": "margin"}, {"strategy": name, "narrow": {"name": "top_score", "size": 60}}):
        with pytest.raises(AssertionError, match="a head was fitted"):
            raysal.select(pool, k=K, labels=labels, **looking)


def test_without_a_head_a_run_offers_what_it_would_offer_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(tmp_path, rounds=2, control=False)
    blind = [raysal.select(tmp_path / "pool", k=5, strategy=name, labels=run) for name in BLIND]
    for name in BLIND:
        monkeypatch.setattr(type(strategy(name)), "looks_at_head", True)
    looking = [raysal.select(tmp_path / "pool", k=5, strategy=name, labels=run) for name in BLIND]
    assert all(one.equals(other) for one, other in zip(blind, looking, strict=True))


def test_some_strategies_never_look_at_a_head() -> None:
    assert BLIND == ["coreset", "novelty", "random", "typiclust"]
