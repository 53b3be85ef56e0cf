"""Predictions as files: the numbers of the slow version, the same bytes however they were made, nothing lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_tools import cli
from pools import make_pool, mixture
from programs import local
from tiers import deep, one_of_each
from warm import python

import raysal
from raysal.cli import main
from raysal.errors import ConfigError, Damaged, FingerprintMismatch, PoolError, RaysalError, RunError, UnknownName
from raysal.features import HiddenLayer
from raysal.fleet import plan_partitions
from raysal.models.evidence import with_constant
from raysal.models.head import Head
from raysal.models.likelihood import SOFTMAX
from raysal.models.predictive import laplace_bridge, mean_field
from raysal.models.trainers import TRAINERS
from raysal.models.trainers.base import TrainingData
from raysal.pool import Pool
from raysal.prediction import Options, Predictions, head_of_run, predict_pool
from raysal.prediction.job import predict_into
from raysal.prediction.partition import largest
from raysal.ranking.of_run import rank_into
from raysal.rng import derive, generator
from raysal.rounds.held_out import HeldOut
from raysal.rounds.session import Session
from raysal.store import read_sealed, write_sealed

N, DIM = 700, 6


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    x, names = mixture(N, DIM)
    where = tmp_path_factory.mktemp("predict") / "pool"
    return make_pool(where, x, chunk_rows=90, labels=names, missing=[3, 4, *range(180, 270)])


def vectors_of(pool: Pool) -> np.ndarray:
    return np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float64)


def fitted(pool: Pool, trainer: str = "logistic", **fields: object) -> Head:
    x, names = vectors_of(pool)[:60], pool.chunks[0].items(["label"])["label"].to_pylist()[:60]
    if trainer == "multi_label":
        names = [name if i % 3 else f"{name}|other" for i, name in enumerate(names)]
        classes = sorted({part for name in names for part in name.split("|")})
    elif trainer == "regression":
        names, classes = [f"{value:.3f}" for value in x[:, 0] * 2 + 1], ["value"]
    else:
        classes = sorted(set(names))
    encoder = str(pool.manifest.encoder["fingerprint"])
    head = TRAINERS[trainer](**fields).fit(
        TrainingData(features=x, labels=names, classes=classes, encoder=encoder, version=4)
    )
    return replace(head, temperature=1.5) if trainer == "logistic" else head


def predicted(pool: Pool, head: Head, out: Path, partitions: int = 1, **fields: object) -> Predictions:
    with local(pool, partitions) as fleet:
        predict_pool(pool, fleet, head, out, Options(**fields))  # type: ignore[arg-type]
    return Predictions(out)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rows_alone(folder: Path) -> dict[str, bytes]:
    """The files of predictions alone; beside them, predict.json says whose head it was."""
    return {name: data for name, data in content(folder).items() if name not in ("predict.json", "head.safetensors")}


def dense(table: pa.Table, name: str) -> np.ndarray:
    return np.array(table[name].to_pylist(), np.float64)


@pytest.mark.parametrize("predictive", ["map", "mean_field", "monte_carlo", "laplace_bridge"])
@pytest.mark.parametrize("structure", ["shared", "kronecker"])
def test_probabilities_are_those_of_the_slow_version(predictive, structure, pool, tmp_path):
    head = fitted(pool, structure=structure)
    fields = {"predictive": predictive, "top": "all", "draws": 40, "uncertainty": ("entropy", "least_confidence")}
    table = predicted(pool, head, tmp_path / "p", 2, **fields).table()
    x = vectors_of(pool)
    rows, scale = with_constant(x), head.temperature
    variance = np.broadcast_to(head.variance(x) / scale**2, (len(x), len(head.classes)))
    if predictive == "monte_carlo":
        noise = generator(derive(0, "posterior")).standard_normal((40, *head.mean.shape))
        expected = np.zeros((len(x), len(head.classes)))
        for weights in head.posterior.samples(head.mean, noise):
            expected += SOFTMAX.responses(rows @ weights.T / scale) / 40
    else:
        outputs = head.logits(x) / scale
        plain = SOFTMAX.responses(outputs)
        formulas = {"map": plain, "mean_field": mean_field(outputs, variance)}
        expected = {**formulas, "laplace_bridge": laplace_bridge(outputs, variance)}[predictive]
    found = dense(table, "probabilities")
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert table["class"].to_pylist() == [head.classes[c] for c in found.argmax(axis=1)]
    np.testing.assert_array_equal(dense(table, "probability"), found.max(axis=1))
    entropy = -(expected * np.log(expected)).sum(axis=1) / np.log(len(head.classes))
    np.testing.assert_allclose(dense(table, "entropy"), entropy, atol=1e-4)
    np.testing.assert_allclose(dense(table, "least_confidence"), 1 - expected.max(axis=1), atol=1e-4)


def test_every_item_with_a_vector_is_there_once_with_its_key(pool, tmp_path):
    found = predicted(pool, fitted(pool), tmp_path / "p", 3)
    items = pa.concat_tables(pool.items(["id", "key"]))
    assert found.table().select(["id", "key"]) == items
    assert len(found) == len(items) == N - 92
    assert found.plan.quarantined == 92
    files = sorted(p.name for p in (tmp_path / "p" / "predictions").iterdir())
    assert files == [f"{i:05d}.parquet" for i in range(8)]
    assert pq.read_table(tmp_path / "p" / "predictions").num_rows == N - 92  # as anyone would read it
    schemas = {str(table.schema) for table in found.tables()}
    assert len(schemas) == 1  # that of the chunk without rows, too


def test_the_likeliest_come_first_and_ties_go_to_the_first_class(pool, tmp_path):
    head = fitted(pool)
    every = dense(predicted(pool, head, tmp_path / "all", top="all").table(), "probabilities")
    table = predicted(pool, head, tmp_path / "two", top=2).table()
    order = np.argsort(-every, axis=1, kind="stable")[:, :2]
    np.testing.assert_array_equal(dense(table, "top_probabilities"), np.take_along_axis(every, order, axis=1))
    assert table["top_classes"].to_pylist() == [[head.classes[c] for c in row] for row in order]
    assert "probabilities" not in table.column_names
    p = np.array([[0.2, 0.4, 0.4], [0.5, 0.0, 0.5]])
    assert largest(p, 2).tolist() == [[1, 2], [0, 2]]
    many = np.random.default_rng(0).integers(4, size=(50, 30)) / 4.0
    np.testing.assert_array_equal(largest(many, 16), np.argsort(-many, axis=1, kind="stable")[:, :16])


def test_labels_above_a_half_are_listed(pool, tmp_path):
    head = fitted(pool, "multi_label")
    table = predicted(pool, head, tmp_path / "p", 2, top="all", uncertainty=("entropy", "bald")).table()
    p = dense(table, "probabilities")
    np.testing.assert_allclose(p, head.probabilities(vectors_of(pool)), atol=1e-5)
    assert {len(labels) for labels in table["labels"].to_pylist()} >= {0, 1}
    for row, labels, shares in zip(
        p, table["labels"].to_pylist(), table["label_probabilities"].to_pylist(), strict=True
    ):
        assert labels == [head.classes[c] for c in np.argsort(-row, kind="stable") if row[c] > 0.5]
        assert shares == sorted(row[row > 0.5].tolist(), reverse=True)
    assert ((dense(table, "bald") >= 0) & (dense(table, "bald") <= 1)).all()


@pytest.mark.parametrize("predictive", ["map", "monte_carlo"])
def test_numbers_have_a_value_and_a_deviation(predictive, pool, tmp_path):
    head = fitted(pool, "regression")
    table = predicted(pool, head, tmp_path / "p", 2, predictive=predictive, uncertainty=("epistemic_variance",)).table()
    x = vectors_of(pool)
    np.testing.assert_allclose(dense(table, "value"), head.logits(x)[:, 0], atol=1e-4)
    deviation = np.sqrt(head.variance(x)[:, 0] + head.noise)
    np.testing.assert_allclose(dense(table, "standard_deviation"), deviation, rtol=1e-4)
    assert table.column_names == ["id", "key", "value", "standard_deviation", "epistemic_variance"]


@pytest.mark.parametrize("predictive", ["map", "mean_field", "monte_carlo"])
def test_the_bytes_do_not_depend_on_partitions(predictive, pool, tmp_path):
    head = fitted(pool)
    fields = {"predictive": predictive, "uncertainty": ("entropy", "bald"), "draws": 6}
    for partitions in (1, 2, 5, 13):
        predicted(pool, head, tmp_path / str(partitions), partitions, **fields)
    first = content(tmp_path / "1")
    assert all(content(tmp_path / str(partitions)) == first for partitions in (2, 5, 13))


def test_rows_do_not_depend_on_chunks(pool, tmp_path):
    x = vectors_of(pool)
    head = fitted(pool)
    tables = [
        predicted(make_pool(tmp_path / f"pool-{rows}", x, chunk_rows=rows), head, tmp_path / f"{rows}", 2).table()
        for rows in (100, 333)
    ]
    assert tables[0].drop(["id", "key"]) == tables[1].drop(["id", "key"])


def test_a_head_with_a_hidden_layer_sees_through_it(pool, tmp_path):
    rng = np.random.default_rng(0)
    hidden_layer = HiddenLayer(weight=rng.normal(size=(9, DIM)), bias=rng.normal(size=9))
    head = Head.of_weights(rng.normal(size=(3, 9)), np.zeros(3), encoder=str(pool.manifest.encoder["fingerprint"]))
    head = replace(head, hidden_layer=hidden_layer)
    for partitions in (1, 4):
        found = predicted(pool, head, tmp_path / str(partitions), partitions, top="all")
    p = head.probabilities(head.see(vectors_of(pool)))
    np.testing.assert_allclose(dense(found.table(), "probabilities"), p, atol=1e-4)
    assert content(tmp_path / "1") == content(tmp_path / "4")


@deep
def test_ray_writes_the_same_bytes(pool, tmp_path, ray_session):
    from raysal.fleet.ray_fleet import RayFleet

    head, fields = fitted(pool), {"predictive": "mean_field", "uncertainty": ("entropy", "bald"), "draws": 6}
    predicted(pool, head, tmp_path / "here", 1, **fields)
    with RayFleet(plan_partitions(pool, 2, threads=1)) as fleet:
        predict_pool(pool, fleet, head, tmp_path / "ray", Options(**fields))
    assert content(tmp_path / "ray") == content(tmp_path / "here")


KILLED = """
import os, signal, sys
from pathlib import Path
import torch  # once, not in every child
from raysal.config import FleetConfig
from raysal.fleet import open_fleet
from raysal.pool import Pool
from raysal.prediction import Options, predict_pool
from raysal.models.head import Head

