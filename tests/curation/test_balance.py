"""The step balance: exactly so many, evenly over what it is by, the same for any cut; and clusters are made once."""

from __future__ import annotations

import datetime
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_tools import cli, refused
from numpy.typing import NDArray
from pools import make_pool

import raysal
from raysal.api.curate import run_step, run_steps
from raysal.curation.base import Speed
from raysal.curation.curated import Curated
from raysal.curation.steps.balance import Balance
from raysal.curation.tree import levels
from raysal.errors import ConfigError, FingerprintMismatch, PoolError
from raysal.pool import Pool
from raysal.pool.removing import remove_items
from raysal.types import Metric

N, DIM = 300, 8


def long_tailed(n: int = N, seed: int = 0) -> tuple[NDArray[np.float32], list[str]]:
    """Rows of six classes, of which each is half as frequent as the one before."""
    rng = np.random.default_rng(seed)
    which = np.minimum(rng.geometric(0.5, n) - 1, 5)
    x = (rng.standard_normal((6, DIM)) * 3)[which] + rng.standard_normal((n, DIM))
    return x.astype(np.float16).astype(np.float32), [f"class-{c}" for c in which]


def tailed_pool(path: Path) -> Pool:
    x, names = long_tailed()
    return make_pool(path, x, labels=names, chunk_rows=64, missing=[3, 80])


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """One for all tests: each asks another thing of it, or what was found for another may be read."""
    return tailed_pool(tmp_path_factory.mktemp("balance") / "pool")


def carried_pool(path: Path, **columns: list[Any]) -> Pool:
    """A pool that carries these columns, made by `raysal.embed`."""
    count = len(next(iter(columns.values())))
    x = np.random.default_rng(0).standard_normal((count, 4)).astype(np.float32)
    table = {"key": [f"{i:03d}" for i in range(count)], "vector": list(x), **columns}
    pq.write_table(pa.table(table), path.with_suffix(".parquet"))
    source = {"name": "table", "path": str(path.with_suffix(".parquet")), "carry": list(columns)}
    return raysal.embed(source, out=path, chunk_rows=16)


def counts(pool: Pool, found: Curated, column: str = "label") -> Counter[Any]:
    """How many items of each value of a column are kept."""
    table = pa.concat_tables(pool.items(["id", column])).to_pydict()
    kept = set(found.kept_ids.tolist())
    return Counter(value for item, value in zip(table["id"], table[column], strict=True) if item in kept)


def filled(sizes: dict[Any, int], size: int) -> list[int]:
    """How many each group gives, sorted, by pouring one item after the other into the group that has least."""
    given = dict.fromkeys(sizes, 0)
    for _ in range(size):
        given[min((name for name in sizes if given[name] < sizes[name]), key=lambda name: given[name])] += 1
    return sorted(given.values())


@pytest.mark.parametrize("size", [1, 5, 60, 297, 298, 5000])
@pytest.mark.parametrize("by", ["column:label", "clusters", ("column:label", "clusters"), "density"])
def test_exactly_so_many_are_kept(pool: Pool, by: Any, size: int) -> None:
    found = run_step(pool, Balance(size=size, by=by))
    assert found.kept == min(size, 298)
    if by in ("column:label", ("column:label", "clusters")):
        every = Counter(value for table in pool.items(["label"]) for value in table["label"].to_pylist())
        assert sorted(counts(pool, found).values()) == [n for n in filled(every, min(size, 298)) if n]


@pytest.mark.parametrize("by", ["column:label", "clusters", ("column:label", "clusters"), "density"])
@pytest.mark.parametrize("partitions", [2, 5])
@pytest.mark.parametrize("chunk_rows", [33, 64])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_nothing_depends_on_partitions_and_chunks(
    tmp_path: Path, by: Any, partitions: int, chunk_rows: int, metric: Metric
) -> None:
    x, names = long_tailed()
    one = make_pool(tmp_path / "one", x, labels=names, metric=metric)
    other = make_pool(tmp_path / "other", x, labels=names, metric=metric, chunk_rows=chunk_rows)
    plan = [Balance(size=200, by="density"), Balance(size=50, by=by)]
    assert run_steps(one, plan).table("all").equals(run_steps(other, plan, partitions=partitions).table("all"))


