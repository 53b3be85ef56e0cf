"""What the tests of the page share. A file says itself which run it is of: `prepared`, or the server over it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import chromium
from page_server import Page, page_of


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium, for the tests of one file."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def run(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the file's run, to be changed."""
    return Path(shutil.copytree(prepared, tmp_path / "run"))


@pytest.fixture
def page(run: Path) -> Iterator[Page]:
    """A server over that copy."""
    with page_of(run) as page:
        yield page
