"""The job of a plan: what is left goes from step to step, nothing is done twice, and no table lies."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_tools import write_vectors
from curation_steps import PLACES, Draw, Named, Slow, Stop, Thin
from numpy.typing import NDArray
from object_store import ObjectStore
from pools import make_pool, mixture

import raysal
from raysal.api.curate import run_step, run_steps
from raysal.buckets import Bucket
from raysal.curation.base import Forecast, Speed, Step, StepResult, Work
from raysal.curation.curated import Curated
from raysal.curation.folder import FOLDER
from raysal.curation.registry import STEPS
from raysal.errors import ConfigError, Damaged, NotNow, OutputExists, RaysalError, RaysalWarning
from raysal.pool import Pool
from raysal.pool.removing import remove_items
from raysal.store import locked, write_file, write_sealed

N = 150


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return make_pool(tmp_path / "pool", mixture(N, 8)[0], chunk_rows=33, missing=[3, 70])


@pytest.fixture(autouse=True)
def calls() -> Iterator[list[tuple[int, int]]]:
    Thin.calls.clear()
    Slow.stops, Slow.went_on = None, 0
    yield Thin.calls
    Slow.stops = None


def rows_of(found: Curated) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in found.table("all").to_pylist()}


def slow_plan(keys: list[str]) -> dict[str, dict[str, Any]]:
    """What thinning by 2, then by 3, makes of these keys."""
    kept: dict[str, Any] = {"kept": True, "step": None, "reason": None, "nearest_kept": None, "value": None}
    rows = {key: {"key": key, **kept} for key in keys}
    left, fate = list(keys), {}
    for label, keep in (("thin", 2), ("thin_2", 3)):
        for at, key in enumerate(left):
            if at % keep:
                fate[key] = (label, left[at - at % keep], at % keep / 8)
        left = left[::keep]
    for key, row in rows.items():
        if key in fate:
            label, nearest, value = fate[key]
            row |= {"kept": False, "step": label, "reason": "beside a kept one", "value": value}
            row["nearest_kept"] = nearest if nearest in left else None
    return rows


@pytest.mark.parametrize("partitions", [1, 2, 5])
def test_each_step_is_given_what_is_left_and_the_table_says_so(
    pool: Pool, calls: list[tuple[int, int]], partitions: int
) -> None:
    found = run_steps(pool, [Thin(keep=2), Thin(keep=3)], partitions=partitions)
    assert calls == [(2, 148), (3, 74)]
    keys = [key for table in pool.items(["key"]) for key in table["key"].to_pylist()]
    assert rows_of(found) == slow_plan(keys)
    assert (len(found), found.kept, found.dropped) == (148, 25, 123)
    assert [(step.label, step.left, step.dropped) for step in found.steps] == [("thin", 148, 74), ("thin_2", 74, 49)]
    everything = found.table("all")
    assert found.table("kept").equals(everything.filter(everything["kept"]))
    assert found.table("dropped").equals(everything.filter(pa.compute.invert(everything["kept"])))


def test_the_same_plan_again_computes_nothing(pool: Pool, calls: list[tuple[int, int]]) -> None:
    first = run_steps(pool, [Thin(keep=2), Draw()])
    again = run_steps(pool, [Thin(keep=2), Draw()], partitions=3)
    assert len(calls) == 1
    assert [step.resumed for step in (*first.steps, *again.steps)] == [False, False, True, True]
    assert again.table("all").equals(first.table("all"))
    assert [step.result.facts for step in again.steps] == [step.result.facts for step in first.steps]
    assert again.steps[1].result.listed.equals(first.steps[1].result.listed)  # type: ignore[union-attr]
    assert again.steps[1].reasons == first.steps[1].reasons


def test_another_later_step_leaves_the_earlier_ones(pool: Pool, calls: list[tuple[int, int]]) -> None:
    run_steps(pool, [Thin(keep=2), Thin(keep=3)])
    other = run_steps(pool, [Thin(keep=2), Thin(keep=5)])
    assert calls == [(2, 148), (3, 74), (5, 74)]
    assert [step.resumed for step in other.steps] == [True, False]
    run_steps(pool, [Thin(keep=3), Thin(keep=2)])
    assert calls[3:] == [(3, 148), (2, 50)]
    assert run_steps(pool, Thin(keep=3)).steps[0].resumed


def test_seeds_and_files_that_a_step_reads_count(pool: Pool, tmp_path: Path) -> None:
    one, two = (run_steps(pool, Draw(), seed=seed) for seed in (0, 1))
    assert not two.steps[0].resumed
    assert one.kept_ids.tolist() != two.kept_ids.tolist()
    (tmp_path / "keys").write_text("item-000001")
    assert run_step(pool, Named(keys=tmp_path / "keys")).dropped == 1
    (tmp_path / "keys").write_text("item-000001 item-000002")
    assert run_step(pool, Named(keys=tmp_path / "keys")).dropped == 2


def test_an_interrupted_plan_goes_on_within_the_step(pool: Pool, tmp_path: Path, calls: list[tuple[int, int]]) -> None:
    shutil.copytree(pool.path, tmp_path / "other")
    plan = [Thin(keep=2), Slow(), Draw()]
    whole = run_steps(tmp_path / "other", plan)
    Slow.stops = Stop
    with pytest.raises(Stop):
        run_steps(pool, plan)
    Slow.stops = None
    rest = run_steps(pool, plan)
    assert (len(calls), Slow.went_on) == (2, 1)
    assert [step.resumed for step in rest.steps] == [True, False, False]
    assert rest.table("all").equals(whole.table("all"))


def test_a_pool_that_changed_is_curated_anew_and_the_old_is_forgotten(tmp_path: Path) -> None:
    raysal.embed(write_vectors(tmp_path / "vectors.parquet"), out=tmp_path / "pool")
    before = raysal.open_pool(tmp_path / "pool")
    assert run_steps(before, Thin()).kept == 150
    (old,) = (before.path / FOLDER).iterdir()
    remove_items(tmp_path / "pool", ["item-0000", "item-0007"])
    changed = run_steps(tmp_path / "pool", Thin())
    assert (len(changed), changed.kept, changed.steps[0].resumed) == (298, 149, False)
    assert not old.exists()
    older = run_steps(before, Thin())  # who has opened the pool before still sees what it was
    assert (len(older), older.kept) == (300, 150)
    assert run_steps(tmp_path / "pool", Thin()).steps[0].resumed


@dataclass(frozen=True, kw_only=True)
class Meddling(Thin):
    """Items are removed from the pool while it works."""

    def apply(self, work: Work) -> StepResult:
        remove_items(work.pool.path, ["item-0000", "item-0007"])
        return super().apply(work)


def test_a_pool_that_changes_meanwhile_is_curated_as_it_was(tmp_path: Path) -> None:
    raysal.embed(write_vectors(tmp_path / "vectors.parquet"), out=tmp_path / "pool")
    found = run_steps(tmp_path / "pool", [Meddling(), Thin()])
    assert (len(found), found.kept) == (300, 75)
    assert {"item-0000", "item-0007"} <= set(found.table("all")["key"].to_pylist())
    found.write(tmp_path / "kept.csv")
    after = run_steps(tmp_path / "pool", Thin())
    assert (len(after), after.steps[0].resumed) == (298, False)


def test_a_plan_is_a_file_or_its_values(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STEPS._places, "draw", PLACES["draw"])
    (tmp_path / "plan.toml").write_text('seed = 7\nsteps = ["draw"]')
    wanted = raysal.curate(pool, ["draw"], seed=7).kept_ids.tolist()
    assert raysal.curate(pool, config=tmp_path / "plan.toml").kept_ids.tolist() == wanted
    assert raysal.curate(pool, config={"seed": 7, "steps": ["draw"]}).kept_ids.tolist() == wanted
    assert raysal.curate(pool, config={"seed": 7, "steps": ["draw"]}, seed=1).kept_ids.tolist() != wanted
    with pytest.raises(ConfigError, match="both are given"):
        raysal.curate(pool, ["draw"], config={"steps": ["draw"]})
    with pytest.raises(ConfigError, match='use backend="ray", too'):
        raysal.curate(pool, ["draw"], address="auto")


def test_a_damaged_file_is_named_and_deleting_the_folder_mends_it(pool: Pool) -> None:
    first = run_steps(pool, [Thin(), Draw()])
    (folder,) = (pool.path / FOLDER).iterdir()
    for victim in sorted(path for path in folder.iterdir() if path.suffix in (".arrow", ".json")):
        whole = victim.read_bytes()
        victim.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        with pytest.raises(Damaged, match=f"{victim.name}.*delete {folder}"):
            run_steps(pool, [Thin(), Draw()])
        victim.write_bytes(whole)
    shutil.rmtree(folder)
    assert run_steps(pool, [Thin(), Draw()]).table("all").equals(first.table("all"))


def test_a_pool_in_a_bucket_is_curated_here(tmp_path: Path, bucket_store: ObjectStore) -> None:
    source = write_vectors(tmp_path / "vectors.parquet", rows=60)
    there = raysal.embed(source, out=f"{bucket_store.url}/pool")
    wanted = run_steps(raysal.embed(source, out=tmp_path / "pool"), Thin()).table("all")
    assert run_steps(f"{bucket_store.url}/pool", Thin()).table("all").equals(wanted)
    assert run_steps(f"{bucket_store.url}/pool", Thin()).steps[0].resumed
    assert not [one.name for one in Bucket(there.place).list() if one.name.startswith(FOLDER)]


def test_a_verb_answers_in_one_line(pool: Pool, tmp_path: Path) -> None:
    from raysal.cli.curation import Rows, curated

    out = tmp_path / "kept.csv"
    done = curated(str(pool.path), out, Rows.kept, False, lambda report: run_step(pool, Thin(), report=report), k=3)
    assert done.view == f"{out}: 74 of 148 items kept; 74 dropped by thin"
    assert (done.data["k"], done.data["kept_items"], done.data["out"]) == (3, 74, str(out))
    none = curated(str(pool.path), tmp_path / "all.csv", Rows.all, False, lambda _: run_step(pool, Thin(keep=1)))
    assert none.view == f"{tmp_path / 'all.csv'}: 148 of 148 items kept; nothing dropped"


def test_two_at_once_are_refused(pool: Pool) -> None:
    run_steps(pool, Thin())
    (folder,) = (pool.path / FOLDER).iterdir()
    with locked(folder, "curation"), pytest.raises(NotNow, match="another process is at work on this curation"):
        run_steps(pool, Thin())


def test_nothing_left_is_a_result_with_a_warning(pool: Pool, tmp_path: Path) -> None:
    keys = [key for table in pool.items(["key"]) for key in table["key"].to_pylist()]
    (tmp_path / "keys").write_text(" ".join(keys))
    with pytest.warns(RaysalWarning, match="no item is left after the step 'named'"):
        found = run_steps(pool, [Named(keys=tmp_path / "keys"), Thin(), Draw()])
    assert (found.kept, [step.left for step in found.steps]) == (0, [148, 0, 0])
    found.write(tmp_path / "kept.parquet")
    assert pq.read_table(tmp_path / "kept.parquet").num_rows == 0
    assert found.table("dropped").num_rows == 148


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_file_is_the_table_and_replaces_none(pool: Pool, tmp_path: Path, suffix: str) -> None:
    found = run_steps(pool, [Thin(keep=2), Thin(keep=3)])
    out = tmp_path / f"out{suffix}"
    assert not found.write(out, "all").unchanged
    assert found.write(out, "all").unchanged
    with pytest.raises(OutputExists):
        found.write(out)
    assert found.write(out, overwrite=True).kept == tmp_path / f"out{suffix}.1"
    with pytest.raises(ConfigError, match="unknown extension"):
        found.write(tmp_path / "out.txt")
    with pytest.raises(ConfigError, match="use all, kept or dropped"):
        found.table("none")  # type: ignore[arg-type]


class Broken(Step):
    """A step that gives a result that a test has made."""

    def __init__(self, result: StepResult) -> None:
        self.result = result

    def forecast(self, pool: Pool, left: int, speed: Speed) -> Forecast:
        return Forecast(kept=None, seconds=0.0)

    def apply(self, work: Work) -> StepResult:
        return self.result


def ids(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (StepResult.of(ids(5, 4), "why"), "not in order"),
        (StepResult.of(ids(3), "why"), "was not given"),
        (StepResult.of(ids(999), "why"), "was not given"),
        (StepResult.of(ids(4, 5), "why", nearest=ids(5, 4)), "not kept"),
        (StepResult.of(ids(4), "why", nearest=ids(3)), "not kept"),
        (StepResult.of(ids(4), "why", value=np.zeros(2)), "other lengths"),
        (StepResult.of(ids(4), "why", facts={"n": np.int64(3)}), "no JSON"),
        (StepResult.of(ids(4), "why", listed=pa.table({"key": ["a"]})), "no column id"),
    ],
)
def test_a_step_that_breaks_a_promise_is_stopped(pool: Pool, result: StepResult, problem: str) -> None:
    from raysal.curation.job import check_result, ids_of

    every = ids_of(pool)
    with pytest.raises(RaysalError, match=problem):
        check_result(result, every, np.ones(len(every), bool), "broken")
    check_result(StepResult.of(ids(4), "why", nearest=ids(5)), every, np.ones(len(every), bool), "fine")


def test_what_is_no_step_is_refused_by_its_place(pool: Pool) -> None:
    for steps, problem in (
        (["exactly"], "steps.0: unknown name 'exactly'"),
        ([Thin(), 3], "steps.1: 3 is no step"),
        ([], "steps: there is no step"),
        ([Broken(StepResult.of(ids(), "why"))], "broken: Broken is no dataclass"),
        ([Thin(keep=0)], "keep: 0 keeps nothing"),
    ):
        with pytest.raises(RaysalError, match=problem):
            run_steps(pool, steps)  # type: ignore[arg-type]
    assert not (pool.path / FOLDER).exists() or not list((pool.path / FOLDER).rglob("*.json"))


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_write_it_goes_on(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, when: str
) -> None:
    """Two steps write five files: tables, a list, and two records."""
    from raysal.curation import folder

    shutil.copytree(pool.path, tmp_path / "other")
    plan = [Thin(keep=2), Draw()]
    whole = run_steps(tmp_path / "other", plan)
    left = iter([*range(at)])

    def dying(real: Any) -> Any:
        def write(*args: Any) -> None:
            dies = next(left, None) is None
            if dies and when == "before":
                raise Stop
            real(*args)
            if dies:
                raise Stop

        return write

    monkeypatch.setattr(folder, "write_file", dying(write_file))
    monkeypatch.setattr(folder, "write_sealed", dying(write_sealed))
    if at < 5:
        with pytest.raises(Stop):
            run_steps(pool, plan)
    else:
        run_steps(pool, plan)
    monkeypatch.undo()
    rest = run_steps(pool, plan)
    assert rest.table("all").equals(whole.table("all"))
    assert [step.result.facts for step in rest.steps] == [step.result.facts for step in whole.steps]


def test_memory_is_some_bytes_an_item_and_a_table_is_made_chunk_by_chunk(tmp_path: Path) -> None:
    large = make_pool(tmp_path / "large", np.ones((1000, 2), np.float32), chunk_rows=100)
    found = run_steps(large, [Thin(keep=5)])
    assert found.ids.nbytes + found.dropped_by.nbytes == 10 * 1000
    result = found.steps[0].result
    assert sum(v.nbytes for v in (result.ids, result.reason, result.nearest, result.value)) == 25 * 800
    tables = list(found.tables("all"))
    assert (len(tables), max(table.num_rows for table in tables)) == (10, 100)
    assert pa.concat_tables(tables).equals(found.table("all"))
