"""A label is never on another item: at every door, another pool is refused, or matched by key if that is asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from cli_tools import cli, refused
from killed_runs import FIELDS, kill_run, trace
from older_runs import as_before_binding
from pools import make_pool, mixture
from tiers import deep, deep_unless

import raysal
from raysal.config import parse_config
from raysal.errors import FingerprintMismatch, LabelError, PoolError, RunError
from raysal.labels import Ledger
from raysal.pool import Pool
from raysal.report.html import report_html
from raysal.rng import item_uniform
from raysal.rounds.binding import Rebound
from raysal.rounds.held_out import HeldOut
from raysal.rounds.loop import resume, run
from raysal.rounds.plan import plan_run
from raysal.rounds.run_labels import RunLabels
from raysal.rounds.session import Session
from raysal.rounds.status import read_status
from raysal.rounds.training_labels import TrainingLabels
from raysal.store import locked
from raysal.types import Label

N, DIM = 320, 12
X, NAMES = mixture(N + 1, DIM, classes=3, seed=2)
KEYS = [f"k{n:04d}" for n in range(N + 1)]
TRUTH = dict(zip(KEYS, NAMES, strict=True))
VECTOR = dict(zip(KEYS, X, strict=True))
GONE = (3, 7, 31)
"""Items that some pools lack; every run of these tests has labels of them."""
SKIPPED = KEYS[50]
ORDER = [int(n) for n in np.random.default_rng(5).permutation(N)]
CHANGES: dict[str, list[int]] = {
    "other order": ORDER,
    "one more": [N, *range(N)],
    "one less": [n for n in range(N) if n != GONE[0]],
    "all at once": [N, *(n for n in ORDER if n not in GONE)],
}
"""Pools of the same items, made anew: which items they have, in order of id."""


def pool_of(path: Path, items: list[int], rename: Callable[[str], str] = str) -> Pool:
    keys = [rename(KEYS[n]) for n in items]
    return make_pool(path, X[items], labels=[NAMES[n] for n in items], keys=keys, chunk_rows=100)


class Pools(NamedTuple):
    first: Pool
    others: dict[str, Pool]


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Pools:
    home = tmp_path_factory.mktemp("pools")
    others = {name: pool_of(home / name.replace(" ", "-"), items) for name, items in CHANGES.items()}
    others["other names"] = pool_of(home / "names", list(range(N)), "new-{}".format)
    return Pools(pool_of(home / "first", list(range(N))), others)


@pytest.fixture(
    scope="module",
    params=["told", pytest.param("told, old", marks=deep), pytest.param("rounds", marks=deep), "rounds, old"],
)
def begun(request: pytest.FixtureRequest, pools: Pools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over the first pool: one that was only told labels, or one with two rounds; as made now, or before."""
    kind, _, old = request.param.partition(", ")
    out = tmp_path_factory.mktemp("begun") / "run"
    with as_before_binding() if old else nullcontext():
        if kind == "rounds":
            begin(pools.first, out, count=2)
        else:
            Session(out, pools.first).close()
        with RunLabels.open(out) as labels:
            labels.tell({KEYS[n]: TRUTH[KEYS[n]] for n in (*GONE, 1, 40, 41)})
            labels.tell([Label(key=KEYS[40], label="another", annotator="eve")])
            labels.skip([SKIPPED])
    return out


def begin(pool: Pool, out: Path, **rounds: Any) -> Path:
    # By cross-validation the penalty would depend on who asked for a label.
    update = {**FIELDS["update"], "trainer": {"name": "logistic", "l2": 0.1}}
    fields = {**FIELDS, "update": update, "rounds": {**FIELDS["rounds"], **rounds}}
    run(parse_config({**fields, "pool": str(pool.path)}), out)
    return out


@pytest.fixture
def here(begun: Path, tmp_path: Path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(begun, tmp_path / "run"))


