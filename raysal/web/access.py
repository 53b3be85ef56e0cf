"""Who may ask: the token, the Host header, requests of other sites, and what a browser may do with an answer.

- Every request needs the token: as a cookie, which `/?token=T` sets, or as `Authorization: Bearer T`. Without it every
  path answers 401, those that do not exist included.
- The Host header must name this server. Otherwise the page of an attacker, whose name is made to lead to 127.0.0.1 (DNS
  rebinding), would be of the same site as the server.
- A request that changes something needs the header `X-Raysal: 1`, which forms of other sites cannot send.
- The policy (CSP) lets the page load from this server alone, and nobody frame it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import HTMLResponse, RedirectResponse, Response

from raysal.store import dumps

Message = MutableMapping[str, Any]
Asgi = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}
"""Of every answer."""
NO_ENTRY = Path(__file__).parent / "static" / "unauthorized.html"
"""What people see without the token."""
MAX_BODY = 8 << 20
"""Bytes of a request's body."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^\s:/@\[\]]+))(?::[0-9]{0,5})?")
ANY = ("0.0.0.0", "::", "")
"""Hosts to listen on that stand for all addresses."""


class Access:
    """The layer around the application that lets only those in who may."""

    def __init__(self, app: Asgi, token: str, host: str = "127.0.0.1") -> None:
        """Guard an application.

        Args:
            app: the application.
            token: what every request must show.
            host: where the server listens.
        """
        self._app, self._token, self._host = app, token.encode(), host
        self.closing = Event()
        """set when the server is about to end: streams of events end then"""
        self.cookie = "raysal_" + hashlib.sha256(self._token).hexdigest()[:12]
        """Its name is of this token: cookies of one machine are shared by all ports."""

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message.get("headers", [])}
                more = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in own]
                cache = [] if b"cache-control" in own else [(b"cache-control", b"no-store")]
                message["headers"] = [*message.get("headers", []), *more, *cache]
            await send(message)

        refusal = self._refusal(scope)
        await (self._app if refusal is None else refusal)(scope, receive, send_guarded)

    def _refusal(self, scope: Message) -> Response | None:
        """The answer to a request that may not come in; None for one that may."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if not self.is_own(headers.get("host", "")):
            return error(
                400, "host", "the request names another server", "open the address that `raysal serve` printed"
            )
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[-1]
        if scope["path"] == "/" and scope["method"] == "GET" and given and self.is_token(given):
            answer = RedirectResponse("./", status_code=303)
            answer.set_cookie(self.cookie, given, httponly=True, samesite="strict", path="/", max_age=30 * 86400)
            return answer
        if not self._shows_token(headers):
            return unknown(scope["path"])
        if scope["method"] not in ("GET", "HEAD"):
            if headers.get("x-raysal") != "1":
                return error(403, "X-Raysal", "the header is missing", "send `X-Raysal: 1` with what changes something")
            length = headers.get("content-length", "0")
            if not length.isdigit() or int(length) > MAX_BODY:
                return error(413, "request", f"more than {MAX_BODY} bytes", "send fewer answers at once")
        return None

    def is_token(self, given: str) -> bool:
        """Whether a text is the token; as slow for a wrong one that begins right."""
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token)

    def _shows_token(self, headers: dict[str, str]) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        return cookie is not None and self.is_token(cookie.value)

    def is_own(self, host: str) -> bool:
        """Whether a Host header names this server.

        Names of this machine's loopback do, and the host that the server was told to listen on. A server that listens
        on all addresses is named by any address, and by the names of its machine, but by no other name.

        Args:
            host: the header, with a port or without.

        Returns:
            Whether it does.
        """
        name = host_name(host)
        if name in LOOPBACK or name == self._host.strip("[]").lower():
            return True
        return self._host in ANY and (is_address(name) or name in machine_names())


def unknown(path: str) -> Response:
    """The answer to a request without the token: for people at `/`, for programs elsewhere."""
    if path != "/":
        return error(401, "token", "is missing or wrong", "open the address that `raysal serve` printed")
    page = NO_ENTRY.read_text(encoding="utf-8")
    # The page's own style, which lies in it because a style sheet would need the token, is allowed by its digest.
    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = POLICY.replace("style-src 'self'", f"style-src 'sha256-{digest}'")
    return HTMLResponse(page, status_code=401, headers={"content-security-policy": policy})


def host_name(host: str) -> str:
    """The name or address in a Host header, without its port and brackets, in lower case; empty if it is neither."""
    found = HOST.fullmatch(host.lower())
    return "" if found is None else found["address"] or found["name"]


def is_address(name: str) -> bool:
    """Whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def machine_names() -> set[str]:
    """The names of this machine."""
    name = socket.gethostname().lower()
    return {name, name.partition(".")[0], f"{name.partition('.')[0]}.local"}


def error(status: int, what: str, problem: str, fix: str = "") -> Response:
    """An error as every path answers it."""
    body = dumps({"error": {"what": what, "problem": problem, "fix": fix}})
    later = {"retry-after": "1"} if status == 503 else None
    return Response(body, status_code=status, headers=later, media_type="application/json")
