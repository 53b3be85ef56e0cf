"""A command that is ended from outside says so in a line, whenever that is: Ctrl-C with 130, SIGTERM with 143."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import ROOT, cli, write_vectors

from raysal.pool import open_pool

LISTEN = "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
"""A test that runs in the background of a script inherits an ignored SIGINT."""
MAIN = "from raysal.cli import main; sys.exit(main())"
WORD = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
ENDS = sorted(WORD)

WHILE_IMPORTING = """
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Finder())
"""
AFTER_A_CHUNK = """
import raysal.pool.writer as writer
commit, left = writer.PoolWriter.commit, [2]
def counted(self, *args, **more):
    commit(self, *args, **more)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), {number})
writer.PoolWriter.commit = counted
"""


def ended(program: str, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that ends itself in the midst of a command."""
    command = [sys.executable, "-c", LISTEN + program + MAIN, *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


@pytest.mark.parametrize(
    ("number", "name", "how"),
    [
        (signal.SIGINT, "typer", "; nothing was begun: run the same command again"),
        (signal.SIGTERM, "typer", "; nothing was begun: run the same command again"),
        (signal.SIGINT, "raysal.rounds.status", ""),  # in a command that does not say how to go on
        (signal.SIGTERM, "raysal.rounds.status", ""),
    ],
)
def test_while_modules_are_imported(number: signal.Signals, name: str, how: str, tmp_path: Path) -> None:
    done = ended(WHILE_IMPORTING.format(name=name, number=int(number)), "status", "run", "--json", cwd=tmp_path)
    assert done.returncode == 128 + number
    assert done.stderr == f"raysal: {WORD[number]}{how}\n"
    assert json.loads(done.stdout) == {
        "error": f"{WORD[number]}{how}",
        "type": "Interrupted",
        "exit_code": 128 + number,
    }


@pytest.mark.parametrize("number", ENDS)
def test_what_is_committed_stays_and_the_same_command_goes_on(number: signal.Signals, tmp_path: Path) -> None:
    write_vectors(tmp_path / "v.parquet", rows=60)
    words = ("embed", "v.parquet", "--out", "pool", "--chunk-rows", 10)
    done = ended(AFTER_A_CHUNK.format(number=int(number)), *words, cwd=tmp_path)
    assert done.returncode == 128 + number
    assert done.stderr == f"raysal: {WORD[number]}; finished chunks are kept: run the same command again to go on\n"
    assert len(list((tmp_path / "pool" / "commits").glob("*.json"))) == 2
    again = cli("embed", tmp_path / "v.parquet", "--out", tmp_path / "pool", "--chunk-rows", 10, "--json").json
    assert again["embedded"] == 40
    assert len(open_pool(tmp_path / "pool")) == 60


def test_a_sigterm_that_is_to_be_ignored_is(tmp_path: Path) -> None:
    ignored = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    program = ignored + WHILE_IMPORTING.format(name="typer", number=int(signal.SIGTERM))
    assert ended(program, "--version", cwd=tmp_path).returncode == 0


SWALLOWED = """
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "raysal.rounds.loop":
            try:
                os.kill(os.getpid(), {number})
            except KeyboardInterrupt:
                raise AttributeError("half of it is imported")
sys.meta_path.insert(0, Finder())
"""
AS_IT_ENDS = """
import atexit
import raysal.cli as cli
real = cli.listen
cli.listen = lambda: (real(), atexit.register(os.kill, os.getpid(), {number}))
"""
AS_THE_INTERPRETER_GOES = """
class Late:
    def __del__(self, kill=os.kill, own=os.getpid()):
        kill(own, {number})
sys.late = Late()
"""


@pytest.mark.parametrize("number", ENDS)
def test_a_library_that_makes_another_error_of_the_signal(number: signal.Signals, tmp_path: Path) -> None:
    done = ended(SWALLOWED.format(number=int(number)), "resume", "run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        128 + number, f"raysal: {WORD[number]}; go on with `raysal resume run`\n",
    )  # fmt: skip


@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize(
    ("program", "late"),
    [(AS_IT_ENDS, False), (AS_THE_INTERPRETER_GOES, True)],
)
def test_after_the_answer(number: signal.Signals, program: str, late: bool, tmp_path: Path) -> None:
    """Never by the signal itself: as what a command leaves behind ends, or as the interpreter goes."""
    done = ended(program.format(number=int(number)), "--version", cwd=tmp_path)
    assert done.returncode == (0 if late else 128 + number)
    assert done.stdout.startswith("raysal ")


@pytest.mark.parametrize("number", ENDS)
def test_a_page_that_is_not_there_yet(number: signal.Signals, tmp_path: Path) -> None:
    done = ended(WHILE_IMPORTING.format(name="raysal.web.server", number=int(number)), "serve", "run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        128 + number, f"raysal: {WORD[number]}; nothing is lost: run the same command again\n",
    )  # fmt: skip
