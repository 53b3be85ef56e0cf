"""Small real runs: vectors with a class column, chosen by badge beside a random control."""

from __future__ import annotations

from pathlib import Path

from pools import make_pool, mixture

from raysal.config import parse_config
from raysal.rounds.loop import run

EVIL = "<script>alert('key')</script>"
CLASSES = {"class-0": "a & <b>b</b>", "class-1": "$\\frac{1}$", "class-2": "猫"}


def begin(folder: Path, *, rounds: int = 3, k: int = 8, control: bool = True, holdout: float = 0.3) -> Path:
    """A finished run in `folder / "run"` over a pool of hostile keys and class names."""
    vectors, labels = mixture(240, 8, classes=3, seed=1)
    keys = [f"{EVIL}{i:04d}\"'" for i in range(len(vectors))]
    make_pool(folder / "pool", vectors, chunk_rows=100, labels=[CLASSES[label] for label in labels], keys=keys)
    config = parse_config(
        {
            "pool": folder / "pool",
            "fleet": {"backend": "local"},
            "oracle": {"name": "simulated"},
            "rounds": {"count": rounds, "k": k, "holdout": holdout, "control": control},
        }
    )
    run(config, folder / "run")
    return folder / "run"
