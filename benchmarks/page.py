"""The page in a real browser: first picture, time from key to next picture, labels per minute by keyboard.

A label is a digit pressed in the large view as soon as the next picture has been painted. The time from a key to the
next picture is taken inside the page: from the event of the key to the first task after the frame that shows the
decoded picture. What the driver of the browser adds between two keys counts for labels per minute, and for nothing
else. Answers go out behind; `saved_s` is how long the last of them took after the last key.

    .venv/bin/python -m benchmarks.page RUN --labels 200
    .venv/bin/python -m benchmarks.page http://127.0.0.1:8710/?token=... --order uncertain
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.page_load import TOKEN, Client, ready, served

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WATCH = """
window.taken = [];
let pressed = 0;
document.addEventListener('keydown', (event) => { if (/^Digit/.test(event.code)) pressed = performance.now(); }, true);
new MutationObserver(() => {
  const image = document.querySelector('.view .large-picture img:not(.stand-in)');
  if (!pressed || !image || !image.complete || !image.naturalWidth || image === window.last) return;
  window.last = image;
  const from = pressed;
  pressed = 0;
  requestAnimationFrame(() => setTimeout(() => window.taken.push(performance.now() - from)));
}).observe(document, {childList: true, subtree: true});
"""
MAP = ("k", ".field[data-drawn]")
MAP_AGAIN = ("lk", ".field[data-drawn]")
STATISTICS = ("j", "figure:has(#score-probability) svg")
FIRST = """Math.min(...performance.getEntriesByType('resource')
  .filter(entry => entry.name.includes('/thumb')).map(entry => entry.responseEnd))"""


@dataclass(frozen=True, kw_only=True)
class PageTimes:
    """What was measured at one page."""

    labels: int
    first_picture_ms: float
    """from the start of the navigation, nothing cached, to the first thumbnail that is loaded"""
    key_to_picture_p50_ms: float
    key_to_picture_p95_ms: float
    labels_per_minute: float
    saved_s: float
    """from the last key to the server's last word"""
    map_s: float
    """from opening the map to its points, nothing computed before"""
    map_again_s: float
    """the same once more"""
    statistics_s: float
    """from opening the statistics to their histogram"""
    page_mib: int
    """memory of the script's objects in the page, after all of this"""


@contextmanager
def browser() -> Iterator[Any]:
    """A Chromium without a window."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield opened
        finally:
            opened.close()


def measure(
    opened: Any, address: str, *, labels: int = 200, order: str = "likeliest", name: str = "bench"
) -> PageTimes:
    """Label by keyboard at a page, and measure.

    Args:
        opened: the browser.
        address: as `raysal serve` prints it, with its token.
        labels: how many; the pool must have that many pictures without a label.
        order: which items come up.
        name: of the annotator.

    Returns:
        The times.
    """
    page = opened.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.add_init_script(WATCH)
    page.add_init_script(f"localStorage.setItem('raysal.annotator', {json.dumps(json.dumps(name))})")
    page.add_init_script(f"localStorage.setItem('raysal.order', {json.dumps(json.dumps({'label': order}))})")
    page.goto(address)
    page.wait_for_function("() => [...document.querySelectorAll('.tile img')].some(image => image.naturalWidth)")
    first = page.evaluate(FIRST)
    page.keyboard.press("f")
    page.wait_for_selector(".large-picture img.ready")
    begun = time.perf_counter()
    for number in range(labels):
        page.keyboard.press("1" if number % 3 else "2")
        page.wait_for_function("n => window.taken.length >= n", arg=number + 1, polling=5)
    seconds = time.perf_counter() - begun
    page.wait_for_selector(".saved[data-is=well]", timeout=60_000)
    saved = time.perf_counter() - begun - seconds
    taken = np.array(page.evaluate("window.taken"))
    views = [seconds_to(page, *there) for there in (MAP, MAP_AGAIN, STATISTICS)]
    heap = page.context.new_cdp_session(page).send("Runtime.getHeapUsage")["usedSize"]
    page.goto("about:blank")
    page.context.close()
    return PageTimes(
        labels=labels,
        first_picture_ms=round(first, 1),
        key_to_picture_p50_ms=round(float(np.percentile(taken, 50)), 1),
        key_to_picture_p95_ms=round(float(np.percentile(taken, 95)), 1),
        labels_per_minute=round(60 * labels / seconds),
        saved_s=round(saved, 2),
        map_s=views[0],
        map_again_s=views[1],
        statistics_s=views[2],
        page_mib=round(heap / (1 << 20)),
    )


def seconds_to(page: Any, keys: str, there: str) -> float:
    """How long it takes from some keys to what they open."""
    begun = time.perf_counter()
    for key in keys:
        page.keyboard.press(key)
    page.wait_for_selector(there, timeout=120_000)
    return round(time.perf_counter() - begun, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("where", help="a run directory, or the address of a page with its token")
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--order", default="likeliest")
    given = parser.parse_args()
    with browser() as opened:
        if given.where.startswith("http"):
            times = measure(opened, given.where, labels=given.labels, order=given.order)
        else:
            with served(Path(given.where)) as (host, port):
                begun = time.perf_counter()
                ready(Client(host, port, "bench"), given.order)
                print(f"{given.order} is ready {time.perf_counter() - begun:.1f} s after the address is printed")
                address = f"http://{host}:{port}/?token={TOKEN}"
                times = measure(opened, address, labels=given.labels, order=given.order)
    print(json.dumps(asdict(times), indent=2))


if __name__ == "__main__":
    main()
