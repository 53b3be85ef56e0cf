"""What the tests of indexes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raysal.index import recall


@pytest.fixture(autouse=True, scope="module")
def few_queries() -> Iterator[None]:
    """Small indexes are tuned by fewer items than large ones: that is half of the time in which they are built."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recall, "RECALL_QUERIES", 60)
        yield
