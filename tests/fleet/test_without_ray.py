"""Everything but the Ray fleet works where ray and faiss are not installed."""

from __future__ import annotations

import subprocess
import sys

from pools import make_pool, mixture
from tiers import deep

PROGRAM = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "faiss"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import numpy as np
import raysal
from raysal.config import FleetConfig
from raysal.context import LabelledVectors, RoundContext
from raysal.fleet import open_fleet
from raysal.narrowing import NARROWERS
from raysal.scoring.sweep import Search, SweepRequest, sweep
from raysal.strategies import SELECTORS
from raysal.strategies.base import select

assert all(NARROWERS[name] for name in NARROWERS)
assert all(SELECTORS[name] for name in SELECTORS)
pool = raysal.open_pool(sys.argv[1])
fleet = open_fleet(pool, FleetConfig(backend="local", partitions=2))
x = np.ones((2, 6), np.float32)
assert sweep(fleet, None, SweepRequest(searches=(Search(anchors=x, each=3),))).rows == 50
known = LabelledVectors(ids=np.arange(2), vectors=x, classes=[])
context = RoundContext(head=None, labelled=known, pool=pool, k=4, available=48, key=1)
print(len(select(fleet, SELECTORS["coreset"](), context, 4).ids))
"""


@deep
def test_the_local_fleet_needs_neither_ray_nor_faiss(tmp_path):
    """A process that cannot import them makes a sweep and a selection."""
    x, _ = mixture(50, 6)
    pool = make_pool(tmp_path / "pool", x)
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(pool.path)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "4", done.stderr
