"""The laws that every registered step of curation keeps, as raysal/curation/base.py says them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from curation_steps import Draw, Stop
from numpy.typing import NDArray
from pools import make_pool
from step_examples import EXAMPLES, curated_pool, step
from tiers import deep

from raysal.config import FleetConfig
from raysal.curation.base import Forecast, Step, StepResult, Work
from raysal.curation.curated import StepDone
from raysal.curation.forecast import measured_speed
from raysal.curation.job import check_result, curate_pool, ids_of
from raysal.curation.plan import plan_of
from raysal.curation.registry import STEPS
from raysal.fleet import Fleet, open_fleet
from raysal.pool import Pool
from raysal.rng import derive

N = 160
CASES = [pytest.param(name, fields, id=f"{name}-{at}") for name in STEPS for at, fields in enumerate(EXAMPLES[name])]
each_step = pytest.mark.parametrize(("name", "fields"), CASES)
each_step_once = pytest.mark.parametrize(
    ("name", "fields"),
    [pytest.param(*case.values, id=case.id, marks=() if str(case.id).endswith("-0") else deep) for case in CASES],
)
"""For laws that are run many times over: one example of each step in `make test`."""
LOCAL = FleetConfig(backend="local")


def test_every_step_has_an_example() -> None:
    assert set(STEPS) <= set(EXAMPLES)


@pytest.fixture(scope="module")
def shared_pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """For tests that keep what is found elsewhere; near pairs stay in it."""
    return curated_pool(tmp_path_factory.mktemp("steps") / "pool", chunk_rows=64)


def done(pool: Pool, steps: list[Any], home: Path, fleet: FleetConfig = LOCAL) -> StepDone:
    """What the last step of a plan found."""
    return curate_pool(pool, plan_of(steps), fleet, home=home).steps[-1]


def said(pool: Pool, result: StepResult) -> dict[int, tuple[str, int, str]]:
    """Of each dropped item the reason, the kept one and the value."""
    reasons = [result.reasons[number] for number in result.reason.tolist()]
    values = [repr(value) for value in np.round(result.value, 5).tolist()]
    facts = zip(reasons, result.nearest.tolist(), values, strict=True)
    return dict(zip(result.ids.tolist(), facts, strict=True))


@each_step_once
@pytest.mark.parametrize("partitions", [2, 5])
@pytest.mark.parametrize("chunk_rows", [33, 64])
def test_nothing_depends_on_partitions_and_chunks(
    tmp_path: Path, name: str, fields: dict[str, Any], partitions: int, chunk_rows: int
) -> None:
    steps = [Draw(), step(name, fields)]
    one = done(curated_pool(tmp_path / "one"), steps, tmp_path / "a")
    other_pool = curated_pool(tmp_path / "other", chunk_rows=chunk_rows)
    other = done(other_pool, steps, tmp_path / "b", FleetConfig(backend="local", partitions=partitions))
    assert said(other_pool, other.result) == said(other_pool, one.result)
    assert other.result.facts == one.result.facts
    assert (other.result.listed is None) == (one.result.listed is None)
    if one.result.listed is not None and other.result.listed is not None:
        assert other.result.listed.equals(one.result.listed)


@deep
@each_step
def test_ray_finds_the_same(tmp_path: Path, ray_session: None, name: str, fields: dict[str, Any]) -> None:
    pool = curated_pool(tmp_path / "pool", chunk_rows=40)
    steps = [Draw(), step(name, fields)]
    here = done(pool, steps, tmp_path / "here")
    there = done(pool, steps, tmp_path / "there", FleetConfig(backend="ray", partitions=2))
    assert said(pool, there.result) == said(pool, here.result)
    assert there.result.facts == here.result.facts


@each_step_once
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_what_was_dropped_before_is_as_if_it_had_never_been(
    tmp_path: Path, name: str, fields: dict[str, Any], metric: Any
) -> None:
    if metric == "l2":
        fields = {**fields, **({"threshold": 0.5} if "threshold" in fields else {})}
        fields = {**fields, **({"near": 0.5} if "near" in fields else {})}
    whole = curated_pool(tmp_path / "whole", chunk_rows=64, metric=metric)
    first = curate_pool(whole, plan_of([Draw()]), LOCAL, home=tmp_path / "a")
    less = curated_pool(tmp_path / "less", missing=set(first.steps[0].result.ids.tolist()), metric=metric)
    assert ids_of(less).tolist() == first.kept_ids.tolist()
    after = done(whole, [Draw(), step(name, fields)], tmp_path / "a")
    alone = done(less, [step(name, fields)], tmp_path / "b")
    assert after.left == alone.left
    assert said(whole, after.result) == said(less, alone.result)


class Stopping:
    """A fleet whose n-th call stops the step, as a process that is killed there."""

    def __init__(self, fleet: Fleet, at: int) -> None:
        self._fleet, self._left = fleet, at

    def each(self, fn: Callable[..., Any], *args: Any) -> list[Any]:
        if self._left == 0:
            raise Stop
        self._left -= 1
        return self._fleet.each(fn, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fleet, name)


def applied(step: Step, pool: Pool, fleet: Any, folder: Path, left: NDArray[np.bool_] | None = None) -> StepResult:
    ids = ids_of(pool)
    folder.mkdir(exist_ok=True)
    mask = np.ones(len(ids), bool) if left is None else left
    work = Work(pool=pool, fleet=fleet, ids=ids, left=mask.copy(), folder=folder, key=derive(0, "test"))
    result = step.apply(work)
    check_result(result, ids, mask, "step")
    assert (work.left == mask).all()
    return result


@each_step_once
def test_an_interrupted_step_finds_what_one_does_that_is_not(tmp_path: Path, name: str, fields: dict[str, Any]) -> None:
    (planned,) = plan_of(step(name, fields))
    (tmp_path / "there").mkdir()
    whole, pool = curated_pool(tmp_path / "whole", chunk_rows=64), curated_pool(tmp_path / "pool", chunk_rows=64)
    with open_fleet(whole, FleetConfig(backend="local", partitions=2)) as fleet:
        wanted = applied(planned.step, whole, fleet, tmp_path / "a")
    for at in range(60):
        with open_fleet(pool, FleetConfig(backend="local", partitions=2)) as fleet:
            try:
                found = applied(planned.step, pool, Stopping(fleet, at), tmp_path / "b")
            except Stop:
                continue
        break
    else:
        with open_fleet(pool, FleetConfig(backend="local", partitions=2)) as fleet:
            found = applied(planned.step, pool, fleet, tmp_path / "b")
    assert said(pool, found) == said(whole, wanted)
    assert found.facts == wanted.facts


@each_step
def test_a_forecast_is_what_comes(tmp_path: Path, shared_pool: Pool, name: str, fields: dict[str, Any]) -> None:
    (planned,) = plan_of(step(name, fields))
    foreseen = planned.step.forecast(shared_pool, len(shared_pool), measured_speed(shared_pool))
    assert isinstance(foreseen, Forecast)
    assert 0 <= foreseen.seconds < 60
    found = done(shared_pool, [step(name, fields)], tmp_path / "a")
    assert foreseen.kept in (None, len(shared_pool) - found.dropped)
    assert found.dropped + len(found.result.listed or ()) > 0, "an example finds something, or it tests nothing"
    planned.step.forecast(shared_pool, 0, measured_speed(shared_pool))


@each_step
def test_facts_are_json_that_a_report_can_read(
    tmp_path: Path, shared_pool: Pool, name: str, fields: dict[str, Any]
) -> None:
    result = done(shared_pool, [step(name, fields)], tmp_path / "a").result
    facts = json.loads(json.dumps(dict(result.facts)))
    assert facts == result.facts
    for size, count in facts.get("group_sizes", {}).items():
        assert int(size) >= 1
        assert count >= 1
    if "balance" in facts:
        assert set(facts["balance"]) >= {"of", "before", "after"}
        assert sum(facts["balance"]["after"].values()) <= sum(facts["balance"]["before"].values())
    assert all(isinstance(note, str) for note in facts.get("notes", ()))
    if len(np.unique(result.value[np.isfinite(result.value)])) > 1:
        assert facts["value"].startswith(("the ", "what "))
    if result.listed is not None:
        assert set(result.listed["id"].to_pylist()) <= set(ids_of(shared_pool).tolist())


POOLS: dict[str, NDArray[np.float32]] = {
    "equal": np.ones((40, 8), np.float32),
    "one": np.ones((1, 8), np.float32),
    "zeros": np.zeros((30, 8), np.float32),
    "broken": np.ones((20, 8), np.float32),
}


@each_step
@pytest.mark.parametrize("kind", POOLS)
def test_a_degenerate_pool_has_a_result(tmp_path: Path, name: str, fields: dict[str, Any], kind: str) -> None:
    rows = POOLS[kind]
    labels = [f"class-{at % 2}" for at in range(len(rows))]
    missing = range(len(rows)) if kind == "broken" else ()
    pool = make_pool(tmp_path / "pool", rows, chunk_rows=16, labels=labels, missing=missing)
    (planned,) = plan_of(step(name, fields))
    planned.step.check(pool)
    with open_fleet(pool, FleetConfig(backend="local", partitions=2)) as fleet:
        applied(planned.step, pool, fleet, tmp_path / "a")


@each_step
def test_of_nothing_left_nothing_is_dropped(
    tmp_path: Path, shared_pool: Pool, name: str, fields: dict[str, Any]
) -> None:
    (planned,) = plan_of(step(name, fields))
    with open_fleet(shared_pool, FleetConfig(backend="local", partitions=2)) as fleet:
        nothing = applied(planned.step, shared_pool, fleet, tmp_path / "a", np.zeros(len(shared_pool), bool))
    assert len(nothing) == 0


OUTSIDE = ("against", "labels", "predictions", "probabilities", "run")
"""Names of fields that may name a file, a folder or a pool, whose contents decide a result."""


@pytest.mark.parametrize("name", STEPS)
def test_what_a_field_names_outside_of_the_pool_is_an_input(name: str) -> None:
    """Else a result would be read again after the file has changed."""
    fields = {one.name: str(one.type) for one in dataclasses.fields(cast("Any", STEPS[name]))}
    if any(field in OUTSIDE or "Path" in kind for field, kind in fields.items()):
        assert STEPS[name].inputs is not Step.inputs
    for field in fields.keys() & set(OUTSIDE):
        assert "Path" in fields[field] or "ColumnOrFile" in fields[field], "it may start from the folder of a plan"


@each_step
def test_fields_come_back_from_a_config(name: str, fields: dict[str, Any]) -> None:
    (planned,) = plan_of(step(name, fields))
    json.dumps(planned.fields)
    assert plan_of(planned.step)[0].fields == planned.fields
    assert planned.name == planned.label == name