def content(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def answers(out: Path) -> set[tuple[str, str, str, float]]:
    with Ledger(out / "ledger.sqlite", create=False) as ledger:
        return {(a.key, a.annotator, a.label, a.weight) for a in ledger.answers()}


def stands(out: Path, pool: Pool, before: set[tuple[str, str, str, float]]) -> bool:
    """Whether every answer is kept, and on the item of its key: by the ids of this pool, and by its vectors."""
    assert answers(out) == before
    ids = pool.ids_there(KEYS)
    of_id = {id: key for key, id in ids.items()}
    vectors = np.concatenate([chunk.vectors() for chunk in pool.chunks])
    with Ledger(out / "ledger.sqlite", create=False) as ledger:
        assert ledger.pool == pool.fingerprint
        assert ledger.known_ids() == {key: ids.get(key) for key in ledger.known_ids()}
        items = ledger.labels(votes=True)
        assert {item.key for item in items} == {key for key, *_ in before if key in ids}
        for item in items:
            assert of_id[item.id] == item.key
            np.testing.assert_array_equal(vectors[item.id], VECTOR[item.key].astype(np.float16))
        excluded = {of_id[id] for id in ledger.excluded().tolist()}
        assert excluded >= {item.key for item in items}
        assert set(ledger.absent()) - {SKIPPED} == {key for key, *_ in before if key not in ids}
    return True


# -- every door -------------------------------------------------------------------------------------------------------


def new_label(out: Path, pool: Pool) -> None:
    with RunLabels.open(out, pool.path) as labels:
        labels.tell({KEYS[100]: "class-0"})


DOORS: dict[str, Callable[[Path, Pool], object]] = {
    "Session": Session,
    "Session.open": Session.open,
    "Session.open to look": lambda out, pool: Session.open(out, pool, read_only=True),
    "RunLabels": new_label,
    "status": lambda out, pool: read_status(out, pool.path),
    "resume": lambda out, pool: resume(out, pool=pool.path),
    "run": lambda out, pool: run(at(out, pool), out),
    "plan": lambda out, pool: plan_run(at(out, pool), out),
    "select": lambda out, pool: raysal.select(pool, k=3, labels=out),
}


def at(out: Path, pool: Pool) -> Any:
    """The config of a run, with the pool in another place."""
    with Session.open(out, read_only=True) as session:
        return session.config.model_copy(update={"pool": pool.path})


@pytest.mark.parametrize("change", [*CHANGES, "other names"])
@pytest.mark.parametrize("door", DOORS)
def test_another_pool_is_refused_at_every_door_and_nothing_is_touched(
    here: Path, pools: Pools, door: str, change: str
) -> None:
    before = content(here)
    with pytest.raises(FingerprintMismatch, match="--rebind"):
        DOORS[door](here, pools.others[change])
    assert content(here) == before


@pytest.mark.parametrize("change", [*CHANGES, "other names"])
def test_a_pool_made_anew_in_the_same_place_is_refused_where_ids_matter_and_labels_can_still_be_read(
    here: Path, pools: Pools, change: str, tmp_path: Path
) -> None:
    before, place, told = content(here), tmp_path / "pool", answers(here)
    shutil.copytree(pools.others[change].path, place)
    moved(here, place)
    before["run.json"] = (here / "run.json").read_bytes()
    doors: list[Callable[[], object]] = [
        lambda: Session(here),
        lambda: Session.open(here, read_only=True),
        lambda: resume(here),
        lambda: plan_run(at_place(here), here),
    ]
    for door in doors:
        with pytest.raises(FingerprintMismatch, match="--rebind"):
            door()
    with RunLabels.open(here) as labels, pytest.raises((FingerprintMismatch, LabelError), match=r"rebind|not in the"):
        labels.tell({KEYS[100]: "class-0"})
    status = read_status(here)
    assert "--rebind" in (status.problem or "")
    assert status.items is None
    assert status.labeled >= 5
    assert "rebind" in report_html(here)
    assert content(here) == before
    out = tmp_path / "labels.csv"
    assert cli("label", "export", here, "-o", out).code == 0
    assert cli("label", "import", here, out).code == 0  # by key alone, and no news
    assert answers(here) == told


def moved(out: Path, place: Path) -> None:
    """Let the config of a run name another place, as if its pool had always been there."""
    from raysal.rounds.directory import RunDir

    RunDir(out).remember_pool(place)


def at_place(out: Path) -> Any:
    from raysal.rounds.directory import RunDir

    return RunDir(out).require_config()


def import_rebound(out: Path, pool: Pool) -> None:
    RunLabels.open(out, pool.path, rebind=True).close()


REBINDS: dict[str, Callable[[Path, Pool], object]] = {
    "Session": lambda out, pool: Session(out, pool, rebind=True).close(),
    "Session.open": lambda out, pool: Session.open(out, pool, rebind=True).close(),
    "RunLabels": import_rebound,
}


@pytest.mark.parametrize("change", [*CHANGES, "other names"])
@pytest.mark.parametrize("door", deep_unless({"Session", "RunLabels"}, REBINDS))
def test_matched_by_key_every_label_is_on_its_item_and_the_rest_is_kept(
    here: Path, pools: Pools, door: str, change: str
) -> None:
    pool, before, rounds = pools.others[change], answers(here), read_status(here).rounds
    REBINDS[door](here, pool)
    assert stands(here, pool, before)
    after = content(here)
    REBINDS[door](here, pool)  # nothing more to do
    assert content(here) == after
    with Session(here) as session:  # the run knows the place of its new pool
        status = session.status()
        assert (session.pool.fingerprint, status.rounds) == (pool.fingerprint, rounds)
        known = {key for key, *_ in before} | {SKIPPED}
        assert status.absent == len(known - set(pool.ids_there(KEYS)))
        assert not known & set(session.query(20).keys)
    REBINDS[door](here, pools.first)  # and back
    assert stands(here, pools.first, before)
    assert read_status(here).absent == 0


@pytest.mark.parametrize("change", CHANGES)
def test_select_with_rebind_picks_as_the_run_would_and_leaves_it_alone(here: Path, pools: Pools, change: str) -> None:
    pool, before = pools.others[change], content(here)
    asked: dict[str, Any] = {"k": 15, "labels": here, "strategy": "top_score"}
    picked = raysal.select(pool, **asked, rebind=True)
    assert content(here) == before
    assert raysal.select(pools.first, **asked, rebind=True) == raysal.select(pools.first, **asked)
    import_rebound(here, pool)
    assert raysal.select(pool, **asked) == picked
    assert not {key for key, *_ in answers(here)} & set(picked["key"].to_pylist())


@pytest.mark.parametrize("change", CHANGES)
def test_the_head_after_a_move_is_that_of_the_labels_in_the_new_pool(
    here: Path, pools: Pools, change: str, tmp_path: Path
) -> None:
    """A run that was begun over the new pool, and told the same by key, has the same head to the last bit.

    What rounds asked for trains, whatever its new id; other items may be held out by theirs.
    """
    pool = pools.others[change]
    with Session(here, pool, rebind=True) as session, Session(tmp_path / "fresh", pool, config=plain(session)) as fresh:
        tests = TrainingLabels.of(session.ledger, session.config, None).tests()
        asked = {key for number in range(session.rounds) for key in session.run.batch(number).keys}
        there = pool.ids_there(KEYS)
        assert not set(tests) & {there[key] for key in asked & there.keys()}
        fresh.tell([label for label in session.ledger.answers() if there.get(label.key, -1) not in {-1, *tests}])
        mine, other = session.current_head(), fresh.current_head()
    assert mine is not None
    assert other is not None
    np.testing.assert_array_equal(mine.mean, other.mean)
    np.testing.assert_array_equal(mine.covariance, other.covariance)


def plain(session: Session) -> Any:
    rounds = session.config.rounds.model_copy(update={"holdout": 0.0})
    return session.config.model_copy(update={"rounds": rounds})


def test_an_old_run_without_rounds_goes_on_where_every_id_still_has_its_key(pools: Pools, tmp_path: Path) -> None:
    """Nothing in it says which pool it is of, so ids and keys are compared; new items at the end change none."""
    out, grown = tmp_path / "run", pool_of(tmp_path / "grown", list(range(N + 1)))
    with as_before_binding():
        Session(out, pools.first).close()
        with RunLabels.open(out) as labels:
            labels.tell({KEYS[n]: TRUTH[KEYS[n]] for n in GONE})
    before = answers(out)
    with pytest.raises(FingerprintMismatch, match=r"id of 'k0003' is \d+, expected 3; .*--rebind"):
        Session(out, pools.others["other order"])
    with pytest.raises(FingerprintMismatch, match="id of 'k0003' is missing, expected 3"):
        Session(out, pools.others["one less"])
    Session(out, grown).close()
    assert stands(out, grown, before)
    with pytest.raises(FingerprintMismatch):
        Session(out, pools.first)


def test_an_old_run_is_as_it_was_when_it_is_bound(pools: Pools, tmp_path: Path) -> None:
    """To be bound is no news: a finished run stays finished, and a run that goes on ends as an old one would."""
    with as_before_binding():
        begin(pools.first, tmp_path / "old")
    shutil.copytree(tmp_path / "old", tmp_path / "bound")
    before = {name: data for name, data in content(tmp_path / "bound").items() if name != "ledger.sqlite"}
    result = resume(tmp_path / "bound")
    assert result.finished
    with Ledger(tmp_path / "bound" / "ledger.sqlite") as ledger:
        assert ledger.pool == pools.first.fingerprint
    assert {name: data for name, data in content(tmp_path / "bound").items() if name != "ledger.sqlite"} == before
    assert trace(tmp_path / "bound")["batches"] == trace(begin(pools.first, tmp_path / "now"))["batches"]


# -- rounds after a move ----------------------------------------------------------------------------------------------

MOVED = {**FIELDS, "rounds": {"count": 4, "k": 12, "holdout": 0.2}, "oracle": {"name": "simulated", "noise": 0.1}}


@pytest.fixture(scope="module")
def left(pools: Pools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of four rounds, over the first pool."""
    out = tmp_path_factory.mktemp("left") / "run"
    rounds = {**MOVED["rounds"], "count": 2}
    run(parse_config({**MOVED, "pool": str(pools.first.path), "rounds": rounds}), out)
    return out


@pytest.fixture(scope="module")
def other(pools: Pools) -> dict[str, Any]:
    return {**MOVED, "pool": str(pools.others["all at once"].path)}


@pytest.fixture(scope="module")
def uninterrupted(left: Path, other: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The trace of the run that moves, and is left alone."""
    out = Path(shutil.copytree(left, tmp_path_factory.mktemp("whole") / "run"))
    assert run(parse_config(other), out, rebind=True).finished
    return trace(out)


def test_a_run_goes_on_in_another_pool(left: Path, other: dict[str, Any], pools: Pools, tmp_path: Path) -> None:
    out, pool = Path(shutil.copytree(left, tmp_path / "run")), pools.others["all at once"]
    with Session(out) as session:
        history = [session.record(round)["evaluation"] for round in range(2)]
        batches = [session.batch(round).keys for round in range(2)]
    before = answers(out)
    result = run(parse_config(other), out, rebind=True)
    assert result.finished
    assert result.rebound is not None
    assert result.rebound.matched + result.rebound.absent == len(before) == 24
    assert before <= answers(out)
    with Session(out) as session:
        there = pool.ids_there(KEYS)
        assert [session.record(round)["evaluation"] for round in range(2)] == history
        assert [session.run.batch(round).keys for round in range(2)] == batches
        for round in range(4):
            batch = session.batch(round)
            assert batch.ids == [there[key] for key in batch.keys]
            assert session.record(round)["pool"] == (pools.first if round < 2 else pool).fingerprint
        assert [session.batch(round).keys for round in range(2)] == [[k for k in b if k in there] for b in batches]
        offered = [key for round in range(4) for key in session.run.batch(round).keys]
        assert len(offered) == len(set(offered)) == 48
        after = session.record(2)
        assert after["decision"] == "fitted: another pool"
        assert after["head_version"] > session.record(1)["head_version"]
        assert after["labels"] == result.rebound.matched
        assert after["evaluation"]["accuracy"] > 0.7
        trained = {item.id for item in session.ledger.labels()}
        held_out = HeldOut.of(session.config, None)
        assert held_out is not None
        ids = np.array(sorted(there.values()), np.int64)
        held = set(ids[item_uniform(held_out.key, ids) < held_out.share].tolist())
        assert held & trained, "some that trained before would be held out by their new ids"
        last = session.final()
        assert last is not None
        assert last["evaluation"]["items"] == len(held - trained)


POINTS = [f"rename:{n}" for n in range(1, 5)] + ["rebind:1", "lease:1", "tell:1", "lease:2", "tell:2"]


@pytest.mark.parametrize("point", deep_unless(["rebind:1", "lease:2"], POINTS))
def test_killed_at_any_moment_of_a_move_and_resumed_equals_uninterrupted(
    left: Path, other: dict[str, Any], uninterrupted: dict[str, Any], point: str, tmp_path: Path
) -> None:
    """The first rename keeps the place of the pool in the config; those after it are of rounds."""
    out = Path(shutil.copytree(left, tmp_path / "run"))
    kill_run(point, other, out, rebind=True)
    run(parse_config(other), out, rebind=True)
    assert trace(out) == uninterrupted
    resume(out)
    assert trace(out) == uninterrupted


def test_a_round_after_a_move_asks_neither_head_nor_memory_of_the_rounds_before(pools: Pools, tmp_path: Path) -> None:
    fields = {**FIELDS, "narrow": {"name": "seals", "neighbours": 20}}
    out, pool = tmp_path / "run", pools.others["all at once"]
    with Session(out, pools.first, **fields) as session:
        for _ in range(2):
            session.ask_oracle(session.query())
    for name in ("head", "memory"):
        (out / "rounds" / "0001" / f"{name}.safetensors").unlink()
    with Session(out, pool, rebind=True) as session:
        session.ask_oracle(session.query())
        assert session.record(2)["decision"] == "fitted: another pool"
        session.query()
        assert session.record(3)["decision"].startswith("updated")


def test_an_oracle_is_not_asked_again_for_what_it_answered_in_another_pool(pools: Pools, tmp_path: Path) -> None:
    """A wrong answer is sampled by the item's id: in another pool the same item might have another one."""
    out, noisy = tmp_path / "run", {"name": "simulated", "noise": 0.9}
    with Session(out, pools.first, **{**FIELDS, "oracle": noisy}) as session:
        batch = session.query(30)
        session.ask_oracle(batch)
        session.withdraw(batch.keys[:1], "simulated")
    before = answers(out)
    with Session(out, pools.others["other order"], rebind=True) as session:
        told = session.ask_oracle(session.batch(0))
        assert (told.new, told.corrected) == (1, 0)
    assert before < answers(out)


def test_a_control_arm_moves_with_its_run(pools: Pools, tmp_path: Path) -> None:
    out, pool = begin(pools.first, tmp_path / "run", count=1, control=True), pools.others["all at once"]
    before = [answers(out), answers(out / "control")]
    assert resume(out, pool=pool.path, rebind=True).finished
    assert stands(out, pool, before[0])
    assert stands(out / "control", pool, before[1])
    assert resume(out).finished


def waiting(pool: Pool, out: Path) -> list[str]:
    """A run of the oracle `files` that waits for its first batch: the items that others lack, and one more."""
    fields = {**FIELDS, "oracle": {"name": "files"}, "rounds": {"count": 2, "k": 4}, "pool": str(pool.path)}
    asked = [*(KEYS[n] for n in GONE), KEYS[60]]
    fields |= {"narrow": {"name": "filter", "where": {"key": asked}}, "start": "random"}
    fields["rounds"]["holdout"] = 0.0
    assert run(parse_config(fields), out).waiting == 4
    with Session(out) as session:
        assert sorted(session.batch(0).keys) == sorted(asked)
    return asked


def test_a_batch_waits_for_those_of_its_items_that_are_there(pools: Pools, tmp_path: Path) -> None:
    out, pool = tmp_path / "run", pools.others["one less"]
    asked = waiting(pools.first, out)
    result = resume(out, pool=pool.path, rebind=True)
    assert (result.rounds, result.waiting) == (1, 3)
    with Session(out) as session:
        assert session.batch(0).keys == [key for _, key in session.ledger.outstanding()]
        assert set(session.batch(0).keys) == set(asked) - {KEYS[GONE[0]]}
        session.tell({KEYS[GONE[0]]: "class-0"})  # leased before: the ledger knows its key, and keeps the label
        assert session.status().absent == 1


def test_a_batch_of_which_nothing_is_left_is_not_waited_for(pools: Pools, tmp_path: Path) -> None:
    out = tmp_path / "run"
    asked = waiting(pools.first, out)
    rest = pool_of(tmp_path / "rest", [n for n in range(N) if KEYS[n] not in asked])
    with Session(out, rest, rebind=True) as session:
        assert (session.batch(0).keys, session.status().waiting) == ([], 0)
        assert session.ask_oracle(session.batch(0)).new == 0
    result = resume(out)  # it goes on to round 1, whose filter finds none of its keys
    assert (result.rounds, result.finished, result.exhausted) == (1, True, True)


# -- several processes ------------------------------------------------------------------------------------------------


def test_a_session_of_the_pool_that_was_left_is_refused(pools: Pools, tmp_path: Path) -> None:
    out, pool = tmp_path / "run", pools.others["other order"]
    with Session(out, pools.first, rounds={"k": 5}) as mine:
        asked = mine.query().keys
        mine.tell({asked[0]: "a"})
        with RunLabels.open(out) as by_key:
            import_rebound(out, pool)
            before = answers(out)
            calls: list[Callable[[], object]] = [
                lambda: mine.tell({asked[1]: "a"}),
                lambda: mine.tell({KEYS[100]: "a"}),
                lambda: mine.skip([asked[2]]),
                lambda: mine.withdraw([asked[0]]),
                mine.query,
                mine.finish,
                mine.status,
                mine.current_head,
            ]
            for call in calls:
                with pytest.raises(FingerprintMismatch, match="rebind"):
                    call()
            assert (answers(out), mine.rounds) == (before, 1)
            by_key.tell({asked[1]: "b"})  # it names what the ledger knows by key, and reads no pool
            assert stands(out, pool, before | {(asked[1], "", "b", 1.0)})


def test_a_run_that_somebody_is_at_work_on_does_not_move(pools: Pools, tmp_path: Path) -> None:
    out, pool = tmp_path / "run", pools.others["other order"]
    Session(out, pools.first).close()
    before = content(out)
    with locked(out, "run"):
        for move in REBINDS.values():
            with pytest.raises(RunError, match="at work"):
                move(out, pool)
    assert content(out) == before
    with pytest.raises(RunError, match="read_only"):
        Session.open(out, pool, read_only=True, rebind=True)


# -- a pool that lies elsewhere now -----------------------------------------------------------------------------------


@pytest.fixture
def gone(begun: Path, pools: Pools, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the run whose pool was moved, and where the pool is now."""
    out, place = Path(shutil.copytree(begun, tmp_path / "run")), tmp_path / "was here"
    shutil.copytree(pools.first.path, tmp_path / "is here")
    moved(out, place)
    return out, tmp_path / "is here"


def test_labels_need_no_pool(gone: tuple[Path, Path], tmp_path: Path) -> None:
    out, place = gone
    before, files = answers(out), content(out)
    status = read_status(out)
    assert (status.items, status.labeled > 4, status.disputed, status.skipped) == (None, True, 1, 1)
    assert "--pool" in (status.problem or "")
    shown = cli("status", out)
    assert shown.code == 0
    assert "was here" in shown.out
    assert "--pool" in shown.out
    assert cli("status", out, "--json").json["problem"] == status.problem
    assert content(out) == files
    file = tmp_path / "labels.csv"
    assert cli("label", "export", out, "-o", file, "--json").json["labels"] == len(before)
    told = cli("label", "import", out, file, "--json").json
    assert (told["new"], told["corrected"], told["repeated"]) == (0, 0, len(before))
    assert cli("label", "withdraw", out, KEYS[1], "--json").json["withdrawn"] == 1
    with RunLabels.open(out) as labels:
        assert labels.tell({KEYS[1]: TRUTH[KEYS[1]]}).new == 1
        assert labels.skip([KEYS[40]], "joe") == 1
        with pytest.raises(PoolError, match="--pool"):
            labels.tell({KEYS[100]: "class-0"})
    assert answers(out) == before
    file.write_text(f"key,label\n{KEYS[100]},class-0\n")
    refused(cli("label", "import", out, file), "was here", "--pool")
    assert cli("label", "import", out, file, "--pool", place, "--json").json["new"] == 1
    assert cli("status", out, "--json").json["problem"] is None  # the run knows the place now


PLACES: dict[str, Callable[[Path, Path], object]] = {
    "status": lambda out, place: cli("status", out, "--pool", place),
    "export": lambda out, place: cli("label", "export", out, "-o", out / "x.csv", "--pool", place),
    "withdraw": lambda out, place: cli("label", "withdraw", out, KEYS[1], "--pool", place),
    "Session": lambda out, place: Session(out, place).close(),
    "resume": lambda out, place: cli("resume", out, "--pool", place),
}


@pytest.mark.parametrize("door", PLACES)
def test_the_new_place_of_a_pool_is_remembered_and_nothing_else_of_the_config_changes(
    gone: tuple[Path, Path], door: str
) -> None:
    from raysal.store import read_sealed

    out, place = gone
    before = read_sealed(out / "run.json")
    PLACES[door](out, place)
    after = read_sealed(out / "run.json")
    assert after["config"].pop("pool") == str(place)
    before["config"].pop("pool")
    assert after == before
    assert read_status(out).items == N
    Session(out).close()


@pytest.mark.parametrize("door", PLACES)
def test_the_place_of_another_pool_is_not(gone: tuple[Path, Path], pools: Pools, door: str) -> None:
    out, _ = gone
    before = (out / "run.json").read_bytes()
    for place in (pools.others["one more"].path, out / "nowhere"):
        try:
            answer = PLACES[door](out, place)
        except (FingerprintMismatch, PoolError):
            pass
        else:
            assert answer.code == 2  # type: ignore[attr-defined]
        assert (out / "run.json").read_bytes() == before
        assert not (out / "nowhere").exists()


def test_the_command_line_moves_a_run(pools: Pools, tmp_path: Path) -> None:
    out, pool = tmp_path / "run", pools.others["all at once"]
    file = tmp_path / "labels.csv"
    rows = "".join(f"{KEYS[n]},{TRUTH[KEYS[n]]}\n" for n in (*GONE, 1, 2))
    file.write_text("key,label\n" + rows)
    assert cli("label", "import", out, file, "--pool", pools.first.path).code == 0
    before = answers(out)
    refused(cli("label", "import", out, file, "--pool", pool.path), "--rebind")
    refused(cli("select", pool.path, "-k", 3, "--labels", out), "--rebind")
    assert cli("select", pool.path, "-k", 3, "--labels", out, "--rebind").code == 0
    answer = cli("label", "import", out, file, "--pool", pool.path, "--rebind", "--json").json
    assert answer["rebound"] == {"matched": 2, "absent": 3}
    assert answer["repeated"] == 5
    assert stands(out, pool, before)
    status = cli("status", out)
    assert "not in the pool" in status.out
    assert cli("status", out, "--json").json["absent"] == 3
    assert "3 items with an answer are not in the pool" in cli("label", "export", out, "-o", tmp_path / "x.csv").out
    waits = cli("resume", out, "--pool", pools.first.path, "--rebind", "--json").json
    assert waits["rebound"] == {"matched": 5, "absent": 0}
    assert stands(out, pools.first, before)


def test_a_pool_without_one_item_of_the_run_is_no_silent_success() -> None:
    assert "if this is not the pool that was meant" in str(Rebound(matched=0, absent=3))
    for rebound in (Rebound(matched=1, absent=3), Rebound(matched=0, absent=0)):
        assert "meant" not in str(rebound)
