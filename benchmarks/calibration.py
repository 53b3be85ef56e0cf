"""How well probabilities are calibrated: the head's best guess, with a fitted temperature, averaged over posteriors.

    python -m benchmarks.calibration

scikit-learn's digits, ten splits each; mean negative log-likelihood (nats) and expected calibration error (15 bins) on
what was not labelled. A minute on one core.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from raysal.models.likelihood import softmax
from raysal.models.measures import judge_classes
from raysal.models.predictive import laplace_bridge, mean_field, monte_carlo
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic

SPLITS, DRAWS = 10, 100
Matrix = NDArray[np.float64]


def ways(x: Matrix, names: list[str], rest: Matrix, classes: list[str], l2: Any) -> Iterator[tuple[str, Matrix]]:
    """Probabilities [n, C] of the rest, by each way to get them."""
    for trainer in (
        Logistic(l2=l2),
        Logistic(l2=l2, temperature="cv"),
        Logistic(l2=l2, curvature="categorical"),
        Logistic(l2=l2, structure="kronecker"),
    ):
        head = trainer.fit(TrainingData(features=x, labels=names, classes=classes))
        outputs, variance = head.logits(rest) / head.temperature, head.variance(rest) / head.temperature**2
        posterior = f"{trainer.structure} {trainer.curvature}" if trainer.structure == "shared" else trainer.structure
        if posterior == "shared gaussian":
            yield ("map, temperature cv" if trainer.temperature == "cv" else "map"), softmax(outputs)
        noise = np.random.default_rng(0).normal(size=(DRAWS, len(classes)))
        if trainer.temperature == 1.0:
            yield f"mean_field, {posterior}", mean_field(outputs, variance)
            yield f"monte_carlo, {posterior}", monte_carlo(outputs, variance, noise)
            yield f"laplace_bridge, {posterior}", laplace_bridge(outputs, variance)


def main() -> None:
    x, y = load_digits(return_X_y=True)
    x, names = x / 16, [str(value) for value in y]
    classes = sorted(set(names))
    for l2 in ("cv", 1.0, 1e-3):
        for labels in (50, 200, 800):
            found: dict[str, list[tuple[float, float]]] = {}
            for seed in range(SPLITS):
                order = np.random.default_rng(seed).permutation(len(x))
                some, rest = order[:labels], order[labels:]
                for way, p in ways(x[some], [names[i] for i in some], x[rest], classes, l2):
                    measures = judge_classes(classes, p, [names[i] for i in rest]).measures
                    numbers = measures["negative_log_likelihood"], measures["expected_calibration_error"]
                    found.setdefault(way, []).append(numbers)
            print(f"l2 {l2}, {labels} labels")
            for way, every in found.items():
                nats, error = np.mean(every, axis=0)
                print(f"  {way:32} {nats:6.3f} nats  {error:6.1%}")


if __name__ == "__main__":
    main()
