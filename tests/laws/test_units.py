"""A law of heads: neither the origin nor the unit of the vectors changes a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
from pools import make_pool, mixture
from programs import labelled_of, local, run_program, small, strategy
from tiers import deep_unless

from raysal.config import choice
from raysal.models.head import Head
from raysal.models.trainers.base import Trainer, TrainingData
from raysal.models.trainers.bootstrap import Bootstrap
from raysal.models.trainers.logistic import Logistic
from raysal.models.trainers.mc_dropout import McDropout
from raysal.pool import Pool
from raysal.scoring.registry import SCORES
from raysal.strategies import SELECTORS
from raysal.strategies.base import Selector

N, DIM, K = 300, 6, 20
LOGISTIC = Logistic()
KNOWN, BEFORE = range(0, N, 9), range(0, N, 18)
ORIGIN = {
    "alfa_mix": "clusters directions",
    "drop_query": "clusters directions",
    "ldm": "keeps picks apart by their cosine",
    "max_herding": "covers by cosine",
    "novelty": "measures distances between directions",
    "probcover": "covers by cosine",
    "search": "measures the novelty of directions",
    "typiclust": "clusters directions",
    "u_herding": "covers by cosine",
}
"""Rules that are about directions from the origin, or about features as they are. Their unit does not matter either."""
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "shifted": lambda x: x + np.array([3, -5, 2, 7, -4, 6], np.float32),
    "eightfold": lambda x: 8 * x,
    "threefold": lambda x: 3 * x,
}
COLUMNS = np.array([1, 64, 0.5, 64, 64, 64], np.float32)
"""All are exact in float16, for the rows of `rows`."""


def rows() -> tuple[np.ndarray, list[str]]:
    """A mixture on a grid, so that float16 holds it, moved or multiplied, to the last bit."""
    x, names = mixture(N, DIM, seed=3)
    return np.round(x * 16) / 16, names


@lru_cache(maxsize=32)
def fitted(x: bytes, ids: range, trainer: Trainer) -> Head:
    names, vectors = rows()[1], np.frombuffer(x, np.float32).reshape(N, DIM)
    labels = [names[i] for i in ids]
    return trainer.fit(TrainingData(features=vectors[list(ids)], labels=labels, classes=sorted({*names}), seed=1))


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[np.ndarray, Pool]]:
    found = {}
    for name, change in {"as it is": lambda x: x, **CHANGES, "columns": lambda x: x * COLUMNS}.items():
        x = change(rows()[0])
        pool = make_pool(tmp_path_factory.mktemp("units") / "pool", x, chunk_rows=64)
        assert np.array_equal(np.concatenate([chunk.vectors() for chunk in pool.chunks]), x)
        found[name] = x, pool
    return found


def picks(x: np.ndarray, pool: Pool, selector: Selector, trainer: Trainer = LOGISTIC) -> list[int]:
    names = rows()[1]
    outcome = run_program(
        local(pool),
        selector,
        small("none"),
        head=fitted(x.tobytes(), KNOWN, trainer),
        previous=fitted(x.tobytes(), BEFORE, trainer),
        labelled=labelled_of(x, names, list(KNOWN)),
        reveal=lambda ids: {id: names[id] for id in ids if id % 2},
        k=K,
    )
    return outcome.picks.ids.tolist()


RULES = {name: strategy(name) for name in sorted(SELECTORS)} | {
    f"top {name}": choice({"name": "top_score", "score": name}).build("select", SELECTORS) for name in sorted(SCORES)
}


CASES = [(rule, change) for rule in RULES for change in CHANGES if rule not in ORIGIN or change != "shifted"]
FIRST = [(rule, "threefold" if rule in ORIGIN else "shifted") for rule in RULES]


@pytest.mark.parametrize(("rule", "change"), deep_unless(FIRST, CASES))
def test_neither_origin_nor_unit_of_the_vectors_changes_a_batch(rule: str, change: str, pools) -> None:
    assert picks(*pools[change], RULES[rule]) == picks(*pools["as it is"], RULES[rule])


@pytest.mark.parametrize("rule", ["badge", "top expected_gradient_length", "top mean_std"])
@pytest.mark.parametrize("trainer", [Bootstrap(members=4), McDropout(members=4)], ids=["bootstrap", "mc_dropout"])
def test_ensembles_keep_the_law(trainer: Trainer, rule: str, pools) -> None:
    shifted, as_it_is = (picks(*pools[name], RULES[rule], trainer) for name in ("shifted", "as it is"))
    assert shifted == as_it_is


def test_rules_that_depend_on_the_origin_do(pools) -> None:
    """Or they would belong under the law."""
    for rule in ORIGIN:
        assert picks(*pools["shifted"], RULES[rule]) != picks(*pools["as it is"], RULES[rule]), rule


BY_THE_HEAD = ("badge", "bait", "bald", "entropy", "expected_gradient_length", "margin", "power_margin")
"""Strategies that go by what the head says, and see vectors in no other way."""


@pytest.mark.parametrize("name", BY_THE_HEAD)
def test_under_a_standardised_head_the_unit_of_no_column_changes_a_batch(name, pools):
    trainer, selector = Logistic(standardise=True), strategy(name)
    expected = picks(*pools["as it is"], selector, trainer)
    assert picks(*pools["columns"], selector, trainer) == expected


def test_otherwise_it_does(pools):
    trainer = Logistic(standardise=False)
    assert picks(*pools["columns"], strategy("badge"), trainer) != picks(*pools["as it is"], strategy("badge"), trainer)