@pytest.mark.parametrize("prefer", ["random", "nearest", "farthest"])
def test_a_smaller_size_keeps_some_of_what_a_larger_one_keeps(pool: Pool, prefer: Any) -> None:
    """And the value of a dropped item is the least size that keeps it."""
    kept = {size: set(run_step(pool, Balance(size=size, prefer=prefer)).kept_ids) for size in (10, 11, 12, 80)}
    assert kept[10] < kept[11] < kept[12] < kept[80]
    table = run_step(pool, Balance(size=10, prefer=prefer)).table("dropped")
    value = dict(zip(table["key"].to_pylist(), table["value"].to_pylist(), strict=True))
    ids = pool.ids_of(list(value))
    assert sorted(value.values()) == list(range(11, 299))
    for size in (11, 12, 80):
        assert {ids[key] for key, least in value.items() if least <= size} == kept[size] - kept[10]


def test_another_size_makes_no_clusters(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_step(pool, Balance(size=20))
    monkeypatch.setattr(levels, "_made", None)
    again = run_step(pool, Balance(size=30, prefer="nearest"))
    assert (first.kept, again.kept) == (20, 30)
    run_step(pool, Balance(size=0.5, by=["column:label", "clusters"]))
    with pytest.raises(TypeError):
        run_step(pool, Balance(size=20, clusters=(4,)))


def test_what_comes_first_in_a_cluster(tmp_path: Path) -> None:
    """Of one cluster, those nearest to the mean of all rows, or farthest from it."""
    pool = make_pool(tmp_path / "pool", long_tailed(200)[0])
    x = np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    ids = np.concatenate([chunk.ids() for chunk in pool.chunks])
    order = ids[np.argsort(((x - x.mean(0)) ** 2).sum(1))]
    for prefer, wanted in (("nearest", order[:40]), ("farthest", order[-40:])):
        found = run_step(pool, {"name": "balance", "size": 40, "clusters": [1], "prefer": prefer})
        assert set(found.kept_ids) == set(wanted)


def test_rare_classes_get_more_room_by_clusters(tmp_path: Path) -> None:
    x, names = long_tailed(2000)
    pool = make_pool(tmp_path / "pool", x, labels=names)
    rare = {name for name, count in Counter(names).items() if count < 200}
    found = run_step(pool, Balance(size=300, clusters=(60, 6)))
    kept = counts(pool, found)
    share = sum(kept[name] for name in rare) / 300
    assert share > 2 * sum(name in rare for name in names) / 2000
    entropy = found.steps[0].result.facts["entropy_bits"]
    assert set(entropy) == {"clusters of level 1", "clusters of level 2"}
    assert entropy["clusters of level 2"]["before"] < entropy["clusters of level 2"]["after"] <= np.log2(6)


def test_sparse_places_get_more_room_by_density(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([0.1 * rng.standard_normal((500, 4)), 3 * rng.standard_normal((100, 4))])
    pool = make_pool(tmp_path / "pool", x, metric="l2")
    found = run_step(pool, Balance(size=60, by="density"))
    assert 35 <= (found.kept_ids >= 500).sum() < 60
    assert "balance" not in found.steps[0].result.facts


def test_facts_count_before_and_after(pool: Pool) -> None:
    every = Counter(value for table in pool.items(["label"]) for value in table["label"].to_pylist())
    found = run_step(pool, Balance(size=60, by="column:label"))
    facts = found.steps[0].result.facts
    assert facts["balance"] == {"of": "column:label", "before": every, "after": counts(pool, found)}
    share = np.array(list(every.values())) / 298
    assert facts["entropy_bits"]["column:label"]["before"] == pytest.approx(-(share * np.log2(share)).sum())
    sizes = run_step(pool, Balance(size=60, clusters=(20, 5))).steps[0].result.facts["balance"]
    assert sizes["of"] == "clusters of level 2"
    assert list(sizes["before"]) == list(sizes["after"]) == [f"cluster {number}" for number in range(1, 6)]
    before = list(sizes["before"].values())
    assert before == sorted(before, reverse=True)
    assert (sum(before), sum(sizes["after"].values())) == (298, 60)
    assert sorted(sizes["after"].values()) == filled(sizes["before"], 60)


VALUES: dict[str, tuple[list[Any], int]] = {
    "texts": (["a", "b", "b", None] * 10, 3),
    "whole": ([1, 2, 2, None] * 10, 3),
    "truths": ([True, False, False, None] * 10, 3),
    "days": ([datetime.date(2026, 1, d) for d in (1, 2)] * 20, 2),
    "many": ([*range(39), None], 21),
    "real": ([*np.linspace(0, 1, 38), float("nan"), None], 21),
    "infinite": ([*range(38), float("inf"), float("-inf")], 20),
    "far": ([*range(38), -1.7e308, 1.7e308], 3),
    "skewed": ([*range(39), 1000], 2),
    "missing": ([None] * 39 + ["a"], 2),
}


@pytest.mark.parametrize("kind", VALUES)
def test_values_of_a_column_are_groups(tmp_path: Path, kind: str) -> None:
    values, groups = VALUES[kind]
    pool = carried_pool(tmp_path / "pool", value=values)
    found = run_step(pool, Balance(size=groups, by="column:value"))
    balance = found.steps[0].result.facts["balance"]
    assert list(balance["after"].values()) == [1] * groups
    assert sum(balance["before"].values()) == 40
    assert ("(none)" in balance["before"]) == any(value is None or value != value for value in values)


def test_names_of_ranges(tmp_path: Path) -> None:
    pool = carried_pool(tmp_path / "pool", value=[float(i) for i in range(40)])
    found = run_step(pool, Balance(size=4, by="column:value", bins=2))
    assert found.steps[0].result.facts["balance"]["before"] == {"0 to 19.5": 20, "19.5 to 39": 20}


def test_many_groups_are_counted_together(tmp_path: Path) -> None:
    pool = carried_pool(tmp_path / "pool", value=[f"{i % 120:03d}" for i in range(150)])
    balance = run_step(pool, Balance(size=120, by="column:value")).steps[0].result.facts["balance"]
    assert len(balance["before"]) == 101
    assert (balance["before"]["(20 others)"], balance["after"]["(20 others)"]) == (20, 20)


def test_lists_are_no_groups(tmp_path: Path) -> None:
    pool = carried_pool(tmp_path / "pool", value=[[1], [2, 3]] * 4)
    with pytest.raises(ConfigError, match="by: the values of 'value' are of the type list"):
        run_step(pool, Balance(size=2, by="column:value"))


def test_predicted_classes_are_groups(tmp_path: Path) -> None:
    pool = tailed_pool(tmp_path / "pool")
    truth = {row["key"]: row["label"] for table in pool.items(["key", "label"]) for row in table.to_pylist()}
    with raysal.Session(tmp_path / "run", pool, select="random", start="random") as session:
        session.tell(dict(list(truth.items())[:100]))
        head = session.current_head()
    folder = raysal.predict(pool, out=tmp_path / "predicted", head=head).path
    predicted = pa.concat_tables(raysal.prediction.Predictions(folder).tables())
    every = Counter(predicted["class"].to_pylist())
    found = run_step(pool, {"name": "balance", "size": 60, "by": "class", "predictions": str(folder)})
    kept = set(found.kept_ids.tolist())
    given = Counter(row["class"] for row in predicted.to_pylist() if row["id"] in kept)
    assert sorted(given.values()) == filled(every, 60)
    again = run_step(pool, Balance(size=60, by="class", predictions=folder))
    assert again.steps[0].resumed
    shutil.rmtree(folder)
    with raysal.Session(tmp_path / "run", pool) as session:
        session.tell(dict(list(truth.items())[100:110]))
        head = session.current_head()
    assert raysal.predict(pool, out=folder, head=head).path == folder
    assert not run_step(pool, Balance(size=60, by="class", predictions=folder)).steps[0].resumed, "of another head"
    remove_items(pool.path, ["item-000001"])
    with pytest.raises(FingerprintMismatch, match="predict this pool"):
        run_step(raysal.open_pool(pool.path), Balance(size=60, by="class", predictions=folder))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"size": 0}, "size: 0 is no number of items; use 1 or more, or a share"),
        ({"size": -2}, "size: -2"),
        ({"size": 2.5}, "size: 2.5"),
        ({"size": True}, "size: True"),
        ({"size": float("nan")}, "size: nan"),
        ({"size": float("inf")}, "size: inf"),
        ({"size": 5, "by": "label"}, "by: unknown value 'label'; use clusters, class, density, or column:NAME"),
        ({"size": 5, "by": "column:"}, "by: unknown value 'column:'"),
        ({"size": 5, "by": ()}, "by: .* is no order"),
        ({"size": 5, "by": ("density", "clusters")}, "by: .* density as the last"),
        ({"size": 5, "by": ("clusters", "clusters")}, "by: .* name each once"),
        ({"size": 5, "clusters": ()}, "clusters: "),
        ({"size": 5, "clusters": (5, 0)}, "clusters: "),
        ({"size": 5, "clusters": (5, 9)}, "clusters: .* do not fall"),
        ({"size": 5, "rounds": -1}, "rounds: -1"),
        ({"size": 5, "bins": 1}, "bins: 1"),
        ({"size": 5, "prefer": "best"}, "prefer: unknown value 'best'"),
        ({"size": 5, "by": "density", "prefer": "nearest"}, "prefer: 'nearest' is about clusters"),
        (
            {"size": 5, "by": "class"},
            "predictions: are missing, and by names class; name a folder that `raysal predict` wrote",
        ),
        ({"size": 5, "predictions": Path("p")}, r"predictions: are given, and by \(clusters\) does not name class"),
    ],
)
def test_fields_that_cannot_be(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Balance(**fields)


def test_what_a_pool_must_have(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="by: the pool has no column 'place'; its columns: label"):
        run_step(pool, Balance(size=5, by="column:place"))
    with pytest.raises(PoolError, match="holds no predictions"):
        run_step(pool, Balance(size=5, by="class", predictions=tmp_path))


def test_a_share_is_of_what_is_left(pool: Pool) -> None:
    found = run_steps(pool, [Balance(size=101, by="column:label"), Balance(size=0.25, by="clusters")])
    assert [step.left - step.dropped for step in found.steps] == [101, 26]


def test_the_forecast_knows_how_many(pool: Pool) -> None:
    speed = Speed(products=1e11, rows=1e6)
    assert Balance(size=40).forecast(pool, 298, speed).kept == 40
    assert Balance(size=400).forecast(pool, 298, speed).kept == 298
    assert Balance(size=0.5).forecast(pool, 299, speed).kept == 150
    small, large = (Balance(size=5).forecast(pool, left, speed).seconds for left in (10_000, 1_000_000))
    assert 50 * small < large


def test_the_verb_is_the_step(pool: Pool, tmp_path: Path) -> None:
    wanted = run_step(pool, Balance(size=25, by=("column:label", "clusters"), clusters=(30, 5), prefer="nearest"))
    found = raysal.balance(pool, size=25, by=["column:label", "clusters"], clusters=[30, 5], prefer="nearest")
    assert found.steps[0].resumed
    assert found.table("all").equals(wanted.table("all"))
    words = ["--size", 25, "--by", "column:label", "--by", "clusters", "--clusters", 30, "--clusters", 5]
    done = cli("balance", pool.path, *words, "--prefer", "nearest", "-o", tmp_path / "kept.parquet", "--json")
    assert (done.code, done.json["kept_items"]) == (0, 25)
    assert pq.read_table(tmp_path / "kept.parquet").equals(wanted.table())
    done = cli("balance", pool.path, "--size", 0.1, "-o", tmp_path / "dropped.csv", "--rows", "dropped")
    assert done.out == f"{tmp_path / 'dropped.csv'}: 30 of 298 items kept; 268 dropped by balance\n"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--size", 0], "size: 0 is no number of items"),
        (["--size", 2.5], "size: 2.5 is no number of items"),
        (["--size", "inf"], "size: inf is no number of items"),
        (
            ["--size", 5, "--by", "place"],
            "by: unknown value 'place'; use clusters, class, density, or column:NAME",
        ),
        (["--size", 5, "--by", "column:place"], "by: the pool has no column 'place'; its columns: label"),
        (
            ["--size", 5, "--by", "class"],
            "predictions: are missing, and by names class; name a folder that `raysal predict` wrote",
        ),
        (["--size", 5, "--clusters", 3, "--clusters", 9], "clusters: [3, 9] do not fall"),
    ],
)
def test_the_command_says_what_cannot_be(pool: Pool, tmp_path: Path, words: list[Any], problem: str) -> None:
    refused(cli("balance", pool.path, *words, "-o", tmp_path / "kept.csv"), problem)
