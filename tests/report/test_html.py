"""The report is one safe file, the same each time, whatever state the run is in."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pools import make_pool, mixture
from small_run import begin

from raysal.config import parse_config
from raysal.errors import Damaged, RunError
from raysal.report import headline, report_html, summary, write_report
from raysal.rounds.directory import RunDir
from raysal.rounds.session import Session

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """The page's text, tags and attributes; complains of a tag that is not closed."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three rounds of eight labels, with its control. Read only."""
    return begin(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(finished: Path) -> str:
    return str(report_html(finished))


def test_everything_is_there(page: str, finished: Path):
    found = Page(page)
    for title in ("Learning curve", "Rounds", "Map of the pool", "Classes", "Batches", "Stage times"):
        assert title in found.text
    figures = [attrs["class"] for tag, attrs in found.tags if tag == "svg"]
    assert figures == ["figure curve", "figure map", "figure stages"]
    assert [found.text.count(f"Round {r} ") or found.text.count(f"Round {r}") for r in range(3)] == [1, 1, 1]
    for sentence in headline(finished):
        assert sentence in found.text
    for row in summary(finished)[1:]:
        assert f"{100 * row.value:.1f} %" in found.text
        assert f"{100 * row.control:.1f} %" in found.text


def test_nothing_outside_the_file_is_asked_for(page: str):
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    found = Page(page)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in found.tags}
    for tag, attrs in found.tags:
        assert not any(name.startswith("on") for name in attrs)
        for name in ("src", "href"):
            value = attrs.get(name)
            assert value is None or value.startswith(("data:image/png;base64,", "#")), (tag, value)
    for target in re.findall(r"url\(([^)]*)\)", page):
        assert target.startswith("#")


def test_what_users_wrote_is_shown_and_never_run(page: str):
    assert "<script" not in page
    assert "<b>b</b>" not in page
    found = Page(page)
    assert "<script>alert('key')</script>0" in found.text
    for name in ("a & <b>b</b>", "$\\frac{1}$", "猫"):
        assert name in found.text


def test_ids_are_unique_and_every_reference_has_its_target(page: str):
    found = Page(page)
    ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    wanted = {attrs["href"][1:] for _, attrs in found.tags if (attrs.get("href") or "").startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]*)\)", page))
    assert wanted <= set(ids)


def test_the_same_run_gives_the_same_bytes(page: str, finished: Path, tmp_path: Path):
    out = write_report(finished, tmp_path / "r.html")
    assert out == tmp_path / "r.html"
    assert out.read_text(encoding="utf-8").rpartition("<!-- made of ")[0] == page


def short(folder: Path, rounds: int, **fields: object) -> Path:
    """A run that stops after `rounds` rounds, its last batch not labeled yet."""
    vectors, labels = mixture(60, 4, classes=3)
    pool = make_pool(folder / "pool", vectors, labels=labels)
    config = parse_config(
        {
            "pool": pool.path,
            "fleet": {"backend": "local"},
            "oracle": {"name": "simulated"},
            "rounds": {"k": 5, "count": 4, **fields},
        }
    )
    RunDir(folder / "run").begin(config)
    with Session(folder / "run", pool) as session:
        for number in range(rounds):
            batch = session.query()
            if number < rounds - 1:
                session.ask_oracle(batch)
    return folder / "run"


def test_a_run_without_rounds_has_a_report(tmp_path: Path):
    found = Page(str(report_html(short(tmp_path, 0))))
    assert "No round has been chosen yet" in found.text
    assert "0 of 4 rounds" in found.text
    assert "Batches" not in found.text


@pytest.mark.parametrize("holdout", [0.0, 0.4])
def test_an_unfinished_run_without_control_has_one_that_says_so(tmp_path: Path, holdout: float):
    run = short(tmp_path, 2, holdout=holdout)
    target = write_report(str(run))
    assert target == run / "report.html"
    found = Page(target.read_text(encoding="utf-8"))
    assert "2 of 4 rounds are chosen, 5 items wait for a label" in found.text
    assert ("Learning curve" in found.text) == (holdout > 0)
    assert "(control)" not in found.text
    assert "Stage times" in found.text


def test_classes_are_the_heads_where_the_pool_has_none(tmp_path: Path):
    vectors, labels = mixture(60, 4, classes=3)
    pool = make_pool(tmp_path / "pool", vectors)
    with Session(tmp_path / "run", pool, rounds={"k": 6}, select="badge") as session:
        batch = session.query()
        session.tell({key: labels[id] for key, id in zip(batch.keys, batch.ids, strict=True)})
        session.query()
    assert "classes as the head predicts them" in Page(str(report_html(tmp_path / "run"))).text


def test_a_pool_that_is_gone_or_another_is_said_and_the_rest_is_shown(tmp_path: Path):
    run = short(tmp_path, 2, holdout=0.3)
    shutil.rmtree(tmp_path / "pool")
    gone = Page(str(report_html(run)))
    assert "The pool cannot be shown" in gone.text
    assert "Learning curve" in gone.text
    assert "item-0000" in gone.text
    make_pool(tmp_path / "pool", mixture(30, 4)[0])
    assert "fingerprint" in Page(str(report_html(run))).text


def test_no_run_is_an_error_and_leaves_no_file(tmp_path: Path):
    with pytest.raises(RunError, match="no run is there"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_batch_cut_short_is_named(tmp_path: Path):
    run = short(tmp_path, 1)
    (run / "rounds" / "0000" / "batch.parquet").write_bytes(b"PAR1")
    with pytest.raises(Damaged, match=r"batch\.parquet"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_of_very_many_classes_the_hardest_are_listed(tmp_path: Path):
    vectors, _ = mixture(300, 4)
    pool = make_pool(tmp_path / "pool", vectors, labels=[f"kind-{i % 100}" for i in range(300)])
    with Session(tmp_path / "run", pool, oracle="simulated", rounds={"k": 90, "holdout": 0.4}) as session:
        session.ask_oracle(session.query())
        recall = session.finish()["evaluation"]["recall"]
    text = Page(str(report_html(tmp_path / "run"))).text
    classes = text[text.index("The hardest 40 of ") : text.index("Batches")]
    assert classes.count("kind-") == 40
    assert min(recall, key=lambda name: recall[name]) in text
    assert "others" in text
