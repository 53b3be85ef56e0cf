"""A run of rows of a pool in one process, and the one way to read it: blocks of a fixed shape.

Blocks have one number of rows and an aligned width, and are filled up with zeros, so that products with them keep the
law of `raysal.numerics`: results of a row do not depend, to the last bit, on chunk sizes, partitions or what was
narrowed away.

A program may put a hidden layer between the vectors and their readers (`use_features`). They then read hidden features,
and need not know of the layer. It may also look at owners (`use_owners`): rows are then no parts, but what these are
parts of, and a hidden layer sees the vectors of owners.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.errors import FingerprintMismatch
from raysal.features import DeviceLayer, HiddenLayer, same_layer
from raysal.fleet.owners import Owners
from raysal.fleet.parts import Part, check_ahead, part_of_array, part_of_chunk, parts_between
from raysal.fleet.specs import PartitionSpec, Slice, ids_of_slices, slices_of
from raysal.numerics import BLOCK_ROWS, LAYER_ROWS, AlignedMatrix, round_up
from raysal.pool import Pool
from raysal.types import Metric

Rows = NDArray[np.int64] | Iterator[range]
RESIDENT_SHARE = 0.6
"""Share of a GPU's free memory that the vectors may take, from 0 to 1."""


class Block(NamedTuple):
    """Rows of a partition: positions [n], and features float32 [rows of a block, width], zero beyond n and dim."""

    rows: NDArray[np.int64]
    features: torch.Tensor

    @property
    def n(self) -> int:
        """Number of rows that are not padding."""
        return len(self.rows)


