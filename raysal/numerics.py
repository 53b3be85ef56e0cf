"""Products and sums whose bits do not depend on threads, blocks and partitions: sizes, padded matrices, thread limits.

The law: what is computed of a row depends on that row alone, to the last bit. It does not depend on the place of the
row in a block, on the rows beside it, on how the pool is cut into chunks and partitions, or on the number of threads.
Picks are then the same for any number of workers, ties included. tests/test_numerics.py holds the law for the parts
below, tests/laws for whole strategies.

BLAS does not keep this law by itself. It chooses a kernel by the shape of a product, it cuts the work by the number of
threads, and it treats the rows at an edge apart. Each of these adds numbers up in another order. Seen with MKL 2024.2
and rows of 256 float32: a row alone has other bits than among others, and with 10 columns other bits 17 rows further
down; with AMX, rows of some 500 numbers have others with two threads than with one. Four rules keep the law:

1. Products have one shape: rows come in blocks of one size, the last of them filled up (`tiles`, `Partition.blocks`).
2. Widths and columns are multiples of `ALIGN`, filled up with zeros (`padded`, `AlignedMatrix`).
3. Elementwise functions (exp, log, softmax) and small problems run on one thread (`one_thread`, `one_thread_if_small`).
4. MKL adds up in one order whatever its threads (`MKL_CBWR`, its conditional numerical reproducibility).

The cost: up to ALIGN - 1 columns of zeros, and less than a block of them at the end of the rows. A product with 16
columns takes half the time of one with 10.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from raysal.threads import ask_mkl_for_one_order

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")
ask_mkl_for_one_order()
ALIGN = 16
"""Numbers. The widths of blocks and the columns of products are multiples of this: with other widths (1281) and other
columns (10), rows at different places of one block took different code paths in MKL."""
BLOCK_ROWS = 4096
"""Rows of a block that is read from a partition. 4096 x 256 float32 is 4 MB: large enough to feed a product, small
enough for the cache."""
FEWEST_BLOCK_ROWS = 64
"""Rows of the smallest block that is read for a product of many columns."""
FEWEST_CACHED_ROWS = 512
"""Rows below which a block on a CPU does not go for the cache's sake: the columns would be read anew too often."""
DRIVER_ROWS = 1024
"""Rows of a product over vectors that lie in the driver: clusters, and what a head says of a shortlist."""
LAYER_ROWS = 256
"""Rows that go through a hidden layer together, whatever the block they are in."""
PRODUCT_COLUMNS = 1024
"""Columns of a product where there may be more than fit: with a block of float32 it is 16 MB."""
PRODUCT_NUMBERS = 2**23
"""Numbers of a product with a smaller block, 32 MB of float32: draws for many classes would make it gigabytes."""
CACHED_NUMBERS = 2**17
"""Numbers of a product that stays in the cache of a CPU's core, half a MB of float32. With 330 columns a sweep in
blocks of 512 rows took 0.84 of the time of one in blocks of 4096; with 112, one of 1024 rows 0.83 (2 cores)."""
FLOAT64_STEP = 24
"""Rows, and columns, of which exact float64 products have multiples. No row then falls to a kernel for what is left
over at the edge, which rounds otherwise (MKL, seen with 256 rows, of which the last four differed)."""
EXACT_ROWS = 10 * FLOAT64_STEP
"""Rows of one exact product of distances."""
EXACT_COLUMNS = 2 * FLOAT64_STEP
"""Columns of one exact product of distances: centres."""
SMALL_PROBLEM = 2**27
"""Multiplications of a pass over a training set, up to which one thread solves it."""
SMALL_WIDTH = 2048
"""Features of a training set, up to which one thread solves it."""
FEW_NUMBERS = 2**21
"""Numbers of vectors up to which one thread selects among them. Of 10,000 x 64, 100 took 17 ms on one thread, and 22 to
32 on two, which wait for each other at the end of each of some hundred products."""
WIDE = 1280
"""Features up to which matrices of features by features are made whatever the rows: they take 0.1 s and 13 MB."""


