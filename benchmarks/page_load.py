"""Many annotators at once against the page of one run, over real HTTP: how long each waits, and what is lost.

Each annotator is a thread with a connection of its own. It holds a few items (`/api/next`), answers them one by one
(`/api/answers`), and looks at the next ones after each answer, as the page does. Afterwards the ledger is asked for
every answer that was acknowledged, and the hand-outs that were made are compared: no item may have been before two
people at once, and no acknowledged answer may be missing.

    .venv/bin/python -m benchmarks.page_load RUN --annotators 20 --answers 50
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from raysal.labels.ledger import Ledger

TOKEN = "token-of-the-load-test"


class Client:
    """One annotator's browser."""

    def __init__(self, host: str, port: int, annotator: str, token: str = TOKEN) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=60)
        self._headers = {
            "Authorization": f"Bearer {token}", "X-Raysal": "1", "X-Annotator": quote(annotator),
            "Content-Type": "application/json",
        }  # fmt: skip

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Ask, and fail on anything but 200."""
        self._connection.request(method, path, None if body is None else json.dumps(body), self._headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:300]!r}")
        said: dict[str, Any] = json.loads(content)
        return said

    def close(self) -> None:
        self._connection.close()


@dataclass
class Load:
    """What came of a load."""

    annotators: int
    seconds: float = 0.0
    answers: int = 0
    """acknowledged"""
    next_ms: list[float] = field(default_factory=list)
    answer_ms: list[float] = field(default_factory=list)
    to_next_ms: list[float] = field(default_factory=list)
    """from a key to the next items: an answer, and what comes next"""
    lost: int = 0
    """acknowledged answers that the ledger does not have"""
    doubled: int = 0
    """items that were before two people"""
    said: dict[tuple[str, str], str] = field(default_factory=dict)
    held: dict[str, set[str]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """The numbers of a table."""
        return {
            "annotators": self.annotators,
            "answers": self.answers,
            "answers_per_s": round(self.answers / max(self.seconds, 1e-9), 1),
            "p50_ms": round(percentile(self.to_next_ms, 50), 1),
            "p95_ms": round(percentile(self.to_next_ms, 95), 1),
            "p99_ms": round(percentile(self.to_next_ms, 99), 1),
            "next_p95_ms": round(percentile(self.next_ms, 95), 1),
            "answer_p95_ms": round(percentile(self.answer_ms, 95), 1),
            "lost": self.lost,
            "doubled": self.doubled,
        }


def percentile(values: Sequence[float], q: float) -> float:
    """The q-th percentile by nearest rank; NaN of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q / 100))] if ordered else float("nan")


def load(
    host: str,
    port: int,
    ledger: Path,
    *,
    annotators: int = 20,
    answers: int = 50,
    order: str = "batch",
    hold: int = 8,
    label: Callable[[str], str] = lambda _: "yes",
    think_s: float = 0.0,
    token: str = TOKEN,
    prefix: str = "person ",
) -> Load:
    """Let several people label at once, and count what was lost.

    Args:
        host: of the page.
        port: of the page.
        ledger: the run's `ledger.sqlite`.
        annotators: how many people.
        answers: how many answers each gives, unless the order ends before.
        order: where the items come from.
        hold: items that each person holds.
        label: what people say of an item, by its key.
        think_s: seconds between an answer and the next one.
        token: of the page.
        prefix: how the names of the people begin.

    Returns:
        What was measured.
    """
    result, lock, errors = Load(annotators=annotators), threading.Lock(), []
    begin = threading.Barrier(annotators + 1)

    def person(number: int) -> None:
        name = f"{prefix}{number}"
        client = Client(host, port, name, token)
        try:
            begin.wait()
            items = list(client.ask("POST", "/api/next", {"n": hold, "order": order})["items"])
            with lock:
                for item in items:
                    result.held.setdefault(item["key"], set()).add(name)
            for turn in range(answers):
                if not items:
                    break
                item = items[0]
                said = label(item["key"])
                body = {
                    "answers": [{"id": item["id"], "key": item["key"], "label": said}],
                    "nonce": f"{name} {turn} {item['key']}",
                }
                start = time.perf_counter()
                client.ask("POST", "/api/answers", body)
                middle = time.perf_counter()
                items = list(client.ask("POST", "/api/next", {"n": hold, "order": order})["items"])
                end = time.perf_counter()
                with lock:
                    result.answers += 1
                    result.said[name, item["key"]] = said
                    result.answer_ms.append(1e3 * (middle - start))
                    result.next_ms.append(1e3 * (end - middle))
                    result.to_next_ms.append(1e3 * (end - start))
                    for held in items:
                        result.held.setdefault(held["key"], set()).add(name)
                if think_s:
                    time.sleep(think_s)
        except BaseException as problem:
            errors.append(problem)
        finally:
            client.close()

    threads = [threading.Thread(target=person, args=(number,)) for number in range(annotators)]
    for thread in threads:
        thread.start()
    begin.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    result.seconds = time.perf_counter() - start
    if errors:
        raise errors[0]
    with Ledger(ledger, create=False) as read:
        there = {(answer.annotator, answer.key): answer.label for answer in read.answers(skips=True)}
    result.lost = sum(there.get(pair) != said for pair, said in result.said.items())
    result.doubled = sum(len(people) > 1 for people in result.held.values())
    return result


@contextmanager
def served(run: Path, *options: str, token: str = TOKEN) -> Iterator[tuple[str, int]]:
    """The page of a run in a process of its own, at a free port; ends with the block as by Ctrl-C.

    Yields:
        Host and port.
    """
    words = [sys.executable, "-m", "raysal", "serve", str(run), "--no-open", "--port", "0", *options]
    environment = {**os.environ, "RAYSAL_TOKEN": token}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline()
            found = re.search(r"http://([^/:]+):(\d+)/", address)
            if found is None:
                raise RuntimeError(f"no address: {address!r}")
            yield found[1], int(found[2])
        finally:
            process.send_signal(2)
            process.wait(60)


def ready(client: Client, order: str, seconds: float = 300.0) -> float:
    """Wait until an order is ready; the seconds it took."""
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        if any(one["name"] == order and one["ready"] for one in client.ask("GET", "/api/run")["orders"]):
            return time.perf_counter() - start
        time.sleep(0.05)
    raise RuntimeError(f"{order} is not ready after {seconds} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--annotators", type=int, default=20)
    parser.add_argument("--answers", type=int, default=50)
    parser.add_argument("--order", default="batch")
    parser.add_argument("--think", type=float, default=0.0, help="seconds between two answers of a person")
    chosen = parser.parse_args()
    with served(chosen.run) as (host, port):
        client = Client(host, port, "reader")
        waited = ready(client, chosen.order)
        found = load(
            host, port, chosen.run / "ledger.sqlite",
            annotators=chosen.annotators, answers=chosen.answers, order=chosen.order, think_s=chosen.think,
            label=lambda key: "yes" if Counter(key)["7"] > 1 else "no",
        )  # fmt: skip
        print(json.dumps({"ready_s": round(waited, 2), **found.summary()}))
        client.close()


if __name__ == "__main__":
    main()
