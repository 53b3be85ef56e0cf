"""No command replaces a file of a person. The commands come from the tree, so that a new one with an output joins."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import typer
from cli_tools import Answer, cli, labels_csv, refused, write_vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from tiers import deep_unless, one_of_each

from raysal.cli import app
from raysal.errors import OutputExists
from raysal.labels import read_labels, write_labels
from raysal.pool import open_pool
from raysal.report import write_report
from raysal.store import write_output
from raysal.tables import KINDS
from raysal.types import Label


def with_output(command: Any, path: str = "") -> Iterator[tuple[str, bool]]:
    """The commands that write where a person says, and whether they take --force."""
    options = {option for parameter in command.params for option in parameter.opts}
    if "--out" in options or "-o" in options:
        yield path, "--force" in options
    for name, child in getattr(command, "commands", {}).items():
        yield from with_output(child, f"{path} {name}".strip())


FOUND = dict(with_output(typer.main.get_command(app)))
FILES: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "balance": lambda home: (home / "pool", "--size", 20),
    "core": lambda home: (home / "pool", "--size", 20),
    "curate": lambda home: (home / "pool",),
    "check": lambda home: (home / "pool", "--share", 0.2),
    "dedup": lambda home: (home / "pool",),
    "filter": lambda home: (home / "pool", "--where", "label=class-0"),
    "index search": lambda home: (home / "pool", "--key", "item-0005", "-k", 3),
    "label export": lambda home: (home / "run",),
    "rank": lambda home: (home / "ranking",),
    "pool export": lambda home: (home / "pool",),
    "pool quarantine": lambda home: (home / "pool",),
    "select": lambda home: (home / "pool", "-k", 4, "--labels", home / "run"),
}
"""The words of each command that writes one file."""
FOLDERS = {"demo", "doctor", "embed", "export", "find", "finetune", "predict", "run"}
"""Commands that make a directory, or finish one of their own."""
CASES = [(name, suffix) for name in FILES for suffix in KINDS]


def test_every_command_with_an_output_is_in_a_test_below() -> None:
    assert set(FOUND) == {*FILES, *FOLDERS}
    assert {name for name, force in FOUND.items() if force} == set(FILES)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    source = write_vectors(home / "source.parquet", rows=62, bad=2)
    assert cli("embed", source, "--out", home / "pool", "--carry", "label", "--max-quarantine", 0.1).code == 0
    labels = labels_csv(home / "labels.csv", 12, rows=62)
    words = ("label", "import", home / "run", labels, "--pool", home / "pool", "--skip-unknown")
    assert cli(*words).code == 0
    assert cli("rank", home / "run", "--out", home / "ranking", "--score", "entropy").code == 0
    return home


def write(home: Path, name: str, out: Path, *more: object) -> Answer:
    return cli(*name.split(), *FILES[name](home), "-o", out, *more)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


THERE: dict[str, Callable[[Path, Path], object]] = {
    "notes": lambda home, path: path.write_text("my notes\n"),
    "nothing": lambda home, path: path.write_bytes(b""),
    "the source": lambda home, path: shutil.copy(home / "source.parquet", path),
    "labels of a person": lambda home, path: write_labels(path, [Label(key="item-0005", label="mine")]),
}


@pytest.mark.parametrize("there", deep_unless({"labels of a person"}, THERE))
@pytest.mark.parametrize(("name", "suffix"), one_of_each(CASES))
def test_what_is_there_stays_and_with_force_is_kept(
    home: Path, tmp_path: Path, name: str, suffix: str, there: str
) -> None:
    out = tmp_path / f"out{suffix}"
    THERE[there](home, out)
    before = files_in(tmp_path)
    refused(write(home, name, out), out.name, "is there already", "--force")
    assert files_in(tmp_path) == before
    done = write(home, name, out, "--force", "--json").json
    after = files_in(tmp_path)
    assert after[out.name] != before[out.name]
    if there == "nothing":
        assert set(after) <= {out.name, f"{out.name}.1"}
    else:
        assert done["kept"] == f"{out}.1"
        assert after == {out.name: after[out.name], f"{out.name}.1": before[out.name]}
    again = write(home, name, out, "--json")
    assert (again.code, again.json["unchanged"], again.json["kept"]) == (0, True, None)
    assert files_in(tmp_path) == after


@pytest.mark.parametrize(("name", "suffix"), one_of_each(CASES))
def test_a_folder_is_no_file(home: Path, tmp_path: Path, name: str, suffix: str) -> None:
    (tmp_path / f"out{suffix}").mkdir()
    for more in ((), ("--force",)):
        refused(write(home, name, tmp_path / f"out{suffix}", *more))
        assert list((tmp_path / f"out{suffix}").iterdir()) == []


@pytest.mark.parametrize(("name", "suffix"), one_of_each(case for case in CASES if KINDS[case[1]] == "parquet"))
def test_the_source_of_the_pool_is_never_replaced(home: Path, name: str, suffix: str) -> None:
    source = home / "source.parquet"
    before = source.read_bytes()
    for more in ((), ("--force",)):
        refused(write(home, name, source.with_suffix(suffix) if suffix == ".parquet" else source, *more))
        assert source.read_bytes() == before
    assert not list(home.glob("source.parquet.*"))


@pytest.mark.parametrize("pattern", [False, True])
def test_no_file_of_a_folder_or_pattern_of_sources_is_replaced(home: Path, tmp_path: Path, pattern: bool) -> None:
    tables, pool = tmp_path / "tables", tmp_path / "pool"
    (tables / "deep").mkdir(parents=True)
    shutil.copy(home / "source.parquet", tables / "deep" / "a.parquet")
    source = tables / "**" / "*.parquet" if pattern else tables
    assert cli("embed", source, "--out", pool, "--max-quarantine", 0.1).code == 0
    before = (tables / "deep" / "a.parquet").read_bytes()
    refused(cli("select", pool, "-k", 3, "-o", tables / "deep" / "a.parquet", "--force"), "is the source of the pool")
    assert (tables / "deep" / "a.parquet").read_bytes() == before
    assert cli("select", pool, "-k", 3, "--strategy", "random", "-o", tables / "batch.csv").code == 0


@pytest.mark.parametrize("name", ["pool/pool.json", "pool/source.json", "pool/items/00000.parquet", "run/run.json"])
def test_no_file_of_a_pool_or_run_is_replaced(home: Path, name: str) -> None:
    before = (home / name).read_bytes()
    refused(cli("select", home / "pool", "-k", 3, "-o", home / name, "--force"), "which nothing may replace")
    assert (home / name).read_bytes() == before


def fill_in(path: Path, labels: dict[int, str]) -> dict[str, str]:
    """Write labels into rows of a batch file; returns {key: label}."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    told = {}
    for number, label in labels.items():
        rows[number]["label"] = label
        told[rows[number]["key"]] = label
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return told


