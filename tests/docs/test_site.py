"""The site of the docs builds without a warning, so that every link in it leads somewhere, and fetches nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pages import HISTORY, PAGES, ROOT

pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
pytestmark = pytest.mark.deep
HOME = {"README.md": "index", "CONTRIBUTING.md": "contributing", "CHANGELOG.md": "changelog"}
HOME |= {"deploy/README.md": "cluster", "benchmarks/RESULTS.md": "results"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    words = ["mkdocs", "build", "--strict", "-f", str(ROOT / "docs/site/mkdocs.yml"), "-d", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run([sys.executable, "-m", *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


class Fetched(HTMLParser):
    """What a browser fetches for a page by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video"):
            self.addresses.append(values.get("src") or "")
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.addresses.append(values.get("href") or "")


def test_every_page_is_on_the_site(site: Path) -> None:
    for page in [*PAGES, *HISTORY]:
        name = page.relative_to(ROOT).as_posix()
        place = HOME.get(name, name.removeprefix("docs/").removeprefix("benchmarks/").removesuffix(".md"))
        assert (site / f"{place}.html").is_file(), name


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        parser = Fetched()
        parser.feed(page.read_text(encoding="utf-8"))
        assert not [address for address in parser.addresses if re.match(r"(\w+:)?//", address)], page.name
    for style in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import\s*)[\"']?(?:\w+:)?//", style.read_text(encoding="utf-8")), style.name


def test_a_link_to_source_shows_it(site: Path) -> None:
    text = (site / "selection.html").read_text(encoding="utf-8")
    (target,) = re.findall(r'href="([^"]+)">priorities\.py<', text)
    shown = re.sub(r"<[^>]+>", "", (site / target).read_text(encoding="utf-8"))
    assert "class D2Race" in shown
