"""What closed-form updates of the head are worth: five questions, one subcommand each.

    python -m benchmarks.laplace update    # against retraining: time, share of the gain kept
    python -m benchmarks.laplace peer      # against laplace-torch: equal numbers, time, memory
    python -m benchmarks.laplace sweep     # the pass over the pool with variances, against the bare products
    python -m benchmarks.laplace curves    # accuracy per label and seconds per round, updated and retrained
    python -m benchmarks.laplace dmle      # dependency-aware likelihood against the plain one

Each writes a JSON record per cell to --out and prints a table in Markdown; `--help` after a subcommand shows its
options.
"""

from __future__ import annotations

import sys
from importlib import import_module

QUESTIONS = ("curves", "dmle", "peer", "sweep", "update")


def main() -> None:
    """Hand over to the module of the question."""
    if len(sys.argv) < 2 or sys.argv[1] not in QUESTIONS:
        print(__doc__)
        raise SystemExit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    import_module(f"benchmarks.laplace_{sys.argv.pop(1)}").main()


if __name__ == "__main__":
    main()