@given(
    labels=st.dictionaries(st.integers(0, 3), st.sampled_from(["cat", "dog", "!skip", " "]), max_size=4),
    told=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_a_filled_in_batch_is_replaced_only_when_its_run_knows_all_of_it(
    home: Path, tmp_path_factory: pytest.TempPathFactory, labels: dict[int, str], told: bool
) -> None:
    folder = tmp_path_factory.mktemp("batch")
    shutil.copytree(home / "run", folder / "run")
    batch, words = folder / "batch.csv", ("select", home / "pool", "-k", 4, "--labels", folder / "run")
    assert cli(*words, "-o", batch).code == 0
    mine = fill_in(batch, labels)
    there = batch.read_bytes()
    if told:
        assert cli("label", "import", folder / "run", batch).code == 0
    work = any(label.strip() for label in mine.values())
    if work:
        refused(cli(*words, "-o", batch), "is there already")
        assert batch.read_bytes() == there
    kept = cli(*words, "--seed", 1, "-o", batch, "--force", "--json").json["kept"]
    assert (kept is not None) == (work and not told)
    if work and not told:
        assert Path(kept).read_bytes() == there
        assert {label.key: label.label for label in read_labels(kept.removesuffix(".1")).labels} == {}


def test_a_label_file_that_is_read_and_written_is_kept(home: Path, tmp_path: Path) -> None:
    batch = tmp_path / "batch.csv"
    assert cli("select", home / "pool", "-k", 4, "-o", batch).code == 0
    fill_in(batch, {0: "cat", 1: "dog"})
    there = batch.read_bytes()
    words = ("select", home / "pool", "-k", 4, "--labels", batch, "-o", batch)
    refused(cli(*words), "is there already")
    assert cli(*words, "--force", "--json").json["kept"] == f"{batch}.1"
    assert (tmp_path / "batch.csv.1").read_bytes() == there


def test_an_export_of_the_same_run_is_replaced_without_a_copy(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "run", tmp_path / "run")
    out = tmp_path / "labels.csv"
    assert cli("label", "export", tmp_path / "run", "-o", out).code == 0
    assert cli("label", "skip", tmp_path / "run", "item-0030").code == 0
    assert cli("label", "export", tmp_path / "run", "-o", out, "--skips", "--force", "--json").json["kept"] is None
    with open(out, "a", encoding="utf-8") as file:
        file.write("item-0031,mine,,1.0\n")
    refused(cli("label", "export", tmp_path / "run", "-o", out, "--skips"), "is there already")
    kept = cli("label", "export", tmp_path / "run", "-o", out, "--skips", "--force", "--json").json["kept"]
    assert "mine" in Path(kept).read_text()
    weighed = out.read_text().replace(",1.0\n", ",2.5\n")
    out.write_text(weighed, encoding="utf-8")
    kept = cli("label", "export", tmp_path / "run", "-o", out, "--skips", "--force", "--json").json["kept"]
    assert Path(kept).read_text() == weighed


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_a_command_that_makes_a_folder_touches_no_file(home: Path, tmp_path: Path, name: str) -> None:
    config = tmp_path / "run.toml"
    config.write_text(f'pool = "{home / "pool"}"\n[fleet]\nbackend = "local"\n[rounds]\ncount = 1\nk = 2\n')
    words: dict[str, tuple[object, ...]] = {
        "demo": ("demo",),
        "doctor": ("doctor", "--quick"),
        "embed": ("embed", home / "source.parquet"),
        "export": ("export", home / "pool", "--as", "csv"),
        "find": ("find", home / "pool"),
        "finetune": ("finetune", home / "run"),
        "predict": ("predict", home / "pool", "--run", home / "run"),
        "run": ("run", config),
    }
    taken = tmp_path / "taken"
    taken.write_text("my notes\n")
    answer = cli(*words[name], "--out", taken)
    assert answer.code != 0 or name == "doctor"
    assert taken.read_text() == "my notes\n"
    if name != "demo":  # it embeds for a minute
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "notes.csv").write_text("my notes\n")
        cli(*words[name], "--out", tmp_path / "folder")
        assert (tmp_path / "folder" / "notes.csv").read_text() == "my notes\n"


