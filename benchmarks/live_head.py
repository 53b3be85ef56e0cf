"""How a search follows labels while people give them: a step in closed form for each, beside a new fit.

    python -m benchmarks.live_head POOL --target CLASS [--column label] [--rounds 5] [--json]

The pool has the classes in a column of its items. A search (`raysal.find`) begins with three examples, and batches of
25 are answered one by one. `step` is `Session.current_head(fit=False)` after each label, `fit` is `current_head()`
after the batch, which is the head of the next round. How near they are: of the hundred likeliest items of a uniform
sample of 5,000 by the fit, how many are among the hundred by the steps, and by the head before the batch; and the
correlation of the ranks of all 5,000.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import raysal
from raysal.models.head import Head
from raysal.rounds.gathering import sample_vectors

SAMPLE, TOP, EXAMPLES = 5000, 100, 3


def log_odds_of(head: Head | None, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of `positive` against `negative`, [n]."""
    assert head is not None
    logits = np.asarray(head.logits(x), np.float64)
    return logits[:, head.classes.index("positive")] - logits[:, head.classes.index("negative")]


def ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The place of each value, from the lowest."""
    return values.argsort().argsort()


def near(values: NDArray[np.float64], fit: NDArray[np.float64]) -> tuple[int, float]:
    """How many of the hundred likeliest are those of the fit, and the correlation of ranks with it."""
    best, other = (set((-each).argsort(kind="stable")[:TOP].tolist()) for each in (values, fit))
    return len(best & other), float(np.corrcoef(ranks(values), ranks(fit))[0, 1])


def measure(pool: raysal.Pool, target: str, column: str, rounds: int, out: Path) -> list[dict[str, Any]]:
    """One line for each batch."""
    truth: dict[str, str] = {}
    for table in pool.items(["key", column]):
        truth.update(zip(table["key"].to_pylist(), table[column].to_pylist(), strict=True))
    examples = [key for key, label in truth.items() if label == target][:EXAMPLES]
    lines = []
    with raysal.find(pool, examples=examples, out=out, rounds={"tests": 0.0}) as session:
        x = sample_vectors(session.start_fleet(), pool.dim, 7, SAMPLE)
        assert x is not None
        for _ in range(rounds):
            batch = session.query()
            before, moved, steps = session.current_head(), None, []
            for key in batch.keys:
                session.tell({key: "positive" if truth[key] == target else "negative"})
                started = time.perf_counter()
                moved = session.current_head(fit=False)
                steps.append(time.perf_counter() - started)
            started = time.perf_counter()
            fit = session.current_head()
            took = time.perf_counter() - started
            last = log_odds_of(fit, x)
            by_steps, rank_by_steps = near(log_odds_of(moved, x), last)
            by_before, rank_before = near(log_odds_of(before, x), last)
            lines.append(
                {
                    "labels": len(session.ledger.labels()),
                    "step, ms": round(1e3 * statistics.median(steps), 1),
                    "fit, ms": round(1e3 * took),
                    "fit / step": round(took / statistics.median(steps)),
                    "top 100 by steps": by_steps,
                    "top 100 before": by_before,
                    "ranks by steps": round(rank_by_steps, 4),
                    "ranks before": round(rank_before, 4),
                }
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--target", required=True, help="the class that is looked for")
    parser.add_argument("--column", default="label", help="the column of the items that has the classes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        lines = measure(raysal.open_pool(asked.pool), asked.target, asked.column, asked.rounds, Path(place) / "run")
    for line in lines:
        print(json.dumps(line) if asked.json else ", ".join(f"{name} {value}" for name, value in line.items()))


if __name__ == "__main__":
    main()
