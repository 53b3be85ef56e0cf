"""The classes that are looked for: a run names them, parts that go by them need them, heads know them at once."""

from __future__ import annotations

import numpy as np
import pytest
from pools import make_pool, mixture
from programs import local, random_head, run_program, small

import raysal
from raysal.config import parse_config
from raysal.context import LabelledVectors
from raysal.errors import ConfigError
from raysal.pool import Pool
from raysal.rounds.session import Session
from raysal.strategies.simple import TopScore

N, DIM = 200, 8


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    x, names = mixture(N, DIM)
    return make_pool(tmp_path_factory.mktemp("target") / "pool", x, chunk_rows=60, labels=names)


@pytest.mark.parametrize(
    "parts",
    [
        {"select": "probability"},
        {"select": "class_balanced:log_odds"},
        {"narrow": {"name": "top_score", "score": "probability"}},
        {"narrow": {"name": "mixed", "parts": [{"name": "top_score", "score": "log_odds"}]}},
        {"narrow": {"name": "filter", "inner": {"name": "top_score", "score": "log_odds"}}},
        {"narrow": {"name": "refine", "members": ["random", "probability"]}},
    ],
)
def test_a_part_that_goes_by_a_target_is_refused_without_one(parts, pool, tmp_path):
    with pytest.raises(ConfigError, match=r"target.*names no class.*--target"):
        Session(tmp_path / "run", pool, oracle="simulated", **parts)
    assert not (tmp_path / "run" / "config.json").exists()
    with Session(tmp_path / "named", pool, oracle="simulated", target=["class-1"], **parts) as session:
        session.ask_oracle(session.query(8))
        assert len(session.query(8)) == 8


def test_numbers_have_no_target(pool, tmp_path):
    with pytest.raises(ConfigError, match="target"):
        Session(tmp_path / "run", pool, update={"trainer": "regression"}, select="random", target=["class-1"])


def test_an_empty_name_is_no_class():
    with pytest.raises(ConfigError, match="target"):
        parse_config({"pool": "pool", "target": [""]})


def test_a_head_knows_the_target_before_its_first_label(pool, tmp_path):
    """So the score is of it, and not of nothing: all labels are of another class, and what is least like them leads."""
    with Session(tmp_path / "run", pool, target=["rare"], select="probability", seed=3) as session:
        keys = pool.rows_where("id", list(range(6)), ["key"])["key"].to_pylist()
        session.tell(dict.fromkeys(keys, "common"))
        batch = session.query(5)
        head = session.current_head()
    assert head is not None
    assert head.classes == ("common", "rare")
    assert all(reason.startswith("probability") for reason in batch.table["reason"].to_pylist())


def test_select_takes_the_target_of_the_run_or_another(pool, tmp_path):
    with Session(tmp_path / "run", pool, target=["class-2"], oracle="simulated", select="margin") as session:
        session.ask_oracle(session.query(30))
    of_run = raysal.select(pool, k=9, strategy="log_odds", labels=tmp_path / "run")
    named = raysal.select(pool, k=9, strategy="log_odds", labels=tmp_path / "run", target="class-2")
    other = raysal.select(pool, k=9, strategy="log_odds", labels=tmp_path / "run", target=["class-0", "class-1"])
    assert of_run["key"].to_pylist() == named["key"].to_pylist()
    assert of_run["key"].to_pylist() != other["key"].to_pylist()
    with pytest.raises(ConfigError, match="target"):
        raysal.select(pool, k=9, strategy="log_odds")


def test_of_two_classes_the_odds_of_one_are_minus_those_of_the_other(pool):
    nothing = LabelledVectors(ids=np.empty(0, np.int64), vectors=np.empty((0, DIM), np.float32), classes=[])
    head = random_head(DIM, 2)
    outcomes = []
    for name in ("class-0", "class-1"):
        renamed = {"class-0": "class-1", "class-1": "other"} if name == "class-0" else {}
        named = head.__class__(**{**vars(head), "classes": tuple(renamed.get(one, one) for one in head.classes)})
        outcomes.append(
            run_program(local(pool), TopScore(score="log_odds"), small("none"), head=named, labelled=nothing, k=N).picks
        )
    first = dict(zip(outcomes[0].ids.tolist(), outcomes[0].scores.tolist(), strict=True))
    second = dict(zip(outcomes[1].ids.tolist(), outcomes[1].scores.tolist(), strict=True))
    np.testing.assert_allclose([first[id] for id in range(N)], [-second[id] for id in range(N)], rtol=1e-6, atol=1e-6)
