"""What the encoders of torch models share: memory that is kept from batch to batch."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from raysal.embedding.torch_model import freed_memory_kept

MEGABYTES = 96  # more than any block that glibc keeps by itself

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(MEGABYTES << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

before = faults()
with freed_memory_kept():
    first, second, held = faults(), faults(), resident()
print(before, first, second, held - resident())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc has this setting"
)
def test_freed_memory_is_kept_inside_and_given_back_after() -> None:
    """Counted are the pages that the system had to give. Transparent huge pages make them few, but not none."""
    environment = {"PYTHONPATH": ":".join(sys.path), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}
    out = subprocess.run([sys.executable, "-c", FAULTS], env=environment, check=True, capture_output=True, text=True)
    before, first, second, given_back = (int(word) for word in out.stdout.split())
    assert before > 40
    assert first > 40
    assert second <= first // 10
    assert given_back >= 90
