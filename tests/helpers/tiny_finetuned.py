"""A directory of a fine-tuned model that was never trained, for tests of what reads one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny_models import DIM

from raysal.embedding.custom import Torch
from raysal.finetuning.checkpoint import write_model
from raysal.finetuning.network import Network


def write_tiny_model(out: Path, make: str) -> Path:
    """Write the model of the network that `torch:tiny_models:MAKE` builds, for 16 pixels and the classes a and b."""
    out.mkdir(parents=True)
    config = {"size": 16, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    encoder = Torch(arg=f"tiny_models:{make}", size=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    network = Network(encoder.backbone(), np.ones((2, DIM + 1)), "cpu", 0.0)
    write_model(out, network, ("a", "b"), {"name": f"torch:tiny_models:{make}", "config": config}, {})
    return out
