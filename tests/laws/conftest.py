"""The case that the laws are tried on, and what each pair of strategy and narrower picks of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cases import Case, make_case
from programs import Outcome, local

from raysal.pool import Pool


@pytest.fixture(scope="session")
def main_case() -> Case:
    return make_case(720, 33)


@pytest.fixture(scope="session")
def main_pools(main_case: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Pool]:
    root = tmp_path_factory.mktemp("main")
    return {rows: main_case.pool(root / str(rows), rows) for rows in (64, 700, 720)}


@pytest.fixture(scope="session")
def expected(main_case: Case, main_pools: dict[int, Pool]) -> Callable[[str, str], Outcome]:
    """The outcome over one partition of one chunk."""
    known: dict[tuple[str, str], Outcome] = {}
    fleet = local(main_pools[720])

    def outcome(selector: str, narrower: str) -> Outcome:
        if (selector, narrower) not in known:
            known[selector, narrower] = main_case.run(fleet, selector, narrower)
        return known[selector, narrower]

    return outcome
