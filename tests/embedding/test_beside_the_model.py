"""What the embed job does so that a model is not held up: its memory stays, and threads beside it give way."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

JOB = """
import os, resource, sys, threading
from dataclasses import dataclass
import numpy as np
from raysal.embedding.job import embed
from raysal.sources.memory import Memory

PRIORITIES, FAULTS = [], []

@dataclass(frozen=True, kw_only=True)
class Watching:
    modality, dim = "image", 3
    def preprocessing(self): return {}
    def fingerprint(self): return "0" * 64
    def prepare(self, key, payload):
        PRIORITIES.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return payload.mean((0, 1))
    def encode(self, prepared):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.ones(96 << 20, np.uint8)  # a layer, larger than any block that glibc keeps by itself
        FAULTS.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        return np.stack(prepared).astype(np.float32)

images = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)
own = os.getpriority(os.PRIO_PROCESS, 0)
embed(Memory(images=list(images), keys=range(40)), Watching(), sys.argv[1], batch_size=5, chunk_rows=20)
assert os.getpriority(os.PRIO_PROCESS, 0) == own
print(own, min(PRIORITIES), FAULTS[0], sorted(FAULTS)[4])
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="only Linux with glibc can do this"
)
def test_memory_stays_from_batch_to_batch_and_decoders_give_way(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": ":".join(sys.path), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}
    command = [sys.executable, "-c", JOB, str(tmp_path / "pool")]
    out = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    own, decoders, first, later = (int(word) for word in out.stdout.split())
    assert decoders == min(19, own + 10)
    assert first > 40
    assert later <= first // 10
