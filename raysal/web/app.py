"""The application: paths, what they take, and what they answer. docs/serve.md lists them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from raysal.embedding.decode import MAX_PIXELS
from raysal.errors import BadItem, LabelError, RaysalError
from raysal.rounds.session import Session
from raysal.store import dumps
from raysal.web.access import MAX_BODY, Access, error
from raysal.web.catalogue import Entry
from raysal.web.desk import PAGE, Desk
from raysal.web.desk_views import DeskViews
from raysal.web.media import MAX_SIDE
from raysal.web.refusals import facts_of, status_of, without_paths
from raysal.web.requests import answer_of, ids_in, number, packed, tab_of, text_in, who, whole
from raysal.web.standing import REFRESH_S

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".json": "application/json",
    ".png": "image/png", ".svg": "image/svg+xml", ".txt": "text/plain", ".woff2": "font/woff2",
}  # fmt: skip
"""What of the folder `static` is served."""
THREADS, SLOW_THREADS, MAP_THREADS = 32, 6, 2
"""Requests that are worked on at the same time; those of pictures and sounds, for which no answer waits; and those of
maps, which may wait for minutes, and for which no picture waits."""
MOST_SEEN = 100_000
"""Ids of the pages before one."""
ALIVE_S, LOOK_S = 15.0, 0.2
"""Seconds between two signs of life of the stream of events, and between two looks for something new."""


def make_app(
    session: Session, token: str, *, host: str = "127.0.0.1", per_item: int = 1, media: Path | None = None, **desk: Any
) -> Access:
    """The page of a run as an ASGI application, for a server of yours. It needs the extra `serve`.

    Args:
        session: of the run. It belongs to the application from its start to its end, and stays open.
        token: what every request must show.
        host: where the server will listen; the Host header must name it, or the loopback.
        per_item: how many people get an item.
        media: the folder of the files that keys name, for pools of ready vectors.
        desk: further arguments of `Desk`.

    Returns:
        The application.
    """
    return guarded(Desk(session, per_item=per_item, media=media, **desk), token, host)


def guarded(desk: Desk, token: str, host: str = "127.0.0.1") -> Access:
    """The application over a desk, which is started and closed with it."""
    paths = Paths(desk)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        desk.start()
        try:
            yield
        finally:
            app.closing.set()
            await to_thread.run_sync(desk.close)

    inside = Starlette(routes=paths.routes(), lifespan=lifespan)
    app = Access(inside, token, host)
    paths.closing = app.closing
    return app


class Paths:
    """What every path answers."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.views = desk, DeskViews(desk)
        self.closing = Event()
        """set when the server is about to end: streams of events end then"""
        self._looking = asyncio.Lock()
        self._last = -1, -REFRESH_S, ""
        self._slow, self._maps = CapacityLimiter(SLOW_THREADS), CapacityLimiter(MAP_THREADS)

    def routes(self) -> list[Route]:
        """All paths."""
        gets: dict[str, Callable[[Request], Any]] = {
            "/api/run": self._run,
            "/api/items": self._items,
            "/api/item/{id:int}": lambda request: self.desk.item(request.path_params["id"], who(request)),
            "/api/item/{id:int}/thumb": self._thumb,
            "/api/item/{id:int}/image": self._image,
            "/api/item/{id:int}/text": self._text,
            "/api/item/{id:int}/sound": self._sound,
            "/api/item/{id:int}/spectrogram": self._spectrogram,
            "/api/histogram": lambda request: self.views.histogram(request.query_params.get("score", "probability")),
            "/api/map": lambda request: self.views.map(number(request, "n", 20_000, 1, 100_000)),
            "/api/curve": lambda _: self.views.curve(),
        }
        posts: dict[str, Callable[[Request, Mapping[str, Any]], Any]] = {
            "/api/items": self._more_items,
            "/api/next": self._next,
            "/api/renew": lambda request, body: self.desk.renew(who(request), ids_in(body), tab_of(request)),
            "/api/release": lambda request, body: self.desk.release(who(request), ids_in(body), tab_of(request)),
            "/api/answers": self._answers,
            "/api/undo": self._undo,
            "/api/round": self._round,
            "/api/stop": lambda *_: {"stopped": self.desk.follower.stop()},
        }
        limits = dict.fromkeys((p for p in gets if p.endswith(("thumb", "image", "spectrogram", "sound"))), self._slow)
        limits["/api/map"] = self._maps
        return [
            Route("/", self._page),
            Route("/static/{name:path}", self._static),
            Route("/api/events", self._events),
            *(Route(path, partial(self._get, get, limits.get(path))) for path, get in gets.items()),
            *(Route(path, partial(self._post, post), methods=["POST"]) for path, post in posts.items()),
            Route("/{rest:path}", _no_such_path, methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
        ]

    # -- how paths answer ---------------------------------------------------------------------------------------

    async def _get(self, get: Callable[[Request], Any], limit: CapacityLimiter | None, request: Request) -> Response:
        return await answered(partial(get, request), limit)

    async def _post(self, post: Callable[[Request, Mapping[str, Any]], Any], request: Request) -> Response:
        content = bytearray()
        try:
            async for piece in request.stream():
                content += piece
                if len(content) > MAX_BODY:
                    return error(413, "request", f"more than {MAX_BODY} bytes", "send fewer answers at once")
        except ClientDisconnect:
            return Response(status_code=499)
        try:
            body = json.loads(content or b"{}")
        except (ValueError, RecursionError):
            return error(400, "request", "is no JSON", "send an object")
        if not isinstance(body, dict):
            return error(400, "request", "is no object of JSON", "send an object")
        return await answered(lambda: post(request, body))

    # -- paths that read ----------------------------------------------------------------------------------------

    def _run(self, _: Request) -> dict[str, Any]:
        return {**self.desk.standing.run(), "limits": {"page": PAGE, "pixels": MAX_PIXELS, "side": MAX_SIDE}}

    def _items(self, request: Request) -> dict[str, Any]:
        asked = request.query_params
        if "ids" in asked:
            return self.desk.items_of(ids_in({"ids": asked["ids"].split(",")}), who(request))
        return self.desk.page(
            asked.get("order", "batch"),
            who(request),
            n=number(request, "n", 60, 1, PAGE),
            key=asked.get("key"),
            hide=asked.get("hide_labelled", "0") not in ("0", "", "false"),
        )

    def _thumb(self, request: Request) -> Response:
        return self._picture(request, number(request, "size", 256, 1, 4096), small=True)

    def _image(self, request: Request) -> Response:
        return self._picture(request, number(request, "max", 2048, 1, MAX_SIDE), small=False)

    def _picture(self, request: Request, side: int, *, small: bool) -> Response:
        entry = self._entry(request, "image", "sound")
        if self.desk.shown.kind(entry) == "sound":
            return packed(request, self.desk.media.spectrogram(entry))
        return packed(request, self.desk.media.picture(entry, side, small=small))

    def _text(self, request: Request) -> dict[str, Any]:
        entry = self._entry(request, "text")
        return {"id": str(entry.id), "key": entry.key, "text": self.desk.media.text(entry)}

    def _sound(self, request: Request) -> Response:
        path, kind = self.desk.media.sound(self._entry(request, "sound"))
        return FileResponse(path, media_type=kind, headers={"cache-control": "private, max-age=3600"})

    def _spectrogram(self, request: Request) -> Response:
        return packed(request, self.desk.media.spectrogram(self._entry(request, "sound")))

    def _entry(self, request: Request, *kinds: str) -> Entry:
        """The item that a path names, which must be of one of these kinds."""
        entry = self.desk.known(request.path_params["id"])
        if self.desk.shown.kind(entry) not in kinds:
            raise BadItem(entry.key, f"is no {' or '.join(kinds)}")
        return entry

    def _more_items(self, request: Request, body: Mapping[str, Any]) -> dict[str, Any]:
        """A page of an order after those that were seen. It is asked for by POST: a list of ids is long."""
        n = whole(body, "n", 60)
        return self.desk.page(
            text_in(body, "order", "batch"),
            who(request),
            seen=ids_in({"seen": [], **body}, "seen", MOST_SEEN),
            n=60 if n is None else n,
            key=text_in(body, "key") if body.get("key") is not None else None,
            hide=body.get("hide_labelled") is True,
        )

    # -- paths that change something ----------------------------------------------------------------------------

    def _next(self, request: Request, body: Mapping[str, Any]) -> dict[str, Any]:
        n, order = whole(body, "n", 24), text_in(body, "order", "batch")
        key = text_in(body, "key") if body.get("key") is not None else None
        return self.desk.next(who(request), 24 if n is None else n, order, key, tab_of(request))

    def _answers(self, request: Request, body: Mapping[str, Any]) -> dict[str, Any]:
        given = body.get("answers")
        if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
            raise LabelError("answers", "is no list of objects", "send a list")
        answers, nonce = [answer_of(one) for one in given], text_in(body, "nonce")
        found, tab = body.get("found") is True, tab_of(request)
        return self.desk.answering.answer(who(request), answers, nonce, found=found, tab=tab)

    def _undo(self, request: Request, body: Mapping[str, Any]) -> dict[str, Any]:
        of = text_in(body, "of") if body.get("of") is not None else None
        return self.desk.answering.undo(who(request), text_in(body, "nonce"), of, tab=tab_of(request))

    def _round(self, _: Request, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"round": self.desk.follower.choose_round(whole(body, "k", None), whole(body, "after", None))}

    # -- the page and its events --------------------------------------------------------------------------------

    async def _page(self, _: Request) -> Response:
        return FileResponse(STATIC / "index.html", media_type="text/html", headers={"cache-control": "no-cache"})

    async def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        # Only files that the folder lists are served, by the names that it lists them by.
        known = {path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*") if path.suffix in TYPES}
        if name not in known:
            return await _no_such_path(request)
        return FileResponse(known[name], media_type=TYPES[known[name].suffix], headers={"cache-control": "no-cache"})

    async def _state(self) -> str:
        """The state as JSON: computed once for all who listen, when something changed, or a second has passed."""
        async with self._looking:
            changes, now = self.desk.changes, asyncio.get_running_loop().time()
            if self._last[0] != changes or now - self._last[1] >= REFRESH_S:
                try:
                    state = dumps(await to_thread.run_sync(self.desk.standing.state))
                except RaysalError as problem:
                    state = dumps({"problem": without_paths(str(problem))})
                self._last = changes, now, state
            return self._last[2]

    async def _events(self, request: Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            last, quiet, loop = "", 0.0, asyncio.get_running_loop()
            while not self.closing.is_set() and not await request.is_disconnected():
                now = await self._state()
                if now != last:
                    last, quiet = now, loop.time()
                    yield f"event: state\ndata: {now}\n\n".encode()
                if loop.time() - quiet >= ALIVE_S:
                    quiet = loop.time()
                    yield b": alive\n\n"
                await asyncio.sleep(LOOK_S)

        return StreamingResponse(events(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})


async def _no_such_path(_: Request) -> Response:
    return error(404, "path", "there is nothing here", "go to /")


# -- requests and answers -------------------------------------------------------------------------------------------


async def answered(work: Callable[[], Any], limiter: CapacityLimiter | None = None) -> Response:
    """The answer of some work, which runs in a thread: its record as JSON, or its error."""
    try:
        found = await to_thread.run_sync(work, limiter=limiter)
    except RaysalError as problem:
        return error(status_of(problem), *facts_of(problem))
    except Exception as problem:  # ours: the next request shall find its connection as it was
        logging.getLogger(__name__).exception("a request failed")
        return error(500, type(problem).__name__, without_paths(str(problem)), "what the server printed says where")
    if isinstance(found, Response):
        return found
    return Response(dumps(found), media_type="application/json")