def ceil_div(n: int, size: int) -> int:
    """How many pieces of `size` hold n."""
    return -(-n // size)


def round_up(n: int, multiple: int = ALIGN) -> int:
    """The smallest multiple of `multiple` that is at least n."""
    return ceil_div(n, multiple) * multiple


def slices(n: int, size: int) -> Iterator[slice]:
    """Consecutive slices that cover n: `size` each, the last one perhaps fewer."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def block_rows_for(columns: int, device: str = "cpu") -> int:
    """Choose how many rows a block has, so that its products fit into `PRODUCT_NUMBERS`, on a CPU into its cache.

    Args:
        columns: Of the products.
        device: Kind of the device; others than CPUs want large blocks.

    Returns:
        A power of two from `FEWEST_BLOCK_ROWS` to `BLOCK_ROWS`. It never depends on where rows lie.
    """
    size = BLOCK_ROWS
    while device == "cpu" and size > FEWEST_CACHED_ROWS and size * columns > CACHED_NUMBERS:
        size //= 2
    while size > FEWEST_BLOCK_ROWS and size * columns > PRODUCT_NUMBERS:
        size //= 2
    return size


def padded(
    matrix: NDArray[Any] | torch.Tensor,
    width: int,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    *,
    rows: int | None = None,
) -> torch.Tensor:
    """A matrix [m, d] as a tensor [rows, width] with zeros below and to the right; `rows` is m unless given."""
    import torch

    out = torch.zeros(len(matrix) if rows is None else rows, width, dtype=dtype, device=device)
    values = matrix if isinstance(matrix, torch.Tensor) else torch.from_numpy(_writeable(matrix))
    out[: len(matrix), : matrix.shape[1]] = values.to(device)
    return out


def tiles(matrix: NDArray[Any], size: int, width: int, dtype: torch.dtype) -> Iterator[tuple[slice, torch.Tensor]]:
    """Cut a matrix that lies in the driver into tiles of one shape.

    Args:
        matrix: [n, d].
        size: Rows of a tile.
        width: Columns of a tile, d or more.
        dtype: Of the tiles.

    Yields:
        (rows of the matrix, tile [size, width]) in order. A tile holds zeros beyond its rows and d, and is overwritten
        by the next: copy what must last.
    """
    import torch

    tile = torch.zeros(size, width, dtype=dtype)
    for start in range(0, len(matrix), size):
        some = matrix[start : start + size]
        tile[: len(some), : matrix.shape[1]] = torch.from_numpy(_writeable(some))
        tile[len(some) :] = 0
        yield slice(start, start + len(some)), tile


def _writeable(matrix: NDArray[Any]) -> NDArray[Any]:
    """The array itself if torch can share it without a warning, else a copy."""
    return np.require(matrix, requirements=["C", "W"])


class AlignedMatrix:
    """A matrix [m, d] as the right side of products with blocks, laid out so that they keep the law of this module.

    The products of a row with the m rows of the matrix have the same bits wherever the row stands in its block,
    whatever stands beside it (zeros or not), and for any number of threads. `tests/test_numerics.py` holds it on CPUs.

    It is stored as columns [width, m'], with m' = m rounded up to `ALIGN` and zeros beyond m and d. One matrix serves
    blocks of one number of rows, as other shapes may have other bits: it refuses a block of another number than the
    first. The layout is part of the bits, too: in float64 a transposed view of the rows gives others than `columns`.
    """

    def __init__(
        self,
        rows: NDArray[Any] | torch.Tensor,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        *,
        width: int | None = None,
    ) -> None:
        """`width` is that of the blocks, d unless given."""
        self.count = len(rows)
        wide = padded(rows, width or rows.shape[1], dtype, device, rows=round_up(len(rows)))
        self.columns = wide.T.contiguous()
        """[width, m']"""
        self._block_rows = 0

    def __len__(self) -> int:
        return self.count

    def products(self, block: torch.Tensor) -> torch.Tensor:
        """Multiply every row of a block with every row of the matrix. O(n m' width).

        Args:
            block: [n, width], of the dtype and on the device of the matrix.

        Returns:
            [n, m], a view of `padded_products`.

        Raises:
            ValueError: The block has not as many rows as the first one had.
        """
        return self.padded_products(block)[:, : self.count]

    def padded_products(self, block: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """As `products`, with the zeros beyond the matrix.

        Args:
            block: [n, width], of the dtype and on the device of the matrix.
            out: [n, m'], to write the products into.

        Returns:
            [n, m'], zero beyond m.

        Raises:
            ValueError: The block has not as many rows as the first one had.
        """
        import torch

        if len(block) != self._block_rows:
            if self._block_rows:
                raise ValueError(f"a block of {len(block)} rows after one of {self._block_rows}: bits may differ")
            self._block_rows = len(block)
        return torch.mm(block, self.columns, out=out)


@contextmanager
def one_thread(*, numpy: bool = False) -> Iterator[None]:
    """Let torch compute on one thread, and afterwards on as many as before.

    Threads cut an array where it suits them, and exp and log treat the ends of a piece apart, so that a last bit would
    depend on their number: with 3 threads it did. Takes 1 microsecond, with `numpy` up to 6.

    Args:
        numpy: Also let NumPy's BLAS compute on one thread.

    Yields:
        Nothing.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _BLAS_THREADS.one() if numpy else nullcontext():
            yield
    finally:
        torch.set_num_threads(before)


def in_threads(work: Callable[[], None], count: int) -> None:
    """Do some work in several threads at once, in each of which torch computes on one.

    Elementwise functions then keep the law of this module, and no core waits for the others at the end of each of many
    short calls. Work must not call this function itself: it would wait for the threads that do it. The helpers stay
    for the next time: new threads cost a sweep of 250,000 rows a tenth of its time.

    Args:
        work: It shares what there is to do with its likes, and lets go of the interpreter's lock most of the time, as
            calls of torch do.
        count: How many threads, this one included. Alone, it has all of torch's.
    """
    if count < 2:
        work()
        return
    import torch

    before = torch.get_num_threads()

    def alone() -> None:
        torch.set_num_threads(1)
        work()

    others = [_helpers(os.getpid(), count - 1).submit(alone) for _ in range(count - 1)]
    try:
        alone()
    finally:
        wait(others)
        torch.set_num_threads(before)
    for other in others:
        other.result()


def shared_out(work: Callable[[T], R], things: Sequence[T], threads: int) -> list[R]:
    """Do some work for each of some things, in several threads, in each of which torch computes on one.

    Args:
        work: it lets go of the interpreter's lock most of the time, as calls of torch do.
        things: What it is done for, once each.
        threads: How many threads, at most.

    Returns:
        What it returned, in the order of the things.
    """
    found: dict[int, R] = {}
    left = iter(list(enumerate(things)))  # of a list: each goes to one thread

    def some() -> None:
        for place, thing in left:
            found[place] = work(thing)

    with one_thread():
        in_threads(some, min(threads, len(things)))
    return [found[place] for place in range(len(things))]


@cache
def _helpers(process: int, count: int) -> ThreadPoolExecutor:
    """Threads of a process, as a fork has none of them."""
    del process
    return ThreadPoolExecutor(count)


class _BlasThreads:
    """How many threads NumPy's BLAS takes. The number is the whole process's, so the last to leave puts it back."""

    def __init__(self) -> None:
        self.lock, self.inside = Lock(), 0
        self.before: list[tuple[Any, int]] = []

    @contextmanager
    def one(self) -> Iterator[None]:
        """One thread, as long as anybody is inside."""
        with self.lock:
            if self.inside == 0:
                self.before = [(library, count) for library in _blas() if (count := library.num_threads) != 1]
                for library, _ in self.before:
                    self.set(library, 1)
            self.inside += 1
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if self.inside == 0:
                    for library, count in self.before:
                        self.set(library, count)

    @staticmethod
    def set(library: Any, count: int) -> None:
        """Set the number from this thread: threadpoolctl 3.8 lets the thread that came first do so, and no other."""
        if (take_control := getattr(library, "clear_controlling_thread", None)) is not None:
            take_control(force=True)
        library.set_num_threads(count)


_BLAS_THREADS = _BlasThreads()


def one_thread_if_few(numbers: int) -> AbstractContextManager[None]:
    """Limit torch to one thread where a selection is over few vectors.

    Args:
        numbers: Of the vectors in this process, rows times width.

    Returns:
        `one_thread()` up to `FEW_NUMBERS`, else a context that changes nothing.
    """
    return one_thread() if numbers <= FEW_NUMBERS else nullcontext()


def few_rows(n: int, dim: int) -> bool:
    """Whether rows are so few beside their features that what is known of them is kept in their span.

    Args:
        n: Rows.
        dim: Features of a row.

    Returns:
        Whether there are more than `WIDE` features, and at least four for each row.
    """
    return dim > WIDE and 4 * n <= dim


def one_thread_if_small(n: int, dim: int, classes: int, *, square: int | None = None) -> AbstractContextManager[None]:
    """Limit torch and NumPy to one thread while a small training set is solved.

    Up to `SMALL_PROBLEM` and `SMALL_WIDTH` a second thread brings a fifth, and costs tenfold where the cores are busy
    (800 x 1280, 10 classes, two cores under a load of 7: 15 s against 1.4 s). The answer then does not depend on it.

    Args:
        n: Rows of the training set.
        dim: Features of a row.
        classes: Outputs of a row.
        square: Sides of the largest square matrix; `dim` unless given, or `n` where there are few rows (`few_rows`).

    Returns:
        `one_thread(numpy=True)`; for a large training set a context that changes nothing.
    """
    side = square if square is not None else n if few_rows(n, dim) else dim
    large = n * dim * classes > SMALL_PROBLEM or side > SMALL_WIDTH
    return nullcontext() if large else one_thread(numpy=True)


@cache
def _blas() -> list[Any]:
    """What NumPy multiplies with; to look for it takes milliseconds."""
    from threadpoolctl import ThreadpoolController

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)
