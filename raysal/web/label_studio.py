"""An ML backend for Label Studio: it answers predictions and the next tasks of a run, and takes annotations in.

It speaks what Label Studio asks of its ML backends (label-studio-ml 2, `api.py`), without that package:

| request | answer |
|---|---|
| GET `/`, `/health` | that it runs |
| POST `/setup` | the version of the model |
| POST `/predict` with tasks | a prediction for each task, in their order |
| POST `/webhook` with an annotation | the label goes into the run; with `laplace` the head moves at once |
| GET `/next?n=10` | the next tasks of the run, in pick order, as Label Studio imports them |
| POST `/round` | another batch is chosen, once the last one is answered |

A task is known by `data.raysal_key`. A task without it, or of another pool, gets an empty prediction, and its
annotations are refused: no item is guessed. Nothing is fetched, and nothing that Label Studio sends is run.

Who may ask: see `raysal.web.access`. The token comes as the password of the basic authentication that Label Studio has
for its backends, or as `Authorization: Bearer`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from raysal.errors import LabelError, MissingExtra, RaysalError, RunError
from raysal.labels import Sheet
from raysal.labels.formats.base import KEY, POOL
from raysal.labels.formats.label_studio import answer_of, prediction_of, task_of
from raysal.labels.spelling import annotator_text, label_text
from raysal.models.head import Head
from raysal.models.trainers import TRAINERS
from raysal.prediction.sheets import Seer, sheet_of
from raysal.rounds.gathering import gather_vectors
from raysal.rounds.run_labels import RunLabels, known_ids
from raysal.rounds.session import Session
from raysal.types import Label
from raysal.web.refusals import status_of, without_paths
from raysal.web.server import checked_token, listen, named_at

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from raysal.web.access import Guard

PORT = 9090
"""The port that Label Studio expects an ML backend at."""
MAX_BODY = 32 << 20
"""Bytes of a request."""
MAX_TASKS = 10_000
"""Tasks of a request, and of an answer."""
TAKEN = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED")
"""Events whose annotation is an answer."""


class Backend:
    """What the paths answer. One request at a time is at work on the run; any thread may ask."""

    def __init__(self, session: Session) -> None:
        """A backend over an open session, which stays the caller's to close."""
        self._session, self._lock = session, Lock()
        likelihood = session.config.update.trainer.build("update.trainer", TRAINERS).likelihood
        self._labels = RunLabels(session.run, session.ledger, likelihood, session.pool)
        self.answers = 0
        """Annotations that were taken in."""

    def version(self) -> str:
        """The version of the model that predicts; `raysal` before the first label."""
        with self._lock:
            return _version(self._session.current_head())

    def predict(self, tasks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Predict tasks.

        Args:
            tasks: as Label Studio sends them.

        Returns:
            A prediction for each, in order; without results where there is no head yet, or the item is not known.
        """
        with self._lock:
            head = self._session.current_head()
            keys = [self._key(task) for task in tasks]
            ids = known_ids(self._session.ledger, self._session.pool, filter(None, keys))
            found = {} if head is None else self._predicted(head, ids)
            sheet = self._sheet([], head)
            nothing = {"model_version": _version(head), "result": []}
            return [nothing if key not in found else prediction_of(sheet, *found[key]) for key in keys]

    def take(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Take in an annotation.

        Args:
            event: as a webhook sends it.

        Returns:
            What was done; nothing for events that hold no answer.

        Raises:
            LabelError: the task names no item of the run's pool, or the annotation is no label of the whole item.
        """
        if event.get("action") not in TAKEN:
            return {"status": "passed over", "action": event.get("action")}
        task, annotation = event.get("task"), event.get("annotation")
        if not isinstance(task, Mapping) or not isinstance(annotation, Mapping):
            raise LabelError("webhook", "has no task, or no annotation", "send the payload with the event")
        where = f"task {task.get('id')}"
        with self._lock:
            key = self._key(task)
            if key is None:
                raise LabelError(where, f"names no item of this run's pool in data.{KEY}", "export its tasks anew")
            said = answer_of(where, annotation)
            text = label_text(f"{where}: label", said["label"])
            if text is None:
                return {"status": "no label"}
            who = annotator_text(f"{where}: annotator", said["annotator"])
            weight = 1.0 if said["weight"] is None else said["weight"]
            told = self._session.tell([Label(key=key, label=text, annotator=who, weight=weight)])
            self.answers += told.new + told.corrected + told.skipped
            return {"status": "ok", "key": key, "label": text, "new": told.new, "corrected": told.corrected}

    def next(self, count: int) -> dict[str, Any]:
        """The next tasks of the batch, in pick order.

        Args:
            count: how many at most.

        Returns:
            The tasks, and how many items wait.
        """
        with self._lock:
            keys = [key for _, key in self._session.ledger.outstanding()]
            sheet = self._sheet(keys[:count], self._session.current_head())
            return {"tasks": [task_of(sheet, row) for row in sheet.rows()], "waiting": len(keys)}

    def choose(self) -> dict[str, Any]:
        """Choose the next batch.

        Returns:
            Its number and size.

        Raises:
            RunError: items of the last batch still wait, or another process is at work on the run.
        """
        with self._lock:
            if waiting := len(self._session.ledger.outstanding()):
                raise RunError(self._session.dir, f"{waiting} items wait for a label", "label or skip them first")
            batch = self._session.query()
            return {"round": batch.round, "items": len(batch)}

    def _key(self, task: Mapping[str, Any]) -> str | None:
        """The key of the item that a task is of; None if it is not known."""
        data = task.get("data")
        data = data if isinstance(data, Mapping) else {}
        pool = data.get(POOL)
        known = pool is None or pool == self._session.pool.fingerprint or pool in self._session.ledger.pools
        key = data.get(KEY)
        return key if known and isinstance(key, str) and key else None

    def _predicted(self, head: Head, ids: Mapping[str, int]) -> dict[str, tuple[str, float | None]]:
        """What a head predicts of items: the label and its probability, by key."""
        if not ids:
            return {}
        order = np.array(sorted(ids.values()), np.int64)
        fleet = self._session.start_fleet()
        self._session.rows.as_learnt(fleet)
        vectors = gather_vectors(fleet, self._session.pool.dim, order)
        texts, sure = Seer(head=head).predict(vectors)
        by_id = {
            id: (text, probability)
            for id, text, probability in zip(order.tolist(), texts, sure, strict=True)
            if text is not None
        }
        return {key: by_id[id] for key, id in ids.items()}

    def _sheet(self, keys: Sequence[str], head: Head | None) -> Sheet:
        return sheet_of(self._session.run, self._labels, keys, [], head=head)


def _version(head: Head | None) -> str:
    return Seer(head=head).model or "raysal"


def make_app(backend: Backend, token: str, host: str = "127.0.0.1") -> Guard:
    """The application that answers Label Studio.

    Args:
        backend: what answers.
        token: what every request must show.
        host: where the server will listen; the Host header must name it, or the loopback.

    Returns:
        An ASGI application.

    Raises:
        ConfigError: the token is too short, or no printable ASCII.
        MissingExtra: starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.exceptions import HTTPException
        from starlette.responses import JSONResponse
        from starlette.routing import Route

        from raysal.web.access import ToolAccess
    except ModuleNotFoundError as error:
        raise MissingExtra("label backend", error.name or "starlette", "serve") from None

    def refusal(status: int, problem: str, fix: str = "", headers: Mapping[str, str] | None = None) -> Response:
        error = {"what": "label backend", "problem": problem, "fix": fix}
        return JSONResponse({"error": error}, status_code=status, headers=headers)

    def guarded(answer: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
        async def reply(request: Request) -> Response:
            try:
                return JSONResponse(await answer(request))
            except _Refused as error:
                return refusal(error.status, error.problem)
            except RaysalError as error:
                return refusal(503 if status_of(error) == 503 else 422, without_paths(str(error)))

        return reply

    async def body(request: Request) -> dict[str, Any]:
        content = b""
        async for part in request.stream():
            content += part
            if len(content) > MAX_BODY:
                raise _Refused(413, f"more than {MAX_BODY} bytes")
        try:
            found = json.loads(content or b"{}")
        except (ValueError, RecursionError):
            raise _Refused(400, "not JSON") from None
        if not isinstance(found, dict):
            raise _Refused(400, "not a JSON object")
        return found

    async def health(_: Request) -> Any:
        return {"status": "UP", "model_class": "raysal"}

    async def setup(request: Request) -> Any:
        await body(request)
        return {"model_version": await run_in_threadpool(backend.version)}

    async def predict(request: Request) -> Any:
        tasks = (await body(request)).get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks) or len(tasks) > MAX_TASKS:
            raise _Refused(400, f"`tasks` is no list of at most {MAX_TASKS} tasks")
        return {"results": await run_in_threadpool(backend.predict, tasks)}

    async def webhook(request: Request) -> Any:
        return await run_in_threadpool(backend.take, await body(request))

    async def next_tasks(request: Request) -> Any:
        count = request.query_params.get("n", "1")
        if not count.isdecimal() or not 1 <= int(count) <= MAX_TASKS:
            raise _Refused(400, f"n is no number from 1 to {MAX_TASKS}")
        return await run_in_threadpool(backend.next, int(count))

    async def choose(_: Request) -> Any:
        return await run_in_threadpool(backend.choose)

    async def not_found(_: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return refusal(status, "there is no such path, or it takes another method")

    routes = [
        Route("/", guarded(health)),
        Route("/health", guarded(health)),
        Route("/setup", guarded(setup), methods=["POST"]),
        Route("/predict", guarded(predict), methods=["POST"]),
        Route("/webhook", guarded(webhook), methods=["POST"]),
        Route("/next", guarded(next_tasks)),
        Route("/round", guarded(choose), methods=["POST"]),
    ]
    app = Starlette(routes=routes, exception_handlers={404: not_found, 405: not_found})
    return ToolAccess(app, token, host)


class _Refused(Exception):
    """A request that cannot be read."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(status, problem)
        self.status, self.problem = status, problem


def serve_backend(
    run: str | Path,
    pool: str | Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    token: str | None = None,
    ready: Callable[[str], None] = lambda address: print(f"raysal: {address}", flush=True),
) -> int:
    """Serve the ML backend of a run until Ctrl-C. It needs the extra `serve`.

    Args:
        run: the run directory.
        pool: the run's pool, where it was moved.
        host: the address to listen on. Others than the loopback can be reached by other machines, without encryption.
        port: the port; 0 for any free one.
        token: what every request must show; by default that of RAYSAL_TOKEN, or a new one.
        ready: called with the address, which holds the token, as soon as requests are answered.

    Returns:
        How many annotations were taken in.

    Raises:
        MissingExtra: starlette or uvicorn is not installed.
        RunError: no run is there, or the port is taken.
        ConfigError: the token is too short, or no printable ASCII.
        PoolError, FingerprintMismatch, Damaged: the run or its pool cannot be opened.
    """
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise MissingExtra("label backend", "uvicorn", "serve") from None
    token = checked_token(token)
    with listen(host, port) as listening, Session.open(run, pool) as session:
        backend = Backend(session)
        app = make_app(backend, token, host)
        ready(f"http://raysal:{quote(token, safe='')}@{named_at(host)}:{listening.getsockname()[1]}")
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        with suppress(KeyboardInterrupt):  # the end that everybody means
            server.run(sockets=[listening])
        return backend.answers