def test_functions_refuse_and_keep_like_commands(home: Path, tmp_path: Path) -> None:
    pool = open_pool(home / "pool")
    mine = [Label(key="a", label="cat")]
    writers: dict[str, Callable[[Path, bool], object]] = {
        "labels.csv": lambda path, overwrite: write_labels(path, mine, overwrite=overwrite),
        "pool.parquet": lambda path, overwrite: pool.export(path, overwrite=overwrite),
        "report.html": lambda path, overwrite: write_report(home / "run", path, overwrite=overwrite),
    }
    for name, writer in writers.items():
        path = tmp_path / name
        path.write_text("my notes\n")
        with pytest.raises(OutputExists, match=f"{name}.*overwrite=True"):
            writer(path, False)
        assert path.read_text() == "my notes\n"
        writer(path, True)
        assert (tmp_path / f"{name}.1").read_text() == "my notes\n"
        content = path.read_bytes()
        writer(path, False)
        assert path.read_bytes() == content
    assert pq.read_metadata(tmp_path / "pool.parquet").num_rows == 60


def test_the_report_of_a_run_is_the_runs_own(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "run", tmp_path / "run")
    first = write_report(tmp_path / "run").read_bytes()
    cli("label", "skip", tmp_path / "run", "item-0030")
    cli("label", "withdraw", tmp_path / "run", "item-0005", "item-0006")
    assert write_report(tmp_path / "run").read_bytes() != first
    assert [path.name for path in (tmp_path / "run").glob("report*")] == ["report.html"]


# the one mechanism


@given(versions=st.lists(st.binary(max_size=3), min_size=1, max_size=6), force=st.lists(st.booleans(), min_size=6))
@settings(max_examples=40)
def test_every_version_of_a_file_is_found_again(
    tmp_path_factory: pytest.TempPathFactory, versions: list[bytes], force: list[bool]
) -> None:
    folder = tmp_path_factory.mktemp("versions")
    path, now, before = folder / "out", None, []
    for content, overwrite in zip(versions, force, strict=False):

        def fill(temporary: Path, content: bytes = content) -> None:
            temporary.write_bytes(content)

        if now is None or content == now or overwrite:
            written = write_output(path, fill, overwrite=overwrite)
            assert written.unchanged == (content == now)
            if now not in (None, content):
                before.append(now)
                assert written.kept is not None
                assert written.kept.read_bytes() == now
            now = content
        else:
            with pytest.raises(OutputExists):
                write_output(path, fill)
        assert path.read_bytes() == now
        assert {name: data for name, data in files_in(folder).items() if name != "out"} == {
            f"out.{number}": data for number, data in enumerate(before, 1)
        }


def test_where_links_do_not_work_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*names: object, **options: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr("os.link", no_links)
    for number in range(3):
        write_output(tmp_path / "out", lambda path, number=number: path.write_text(str(number)), overwrite=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"out": "2", "out.1": "0", "out.2": "1"}
    with pytest.raises(OutputExists):
        write_output(tmp_path / "out", lambda path: path.write_text("3"))


def test_what_fails_leaves_the_file_and_nothing_else(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError("the disk is full")

    (tmp_path / "out").write_text("mine")
    with pytest.raises(OSError, match="full"):
        write_output(tmp_path / "out", fail, overwrite=True)
    assert files_in(tmp_path) == {"out": b"mine"}
