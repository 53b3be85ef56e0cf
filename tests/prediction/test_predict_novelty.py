"""What `raysal predict` writes beside what a head predicts, or without one: novelty, and scores of a target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pools import make_pool, mixture
from programs import local
from tiers import deep

import raysal
from raysal.cli import main
from raysal.config import Named
from raysal.errors import ConfigError, RunError, UnknownName
from raysal.fleet import plan_partitions
from raysal.models.head import Head
from raysal.models.trainers import TRAINERS
from raysal.models.trainers.base import TrainingData
from raysal.pool import Pool
from raysal.prediction import Options, Predictions, predict_pool
from raysal.rng import derive
from raysal.rounds.session import Session
from raysal.scoring.novelty.base import novelty_of
from raysal.scoring.novelty.neighbours import NearestNeighbours
from raysal.scoring.novelty.registry import NOVELTIES

N, DIM = 500, 10
SMALL = {"knn": {"sample": 90}, "local_density": {"sample": 90}, "isolation_forest": {"trees": 15, "sample": 200}}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    x, names = mixture(N, DIM, classes=3)
    where = tmp_path_factory.mktemp("predict") / "pool"
    return make_pool(where, x, chunk_rows=90, labels=names, missing=[3, *range(180, 270)])


def fitted(pool: Pool, trainer: str = "logistic") -> Head:
    table = pool.chunks[0].items(["label"])["label"].to_pylist()[:60]
    names = {"multi_label": [f"{name}|other" if i % 3 else name for i, name in enumerate(table)]}.get(trainer, table)
    if trainer == "regression":
        names = [str(i) for i in range(60)]
    classes = [] if trainer == "regression" else sorted({part for name in names for part in name.split("|")})
    data = TrainingData(
        features=pool.chunks[0].vectors()[:60].astype(np.float32),
        labels=names,
        classes=classes,
        encoder=str(pool.manifest.encoder["fingerprint"]),
        version=4,
    )
    return TRAINERS[trainer]().fit(data)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def numbers(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy()


@pytest.mark.parametrize("name", sorted(NOVELTIES))
def test_novelty_needs_no_head_and_is_that_of_the_whole_pool(name, pool, tmp_path):
    asked: dict[str, Any] = {"name": name, **SMALL.get(name, {})}
    found = raysal.predict(pool, out=tmp_path / "1", novelty=asked, seed=5)
    table = found.table()
    assert table.column_names == ["id", "key", "novelty"]
    fleet = local(pool)
    part = NOVELTIES[name](**SMALL.get(name, {}))
    ((ids, scores),) = fleet.each(novelty_of, part.fit(fleet, derive(5, "novelty")), numbers(table, "id"))
    assert np.array_equal(ids, numbers(table, "id"))
    assert np.array_equal(scores, numbers(table, "novelty"))
    assert (found.plan.head, found.plan.head_version, found.plan.link, found.plan.classes) == (None, None, None, ())
    assert found.plan.options["novelty"]["name"] == name
    raysal.predict(pool, out=tmp_path / "4", novelty=asked, seed=5, partitions=4)
    assert content(tmp_path / "4") == content(tmp_path / "1")


@deep
def test_with_a_head_novelty_has_the_same_bytes_on_ray(pool, tmp_path, ray_session):
    from raysal.fleet.ray_fleet import RayFleet

    head = fitted(pool)
    options = Options(novelty=Named("knn", NearestNeighbours(sample=90)), seed=5)
    with local(pool) as fleet:
        predict_pool(pool, fleet, head, tmp_path / "here", options)
    with RayFleet(plan_partitions(pool, 2, threads=1)) as there:
        predict_pool(pool, there, head, tmp_path / "ray", options)
    assert content(tmp_path / "ray") == content(tmp_path / "here")


def test_with_a_head_novelty_is_a_column_more(pool, tmp_path):
    head = fitted(pool)
    options = Options(novelty=Named("knn", NearestNeighbours(sample=90)), seed=5)
    with local(pool) as fleet:
        predict_pool(pool, fleet, head, tmp_path / "here", options)
    table = Predictions(tmp_path / "here").table()
    plain = raysal.predict(pool, out=tmp_path / "plain", head=head, seed=5).table()
    alone = raysal.predict(pool, out=tmp_path / "alone", novelty={"name": "knn", "sample": 90}, seed=5).table()
    assert table.column_names == [*plain.column_names, "novelty"]
    assert table.drop(["novelty"]) == plain
    assert table["novelty"] == alone["novelty"]


def test_a_job_goes_on_with_the_novelty_that_it_was_begun_with(pool, tmp_path):
    asked = {"name": "knn", "sample": 90}
    raysal.predict(pool, out=tmp_path / "p", novelty=asked)
    whole = content(tmp_path / "p")
    for number in (0, 3):
        (tmp_path / "p" / "commits" / f"{number:05d}.json").unlink()
        (tmp_path / "p" / "predictions" / f"{number:05d}.parquet").unlink()
    for other in (
        {"novelty": {"name": "knn", "sample": 91}},
        {"novelty": asked, "seed": 1},
        {"novelty": "mahalanobis"},
    ):
        with pytest.raises(RunError, match="was begun with"):
            raysal.predict(pool, out=tmp_path / "p", **other)
    raysal.predict(pool, out=tmp_path / "p", novelty=asked, partitions=3)
    assert content(tmp_path / "p") == whole


def test_what_is_asked_of_a_head_that_is_not_there_is_refused(pool, tmp_path):
    for name, value in {"uncertainty": "entropy", "top": 2, "predictive": "mean_field", "target": "class-1"}.items():
        with pytest.raises(ConfigError, match=f"{name}: is asked of a head, and there is none"):
            raysal.predict(pool, out=tmp_path / "p", novelty="knn", **{name: value})
    with pytest.raises(ConfigError, match="one of a run, a head and a novelty is needed"):
        raysal.predict(pool, out=tmp_path / "p")
    with pytest.raises(UnknownName, match="novelty: unknown name 'odd'; use one of: isolation_forest, knn"):
        raysal.predict(pool, out=tmp_path / "p", novelty="odd")
    with pytest.raises(ConfigError, match=r"novelty\.far: 'knn' has no such field; its fields: k, sample"):
        raysal.predict(pool, out=tmp_path / "p", novelty={"name": "knn", "far": 3})
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("trainer", ["logistic", "multi_label"])
def test_scores_of_a_target_are_of_its_classes_together(trainer, pool, tmp_path):
    head = fitted(pool, trainer)
    target = ("class-0", "class-2")
    uncertainty = ("entropy", "probability", "log_odds")
    table = raysal.predict(pool, out=tmp_path / "p", head=head, target=target, uncertainty=uncertainty).table()
    x = np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float64)
    p = head.probabilities(x)[:, [head.classes.index(name) for name in target]]
    wanted = p.sum(1) if trainer == "logistic" else 1 - (1 - p).prod(1)
    np.testing.assert_allclose(numbers(table, "target_probability"), wanted, atol=1e-5)
    np.testing.assert_allclose(numbers(table, "target_log_odds"), np.log(wanted / (1 - wanted)), rtol=1e-3, atol=1e-3)
    assert table.column_names[-3:] == ["entropy", "target_probability", "target_log_odds"]
    cut = raysal.predict(pool, out=tmp_path / "4", head=head, target=target, uncertainty=uncertainty, partitions=4)
    assert content(cut.path) == content(tmp_path / "p")
    alone = raysal.predict(pool, out=tmp_path / "q", head=head, target="class-0").table()
    assert alone.column_names[-1] == "target_probability"


def test_a_target_that_is_no_class_of_the_head_is_refused_by_name(pool, tmp_path):
    head = fitted(pool)
    with pytest.raises(UnknownName, match="target: unknown name 'lens'; use one of: class-0, class-1, class-2"):
        raysal.predict(pool, out=tmp_path / "p", head=head, target=["class-0", "lens"])
    with pytest.raises(ConfigError, match="target: names no class"):
        raysal.predict(pool, out=tmp_path / "p", head=head, uncertainty="probability")
    with pytest.raises(ConfigError, match="target: names classes, and the head predicts"):
        raysal.predict(pool, out=tmp_path / "p", head=fitted(pool, "regression"), target="class-0")
    assert not (tmp_path / "p").exists()
    raysal.predict(pool, out=tmp_path / "p", head=head, target="class-0")
    for target in ((), "class-1"):
        with pytest.raises(RunError, match=r"was begun with (target|uncertainty)"):
            raysal.predict(pool, out=tmp_path / "p", head=head, target=target)


def test_the_target_is_that_of_the_run_unless_another_is_named(pool, tmp_path):
    run = tmp_path / "run"
    fields: dict[str, Any] = {"select": "probability", "start": "random", "target": ["class-1"]}
    with Session(run, pool, oracle="simulated", **fields) as session:
        session.ask_oracle(session.query(30))
        session.query(5)
    table = raysal.predict(pool, out=tmp_path / "p", run=run, top="all").table()
    own = raysal.predict(pool, out=tmp_path / "q", run=run, target="class-1", top="all")
    assert own.table() == table
    assert own.plan.options["target"] == ["class-1"]
    place = own.plan.classes.index("class-1")
    expected = [row[place] for row in table["probabilities"].to_pylist()]
    np.testing.assert_allclose(numbers(table, "target_probability"), expected, atol=1e-7)
    other = raysal.predict(pool, out=tmp_path / "r", run=run, target="class-0").table()
    assert not np.allclose(numbers(other, "target_probability"), numbers(table, "target_probability"))


def test_novelty_is_of_the_whole_pool_where_the_head_is_not_fitted_on_it(pool, tmp_path):
    """A run without a head: its head is fitted without held-out items, and novelty still goes by all of them."""
    asked = {"name": "knn", "sample": 90}
    with Session(tmp_path / "run", pool, oracle="simulated", start="random", rounds={"holdout": 0.4}) as session:
        session.ask_oracle(session.query(30))
    table = raysal.predict(pool, out=tmp_path / "p", run=tmp_path / "run", novelty=asked).table()
    alone = raysal.predict(pool, out=tmp_path / "q", novelty=asked).table()
    assert table["novelty"] == alone["novelty"]


def test_a_pool_without_rows_has_no_novelty(tmp_path):
    empty = make_pool(tmp_path / "empty", mixture(5, 4)[0], missing=range(5))
    for name in sorted(NOVELTIES):
        found = raysal.predict(empty, out=tmp_path / name, novelty=name).table()
        assert found.num_rows == 0
        assert found.schema.field("novelty").type == pa.float32()


def test_from_the_command_line(pool, tmp_path, capsys):
    words = ["predict", str(pool.path), "--out", str(tmp_path / "p"), "--novelty", "isolation_forest"]
    assert main([*words, "--novelty-option", "trees=15", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["novelty"], found["head"], found["head_version"]) == ("isolation_forest", None, None)
    assert Predictions(tmp_path / "p").plan.options["novelty"]["trees"] == 15
    assert main([*words, "--novelty-option", "trees=15"]) == 0
    assert "by novelty isolation_forest (6 of 6 chunks were there)" in capsys.readouterr().out
    fitted(pool).save(tmp_path / "head")
    head = ["predict", str(pool.path), "--head", str(tmp_path / "head"), "--out", str(tmp_path / "q")]
    assert main([*head, "--target", "class-1", "--target", "class-2", "--novelty", "knn"]) == 0
    assert "by head 4, novelty knn" in capsys.readouterr().out
    assert main([*head, "--novelty-option", "k=2"]) == 2
    assert "--novelty-option: is of a novelty, and none is named" in capsys.readouterr().err


def test_select_takes_novelty_without_any_label(pool, capsys):
    assert main(["select", str(pool.path), "-k", "4", "--strategy", "novelty", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert all(row["reason"].startswith("novelty 0.") for row in rows)
    words = ["select", str(pool.path), "-k", "4", "--strategy", "coreset"]
    assert main([*words, "--narrow", "novelty:mahalanobis", "--narrow-option", "size=30", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["candidates"].startswith("30 most novel of 409 by Mahalanobis")
