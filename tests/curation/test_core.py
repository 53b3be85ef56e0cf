"""The step `core`: greedy k-center as if all were compared, however it is cut, kept and interrupted."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pools import make_pool, mixture
from tiers import deep

import raysal
from raysal.api.curate import run_step, run_steps
from raysal.curation.base import Speed
from raysal.curation.curated import Curated
from raysal.curation.forecast import forecast_plan
from raysal.curation.plan import plan_of
from raysal.curation.steps import core
from raysal.curation.steps.core import Core
from raysal.errors import ConfigError, Damaged
from raysal.pool import Pool
from raysal.sources.memory import Memory
from raysal.strategies.engine import centre_cells, guesses
from raysal.strategies.engine import lazy_greedy as lazy
from raysal.types import Metric

N, DIM, SIZE = 300, 48, 60
MODES = [{"mode": "exact"}, {"mode": "levels", "epsilon": 0.2}]
modes = pytest.mark.parametrize("mode", MODES, ids=["exact", "levels"])


def vectors(n: int = N, seed: int = 0) -> NDArray[np.float32]:
    """Groups of rows, with copies."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((12, DIM))[rng.integers(12, size=n)] + 0.6 * rng.standard_normal((n, DIM))
    rows[rng.permutation(n)[: n // 10]] = rows[rng.integers(n, size=n // 10)]
    return rows.astype(np.float16).astype(np.float32)


def told(found: Curated) -> dict[str, Any]:
    """What a step found, to be compared."""
    (step,) = found.steps
    listed = step.result.listed
    return {
        "table": found.table("all").to_pylist(),
        "facts": step.result.facts,
        "listed": None if listed is None else listed.to_pylist(),
    }


def compared(pool: Pool) -> NDArray[np.float64]:
    """Rows as they are compared, by id."""
    ids = np.concatenate([chunk.ids() for chunk in pool.chunks])
    x = np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float64)
    if pool.metric == "cosine":
        x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
    out = np.full((ids.max() + 1, x.shape[1]), np.nan)
    out[ids] = x
    return out


def check(pool: Pool, found: Curated, size: int, epsilon: float = 0.0, given: tuple[int, ...] = ()) -> None:
    """Go through the kept items in the order of their ranks, slowly, then through the dropped ones."""
    result, x = found.steps[0].result, compared(pool)
    assert result.listed is not None
    listed = {row["rank"]: row for row in result.listed.to_pylist()}
    assert sorted(listed) == list(range(1, size + 1))
    kept = [listed[rank]["id"] for rank in range(1, size + 1)]
    assert len(set(kept)) == size
    assert set(kept) | set(result.ids.tolist()) == set(found.ids.tolist())
    assert kept[: len(given)] == list(given)
    gaps = np.where(np.isnan(x[:, 0]), -np.inf, np.inf)
    for rank, id in enumerate(kept, 1):
        if rank > max(len(given), 1):
            assert gaps[id] >= (1 - epsilon) * gaps[[*result.ids, *kept[rank - 1 :]]].max() - 1e-5
            assert listed[rank]["distance"] == pytest.approx(gaps[id], abs=1e-5)
        else:
            assert listed[rank]["distance"] is None
        gaps = np.minimum(gaps, np.sqrt(((x - x[id]) ** 2).sum(1)))
    assert result.value == pytest.approx(gaps[result.ids], abs=1e-5)
    assert result.facts["radius"] == result.value.max()
    far = np.sqrt(((x[result.ids] - x[result.nearest]) ** 2).sum(1))
    assert far == pytest.approx(gaps[result.ids], abs=1e-5)
    assert set(result.nearest.tolist()) <= set(kept)


@modes
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_each_kept_item_is_the_farthest_and_each_dropped_one_names_the_nearest(
    mode: dict[str, Any], metric: Metric, tmp_path: Path
) -> None:
    pool = make_pool(tmp_path / "pool", vectors(), chunk_rows=64, missing=[3, 80], metric=metric)
    found = run_step(pool, Core(size=SIZE, **mode))
    assert (found.kept, found.dropped) == (SIZE, N - 2 - SIZE)
    check(pool, found, SIZE, mode.get("epsilon", 0.0))


@modes
@pytest.mark.parametrize("cells", [True, False])
def test_it_does_not_depend_on_how_it_is_cut_nor_on_what_is_looked_at(
    mode: dict[str, Any], cells: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = told(run_step(make_pool(tmp_path / "usual", vectors()), Core(size=SIZE, **mode)))
    monkeypatch.setattr(lazy, "ROWS_AT_FIRST", 40)
    monkeypatch.setattr(lazy, "MOST_ROWS", 40)
    monkeypatch.setattr(lazy, "FEWEST_ROWS", 10)
    if cells:
        monkeypatch.setattr(guesses, "WORTHWHILE", 0)
        monkeypatch.setattr(guesses, "FEWEST_CENTRES", 5)
        monkeypatch.setattr(guesses, "FEWEST_MISSED", 5)
        monkeypatch.setattr(centre_cells, "GATHERED", -(10**6))  # planes are taken whatever they leave
    for partitions, chunk_rows in ((1, 33), (2, 64), (5, 1000)):
        pool = make_pool(tmp_path / f"{partitions}", vectors(), chunk_rows=chunk_rows)
        assert told(run_step(pool, Core(size=SIZE, **mode), partitions=partitions)) == usual


@deep
def test_it_is_the_same_on_ray(tmp_path: Path, ray_session: object) -> None:
    pool = make_pool(tmp_path / "pool", vectors(), chunk_rows=64)
    steps = [Core(size=SIZE), Core(size=20, mode="levels")]
    there = run_steps(pool, steps, backend="ray", partitions=2)
    here = run_steps(make_pool(tmp_path / "here", vectors(), chunk_rows=64), steps)
    assert there.table("all").equals(here.table("all"))


@pytest.mark.parametrize(("metric", "words"), [("cosine", "(distance of vectors of length 1)"), ("l2", "(distance)")])
def test_the_note_says_which_distance_the_radius_is(tmp_path: Path, metric: Metric, words: str) -> None:
    found = run_step(make_pool(tmp_path / "pool", vectors(), metric=metric), Core(size=1)).steps[0]
    (note,) = found.notes
    assert words in note
    assert note.endswith("that 1 kept item can have")


@modes
def test_a_smaller_size_keeps_the_first_of_a_larger_one(mode: dict[str, Any], tmp_path: Path) -> None:
    """Whichever comes first: picks that are kept in the pool are those that would be made."""
    alone = {}
    for size in (1, 25, 60):
        alone[size] = told(run_step(make_pool(tmp_path / f"{size}", vectors()), Core(size=size, **mode)))
        ranks = {row["rank"]: row["id"] for row in alone[size]["listed"]}
        assert [ranks[rank] for rank in sorted(ranks)] == [
            row["id"] for row in sorted(alone[size]["listed"], key=lambda row: row["rank"])
        ]
    first = {row["id"] for row in alone[25]["listed"]}
    assert first == {row["id"] for row in alone[60]["listed"] if row["rank"] <= 25}
    pool = make_pool(tmp_path / "pool", vectors())
    for size in (25, 60, 1):
        assert told(run_step(pool, Core(size=size, **mode))) == alone[size]


@modes
def test_an_interrupted_step_goes_on(mode: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = told(run_step(make_pool(tmp_path / "usual", vectors()), Core(size=SIZE, **mode)))
    monkeypatch.setattr(core, "SECONDS_BETWEEN", -1.0)
    monkeypatch.setattr(lazy, "ROWS_AT_FIRST", 8)
    monkeypatch.setattr(lazy, "MOST_ROWS", 8)
    monkeypatch.setattr(lazy, "HELD_ROWS", 8)
    pool = make_pool(tmp_path / "pool", vectors())
    seen: list[int] = []

    def stop(stage: str, done: int, total: int) -> None:
        if stage.endswith("pick"):
            seen.append(done)
            if done >= 30:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_step(pool, Core(size=SIZE, **mode), report=stop)
    before, seen = seen, []
    found = run_step(pool, Core(size=SIZE, **mode), report=lambda stage, done, total: seen.append(done))
    assert told(found) == usual
    assert seen[0] > before[-2] > 0


def test_picks_that_are_damaged_are_named(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", vectors())
    run_step(pool, Core(size=20))
    (file,) = pool.path.rglob("picks-*/00000.arrow")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(Damaged, match=r"00000\.arrow"):
        run_step(pool, Core(size=30))


@modes
@pytest.mark.parametrize("seed", range(6))
def test_the_radius_is_what_is_promised_of_it(mode: dict[str, Any], seed: int, tmp_path: Path) -> None:
    """Beside the smallest radius of all choices of three of twelve items."""
    x = np.random.default_rng(seed).standard_normal((12, 2)).astype(np.float16).astype(np.float32)
    pool = make_pool(tmp_path / "pool", x, metric="l2")
    found = run_step(pool, Core(size=3, **mode), seed=seed)
    gaps = np.sqrt(((x[:, None].astype(np.float64) - x[None]) ** 2).sum(2))
    best = min(gaps[:, list(some)].min(1).max() for some in itertools.combinations(range(12), 3))
    facts = found.steps[0].result.facts
    assert facts["guarantee"] == 2 / (1 - mode.get("epsilon", 0.0))
    assert best - 1e-9 <= facts["radius"] <= facts["guarantee"] * best + 1e-9


@modes
@pytest.mark.parametrize("seed", range(3))
def test_what_is_promised_counts_with_the_items_that_are_always_kept(
    mode: dict[str, Any], seed: int, tmp_path: Path
) -> None:
    """Three of four lie in one place; any four may be in four places, and then have a far smaller radius."""
    x = np.random.default_rng(seed).standard_normal((14, 2)).astype(np.float16).astype(np.float32)
    x[:3] = 0.01 * np.arange(3)[:, None]
    x[3:] += 20 * np.repeat(np.array([[1, 0], [0, 1], [-1, 0]], np.float32), 4, axis=0)[:11]
    pool = make_pool(tmp_path / "pool", x, metric="l2", carried={"mark": [True] * 3 + [False] * 11})
    (step,) = run_step(pool, Core(size=4, always="mark", **mode), seed=seed).steps
    gaps = np.sqrt(((x[:, None].astype(np.float64) - x[None]) ** 2).sum(2))
    radius, guarantee = step.result.facts["radius"], step.result.facts["guarantee"]

    def best(choices: Any) -> float:
        return float(min(gaps[:, list(some)].min(1).max() for some in choices))

    assert radius > guarantee * best(itertools.combinations(range(14), 4))
    assert radius <= guarantee * best((0, 1, 2, fourth) for fourth in range(3, 14)) + 1e-9
    assert step.result.facts["notes"][0].endswith("4 kept items can have, the 3 with a value in 'mark' among them")


@modes
def test_a_partition_may_have_nothing_to_choose_from(mode: dict[str, Any], tmp_path: Path) -> None:
    """All of its items were dropped before, or are kept whatever is chosen."""
    column = [i < 70 for i in range(N)]
    found = []
    for partitions in (1, 5):
        pool = make_pool(tmp_path / f"{partitions}", vectors(), chunk_rows=33, carried={"mark": column})
        first = run_step(pool, Core(size=100, always="mark", **mode), partitions=partitions)
        check(pool, first, 100, mode.get("epsilon", 0.0), tuple(range(70)))
        unmarked = {"name": "filter", "where": {"mark": False}}
        later = run_steps(pool, [unmarked, Core(size=30, **mode)], partitions=partitions)
        found.append((told(first), later.table("all").to_pylist()))
    assert found[0] == found[1]


@modes
def test_pools_that_have_little_to_tell_apart(mode: dict[str, Any], tmp_path: Path) -> None:
    same = make_pool(tmp_path / "same", np.ones((40, 8), np.float32), chunk_rows=33)
    found = run_step(same, Core(size=5, **mode), partitions=2)
    assert (found.kept, found.steps[0].result.facts["radius"]) == (5, 0.0)
    assert (found.steps[0].result.value == 0).all()
    zeros = make_pool(tmp_path / "zeros", np.zeros((40, 8), np.float32))
    assert run_step(zeros, Core(size=5, **mode)).kept == 5
    some = np.repeat(np.eye(8, dtype=np.float32), 6, 0)
    some[:6] = 0  # 8 different vectors, one of them zero
    few = make_pool(tmp_path / "few", some)
    found = run_step(few, Core(size=8, **mode))
    assert found.steps[0].result.facts["radius"] == 0.0
    assert sorted(found.kept_ids // 6) == list(range(8))
    assert run_step(few, Core(size=12, **mode)).kept == 12
    one = make_pool(tmp_path / "one", np.ones((1, 8), np.float32))
    assert run_step(one, Core(size=1, **mode)).kept == 1


def test_only_what_is_left_is_looked_at(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", vectors(), chunk_rows=64)
    found = run_steps(pool, [Core(size=100), Core(size=20, mode="levels"), Core(size=500), Core(size=0.5)])
    assert [step.left for step in found.steps] == [N, 100, 20, 20]
    assert found.kept == 10
    first, second = (set(step.result.ids.tolist()) for step in found.steps[:2])
    assert not first & second
    assert set(found.steps[1].result.nearest.tolist()).isdisjoint(first)
    assert len(found.steps[2].result) == 0


@pytest.mark.parametrize(
    ("column", "given"),
    [
        ([None, "a"] + [None] * 7 + ["b"], (1, 9)),
        ([False, True, None] + [False] * 6 + [True], (1, 9)),
        ([float("nan"), 1.0, None] + [float("nan")] * 6 + [0.0], (1, 9)),
        ([False] * 10, ()),
    ],
)
@modes
def test_items_with_a_value_are_kept_and_cover_from_the_start(
    mode: dict[str, Any], column: list[Any], given: tuple[int, ...], tmp_path: Path
) -> None:
    pool = make_pool(tmp_path / "pool", vectors(10), carried={"mark": column})
    found = run_step(pool, Core(size=4, always="mark", **mode))
    check(pool, found, 4, mode.get("epsilon", 0.0), given)
    if given:
        with pytest.raises(ConfigError, match="less than the 2 items"):
            run_step(pool, Core(size=1, always="mark", **mode))
        assert set(run_step(pool, Core(size=2, always="mark", **mode)).kept_ids) == set(given)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"size": 0}, "size: 0 is no number of items"),
        ({"size": 1.5}, "size: 1.5 is no number of items"),
        ({"size": True}, "size: True is no number"),
        ({"size": 5, "mode": "some"}, "mode: unknown value 'some'"),
        ({"size": 5, "mode": "levels", "epsilon": 0.9}, "epsilon: 0.9 is out of range"),
        ({"size": 5, "epsilon": 0.1}, "epsilon: the mode exact takes the farthest item"),
        ({"size": 5, "always": "nothing"}, "always: the pool has no column 'nothing'"),
    ],
)
def test_fields_that_say_nothing_are_refused(fields: dict[str, Any], problem: str, tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", vectors(20))
    with pytest.raises(ConfigError) as error:
        run_step(pool, Core(**fields))
    assert problem in str(error.value)


def test_another_column_of_what_is_always_kept_begins_anew(tmp_path: Path) -> None:
    x = mixture(60, 8)[0]
    flags = {name: [at % 9 == first for at in range(60)] for name, first in (("one", 1), ("two", 2))}
    pool = make_pool(tmp_path / "pool", x, carried=flags)
    other = make_pool(tmp_path / "other", x, carried=flags)
    assert raysal.core(pool, size=20, always="one").kept == 20
    found, wanted = (raysal.core(each, size=20, always="two") for each in (pool, other))
    assert found.table("all").equals(wanted.table("all"))
    assert set(range(2, 60, 9)) <= set(found.kept_ids.tolist())


@modes
@pytest.mark.parametrize("times", [1000.0, 0.001])
def test_distances_are_those_of_vectors_as_they_were_given(mode: dict[str, Any], times: float, tmp_path: Path) -> None:
    """The unit of the vectors changes no pick, and every distance as much: a pool scales what float16 cannot hold."""
    rows, keys = np.random.default_rng(0).standard_normal((80, 8)).astype(np.float32), [f"k{i:02d}" for i in range(80)]
    rows[0] *= 100  # so that both pools scale theirs
    told_of = {}
    for unit in (1000.0, 1000.0 * times):
        source = Memory(vectors=rows * np.float32(unit), keys=keys)
        pool = raysal.embed(source, out=tmp_path / f"{unit}", metric="l2")
        result = raysal.core(pool, size=20, **mode).steps[0].result
        assert result.listed is not None
        told_of[unit] = pool.scale, result, result.listed.sort_by("rank")
    (scale, usual, first), (other_scale, found, listed) = told_of.values()
    assert scale < 1
    assert other_scale != scale
    for result, unit in ((usual, 1000.0), (found, 1000.0 * times)):
        pairs = zip(result.ids, result.nearest, strict=True)
        far = [np.linalg.norm(unit * (rows[id].astype(np.float64) - rows[near])) for id, near in pairs]
        assert result.facts["radius"] == pytest.approx(max(far), rel=1e-2)
        assert result.value == pytest.approx(np.array(far), rel=1e-2)
    if mode["mode"] == "exact":  # levels of distance begin where powers of 1 - epsilon do, whatever the unit
        assert listed["id"].to_pylist() == first["id"].to_pylist()
        assert found.nearest.tolist() == usual.nearest.tolist()
        assert found.value == pytest.approx(times * usual.value, rel=1e-2)
        gaps = [np.array(table["distance"].to_pylist()[1:]) for table in (first, listed)]
        assert gaps[1] == pytest.approx(times * gaps[0], rel=1e-2)


def test_another_epsilon_reads_no_picks_of_the_first(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", vectors())
    picks = []
    for epsilon in (0.5, 0.001, None):
        fields: dict[str, Any] = {"mode": "levels", "epsilon": epsilon}
        found = told(run_step(pool, Core(size=SIZE, **fields)))
        alone = make_pool(tmp_path / f"{epsilon}", vectors())
        assert found == told(run_step(alone, Core(size=SIZE, **fields)))
        picks.append(tuple(row["id"] for row in found["listed"]))
    assert len(set(picks)) == 3, "picks of all three differ, or this tests nothing"


def test_too_many_that_are_always_kept_are_refused_before_the_plan_is_shown(tmp_path: Path) -> None:
    """Where a step comes before, it may drop some of them, so that only doing it tells."""
    pool = make_pool(tmp_path / "pool", vectors(10), carried={"mark": [True] * 3 + [False] * 7})
    for size in (2, 0.2):
        with pytest.raises(ConfigError, match=r"core\.size: 2 is less than the 3 items .*'mark'"):
            forecast_plan(pool, plan_of({"name": "core", "size": size, "always": "mark"}))
    later = plan_of([{"name": "core", "size": 5}, {"name": "core", "size": 2, "always": "mark"}])
    assert [line.kept for line in forecast_plan(pool, later)] == [5, 2]


def test_the_forecast_knows_that_items_cost_however_few_are_kept(tmp_path: Path) -> None:
    """Seconds go by the items for a few kept ones, by the products for many, and by the speed of products."""
    pool = make_pool(tmp_path / "pool", vectors(20))

    def seconds(size: int, left: int, products: float = 1e11) -> float:
        return Core(size=size).forecast(pool, left, Speed(products=products, rows=1e7)).seconds - core.BEGIN_S

    assert seconds(20, 10**6) > 0.9 * seconds(10, 10**6) > 100 * 10 * 10**6 * DIM / 1e11
    assert seconds(10**5, 10**6) == pytest.approx(10 * seconds(10**4, 10**6), rel=0.2)
    assert seconds(10**5, 10**6) > 2 * 10**5 * 10**6 * DIM / 1e11
    assert seconds(10, 2 * 10**6) == pytest.approx(2 * seconds(10, 10**6))
    assert seconds(10, 10**6, 5e10) == pytest.approx(2 * seconds(10, 10**6))
    assert Core(size=50).forecast(pool, 50, Speed(products=1e11, rows=1e7)).seconds == 0
