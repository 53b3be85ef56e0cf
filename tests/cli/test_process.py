"""What only shows in a process of its own: exit codes, clean stdout, what is imported, signals, pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import ROOT, Answer, cli, process, write_images, write_vectors
from tiers import deep
from warm import python

from raysal.cli.output import Interrupted, dumps, explain, on_interrupt

# typer itself needs pydantic.
HEAVY = (
    "torch",
    "ray",
    "faiss",
    "numpy",
    "pyarrow",
    "sklearn",
    "matplotlib",
    "PIL",
    "raysal.config",
)
NOISY = """
import os, sys, torch
def build():
    print("hello from Python")
    sys.stdout.flush()
    os.system("echo hello from a child")
    os.write(1, b"hello from beneath\\n")
    return torch.nn.Flatten()
def waiting():
    print("ready", file=sys.stderr, flush=True)
    import time
    time.sleep(300)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("process")
    (home / "noisy.py").write_text(NOISY)
    write_vectors(home / "v.parquet", rows=5000)
    write_images(home / "photos", count=4)
    assert process("embed", "v.parquet", "--out", "pool", cwd=home).code == 0
    return home


@pytest.mark.parametrize("words", [["--help"], ["embed", "--help"], ["select", "--help"], ["--version"], ["nope"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    program = (
        "import sys\nfrom raysal.cli import main\n"
        f"code = main({words!r})\n"
        f"print('heavy:', sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    answer = process(python=["-c", program])
    assert answer.code == (2 if words == ["nope"] else 0)
    assert answer.err.splitlines()[-1] == "heavy: []"


def test_the_module_and_the_version() -> None:
    answer = process("--version")
    assert (answer.code, answer.out, answer.err) == (0, "raysal 0.1.0\n", "")


def test_nothing_but_one_object_on_stdout(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("embed", "photos", "--encoder", "torch:noisy:build", "--size", 4, "--out", "noisy", "--json")
    program = f"import sys; sys.path.insert(0, {str(home)!r}); from raysal.cli import main; sys.exit(main())"
    monkeypatch.chdir(home)
    answer = Answer(*python(program, *words))
    assert answer.code == 0, answer
    assert answer.out.count("\n") == 1
    assert answer.json["items"] == 4
    for line in ("hello from Python", "hello from a child", "hello from beneath"):
        assert line in answer.err


def test_what_fails_unexpectedly_is_ours(home: Path) -> None:
    program = (
        "import sys, raysal.pool\n"
        "def broken(path):\n    raise ZeroDivisionError('the pool\\nis broken')\n"
        "raysal.pool.open_pool = broken\n"
        "from raysal.cli import main\nsys.exit(main())"
    )
    answer = process("pool", "info", "pool", cwd=home, python=["-c", program])
    assert answer.code == 1
    assert answer.out == ""
    assert answer.err.count("\n") == 1
    assert "ZeroDivisionError: the pool is broken" in answer.err
    assert "--debug" in answer.err
    told = process("pool", "info", "pool", "--json", cwd=home, python=["-c", program])
    assert told.json["type"] == "ZeroDivisionError"
    assert told.json["exit_code"] == told.code == 1
    traced = process("pool", "info", "pool", "--debug", cwd=home, python=["-c", program])
    assert "Traceback (most recent call last)" in traced.err
    assert "in broken" in traced.err


@pytest.mark.parametrize(
    "words",
    [
        ["select", "pool", "-k", "999999"],
        ["select", "pool"],
        ["select", "pool", "-k", "1", "--nope"],
        ["pool", "info", "nope"],
        ["label", "import", "nope", "nope.csv"],
        ["config", "validate", "nope.toml"],
    ],
)
def test_errors_as_json(home: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.chdir(home)
    answer = cli(*words, "--json")
    assert answer.code == 2
    assert answer.out.count("\n") == 1
    assert answer.json["exit_code"] == 2
    assert answer.err == f"raysal: {answer.json['error']}\n"


@deep
def test_a_reader_that_goes_away_is_no_error(home: Path) -> None:
    command = [sys.executable, "-m", "raysal", "select", "pool", "-k", "5000", "--strategy", "random"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, cwd=home, env=environment, check=False)
    os.close(write)
    assert done.returncode == 141
    assert done.stderr == b""


@deep  # test_ending.py has the same of a job that has begun
def test_interrupted_with_a_line_on_how_to_go_on(home: Path) -> None:
    # What is started in the background of a script inherits an ignored SIGINT; the child listens all the same.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    path = f"import sys; sys.path.insert(0, {str(home)!r})"
    program = f"{listen}; {path}; from raysal.cli import main; sys.exit(main())"
    words = ["embed", "photos", "--encoder", "torch:noisy:waiting", "--out", "slow", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", program, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=home,
        env=environment,
    ) as running:
        assert running.stderr is not None
        assert running.stderr.readline() == "ready\n"
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=300)
    assert running.returncode == 130
    assert err.count("\n") == 1
    assert "run the same command again" in err
    assert json.loads(out)["exit_code"] == 130


def test_an_interruption_is_told_apart() -> None:
    def interrupt() -> None:
        with on_interrupt("go on with `raysal resume RUN`"):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        interrupt()
    assert explain(caught.value) == ("interrupted; go on with `raysal resume RUN`", 130)
    assert explain(KeyboardInterrupt())[1] == 130


def test_the_environment_s_errors_name_a_fix() -> None:
    import errno

    message, code = explain(OSError(errno.ENOSPC, "No space left on device", "pool/vectors"))
    assert (message, code) == ("pool/vectors: No space left on device; free some space and run it again", 2)
    message, code = explain(ModuleNotFoundError("No module named 'ray'", name="ray"))
    assert code == 2
    assert "--backend local" in message


def test_json_has_no_numbers_that_json_does_not_have() -> None:
    text = dumps({"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": Path("x")}, "e": (1, None, True)})
    assert json.loads(text) == {"a": None, "b": [None, 1.5], "c": {"d": "x"}, "e": [1, None, True]}
