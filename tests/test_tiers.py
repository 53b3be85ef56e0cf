"""What `make test` leaves out of a crossing: no value of a parametrization, and of combinations as many as it can."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiers import covering, one_of_each, only_if


@settings(max_examples=60)
@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4), gaps=st.sets(st.integers(0, 200)))
def test_every_value_is_there_and_no_row_is_for_nothing(sizes: list[int], gaps: set[int]) -> None:
    rows = [row for at, row in enumerate(product(*map(range, sizes))) if at not in gaps]
    values = [set(enumerate(row)) for row in rows]
    chosen = covering(values)
    assert set().union(*(values[at] for at in chosen)) == set().union(*values)
    if not gaps:
        assert len(chosen) == max(sizes)
        for column, size in enumerate(sizes):
            uses = Counter(rows[at][column] for at in chosen)
            assert max(uses.values()) - min(uses.values()) <= 1 + len(sizes) // 3, (size, uses)


def test_rows_of_values_that_are_alike_are_told_apart_by_how_they_are_written() -> None:
    rows = one_of_each([(1, "a"), (1, "b"), (1.0, "b"), (True, "a")])
    assert [row.marks == () for row in rows] == [True, False, True, True]


KINDS = {"a": 3, "b": 2}


@only_if(lambda kind, number: number < KINDS[kind])
@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_combinations_that_there_are_not_are_left_out(kind: str, number: int) -> None:
    assert number < KINDS[kind]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("letter", ["x", "y"])
def test_a_crossing_is_thinned(letter: str, number: int, request: pytest.FixtureRequest) -> None:
    """Every second of its combinations is deep."""
    if request.node.get_closest_marker("deep") is None:
        assert (number % 2 == 0) == (letter == "x")
