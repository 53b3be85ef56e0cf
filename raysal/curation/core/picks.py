"""Picks that were made so far, stored while the greedy choice goes on, in the order in which they were made.

    WORK/picks-DIGEST/00000.arrow   picks of the first minute or so: id, sq_distance
    WORK/picks-DIGEST/00000.json    its record

The digest is of all that decides the picks, but for how many there are to be: picks(k) are a prefix of picks(k + 1). So
what was interrupted goes on, and a larger number of picks begins with those of a smaller one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import array_of, numbers_of
from raysal.commits import Parts, Staged, stage_file
from raysal.store import digest_of

FILE, RECORD = "{:05d}.arrow", "{:05d}.json"


@dataclass
class StoredPicks:
    """The picks in a folder."""

    parts: Parts
    ids: NDArray[np.int64]
    """[m], in pick order"""
    sq_distances: NDArray[np.float64]
    """[m], to what was kept before each; inf for a first one"""
    count: int
    """of the parts"""

    @classmethod
    def of(cls, work: Path, what: Mapping[str, Any]) -> Self:
        """Read what is there.

        Args:
            work: the folder of the step.
            what: all that decides the picks, but for their number, as JSON.

        Returns:
            The picks; none of them is made yet if nothing is there.

        Raises:
            Damaged: a file is not as it was written.
        """
        folder = work / f"picks-{digest_of(what)[:16]}"
        parts = Parts(folder, (FILE,), RECORD, f"delete {folder}, and run the same command again")
        parts.begin()
        ids, sq_distances, count = [np.empty(0, np.int64)], [np.empty(0)], 0
        while parts.record_of(count).exists():
            parts.check(count)
            with pa.memory_map(str(folder / FILE.format(count))) as source:
                batch = pa.ipc.open_file(source).get_batch(0)
                ids.append(numbers_of(batch.column("id")).copy())
                sq_distances.append(numbers_of(batch.column("sq_distance")).copy())
            count += 1
        return cls(parts, np.concatenate(ids), np.concatenate(sq_distances), count)

    def append(self, ids: NDArray[np.int64], sq_distances: NDArray[np.float64]) -> None:
        """Keep further picks.

        Args:
            ids: of the picks [n], in pick order.
            sq_distances: to what was kept before each, [n].
        """
        batch = pa.record_batch(
            {"id": array_of(ids, pa.int64()), "sq_distance": array_of(sq_distances, pa.float64())}
        )  # fmt: skip

        def write(path: Path) -> None:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
                writer.write_batch(batch)

        file = stage_file(self.parts.out, FILE.format(self.count), write)
        self.parts.commit(Staged(self.count, len(ids), (file,)))
        self.ids = np.concatenate([self.ids, ids])
        self.sq_distances = np.concatenate([self.sq_distances, sq_distances])
        self.count += 1
