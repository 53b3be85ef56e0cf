"""Cells of `benchmarks.suite`: commands as a whole, from the start of the process to its end.

This process imports nothing large: Linux counts what the parent of a command holds when it is started as held by the
command, so that its peak would be ours.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.suite_rows import CannotMeasure, Numbers, Setting, alone

PASS = ["-c", "pass"]
IMPORT_TORCH = ["-c", "import torch"]


def command(*words: str, cwd: Path, expect: int = 0) -> tuple[float, float]:
    """(seconds, peak MB) of a Python command."""
    with (cwd / "stderr").open("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-P", *words], cwd=cwd, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != expect:
            errors.seek(0)
            last = errors.read().strip().splitlines()
            raise CannotMeasure(f"`{' '.join(words)[:80]}` ended with {process.returncode}: {''.join(last[-1:])[:150]}")
    return seconds, used.ru_maxrss / 1024


def made(setting: Setting) -> str:
    """A pool of 10,000 items and a run of this build over it; returns the pool's path."""
    rows, dim = setting.sized(10_000, 500), setting.sized(1280, 32)
    path = alone("benchmarks.suite_rows_selection:small_run", setting.shared, setting.own, rows, dim)["pool"]
    return str(path)


def commands(setting: Setting) -> Numbers:
    """Whole commands, in turn with the start of Python and `import torch`."""
    pool = made(setting)
    raysal = ("-m", "raysal")
    words: dict[str, Sequence[str]] = {
        "python": PASS,
        "torch": IMPORT_TORCH,
        "help": (*raysal, "--help"),
        "pool_info": (*raysal, "pool", "info", pool),
        "status": (*raysal, "status", "run"),
        "label_import": (*raysal, "label", "import", "run", "new.csv"),
        "label_export": (*raysal, "label", "export", "run", "-o", "labels.csv", "--force"),
        "select": (*raysal, "select", pool, "-k", "20", "--strategy", "coreset"),
    }
    found = timed(words, setting)
    for name in ("help", "pool_info", "status", "label_import", "label_export"):
        found[name] = found[f"{name}_s"] / found["python_s"]
    found["select"] = found["select_s"] / found["torch_s"]
    return found


def timed(words: Mapping[str, Sequence[str]], setting: Setting) -> Numbers:
    """Median seconds and most MB of each command, all in turn, thrice after one turn that warms up (--quick: once). A
    run that is labelled is put back before each turn."""
    cwd, warm_up = setting.own, setting.size != "quick"
    seconds: dict[str, list[float]] = {name: [] for name in words}
    peaks: dict[str, float] = dict.fromkeys(words, 0.0)
    if (cwd / "run").exists() and not (cwd / "run.kept").exists():
        shutil.copytree(cwd / "run", cwd / "run.kept")
    for turn in range(4 if warm_up else 1):
        if (cwd / "run.kept").exists():
            shutil.rmtree(cwd / "run")
            shutil.copytree(cwd / "run.kept", cwd / "run")
        for name, own in words.items():
            took, peak = command(*own, cwd=cwd)
            if turn or not warm_up:
                seconds[name].append(took)
                peaks[name] = max(peaks[name], peak)
    found: Numbers = {f"{name}_s": statistics.median(own) for name, own in seconds.items()}
    return found | {f"{name}_mb": peak for name, peak in peaks.items()}


def first_select(setting: Setting) -> Numbers:
    """What a script waits for until it has its first batch, beside `import torch`."""
    pool = made(setting)
    select = f"import raysal; raysal.select({pool!r}, k=20, strategy='random')"
    badge = f"import raysal; raysal.select({pool!r}, k=20, labels='run')"
    words = {
        "torch": IMPORT_TORCH,
        "import": ["-c", "import raysal"],
        "first": ["-c", select],
        "badge": ["-c", badge],
    }
    found = timed(words, setting)
    for name, ratio in (("first", "torches"), ("badge", "badge_torches")):
        found[ratio] = found[f"{name}_s"] / found["torch_s"]
    return found


def demo(setting: Setting) -> Numbers:
    """The demo, and the demo once more where it is finished. Needs Ray."""
    from importlib.util import find_spec

    for package in ("ray", "efficientnet_lite_pytorch"):
        if find_spec(package) is None:
            raise CannotMeasure(f"{package} is not installed; `make setup` brings it")
    if setting.size == "quick":
        raise CannotMeasure("there is no small demo")
    out, own = setting.own / "demo", setting.own
    shutil.rmtree(out, ignore_errors=True)
    words = ("-m", "raysal", "demo", "--out", str(out))
    torch_s = statistics.median(command(*IMPORT_TORCH, cwd=own)[0] for _ in range(3))
    demo_s, demo_mb = command(*words, cwd=own)
    again_s, again_mb = command(*words, cwd=own)
    config = json.loads((out / "pool" / "pool.json").read_text())
    return {
        "demo_s": demo_s, "demo_mb": demo_mb, "again_s": again_s, "again_mb": again_mb, "torch_s": torch_s,
        "demo": demo_s / torch_s, "again": again_s / torch_s, "items": config["items"],
    }  # fmt: skip
