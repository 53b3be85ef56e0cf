"""The report of a search says what was found, what is left, and how its head ranks, with intervals."""

from __future__ import annotations

from pathlib import Path

from pools import make_pool, mixture

from raysal.report.html import report_html
from raysal.report.metrics import summary
from raysal.report.table import run_table
from raysal.rounds.session import Session


def test_a_report_of_a_search_has_its_measures(tmp_path: Path) -> None:
    """By test draws; the curve begins where AUPRC is defined; nothing is shown before the first label."""
    vectors, names = mixture(300, 6, classes=5)
    pool = make_pool(tmp_path / "pool", vectors, labels=names)
    truth = {f"item-{id:06d}": name for id, name in enumerate(names)}
    rounds = {"k": 16, "holdout": 0.4, "tests": 0.25}
    with Session(tmp_path / "run", pool, select="margin", target=["class-2"], rounds=rounds) as session:
        for _ in range(4):
            session.tell({key: truth[key] for key in session.query().keys})
        session.finish()
        status = session.status()
    page = str(report_html(tmp_path / "run"))
    search = status.search
    assert search is not None
    assert "What is looked for" in page
    assert f"class-2: {search.found} found in 64 labels" in page
    assert "held-out items by their weights" in page
    for words in ("AUPRC", "AUROC", "precision in the first k", "prevalence", "left to find", "16, 16 answered"):
        assert words in page, words
    rows = summary(tmp_path / "run")
    assert rows[-1].metric == "auprc"
    assert rows[-1].value == status.value
    assert rows[0].value is None
    assert run_table(tmp_path / "run").row_count == 5
    with Session(tmp_path / "plain", pool, select="margin", rounds={"holdout": 0.4}) as session:
        session.query(5)
    assert "What is looked for" not in str(report_html(tmp_path / "plain"))
