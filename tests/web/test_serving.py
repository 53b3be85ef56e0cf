"""`raysal serve` as a process: its address, its end, its port, its run, and the run of others."""

from __future__ import annotations

import html
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_tools import cli
from page_server import TOKEN, Browser, page_of
from served_runs import picture_run

import raysal
from raysal.errors import ConfigError, RunError
from raysal.rounds.session import Session
from raysal.web.server import PORT, checked_token, listen, redirecting, served_at


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return picture_run(tmp_path_factory.mktemp("serving"), 12)


@contextmanager
def process(
    run: Path, *options: str, token: str | None = TOKEN, browser: Path | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    environment = {name: value for name, value in os.environ.items() if name != "RAYSAL_TOKEN"}
    if token is not None:
        environment["RAYSAL_TOKEN"] = token
    words = [sys.executable, "-m", "raysal", "serve", str(run), *options]
    if browser is None:
        words.append("--no-open")
    else:
        environment["BROWSER"] = str(browser)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as started:
        assert started.stdout is not None
        try:
            yield started, started.stdout.readline().strip()
        finally:
            if started.poll() is None:
                started.kill()


def a_browser(folder: Path) -> Path:
    """A program that keeps what it was started with, and the file that it was to open."""
    folder.mkdir()
    lines = ['cp -p "${1#file://}" shown.html', 'echo "$*" > part', "mv part started"]
    (folder / "browser").write_text("\n".join(["#!/bin/sh", f'cd "{folder}"', *lines, ""]))
    (folder / "browser").chmod(0o755)
    return folder / "browser"


def test_ctrl_c_ends_it_and_the_run_is_as_people_left_it(run: Path, tmp_path: Path):
    browsing = a_browser(tmp_path / "browsing")
    with process(run, "--port", "0", token=None, browser=browsing) as (started, address):
        found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/\?token=([\w-]{32})", address)
        assert found is not None
        with Browser(found[1], "ann", found[2]) as browser, browser.stream("GET", "/api/events") as events:
            assert next(events.iter_lines()) == "event: state"
            browser.tell("/api/answers", answers=[{"id": "9", "label": "red"}], nonce="n")
            browser.tell("/api/answers", answers=[{"id": "8", "label": "red"}], nonce="m")
            assert browser.tell("/api/undo", nonce="u")["undone"] == "m"
            while not (browsing.parent / "started").exists():
                assert started.poll() is None
            started.send_signal(signal.SIGINT)
            started.send_signal(signal.SIGINT)  # impatient
            out, err = started.communicate(timeout=60)
        assert (started.returncode, err) == (0, "")
        assert "stopped; 1 answer since" in out
    # Others who use the machine see what a browser is started with: a file that its owner alone can read.
    words, shown = (browsing.parent / "started").read_text(), browsing.parent / "shown.html"
    assert words.startswith(f"file://{run.resolve()}/opens-")
    assert found[2] not in words
    assert stat.S_IMODE(shown.stat().st_mode) == 0o600
    assert f"0; url={address}" in html.unescape(shown.read_text())
    assert not list(run.glob("opens-*"))
    with Session.open(run) as session:
        assert session.ledger.said(["some/0009.jpg"])["some/0009.jpg"].answers == {"ann": "red"}
        session.query(2)


def test_a_port_in_use_is_said_unless_nobody_asked_for_it(run: Path):
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        code, out, err = cli("serve", run, "--no-open", "--port", port)
        assert (code, out) == (2, "")
        assert f"127.0.0.1:{port}: is taken by another program; name another one with --port" in err
    with pytest.raises(RunError, match="--host"):
        listen("192.0.2.1", 0)
    with pytest.raises(RunError, match="no such port"):
        listen("127.0.0.1", 70_000)
    with listen("127.0.0.1", None) as one, listen("127.0.0.1", None) as other:
        assert other.getsockname()[1] not in (PORT, one.getsockname()[1])
        assert one.proto == socket.IPPROTO_TCP  # else asyncio leaves Nagle's algorithm on: 40 ms for each answer


def test_what_cannot_be_served_is_said(tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch):
    code, _, err = cli("serve", tmp_path / "nowhere", "--no-open")
    assert (code, "no run is there" in err) == (2, True)
    monkeypatch.setenv("RAYSAL_TOKEN", "short")
    code, _, err = cli("serve", run, "--no-open")
    assert (code, "RAYSAL_TOKEN: has 5 letters" in err) == (2, True)
    monkeypatch.setenv("RAYSAL_TOKEN", "pässwörter")
    code, _, err = cli("serve", run, "--no-open")
    assert (code, "RAYSAL_TOKEN: has a blank, a letter beyond ASCII" in err) == (2, True)
    with pytest.raises(ConfigError):
        checked_token("")
    monkeypatch.delenv("RAYSAL_TOKEN")
    assert checked_token(None) != checked_token(None)


def test_where_the_disk_of_a_run_keeps_no_rights_the_file_is_among_temporary_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with redirecting(tmp_path / "gone", "http://localhost/?token=a") as place:
        assert Path(place.removeprefix("file://")).parent == tmp_path.resolve()
    assert not list(tmp_path.iterdir())


def test_the_address_has_the_token_as_a_browser_reads_it():
    with listen("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        assert served_at(bound, "127.0.0.1", "a b/&?").address == f"http://127.0.0.1:{port}/?token=a%20b%2F%26%3F"
        assert served_at(bound, "0.0.0.0", "t" * 8).address.startswith(f"http://127.0.0.1:{port}/")


def test_a_pool_that_moved_is_found_again(prepared: Path, tmp_path: Path):
    home = Path(shutil.copytree(prepared.parent, tmp_path / "home"))
    with Session.open(home / "run", home / "pool"):
        pass
    (home / "pool").rename(home / "moved")
    code, _, err = cli("serve", home / "run", "--no-open")
    assert (code, "pool" in err) == (2, True)
    with process(home / "run", "--port", "0", "--pool", str(home / "moved")) as (started, address):
        with Browser(address.partition("/?")[0]) as browser:
            assert browser.look("/api/run")["pool"] == "moved"
        started.send_signal(signal.SIGTERM)
        started.communicate(timeout=60)
    with Session.open(home / "run") as session:
        assert session.pool.path.name == "moved"


def test_a_closed_run_is_served_and_a_label_opens_it_again(run: Path):
    with Session.open(run) as session:
        session.query(2)
        session.finish()
    with page_of(run) as page, page.browser() as browser:
        assert browser.look("/api/run")["hints"] == ["the run is closed; a label opens it again"]
        page.ready("likeliest")
        browser.tell("/api/answers", answers=[{"id": "9", "label": "red"}], nonce="n")
        assert browser.look("/api/run")["hints"] == []


def test_two_servers_on_one_run_see_each_others_labels_and_rounds(run: Path):
    with page_of(run) as one, page_of(run) as two, one.browser() as ann, two.browser("bob") as bob:
        one.ready("random")
        ann.tell("/api/round", k=4)
        while one.desk.session.run.rounds == 0 or one.desk.follower.busy:
            one.desk.wait_for_change(1)
        mine = ann.tell("/api/next", n=2)["items"]
        theirs = bob.tell("/api/next", n=4)["items"]
        assert len(theirs) == 2
        assert {item["id"] for item in mine}.isdisjoint(item["id"] for item in theirs)
        ann.tell("/api/answers", answers=[{"id": item["id"], "label": "red"} for item in mine], nonce="n")
        assert bob.look("/api/run")["batch"]["waiting"] == 2
        assert bob.look(f"/api/item/{mine[0]['id']}")["others"] == 1


def test_a_run_that_was_matched_with_another_pool_meanwhile_takes_labels_later(prepared: Path, tmp_path: Path):
    home = Path(shutil.copytree(prepared.parent, tmp_path / "home"))
    (home / "images" / "a.png").write_bytes((home / "images" / "some" / "0000.png").read_bytes())
    from served_runs import Shades

    from raysal.sources.folder import Folder

    raysal.embed(Folder(path=home / "images"), Shades(), out=home / "other")  # type: ignore[arg-type]
    with page_of(home / "run") as page, page.browser() as browser:
        page.ready("random")
        with Session(home / "run", home / "other", rebind=True):
            pass
        status, why = browser.refused("/api/answers", {"answers": [{"id": "9", "label": "red"}], "nonce": "n"})
        assert (status, "pool" in why, str(home) in why) == (503, True, False)
    with Session.open(home / "run") as session:
        assert {label.annotator for label in session.ledger.answers()} == {""}


def test_a_folder_of_media_that_is_none_is_refused(run: Path, tmp_path: Path):
    code, out, err = cli("serve", run, "--no-open", "--port", 0, "--media", tmp_path / "nofolder")
    assert (code, out) == (2, "")
    assert "--media" in err
    assert "is no folder" in err
