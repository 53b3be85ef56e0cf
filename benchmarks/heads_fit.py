"""Fits heads for `benchmarks.heads` with the code of any build of raysal: a program of its own, run from a checkout.

It reads pickled requests from its input and writes a pickled answer to each. It imports nothing but what every build
has had under the same names.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Fitted(NamedTuple):
    """A head, in numbers that every build has."""

    weight: NDArray[np.float64]
    """[C, d]"""
    bias: NDArray[np.float64]
    """[C]"""
    temperature: float
    prior: float
    """The penalty, in the unit of its build."""
    seconds: float
    """CPU time of the fit."""


class Build:
    """A process that fits heads with the code of a checkout, on one thread."""

    def __init__(self, tree: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(tree.resolve()), "PYTHONWARNINGS": "ignore"}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=tree,
            env=environment,
        )

    def fit(
        self,
        features: NDArray[Any],
        classes: NDArray[np.int64],
        seed: int,
        asked: NDArray[np.int64] | None = None,
        **options: Any,
    ) -> Fitted:
        """The head of labelled items; `classes` [n] in 0 .. C - 1, each of which has an item.

        As a run does, it tells the trainer which round asked for each label, -1 for none (`asked` [n]).
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump((features, classes, seed, asked, options), self._process.stdin)
        self._process.stdin.flush()
        return Fitted(*pickle.load(self._process.stdout))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    from raysal.models.trainers.base import Context, TrainingData
    from raysal.models.trainers.logistic import Logistic

    while True:
        try:
            features, classes, seed, asked, options = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        names = [f"class-{c:03d}" for c in range(int(classes.max()) + 1)]
        labels = [names[c] for c in classes]
        started = time.process_time()
        data = TrainingData(features=features, labels=labels, classes=names, seed=seed, context=Context(rounds=asked))
        head = Logistic(**options).fit(data)
        seconds = time.process_time() - started
        pickle.dump((head.weight, head.bias, head.temperature, float(head.prior), seconds), answers)
        answers.flush()


if __name__ == "__main__":
    main()
