"""A run ends: after its rounds, or when nothing is left to offer. Then its last batch is a shorter one, and it is
closed. A run that is refused before anything counts leaves nothing behind, and directories keep to one kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_tools import cli, labels_csv, refused, write_vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import make_pool, mixture

import raysal
from raysal.config import RunConfig, parse_config
from raysal.errors import PoolExhausted, QuarantineExceeded, RunError, UserError
from raysal.pool import Pool
from raysal.prediction.files import MANIFEST as PREDICTIONS
from raysal.rounds.directory import RUN, RunDir
from raysal.rounds.loop import resume, run
from raysal.rounds.plan import plan_run
from raysal.rounds.session import Session
from raysal.store import KINDS

N = 60
NARROWERS: list[dict[str, Any]] = [
    {"name": "none"},
    {"name": "uniform", "size": 7},
    {"name": "filter", "where": {"label": ["class-0", "class-1"]}},
    {"name": "filter", "inner": {"name": "anchoral", "subpool": 9}, "duplicates": 0.9999},
    {"name": "seals", "neighbours": 3},
]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    vectors, names = mixture(N, 5, classes=3)
    vectors[40:44] = vectors[44]  # near-duplicates, of which filter:anchoral drops some
    return make_pool(tmp_path_factory.mktemp("ends") / "pool", vectors, chunk_rows=25, labels=names)


def config_of(pool: Path | Pool, **fields: Any) -> RunConfig:
    place = pool.path if isinstance(pool, Pool) else pool
    return parse_config({"pool": place, "oracle": "simulated", "fleet": {"backend": "local"}, **fields})


def offers_nothing(out: Path) -> bool:
    """Whether a session of the run has not even one item to offer."""
    with Session.open(out) as session, pytest.raises(PoolExhausted) as caught:
        session.query(1)
    return caught.value.available == 0


@settings(max_examples=10)
@given(
    narrow=st.sampled_from(NARROWERS),
    k=st.integers(1, 80),
    count=st.integers(1, 6),
    holdout=st.sampled_from([0.0, 0.3]),
    control=st.booleans(),
)
def test_a_run_of_any_size_ends(
    narrow: dict[str, Any],
    k: int,
    count: int,
    holdout: float,
    control: bool,
    pool: Pool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whole batches, then the rest, then it is closed; to resume it changes nothing. Both arms."""
    out = tmp_path_factory.mktemp("run") / "run"
    rounds = {"count": count, "k": k, "holdout": holdout, "control": control}
    config = config_of(pool, narrow=narrow, rounds=rounds, select="random", start="random")
    plan = plan_run(config, out)
    result = run(config, out)
    assert result.finished
    for arm in (RunDir(out), RunDir(out).control) if control else (RunDir(out),):
        sizes = [len(arm.batch(round)) for round in range(arm.rounds)]
        assert sizes[:-1] == [k] * (len(sizes) - 1)
        assert 1 <= sizes[-1] <= k
        assert [arm.record(round)["k"] for round in range(arm.rounds)] == sizes
        asked = [key for round in range(arm.rounds) for key in arm.batch(round).keys]
        assert len(set(asked)) == len(asked) == sum(sizes)
        short = sum(sizes) < k * count
        assert not short or offers_nothing(arm.path)
        if arm.path == out:
            assert result.exhausted == (arm.rounds < count)
        if not holdout and (narrow["name"] in ("none", "uniform") or arm.path != out):
            planned = plan.arms[arm.path != out]
            assert (planned.labels, bool(planned.shortfall())) == (sum(sizes), short)
    again = resume(out)
    assert (again.rounds, again.labels, again.finished, again.value) == (
        result.rounds,
        result.labels,
        True,
        result.value,
    )