class Partition:
    """Rows of a pool in this process: ids, memory-mapped vectors, and the masks and state of the running program.

    Memory: 8 bytes a row for ids, 4 for squared norms, 2 for the masks. The vectors stay in the page cache. On a GPU
    they are resident, as float16, if they take at most RESIDENT_SHARE of its free memory; else they are streamed to it.
    A further `view` costs its masks and its state. A hidden layer costs one more product, O(n m d), for each reading,
    and 4 bytes a row for the norms of hidden features.

    Attributes:
        index: The partition's number.
        spec: What it was built from.
        slices: The chunks that its rows lie in, and which rows of each.
        metric: The pool's metric.
        device: The torch device of blocks.
        ids: int64 [n], ascending.
        dim: Length of the vectors as they are read.
        width: Columns of a block: `dim`, and padding.
        available: bool [n], False for excluded rows.
        candidate: bool [n], False for rows that were narrowed away.
        state: What the running program keeps here.
        held: What is a function of files alone, such as an index that was read. `reset` leaves it, views share it.
        owners: The owners that rows are; None where rows are items of the pool.
    """

    def __init__(self, spec: PartitionSpec, pool: Pool | None = None) -> None:
        """Open the pool. Its vectors are mapped, and compared with their records, ahead of who reads them.

        Args:
            spec: The rows, the device, and the pool's fingerprint.
            pool: The pool, if it is open already.

        Raises:
            PoolError: The pool cannot be opened.
            FingerprintMismatch: It is not the pool of the spec.
            Damaged: A file is missing, or has another size, or one of items differs from its record. Of vectors that
                differ the first call says so that reads them.
        """
        pool = spec.open_pool() if pool is None else pool
        if spec.fingerprint not in ("", pool.fingerprint):
            fix = "open the pool anew; a service over it is to be stopped and started again"
            raise FingerprintMismatch(pool.path, "the pool's fingerprint", spec.fingerprint, pool.fingerprint, fix)
        slices = slices_of(pool, spec.start, spec.stop)
        vectors = [part_of_chunk(pool.chunks[chunk], low, high) for chunk, low, high in slices]
        check_ahead(vectors)
        self._hold(spec, slices, ids_of_slices(pool, slices), vectors, pool.dim, pool.metric)

    @classmethod
    def of_items(cls, ids: NDArray[np.int64], vectors: NDArray[np.float16], metric: Metric) -> Self:
        """Make one of items in memory, for a program that makes many calls on few of them. It is of no pool.

        Args:
            ids: int64 [n], ascending.
            vectors: float16 [n, dim], as `gather` read them.
            metric: The pool's.

        Returns:
            The partition, on the CPU.
        """
        made = cls.__new__(cls)
        spec = PartitionSpec(index=0, pool="", start=0, stop=len(ids))
        made._hold(spec, [], ids, [part_of_array(vectors)], vectors.shape[1], metric)
        return made

    def _hold(
        self,
        spec: PartitionSpec,
        slices: list[Slice],
        ids: NDArray[np.int64],
        parts: list[Part],
        dim: int,
        metric: Metric,
    ) -> None:
        """Take rows over, and begin a program."""
        self.index, self.spec, self.slices, self.ids, self.metric = spec.index, spec, slices, ids, metric
        self.device = torch.device(spec.device)
        self._pool_dim = dim
        self._parts = self._resident(parts)
        self._starts = np.cumsum([0, *map(len, self._parts)])
        self.held: dict[str, Any] = {}
        self.owners: Owners | None = None
        self.reset()

    def __len__(self) -> int:
        return len(self.ids)

    def reset(self) -> None:
        """Begin a new program: rows are items, none excluded, every one a candidate, no state, no hidden layer."""
        self.use_owners(None)
        self.available: NDArray[np.bool_] = np.ones(len(self.ids), bool)
        self.candidate: NDArray[np.bool_] = self.available.copy()
        self.state: dict[str, Any] = {}
        self.use_features(None)

    def use_features(self, layer: HiddenLayer | None) -> None:
        """Have readers get hidden features in place of vectors, until the next such call or `reset`.

        Args:
            layer: The hidden layer; None for the vectors as they are.

        Raises:
            FingerprintMismatch: The layer takes vectors of another length.
        """
        if layer is not None and self._through is not None and same_layer(self._through.layer, layer):
            return
        if layer is not None and layer.pool_dim != self._pool_dim:
            sizes = f"{layer.pool_dim} numbers", f"{self._pool_dim} numbers"
            raise FingerprintMismatch(self.spec.pool, "the length of its vectors", *sizes, "use the head's own pool")
        self._through: DeviceLayer | None = None if layer is None else DeviceLayer(layer, self.device)
        self._seen_norms: torch.Tensor | None = None
        self.dim = self._pool_dim if layer is None else layer.dim
        """Length of the vectors as they are read."""
        self.width = round_up(self.dim)

    def use_owners(self, owners: Owners | None) -> None:
        """Have rows be owners in place of their parts, until the next such call or `reset`.

        An owner is available if one of its parts is, and a candidate if one is. Masks of owners last where other owners
        of the same parts follow; those of parts come back with the parts.

        Args:
            owners: Of all rows; None for the rows as they are.
        """
        if self.owners is None and owners is not None:
            self._below = copy.copy(self)
            self._below.use_features(None)
            self.available = owners.reduced(self.available, np.logical_or)
            self.candidate = owners.reduced(self.candidate, np.logical_or)
        if self.owners is not None and owners is None:
            parts = self._below
            self.ids, self._parts, self._starts = parts.ids, parts._parts, parts._starts
            self.available, self.candidate = parts.available, parts.candidate
        if owners is not None:
            self.ids, self._parts = owners.ids, [owners.seen(self._below)]
            self._starts = np.array([0, len(owners.ids)])
        self.owners, self._seen_norms = owners, None

    def parts(self) -> Self:
        """Return the parts of the owners that are rows here, with the same state, and the hidden layer if it is used.

        It is another object: what is excluded there stays available here.
        """
        other = copy.copy(self)
        other.use_owners(None)
        return other

    def below(self) -> Self:
        """Return the same rows with the same masks and state, whose readers get vectors below any hidden layer."""
        other = copy.copy(self)
        other.use_features(None)
        return other

    def view(self) -> Self:
        """Return the same rows for another session, which shares data and `held`, but neither masks nor state."""
        other = copy.copy(self)
        other.reset()
        return other

    def _resident(self, parts: list[Part]) -> list[Part]:
        """Move the vectors to the device if they fit there; else return them as they are."""
        if self.device.type != "cuda":
            return parts
        room = RESIDENT_SHARE * torch.cuda.mem_get_info(self.device)[0]
        fits = sum(map(len, parts)) * 2 * self._pool_dim <= room
        return [Part.of(part.rows(slice(None)).to(self.device)) for part in parts] if fits else parts

    def rows_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Find the rows of items.

        Args:
            ids: int64 [m], in any order; those that do not live here are passed over.

        Returns:
            Their positions int64 [at most m], ascending, each once.
        """
        if len(self.ids) == 0:
            return np.empty(0, np.int64)
        place = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
        rows = np.sort(place[self.ids[place] == ids])
        return rows[np.diff(rows, prepend=-1) > 0]  # np.unique loads np.ma first: 10 ms

    def candidates(self) -> NDArray[np.int64]:
        """Return the positions that may be picked, int64, ascending: neither excluded nor narrowed away."""
        return np.flatnonzero(self.available & self.candidate)

    def gather(self, rows: NDArray[np.int64], dtype: type[np.floating] = np.float16) -> NDArray[Any]:
        """Read vectors, or hidden features.

        Args:
            rows: int64 [m], ascending positions.
            dtype: Of the result; the numbers are those of float16.

        Returns:
            [m, dim].
        """
        out = torch.from_numpy(np.empty((len(rows), self.dim), dtype))  # NumPy's memory has large pages
        if self._through is None:
            self.fill(out, rows)
            return out.numpy()
        start = 0
        for block in self.blocks(rows, LAYER_ROWS):
            out[start : start + block.n].copy_(block.features[: block.n, : self.dim].half())
            start += block.n
        return out.numpy()

    def fill(self, out: torch.Tensor, rows: NDArray[np.int64]) -> None:
        """Write the vectors of ascending positions into the first rows and columns of `out`."""
        bounds = np.searchsorted(rows, self._starts)
        for place in np.flatnonzero(np.diff(bounds)):  # not every chunk: there may be thousands, and one row
            low, high = bounds[place : place + 2]
            part, own = self._parts[place], rows[low:high] - self._starts[place]
            neighbours = own[-1] - own[0] == high - low - 1  # they are read where they lie
            index = slice(own[0], own[-1] + 1) if neighbours else torch.from_numpy(own)
            out[low:high, : self._pool_dim].copy_(part.rows(index))

    def aligned(self, rows: NDArray[np.floating], dtype: torch.dtype = torch.float32) -> AlignedMatrix:
        """Lay a matrix out for products with the features of blocks here, as they are read now.

        Args:
            rows: [m, dim].
            dtype: Of the products; features are float32, so for float64 they must be converted first.

        Returns:
            The matrix on the device of the partition, with zeros up to the width of its blocks.
        """
        return AlignedMatrix(rows, dtype, self.device, width=self.width)

    def blocks(self, rows: Rows | None = None, size: int = BLOCK_ROWS) -> Iterator[Block]:
        """Read all rows, or some, in blocks of one shape.

        A caller must always use the same size. The next block overwrites the features of the last one; copy what must
        last.

        Args:
            rows: int64 [m], ascending positions; or runs of them, each of which begins a block; None for all.
            size: Rows of a block, padding included.

        Yields:
            Blocks of `size` rows, in the order of `rows`; the last one is filled up with zeros.
        """
        if self._through is None:
            yield from self._read(rows, torch.zeros(size, self.width, device=self.device))
            return
        whole = round_up(size, LAYER_ROWS)
        vectors = torch.zeros(whole, self._through.width_in, device=self.device)
        seen = torch.zeros(whole, self.width, device=self.device)
        for block in self._read(rows, vectors[:size]):
            for start in range(0, block.n, LAYER_ROWS):
                seen[start : start + LAYER_ROWS] = self._through.see(vectors[start : start + LAYER_ROWS])
            seen[block.n :] = 0
            yield Block(block.rows, seen[:size])

    def _read(self, rows: Rows | None, buffer: torch.Tensor) -> Iterator[Block]:
        """Yield vectors as they are in the files, in blocks as long as `buffer`."""
        if not isinstance(rows, np.ndarray):
            for run in [range(len(self))] if rows is None else rows:
                yield from self._stream(run, buffer)
            return
        size = len(buffer)
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            self.fill(buffer, some)
            buffer[len(some) :] = 0
            yield Block(some, buffer)

    def _stream(self, rows: range, buffer: torch.Tensor) -> Iterator[Block]:
        """Yield consecutive rows in order, converted straight from the mapped files."""
        size = len(buffer)
        for start in range(rows.start, rows.stop, size):
            stop = min(start + size, rows.stop)
            for place, first, last in parts_between(self._starts, start, stop):
                low, high = max(start, first), min(stop, last)
                found = self._parts[place].rows(slice(low - first, high - first))
                buffer[low - start : high - start, : self._pool_dim].copy_(found)
            buffer[stop - start :] = 0
            yield Block(np.arange(start, stop), buffer)

    def sq_norms(self) -> torch.Tensor:
        """Compute the squared Euclidean norms of what is read, in one pass, the first time.

        Norms of vectors of the pool are kept for good, others as long as readers see the same.

        Returns:
            float32 [n], on the device.
        """
        if self._through is not None or self.owners is not None:
            if self._seen_norms is None:
                self._seen_norms = self._measured()
            return self._seen_norms
        if "sq_norms" not in self.held:
            self.held["sq_norms"] = self._measured()
        found: torch.Tensor = self.held["sq_norms"]
        return found

    def _measured(self) -> torch.Tensor:
        """Compute the squared norms, float32 [n], in one pass."""
        norms = torch.empty(len(self), device=self.device)
        for block in self.blocks():
            norms[block.rows[0] : block.rows[-1] + 1] = (block.features * block.features).sum(1)[: block.n]
        return norms


# Functions of a partition that every program uses.


def use_features(partition: Partition, layer: HiddenLayer | None) -> None:
    """Have readers of a partition get hidden features, for the rest of the program; None: vectors as they are."""
    partition.use_features(layer)


def features_of(
    partition: Partition, ids: NDArray[np.int64], layer: HiddenLayer | None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Call `use_features`, then `vectors_of` with what it takes and returns: two calls in one round trip."""
    partition.use_features(layer)
    return vectors_of(partition, ids)


def vectors_of(partition: Partition, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Read the vectors, or hidden features, of items.

    Args:
        partition: Where.
        ids: int64 [m]; those that do not live here are passed over, those that are excluded are not.

    Returns:
        (ids int64 [those here], ascending; float32 [those here, dim]).
    """
    rows = partition.rows_of(ids)
    return partition.ids[rows], partition.gather(rows, np.float32)


def vectors_below(partition: Partition, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """As `vectors_of`, of the vectors themselves where readers get hidden features."""
    return vectors_of(partition.below(), ids)
