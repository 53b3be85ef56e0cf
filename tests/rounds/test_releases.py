"""What a round asked for and nobody will label can be let go, and is offered again."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_tools import cli, refused
from pools import make_pool, mixture

import raysal
from raysal.errors import LabelError
from raysal.pool import Pool
from raysal.rounds.run_labels import RunLabels

ITEMS = 12


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return make_pool(tmp_path_factory.mktemp("pool") / "pool", mixture(ITEMS, 4, classes=2)[0])


def opened(pool: Pool, run: Path) -> raysal.Session:
    return raysal.Session(run, pool, select="random", start="random")


def test_what_is_released_is_offered_again_and_stays_released(pool: Pool, tmp_path: Path) -> None:
    with opened(pool, tmp_path / "run") as session:
        first = session.query(ITEMS)
        session.tell({first.keys[0]: "a", first.keys[1]: "b"})
    with RunLabels.open(tmp_path / "run") as labels:
        assert labels.release(first.keys[:4]) == 2, "two of them have labels"
        assert labels.release(first.keys[:4]) == 0
        with pytest.raises(LabelError, match="no round has asked for 'nobody'"):
            labels.release([first.keys[5], "nobody"])
    for _ in range(2):
        with opened(pool, tmp_path / "run") as session:  # which makes sure that the last round is leased
            waiting = {key for _, key in session.ledger.outstanding()}
            assert waiting == set(first.keys[4:])
    with opened(pool, tmp_path / "run") as session:
        assert set(session.query(2).keys) == set(first.keys[2:4])
        session.tell({first.keys[5]: "a"})  # a label that comes late is taken
        assert session.status().labeled == 3
        assert session.release() == ITEMS - 3
        assert session.release() == 0


def test_a_round_that_a_crash_left_unleased_is_leased(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raysal.labels import Ledger

    with monkeypatch.context() as patch, opened(pool, tmp_path / "run") as session:
        patch.setattr(Ledger, "lease", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            session.query(3)
    with opened(pool, tmp_path / "run") as session:
        session.query(1)
        assert len(session.ledger.outstanding()) == 4


def test_the_command(pool: Pool, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with opened(pool, run) as session:
        keys = session.query(6).keys
    (tmp_path / "keys.txt").write_text(f"{keys[1]}\n{keys[2]}\n")
    said = cli("label", "release", run, keys[0], "--keys", tmp_path / "keys.txt")
    assert said.out == f"{run}: 3 of 3 items released, 3 wait for a label\n"
    assert cli("label", "release", run, "--all", "--json").json == {"run": str(run), "released": 3, "waiting": 0}
    refused(cli("label", "release", run), "name items, or say --all")
    refused(cli("label", "release", run, "--all", keys[0]), "name items, or say --all")
    refused(cli("label", "release", run, "nobody"), "no round has asked for 'nobody'")
    refused(cli("label", "release", tmp_path / "no", "--all"), "no run is there")
