"""Seconds of a round of a search, on a pool that is there: `python -m benchmarks.search_round POOL [--rounds 3]`.

The search (`raysal.find`) begins with the first three items as examples, and every answer is no find. To compare two
builds, run it from a checkout of each, one after the other: `PYTHONPATH=CHECKOUT python benchmarks/search_round.py`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import raysal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    pool = raysal.open_pool(asked.pool)
    first = next(iter(pool.items(["key"])))["key"].to_pylist()[:3]
    with tempfile.TemporaryDirectory() as place, raysal.find(pool, examples=first, out=Path(place) / "run") as session:
        for number in range(asked.rounds):
            started = time.perf_counter()
            batch = session.query()
            print(f"round {number}: {time.perf_counter() - started:.2f} s")
            session.tell(dict.fromkeys(batch.keys, "negative"))


if __name__ == "__main__":
    main()
