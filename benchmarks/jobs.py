"""Experiments of many jobs, each of which leaves a record: done once, in processes of one thread, whatever fails."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Protocol, TypeVar

from raysal.store import read_sealed, write_sealed

ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Job(Protocol):
    """One cell of an experiment."""

    @property
    def path(self) -> Path:
        """Where its record lies."""
        ...

    @property
    def title(self) -> str:
        """What it is called while it runs."""
        ...

    def settings(self) -> dict[str, Any]:
        """All that its numbers depend on, but for the code."""
        ...


J = TypeVar("J", bound=Job)


def record_of(job: Job) -> dict[str, Any] | None:
    """The record of a job done before with the same settings."""
    if not job.path.exists():
        return None
    found = read_sealed(job.path, "delete it and run again")
    return found if found["settings"] == job.settings() else None


def work(run: Callable[[J], Mapping[str, Any]], job: J) -> str:
    """Do a job and write its record; returns what went wrong, or nothing."""
    try:
        numbers = run(job)
        job.path.parent.mkdir(parents=True, exist_ok=True)
        write_sealed(job.path, {"settings": job.settings(), **numbers})
    except Exception:
        return traceback.format_exc()
    return ""


def run_all(jobs: Sequence[J], run: Callable[[J], Mapping[str, Any]], processes: int) -> int:
    """Do what is not done yet, saying what is; returns how many jobs failed. A failed job does not stop the others.

    `run` is a function of a module: it travels by name.
    """
    todo = [job for job in jobs if record_of(job) is None]
    say(f"{len(jobs)} jobs, {len(jobs) - len(todo)} done before")
    failed, started = 0, time.perf_counter()
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as executor:
        running = {executor.submit(work, run, job): job for job in todo}
        for count, future in enumerate(as_completed(running), 1):
            problem = future.result()
            failed += bool(problem)
            seconds = time.perf_counter() - started
            say(f"{count}/{len(todo)} {running[future].title}: {problem or 'done'} ({seconds:.0f} s)")
    return failed


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
