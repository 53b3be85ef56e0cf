"""What most tests of curation are not about takes little time in them: forecasts, and the maps of reports."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def speed_is_measured_at_a_glance(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forecast takes a hundredth of the time: its seconds are coarser, and its items the same."""
    monkeypatch.setattr("raysal.curation.forecast.MEASURED_S", 0.0015)


@pytest.fixture(autouse=True)
def maps_are_of_principal_components(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of very few items; t-SNE is tested with the reports of runs."""
    monkeypatch.setattr("raysal.report.map_layout.MIN_TSNE_POINTS", 10**6)
