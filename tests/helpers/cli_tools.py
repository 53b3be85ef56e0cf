"""Running commands in this process, and as a user would."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from raysal.cli import main

ROOT = Path(__file__).resolve().parents[2]


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object that stdout consists of."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


def cli(*words: object) -> Answer:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Answer(code, out.getvalue(), err.getvalue())


def refused(answer: Answer, *parts: str) -> None:
    """The user's mistake: exit code 2, nothing on stdout, one line on stderr that has all the parts."""
    assert answer.code == 2, answer
    assert answer.out == ""
    assert answer.err.startswith("raysal: ")
    assert answer.err.count("\n") == 1
    for part in parts:
        assert part in answer.err


def process(*words: object, python: Sequence[str] = ("-m", "raysal"), **settings: Any) -> Answer:
    """Run a command as a process of its own."""
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, *python, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        **settings,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def write_vectors(path: Path, rows: int = 300, dim: int = 8, classes: int = 3, bad: int = 0) -> Path:
    """A Parquet file of key, vector, label: clusters around `classes` centres; the first `bad` are NaN."""
    rng = np.random.default_rng(7)
    which = rng.integers(classes, size=rows)
    x = (rng.normal(size=(classes, dim)) * 2)[which] + rng.normal(size=(rows, dim))
    x[:bad] = np.nan
    columns = {
        "key": [f"item-{i:04d}" for i in range(rows)],
        "vector": pa.array(list(x.astype(np.float32))),
        "label": [f"class-{c}" for c in which],
    }
    pq.write_table(pa.table(columns), path)
    return path


def write_images(folder: Path, count: int = 24, side: int = 12) -> Path:
    """JPEGs of three colours, in two subfolders."""
    rng = np.random.default_rng(3)
    for i in range(count):
        colour = np.zeros(3)
        colour[i % 3] = 200
        pixels = np.clip(colour + rng.normal(size=(side, side, 3)) * 15, 0, 255).astype(np.uint8)
        path = folder / ("even" if i % 2 == 0 else "odd") / f"{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


def labels_csv(path: Path, count: int = 30, rows: int = 300) -> Path:
    """A label file for the first items of `write_vectors`."""
    source = pq.read_table(write_vectors(path.with_suffix(".source.parquet"), rows=rows), columns=["key", "label"])
    lines = [f"{row['key']},{row['label']}\n" for row in source.slice(0, count).to_pylist()]
    path.write_text("key,label\n" + "".join(lines), encoding="utf-8")
    return path
