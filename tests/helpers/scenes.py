"""One pool for the tests of a file: its rows, a fleet over them, and what may be picked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pools import make_pool
from programs import local

from raysal.fleet import Fleet, exclude


def scene(x: NDArray[np.floating]) -> tuple[Any, Any, Any]:
    """Return three fixtures over rows x [n, d]; a test file names them `rows, fleet, candidates`."""

    @pytest.fixture(scope="module")
    def rows() -> NDArray[np.floating]:
        return x

    @pytest.fixture(scope="module")
    def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
        return local(make_pool(tmp_path_factory.mktemp("pool") / "pool", x, chunk_rows=130), 3)

    @pytest.fixture
    def candidates(fleet: Fleet) -> NDArray[np.int64]:
        """Ids that may be picked: the pool but every 17th."""
        fleet.reset()
        fleet.each(exclude, np.arange(0, len(x), 17))
        return np.setdiff1d(np.arange(len(x)), np.arange(0, len(x), 17))

    return rows, fleet, candidates
