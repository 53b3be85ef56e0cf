"""The Python doors: `raysal.embed`, `raysal.open_pool`, `raysal.select`, `raysal.Session`."""

from __future__ import annotations

import inspect
import os
import pickle
import pydoc
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pools import make_pool, mixture
from tiers import deep
from warm import python

import raysal
from raysal.errors import (
    ConfigError,
    EncoderError,
    FingerprintMismatch,
    LabelError,
    PoolError,
    PoolExhausted,
    QuarantineExceeded,
    RunError,
    UnknownName,
)
from raysal.sources import Memory

ROOT = Path(__file__).resolve().parents[2]
N, DIM = 600, 12


@pytest.fixture(scope="module")
def data() -> tuple[NDArray[np.float32], list[str]]:
    return mixture(N, DIM, classes=4)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, data: tuple[NDArray[np.float32], list[str]]) -> raysal.Pool:
    return make_pool(tmp_path_factory.mktemp("api") / "pool", data[0], chunk_rows=250, labels=data[1], missing=[5])


@pytest.fixture(scope="module")
def labels(data: tuple[NDArray[np.float32], list[str]]) -> dict[str, str]:
    return {f"item-{i:06d}": data[1][i] for i in range(10, 50)}


def run_python(program: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_raysal_imports_nothing_heavy() -> None:
    out = run_python("import sys, raysal; print(*sorted({name.split('.')[0] for name in sys.modules}))")
    assert not {"torch", "ray", "faiss", "numpy", "pyarrow", "sklearn", "pydantic", "typer"} & set(out.split())


def test_it_works_where_ray_and_faiss_are_absent(pool: raysal.Pool) -> None:
    program = (
        "import sys\nsys.modules['ray'] = sys.modules['faiss'] = None\nimport raysal\n"
        "pool = raysal.open_pool(sys.argv[1])\n"
        "labels = {'item-000010': 'a', 'item-000011': 'b', 'item-000012': 'a'}\n"
        "print(raysal.select(pool, k=3, labels=labels, narrow='anchoral', partitions=2).num_rows)"
    )
    assert run_python(program, str(pool.path)) == "3\n"


def test_the_names_are_sorted_there_and_listed() -> None:
    assert raysal.__all__ == sorted(raysal.__all__)
    assert set(raysal.__all__) <= set(dir(raysal))
    for name in raysal.__all__:
        assert getattr(raysal, name) is not None
    with pytest.raises(AttributeError, match="nope"):
        raysal.nope  # noqa: B018


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert raysal.__version__ == project["version"]


@pytest.mark.parametrize("verb", ["embed", "predict", "search", "select"])
def test_verbs_are_plain_functions(verb: str) -> None:
    function = getattr(raysal, verb)
    assert inspect.isfunction(function)
    assert pickle.loads(pickle.dumps(function)) is function
    assert (function.__doc__ or "").splitlines()[0] in pydoc.render_doc(function)


def test_a_verb_stays_a_function_whatever_is_imported() -> None:
    program = (
        "import importlib, raysal.api.embed, raysal.api.select, raysal.embedding.job, raysal\n"
        "assert all(callable(getattr(raysal, verb)) for verb in ('embed', 'predict', 'search', 'select'))\n"
        "assert raysal.select.__module__ == 'raysal.api.select'"
    )
    done = python(program)
    assert done.returncode == 0, done.stderr


def test_the_arguments_of_select() -> None:
    assert list(inspect.signature(raysal.select).parameters) == [
        "pool", "k", "strategy", "labels", "narrow", "partitions", "backend", "seed", "rebind", "probabilities",
        "target", "only_new", "parts", "budget", "cost",
    ]  # fmt: skip


def test_a_batch_is_a_table_of_five_columns(pool: raysal.Pool, labels: dict[str, str]) -> None:
    table = raysal.select(pool, k=9, labels=labels)
    assert table.schema == pa.schema(
        {
            "id": pa.int64(),
            "key": pa.string(),
            "rank": pa.int64(),
            "score": pa.float64(),
            "reason": pa.string(),
        }
    )
    assert table["rank"].to_pylist() == list(range(1, 10))
    assert len(set(table["id"].to_pylist())) == 9
    assert table["key"].to_pylist() == [f"item-{i:06d}" for i in table["id"].to_pylist()]
    assert not set(table["key"].to_pylist()) & set(labels)
    assert 5 not in table["id"].to_pylist()


@pytest.mark.parametrize("with_labels", [True, False])
def test_partitions_never_change_the_batch(pool: raysal.Pool, labels: dict[str, str], with_labels: bool) -> None:
    """Of one strategy and one narrower; tests/laws has the law for all of them."""
    tables = [
        raysal.select(
            pool,
            k=8,
            narrow={"name": "anchoral", "subpool": 60, "anchors": 5},
            labels=labels if with_labels else None,
            partitions=partitions,
        )
        for partitions in (1, 2, 5)
    ]
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


@deep
def test_ray_picks_the_same(pool: raysal.Pool, labels: dict[str, str], ray_session: None) -> None:
    here = raysal.select(pool, k=8, labels=labels)
    assert raysal.select(pool.path, k=8, labels=labels, backend="ray", partitions=2).equals(here)


def test_seeds_draw_differently(pool: raysal.Pool) -> None:
    one, two = (raysal.select(pool, k=20, strategy="random", seed=seed) for seed in (0, 1))
    assert one["id"].to_pylist() != two["id"].to_pylist()
    assert raysal.select(pool, k=20, strategy="random", seed=1).equals(two)


def test_the_cold_start_is_the_session_s(pool: raysal.Pool, tmp_path: Path) -> None:
    typical = raysal.select(pool, k=6, strategy="typiclust", seed=4)
    with raysal.Session(tmp_path / "run", pool, seed=4) as session:
        assert session.query(6).ids == typical["id"].to_pylist()
    for strategy in ("badge", "top_score", "coreset"):
        table = raysal.select(pool, k=6, strategy=strategy, seed=4)
        assert table["id"].equals(typical["id"])
        assert all(f"typiclust instead of {strategy}" in reason for reason in table["reason"].to_pylist())
    assert not any("instead of" in reason for reason in typical["reason"].to_pylist())
    drawn = raysal.select(pool, k=6, strategy="random", seed=4)
    assert drawn["reason"].to_pylist() == ["uniform draw"] * 6


def test_labels_in_every_form_give_the_same_batch(pool: raysal.Pool, labels: dict[str, str], tmp_path: Path) -> None:
    from raysal.labels import write_labels

    listed = [raysal.Label(key=key, label=label) for key, label in labels.items()]
    write_labels(tmp_path / "labels.csv", listed)
    write_labels(tmp_path / "labels.parquet", listed[::-1])
    with raysal.Session(tmp_path / "run", pool) as session:
        session.tell(labels)
    expected = raysal.select(pool, k=7, labels=labels)
    for form in (listed, tmp_path / "labels.csv", str(tmp_path / "labels.parquet"), tmp_path / "run"):
        assert raysal.select(pool, k=7, labels=form).equals(expected)


def test_annotators_are_heard_as_in_the_ledger(pool: raysal.Pool, labels: dict[str, str], tmp_path: Path) -> None:
    def said(index: int, label: str, annotator: str) -> raysal.Label:
        return raysal.Label(key=f"item-{index:06d}", label=label, annotator=annotator)

    listed = [raysal.Label(key=key, label=label) for key, label in labels.items()]
    listed += [said(100, "class-0", "ann"), said(100, "class-1", "bob")]  # disputed
    listed += [said(101, "class-0", "ann"), said(101, "class-1", "ann")]  # corrected
    listed += [said(102, "class-2", "ann"), said(102, "class-2", "bob")]  # confirmed
    with raysal.Session(tmp_path / "run", pool) as session:
        session.tell(listed)
    from_run = raysal.select(pool, k=N - 1 - 43, labels=tmp_path / "run")
    assert raysal.select(pool, k=N - 1 - 43, labels=listed).equals(from_run)
    assert not {100, 101, 102} & set(from_run["id"].to_pylist())
    with pytest.raises(PoolExhausted):
        raysal.select(pool, k=N - 43, labels=listed)


def test_what_a_run_leased_or_held_out_is_not_offered(pool: raysal.Pool, tmp_path: Path) -> None:
    rounds = {"count": 1, "k": 5, "holdout": 0.3}
    with raysal.Session(tmp_path / "run", pool, oracle="simulated", rounds=rounds) as session:
        leased = session.query(5)
    with pytest.raises(PoolExhausted) as caught:
        raysal.select(pool, k=N, strategy="random", labels=tmp_path / "run")
    left = caught.value.available
    assert 0.5 * N < left < 0.8 * N
    offered = raysal.select(pool, k=left, strategy="random", labels=tmp_path / "run")["id"].to_pylist()
    assert not set(leased.ids) & set(offered)
    with raysal.Session(tmp_path / "run", pool) as session:
        assert set(session.query(left).ids) == set(offered)


@pytest.mark.parametrize(
    ("mode", "trainer"),
    [
        ("laplace", {"name": "logistic", "structure": "kronecker"}),
        ("retrain", {"name": "pseudo_labels", "sample": 60, "guard": False}),
        ("retrain", {"name": "dmle", "steps": 5, "rate": 0.1}),
    ],
)
def test_over_a_run_the_batch_is_that_of_its_next_round(
    pool: raysal.Pool, mode: str, trainer: dict[str, Any], tmp_path: Path
) -> None:
    select = {"name": "top_score", "score": "tod"}
    update = {"mode": mode, "trainer": trainer, "retrain_share": 9.0, "classes": ["class-9"]}
    with raysal.Session(tmp_path / "run", pool, oracle="simulated", seed=5, update=update, select=select) as session:
        for _ in range(3):
            session.ask_oracle(session.query(6))
        table = raysal.select(pool, k=6, strategy=select, labels=tmp_path / "run", partitions=2)
        batch = session.query(6)
    assert table["id"].to_pylist() == batch.ids
    np.testing.assert_allclose(table["score"].to_numpy(), batch.table["score"].to_numpy(), atol=1e-6)


def test_one_class_is_enough_for_a_batch(pool: raysal.Pool) -> None:
    one = {f"item-{i:06d}": "same" for i in range(10, 14)}
    assert raysal.select(pool, k=4, labels=one).num_rows == 4


def test_what_is_asked_wrongly_is_refused(pool: raysal.Pool, labels: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="k: 0"):
        raysal.select(pool, k=0)
    with pytest.raises(PoolExhausted) as caught:
        raysal.select(pool, k=N)
    assert caught.value.available == N - 1
    with pytest.raises(UnknownName, match="badge, "):
        raysal.select(pool, k=1, strategy="bagde")
    with pytest.raises(UnknownName, match="anchoral"):
        raysal.select(pool, k=1, narrow="anchors")
    with pytest.raises(ConfigError, match="anchor"):
        raysal.select(pool, k=1, narrow={"name": "anchoral", "anchor": 3})
    with pytest.raises(UnknownName, match="local, ray"):
        raysal.select(pool, k=1, backend="dask")
    with pytest.raises(ConfigError, match="partitions"):
        raysal.select(pool, k=1, partitions=0)
    with pytest.raises(LabelError, match="nobody"):
        raysal.select(pool, k=1, labels={"nobody": "x"})
    with pytest.raises(LabelError, match="item-000005"):
        raysal.select(pool, k=1, labels={"item-000005": "quarantined"})
    with pytest.raises(LabelError, match="is empty"):
        raysal.select(pool, k=1, labels={"item-000001": " "})
    with pytest.raises(LabelError, match="no such"):
        raysal.select(pool, k=1, labels=tmp_path / "labels.csv")
    with pytest.raises(RunError, match="no run"):
        raysal.select(pool, k=1, labels=tmp_path)
    assert not any(tmp_path.iterdir())
    with pytest.raises(PoolError, match="not a pool"):
        raysal.select(tmp_path / "pool", k=1)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"k": "2"}, "k"),
        ({"k": 2.0}, "k"),
        ({"k": True}, "k"),
        ({"seed": "x"}, "seed"),
        ({"seed": -1}, "seed"),
        ({"partitions": "2"}, "partitions"),
        ({"strategy": 5}, "strategy"),
        ({"strategy": {"size": 5}}, "strategy.name"),
        ({"narrow": 5}, "narrow"),
        ({"narrow": {}}, "narrow.name"),
        ({"pool": 5}, "pool"),
    ],
)
def test_an_argument_of_the_wrong_type_is_named(pool: raysal.Pool, arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        raysal.select(**{"pool": pool, "k": 2, **arguments})
    assert caught.value.where == field


def test_numbers_of_numpy_are_numbers(pool: raysal.Pool) -> None:
    plain = raysal.select(pool, k=3, strategy="random", seed=7, partitions=2)
    numpy = raysal.select(pool, k=np.int64(3), strategy="random", seed=np.int32(7), partitions=np.int64(2))
    assert numpy.equals(plain)


NO_LABELS: list[Any] = [
    ["item-000010"],
    [("item-000010", "a")],
    [raysal.Label],
    [raysal.Label(key="item-000010", label="a"), None],
    5,
    b"ab",
    {10: "a"},
    {"item-000010": True},
    {"item-000010": None},
    (raysal.Label(key=key, label="a") for key in ["item-000010"]),
]


@pytest.mark.parametrize("labels", NO_LABELS, ids=range(len(NO_LABELS)))
def test_what_are_no_labels_is_refused(pool: raysal.Pool, tmp_path: Path, labels: Any) -> None:
    with pytest.raises(LabelError):
        raysal.select(pool, k=2, labels=labels)
    with raysal.Session(tmp_path / "run", pool) as session:
        for given in (labels, "item-000010", ""):
            with pytest.raises(LabelError):
                session.tell(given)
        assert session.ledger.head_seq == 0


def test_labels_may_be_any_sequence_or_none_at_all(pool: raysal.Pool, tmp_path: Path) -> None:
    label = raysal.Label(key="item-000010", label=" a ")
    with raysal.Session(tmp_path / "run", pool) as session:
        assert session.tell((label,)).new == 1
        assert session.tell({"item-000010": "a"}).repeated == 1
        assert session.tell([]) == session.tell({})
    plain = raysal.select(pool, k=2)
    assert raysal.select(pool, k=2, labels=()).equals(plain)


def test_the_run_of_another_pool_is_refused(pool: raysal.Pool, tmp_path: Path) -> None:
    other = make_pool(tmp_path / "other", mixture(50, DIM, seed=9)[0])
    with raysal.Session(tmp_path / "run", other) as session:
        session.query(3)
    with pytest.raises(FingerprintMismatch):
        raysal.select(pool, k=1, labels=tmp_path / "run")


def test_embed_gives_an_open_pool(tmp_path: Path, data: tuple[NDArray[np.float32], list[str]]) -> None:
    keys = [f"k{i}" for i in range(N)]
    source = Memory(keys=keys, vectors=data[0], carry={"label": data[1]})
    made = raysal.embed(source, out=tmp_path / "pool", chunk_rows=200)
    assert (len(made), made.dim, len(made.chunks)) == (N, DIM, 3)
    assert np.array_equal(np.concatenate([chunk.vectors() for chunk in made.chunks]), data[0])
    assert raysal.select(raysal.open_pool(tmp_path / "pool"), k=3).num_rows == 3


def test_embed_takes_names_mappings_and_paths(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    table = pa.table({"name": ["a", "b"], "v": pa.array([[1.0, 2.0], [3.0, 4.0]])})
    pq.write_table(table, tmp_path / "v.parquet")
    source = {"name": "table", "path": tmp_path / "v.parquet", "key_column": "name", "vector_column": "v"}
    origin = {"name": "precomputed", "origin": "mine"}
    one = raysal.embed(source, origin, out=tmp_path / "one")
    two = raysal.embed(source, "precomputed", out=str(tmp_path / "two"))
    assert one.fingerprint != two.fingerprint
    pq.write_table(table.rename_columns(["key", "v"]), tmp_path / "w.parquet")
    assert len(raysal.embed(tmp_path / "w.parquet", out=tmp_path / "three")) == 2


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"source": 5}, "source"),
        ({"source": Memory}, "source"),
        ({"source": {"path": "x"}}, "source.name"),
        ({"encoder": 5}, "encoder"),
        ({"encoder": {"origin": "x"}}, "encoder.name"),
        ({"out": 5}, "out"),
    ],
)
def test_what_embed_cannot_take_is_named(tmp_path: Path, arguments: dict[str, Any], field: str) -> None:
    source = Memory(keys=["a"], vectors=np.ones((1, 2)))
    with pytest.raises(ConfigError) as caught:
        raysal.embed(**{"source": source, "out": tmp_path / "pool", **arguments})
    assert caught.value.where == field
    assert not (tmp_path / "pool").exists()


def test_embed_refuses_and_reports(tmp_path: Path) -> None:
    texts = Memory(keys=["a"], texts=["hello"])
    with pytest.raises(EncoderError, match="sentence"):
        raysal.embed(texts, out=tmp_path / "pool")
    with pytest.raises(UnknownName, match="efficientnet_lite0"):
        raysal.embed(texts, "nope", out=tmp_path / "pool")
    assert not (tmp_path / "pool").exists()
    holed = Memory(keys=["a", "b"], vectors=np.array([[1.0, np.nan], [1.0, 2.0]]))
    with pytest.raises(QuarantineExceeded):
        raysal.embed(holed, out=tmp_path / "pool")
    assert len(raysal.open_pool(tmp_path / "pool")) == 1
