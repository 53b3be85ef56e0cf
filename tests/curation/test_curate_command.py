"""`raysal curate`: the plan before it runs, the file and the report after it, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cli_tools import cli, refused, write_vectors
from curation_steps import PLACES, Draw, Named, Slow, Thin
from pools import make_pool, mixture
from served_texts import EVIL, hostile_run

import raysal
from raysal.curation.folder import FOLDER
from raysal.curation.plan import load_plan
from raysal.curation.registry import STEPS
from raysal.errors import RaysalWarning
from raysal.pool import Pool
from raysal.report.curation import curation_report
from raysal.report.curation_balance import balance_by, effective_number

PLAN = '[[steps]]\nname = "thin"\nkeep = 3\n\n[[steps]]\nname = "draw"\n'


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    for name, place in PLACES.items():
        monkeypatch.setitem(STEPS._places, name, place)
    Thin.calls.clear()
    Slow.stops, Slow.went_on = None, 0
    (tmp_path / "plan.toml").write_text(PLAN)
    yield make_pool(tmp_path / "pool", mixture(150, 8)[0], chunk_rows=64, labels=[f"c{i % 3}" for i in range(150)])
    Slow.stops = None


def test_the_file_has_what_is_kept_and_the_same_command_again_computes_nothing(pool: Pool, tmp_path: Path) -> None:
    out = tmp_path / "kept.parquet"
    words = ("curate", pool.path, "--config", tmp_path / "plan.toml", "-o", out)
    done = cli(*words)
    found = raysal.curate(pool, config=tmp_path / "plan.toml")
    assert done.code == 0
    assert done.out == f"{out}: {found.kept} of 150 items kept; 100 dropped by thin, {50 - found.kept} by draw\n"
    assert pq.read_table(out).equals(found.table())
    assert set(pq.read_table(out)["kept"].to_pylist()) == {True}
    again = cli(*words, "--json").json
    assert len(Thin.calls) == 1
    assert (again["unchanged"], [step["resumed"] for step in again["steps"]]) == (True, [True, True])
    assert (again["items"], again["kept_items"], again["dropped_items"]) == (150, found.kept, 150 - found.kept)
    assert cli("export", pool.path, "--as", "csv", "--keys", out, "-o", tmp_path / "exported").code == 0
    other = cli(*words, "--rows", "all")
    assert (other.code, other.out) == (2, "")
    assert f"{out}: is there already" in other.err
    everything = cli(*words, "--rows", "all", "--force", "--json").json
    assert everything["kept"] == f"{out}.1"
    assert pq.read_table(out).equals(found.table("all"))


def test_the_plan_is_said_before_it_runs_and_alone(pool: Pool, tmp_path: Path) -> None:
    words = ("curate", pool.path, "--config", tmp_path / "plan.toml")
    alone = cli(*words, "--plan")
    assert alone.out == (
        "150 items, 2 steps, about 1 s\n"
        "  thin  50 of 150 kept         about 1 s  (keep=3)\n"
        "  draw  at most 50 of 50 kept  about 1 s\n"
    )
    assert not (pool.path / FOLDER).exists()
    assert Thin.calls == []
    done = cli(*words, "-o", tmp_path / "kept.csv")
    assert done.err == alone.out
    data = cli(*words, "--plan", "--json").json
    assert [(line["label"], line["items"], line["done"]) for line in data["plan"]] == [
        ("thin", 150, True), ("draw", 50, True),
    ]  # fmt: skip
    assert "done before" in cli(*words, "--plan").out
    other = cli(*words, "--plan", "--seed", 5, "--json").json["plan"]
    assert [line["done"] for line in other] == [False, False]


def test_an_interrupted_command_says_how_to_go_on(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text('steps = ["thin", "slow"]')
    words = ("curate", pool.path, "--config", tmp_path / "plan.toml", "-o", tmp_path / "kept.parquet")
    Slow.stops = KeyboardInterrupt
    stopped = cli(*words)
    assert stopped.code == 130
    assert "run the same command again to go on" in stopped.err
    assert not (tmp_path / "kept.parquet").exists()
    Slow.stops = None
    steps = cli(*words, "--json").json["steps"]
    assert [step["resumed"] for step in steps] == [True, False]
    assert (len(Thin.calls), Slow.went_on) == (1, 1)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('steps = ["thn"]', ("steps.0", "unknown name 'thn'", "did you mean 'thin'")),
        ('[[steps]]\nname = "draw"\n[[steps]]\nname = "thin"\nkep = 3', ("steps.1.kep", "no such field", "keep")),
        ('[[steps]]\nname = "thin"\nkeep = "many"', ("steps.0.keep", "is no whole number")),
        ('[[steps]]\nkeep = 3', ("steps.0.name", "is not given")),
        ("steps = []", ("steps: there is no step", "write a [[steps]] with name")),
        ("seed = 1", ("steps", "is not given", "write a [[steps]] with name")),
        ('[steps]\nname = "thin"', ("steps", "is no list", "write a [[steps]] with name")),
        ('pool = "pool"\nsteps = ["thin"]', ("pool", "no such field", "seed, steps")),
        ("steps = [", ("not valid TOML",)),
        ('[[steps]]\nname = "thin"\nkeep = 0', ("keep", "0 keeps nothing")),
        ('[[steps]]\nname = "near"\n[[steps]]\nname = "near"\nthreshold = 5', ("near_2.threshold: 5 is no",)),
        ('[[steps]]\nname = "near"\nthreshold = true', ("steps.0.threshold: is no number, got True",)),
        ('[[steps]]\nname = "thin"\n[[steps]]\nname = "balance"\nsize = 0', ("steps.1.size: 0 is no number",)),
        ('[[steps]]\nname = "filter"\nlike = {label = "c1"}', ("steps.0.outliers", "nothing goes by it")),
        ('[[steps]]\nname = "exact"\nprefer = "smallest"', ("exact.prefer", "keep names none")),
        ('[[steps]]\nname = "check"\nnear = 3', ("check.near: 3 is no similarity",)),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_is_refused_with_its_place(
    pool: Pool, tmp_path: Path, text: str, problem: tuple[str, ...]
) -> None:
    (tmp_path / "plan.toml").write_text(text)
    words = ("curate", pool.path, "--config", tmp_path / "plan.toml", "-o", tmp_path / "kept.parquet")
    refused(cli(*words), *problem)
    assert not (tmp_path / "kept.parquet").exists()


def test_what_cannot_be_written_is_refused_before_the_work(pool: Pool, tmp_path: Path) -> None:
    words = ("curate", pool.path, "--config", tmp_path / "plan.toml")
    (tmp_path / "notes.html").write_text("mine")
    (tmp_path / "notes.csv").write_text("mine")
    (tmp_path / "folder.parquet").mkdir()
    refused(cli(*words), "there is nowhere to write", "--plan")
    refused(cli(*words, "-o", tmp_path / "kept.txt"), "unknown extension")
    refused(cli(*words, "-o", pool.path / "kept.parquet"), "lies in the pool")
    refused(cli(*words, "-o", pool.path / "items" / "kept.parquet"), "lies in the pool")
    refused(cli(*words, "-o", tmp_path / "notes.csv"), "is there already")
    refused(cli(*words, "-o", tmp_path / "folder.parquet", "--force"), "is a folder")
    refused(cli(*words, "--report", tmp_path / "notes.html"), "is there already")
    refused(cli(*words, "--report", tmp_path / "report.pdf"), "unknown extension")
    refused(cli(*words, "--report", pool.path), "lies in the pool")
    refused(cli(*words, "--report", pool.path / "vectors" / "page.html"), "lies in the pool")
    refused(cli(*words, "-o", tmp_path / "a.json", "--report", tmp_path / "a.json"), "would be written over", "a.json")
    refused(cli(*words, "--report", tmp_path / "no" / "where.html"), "its directory does not exist")
    refused(cli(*words, "--config", tmp_path / "none.toml", "-o", tmp_path / "kept.csv"), "no such file")
    refused(cli("curate", tmp_path / "nothing", *words[2:], "-o", tmp_path / "kept.csv"), "nothing")
    assert Thin.calls == []


def test_a_config_of_a_plan_is_shown_and_checked(pool: Pool, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    shown = cli("config", "show", plan)
    assert shown.out == 'seed = 0\n\n[[steps]]\nname = "thin"\nkeep = 3\n\n[[steps]]\nname = "draw"\n'
    (tmp_path / "again.toml").write_text(shown.out)
    assert load_plan(tmp_path / "again.toml") == load_plan(plan)
    assert cli("config", "validate", plan).out == f"{plan}: valid (steps thin, draw)\n"
    assert cli("config", "validate", plan, "--json").json["ok"] is True
    plan.write_text('steps = ["thin", "thick"]')
    refused(cli("config", "validate", plan), "steps.1", "unknown name 'thick'")


def test_a_path_in_a_plan_may_start_from_its_folder(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plans"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    (folder / "keys.txt").write_text("item-000003")
    (folder / "plan.toml").write_text('[[steps]]\nname = "named"\nkeys = "keys.txt"')
    done = cli("curate", pool.path, "--config", folder / "plan.toml", "-o", tmp_path / "kept.csv")
    assert "149 of 150 items kept; 1 dropped by named" in done.out
    assert f"steps.0.keys: keys.txt is taken from the folder of the config: {folder / 'keys.txt'}" in done.err


def test_files_and_pools_that_steps_name_may_start_from_the_folder_of_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plans"
    rows = mixture(40, 8)[0]
    make_pool(folder / "other", rows[:3])
    (folder / "label").write_text("no labels")
    (folder / "given.csv").write_text("key,a,b\n" + "".join(f"item-{at:06d},0.9,0.1\n" for at in range(40)))
    (folder / "labels.csv").write_text("key,label\n" + "".join(f"item-{at:06d},a\n" for at in range(40)))
    plan = [
        {"name": "near", "against": "other", "threshold": 1},
        {"name": "check", "labels": "labels.csv", "probabilities": "given.csv"},
        {"name": "check", "labels": "label"},
    ]
    (folder / "plan.toml").write_text(
        "".join("[[steps]]\n" + "".join(f"{name} = {value!r}\n" for name, value in one.items()) for one in plan)
    )
    pool = make_pool(tmp_path / "pool", rows, labels=["a", "b"] * 20)
    monkeypatch.chdir(tmp_path)
    done = cli("curate", pool.path, "--config", folder / "plan.toml", "-o", tmp_path / "kept.csv", "--json")
    said = [step["fields"] for step in done.json["steps"]]
    assert done.json["steps"][0]["dropped_items"] == 3
    assert said[0]["against"] == str(folder / "other")
    assert (said[1]["labels"], said[1]["probabilities"]) == (str(folder / "labels.csv"), str(folder / "given.csv"))
    assert said[2]["labels"] == "label", "a plain name is a column, whatever lies beside the plan"


def test_the_report_says_what_the_table_says_and_needs_no_other_file(pool: Pool, tmp_path: Path) -> None:
    words = ("curate", pool.path, "--config", tmp_path / "plan.toml", "--report", tmp_path / "report")
    found = raysal.curate(pool, config=tmp_path / "plan.toml")
    done = cli(*words, "--json").json
    page, data = (tmp_path / "report" / f"curation.{form}" for form in ("html", "json"))
    assert done["report"] == [str(page), str(data)]
    said = json.loads(data.read_text())
    assert (said["items"], said["kept_items"], said["dropped_items"]) == (150, found.kept, found.dropped)
    assert [step["reasons"] for step in said["steps"]] == [step.reasons for step in found.steps]
    assert said["steps"][0]["group_sizes"] == {"3": 50}
    assert said["balance"]["before"] == {"c0": 50, "c1": 50, "c2": 50}
    assert sum(said["balance"]["after"].values()) == found.kept
    rows = {row["key"]: row for row in found.table("all").to_pylist()}
    groups = [group for step in said["steps"] for group in step["examples"]]
    assert sum(len(group["dropped"]) for group in groups) > 30
    assert {group["until"] for group in groups} == {None, "draw"}
    for group in groups:
        for one in group["dropped"]:
            row = rows[one["key"]]
            assert (row["reason"], row["value"]) == (one["reason"], one["value"])
            assert row["nearest_kept"] == (group["kept"] if group["until"] is None else None)
    text = page.read_text(encoding="utf-8")
    for word in (
        f"{found.kept:,} of 150 items are kept",
        "beside a kept one",
        "drawn, even",
        "Balance",
        "What is kept",
    ):
        assert word in text
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    before = page.read_bytes(), data.read_bytes()
    assert cli(*words).code == 0
    assert (page.read_bytes(), data.read_bytes()) == before


def test_a_report_replaces_reports_alone(pool: Pool, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    words = ("curate", pool.path, "--config", tmp_path / "plan.toml", "--report", out)
    assert cli(*words).code == 0
    assert cli(*words, "--seed", 3).code == 0
    assert list(tmp_path.glob("report.html*")) == [out]
    out.write_text("mine")
    refused(cli(*words), "is there already")
    assert cli(*words, "--force").code == 0
    assert (tmp_path / "report.html.1").read_text() == "mine"


def test_vectors_are_shown_by_their_keys(tmp_path: Path) -> None:
    source = write_vectors(tmp_path / "vectors.parquet", rows=40)
    found = raysal.curate(raysal.embed(source, out=tmp_path / "pool"), [Thin(keep=4)])
    assert "<li>item-0005" in curation_report(found).html
    assert "`value` in the table" not in curation_report(found).html
    drawn = curation_report(raysal.curate(found.pool, {"name": "balance", "size": 30, "by": "density"})).html
    assert "The number of an item, in the table its value, is the least size that keeps the item." in drawn
    whole = raysal.curate(found.pool, [Thin(keep=1)])
    assert "40 of 40 items are kept" in curation_report(whole).html


def test_texts_are_shown_as_lines_and_are_no_markup(tmp_path: Path) -> None:
    hostile_run(tmp_path)
    found = raysal.curate(tmp_path / "pool", [Thin(keep=4), Draw()])
    page = curation_report(found).html
    assert page.count(escape(EVIL)) > 60
    assert "<img src=x" not in page
    assert "<script" not in page
    assert '<li class="kept">' in page


def test_a_pool_of_which_nothing_is_left_has_a_report(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", mixture(20, 8)[0])
    (tmp_path / "keys").write_text(" ".join(f"item-{i:06d}" for i in range(20)))
    with pytest.warns(RaysalWarning):
        found = raysal.curate(pool, [Named(keys=tmp_path / "keys"), Thin()])
    page = curation_report(found).html
    assert "0 of 20 items are kept" in page
    assert "No item is left." in page


def test_balance_counts_a_column_of_classes_and_no_other(tmp_path: Path) -> None:
    names: list[str] = ["a", "b", None, "a", "b", "a"] * 10  # type: ignore[list-item]
    pool = make_pool(tmp_path / "pool", mixture(60, 8)[0], chunk_rows=16, labels=names)
    found = raysal.curate(pool, [Thin(keep=2)])
    balance = balance_by(found, "label")
    assert balance is not None
    assert balance.before == {"a": 30, "b": 20, "(none)": 10}
    assert balance.after == {"a": 10, "b": 10, "(none)": 10}
    assert balance.effective[1] == pytest.approx(3.0)
    assert balance_by(found, "nothing") is None
    assert effective_number({}) == 0
    assert effective_number({"a": 8, "b": 0}) == 1
