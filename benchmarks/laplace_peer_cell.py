"""One cell of `benchmarks.laplace_peer`: `python laplace_peer_cell.py TOOL STRUCTURE DTYPE FOLDER` prints JSON, a line
after each stage.

Runs in the environment of the tool, so it imports numpy and nothing else until it knows the tool. FOLDER holds
problem.npz: x [n, D] and test [m, D] float64 with the constant feature last, labels [n], weight [C, D], prior. A tool
builds the posterior around these weights (fit), once more with one label more (update), and gives mean and variance of
every output of the test rows (predict), which are written beside the problem.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

GIGABYTE = 2**30
ENOUGH = 10.0
"""Seconds after which no further batch of test rows is begun; the time of all of them is then extrapolated."""


class Problem(NamedTuple):
    """The arrays of FOLDER; the last of x is the label that comes later."""

    x: NDArray[Any]
    labels: NDArray[np.int64]
    test: NDArray[Any]
    weight: NDArray[Any]
    prior: float

    def tiny(self) -> Problem:
        """Of two classes and three features, to make a tool load what it needs."""
        x, test, weight = (np.ascontiguousarray(part[:, -3:]) for part in (self.x[:20], self.test[:2], self.weight[:2]))
        return Problem(x, self.labels[:20] % 2, test, weight, self.prior)

    def batch(self, numbers: int) -> int:
        """Rows of which arrays of so many `numbers` each take half a gigabyte, one at least."""
        return int(max(GIGABYTE // 2 // (numbers * self.x.itemsize), 1))


Tool = tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any, NDArray[Any]], tuple[Any, Any]], int]
"""fit() -> posterior; update(posterior) -> posterior; predict(posterior, rows) -> (means, variances); rows at a time"""


def laplace_torch(problem: Problem, structure: str, dtype: str, backpack: bool = False) -> Tool:
    """Last layer, by the backend that it takes by default, or by BackPACK, which knows a quick way for diag. A new
    label means a new fit: its last-layer classes refuse to accumulate. All kinds but diag form the Jacobian of every
    row that they predict, so they are given as few rows at once as they can hold; so is diag's fit by the first
    backend, which does the same."""
    import torch
    from laplace import Laplace  # type: ignore[import-not-found]
    from laplace.curvature import BackPackGGN  # type: ignore[import-not-found]
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_default_dtype({"float32": torch.float32, "float64": torch.float64}[dtype])
    outputs, dim = problem.weight.shape
    layer = torch.nn.Linear(dim, outputs, bias=False)
    layer.weight.data = torch.from_numpy(problem.weight)
    model = torch.nn.Sequential(torch.nn.Identity(), layer)
    jacobians, roots = problem.batch(outputs * outputs * dim), problem.batch(outputs * outputs)
    at_once = len(problem.x) if structure != "diag" else roots if backpack else jacobians

    def fit(count: int = len(problem.x) - 1) -> Any:
        posterior = Laplace(
            model,
            "classification",
            subset_of_weights="last_layer",
            hessian_structure=structure,
            prior_precision=problem.prior,
            **({"backend": BackPackGGN} if backpack else {}),
        )
        data = TensorDataset(torch.from_numpy(problem.x[:count]), torch.from_numpy(problem.labels[:count]))
        posterior.fit(DataLoader(data, batch_size=at_once))
        return posterior

    def predict(posterior: Any, test: NDArray[Any]) -> tuple[Any, Any]:
        with torch.no_grad():
            mean, variance = posterior._glm_predictive_distribution(torch.from_numpy(test), diagonal_output=True)
        return mean.numpy(), variance.numpy()

    return fit, lambda _: fit(len(problem.x)), predict, len(problem.test) if structure == "diag" else jacobians


def raysal(problem: Problem, structure: str, dtype: str) -> Tool:
    """Always float64. An update is the step of the mean as well as the evidence. Time to predict includes the
    eigenvectors of kron, once. The prior is on the weights as they are, without a frame, as that of the other tools."""
    from raysal.models.evidence import gather_evidence
    from raysal.models.head import Head
    from raysal.models.likelihood import SOFTMAX, Curvature
    from raysal.models.online.update import update
    from raysal.models.posterior import GAUSSIANS

    del dtype
    names = [f"class-{c:04d}" for c in range(len(problem.weight))]
    kind = {"full": "full", "kron": "kronecker", "diag": "diagonal", "shared": "shared"}[structure]
    features, answers = problem.x[:, :-1], [names[c] for c in problem.labels]
    evidence = gather_evidence(features[:-1], answers[:-1], None, names)

    def fit() -> Head:
        predicted = SOFTMAX.responses(evidence.rows @ problem.weight.T)
        curvature = Curvature(SOFTMAX, predicted, evidence.weights)
        return Head(
            classes=tuple(names),
            mean=problem.weight,
            posterior=GAUSSIANS[kind].fit(evidence.rows, curvature, problem.prior, len(names)),
            linearised_at=problem.weight,
            prior=problem.prior,
            encoder="",
            version=0,
            labels_seen=len(evidence),
            fitted_on=len(evidence),
            ledger_seq=0,
        )

    def predict(head: Head, test: NDArray[Any]) -> tuple[Any, Any]:
        variance = head.variance(test[:, :-1])
        return head.logits(test[:, :-1]), np.broadcast_to(variance, (len(test), len(names)))

    return fit, lambda head: update(head, features[-1:], answers[-1:], ledger_seq=1), predict, len(problem.test)


TOOLS: dict[str, Callable[[Problem, str, str], Tool]] = {
    "laplace-torch": laplace_torch,
    "laplace-torch-backpack": partial(laplace_torch, backpack=True),
    "raysal": raysal,
}


def measure(tool: str, structure: str, dtype: str, folder: Path) -> dict[str, Any]:
    with np.load(folder / "problem.npz") as arrays:
        floats = [arrays[name].astype(dtype) for name in ("x", "test", "weight")]
        problem = Problem(floats[0], arrays["labels"], floats[1], floats[2], float(arrays["prior"]))
    fit, update, predict, _ = TOOLS[tool](problem.tiny(), structure, dtype)
    predict(update(fit()), problem.tiny().test)
    fit, update, predict, at_once = TOOLS[tool](problem, structure, dtype)
    held = resident_mb("VmRSS")
    found: dict[str, Any] = {"version": version(tool.removesuffix("-backpack")), "held_mb": held}

    def so_far(**more: Any) -> None:
        """A line after every stage: should the next one be stopped, this one is known."""
        print(json.dumps(found | more | {"peak_mb": resident_mb("VmHWM")}), flush=True)
        found.update(more)

    so_far()
    start = time.perf_counter()
    posterior = fit()
    so_far(fit_s=time.perf_counter() - start, fit_peak_mb=resident_mb("VmHWM"))
    parts: list[tuple[Any, Any]] = []
    done, start = 0, time.perf_counter()
    while done < len(problem.test) and (not done or time.perf_counter() - start < ENOUGH):
        parts.append(predict(posterior, problem.test[done : done + at_once]))
        done = min(done + at_once, len(problem.test))
    seconds = (time.perf_counter() - start) * len(problem.test) / done
    means, variances = (np.concatenate(part) for part in zip(*parts, strict=True))
    np.savez(folder / f"{tool}-{structure}-{dtype}.npz", means=means, variances=variances)
    so_far(predict_s=seconds, predicted=done, at_once=at_once)
    start = time.perf_counter()
    update(posterior)
    so_far(update_s=time.perf_counter() - start)
    return found


def resident_mb(field: str) -> float:
    """VmRSS or VmHWM of this process. Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def main() -> None:
    warnings.simplefilter("ignore")
    try:
        tool, structure, dtype, folder = sys.argv[1:]
        measure(tool, structure, dtype, Path(folder))
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}))


if __name__ == "__main__":
    main()
