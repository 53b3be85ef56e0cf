"""Nobody gets anything without the token, under another name, or from outside of the pool. Over real HTTP."""

from __future__ import annotations

import asyncio
import http.client
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from page_server import TOKEN, Page, page_of
from served_runs import picture_run
from starlette.responses import Response

from raysal.errors import ConfigError
from raysal.web.access import ANY, POLICY, Access, check_token, is_own
from raysal.web.app import Paths

PATHS = [
    "/",
    "/static/index.html",
    "/api/run",
    "/api/items",
    "/api/item/0/thumb",
    "/api/events",
    "/nothing",
    "/api/next",
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with page_of(picture_run(tmp_path_factory.mktemp("access"), 12)) as page:
        yield page


def raw(page: Page, method: str, path: str, headers: dict[str, str], body: str | None = None) -> tuple[int, bytes]:
    """A request as it is written, which no client makes nicer."""
    connection = http.client.HTTPConnection(page.address.removeprefix("http://"), timeout=30)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": "localhost", "Content-Length": str(len(body or "")), **headers}.items():
            connection.putheader(name, value)
        connection.endheaders((body or "").encode())
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer "},
        {"Cookie": f"raysal_000000000000={quote(TOKEN)}"},
        {"Cookie": f"{Access(None, TOKEN).cookie}=wrong"},  # type: ignore[arg-type]
    ],
)
def test_every_path_answers_401_without_the_token(page: Page, path: str, headers: dict[str, str]):
    for method in ("GET", "POST", "PUT", "DELETE"):
        status, body = raw(page, method, path, {**headers, "X-Raysal": "1"})
        assert status == 401
        assert TOKEN.encode() not in body


def test_the_printed_address_gives_a_cookie_that_scripts_and_other_sites_do_not_see(page: Page):
    with httpx.Client(base_url=page.address, trust_env=False) as browser:
        first = browser.get("/", params={"token": TOKEN})
        assert (first.status_code, first.headers["location"]) == (303, "./")
        cookie = first.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert browser.get("/").status_code == 200
        assert browser.get("/api/run").status_code == 200
        assert browser.get("/", params={"token": "wrong"}).status_code == 200  # the cookie counts
    assert httpx.get(f"{page.address}/", params={"token": "wrong"}, trust_env=False).status_code == 401
    assert httpx.get(f"{page.address}/api/run", params={"token": TOKEN}, trust_env=False).status_code == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:1", 200), ("localhost", 200), ("LOCALHOST:80", 200), ("[::1]:9", 200),
        ("evil.example", 400), ("127.0.0.1.evil.example", 400), ("", 400), ("[::1].evil", 400), ("localhost.evil", 400),
    ],
)  # fmt: skip
def test_a_request_that_names_another_server_is_refused(page: Page, host: str, status: int):
    assert raw(page, "GET", "/api/run", {"Host": host, "Authorization": f"Bearer {TOKEN}"})[0] == status


def test_a_server_on_all_addresses_is_named_by_addresses_and_no_foreign_name():
    for any_address in ANY:
        for name in ("192.0.2.7:80", "[2001:db8::1]:80", "backend:9090", "host.docker.internal:9090"):
            assert is_own(name, any_address)
        for name in ("evil.example", "evil.example:80", "backend.evil.example", ""):
            assert not is_own(name, any_address)
    assert is_own("box.lan:8710", "box.lan")
    assert is_own("host.docker.internal:9090", "127.0.0.1")
    for name in ("192.0.2.7", "backend", ""):
        assert not is_own(name, "127.0.0.1")


def test_what_changes_something_needs_a_header_that_no_form_can_send(page: Page):
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "text/plain"}
    for path in ("/api/answers", "/api/next", "/api/round", "/api/stop", "/api/undo"):
        assert raw(page, "POST", path, headers, "{}")[0] == 403
        assert raw(page, "POST", path, {**headers, "X-Raysal": "0"}, "{}")[0] == 403


