"""Scores are strategies by the names that people type, in every place that takes the name of a strategy."""

from __future__ import annotations

import numpy as np
import pytest
from pools import make_pool, mixture

import raysal
from raysal.config import choice
from raysal.errors import ConfigError, UnknownName
from raysal.narrowing import NARROWERS
from raysal.registry import Registry
from raysal.scoring.registry import SCORES
from raysal.strategies import SELECTORS
from raysal.strategies.simple import TopScore

every_score = pytest.mark.parametrize("score", sorted(SCORES))


def build(given):
    return choice(given).build("select", SELECTORS)


def test_no_score_has_the_name_of_a_strategy():
    assert set(SELECTORS.short) == set(SCORES)
    assert not set(SCORES) & set(SELECTORS)
    assert all(name not in SELECTORS for name in SCORES), "a short name is no part of its own"


@every_score
def test_a_score_means_the_items_of_highest_score(score):
    assert build(score) == build({"name": score}) == TopScore(score=score)
    assert build({"name": score, "draws": 7}) == TopScore(score=score, draws=7)
    assert build({"name": score, "score": score}) == TopScore(score=score)
    for wrapper in ("class_balanced", "skip_extremes", "fantasy", "reveal"):
        assert build(f"{wrapper}:{score}").of.part == TopScore(score=score)
        assert build(f"{wrapper}:{score}").of.name == score
        assert build({"name": wrapper, "of": {"name": score, "draws": 9}}).of.part == TopScore(score=score, draws=9)


def test_members_of_refine_are_named_like_strategies():
    refine = choice({"name": "refine", "members": ["margin", {"name": "bald", "draws": 5}, "badge"]})
    members = refine.build("narrow", NARROWERS).members
    assert [member.name for member in members] == ["margin", "bald", "badge"]
    assert [member.part for member in members[:2]] == [TopScore(), TopScore(score="bald", draws=5)]


def test_a_new_score_is_a_strategy_by_its_line_in_the_registry():
    """The short names are made of the registry of scores, and of nothing else."""
    for score, meaning in SELECTORS.short.items():
        assert meaning == ("top_score", {"score": score})


def test_a_part_comes_before_a_short_name():
    registry = Registry({"random": "raysal.strategies.simple:Random"}, SELECTORS.short | {"random": ("no", {})})
    assert "random" not in registry.short
    assert choice("random").build("select", registry) == build("random")


@pytest.mark.parametrize(
    ("given", "where", "near"),
    [
        ("margn", "select", "margin"),
        ("Margin", "select", "margin"),
        ("BALD", "select", "bald"),
        ("least-confidence", "select", "least_confidence"),
        ("core_set", "select", "coreset"),
        ("class_balanced:entropi", "select.of", "entropy"),
        ("clas_balanced:margin", "select", "class_balanced"),
        ("zebra", "select", None),
    ],
)
def test_an_unknown_name_is_told_the_nearest(given, where, near):
    with pytest.raises(UnknownName) as caught:
        build(given)
    assert caught.value.where == where
    assert ("did you mean" in str(caught.value)) == (near is not None)
    assert near is None or f"did you mean {near!r}?" in str(caught.value)
    assert {"badge", "margin"} <= set(caught.value.known)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "margin", "score": "entropy"}, "select.score: 'entropy', and the name says 'margin'"),
        ("margin:badge", "select.name: 'margin' takes nothing after a colon"),
        ({"name": "margin", "beta": 2}, "select.beta: 'margin' has no such field"),
    ],
)
def test_what_a_score_does_not_take_is_named(given, message):
    with pytest.raises(ConfigError, match=message):
        build(given)


@pytest.mark.parametrize("score", ["entropy", "least_confidence", "margin"])
def test_a_batch_by_a_score_is_that_of_top_score(score, tmp_path):
    x, names = mixture(120, 5, classes=3)
    pool = make_pool(tmp_path / "pool", x)
    labels = {f"item-{i:06d}": names[i] for i in range(20)}
    mine = raysal.select(pool, k=9, strategy=score, labels=labels)
    assert mine.equals(raysal.select(pool, k=9, strategy={"name": "top_score", "score": score}, labels=labels))
    cold = raysal.select(pool, k=3, strategy=score)["reason"].to_pylist()
    assert all(f"typiclust instead of {score}" in reason for reason in cold)


def test_a_start_with_one_label_is_not_the_first_files(tmp_path):
    """One class: every margin is 0, and the batch is uniform over the pool, another one for each seed."""
    pool = make_pool(tmp_path / "pool", mixture(200, 5)[0])
    batches = [
        raysal.select(pool, k=10, strategy="margin", labels={"item-000199": "cat"}, seed=seed)["id"].to_numpy()
        for seed in range(8)
    ]
    assert len({tuple(np.sort(batch)) for batch in batches}) == 8
    assert abs(np.concatenate(batches).mean() - 99) < 5 * np.sqrt(200**2 / 12 / 80)
