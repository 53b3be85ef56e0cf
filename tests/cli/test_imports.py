"""A command imports what it needs: what reads records and labels needs neither torch nor Ray nor pandas."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_tools import Answer, process
from small_run import begin
from tiers import deep

from raysal.rounds.session import Session

HEAVY = ("faiss", "matplotlib", "pandas", "polars", "ray", "scipy", "sklearn", "torch")
PROGRAM = f"""
import json, sys
from raysal.cli import main
code = main()
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.stderr)
sys.exit(code)
"""
PROGRAMS = f"""
import json, sys
from raysal.cli import main
found = {{}}
for words in sys.argv[1:]:
    sys.argv = ["raysal", *words.split()]
    assert main() == 0, words
    found[words] = [name for name in {HEAVY!r} if name in sys.modules]
print(json.dumps(found), file=sys.stderr)
"""
WATCHED = """
import gc, sys
import MODULE as module
real = module.FUNCTION
def watched(*args, **kwargs):
    print("looks" if gc.isenabled() else "blind", gc.get_freeze_count() > 0, file=sys.stderr)
    return real(*args, **kwargs)
module.FUNCTION = watched
from raysal.cli import main
code = main()
print("at the end", gc.isenabled(), file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a control arm, and an open one, over a pool."""
    home = tmp_path_factory.mktemp("imports")
    begin(home, rounds=2)
    with Session(home / "open", home / "pool", rounds={"holdout": 0.2}) as session:
        keys = session.query(6).keys
        session.tell({key: "ab"[i % 2] for i, key in enumerate(keys[:4])})
    tests = {"holdout": 0.4, "tests": 0.3}
    with Session(home / "search", home / "pool", select="margin", target=["a"], rounds=tests) as session:
        for _ in range(2):
            batch = session.query(6)
            session.tell({key: "ab"[i % 2] for i, key in enumerate(batch.keys)})
        assert session.status().search.answered
    rows = [json.dumps({"key": keys[4], "label": "a"})]
    (home / "labels.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (home / "keys.json").write_text(json.dumps(keys), encoding="utf-8")
    config = ["pool = 'pool'", "oracle = {name = 'simulated'}", "fleet = {backend = 'local'}"]
    config += ["rounds = {count = 2, k = 8, holdout = 0.3, control = true}"]
    (home / "run.toml").write_text("\n".join(config), encoding="utf-8")
    return home


def imported(answer: Answer) -> list[str]:
    """The heavy modules of a command that went well."""
    assert answer.code == 0, answer
    found = json.loads(answer.err.splitlines()[-1])
    assert isinstance(found, list)
    return found


def test_what_only_reads_records_is_light(home: Path) -> None:
    """One command after the other in one process: what one imports stays until the end."""
    commands = [
        "status open",
        "status run",
        "status search",
        "pool info pool",
        "pool quarantine pool",
        "pool verify pool",
        "label import open labels.jsonl",
        "label import new labels.jsonl --pool pool",
        "label export open -o labels-out.csv --force",
        "label export open -o labels-out.parquet --force",
        "label export open -o waiting.csv --waiting --force",
        "label export open -o held.csv --holdout 3 --force",
        "resume run",
        "run run.toml --out run",
    ]
    answer = process(*(f"{words} --json" for words in commands), cwd=home, python=["-c", PROGRAMS])
    assert answer.code == 0, answer
    assert json.loads(answer.err.splitlines()[-1]) == {f"{words} --json": [] for words in commands}


@pytest.mark.parametrize("word", ["skip", "withdraw"])
def test_what_people_say_is_light(home: Path, word: str) -> None:
    key = json.loads((home / "keys.json").read_text(encoding="utf-8"))[5]
    assert imported(process("label", word, "open", key, cwd=home, python=["-c", PROGRAM])) == []


@pytest.mark.parametrize(
    "more", [["--labels", "open"], *(pytest.param(["--strategy", name], marks=deep) for name in ("coreset", "random"))]
)
def test_select_needs_torch_and_nothing_else(home: Path, more: list[str]) -> None:
    words = ("select", "pool", "-k", 3, *more, "-o", "batch.csv", "--force")
    watched = PROGRAM.replace("('faiss'", "('pyarrow.compute', 'faiss'")  # as long to import as a pool takes to open
    assert imported(process(*words, cwd=home, python=["-c", watched])) == ["torch"]


@pytest.mark.parametrize(
    ("words", "module", "function"),
    [
        ("select pool -k 3", "raysal.api.select", "select"),
        *(
            pytest.param(*row, marks=deep)
            for row in (
                ("predict pool --run run -o predictions", "raysal.prediction.job", "predict_into"),
                ("resume run", "raysal.rounds.loop", "resume"),
                ("pool export pool -o pool.parquet --force", "raysal.pool.exported", "write_output"),
            )
        ),
    ],
)
def test_garbage_is_looked_for_while_a_command_computes(home: Path, words: str, module: str, function: str) -> None:
    """Not before, as it imports, and not after; and what was imported is not looked at."""
    program = WATCHED.replace("MODULE", module).replace("FUNCTION", function)
    answer = process(*words.split(), cwd=home, python=["-c", program])
    assert answer.code == 0, answer
    assert answer.err.splitlines()[-2:] == ["looks True", "at the end False"]
