"""The ML backend for Label Studio, over real HTTP: predictions, next tasks, annotations, and who may ask."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from cli_tools import ROOT
from pools import make_pool, mixture

from raysal import Session
from raysal.errors import ConfigError, RunError
from raysal.rounds.label_files import import_labels
from raysal.web.label_studio import MAX_BODY, Backend, make_app, serve_backend

TOKEN = "a-token-of-ours"
ROWS, ASKED = 60, 12
LAPLACE: Any = {"update": {"mode": "laplace"}}
KEYS = [f"sub/ä {row}.jpg" for row in range(ROWS)]


def truth(key: str) -> str:
    return f"c{KEYS.index(key) % 3}"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make_pool(tmp_path / "pool", mixture(ROWS, 8, classes=3)[0], keys=KEYS)
    with Session(tmp_path / "run", tmp_path / "pool", select="margin", rounds={"k": ASKED}, **LAPLACE) as session:
        session.tell({key: truth(key) for key in KEYS[:9]})
        session.query()
    return tmp_path / "run"


@pytest.fixture
def http(run: Path) -> Iterator[httpx.Client]:
    """A client with the token of a backend that listens on a free port."""
    with Session.open(run) as session, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(make_app(Backend(session), TOKEN), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            with httpx.Client(base_url=address, auth=("raysal", TOKEN), timeout=60, trust_env=False) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


def annotated(task: dict[str, Any], label: str, who: Any = 3, action: str = "ANNOTATION_CREATED") -> dict[str, Any]:
    """As a webhook of Label Studio sends it."""
    result = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}
    annotation = {"id": 1, "completed_by": who, "was_cancelled": False, "result": [result]}
    return {"action": action, "task": {"id": 17, **task}, "annotation": annotation, "project": {"id": 1}}


def test_without_the_token_every_path_is_closed(http: httpx.Client) -> None:
    asked = [("GET", "/"), ("GET", "/health"), ("POST", "/predict"), ("GET", "/no/such"), ("GET", "/next")]
    for auth in (None, ("raysal", "wrong token"), (TOKEN, "")):
        with httpx.Client(base_url=http.base_url, auth=auth, trust_env=False) as stranger:
            for method, path in asked:
                answer = stranger.request(method, path)
                assert (answer.status_code, "token" in answer.text) == (401, True), (auth, path)
    found = {}
    for header in ("Bearer wrong", "Basic !!!", "Basic", "Digest x", f"Basic {TOKEN}", f"Bearer {TOKEN}"):
        with httpx.Client(base_url=http.base_url, headers={"Authorization": header}, trust_env=False) as stranger:
            found[header] = stranger.get("/health").status_code
    assert [header for header, status in found.items() if status != 401] == [f"Bearer {TOKEN}"]


def test_a_page_of_another_site_changes_nothing(run: Path, http: httpx.Client) -> None:
    """Even with a password that a browser kept: what a page of another site can send unasked is no JSON."""
    event = json.dumps(annotated(http.get("/next").json()["tasks"][0], "c0"))
    for kind in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "text/plain; application/json"}):
        for path, body in (("/webhook", event), ("/round", ""), ("/predict", '{"tasks": []}'), ("/setup", "{}")):
            answer = http.post(path, content=body, headers=kind)
            assert (answer.status_code, answer.json()["error"]["what"]) == (415, "Content-Type"), (path, kind)
    for host in ("evil.example", "evil.example:9090", ""):
        answer = http.post("/webhook", content=event, headers={"Content-Type": "application/json", "Host": host})
        assert answer.status_code == 400, host
    with Session.open(run, read_only=True) as session:
        assert len(session.ledger.outstanding()) == ASKED
    with httpx.Client(base_url=http.base_url, trust_env=False) as stranger:
        asked = stranger.get("/").headers["www-authenticate"]
    assert asked.startswith("Bearer"), "a browser that is asked for Basic asks its user, and keeps the password"
    kept = http.post("/webhook", content=event, headers={"Content-Type": "application/json; charset=utf-8"})
    assert kept.json()["new"] == 1


def test_it_answers_what_label_studio_asks_of_a_backend(http: httpx.Client) -> None:
    assert http.get("/health").json() == {"status": "UP", "model_class": "raysal"}
    request = {"project": "1.1700000000", "schema": "<View/>", "hostname": "http://ls", "access_token": "secret"}
    version = http.post("/setup", json=request).json()["model_version"]
    assert version.startswith("raysal-")
    tasks = http.get("/next", params={"n": 5}).json()["tasks"]
    assert [task["data"]["rank"] for task in tasks] == [1, 2, 3, 4, 5]
    foreign = {"id": 9, "data": {"raysal_key": KEYS[0], "raysal_pool": "of another pool"}}
    asked = [
        *tasks,
        {"id": 8, "data": {"image": "/data/upload/abcd-a.jpg"}},
        foreign,
        {"data": {"raysal_key": "nobody's"}},
    ]
    body = {
        "tasks": asked,
        "model_version": version,
        "project": "1.1",
        "label_config": "<View/>",
        "params": {"context": None},
    }
    results = http.post("/predict", json=body).json()["results"]
    assert len(results) == len(asked)
    for task, result in zip(tasks, results, strict=False):
        assert result["model_version"] == version
        assert result["result"][0]["value"]["choices"] == [task["data"]["prediction"]]
        assert result["score"] == pytest.approx(task["data"]["probability"], abs=1e-5)
    assert [result["result"] for result in results[5:]] == [[], [], []], "no item is guessed"


def test_annotations_go_into_the_run_and_move_the_head(run: Path, http: httpx.Client) -> None:
    tasks = http.get("/next", params={"n": 100}).json()["tasks"]
    assert len(tasks) == ASKED
    before = http.post("/setup", json={}).json()["model_version"]
    for task in tasks[:4]:
        answer = http.post("/webhook", json=annotated(task, truth(task["data"]["raysal_key"]))).json()
        assert (answer["status"], answer["new"]) == ("ok", 1)
    again = http.post("/webhook", json=annotated(tasks[0], truth(tasks[0]["data"]["raysal_key"]))).json()
    assert (again["new"], again["corrected"]) == (0, 0), "evidence is counted once"
    changed = annotated(tasks[1], "c9", action="ANNOTATION_UPDATED")
    assert http.post("/webhook", json=changed).json()["corrected"] == 1
    skipped = annotated(tasks[4], "c0")
    skipped["annotation"]["was_cancelled"] = True
    assert http.post("/webhook", json=skipped).json()["label"] == "!skip"
    deleted = {"action": "ANNOTATION_DELETED", "annotations": [{"id": 1}]}
    assert http.post("/webhook", json=deleted).json()["status"] == "passed over"
    assert http.post("/setup", json={}).json()["model_version"] != before
    left = http.get("/next", params={"n": 100}).json()
    assert [task["data"]["raysal_key"] for task in left["tasks"]] == [t["data"]["raysal_key"] for t in tasks[5:]]
    refused = http.post("/round", json={})
    assert (refused.status_code, "7 items wait" in refused.text) == (422, True)
    for task in left["tasks"]:
        http.post("/webhook", json=annotated(task, truth(task["data"]["raysal_key"])))
    assert http.post("/round", json={}).json()["round"] == 1
    assert http.get("/next", params={"n": 1}).json()["waiting"] > 0
    exported = [{**task, "annotations": [annotated(task, "")["annotation"]]} for task in tasks[:1]]
    exported[0]["annotations"][0]["result"][0]["value"]["choices"] = [truth(tasks[0]["data"]["raysal_key"])]
    (run.parent / "export.json").write_text(json.dumps(exported))
    assert import_labels(run, run.parent / "export.json").told.new == 0, "the export says what the webhook said"


def test_many_annotators_at_once_lose_no_label(run: Path, http: httpx.Client) -> None:
    tasks = http.get("/next", params={"n": 100}).json()["tasks"]
    events = [annotated(task, f"c{who % 2}", who) for task in tasks for who in range(1, 5)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda event: http.post("/webhook", json=event).json(), events))
        assert [answer["new"] for answer in answers] == [1] * len(events)
    with Session.open(run, read_only=True) as session:
        held = {(label.key, label.annotator): label.label for label in session.ledger.answers()}
    for task in tasks:
        for who in range(1, 5):
            assert held[task["data"]["raysal_key"], str(who)] == f"c{who % 2}"


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ({"action": "ANNOTATION_CREATED"}, "no task"),
        (annotated({"data": {"image": "a"}}, "c0"), "task 17: names no item"),
        (annotated({"data": {"raysal_key": "nobody's"}}, "c0"), "nobody's"),
        (annotated({"data": {"raysal_key": KEYS[0], "raysal_pool": "another"}}, "c0"), "task 17: names no item"),
    ],
)
def test_an_annotation_of_no_item_is_refused_and_nothing_changes(http: httpx.Client, event: Any, says: str) -> None:
    answer = http.post("/webhook", json=event)
    assert answer.status_code == 422
    assert says in answer.json()["error"]["problem"]
    assert http.get("/next", params={"n": 1}).json()["waiting"] == ASKED


def test_requests_that_cannot_be_read(http: httpx.Client) -> None:
    for path, content, status in (
        ("/predict", b"{", 400),
        ("/predict", b"[]", 400),
        ("/predict", b'{"tasks": 3}', 400),
        ("/predict", b'{"tasks": [3]}', 400),
        ("/webhook", b"\xff", 400),
        ("/predict", b" " * (MAX_BODY + 1), 413),
        ("/no/such/path", b"", 404),
        ("/../run.json", b"", 404),
    ):
        answer = http.post(path, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == status, (path, content[:20])
        assert set(answer.json()["error"]) == {"what", "problem", "fix"}
    for n in ("0", "-1", "x", "1000000000", "²"):
        assert http.get("/next", params={"n": n}).status_code == 400
    assert http.get("/predict").status_code == 405


def test_it_starts_as_a_command_and_ends_on_a_signal(run: Path) -> None:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])
    env = {**os.environ, "PYTHONPATH": paths, "RAYSAL_TOKEN": TOKEN.replace(" ", "-"), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "raysal", "label", "backend", str(run), "--port", "0", "--json"]
    with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if "connect" in line)
            address = line.split()[-1]
            assert address.startswith(f"http://raysal:{env['RAYSAL_TOKEN']}@127.0.0.1:")
            tasks = httpx.get(f"{address}/next", trust_env=False, timeout=60).json()["tasks"]
            event = annotated(tasks[0], "c0")
            assert httpx.post(f"{address}/webhook", json=event, trust_env=False, timeout=60).status_code == 200
        finally:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert json.loads(out)["labels"] == 1, err


def test_a_token_that_is_short_or_cannot_stand_in_a_header_is_refused(run: Path) -> None:
    for token in ("short", "with blanks in it", "pässwörter"):
        with pytest.raises(ConfigError, match="RAYSAL_TOKEN"):
            serve_backend(run, port=0, token=token)


def test_a_port_that_is_taken_is_named(run: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(RunError, match="taken by another program; name another one with --port"):
            serve_backend(run, port=other.getsockname()[1])
