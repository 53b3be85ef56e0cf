"""What does it cost to sweep the pool with the posterior's variance, or with its draws, beside the bare products?

    python -m benchmarks.laplace sweep [--rows 1000000] [--features VECTORS.npz] [--out sweep.json] [--quick]

As `benchmarks.sweep`: a head of ten classes rides along with what its posterior adds, and the sweep and bare float32
products of as many columns run in turn. 1.0 means that all but the product is free. Which columns a score adds is up to
it: the variance of every output takes as many as there are features, draws take one for each class and draw.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.features import write_pool
from benchmarks.machine import describe, random_head, random_pool
from benchmarks.sweep import CLASSES, against_bare
from raysal.fleet import LocalFleet, Partition, plan_partitions
from raysal.models.evidence import gather_evidence
from raysal.models.frame import Frame
from raysal.models.head import Head
from raysal.models.trainers.logistic import laplace_posterior
from raysal.pool import Pool
from raysal.scoring.inputs import ProductReader, ScoreInputs, score_inputs
from raysal.scoring.sweep import SweepRequest, sweep

LABELS = 1000
CASES = (
    ("margin", "shared"),
    ("epistemic_variance", "shared"),
    ("epistemic_variance", "kronecker"),
    ("epistemic_variance", "diagonal"),
    ("bald", "shared"),
)
"""score, structure of the posterior"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--features", type=Path, help="of `benchmarks.features`, to mix rows of; default: random rows")
    parser.add_argument("--pools", type=Path, help="where the pool is kept; default: nowhere")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="write everything as JSON")
    parser.add_argument("--quick", action="store_true", help="50,000 rows, two turns")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.repeats = 50_000, 2
    with tempfile.TemporaryDirectory() as folder:
        pool = pool_of(args.pools or Path(folder), args)
        args.dim = pool.dim
        print(describe(args.device), flush=True)
        cases = list(measured(pool, args))
    print("\n".join(table(cases)))
    if args.out:
        about = {"machine": describe(args.device), "rows": args.rows, "dim": args.dim}
        args.out.write_text(json.dumps({**about, "cases": cases}, indent=1))


def pool_of(folder: Path, args: argparse.Namespace) -> Pool:
    if args.features is None:
        return random_pool(folder / f"random-{args.rows}x{args.dim}", args.rows, args.dim)
    return write_pool(folder / f"real-{args.rows}", args.rows, args.features, args.dim)


def measured(pool: Pool, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Each case against the bare products of its own columns."""
    with LocalFleet(plan_partitions(pool, 1, device=args.device)) as fleet:
        for score, structure in CASES:
            head = with_posterior(pool, structure)
            (columns,) = fleet.each(columns_read, score_inputs(head, (score,)))
            request = SweepRequest(scores=(score,), top=1000)
            found = against_bare(partial(sweep, fleet, head, request), columns, args)
            yield {"score": score, "structure": structure, **found}


def columns_read(partition: Partition, inputs: ScoreInputs) -> int:
    """Columns of the product that the inputs of scores take, the logits' included."""
    return len(ProductReader(partition, inputs).weights)


def with_posterior(pool: Pool, structure: Any) -> Head:
    """A random head with the posterior that 1,000 rows of the pool, as labels, leave around it."""
    head = random_head(pool, CLASSES)
    rows = pool.chunks[0].vectors()[:LABELS].astype(np.float64)
    labels = [head.classes[c] for c in head.logits(rows).argmax(1)]
    evidence = gather_evidence(rows, labels, None, head.classes)
    frame = Frame.isotropic(evidence)
    inside, mean = frame.evidence(evidence), frame.inside(head.mean)
    posterior = laplace_posterior(head.likelihood, inside, mean, head.prior, structure, "gaussian", frame)
    return replace(head, posterior=posterior)


def table(cases: list[dict[str, Any]]) -> Iterator[str]:
    """Markdown."""
    yield "| score | posterior | columns | bare products | sweep | rate of the sweep / bare |"
    yield "|---|---|---|---|---|---|"
    for case in cases:
        times = f"{case['bare_s']:.3f} s | {case['sweep_s']:.3f} s"
        yield f"| {case['score']} | {case['structure']} | {case['columns']} | {times} | {case['ratio']:.2f} |"


if __name__ == "__main__":
    main()
