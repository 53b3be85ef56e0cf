"""`raysal.serve`: the page of a run on this machine, until somebody stops it."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import sys
import tempfile
import warnings
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from raysal.errors import LabelWarning, MissingExtra, RunError
from raysal.fleet import open_fleet
from raysal.fleet.watched import WatchedFleet
from raysal.rounds.directory import RunDir
from raysal.rounds.session import Session

PORT = 8710
"""Where the page is unless somebody says so; if it is taken, at a free port."""
SWITCH_S = 5e-4


@dataclass(frozen=True, kw_only=True)
class Served:
    """Where a page is."""

    address: str
    """with the token"""
    host: str
    port: int


def serve(
    run: str | Path,
    pool: str | Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | None = None,
    per_item: int = 1,
    media: str | Path | None = None,
    backend: str | None = None,
    open_browser: bool = False,
    ready: Callable[[Served], None] = lambda served: print(f"raysal: {served.address}", flush=True),
) -> int:
    """Serve the page of a run until Ctrl-C (or SIGTERM). It needs the extra `serve`.

    Args:
        run: the run directory.
        pool: the run's pool, where it was moved.
        host: the address to listen on. Others than the loopback can be reached by other machines, without encryption.
        port: the port; 0 for any free one. By default `PORT`, or a free one where that is taken.
        token: what every request must show; by default that of RAYSAL_TOKEN, or a new one.
        per_item: how many people get an item.
        media: the folder of the files that keys name, for pools of ready vectors.
        backend: `local` or `ray`, in place of the config's.
        open_browser: open the page in a browser.
        ready: called with the address as soon as the page can be opened; prints it by default.

    Returns:
        How many answers people gave while it ran, less those that were taken back.

    Raises:
        MissingExtra: starlette or uvicorn is not installed.
        RunError: no run is there, or the port is taken.
        ConfigError: the token is too short, or no printable ASCII.
        PoolError, FingerprintMismatch, Damaged: the run or its pool cannot be opened.
    """
    try:
        from raysal.web.app import guarded
        from raysal.web.desk import Desk
        from raysal.web.listening import PageServer
    except ModuleNotFoundError as missing:
        raise MissingExtra("raysal serve", missing.name or "starlette", "serve") from None
    token = checked_token(token)
    # A request hands over between threads four times, and each time waits so long for a thread that computes.
    sys.setswitchinterval(SWITCH_S)
    RunDir(Path(run)).require_config()
    with listen(host, port) as bound, open_run(run, pool, backend) as session, ExitStack() as opened:

        def announce() -> None:
            ready(served)
            with suppress(OSError):  # the address is printed
                if open_browser:
                    webbrowser.open(opened.enter_context(redirecting(Path(run), served.address)))

        desk = Desk(session, per_item=per_item, media=None if media is None else Path(media))
        served = served_at(bound, host, token)
        server = PageServer(guarded(desk, token, host), announce)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LabelWarning)  # the page says it
            try:
                server.run(sockets=[bound])
            except KeyboardInterrupt:
                pass  # the end that everybody means
            finally:
                desk.close()
        return max(desk.answering.teller.told, 0)  # or more than that, of earlier ones, were taken back


@contextmanager
def redirecting(run: Path, address: str) -> Iterator[str]:
    """A page that leads to an address, in a file that its owner alone can read.

    Whoever uses the machine can see what programs are started with. So a browser is started with the name of this file,
    and not with the address, which holds the token.

    Args:
        run: the run directory. The file is there, as some browsers see no other files than those below the home; or
            among temporary files, where the disk of the run keeps no rights.
        address: where it leads.

    Yields:
        Its name as an address. The file is removed at the end.

    Raises:
        PermissionError: there is no place for such a file.
    """
    page = f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={escape(address)}">'
    with ExitStack() as made:
        for folder in (run, None):
            with suppress(OSError):
                number, name = tempfile.mkstemp(suffix=".html", prefix="opens-", dir=folder)
                made.callback(Path(name).unlink, missing_ok=True)
                with open(number, "w", encoding="utf-8") as file:
                    if os.name == "nt" or not os.fstat(number).st_mode & 0o077:
                        file.write(page)
                        break
        else:
            raise PermissionError(run, "no file can be made there that others cannot read")
        yield Path(name).resolve().as_uri()


def open_run(run: str | Path, pool: str | Path | None = None, backend: str | None = None) -> Session:
    """A session whose work in the background can be watched and stopped. Its fleet is opened when it is needed."""
    config = RunDir(Path(run)).require_config()
    fleet_config = config.fleet if backend is None else config.fleet.model_copy(update={"backend": backend})
    opened: list[Session] = []
    fleet = WatchedFleet(lambda: open_fleet(opened[0].pool, fleet_config))
    session = ServedSession.open(run, pool, fleet=fleet)
    opened.append(session)
    return session


class ServedSession(Session):
    """A session that closes the fleet it was given."""

    def close(self) -> None:
        """Close the ledger and the fleet."""
        fleet = self._fleet
        super().close()
        if fleet is not None:
            fleet.close()


def checked_token(given: str | None) -> str:
    """The token: as given, that of the environment, or a new one.

    Args:
        given: what the caller gives.

    Returns:
        The token.

    Raises:
        ConfigError: see `raysal.web.access.check_token`.
    """
    from raysal.web.access import TOKEN, check_token

    token = given if given is not None else os.environ.get(TOKEN)
    return secrets.token_urlsafe(24) if token is None else check_token(token)


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens.

    Args:
        host: the address.
        port: the port; None for `PORT`, or a free one where that is taken.

    Returns:
        The socket.

    Raises:
        RunError: the port is taken, or there is no such address here.
    """
    try:
        return _bound(host, PORT if port is None else port)
    except OSError as problem:
        taken = problem.errno == errno.EADDRINUSE
        if taken and port is None:
            return listen(host, 0)
        said = "is taken by another program" if taken else f"cannot be used ({problem.strerror})"
        option = "--port" if taken or problem.errno == errno.EACCES else "--host"
    except OverflowError:
        said, option = "there is no such port", "--port"
    raise RunError(f"{host}:{PORT if port is None else port}", said, f"name another one with {option}")


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named: otherwise every answer waits 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(128)
    except BaseException:
        bound.close()
        raise
    return bound


def served_at(bound: socket.socket, host: str, token: str) -> Served:
    """Where a socket is reached from this machine."""
    port = int(bound.getsockname()[1])
    address = f"http://{named_at(host)}:{port}/?token={quote(token, safe='')}"
    return Served(address=address, host=host, port=port)


def named_at(host: str) -> str:
    """What a host that is listened on is called in an address, on this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
