"""Results are those that were recorded: a change of layout or wording may move none of them."""

from __future__ import annotations

import json

import pytest
from golden_results import RECORDED, Entry, processor, results

WRITTEN = json.loads(RECORDED.read_text(encoding="utf-8"))
NAMES = sorted(WRITTEN["results"])


@pytest.fixture(scope="module")
def found() -> dict[str, Entry]:
    return results()


def test_nothing_is_missing_or_new(found: dict[str, Entry]) -> None:
    assert sorted(found) == NAMES


def test_results_are_those_recorded(found: dict[str, Entry]) -> None:
    """What no machine may change; on processors as that of the record, every bit too."""
    fields = ("same", "bits") if processor() == WRITTEN["processor"] else ("same",)
    recorded = WRITTEN["results"]
    changed = [name for name in NAMES for field in fields if found[name][field] != recorded[name][field]]
    assert not changed
