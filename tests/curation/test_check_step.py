"""The step `check`: planted wrong labels are found, on any fleet, in any pool, whatever gives the labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
from cli_tools import cli
from numpy.typing import NDArray
from part_pools import make_part_pool
from pools import make_pool, mixture
from small_run import begin
from tiers import deep

import raysal
from raysal.api.curate import run_step
from raysal.cli.check_labels import COLUMNS
from raysal.config import FleetConfig
from raysal.curation.base import StepResult
from raysal.curation.labels.given import read_pool_labels
from raysal.curation.labels.held_out import fit_heads, fold_of, place_labels, probabilities
from raysal.curation.labels.listing import COPIES, NEAR_COPIES, UNLIKELY
from raysal.curation.steps.check import Check
from raysal.errors import ConfigError, LabelError, RaysalWarning, UnknownName
from raysal.fleet import Partition, open_fleet
from raysal.pool import Pool, open_pool

N, DIM = 260, 12
Given = Sequence[str | None]
"""Labels of the items of a pool."""


def planted(seed: int = 0, n: int = N, share: float = 0.1) -> tuple[NDArray[np.float32], list[str], NDArray[np.int64]]:
    """Vectors of four classes, labels of which some are wrong, and which."""
    vectors, true = mixture(n, DIM, classes=4, seed=seed)
    rng = np.random.default_rng(seed)
    bad = np.sort(rng.permutation(n)[: int(share * n)])
    given = list(true)
    for at in bad.tolist():
        given[at] = f"class-{(int(true[at][-1]) + int(rng.integers(1, 4))) % 4}"
    return vectors, given, bad


def check(pool: Pool, *, partitions: int = 1, seed: int = 0, **fields: Any) -> StepResult:
    done = run_step(pool, {"name": "check", **fields}, partitions=partitions, seed=seed)
    return done.steps[0].result


def rows(result: StepResult) -> list[dict[str, Any]]:
    assert result.listed is not None
    found: list[dict[str, Any]] = result.listed.to_pylist()
    assert [row["rank"] for row in found] == list(range(1, len(found) + 1))
    assert [(row["score"], row["id"]) for row in found] == sorted((row["score"], row["id"]) for row in found)
    assert len({row["id"] for row in found}) == len(found)
    return found


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("method", ["noise_rate", "class", "confident"])
def test_planted_errors_are_found_and_their_true_class_is_suggested(tmp_path: Path, metric: Any, method: str) -> None:
    vectors, given, bad = planted()
    pool = make_pool(tmp_path / "pool", vectors, labels=given, metric=metric)
    result = check(pool, method=method)
    found = rows(result)
    listed = [row["id"] for row in found]
    assert len(set(listed) & set(bad.tolist())) >= 0.65 * len(bad)
    assert len(set(listed) - set(bad.tolist())) <= 0.25 * len(bad)
    _, true = mixture(N, DIM, classes=4)
    suggested = [row["suggested"] == true[row["id"]] for row in found if row["id"] in bad]
    assert np.mean(suggested) > 0.9
    assert all(row["given"] == given[row["id"]] != row["suggested"] for row in found)
    assert {row["reason"] for row in found} == {UNLIKELY}
    assert len(result) == 0
    assert result.facts["error_rate"] == pytest.approx(0.1, abs=0.03)
    assert result.facts["judged"] == result.facts["labelled"] == N
    assert sum(pair["items"] for pair in result.facts["confused"]) == pytest.approx(
        result.facts["error_rate"] * N, abs=0.01
    )


def test_right_labels_give_few_suspects(tmp_path: Path) -> None:
    vectors, true = mixture(N, DIM, classes=4)
    result = check(make_pool(tmp_path / "pool", vectors * 3, labels=true))
    assert len(rows(result)) < 0.02 * N
    assert result.facts["error_rate"] < 0.02


@pytest.mark.parametrize("partitions", [2, 5])
@pytest.mark.parametrize("chunk_rows", [33, 64])
@pytest.mark.parametrize("fields", [{}, {"share": 0.1}, {"several": True}, {"near": 0.95}, {"sample": 90}], ids=str)
def test_nothing_depends_on_partitions_and_chunks(
    tmp_path: Path, partitions: int, chunk_rows: int, fields: dict[str, Any]
) -> None:
    vectors, given, _ = planted(1, n=160)
    vectors[10:40] = vectors[50:80]
    labels = [None if i % 17 == 0 else label for i, label in enumerate(given)]
    if fields.get("several"):
        labels = [
            None if a is None else "|".join(sorted({a, b})) for a, b in zip(labels, given[1:] + given[:1], strict=True)
        ]
    one = check(make_pool(tmp_path / "one", vectors, labels=labels, missing=[7]), **fields)  # type: ignore[arg-type]
    pool = make_pool(tmp_path / "other", vectors, labels=labels, missing=[7], chunk_rows=chunk_rows)  # type: ignore[arg-type]
    other = check(pool, partitions=partitions, **fields)
    assert len(rows(one)) > 10
    assert rows(other) == rows(one)
    assert other.facts == one.facts


@deep
def test_ray_finds_the_same(tmp_path: Path, ray_session: None) -> None:
    vectors, given, _ = planted(2)
    pool = make_pool(tmp_path / "pool", vectors, labels=given, chunk_rows=64)
    here = check(pool)
    other = make_pool(tmp_path / "other", vectors, labels=given, chunk_rows=33)
    there = run_step(other, {"name": "check"}, backend="ray", partitions=2).steps[0].result
    assert rows(there) == rows(here)


def test_probabilities_are_those_of_heads_that_saw_no_copy(tmp_path: Path) -> None:
    """Beside the data they are what the heads say row by row, and labels of a fold do not move its head."""
    vectors, given, _ = planted(3)
    vectors[:60] = vectors[60:120]
    pool = make_pool(tmp_path / "pool", vectors, labels=given, chunk_rows=50)
    codes = read_pool_labels(pool, "label").codes
    with open_fleet(pool, FleetConfig(backend="local", partitions=3)) as fleet:
        placed = fleet.each(place_labels, codes, False)
        groups = np.concatenate([own for _, own in placed])
        fold = fold_of(groups, 5, 9)
        np.testing.assert_array_equal(fold[:60], fold[60:120])
        targets, weights = np.eye(4)[codes], np.ones(N)
        heads = fit_heads(vectors, targets, weights, fold, 5, 9, exclusive=True)
        found = np.full((N, 4), np.nan)
        for ids, p in (piece for part in fleet.each(all_probabilities, heads) for piece in part):
            found[ids] = p
    for row in range(N):
        outputs = heads.weights[fold[row]] @ np.append(vectors[row].astype(np.float64), 1)
        assert found[row] == pytest.approx(np.exp(outputs) / np.exp(outputs).sum(), abs=1e-5)
    targets[fold == 2] = np.roll(targets[fold == 2], 1, axis=1)
    moved = fit_heads(vectors, targets, weights, fold, 5, 9, exclusive=True).weights
    change = np.abs(moved - heads.weights).max((1, 2)) / np.abs(heads.weights).max((1, 2))
    assert change[2] < 0.5 * change[[0, 1, 3, 4]].min()  # by the penalty alone, which all labels choose


def all_probabilities(partition: Partition, heads: Any) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    return [(partition.ids[own], p.copy()) for own, p in probabilities(partition, heads, np.arange(len(partition)))]


def test_parts_of_an_owner_are_in_one_fold(tmp_path: Path) -> None:
    vectors, given, _ = planted(4)
    owners = [f"image-{i // 3}" for i in range(N)]
    pool = make_part_pool(tmp_path / "pool", vectors, owners, carried={"label": given}, chunk_rows=60)
    codes = read_pool_labels(pool, "label").codes
    with open_fleet(pool, FleetConfig(backend="local", partitions=2)) as fleet:
        groups = np.concatenate([own for _, own in fleet.each(place_labels, codes, True)])
    assert groups.tolist() == [i // 3 * 3 for i in range(N)]
    found = rows(check(pool))
    assert len(found) > 10
    keys = [f"part-{i:06d}" for i in range(N)]
    alone = rows(check(make_pool(tmp_path / "alone", vectors, labels=given, keys=keys)))
    assert [row["score"] for row in alone] != [row["score"] for row in found]  # of other folds


def test_only_labels_of_what_is_left_are_looked_at(tmp_path: Path) -> None:
    """Items that an earlier step dropped neither train nor are listed."""
    vectors, given, bad = planted(5)
    gone = np.arange(0, N, 3)
    noisy = list(given)
    for at in gone.tolist():
        noisy[at] = "rubbish"
    keys = [f"k{i}" for i in range(N)]
    whole = make_pool(tmp_path / "whole", vectors, labels=noisy, keys=keys)
    left = np.setdiff1d(np.arange(N), gone)
    small = make_pool(tmp_path / "small", vectors, labels=noisy, keys=keys, missing=gone.tolist())
    from raysal.curation.base import Work

    with open_fleet(whole, FleetConfig(backend="local", partitions=2)) as fleet:
        work = Work(
            pool=whole, fleet=fleet, ids=np.arange(N), left=np.isin(np.arange(N), left), folder=tmp_path, key=5
        )  # fmt: skip
        here = Check().apply(work)
    with open_fleet(small, FleetConfig(backend="local", partitions=1)) as fleet:
        work = Work(pool=small, fleet=fleet, ids=left, left=np.ones(len(left), bool), folder=tmp_path, key=5)
        there = Check().apply(work)
    assert rows(here) == rows(there)
    assert here.facts["labelled"] == len(left)
    assert len({row["id"] for row in rows(here)} & set(bad.tolist())) > 5


def test_copies_with_other_labels_are_a_reason_of_their_own(tmp_path: Path) -> None:
    vectors, true = mixture(N, DIM, classes=4)
    vectors *= 3
    labels = list(true)
    vectors[[20, 21, 22]] = vectors[19]
    labels[19:23] = ["class-0", "class-0", "class-1", "class-0"]
    vectors[31] = vectors[30]
    labels[30:32] = ["class-2", "class-3"]
    vectors[41] = vectors[40] + 0.01
    labels[40:42] = ["class-2", "class-3"]
    pool = make_pool(tmp_path / "pool", vectors, labels=labels)
    found = {row["id"]: row for row in rows(check(pool)) if row["reason"] == COPIES}
    assert set(found) == {21, 30, 31}
    assert (found[21]["given"], found[21]["suggested"], found[21]["twin"]) == ("class-1", "class-0", 19)
    assert found[21]["score"] <= 0.25
    assert (found[30]["suggested"], found[30]["twin"], found[31]["twin"]) == ("class-3", 31, 30)
    near = {row["id"] for row in rows(check(pool, near=0.999)) if row["reason"] == NEAR_COPIES}
    assert near == {21, 30, 31, 40, 41}
    dropped = check(pool, drop=True)
    place = int(np.searchsorted(dropped.ids, 21))
    assert (dropped.reasons[dropped.reason[place]], dropped.nearest[place]) == (COPIES, 19)
    both = np.searchsorted(dropped.ids, [30, 31])
    assert dropped.nearest[both].tolist() == [-1, -1]  # neither is kept


def test_what_is_listed_can_be_dropped_and_cut(tmp_path: Path) -> None:
    vectors, given, _ = planted(6)
    pool = make_pool(tmp_path / "pool", vectors, labels=given)
    listed = rows(check(pool))
    dropped = check(pool, drop=True)
    assert rows(dropped) == listed
    assert dropped.ids.tolist() == sorted(row["id"] for row in listed)
    assert dict(zip(dropped.ids.tolist(), dropped.value.tolist(), strict=True)) == {
        row["id"]: row["score"] for row in listed
    }
    assert rows(check(pool, most=5)) == listed[:5]
    assert check(pool, most=5, drop=True).ids.tolist() == sorted(row["id"] for row in listed[:5])
    share = rows(check(pool, share=0.2))
    assert len(share) == 52
    assert rows(check(pool, share=0)) == []
    assert len(rows(check(pool, share=1.0))) == N


def test_missing_and_few_labels_are_passed_over_and_counted(tmp_path: Path) -> None:
    vectors, given, _ = planted(7)
    labels: list[Any] = list(given)
    labels[0], labels[1:3], labels[3:9] = "only one", ["two", "two"], [None] * 6
    result = check(make_pool(tmp_path / "pool", vectors, labels=labels))
    assert (result.facts["labelled"], result.facts["unlabelled"]) == (N - 6, 6)
    assert (result.facts["judged"], result.facts["classes"]) == (N - 9, 4)
    assert any("3 items not judged" in note and "only one" in note for note in result.facts["notes"])
    assert not {row["id"] for row in rows(result)} & set(range(9))
    assert any(
        note == "class 'two' is 'Two' but for case"
        for note in check(make_pool(tmp_path / "case", vectors, labels=["two", "Two", *labels[2:]])).facts["notes"]
    )
    every = check(make_pool(tmp_path / "other", vectors, labels=labels), fewest=1)
    assert every.facts["judged"] == N - 6


@pytest.mark.parametrize("labels", ["one class", "none", "one item", "empty texts"])
@pytest.mark.parametrize("several", [False, True])
def test_labels_that_say_nothing_give_no_suspect(tmp_path: Path, labels: str, several: bool) -> None:
    vectors, _, _ = planted(8, n=40)
    given: list[Any] = [{"one class": "a", "none": None, "one item": None, "empty texts": " "}[labels]] * 40
    if labels == "one item":
        given[7] = "a"
    result = check(make_pool(tmp_path / "pool", vectors, labels=given), several=several)
    assert rows(result) == []
    assert len(result) == 0
    told = any("no item that is left has a label" in note for note in result.facts["notes"])
    assert told == (result.facts["labelled"] == 0) == (labels in ("none", "empty texts"))


@pytest.mark.parametrize("kind", ["equal", "zeros", "one"])
@pytest.mark.parametrize("several", [False, True])
def test_degenerate_pools(tmp_path: Path, kind: str, several: bool) -> None:
    n = 1 if kind == "one" else 60
    vectors = np.zeros((n, DIM), np.float32) if kind == "zeros" else np.ones((n, DIM), np.float32)
    pool = make_pool(tmp_path / "pool", vectors, labels=["a" if i % 3 else "b" for i in range(n)])
    found = rows(check(pool, several=several))
    assert [row["id"] for row in found] == [i for i in range(n) if i % 3 == 0 and n > 1]
    assert all((row["suggested"], row["reason"], row["twin"]) == ("a", COPIES, 1) for row in found)


def test_nothing_left_is_no_suspect(tmp_path: Path) -> None:
    from raysal.curation.base import Work

    pool = make_pool(tmp_path / "pool", *mixture(30, DIM)[:1], labels=["a"] * 30)
    with open_fleet(pool, FleetConfig(backend="local")) as fleet:
        work = Work(pool=pool, fleet=fleet, ids=np.arange(30), left=np.zeros(30, bool), folder=tmp_path, key=1)
        assert rows(Check().apply(work)) == []


def test_several_labels_are_corrected_one_by_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 300
    present = rng.random((n, 3)) < 0.4
    vectors = (3 * present @ rng.standard_normal((3, DIM)) + 0.3 * rng.standard_normal((n, DIM))).astype(np.float32)
    names = np.array(["cat", "dog", "eel"])
    text = lambda row: "|".join(names[row]) or "-"  # noqa: E731
    labels, bad = [text(row) for row in present], rng.permutation(n)[:20]
    for at in bad.tolist():
        wrong = present[at].copy()
        wrong[rng.integers(3)] ^= True
        labels[at] = text(wrong)
    found = rows(check(make_pool(tmp_path / "pool", vectors, labels=labels), several=True))
    listed = {row["id"]: row for row in found}
    assert len(set(listed) & set(bad.tolist())) >= 18
    assert len(set(listed) - set(bad.tolist())) <= 6
    right = [listed[at]["suggested"] == text(present[at]) for at in bad.tolist() if at in listed]
    assert np.mean(right) > 0.9


def test_labels_of_a_file_and_of_a_run_are_those_of_the_column(tmp_path: Path) -> None:
    vectors, given, _ = planted(9)
    pool = make_pool(tmp_path / "pool", vectors, labels=given)
    keys = [f"item-{i:06d}" for i in range(N)]
    pa_csv.write_csv(pa.table({"key": keys[::-1], "label": given[::-1]}), tmp_path / "labels.csv")
    assert rows(check(pool, labels=str(tmp_path / "labels.csv"))) == rows(check(pool))
    changed = [*given[:-1], "class-0" if given[-1] != "class-0" else "class-1"]
    pa_csv.write_csv(pa.table({"key": keys, "label": changed}), tmp_path / "labels.csv")
    step = Check(labels=str(tmp_path / "labels.csv"))
    assert read_pool_labels(pool, step.labels).codes[-1] != read_pool_labels(pool, "label").codes[-1]
    assert not run_step(pool, step).steps[0].resumed
    assert run_step(pool, step).steps[0].resumed
    pa_csv.write_csv(pa.table({"key": ["nobody"], "label": ["a"]}), tmp_path / "labels.csv")
    with pytest.raises(LabelError, match="nobody"):
        run_step(pool, step)


def test_labels_of_a_run(tmp_path: Path) -> None:
    run = begin(tmp_path, rounds=2, k=20, control=False)
    pool = open_pool(tmp_path / "pool")
    labels = read_pool_labels(pool, str(run))
    truth = read_pool_labels(pool, "label")
    there = labels.codes >= 0
    assert there.sum() >= 20
    assert [labels.texts[c] for c in labels.codes[there]] == [truth.texts[c] for c in truth.codes[there]]
    assert check(pool, labels=str(run)).facts["labelled"] == there.sum()


def test_given_probabilities_take_the_place_of_heads(tmp_path: Path) -> None:
    vectors, given, bad = planted(10)
    pool = make_pool(tmp_path / "pool", vectors, labels=given, chunk_rows=90)
    _, true = mixture(N, DIM, classes=4, seed=10)
    rng = np.random.default_rng(0)
    classes = [f"class-{c}" for c in (3, 1, 0, 2)]
    outputs = np.array([[4.0 * (name == label) for name in classes] for label in true]) + rng.standard_normal((N, 4))
    p = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    keys = np.array([f"item-{i:06d}" for i in range(N)])
    some = np.setdiff1d(np.arange(N), bad[:2])
    columns = {"key": keys[some], **{name: p[some, at] for at, name in enumerate(classes)}}
    pa_csv.write_csv(pa.table(columns), tmp_path / "p.csv")
    result = check(pool, probabilities=str(tmp_path / "p.csv"), partitions=2)
    assert result.facts["judged"] == N - 2
    listed = {row["id"] for row in rows(result)}
    assert len(listed & set(bad[2:].tolist())) >= len(bad) - 4
    assert not listed & set(bad[:2].tolist())
    columns["class-0"] = np.where(np.arange(len(some)) == 33, np.nan, columns["class-0"])
    pa_csv.write_csv(pa.table(columns), tmp_path / "p.csv")
    with pytest.raises(ConfigError, match=f"{keys[some][33]}"):
        check(pool, probabilities=str(tmp_path / "p.csv"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"labels": "colour"}, "'colour' is no column of the pool and no file; the columns: label"),
        ({"folds": 1}, "folds"),
        ({"share": 1.5}, "share"),
        ({"share": float("nan")}, "share"),
        ({"most": -1}, "most"),
        ({"sample": 0}, "sample"),
        ({"near": 2.0}, "check.near: 2 is no similarity"),
        ({"several": True, "score": "entropy"}, "score"),
        ({"several": True, "probabilities": "p.csv"}, "probabilities"),
        ({"probabilities": "nowhere.csv"}, "nowhere.csv"),
    ],
)
def test_wrong_fields_are_refused(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    vectors, given, _ = planted(11, n=30)
    pool = make_pool(tmp_path / "pool", vectors, labels=given)
    with pytest.raises(ConfigError, match=words):
        check(pool, **fields)


@pytest.mark.parametrize("field", ["method", "score"])
def test_unknown_names_are_refused(tmp_path: Path, field: str) -> None:
    vectors, given, _ = planted(11, n=30)
    pool = make_pool(tmp_path / "pool", vectors, labels=given)
    with pytest.raises((UnknownName, ConfigError), match=field):
        check(pool, **{field: "guess"})


@pytest.mark.filterwarnings(f"ignore::{RaysalWarning.__module__}.{RaysalWarning.__name__}")
def test_the_forecast_grows_with_the_pool(tmp_path: Path) -> None:
    from raysal.curation.base import Speed

    vectors, given, _ = planted(11, n=30)
    pool = make_pool(tmp_path / "pool", vectors, labels=given)
    speed = Speed(products=1e9, rows=1e6)
    low, high = (Check().forecast(pool, left, speed) for left in (10**5, 10**6))
    assert (low.kept, Check(drop=True).forecast(pool, 30, speed).kept) == (10**5, None)
    assert 0 < low.seconds < high.seconds


def test_the_command_and_the_function_write_the_same_suspects_by_key(tmp_path: Path) -> None:
    vectors, given, _ = planted(12)
    vectors[11], given[10:12] = vectors[10], ["class-1", "class-2"]
    keys = [f"{i:03d}.jpg" for i in range(N)]
    pool = make_pool(tmp_path / "pool", vectors, labels=given, keys=keys, chunk_rows=100)
    out = tmp_path / "suspects.csv"
    done = cli("check", pool.path, "--labels", "label", "-o", out, "--json")
    assert done.code == 0
    found = raysal.check(pool, partitions=3)
    table = found.table()
    assert table.column_names == list(COLUMNS)
    assert pa_csv.read_csv(out).to_pylist() == [
        {**row, "twin": row["twin"] or "", "score": pytest.approx(row["score"])} for row in table.to_pylist()
    ]
    assert done.json["suspects"] == len(found) == table.num_rows
    assert done.json["error_rate"] == found.error_rate
    by_id = rows(check(pool))
    assert table["key"].to_pylist() == [keys[row["id"]] for row in by_id]
    twins = {row["key"]: row["twin"] for row in table.to_pylist() if row["twin"] is not None}
    assert twins == {"010.jpg": "011.jpg", "011.jpg": "010.jpg"}
    said = cli("check", pool.path, "-o", tmp_path / "few.parquet", "--most", 3, "--method", "class")
    assert said.code == 0
    assert f"3 of {N} labels look wrong; about" in said.out
    wrong = cli("check", pool.path, "-o", tmp_path / "x.csv", "--labels", "colour")
    assert wrong.code == 2
    assert "no column of the pool and no file" in wrong.err


def test_more_near_pairs_than_are_listed_are_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysal.curation.near.job.FEWEST_MOST", 10)
    monkeypatch.setattr("raysal.curation.near.job.PAIRS_AN_ITEM", 0)
    x = 1 + np.random.default_rng(0).uniform(0, 0.01, (60, 4))
    pool = make_pool(tmp_path / "pool", x, labels=["a", "b"] * 30)
    with pytest.raises(ConfigError, match=r"near: more pairs of items are that near than are listed, at 0\.9; ask for"):
        check(pool, near=0.9)
