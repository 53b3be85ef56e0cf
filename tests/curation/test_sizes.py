"""Sizes of steps: a share is the decimal that it is written as, and what is no number of items is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pools import make_pool, mixture

import raysal
from raysal.curation.sizes import check_size, share_or_more, size_of, whole_share
from raysal.errors import ConfigError


def test_a_share_is_the_decimal_that_it_is_written_as() -> None:
    for percent in range(1, 100):
        for n in (0, 1, 99, 100, 101, 700):
            share = percent / 100
            assert size_of(share, n) == share_or_more(share, n) == -(-percent * n // 100)
            assert whole_share(share, n) == percent * n // 100
    assert [size_of(size, 50) for size in (1, 1.0, 49, 50, 51, 1e9)] == [1, 1, 49, 50, 50, 50]


@pytest.mark.parametrize("verb", [raysal.balance, raysal.core])
def test_steps_keep_what_a_share_says(tmp_path: Path, verb: Any) -> None:
    pool = make_pool(tmp_path / "pool", mixture(100, 8)[0])
    assert [verb(pool, size=share).kept for share in (0.07, 0.29, 0.57)] == [7, 29, 57]


@pytest.mark.parametrize("size", [0, -1, 1.5, True, math.inf, -math.inf, math.nan])
def test_what_is_no_size_is_refused(size: Any) -> None:
    with pytest.raises(ConfigError, match=r"size: .* is no number of items; use 1 or more, or a share as 0\.1"):
        check_size(size)