def job(moment, count):
    real = getattr(os, moment)
    def counted(*args):
        nonlocal count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args)
    setattr(os, moment, counted)
    pool = Pool(sys.argv[1])
    with open_fleet(pool, FleetConfig(backend="local", partitions=3)) as fleet:
        predict_pool(pool, fleet, Head.load(Path(sys.argv[2])), Path(sys.argv[3]), Options())

for moment, count in (("replace", 1), ("fsync", 3), ("fsync", 12), ("replace", 4), ("replace", 3)):
    child = os.fork()  # nothing was computed before, so no thread is lost
    if child == 0:
        job(moment, count)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, (moment, count)
"""


def test_killed_at_any_moment_and_run_again_it_has_the_same_bytes(pool, tmp_path):
    """The job is killed before each of a few renames and flushes, and resumed each time."""
    head, out = fitted(pool), tmp_path / "killed"
    head.save(tmp_path / "head")
    whole = content(predicted(pool, head, tmp_path / "whole", 1).path)
    done = python(KILLED, pool.path, tmp_path / "head", out)
    assert done.returncode == 0, done.stderr
    with pytest.raises(PoolError):
        Predictions(out)
    kept = {name: (out / name).stat().st_ino for name in whole if (out / name).exists() and "commits" in name}
    assert kept
    predicted(pool, head, out, 2)
    assert content(out) == whole
    assert all((out / name).stat().st_ino == inode for name, inode in kept.items())  # not written again


@pytest.mark.parametrize("name", ["predict.json", "predictions/00003.parquet", "commits/00004.json"])
def test_a_flipped_byte_is_named(name, pool, tmp_path):
    head, out = fitted(pool), tmp_path / "p"
    predicted(pool, head, out)
    path = out / name
    whole = path.read_bytes()
    for place in (0, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        for attempt in (lambda: predicted(pool, head, out), lambda: Predictions(out).table()):
            with pytest.raises(RaysalError) as caught:
                attempt()
            assert path.name in str(caught.value)
    path.unlink()
    if "commits" not in name:  # a chunk without its record is not done yet
        with pytest.raises(Damaged, match=path.name):
            predicted(pool, head, out)
    path.write_bytes(whole)
    assert len(predicted(pool, head, out)) == N - 92


def test_another_head_or_option_or_pool_in_the_same_folder_is_an_error(pool, tmp_path):
    head, out = fitted(pool), tmp_path / "p"
    before = content(predicted(pool, head, out).path)
    with pytest.raises(FingerprintMismatch, match="the head's digest"):
        predicted(pool, replace(head, temperature=2.0), out)
    with pytest.raises(RunError, match="was begun with predictive 'map', now 'mean_field'"):
        predicted(pool, head, out, predictive="mean_field")
    with pytest.raises(RunError, match="top 3, now 2"):
        predicted(pool, head, out, top=2)
    x = vectors_of(pool)[:50]
    with pytest.raises(FingerprintMismatch, match="the pool's fingerprint"):
        predicted(make_pool(tmp_path / "other", x), head, out)
    with pytest.raises(FingerprintMismatch, match="the head's encoder"):
        predicted(make_pool(tmp_path / "wide", np.ones((5, DIM + 1))), head, tmp_path / "new")
    assert content(out) == before
    assert not (tmp_path / "new").exists()


def test_predictions_are_not_put_among_other_files(pool, tmp_path):
    before = content(pool.path)
    with pytest.raises(PoolError, match=r"holds something else .*use another directory"):
        predicted(pool, fitted(pool), pool.path)
    assert content(pool.path) == before
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / ".lock").touch()  # killed before it had written more than that
    (begun / ".tmp-predict.json-1").touch()
    assert len(predicted(pool, fitted(pool), begun)) == N - 92


def test_what_cannot_be_done_is_an_error_that_says_why(pool, tmp_path):
    head = fitted(pool, "multi_label")
    with pytest.raises(ConfigError, match="one class of several"):
        predicted(pool, head, tmp_path / "p", predictive="laplace_bridge")
    with pytest.raises(ConfigError, match="earlier round"):
        predicted(pool, head, tmp_path / "p", uncertainty=("tod",))
    with pytest.raises(ConfigError, match="uncertainty: influence needs the labels"):
        predicted(pool, fitted(pool), tmp_path / "p", uncertainty=("entropy", "influence"))
    with pytest.raises(UnknownName, match="use one of: bald"):
        Options(uncertainty=("surprise",))
    with pytest.raises(ConfigError, match="top"):
        Options(top=0)
    with pytest.raises(UnknownName, match="laplace_bridge, map"):
        Options(predictive="variational")
    huge = Head.of_weights(np.full((2, DIM), 3e38), np.zeros(2), encoder=head.encoder)
    with pytest.raises(PoolError, match="item 0"):
        predicted(pool, huge, tmp_path / "huge")
    with pytest.raises(PoolError, match="holds no predictions"):
        Predictions(tmp_path / "nothing")
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("trainer", "rounds"),
    one_of_each(product(["logistic", "regression", "mlp", {"name": "pseudo_labels", "guard": False}], [0, 1])),
)
def test_a_run_that_has_labels_and_no_head_predicts_by_the_head_of_its_next_round(rounds, trainer, pool, tmp_path):
    """As `select --labels RUN` would choose by it, and without held-out items; the run is left as it is."""
    run, update = tmp_path / "run", {"trainer": trainer}
    keys = [key for table in pool.items(["key"]) for key in table["key"].to_pylist()]
    fields = {"select": "random", "start": "random", "update": update, "rounds": {"holdout": 0.2}}
    with Session(run, pool, **fields) as session:
        for _ in range(rounds):
            session.query(5)
        with pytest.raises(RunError, match="no head and no labels yet"):
            raysal.predict(pool, out=tmp_path / "p", run=run)
        held = HeldOut.of(session.config, None).among(np.array(list(pool.ids_of(keys).values())))
        session.tell({key: "1" for key, out in list(zip(keys, held, strict=True))[:30] if out})
        with pytest.raises(RunError, match="no head and no labels yet"):
            raysal.predict(pool, out=tmp_path / "p", run=run)
        session.tell({key: str(i % 3) for i, key in enumerate(keys[:40])})
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        found = raysal.predict(pool, out=tmp_path / "p", run=run, top=1, partitions=2)
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
        head = session.current_head()
        assert head is not None
        again = raysal.predict(pool, out=tmp_path / "q", head=head, top=1)
        assert rows_alone(found.path) == rows_alone(again.path)
        assert raysal.predict(pool, out=tmp_path / "p", run=run, top=1).path == found.path, "it goes on with the same"
        session.query(5)
        assert session.run.head(rounds).digest() == head.digest()


def test_the_head_is_the_newest_of_the_run_unless_another_is_named(pool, tmp_path):
    with pytest.raises(RunError, match="no run is there"):
        head_of_run(tmp_path / "run")
    with Session(tmp_path / "run", pool, select="random", oracle="simulated") as session:
        session.ask_oracle(session.query(20))
        with pytest.raises(RunError, match="has no head yet"):
            head_of_run(tmp_path / "run")
        session.ask_oracle(session.query(20))
        assert head_of_run(tmp_path / "run").labels_seen == 20
        assert head_of_run(tmp_path / "run", 1).labels_seen == 20
        session.finish()
        assert head_of_run(tmp_path / "run").labels_seen == 40
        with pytest.raises(RunError, match="round 0 had no head"):
            head_of_run(tmp_path / "run", 0)
        with pytest.raises(RunError, match="has no round 2"):
            head_of_run(tmp_path / "run", 2)
    found = raysal.predict(pool, out=tmp_path / "p", run=tmp_path / "run", top=1)
    again = raysal.predict(pool, out=tmp_path / "q", head=head_of_run(tmp_path / "run"), top=1, partitions=3)
    assert rows_alone(found.path) == rows_alone(again.path)
    with pytest.raises(ConfigError, match="one of a run, a head and a novelty"):
        raysal.predict(pool, out=tmp_path / "r")
    with pytest.raises(ConfigError, match="is a round of a run"):
        raysal.predict(pool, out=tmp_path / "r", head=tmp_path / "h", round=1)
    with pytest.raises(Damaged, match="missing"):
        raysal.predict(pool, out=tmp_path / "r", head=tmp_path / "h")
    with pytest.raises(ConfigError, match=r"is a directory; name the head\.safetensors"):
        raysal.predict(pool, out=tmp_path / "r", head=tmp_path / "run")


def test_predict_and_rank_take_the_same_head_and_say_whose_it_is(pool, tmp_path):
    """All labels count, those after the last batch, too; over another pool it is the newest head of the run."""
    run = tmp_path / "run"
    fields = {"select": "random", "oracle": "simulated", "target": ["class-1"]}
    with Session(run, pool, **fields) as session:
        for _ in range(3):
            session.ask_oracle(session.query(30))
        head = session.current_head()
        assert head is not None
        assert head.digest() != head_of_run(run).digest()
    ways = {"all labels": (None, head.digest()), "round 2": (2, head_of_run(run, 2).digest())}
    for number, (words, (round, digest)) in enumerate(ways.items()):
        found = raysal.predict(pool, out=tmp_path / f"p{number}", run=run, round=round)
        ranking = raysal.rank(run, out=tmp_path / "ranking", round=round)
        assert (found.plan.head, found.plan.head_from) == (digest, words)
        assert (ranking.info.head, ranking.info.head_from) == (digest, words)
    other = make_pool(tmp_path / "other", mixture(40, DIM)[0])
    found = raysal.predict(other, out=tmp_path / "q", run=run)
    assert found.plan.head == head_of_run(run, 2).digest()
    assert found.plan.head_from == "the newest round, as the pool is not the run's"
    said = cli("predict", pool.path, "--run", run, "--out", tmp_path / "r").out
    assert f"by head {head.version} (all labels)" in said
    assert f"head {head.version} (all labels), 90 labels" in cli("rank", tmp_path / "ranking", "--version", "0000").out
    for file in (tmp_path / "p0" / "predict.json", tmp_path / "ranking" / "versions" / "0000" / "version.json"):
        record = read_sealed(file)  # as it was before this was recorded
        write_sealed(file, {name: value for name, value in record.items() if name not in ("head_from", "sha256")})
    assert Predictions(tmp_path / "p0").plan.head_from is None
    assert f"head {head.version}, 90 labels" in cli("rank", tmp_path / "ranking", "--version", "0000").out


class Stopped(Exception):
    """Raised where somebody stops a job."""


def stop_after(done: int, stage: str) -> Callable[[str, int, int], None]:
    def report(what: str, so_far: int, of: int) -> None:
        if what == stage and so_far >= done:
            raise Stopped

    return report


def test_a_label_that_comes_meanwhile_stops_no_job_from_being_finished(pool, tmp_path):
    """Both go on with the head they began with, and say so; predict.json and a version are of one head."""
    run, p, r = tmp_path / "run", tmp_path / "p", tmp_path / "r"
    keys = [key for table in pool.items(["key"]) for key in table["key"].to_pylist()]

    def begin() -> None:
        with pytest.raises(Stopped):
            predict_into(pool, p, run=run, report=stop_after(100, "predict"))
        with pytest.raises(Stopped):
            rank_into(run, r, report=stop_after(1, "score"))

    with Session(run, pool, select="random", start="random", target=["a"]) as session:
        session.query(5)
        session.tell({key: "ab"[i % 2] for i, key in enumerate(keys[:30])})
        begin()
        then = session.current_head().digest()
        session.tell({keys[40]: "a", keys[41]: "b"})
        now = session.current_head().digest()
    shutil.copytree(p, tmp_path / "copy")
    for report in (predict_into(pool, p, run=run), rank_into(run, r)):
        assert report.head == then != now
        assert report.head_from == "all labels when the job began, 2 came or changed since"
    assert Head.load(p / "head.safetensors").digest() == then
    whole = raysal.predict(pool, out=tmp_path / "whole", head=p / "head.safetensors", target="a")
    assert rows_alone(whole.path) == rows_alone(p)
    with pytest.raises(RunError, match=r"those of now make another head; use another directory for --out"):
        predict_into(pool, p, run=run)
    after = rank_into(run, r)
    assert (after.head, after.head_from, after.version) == (now, "all labels", "0001")
    fields = {"select": "random", "start": "random", "target": ["a"]}
    with Session(tmp_path / "other", pool, **fields) as other:
        other.query(5)
        other.tell({key: "ba"[i % 2] for i, key in enumerate(keys[:50])})
    with pytest.raises(RunError, match="make another head"):  # not by the head of another run
        predict_into(pool, tmp_path / "copy", run=tmp_path / "other")


def test_over_another_pool_a_round_that_comes_meanwhile_stops_no_job(pool, tmp_path):
    run, p = tmp_path / "run", tmp_path / "p"
    other = make_pool(tmp_path / "other", mixture(40, DIM)[0], chunk_rows=10)
    with Session(run, pool, select="random", start="random", oracle="simulated") as session:
        for _ in range(2):
            session.ask_oracle(session.query(20))
        with pytest.raises(Stopped):
            predict_into(other, p, run=run, report=stop_after(10, "predict"))
        session.query(20)
        found = predict_into(other, p, run=run)
        assert found.head == session.run.head(1).digest() != session.run.head(2).digest()
        assert found.head_from == "the newest round when the job began"


def test_without_labels_an_error_names_a_round_that_had_a_head(pool, tmp_path):
    run, keys = tmp_path / "run", pool.chunks[0].items(["key"])["key"].to_pylist()[:20]
    with Session(run, pool, select="random", start="random") as session:
        session.tell({key: "ab"[i % 2] for i, key in enumerate(keys)})
        session.query(5)
        session.withdraw(keys)
    for ask in (lambda: predict_into(pool, tmp_path / "p", run=run), lambda: rank_into(run, tmp_path / "r")):
        with pytest.raises(RunError, match=r"has no labels now; take the head of a round \(`--round 0`\), or label"):
            ask()


def test_what_reaches_the_driver_does_not_grow_with_the_rows(pool, tmp_path):
    replies = []

    class Weighed:
        def __init__(self, inner):
            self.inner, self.size = inner, inner.size

        def reset(self):
            self.inner.reset()

        def each(self, fn, *args):
            found = self.inner.each(fn, *args)
            replies.extend(len(repr(one)) for one in found)
            return found

    for rows in (100, 3000):
        small = make_pool(tmp_path / f"pool-{rows}", mixture(rows, DIM)[0], chunk_rows=rows)
        predict_pool(small, Weighed(local(small)), fitted(pool), tmp_path / f"p-{rows}", Options(top="all"))
    assert max(replies[len(replies) // 2 :]) <= max(replies[: len(replies) // 2]) + 8


def test_the_command_answers_in_json_and_refuses_in_one_line(pool, tmp_path, capsys):
    head = fitted(pool)
    head.save(tmp_path / "head")
    words = ["predict", str(pool.path), "--head", str(tmp_path / "head"), "--out", str(tmp_path / "p")]
    assert main([*words, "--top", "all", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["items"], found["predicted"], found["resumed"]) == (N - 92, N - 92, 0)
    assert (found["quarantined"], found["head"]) == (92, head.digest())
    assert main([*words, "--top", "all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["resumed"] == 8
    for more, part in (
        (["--top", "2"], "was begun with top 'all', now 2"),
        (["--top", "few"], "'few' is not a number of classes"),
        (["--run", str(tmp_path)], "exactly one of a run and a head"),
        (["--uncertainty", "doubt"], "unknown name 'doubt'"),
        (["--address", "auto"], "pass --backend ray, too"),
        (["--device", "abacus"], "'abacus' cannot be used here"),
    ):
        assert main([*words, *more]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert part in said.err