def test_people_are_asked_for_all_that_is_left_and_then_no_more(pool: Pool, tmp_path: Path) -> None:
    """Also a run that the version before left open, when it refused to ask for less than a batch."""
    config, out = config_of(pool, oracle="files", rounds={"count": 4, "k": 25}), tmp_path / "run"
    sizes = []
    while not (result := run(config, out)).finished:
        with Session.open(out) as session:
            sizes.append(result.waiting)
            session.tell({key: f"class-{len(key) % 2}" for _, key in session.ledger.outstanding()})
            if len(sizes) == 2:
                with pytest.raises(PoolExhausted):  # so did `raysal resume`, for ever
                    session.query()
    assert sizes == [25, 25, 10]
    assert (result.exhausted, result.labels, result.waiting) == (True, N, 0)
    with Session.open(out) as session:
        session.withdraw(session.batch(0).keys[:3])
    assert run(config, out).waiting == 3, "items that are free again are offered"


def test_labels_of_every_item_close_a_run_without_a_round(pool: Pool, tmp_path: Path) -> None:
    keys = [key for table in pool.items(["key"]) for key in table["key"].to_pylist()]
    with Session(tmp_path / "run", pool, oracle="files") as session:
        session.tell({key: f"class-{i % 2}" for i, key in enumerate(keys)})
    result = resume(tmp_path / "run")
    assert (result.rounds, result.labels, result.finished, result.exhausted) == (0, N, True, True)


def test_it_is_said_beforehand_and_ends_with_0(tmp_path: Path) -> None:
    pool, config = tmp_path / "pool", tmp_path / "run.toml"
    cli("embed", write_vectors(tmp_path / "items.parquet", rows=50), "--out", pool, "--carry", "label")
    text = f'pool = {json.dumps(str(pool))}\noracle = "simulated"\n[fleet]\nbackend = "local"\n[rounds]\nk = 20\n'
    words = "the items run out before the rounds do (60 asked for, about 50 left); batches: 2 of 20 and one of 10"
    for count, said in ((3, True), (2, False)):
        config.write_text(f"{text}count = {count}\n", encoding="utf-8")
        for command in (("config", "validate", config), ("run", config, "--out", tmp_path / "run", "--dry-run")):
            answer = cli(*command)
            assert answer.code == 0
            assert (words in answer.out) == said
        assert bool(cli("config", "validate", config, "--json").json["notes"]) == said
    config.write_text(f"{text}count = 9\n", encoding="utf-8")
    answer = cli("run", config, "--out", tmp_path / "run")
    assert answer.code == 0
    assert "closed before its last round" in answer.out
    assert cli("status", tmp_path / "run", "--json").json["labeled"] == 50
    assert cli("resume", tmp_path / "run", "--json").json["exhausted"]


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


REFUSED: list[dict[str, Any]] = [
    {"oracle": {"name": "simulated", "column": "nowhere"}},
    {"oracle": {"name": "simulated", "labels": "nowhere.csv"}},
    {"narrow": {"name": "filter", "where": {"nowhere": 1}}},
    {"select": "falcun", "update": {"trainer": "regression"}},
    {"narrow": {"name": "anchoral", "search": "index"}},
    {"update": {"trainer": "regression"}},
    {"fleet": {"backend": "local", "device": "nonsense"}},
    {"index": {"build": True, "memory": "nonsense"}, "narrow": {"name": "anchoral", "search": "index"}},
]


@pytest.mark.parametrize("fields", REFUSED, ids="-".join)
@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("control", [False, True])
def test_a_refused_run_leaves_nothing_behind(
    fields: dict[str, Any], there: bool, control: bool, pool: Pool, tmp_path: Path
) -> None:
    """Whatever was in the directory before stays."""
    out = tmp_path / "run"
    if there:
        out.mkdir()
        (out / "notes.txt").write_text("mine", encoding="utf-8")
    before = everything(tmp_path)
    config = config_of(pool, rounds={"count": 2, "k": 5, "control": control}, **fields)
    try:
        run(config, out)
    except UserError:
        assert everything(tmp_path) == before
    else:
        pytest.fail("it is to be refused")


def test_a_refused_run_that_has_a_round_or_a_label_stays(pool: Pool, tmp_path: Path) -> None:
    """Only what nothing counts in is taken back."""
    bad = config_of(pool, oracle={"name": "simulated", "column": "nowhere"})
    for name, begin in (("round", lambda session: session.query(3)), ("label", lambda s: s.tell({"item-000001": "a"}))):
        with Session(tmp_path / name, pool) as session:
            begin(session)
        before = everything(tmp_path / name)
        with pytest.raises(UserError):
            run(bad, tmp_path / name)
        assert everything(tmp_path / name) == before
    with Session(tmp_path / "blank", pool):
        pass
    with pytest.raises(UserError):
        run(bad, tmp_path / "blank")
    assert (tmp_path / "blank" / RUN).exists(), "somebody began it on purpose"


