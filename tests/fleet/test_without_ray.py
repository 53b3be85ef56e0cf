"""Everything but the Ray fleet works where ray and faiss are not installed."""

from __future__ import annotations

import subprocess
import sys

from conftest import make_pool, mixture

PROGRAM = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "faiss"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import raysal
from raysal.config import FleetConfig
from raysal.fleet import open_fleet
from raysal.narrow import NARROWERS
from raysal.select import SELECTORS, Task
from raysal.strategies.base import select
from raysal.sweep import Search, SweepRequest, sweep
import numpy as np

fleet = open_fleet(raysal.open_pool(sys.argv[1]), FleetConfig(backend="local", partitions=2))
x = np.ones((2, 6), np.float32)
assert sweep(fleet, None, SweepRequest(searches=(Search(anchors=x, each=3),))).rows == 50
print(len(select(fleet, SELECTORS["coreset"](), Task(head=None, labelled=x, key=1), 4).ids))
"""


def test_the_local_fleet_needs_neither_ray_nor_faiss(tmp_path):
    x, _ = mixture(50, 6)
    pool = make_pool(tmp_path / "pool", x)
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(pool.path)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "4", done.stderr
