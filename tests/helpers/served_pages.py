"""The page's real server in a thread of the test, which can be stopped and started at the same address."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from raysal.labels import Ledger
from raysal.web.app import guarded
from raysal.web.desk import Desk
from raysal.web.listening import PageServer
from raysal.web.server import listen, open_run

TOKEN = "token-of-the-test"


class ServedPage:
    """A server over a run."""

    def __init__(self, run: Path, *, token: str = TOKEN, **desk: Any) -> None:
        self.run, self.token, self.desk = run, token, desk
        self.port = 0
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    def start(self) -> None:
        """Serve, at the port of before if there was one."""
        bound = listen("127.0.0.1", self.port)
        self.port = bound.getsockname()[1]
        self.session = open_run(self.run)
        self.here = Desk(self.session, **self.desk)
        self.app = guarded(self.here, self.token)
        started = threading.Event()
        self.server = PageServer(self.app, started.set)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [bound]}, daemon=True)
        self.thread.start()
        assert started.wait(60)
        self.socket = bound

    def stop(self) -> None:
        """End as Ctrl-C does."""
        self.app.closing.set()
        self.server.should_exit = True
        self.thread.join()
        self.socket.close()
        self.session.close()

    def end_hand_outs(self) -> None:
        """End all hand-outs: a page whose server was away when it was left could not give its items back."""
        held: dict[str, list[str]] = {}
        for who, key in self.here.handouts._db.execute("SELECT annotator, key FROM held").fetchall():
            held.setdefault(who, []).append(key)
        for who, keys in held.items():
            self.here.handouts.release(who, keys)

    def said(self, annotator: str) -> dict[str, str]:
        """What an annotator said: {key: label}, skips included, as the ledger has it."""
        ledger: Ledger = self.session.ledger
        return {label.key: label.label for label in ledger.answers(skips=True) if label.annotator == annotator}
