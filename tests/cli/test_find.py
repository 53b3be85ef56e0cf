"""`raysal find`: from a few examples to the first batch, in one command that may be repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import cli, refused
from pools import make_pool

import raysal
from raysal.cli.run import percent_of
from raysal.labels.files import read_labels
from raysal.pool import Pool
from raysal.rounds.session import Session

N, DIM, RARE = 400, 12, 12


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Four hundred items, of which twelve lie together."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(N, DIM)).astype(np.float32)
    x[:RARE] = 3 * np.eye(DIM, dtype=np.float32)[0] + 0.3 * x[:RARE]
    return make_pool(tmp_path_factory.mktemp("find") / "pool", x, chunk_rows=90)


@pytest.fixture(scope="module")
def keys(pool: Pool) -> list[str]:
    return [key for table in pool.items(["key"]) for key in table["key"].to_pylist()]


def test_three_examples_find_the_rest(pool, keys, tmp_path):
    run = tmp_path / "run"
    examples = [word for key in keys[:3] for word in ("--example", key)]
    answer = cli("find", pool.path, "-o", run, *examples, "-k", 10, "--json")
    assert answer.code == 0, answer
    assert (answer.json["rounds"], answer.json["waiting"]) == (1, 10)
    again = cli("find", pool.path, "-o", run, *examples, "-k", 10, "--json")
    assert (again.json["rounds"], again.json["waiting"]) == (1, 10), "the same command twice is one"
    rare = set(keys[:RARE])
    for number in range(4):
        with Session.open(run) as session:
            session.tell({key: "positive" if key in rare else "negative" for key in session.batch(number).keys})
        assert cli("resume", run).code == 0
    cli("label", "export", run, "-o", tmp_path / "labels.csv")
    found = {label.key for label in read_labels(tmp_path / "labels.csv").labels if label.label == "positive"}
    assert len(found) >= RARE - 3, "a tenth of the items is held out"


def test_more_examples_join_a_search(pool, keys, tmp_path):
    run = tmp_path / "run"
    assert cli("find", pool.path, "-o", run, "-e", keys[0], "-k", 5).code == 0
    assert cli("find", pool.path, "-o", run, "-e", keys[1], "--other", keys[50], "-k", 5).code == 0
    cli("label", "export", run, "-o", tmp_path / "labels.csv")
    told = {label.key: label.label for label in read_labels(tmp_path / "labels.csv").labels}
    assert told == {keys[0]: "positive", keys[1]: "positive", keys[50]: "negative"}


def test_more_examples_join_a_search_as_it_was_begun(pool, keys, tmp_path):
    """By another raysal, say, whose searches differ; what the command does not name is as the run has it."""
    run, update = tmp_path / "run", {"background_weight": 1.0, "background": 70}
    own = {"target": "ring", "rest": "plain", "k": 7, "seed": 3}
    raysal.find(pool, examples=keys[:1], out=run, update=update, rounds={"holdout": 0.05}, **own).close()
    assert cli("find", pool.path, "-o", run, "-e", keys[1], "--other", keys[50]).code == 0
    raysal.find(pool, examples=[keys[2]], out=run).close()
    with Session.open(run) as session:
        config = session.config
        told = {item.key: item.label for item in session.ledger.labels()}
        assert told == {keys[0]: "ring", keys[1]: "ring", keys[2]: "ring", keys[50]: "plain"}
        assert (config.seed, config.rounds.k, config.rounds.holdout, len(session.batch(0).keys)) == (3, 7, 0.05, 7)
        assert (config.update.background_weight, config.update.background) == (1.0, 70)
    refused(cli("find", pool.path, "-o", run, "-e", keys[1], "--rest", "other"), "another --rest")
    refused(cli("find", pool.path, "-o", run, "-k", 8), "another -k (it goes by 7)", "leave it out")
    refused(cli("find", pool.path, "-o", run, "--text", "a ring"), "another --image/--text", "--out")
    assert cli("find", pool.path, "-o", run, "-k", 7).code == 0
    raysal.Session(tmp_path / "blind", pool).close()
    refused(cli("find", pool.path, "-o", tmp_path / "blind", "-e", keys[1]), "looks for no class")


def test_without_examples_a_search_begins_with_what_is_unlike_the_rest(pool, tmp_path):
    answer = cli("find", pool.path, "-o", tmp_path / "run", "-k", 5, "--json")
    assert answer.code == 0
    assert answer.json["waiting"] == 5


def test_python_and_the_command_begin_the_same_search(pool, keys, tmp_path):
    cli("find", pool.path, "-o", tmp_path / "one", "-e", keys[0], "-e", keys[1], "-k", 6)
    with raysal.find(pool, examples=keys[:2], k=6, out=tmp_path / "two") as session:
        batch = session.query()
    with Session.open(tmp_path / "one") as other:
        assert list(other.batch(0).keys) == list(batch.keys)


def test_several_classes_are_looked_for_together(pool, keys, tmp_path):
    examples = {keys[0]: "ring", keys[1]: "arc"}
    asked: dict[str, Any] = {"target": ["ring", "arc"], "rest": "plain", "k": 6}
    with raysal.find(pool, examples=examples, **asked, out=tmp_path / "run") as session:
        assert session.config.target == ("ring", "arc")
        session.tell(dict.fromkeys(session.query().keys, "plain"))
        assert len(session.query()) == 6


def test_a_command_names_several_classes_and_what_each_example_is(pool, keys, tmp_path):
    two = ("--target", "ring", "--target", "ring=x", "--rest", "plain")
    words = ("-e", f"ring={keys[0]}", "-e", f"ring=x={keys[1]}", "--other", keys[50])
    assert cli("find", pool.path, "-o", tmp_path / "run", *two, *words, "-k", 5).code == 0
    with Session.open(tmp_path / "run") as session:
        told = {item.key: item.label for item in session.ledger.labels()}
        assert told == {keys[0]: "ring", keys[1]: "ring=x", keys[50]: "plain"}
        assert session.config.target == ("ring", "ring=x")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--target", "a", "--target", "b", "-e", "KEY"), ("may be a or b", "write a=")),
        (("--target", "a", "--target", "b", "-e", "a=no", "-e", "b=no"), ("'no' is a, and b",)),
        (("-e", "nothing"), ("nothing", "not in the pool")),
        (("-e", "KEY", "--other", "KEY"), ("is an example, and is not",)),
        (("-e", "KEY", "--target", "a", "--rest", "a"), ("is looked for",)),
        (("-e", "KEY", "--target", "1.0"), ("target", "no label is '1.0'", "write '1'")),
        (("-e", "KEY", "--target", "!skip"), ("target", "is no class")),
        (("-e", "KEY", "--target", ""), ("target",)),
        (("-e", "KEY", "--rest", " rest"), ("rest", "write 'rest'")),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(words, said, pool, keys, tmp_path):
    given = [keys[0] if word == "KEY" else word for word in words]
    refused(cli("find", pool.path, "-o", tmp_path / "run", *given), *said)
    assert not (tmp_path / "run").exists()


def test_another_search_in_the_same_place_is_refused(pool, keys, tmp_path):
    assert cli("find", pool.path, "-o", tmp_path / "run", "-e", keys[0], "-k", 5).code == 0
    refused(cli("find", pool.path, "-o", tmp_path / "run", "-e", keys[0], "--target", "ring"), "another --target")


def test_a_config_that_looks_for_nothing_is_refused(pool, tmp_path):
    config: Path = tmp_path / "run.toml"
    config.write_text(f'pool = "{pool.path}"\n')
    refused(cli("find", config, "-o", tmp_path / "run"), "names no class that is looked for")
    config.write_text(f'pool = "{pool.path}"\ntarget = ["positive"]\nfleet = {{ backend = "local" }}\n')
    refused(cli("find", config, "-o", tmp_path / "run", "-k", 3), "-k", "change it there")
    assert cli("find", config, "-o", tmp_path / "run").code == 0


def test_a_query_of_another_kind_is_refused_and_leaves_nothing(pool, tmp_path):
    refused(cli("find", pool.path, "-o", tmp_path / "run", "--text", "a lens"), "the pool holds vectors")
    assert not (tmp_path / "run").exists()


def test_shares_are_shown_in_percent_however_rare_they_are():
    assert [percent_of(share) for share in (0.00013, 0.082, 0.25, 0.997, 1.0)] == ["0.013", "8.2", "25", "100", "100"]


def test_what_is_not_looked_for_has_the_class_of_the_config(pool, keys, tmp_path):
    config: Path = tmp_path / "run.toml"
    config.write_text(
        f'pool = "{pool.path}"\ntarget = ["ring"]\nselect = "search"\nstart = "search"\n'
        'fleet = { backend = "local" }\nupdate = { classes = ["plain"], background = 50 }\nrounds = { k = 5 }\n'
    )
    run = tmp_path / "run"
    assert cli("find", config, "-o", run, "-e", keys[0], "--other", keys[50]).code == 0
    assert cli("status", run, "--json").json["classes"] == {"plain": 1, "ring": 1}
    refused(cli("find", config, "-o", run, "--other", keys[51], "--rest", "ring"), "is looked for")


def test_the_control_arm_begins_with_the_same_examples(tmp_path):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(120, 6)).astype(np.float32)
    x[:9] += 4
    names = ["positive" if row < 9 else "negative" for row in range(120)]
    pool = make_pool(tmp_path / "pool", x, labels=names)
    config: Path = tmp_path / "run.toml"
    config.write_text(
        f'pool = "{pool.path}"\ntarget = ["positive"]\nselect = "search"\nstart = "search"\noracle = "simulated"\n'
        'fleet = { backend = "local" }\nrounds = { count = 2, k = 6, control = true }\n'
    )
    some = [key for table in pool.items(["key"]) for key in table["key"].to_pylist()][:3]
    words = [word for key in some for word in ("-e", key)]
    assert cli("find", config, "-o", tmp_path / "run", *words).code == 0
    for place in (tmp_path / "run", tmp_path / "run" / "control"):
        with Session.open(place, read_only=True) as session:
            assert session.record(0)["labels"] == 3


def test_a_directory_of_other_files_is_refused_and_stays_as_it_is(pool, keys, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg", "like", "notes.txt"):
        (run / name).write_text("mine")
    refused(cli("find", pool.path, "-o", run, "-e", keys[0]), "holds something else (a.jpg, b.jpg, c.jpg and 1 more)")
    (tmp_path / "labels.csv").write_text(f"key,label\n{keys[0]},a\n")
    words = ("label", "import", run, tmp_path / "labels.csv", "--pool", pool.path)
    refused(cli(*words), "holds something else", "new or empty")
    assert {path.name: path.read_text() for path in run.iterdir()} == dict.fromkeys(
        ("a.jpg", "b.jpg", "c.jpg", "like", "notes.txt"), "mine"
    )
    for path in run.iterdir():
        path.unlink()
    (run / "run.toml").write_text(
        f'pool = "{pool.path}"\ntarget = ["positive"]\nstart = "search"\nfleet.backend = "local"\n'
    )
    (run / ".gitignore").write_text("*")
    assert cli("find", run / "run.toml", "-o", run, "-e", keys[0]).code == 0


def test_what_to_do_next_is_said_first(pool, keys, tmp_path):
    said = cli("find", pool.path, "-o", tmp_path / "run", "-e", keys[0], "-k", 5).out
    assert said.startswith("5 items wait for a label:\n")
    assert f"raysal serve {tmp_path / 'run'}" in said.splitlines()[1]
    assert ": 1 round, 1 label" in said
