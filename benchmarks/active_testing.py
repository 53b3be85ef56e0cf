"""What test draws say beside uniform labels: errors of estimates, and how often intervals hold the truth.

Pools of 20,000 items with a rare class and a head of known quality; a fifth is held out, and of it n items are drawn by
the rule of `raysal.rounds.testing`, or uniformly. The head may overstate the class, as one does that was fitted on
batches full of it. Run `python -m benchmarks.active_testing` (a minute).
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from raysal.models.active_testing import Sample
from raysal.models.ranking_measures import auroc, average_precision, ranking_measures, top_of_ranking

POOL, HELD = 20_000, 4_000
CASES = ((0.01, 100, 2.5), (0.05, 60, 2.0), (0.05, 400, 2.0), (0.2, 60, 1.5))
"""Prevalence, draws, and how far the scores of the class are from the rest, in standard deviations."""
OVERSTATED = 2.0
"""What is added to the log odds of the class."""


def draw(rng: np.random.Generator, matters: NDArray[np.float64], n: int) -> tuple[NDArray[np.int64], Sample]:
    """Half uniform, half in proportion to what may matter, without replacement."""
    g = matters.sum() + len(matters) * matters
    order = np.argsort(-(np.log(g) + rng.gumbel(size=len(g))))[:n]
    whole = g.sum() - np.concatenate([[0.0], g[order].cumsum()[:-1]])
    left = len(g) - np.arange(n)
    return order, Sample(population=len(g), remaining=left, probability=g[order] / whole, least=g.min() / whole)


def main() -> None:
    """Print a table: measure, truth, root mean squared error and coverage, by uniform labels and by test draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    repeats = parser.parse_args().repeats
    rng = np.random.default_rng(0)
    print("| prevalence, draws | measure | truth | uniform: error | holds | width | drawn: error | holds | width |")
    print("|---|---|---|---|---|---|---|---|---|")
    for share, n, distance in CASES:
        wanted = rng.random(POOL) < share
        scores = rng.normal(size=POOL) + distance * wanted
        odds = distance * scores - distance**2 / 2 + np.log(share / (1 - share)) + OVERSTATED
        top = top_of_ranking(scores, wanted, POOL // 100)
        truth = {
            "prevalence": wanted.mean(),
            "auroc": auroc(scores, wanted),
            "auprc": average_precision(scores, wanted),
        }
        truth |= {"precision_in_top": top.precision, "recall_in_top": top.recall}
        found: dict[tuple[str, bool], list[tuple[float, float, float]]] = {}
        for _ in range(repeats):
            some = rng.choice(POOL, HELD, replace=False)
            for drawn in (False, True):
                matters = 1 / (1 + np.exp(-odds[some])) if drawn else np.ones(HELD)
                order, sample = draw(rng, matters, n)
                own = some[order]
                measures, intervals = ranking_measures(
                    scores[own], wanted[own], scores[some], 25, sample=sample if drawn else None
                )
                for name in truth.keys() & measures.keys():
                    low, high = intervals[name]
                    row = ((measures[name] - truth[name]) ** 2, low <= truth[name] <= high, high - low)
                    found.setdefault((name, drawn), []).append(row)
        for name, value in truth.items():
            cells = []
            for drawn in (False, True):
                error_sq, holds, width = np.mean(found.get((name, drawn), [(np.nan,) * 3]), axis=0)
                cells.append(f"{error_sq**0.5:.3f} | {100 * holds:.0f} % | {width:.2f}")
            print(f"| {100 * share:g} %, {n} | {name} | {value:.3f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