def test_a_refused_import_leaves_no_run(pool: Pool, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    for text in ("key,label\nnobody,a\n", "key,label,weight\nitem-000001,a,-1\n", "nothing\n"):
        file.write_text(text, encoding="utf-8")
        assert cli("label", "import", tmp_path / "run", file, "--pool", pool.path).code == 2
        assert not (tmp_path / "run").exists()


def test_a_pool_without_any_vector_says_that_nothing_is_usable(tmp_path: Path) -> None:
    """In the embed command, and in a run, before anything is begun."""
    source, pool, out = write_vectors(tmp_path / "bad.parquet", rows=20, bad=20), tmp_path / "pool", tmp_path / "run"
    answer = cli("embed", source, "--out", pool)
    assert answer.code == 3
    assert "none is usable" in answer.err
    assert "the rest" not in answer.err
    assert f"raysal pool quarantine {pool}" in answer.err
    with pytest.raises(PoolExhausted, match="no item is left"):
        run(config_of(pool, oracle="files"), out)
    assert not out.exists()
    parts = {"source": {"name": "table", "path": str(source), "vector_column": "vector"}, "encoder": "precomputed"}
    with pytest.raises(QuarantineExceeded, match="none is usable"):
        run(config_of(tmp_path / "other", oracle="files", **parts), out)
    some = cli("embed", write_vectors(tmp_path / "some.parquet", rows=20, bad=5), "--out", tmp_path / "some-pool")
    assert some.code == 3
    assert "15 are usable" in some.err


@pytest.mark.parametrize("kind", ["pool", "run", "predictions"])
def test_a_directory_is_of_one_kind(kind: str, pool: Pool, tmp_path: Path) -> None:
    """Whatever would begin another kind there is refused, and changes nothing."""
    source, labels = write_vectors(tmp_path / "items.parquet"), labels_csv(tmp_path / "labels.csv")
    made, run_there = tmp_path / "pool", tmp_path / "run"
    cli("embed", source, "--out", made)
    cli("label", "import", run_there, labels, "--pool", made)
    with Session.open(run_there) as session:
        session.query(5)
    cli("predict", made, "--run", run_there, "-o", tmp_path / "predictions")
    config = tmp_path / "run.toml"
    config.write_text(f'pool = "{made}"\n[fleet]\nbackend = "local"\n', encoding="utf-8")
    place = tmp_path / kind
    before = everything(tmp_path)
    begins: dict[str, tuple[object, ...]] = {
        "pool": ("embed", source, "--out", place),
        "run": ("run", config, "--out", place),
        "predictions": ("predict", made, "--run", run_there, "-o", place),
    }
    del begins[kind]
    for command in begins.values():
        refused(cli(*command), str(place), kind if command[0] != "predict" else "something else")
        assert everything(tmp_path) == before
    if kind != "run":
        refused(cli("label", "import", place, labels, "--pool", made), str(place))
        with pytest.raises(RunError, match="name another directory"):
            Session(place, made)
    if kind != "pool":
        with pytest.raises(UserError, match="name another directory"):
            raysal.embed(str(source), out=place)
    assert everything(tmp_path) == before


def test_the_kinds_are_those_of_the_files(pool: Pool, tmp_path: Path) -> None:
    from raysal.exporting.layout import PLAN as EXPORT
    from raysal.finetuning.job import PLAN as MODEL
    from raysal.pool.layout import MANIFEST
    from raysal.ranking.layout import MANIFEST as RANKING

    assert set(KINDS) == {MANIFEST, RUN, PREDICTIONS, RANKING, MODEL, EXPORT}
    with Session(tmp_path / "run", pool) as session:
        session.query(3)
    (tmp_path / "run" / MANIFEST).write_text("{}", encoding="utf-8")
    with Session.open(tmp_path / "run") as session:
        assert session.rounds == 1, "an older version let runs begin in a pool; they go on"
