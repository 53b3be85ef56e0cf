"""The law of numerics: what is computed of a row depends on that row alone, to the last bit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import ThreadpoolController

import raysal
from raysal.numerics import (
    ALIGN,
    BLOCK_ROWS,
    CACHED_NUMBERS,
    DRIVER_ROWS,
    EXACT_COLUMNS,
    EXACT_ROWS,
    FEWEST_CACHED_ROWS,
    LAYER_ROWS,
    PRODUCT_NUMBERS,
    SMALL_PROBLEM,
    SMALL_WIDTH,
    AlignedMatrix,
    block_rows_for,
    ceil_div,
    in_threads,
    one_thread,
    one_thread_if_small,
    padded,
    round_up,
    shared_out,
    slices,
    tiles,
)

SIZES = (EXACT_COLUMNS, 64, EXACT_ROWS, LAYER_ROWS, 480, DRIVER_ROWS, BLOCK_ROWS)
"""Rows of the blocks that products are taken over."""
WIDTHS = (1, 5, 16, 33, 100, 256, 257, 384, 1281)
BLAS = ThreadpoolController().select(user_api="blas")


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with BLAS.limit(limits=count):
            yield
    finally:
        torch.set_num_threads(before)


@st.composite
def problems(draw):
    """(rows [n, d], matrix [m, d], dtype, rows of a block)"""
    dim, m = draw(st.sampled_from(WIDTHS)), draw(st.integers(1, 70))
    size = draw(st.sampled_from(SIZES))
    n = draw(st.integers(1, max(2 * size + size // 2, 300)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    scale = 10.0 ** draw(st.integers(-3, 3))
    return scale * rng.normal(size=(n, dim)), rng.normal(size=(m, dim)), draw(DTYPES), size


DTYPES = st.sampled_from([torch.float32, torch.float64])


def what_is_said(rows: np.ndarray, matrix: np.ndarray, dtype: torch.dtype, size: int) -> list[torch.Tensor]:
    """Products, softmax of them and squared norms of rows [n, d], block by block."""
    width = round_up(rows.shape[1])
    right = AlignedMatrix(matrix, dtype, width=width)
    found = []
    for own, tile in tiles(rows, size, width, dtype):
        n = own.stop - own.start
        product = right.products(tile)
        with one_thread():
            soft = torch.softmax(product, 1)[:n]
        found.append((product[:n].clone(), soft, (tile * tile).sum(1)[:n]))
    return [torch.cat(column) for column in zip(*found, strict=True)]


@settings(max_examples=60)
@given(problem=problems(), data=st.data())
def test_a_row_has_the_same_bits_for_any_partitions_company_and_threads(problem, data):
    rows, matrix, dtype, size = problem
    expected = what_is_said(rows, matrix, dtype, size)
    order = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(len(rows))
    order = order[: data.draw(st.integers(1, len(rows)))]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=3)))
    with threads(data.draw(st.integers(1, 3))):
        parts = [what_is_said(rows[some], matrix, dtype, size) for some in np.split(order, cuts) if len(some)]
    for own, column in zip(expected, zip(*parts, strict=True), strict=True):
        assert torch.equal(torch.cat(column), own[order])


@settings(max_examples=40)
@given(problem=problems(), count=st.integers(1, 3))
def test_what_fills_up_a_block_changes_no_bit(problem, count):
    rows, matrix, dtype, size = problem
    rows, width = rows[:size], round_up(rows.shape[1])
    alone = padded(rows, width, dtype, rows=size)
    among = padded(np.full((size, rows.shape[1]), 7.5), width, dtype)
    among[: len(rows)] = alone[: len(rows)]
    right = AlignedMatrix(matrix, dtype, width=width)
    expected = right.products(alone)
    with threads(count):
        assert torch.equal(right.products(among)[: len(rows)], expected[: len(rows)])


@settings(max_examples=40)
@given(problem=problems())
def test_products_are_those_of_the_matrix(problem):
    rows, matrix, dtype, size = problem
    width = round_up(rows.shape[1])
    right = AlignedMatrix(matrix, dtype, width=width)
    assert (len(right), right.columns.shape) == (len(matrix), (width, round_up(len(matrix))))
    out = torch.full((size, round_up(len(matrix))), torch.nan, dtype=dtype)
    ((own, tile),) = list(tiles(rows[:size], size, width, dtype))
    assert right.padded_products(tile, out) is out
    assert not out[:, len(matrix) :].any()
    found = right.products(tile)
    assert torch.equal(found, out[:, : len(matrix)])
    narrow = [values.astype(np.float32 if dtype == torch.float32 else np.float64) for values in (rows[own], matrix)]
    allowed = 1e-5 if dtype == torch.float32 else 1e-13
    bound = np.abs(narrow[0]) @ np.abs(narrow[1]).T
    wrong = np.abs(found[: own.stop].numpy() - narrow[0].astype(np.float64) @ narrow[1].T.astype(np.float64))
    assert (wrong <= allowed * bound + 1e-300).all()


def test_products_of_another_shape_are_refused():
    right = AlignedMatrix(np.ones((3, 20)), torch.float64, width=32)
    assert right.products(torch.ones(64, 32, dtype=torch.float64)).shape == (64, 3)
    with pytest.raises(ValueError, match="32 rows after one of 64"):
        right.products(torch.ones(32, 32, dtype=torch.float64))


PLAIN = """
import numpy as np, torch
x = torch.from_numpy(np.random.default_rng(0).normal(size=(1000, 256))).float()
matrix = torch.from_numpy(np.random.default_rng(1).normal(size=(256, 10))).float()
whole = x @ matrix
alone = torch.cat([row[None] @ matrix for row in x])
further_down = torch.roll(torch.roll(x, 17, 0) @ matrix, -17, 0)
by_column = torch.cat([x @ column[:, None] for column in matrix.T], 1)  # on some processors only this one differs
print(any(not torch.equal(other, whole) for other in (alone, further_down, by_column)))
"""


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="seen with MKL")
def test_plain_products_do_not_keep_the_law():
    """Why `AlignedMatrix` and `tiles` exist: if this fails, a new BLAS may have made them unnecessary.

    In a process that does not ask MKL for one order, as on processors where it has none.
    """
    settings = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    said = subprocess.run([sys.executable, "-c", PLAIN], env=settings, check=True, capture_output=True, text=True)
    assert said.stdout.strip() == "True"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [256, 1281, 2000])
def test_products_have_the_same_bits_for_any_number_of_threads(width, dtype):
    rows, matrix = (np.random.default_rng([3, width, n]).normal(size=(n, width)) for n in (128, 33))
    right = AlignedMatrix(matrix, dtype, width=round_up(width))
    block = padded(rows, round_up(width), dtype)
    found = []
    for count in (1, 2, 3):
        with threads(count):
            found.append(right.products(block).clone())
    assert all(torch.equal(found[0], other) for other in found)


@given(n=st.integers(0, 10**6), size=st.integers(1, 10**4))
def test_rounding_up_takes_as_many_pieces_as_are_needed(n, size):
    pieces = ceil_div(n, size)
    assert (pieces - 1) * size < n <= pieces * size == round_up(n, size)
    assert round_up(n) % ALIGN == 0 <= round_up(n) - n < ALIGN


@given(n=st.integers(0, 500), size=st.integers(1, 90))
def test_slices_cover_what_there_is_in_order(n, size):
    found = list(slices(n, size))
    assert [row for own in found for row in range(own.start, own.stop)] == list(range(n))
    assert len(found) == ceil_div(n, size)
    assert all(own.stop - own.start == size for own in found[:-1])


@given(columns=st.integers(1, 10**6))
def test_blocks_shrink_until_their_products_fit(columns):
    size = block_rows_for(columns, "cuda")
    assert size in (64, 128, 256, 512, 1024, 2048, BLOCK_ROWS)
    assert size * columns <= PRODUCT_NUMBERS or size == 64
    assert size == BLOCK_ROWS or 2 * size * columns > PRODUCT_NUMBERS
    here = block_rows_for(columns)
    assert here == size or here >= FEWEST_CACHED_ROWS
    assert here * columns <= CACHED_NUMBERS or here <= FEWEST_CACHED_ROWS
    assert here >= size or 2 * here * columns > CACHED_NUMBERS


@pytest.mark.parametrize("count", [1, 2, 3])
def test_threads_share_work_and_leave_torch_as_it_was(count):
    before, left, seen = torch.get_num_threads(), iter(range(200)), []

    def work():
        seen.extend((item, torch.get_num_threads()) for item in left)

    in_threads(work, count)
    assert sorted(item for item, _ in seen) == list(range(200))
    assert {threads for _, threads in seen} == {before if count == 1 else 1}
    assert torch.get_num_threads() == before


def test_an_error_in_any_thread_is_raised_when_all_have_ended():
    both = threading.Barrier(2)

    def work():
        mine = both.wait(10)
        if mine == 0:
            raise ValueError("of one thread")

    for _ in range(4):
        with pytest.raises(ValueError, match="of one thread"):
            in_threads(work, 2)


@settings(max_examples=50)
@given(n=st.integers(0, 50), dim=st.integers(1, 40), size=st.integers(1, 20), more=st.integers(0, 9))
def test_tiles_hold_every_row_and_zeros(n, dim, size, more):
    x = np.random.default_rng(0).normal(size=(n, dim)) + 10
    x.flags.writeable = False
    seen = 0
    for own, tile in tiles(x, size, dim + more, torch.float64):
        assert (own.start, tile.shape) == (seen, (size, dim + more))
        seen = own.stop
        assert np.array_equal(tile[: own.stop - own.start, :dim].numpy(), x[own])
        assert not tile[own.stop - own.start :].any()
        assert not tile[:, dim:].any()
    assert seen == n
    whole = padded(x, dim + more, torch.float32, rows=n + more)
    assert np.array_equal(whole[:n, :dim].numpy(), x.astype(np.float32))
    assert whole.shape == (n + more, dim + more)
    assert whole.count_nonzero() == n * dim
    assert torch.equal(padded(whole, dim + more, torch.float32), whole)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_one_thread_it_is_and_afterwards_as_many_as_before(count):
    def now() -> tuple[int, set[int]]:
        return torch.get_num_threads(), {library.num_threads for library in BLAS.lib_controllers}

    with threads(count):
        before = now()
        with one_thread():
            assert now() == (1, before[1])
        with one_thread(numpy=True):
            assert now() == (1, {1})
        for small in ((800, 1280, 10), (1, SMALL_WIDTH + 1, 1)):  # few rows: no matrix of features by features
            with one_thread_if_small(*small):
                assert now() == (1, {1})
        for large in ((SMALL_PROBLEM, 2, 1), (SMALL_WIDTH, SMALL_WIDTH + 1, 1)):
            with one_thread_if_small(*large):
                assert now() == before
        with one_thread_if_small(1, SMALL_WIDTH + 1, 1, square=SMALL_WIDTH + 1):
            assert now() == before
        with pytest.raises(KeyError), one_thread(numpy=True):
            raise KeyError
        assert now() == before


@pytest.mark.parametrize("function", [torch.exp, torch.log, torch.sigmoid, torch.log1p])
def test_elementwise_functions_have_the_same_bits_on_one_thread(function):
    values = torch.rand(100_003, generator=torch.Generator().manual_seed(0))
    expected = None
    for count in (1, 2, 3):
        with threads(count), one_thread():
            found = function(values)
        assert expected is None or torch.equal(found, expected)
        expected = found


def test_rounding_up_has_one_home():
    """`-(-n // size)` is `ceil_div` and `round_up`: an idiom to remember is an idiom to get wrong."""
    home = Path(raysal.__file__).parent
    texts = {path.relative_to(home).as_posix(): path.read_text(encoding="utf-8") for path in home.rglob("*.py")}
    assert [name for name, text in texts.items() if re.search(r"-\(-.*//", text)] == ["numerics.py"]


def test_one_thread_it_is_whatever_thread_asks_and_until_the_last_is_out():
    """The number is the whole process's. A thread that another one came before in setting it is heard, too."""

    def now() -> set[int]:
        return {library.num_threads for library in BLAS.lib_controllers}

    entered, leave, seen = threading.Event(), threading.Event(), []

    def first() -> None:
        with one_thread(numpy=True):
            seen.append(now())
            entered.set()
            leave.wait()

    def second() -> None:
        with one_thread(numpy=True):
            seen.append(now())

    with threads(2):  # set by this thread
        for late in (second, first):
            other = threading.Thread(target=late)
            with one_thread(numpy=True):
                other.start()
                entered.wait() if late is first else other.join()
            assert now() == ({1} if late is first else {2})
        leave.set()
        other.join()
        assert now() == {2}
        second_alone = threading.Thread(target=second)
        second_alone.start()
        second_alone.join()
        assert now() == {2}
    assert seen == [{1}] * 3


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_work_that_is_shared_out_is_done_once_for_each_thing_and_answers_in_order(threads, count):
    """On one thread of torch each, of which there are as many as before afterwards."""
    before, done = torch.get_num_threads(), []

    def work(thing: int) -> tuple[int, int]:
        done.append(thing)
        return -thing, torch.get_num_threads()

    try:
        torch.set_num_threads(3)
        assert shared_out(work, range(count), threads) == [(-thing, 1) for thing in range(count)]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert sorted(done) == list(range(count))
