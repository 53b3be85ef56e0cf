"""The page of a run over real HTTP, at a free port of this machine, by a server in a thread."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from raysal.web.app import guarded
from raysal.web.desk import Desk
from raysal.web.listening import PageServer
from raysal.web.server import listen, open_run

TOKEN = "token-of-the-tests/+?"


class Browser(httpx.Client):
    """One annotator's browser, which has the token."""

    def __init__(self, address: str, annotator: str = "ann", token: str | None = TOKEN) -> None:
        headers = {"X-Raysal": "1", "X-Annotator": annotator}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        super().__init__(base_url=address, headers=headers, timeout=60, trust_env=False)

    def look(self, path: str, **arguments: Any) -> Any:
        """What a GET answers, which must be well."""
        answer = self.get(path, params=arguments)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def push(self, path: str, body: Any) -> httpx.Response:
        """POST a body of JSON, in ASCII: a text may hold what UTF-8 cannot."""
        return self.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})

    def tell(self, path: str, **body: Any) -> Any:
        """What a POST answers, which must be well."""
        answer = self.push(path, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, body: Any = None, **arguments: Any) -> tuple[int, str]:
        """The status of an error, and what it says."""
        answer = self.get(path, params=arguments) if body is None else self.push(path, body)
        said = answer.json()["error"]
        assert set(said) == {"what", "problem", "fix"}
        return answer.status_code, f"{said['what']}: {said['problem']}; {said['fix']}"


class WatchedDesk(Desk):
    """A desk whose changes a test can wait for, without a clock."""

    _change = threading.Condition()

    def tell_change(self) -> None:
        super().tell_change()
        with self._change:
            self._change.notify_all()

    def wait_for_change(self, seconds: float) -> bool:
        """Wait until pages should look again, at most so long; whether they should."""
        with self._change:
            before = self.changes
            return self._change.wait_for(lambda: self.changes != before, seconds)


class Page:
    """A page that is served."""

    def __init__(self, desk: WatchedDesk, address: str) -> None:
        self.desk, self.address = desk, address

    def browser(self, annotator: str = "ann", token: str | None = TOKEN) -> Browser:
        return Browser(self.address, annotator, token)

    def ready(self, *orders: str) -> None:
        """Wait for orders, by what the follower tells: without a clock."""
        while any(self.desk.standing.why_not(order) is not None for order in orders):
            self.desk.wait_for_change(30)


@contextmanager
def page_of(run: Path, **options: Any) -> Iterator[Page]:
    """Serve a run until the block ends."""
    with listen("127.0.0.1", 0) as bound, open_run(run) as session:
        desk = WatchedDesk(session, **options)
        began = threading.Event()
        app = guarded(desk, TOKEN)
        server = PageServer(app, began.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            assert began.wait(60)
            yield Page(desk, f"http://127.0.0.1:{bound.getsockname()[1]}")
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()
