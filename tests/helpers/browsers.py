"""A real Chromium for tests of the page, and axe-core, which judges a page as screen readers meet it.

Where either cannot be had, tests say so and are skipped; with CI=true they fail.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

AXE = "4.14.1"
"""The version of axe-core (MPL-2.0). npm fetches it; it is kept, with its licence, outside the repository."""
AXE_SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
NAMES = ("chromium", "chromium-browser", "google-chrome")
WATCH = """
window.seen = {violations: [], shifts: []};
document.addEventListener('securitypolicyviolation', (event) =>
  window.seen.violations.push(event.violatedDirective + ' ' + event.blockedURI));
new PerformanceObserver((list) => { for (const entry of list.getEntries()) window.seen.shifts.push(entry.value) })
  .observe({type: 'layout-shift', buffered: true});
"""


def unavailable(why: str) -> Any:
    """Skip the test, or fail it where everything must be there."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(why)
    pytest.skip(why)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        unavailable(f"no Chromium here ({', '.join(NAMES)}): on Debian, apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        unavailable("playwright is not installed: pip install -e '.[dev]'")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One person at the page: a browser of their own (cookies, storage), and what must never happen in it."""

    def __init__(
        self,
        browser: Any,
        address: str,
        name: str | None = "ana",
        *,
        width: int = 1280,
        height: int = 800,
        scheme: str = "light",
    ) -> None:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
        )
        context.set_default_timeout(60_000)  # of a machine with other work
        context.add_init_script(WATCH)
        self._come(context, address)
        if name is not None:
            self.page.fill("#name-text", name)
            self.page.keyboard.press("Enter")

    def tab(self, address: str) -> Visit:
        """The same person in another tab of the same browser."""
        other = Visit.__new__(Visit)
        other._come(self.context, address)
        return other

    def _come(self, context: Any, address: str) -> None:
        self.context, self.page = context, context.new_page()
        self.hosts: set[str] = set()
        self.problems: list[str] = []
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.problems.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("console", self._hear)
        self.page.goto(address)
        self.host = urlsplit(address).netloc

    def _hear(self, message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.problems.append(message.text)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def tiles(self) -> Visit:
        """Wait until items are there."""
        self.page.wait_for_selector("#gallery .tile[data-id]")
        return self

    def saved(self) -> Visit:
        """Wait until the server has everything."""
        self.page.wait_for_selector(".saved[data-is=well]")
        return self

    def keys(self, which: str = "#gallery .tile") -> list[str]:
        """The keys of the items on the page."""
        return self.page.eval_on_selector_all(which, "nodes => nodes.map(node => node.title)")

    def key(self) -> str:
        """The key of the current item."""
        return self.page.text_content("#facts h2")

    def order(self, name: str) -> Visit:
        """Take items from an order."""
        self.page.select_option("#order", name)
        return self.tiles()

    def leave(self) -> None:
        """Go away, as people do, and check what must never happen."""
        if not self.page.is_closed():
            violations = self.page.evaluate("window.seen ? window.seen.violations : []")
            self.page.goto("about:blank")
            self.page.close()
            assert not violations
        if not self.context.pages:
            self.context.close()
        assert not self.problems
        assert self.hosts <= {self.host, ""}, "a request left this machine"


@cache
def axe() -> str:
    """The source of axe-core, of one version, checked against its digest."""
    kept = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "raysal-tests"
    archive = kept / f"axe-core-{AXE}.tgz"
    if not archive.is_file():
        kept.mkdir(parents=True, exist_ok=True)
        try:
            command = ["npm", "pack", f"axe-core@{AXE}", "--silent", "--pack-destination", str(kept)]
            subprocess.run(command, cwd=kept, check=True, capture_output=True, timeout=120)
        except (OSError, subprocess.SubprocessError) as problem:
            unavailable(f"npm cannot fetch axe-core {AXE}: {problem}")
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    assert digest == AXE_SHA512, f"{archive} is not axe-core {AXE}: delete it"
    with tarfile.open(archive) as tar:
        file = tar.extractfile("package/axe.min.js")
        assert file is not None
        return file.read().decode()


def complaints(page: Any) -> list[str]:
    """What axe-core finds wrong with the page as it is now."""
    page.evaluate(axe())
    found = page.evaluate("() => axe.run({resultTypes: ['violations']})")
    nodes = [(rule["id"], node) for rule in found["violations"] for node in rule["nodes"]]
    return [f"{rule}: {node['target']} {node['failureSummary']}" for rule, node in nodes]
