"""Processes that cost no imports: they are forked from one that has imported what commands need, and computed nothing.

A process that imports torch takes a second before it does anything. Tests that are about imports, about the start or
about the end of an interpreter take a fresh one.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

IMPORTED = ["torch", "raysal.rounds.arms", "raysal.ranking.job", "raysal.cli", "raysal.api.export"]


class Done(NamedTuple):
    """How a program ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def child(work: Callable[..., object], *args: Any) -> BaseProcess:
    """A process that does work in the environment of now; it is not started. (What it is forked from may be older.)"""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context.Process(target=_here, args=(dict(os.environ), work, args))


def ended(work: Callable[..., object], *args: Any) -> int:
    """Do work in such a process; its exit code, negative if a signal ended it."""
    process = child(work, *args)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def python(program: str, *words: object) -> Done:
    """Run a program as `python -c` does, with these words as its arguments."""
    with TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        code = ended(_run, program, [str(word) for word in words], os.getcwd(), str(out), str(err))
        return Done(code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))


def _here(environment: dict[str, str], work: Callable[..., object], args: tuple[Any, ...]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    work(*args)


def _run(program: str, words: list[str], folder: str, out: str, err: str) -> None:
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    sys.argv = ["-c", *words]
    exec(compile(program, "-c", "exec"), {"__name__": "__main__"})