def test_a_get_changes_nothing(page: Page):
    """So whoever follows a link of another site, with the cookie, does nothing."""
    page.ready("random", "likeliest")
    folder = page.desk.session.dir

    def held() -> dict[str, list[Any]]:
        found = {}
        for file in sorted(folder.glob("*.sqlite")):
            with closing(sqlite3.connect(file)) as db:
                tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
                found |= {f"{file.name}/{name}": db.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
        return found

    before, files = held(), sorted(folder.rglob("*"))
    assert {name.partition("/")[0] for name in before} == {"handouts.sqlite", "ledger.sqlite", "remarks.sqlite"}
    with page.browser() as browser:
        for route in Paths(page.desk).routes():
            path = route.path.replace("{id:int}", "3").replace("{name:path}", "index.html").replace("{rest:path}", "x")
            if path != "/api/events":
                for arguments in ({}, {"order": "random"}, {"order": "nearest", "key": "some/0003.jpg"}, {"ids": "3"}):
                    browser.get(path, params=arguments)
        with browser.stream("GET", "/api/events") as events:
            next(events.iter_lines())
        for path in ("/api/answers", "/api/next", "/api/round", "/api/stop", "/api/undo"):
            assert browser.get(path).status_code in (404, 405)
    assert held() == before
    assert sorted(folder.rglob("*")) == files


@pytest.mark.parametrize(
    "token", ["", "short", "seven77", "with blanks in", "tab\there...", "pässwörter", "Ω" * 9, "a" * 9 + "\x7f"]
)
def test_a_token_that_headers_cannot_hold_is_refused(token: str):
    with pytest.raises(ConfigError, match="RAYSAL_TOKEN: has "):
        check_token(token)
    with pytest.raises(ConfigError):
        Access(None, token)  # type: ignore[arg-type]


def test_any_other_token_opens_the_page():
    token = "".join(map(chr, range(0x21, 0x7F)))

    async def look() -> list[int]:
        transport = httpx.ASGITransport(Access(Response("in"), token))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser:
            first = await browser.get("/", params={"token": token})
            return [first.status_code, (await browser.get("/")).status_code]

    assert asyncio.run(look()) == [303, 200]


def test_every_answer_has_the_policy(page: Page):
    with page.browser() as browser:
        for path in ("/", "/static/index.html", "/api/run", "/nothing", "/api/item/0/thumb"):
            headers = browser.get(path).headers
            assert headers["content-security-policy"] == POLICY
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"]
    bare = httpx.get(f"{page.address}/", trust_env=False).headers["content-security-policy"]
    assert re.sub(r"'sha256-[\w+/=]+'", "'self'", bare) == POLICY, "its own style is allowed, and nothing more"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/%2e%2e/errors.py", "/static//etc/passwd",
        "/static/..\\app.py", "/../run.json", "/api/item/../../etc/passwd", "/api/item/0/../../../x",
        "/api/item/-1", "/api/item/1e3", "/api/item/99999999999999999999999/thumb", "/api/item/%30%2e%2e", "/static/",
        "/static/index.html/", "/static/%00", "/ledger.sqlite",
    ],
)  # fmt: skip
def test_no_path_leads_anywhere_else(page: Page, path: str):
    status, body = raw(page, "GET", path, {"Authorization": f"Bearer {TOKEN}"})
    assert status == 404
    assert b"error" in body


def test_bodies_are_bounded_and_must_be_objects(page: Page):
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Raysal": "1"}
    assert raw(page, "POST", "/api/next", {**headers, "Content-Length": str(9 << 20)})[0] == 413
    for body in ("[]", "{", "nul", "1", "[" * 100_000):
        assert raw(page, "POST", "/api/next", headers, body)[0] == 400
    assert raw(page, "POST", "/api/next", headers, '{"n": "many"}')[0] == 422
    assert raw(page, "GET", "/api/items?n=many", headers)[0] == 422
    assert raw(page, "GET", "/api/items?order=best", headers)[0] == 409


def test_no_address_of_this_machine_is_in_what_a_page_gets(page: Page, tmp_path: Path):
    page.ready("likeliest")
    folder = str(page.desk.session.pool.path.parent)
    with page.browser() as browser:
        for path in ("/api/run", "/api/items?order=random", "/api/item/0", "/api/curve", "/api/map", "/api/histogram"):
            answer = browser.get(path)
            assert answer.status_code == 200, (path, answer.text)
            assert folder not in answer.text
