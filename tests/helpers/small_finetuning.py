"""A folder of small pictures of three kinds, a pool of them, a run with labels, and trainings of a few steps."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from warm import ended

import raysal
from raysal.config import Choice
from raysal.embedding import ENCODERS
from raysal.finetuning import FixMatch
from raysal.finetuning.job import FineTuneReport, finetune
from raysal.rounds.run_labels import RunLabels

SIZE = 16
ENCODER = {"name": "torch:tiny_models:with_norms", "size": SIZE}
KINDS = ("bars", "dots", "noise")
QUICK: dict[str, Any] = {"steps": 6, "batch_size": 6, "ratio": 2, "average_steps": 2, "sample": 40, "cutoff": 0.5}
QUICK["floor"] = 0.4  # so that what was learnt of unlabelled pictures decides, too


def picture(kind: str, seed: int) -> Image.Image:
    """One picture of 20 pixels square."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 60, (20, 20, 3))
    if kind == "bars":
        pixels[rng.integers(4) :: 4] += 150
    elif kind == "dots":
        pixels[rng.integers(3) :: 3, rng.integers(3) :: 3] += 190
    return Image.fromarray(pixels.astype(np.uint8))


def make_pictures(folder: Path, count: int = 60) -> dict[str, str]:
    """Write pictures; {key: kind}."""
    folder.mkdir(parents=True)
    truth = {}
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        key = f"{number:03d}.png"
        picture(kind, number).save(folder / key)
        truth[key] = kind
    return truth


def make_run(home: Path, count: int = 60, labels: int = 18, **config: Any) -> dict[str, str]:
    """Pictures in home/photos, their pool in home/pool, and labels of the first ones in home/run; {key: kind}."""
    truth = make_pictures(home / "photos", count)
    raysal.embed(home / "photos", ENCODER, out=home / "pool", chunk_rows=25)
    raysal.Session(home / "run", pool=home / "pool", fleet={"backend": "local"}, **config).close()
    with RunLabels.open(home / "run") as told:
        told.tell(dict(list(truth.items())[:labels]))
    return truth


def quick(home: Path, out: Path, **fields: Any) -> FineTuneReport:
    """Train for a few steps on one thread."""
    job = {
        name: fields.pop(name) for name in ("encoder", "source", "max_lost", "save_every", "threads") if name in fields
    }
    encoder = job.pop("encoder", None)
    if isinstance(encoder, str | dict):
        encoder = Choice.model_validate(encoder).build("encoder", ENCODERS)
    given = {"save_every": 2, "threads": 1, **job}
    return finetune(home / "run", out, FixMatch(**{**QUICK, **fields}), encoder=encoder, **given)


def files_of(out: Path) -> dict[str, bytes]:
    """The bytes of every file of a model."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def killed(home: Path, out: Path, renames: int) -> None:
    """Begin a training in a process that is killed before its nth rename in `out`."""
    code = ended(_until, home, out, renames)
    assert code == -signal.SIGKILL, f"ended with {code} before rename {renames}"


def _until(home: Path, out: Path, renames: int) -> None:
    left = renames

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if event == "os.rename" and str(out) in str(args[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    quick(home, out)
