"""Heads, indexes and runs hold for one vector space. Ready vectors of two models are two, of whatever length."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from changing_sources import as_older
from cli_tools import cli, refused, write_vectors
from numpy.typing import NDArray
from pools import mixture

import raysal
from raysal.errors import FingerprintMismatch
from raysal.index import open_index
from raysal.models.head import Head
from raysal.models.trainers import TRAINERS
from raysal.models.trainers.base import TrainingData
from raysal.pool import Pool
from raysal.sources.memory import Memory

N, DIM = 90, 6
X, LABELS = mixture(N, DIM, classes=3)
TURNED = X[:, ::-1].copy()
"""What another model of the same length makes of the same items."""
KEYS = [f"k{row:03d}" for row in range(N)]


def pool_of(path: Path, x: NDArray[np.float32], origin: str = "", **memory: Any) -> Pool:
    source = Memory(**{"keys": KEYS[: len(x)], "vectors": x, "carry": {"label": LABELS[: len(x)]}, **memory})
    return raysal.embed(source, {"name": "precomputed", "origin": origin}, out=path, chunk_rows=40)


def head_on(pool: Pool) -> Head:
    data = TrainingData(features=X, labels=LABELS, classes=sorted(set(LABELS)), encoder=pool.vector_space)
    return TRAINERS["logistic"]().fit(data)


def run_over(pool: Pool, path: Path) -> Path:
    with raysal.Session(path, pool, oracle="simulated", rounds={"count": 3, "k": 4}) as session:
        session.ask_oracle(session.query(9))
        session.query(3)
    return path


ACCEPTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the same vectors": ({"x": X}, {"x": X}),
    "in another order": ({"x": X}, {"x": X[::-1].copy()}),
    "under other keys": ({"x": X}, {"x": X, "keys": range(N)}),
    "with other columns": ({"x": X}, {"x": X, "carry": {}}),
    "as double": ({"x": X}, {"x": X.astype(np.float64)}),
    "fewer, of a named origin": ({"x": X, "origin": "clip"}, {"x": X[:50], "origin": "clip"}),
}
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "another model's": ({"x": X}, {"x": TURNED}),
    "fewer": ({"x": X}, {"x": X[:50]}),
    "more": ({"x": X[:50]}, {"x": X}),
    "named now": ({"x": X}, {"x": X, "origin": "clip"}),
    "named before": ({"x": X, "origin": "clip"}, {"x": X}),
    "named otherwise": ({"x": X, "origin": "clip"}, {"x": X, "origin": "dino"}),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_a_head_holds_for_the_same_space(case: str, tmp_path: Path) -> None:
    one, two = (pool_of(tmp_path / name, **fields) for name, fields in zip("ab", ACCEPTED[case], strict=True))
    raysal.predict(two, head=head_on(one), out=tmp_path / "p")


@pytest.mark.parametrize("case", REFUSED)
def test_a_head_is_refused_by_another_space(case: str, tmp_path: Path) -> None:
    one, two = (pool_of(tmp_path / name, **fields) for name, fields in zip("ab", REFUSED[case], strict=True))
    with pytest.raises(FingerprintMismatch, match=r"head's encoder is .*both pools with the same `--origin NAME`"):
        raysal.predict(two, head=head_on(one), out=tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_what_a_run_learnt_is_of_no_use_for_another_models_vectors(tmp_path: Path) -> None:
    """By every door: predict, select, resume, and the index that was left there."""
    one, two = pool_of(tmp_path / "a", X), pool_of(tmp_path / "b", TURNED)
    run = run_over(one, tmp_path / "run")
    refused(cli("predict", two.path, "--run", run, "--out", tmp_path / "p"), "head's encoder", "--origin NAME")
    refused(cli("select", two.path, "--labels", run, "-k", 2, "--strategy", "top_score"), "pool's fingerprint")
    assert cli("index", "build", one.path, "--kind", "flat").code == 0
    shutil.copytree(one.path / "index", two.path / "index")
    with pytest.raises(FingerprintMismatch, match="its encoder's fingerprint"):
        open_index(two)
    shutil.rmtree(one.path)
    two.path.rename(one.path)
    with pytest.raises(FingerprintMismatch, match="pool's fingerprint"):
        raysal.Session(run)
    refused(cli("resume", run), "pool's fingerprint")


def test_the_same_data_embedded_anew_is_the_runs_own_pool(tmp_path: Path) -> None:
    one = pool_of(tmp_path / "a", X)
    run = run_over(one, tmp_path / "run")
    before = (one.fingerprint, one.vector_space)
    shutil.rmtree(one.path)
    again = raysal.embed(Memory(keys=KEYS, vectors=X, carry={"label": LABELS}), out=tmp_path / "a", chunk_rows=7)
    assert (again.fingerprint, again.vector_space) == before
    with raysal.Session(run) as session:
        session.query(2)
    assert cli("predict", again.path, "--run", run, "--out", tmp_path / "p").code == 0


def test_labels_that_are_given_make_a_head_of_the_pool_at_hand(tmp_path: Path) -> None:
    labels = dict(zip(KEYS[:20], LABELS[:20], strict=True))
    for name, x in {"a": X, "b": TURNED}.items():
        assert raysal.select(pool_of(tmp_path / name, x), k=3, labels=labels, strategy="badge").num_rows == 3


def test_a_vector_of_ones_own_is_searched_for_in_any_pool(tmp_path: Path) -> None:
    """Whoever passes a vector says that it is of the pool's kind; only its length can be looked at."""
    pool = pool_of(tmp_path / "a", X)
    assert raysal.search(pool, vector=X[3], k=1)["key"].to_pylist() == ["k003"]


def test_older_pools_are_what_they_were_to_their_runs(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "a", X)
    as_older(pool.path)
    pool = Pool(pool.path)
    assert pool.contents is None
    assert pool.fingerprint == pool.manifest.fingerprint
    assert pool.vector_space == pool.manifest.encoder["fingerprint"]
    run = run_over(pool, tmp_path / "run")
    assert cli("resume", run).code == 0
    assert cli("predict", pool.path, "--run", run, "--out", tmp_path / "p").code == 0
    refused(cli("predict", pool_of(tmp_path / "new", X).path, "--run", run, "--out", tmp_path / "q"), "--origin NAME")


def test_the_command_line_names_an_origin(tmp_path: Path) -> None:
    source = write_vectors(tmp_path / "v.parquet", rows=60)
    half = tmp_path / "half.parquet"
    pq.write_table(pq.read_table(source).slice(0, 30), half)
    words = ("--carry", "label", "--origin", "my clip")
    assert cli("embed", source, "--out", tmp_path / "a", *words).code == 0
    assert cli("embed", half, "--out", tmp_path / "b", *words).code == 0
    run = run_over(Pool(tmp_path / "a"), tmp_path / "run")
    assert cli("predict", tmp_path / "b", "--run", run, "--out", tmp_path / "p").code == 0
    assert Pool(tmp_path / "a").manifest.encoder["config"]["origin"] == "my clip"
    refused(
        cli("embed", source, "--out", tmp_path / "a", *words[:2]),
        "the encoder's origin is none, expected my clip",
        "another directory",
    )
    photos = tmp_path / "photos"
    photos.mkdir()
    refused(cli("embed", photos, "--out", tmp_path / "c", "--encoder", "efficientnet_lite0", "--origin", "x"), "origin")
