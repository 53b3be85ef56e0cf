"""The files of a tree of clusters, in the folder of a step: centroids as they move, and the tree when it is done.

    going.json          how often the centroids of which file were moved (sealed)
    centroids-3.arrow   the centroids after the third time; only the last file is kept
    tree.json           the digests of the files (sealed)
    items.arrow         of each item that was left, in order of id: its cluster, and the squared distance to it
    level-1.arrow       of each cluster of the first level the cluster of the second one, and so on

Both records name what the tree is of. What is of something else is not read, and replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import array_of, numbers_of
from raysal.store import check_bytes, digest_of, read_sealed, remove_temporaries, sha256_of, write_file, write_sealed

VERSION = 1
GOING, TREE, ITEMS = "going.json", "tree.json", "items.arrow"
FIX = "delete {}, and run the same command again"


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Clusters of items, clusters of clusters, and so on."""

    cluster: NDArray[np.int64]
    """of each item [n]"""
    sq_distance: NDArray[np.float32]
    """of each item to the centroid of its cluster [n]"""
    parents: tuple[NDArray[np.int64], ...]
    """of each cluster of a level, the cluster of the next level; none of the last"""

    def levels(self) -> list[NDArray[np.int64]]:
        """The cluster of each item at each level, [n] each, the outermost first."""
        found = [self.cluster]
        for parent in self.parents:
            found.append(parent[found[-1]])
        return found[::-1]


@dataclass(frozen=True)
class TreeFiles:
    """The files of one tree."""

    folder: Path
    of: str
    """digest of what the tree is of"""

    @classmethod
    def open(cls, folder: Path, of: Mapping[str, Any]) -> TreeFiles:
        """Look into a folder.

        Args:
            folder: where it is; it exists.
            of: all that the tree depends on, as JSON.

        Returns:
            The files, of which none needs to be there.
        """
        remove_temporaries(folder)
        return cls(folder, digest_of({"version": VERSION, **of}))

    def tree(self) -> Tree | None:
        """Read the tree.

        Returns:
            The tree; None where it is not done, or the files are of another one.

        Raises:
            Damaged: a file is not as it was written.
        """
        record = self._record(TREE)
        if record is None:
            return None
        levels = [f"level-{level}.arrow" for level in range(1, len(record["files"]))]
        items = self._read(ITEMS, record["files"][ITEMS])
        parents = tuple(self._read(name, record["files"][name])["parent"] for name in levels)
        return Tree(cluster=items["cluster"].astype(np.int64), sq_distance=items["sq_distance"], parents=parents)

    def write_tree(self, tree: Tree) -> None:
        """Write the tree, and delete the centroids on the way to it.

        Args:
            tree: that is done.
        """
        (self.folder / TREE).unlink(missing_ok=True)
        columns = {
            "cluster": array_of(tree.cluster.astype(np.int32), pa.int32()),
            "sq_distance": array_of(tree.sq_distance, pa.float32()),
        }
        files = {ITEMS: self._write(ITEMS, columns)}
        for level, parent in enumerate(tree.parents, 1):
            name = f"level-{level}.arrow"
            files[name] = self._write(name, {"parent": array_of(parent, pa.int64())})
        write_sealed(self.folder / TREE, {"of": self.of, "files": files})
        (self.folder / GOING).unlink(missing_ok=True)
        self._forget_centroids()

    def centroids(self) -> tuple[int, NDArray[np.float32]] | None:
        """Read how far the centroids are.

        Returns:
            How often they were moved, and where they are [k, d]; None where there are none of this tree.

        Raises:
            Damaged: a file is not as it was written.
        """
        record = self._record(GOING)
        if record is None:
            return None
        values = self._read(record["file"], record["sha256_of_file"])["value"]
        return int(record["done"]), np.array(values.reshape(-1, record["dim"]))

    def write_centroids(self, done: int, centroids: NDArray[np.float32]) -> None:
        """Write how far the centroids are.

        Args:
            done: how often they were moved.
            centroids: where they are [k, d].
        """
        name = f"centroids-{done}.arrow"
        sha256 = self._write(name, {"value": array_of(centroids.ravel(), pa.float32())})
        record = {"of": self.of, "done": done, "file": name, "sha256_of_file": sha256, "dim": centroids.shape[1]}
        write_sealed(self.folder / GOING, record)
        self._forget_centroids(name)

    def _record(self, name: str) -> dict[str, Any] | None:
        path = self.folder / name
        record = read_sealed(path, FIX.format(self.folder)) if path.exists() else None
        return record if record is not None and record["of"] == self.of else None

    def _forget_centroids(self, but: str = "") -> None:
        for path in self.folder.glob("centroids-*.arrow"):
            if path.name != but:
                path.unlink()

    def _write(self, name: str, columns: dict[str, pa.Array]) -> str:
        batch = pa.record_batch(columns)

        def write(path: Path) -> None:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
                writer.write_batch(batch)

        write_file(self.folder / name, write)
        return sha256_of(self.folder / name)

    def _read(self, name: str, sha256: str) -> dict[str, NDArray[Any]]:
        path = self.folder / name
        check_bytes(path, sha256, FIX.format(self.folder))
        with pa.OSFile(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
        return {column: numbers_of(table[column]) for column in table.column_names}
