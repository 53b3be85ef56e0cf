"""Who may ask: the token, the Host header, requests of other sites, and what a browser may do with an answer.

- Every request needs the token, else every path answers 401, those that do not exist included. It comes as
  `Authorization: Bearer T`; to the page also as a cookie, which `/?token=T` sets; to the backend of label tools also as
  the password of `Authorization: Basic`.
- The Host header must name this server. Otherwise the page of an attacker, whose name is made to lead to 127.0.0.1 (DNS
  rebinding), would be of the same site as the server.
- A request that changes something needs a header that forms and unasked requests of other sites cannot send:
  `X-Raysal: 1` for the page, `Content-Type: application/json` for the backend. A GET changes nothing. So the cookie may
  be one that a link of another site sends along (SameSite=Lax): whoever follows a link to the page gets in.
- The policy (CSP) lets the page load from this server alone, and nobody frame it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import HTMLResponse, RedirectResponse, Response

from raysal.errors import ConfigError
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
MAX_BODY = 8 << 20
"""Bytes of a request's body."""
LOOPBACK = ("127.0.0.1", "localhost", "::1", "host.docker.internal", "host.containers.internal")
"""Names of this machine's loopback: in a container it has the last two, which belong to nobody on the internet."""
TOKEN = "RAYSAL_TOKEN"
"""The environment variable that holds the token."""
SHORTEST_TOKEN = 8
HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^\s:/@\[\]]+))(?::[0-9]{0,5})?")
ANY = ("0.0.0.0", "::", "")
"""Hosts to listen on that stand for all addresses."""


class Guard(ABC):
    """The layer around an application that lets only those in who may."""

    def __init__(self, app: Asgi, token: str, host: str = "127.0.0.1") -> None:
        """Guard an application.

        Args:
            app: the application.
            token: what every request must show.
            host: where the server listens.

        Raises:
            ConfigError: the token is too short, or cannot stand in a header.
        """
        self._app, self._token, self._host = app, check_token(token).encode(), host

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

        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        await (self._app if refusal is None else refusal)(scope, receive, send_guarded)

    def _refusal(self, scope: Message, headers: Mapping[str, str]) -> Response | None:
        """The answer to a request that may not come in; None for one that may."""
        if not is_own(headers.get("host", ""), self._host):
            return error(
                400, "host", "the request names another server", "open the address that was printed, or see --host"
            )
        if not self.shows_token(headers):
            return self.unknown(scope["path"])
        return None if scope["method"] in ("GET", "HEAD") else self.unasked(headers)

    def is_token(self, given: str) -> bool:
        """Whether a text is the token; as slow for a wrong one that begins right."""
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token)

    def shows_token(self, headers: Mapping[str, str]) -> bool:
        """Whether a request shows the token."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.is_token(given.strip())

    def unknown(self, path: str) -> Response:  # noqa: ARG002
        """The answer to a request without the token."""
        return error(401, "token", "is missing or wrong", "open the address that was printed")

    @abstractmethod
    def unasked(self, headers: Mapping[str, str]) -> Response | None:
        """The answer to a request that would change something, and that a page of another site may have sent."""


class Access(Guard):
    """The guard of the page."""

    def __init__(self, app: Asgi, token: str, host: str = "127.0.0.1") -> None:
        """Guard the page; see `Guard`."""
        super().__init__(app, token, host)
        self.closing = Event()
        """set when the server is about to end: streams of events end then"""
        self.cookie = "raysal_" + hashlib.sha256(self._token).hexdigest()[:12]
        """Its name is of this token: cookies of one machine are shared by all ports."""

    def _refusal(self, scope: Message, headers: Mapping[str, str]) -> Response | None:
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[-1]
        asks = scope["path"] == "/" and scope["method"] == "GET" and is_own(headers.get("host", ""), self._host)
        if asks and given and self.is_token(given):
            answer = RedirectResponse("./", status_code=303)
            answer.set_cookie(self.cookie, given, httponly=True, samesite="lax", path="/", max_age=30 * 86400)
            return answer
        return super()._refusal(scope, headers)

    def shows_token(self, headers: Mapping[str, str]) -> bool:
        """Whether a request shows the token, in the header or in the cookie."""
        if super().shows_token(headers):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        return cookie is not None and self.is_token(cookie.value)

    def unknown(self, path: str) -> Response:
        """The answer to a request without the token: for people at `/`, for programs elsewhere."""
        return no_entry() if path == "/" else super().unknown(path)

    def unasked(self, headers: Mapping[str, str]) -> Response | None:
        """The answer to what lacks the header `X-Raysal: 1`, or is too long."""
        if headers.get("x-raysal") != "1":
            return error(403, "X-Raysal", "the header is missing", "send `X-Raysal: 1` with what changes something")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY:
            return error(413, "request", f"more than {MAX_BODY} bytes", "send fewer answers at once")
        return None


class ToolAccess(Guard):
    """The guard of the backend of label tools. It sets no cookie, and asks no browser for a password."""

    def shows_token(self, headers: Mapping[str, str]) -> bool:
        """Whether a request shows the token, also as the password of Basic."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return super().shows_token(headers)
        try:
            return self.is_token(base64.b64decode(given, validate=True).decode("latin-1").partition(":")[2])
        except (binascii.Error, ValueError):
            return False

    def unknown(self, path: str) -> Response:
        """The answer to a request without the token. It asks for a bearer: browsers keep no such thing."""
        answer = super().unknown(path)
        answer.headers["www-authenticate"] = 'Bearer realm="raysal"'
        return answer

    def unasked(self, headers: Mapping[str, str]) -> Response | None:
        """The answer to what is not sent as JSON."""
        if headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
            return None
        return error(415, "Content-Type", "is not application/json", "send `Content-Type: application/json`")


def check_token(token: str) -> str:
    """A token, if it can be one.

    Args:
        token: what every request is to show.

    Returns:
        The token.

    Raises:
        ConfigError: it is too short to be a secret, or has letters that headers, cookies and addresses cannot hold.
    """
    if len(token) < SHORTEST_TOKEN:
        raise ConfigError(TOKEN, f"has {len(token)} letters", f"use {SHORTEST_TOKEN} or more, or unset it")
    if not all("!" <= letter <= "~" for letter in token):
        problem = "has a blank, a letter beyond ASCII, or one that cannot be printed"
        raise ConfigError(TOKEN, problem, "use letters, digits and signs of ASCII, as `openssl rand -hex 24` gives")
    return token


def is_own(host: str, listening: str) -> bool:
    """Whether a Host header names this server.

    Names of this machine's loopback do, and the host that the server was told to listen on. A server that listens
    on all addresses is named by any address, by the names of its machine, and by names without a dot, as services of
    containers have; but by no other name, which may belong to somebody else.

    Args:
        host: the header, with a port or without.
        listening: the host that the server listens on.

    Returns:
        Whether it does.
    """
    name = host_name(host)
    if name in LOOPBACK or (name and name == listening.strip("[]").lower()):
        return True
    return listening in ANY and (is_address(name) or name in machine_names() or (name != "" and "." not in name))


def no_entry() -> Response:
    """What people see without the token."""
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
