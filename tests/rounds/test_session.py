"""The session's laws: nothing lost, resume = uninterrupted, evidence counted once, late and partial labels."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frames import prior_precision
from killed_runs import FIELDS, kill_run, trace, truth_of
from pools import make_pool, mixture
from tiers import deep_unless

from raysal.config import parse_config
from raysal.errors import (
    ConfigError,
    Damaged,
    FingerprintMismatch,
    LabelError,
    PoolExhausted,
    RunError,
)
from raysal.pool import Pool
from raysal.rounds.loop import resume, run
from raysal.rounds.session import Session
from raysal.store import locked
from raysal.types import Label


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    vectors, labels = mixture(700, 24)
    return make_pool(tmp_path_factory.mktemp("session") / "pool", vectors, chunk_rows=150, labels=labels)


# -- killed at any moment ---------------------------------------------------------------------------------------------


POINTS = [f"rename:{n}" for n in range(1, 13)] + ["lease:1", "lease:2", "lease:3", "tell:1", "tell:2", "tell:3"]


@pytest.fixture(scope="module")
def whole(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The trace of the run that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run(parse_config({**FIELDS, "pool": str(pool.path)}), out)
    return trace(out)


@pytest.mark.parametrize("point", deep_unless(["rename:7"], POINTS))
def test_killed_at_any_moment_and_resumed_equals_uninterrupted(
    pool: Pool, whole: dict[str, Any], point: str, tmp_path: Path
) -> None:
    """kill -9 before every rename a run makes, and around the ledger; the resumed run has the same batches, heads
    and labels as one that was left alone."""
    config, out = {**FIELDS, "pool": str(pool.path)}, tmp_path / "run"
    kill_run(point, config, out)
    if (out / "run.json").exists():
        resume(out)
    else:
        run(parse_config(config), out)
    assert trace(out) == whole


def test_resuming_a_finished_run_changes_nothing(pool: Pool, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(parse_config({**FIELDS, "pool": str(pool.path)}), out)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    result = resume(out)
    assert result.finished
    assert result.accuracy is not None
    assert result.accuracy > 0.8
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


# -- labels, in whatever way they come --------------------------------------------------------------------------------


def start(pool: Pool, out: Path, **fields: Any) -> Session:
    return Session(out, pool=pool, **{**FIELDS, "oracle": "files", "rounds": {"k": 12}, **fields})


def test_order_split_and_repetition_of_labels_do_not_matter(pool: Pool, tmp_path: Path) -> None:
    truth = truth_of(pool)
    nexts = []
    for name in ("all", "split", "reversed", "repeated", "looked"):
        with start(pool, tmp_path / name, update={"mode": "retrain"}) as session:
            keys = session.query().keys
            told = {key: truth[key] for key in keys}
            if name == "all":
                session.tell(told)
            elif name == "reversed":
                session.tell([Label(key=k, label=v) for k, v in reversed(told.items())])
            else:
                for key, label in told.items():
                    session.tell({key: label})
                    if name == "repeated":
                        assert session.tell({key: label}).new == 0
                    if name == "looked":
                        assert session.current_head() is not None
            nexts.append(session.query().ids)
    assert all(ids == nexts[0] for ids in nexts)


def test_looking_at_the_head_leaves_no_trace_in_an_updated_run(pool: Pool, tmp_path: Path) -> None:
    truth = truth_of(pool)
    batches = []
    for look in (False, True):
        with start(pool, tmp_path / f"look-{look}") as session:
            for _ in range(3):
                for key in session.query().keys:
                    session.tell({key: truth[key]})
                    if look:
                        assert session.current_head() is not None
            batches.append([session.batch(r).ids for r in range(3)])
    assert batches[0] == batches[1]


@pytest.mark.parametrize("mode", ["retrain", "laplace"])
def test_without_news_the_head_stays_as_it_is(pool: Pool, tmp_path: Path, mode: str) -> None:
    """Leases, repeated labels and skips are no evidence: the head is neither fitted nor updated for them."""
    truth = truth_of(pool)
    with start(pool, tmp_path / "run", update={"mode": mode}) as session:
        told = {key: truth[key] for key in session.query().keys}
        session.tell(told)
        session.query()
        session.tell(told)
        session.skip(session.batch(1).keys[:1])
        session.query()
        assert session.record(2)["decision"] == "no news"
        assert session.record(2)["head_digest"] == session.record(1)["head_digest"]


def test_late_and_partial_labels(pool: Pool, tmp_path: Path) -> None:
    truth = truth_of(pool)
    with start(pool, tmp_path / "run") as session:
        first = session.query()
        session.tell({key: truth[key] for key in first.keys[:5]})
        second = session.query()
        assert not set(first.ids) & set(second.ids), "what is leased is not offered again"
        session.tell({key: truth[key] for key in first.keys[5:]})  # late
        assert session.skip(second.keys[:2]) == 2
        third = session.query()
        assert not (set(first.ids) | set(second.ids)) & set(third.ids)
        status = session.status()
    assert (status.labeled, status.skipped, status.waiting) == (12, 2, 10 + 12)
    assert status.rounds == 3
    assert status.asked == 36
    assert sum(status.classes.values()) == 12


def test_evidence_is_counted_once(pool: Pool, tmp_path: Path) -> None:
    """An updated head has the covariance of a fit on the same labels with the same prior, however they came."""
    truth = truth_of(pool)
    with start(pool, tmp_path / "run", update={"mode": "laplace", "retrain_every": 99, "retrain_share": 99}) as session:
        keys = session.query().keys
        known = list(session.config.update.classes)
        assert known == []
        session.tell({key: truth[key] for key in keys})
        session.tell({key: truth[key] for key in session.query().keys})
        session.tell({key: truth[key] for key in keys})  # again
        more = [key for key, label in truth.items() if label in set(session.status().classes)][:7]
        session.tell({key: truth[key] for key in more})  # never asked for
        session.query()
        head = session.current_head()
        assert head is not None
        assert session.record(2)["decision"].startswith("updated")
        ids = [item.id for item in session.ledger.labels()]
        assert head.labels_seen == len(ids) == len(set(ids))
        vectors = np.concatenate([c.vectors() for c in pool.chunks]).astype(np.float64)
    rows = np.concatenate([vectors[ids], np.ones((len(ids), 1))], axis=1)
    precision = prior_precision(head) + rows.T @ rows
    np.testing.assert_allclose(np.linalg.inv(precision), head.covariance, rtol=1e-7, atol=1e-10)


def test_a_correction_a_dispute_and_a_new_class_refit(pool: Pool, tmp_path: Path) -> None:
    truth = truth_of(pool)
    with start(pool, tmp_path / "run", update={"mode": "laplace", "retrain_every": 99, "retrain_share": 99}) as session:
        keys = session.query().keys
        session.tell({key: truth[key] for key in keys})
        session.query()
        session.tell({keys[0]: "something else"})
        session.query()
        assert "class" in session.record(2)["decision"] or "corrected" in session.record(2)["decision"]
        assert session.record(2)["decision"].startswith("fitted")
        session.tell([Label(key=keys[1], label="class-0", annotator="b")])
        session.tell([Label(key=keys[1], label="class-1", annotator="c")])
        assert session.status().disputed == 1
        session.query()
        head = session.current_head()
        assert head is not None
        assert head.labels_seen == len(keys) - 1


def test_cold_start_is_typiclust_and_never_coreset(pool: Pool, tmp_path: Path) -> None:
    with start(pool, tmp_path / "run", select="coreset", narrow="none") as session:
        batch = session.query()
        assert set(batch.table["strategy"].to_pylist()) == {"typiclust"}
        assert all("cluster" in reason for reason in batch.table["reason"].to_pylist())
        session.tell(dict.fromkeys(batch.keys, "class-0"))
        assert set(session.query().table["strategy"].to_pylist()) == {"coreset"}


# -- bad input --------------------------------------------------------------------------------------------------------


def test_unknown_keys_and_bad_labels_record_nothing(pool: Pool, tmp_path: Path) -> None:
    with start(pool, tmp_path / "run") as session:
        key = session.query().keys[0]
        with pytest.raises(LabelError, match="no-such-key"):
            session.tell({key: "a", "no-such-key": "b"})
        with pytest.raises(LabelError, match=key):
            session.tell([Label(key=key, label="a", weight=float("nan"))])
        with pytest.raises(LabelError, match=key):
            session.tell({key: "  "})
        assert session.status().labeled == 0


def test_too_large_a_batch_commits_nothing(pool: Pool, tmp_path: Path) -> None:
    with start(pool, tmp_path / "run") as session:
        with pytest.raises(PoolExhausted) as caught:
            session.query(701)
        assert (caught.value.wanted, caught.value.available) == (701, 700)
        with pytest.raises(RunError, match="k"):
            session.query(0)
        assert session.rounds == 0
        assert len(session.query(700)) == 700
        with pytest.raises(PoolExhausted):
            session.query(1)


def test_other_config_other_pool_and_no_run(pool: Pool, tmp_path: Path) -> None:
    with start(pool, tmp_path / "run") as session:
        session.query()
    with pytest.raises(RunError, match="select"):
        start(pool, tmp_path / "run", select="random")
    other = make_pool(tmp_path / "other", mixture(50, 24)[0])
    with pytest.raises(FingerprintMismatch):
        Session(tmp_path / "run", pool=other)
    with pytest.raises(RunError, match="no run"):
        Session(tmp_path / "nothing")
    with pytest.raises(RunError, match="no run"):
        resume(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="needs labels"):
        run(parse_config({"pool": str(pool.path), "start": {"name": "badge"}}), tmp_path / "x")
    with pytest.raises(ConfigError, match="control"):
        run(parse_config({"pool": str(pool.path), "rounds": {"control": True}}), tmp_path / "x")


@pytest.mark.parametrize(
    "name", ["run.json", "rounds/0001/round.json", "rounds/0001/head.safetensors", "rounds/0001/batch.parquet"]
)
def test_a_flipped_byte_names_the_file(pool: Pool, tmp_path: Path, name: str) -> None:
    truth = truth_of(pool)
    with start(pool, tmp_path / "run") as session:
        session.tell({key: truth[key] for key in session.query().keys})
        session.query()
    path = tmp_path / "run" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    def go_on() -> None:
        with Session(tmp_path / "run") as session:
            session.tell({key: truth[key] for key in session.batch(1).keys})
            session.query()

    with pytest.raises(Damaged, match=path.name):
        go_on()


def test_a_closed_run_that_goes_on_is_open_again(pool: Pool, tmp_path: Path) -> None:
    """The closing record counts only while it is the last word."""
    truth = truth_of(pool)
    with start(pool, tmp_path / "run", oracle="simulated", rounds={"k": 12, "holdout": 0.2}) as session:
        session.ask_oracle(session.query())
        first = session.finish()
        assert session.status().finished
        assert session.finish() == first, "nothing new, nothing changes"
        late = next(key for key in truth if key not in session.batch(0).keys)
        session.tell({late: truth[late]})
        assert not session.status().finished
        assert session.finish()["labels"] == 13
        session.ask_oracle(session.query())
        assert session.final() is None
        assert session.finish()["labels"] == 25
    assert sorted(entry.name for entry in (tmp_path / "run").iterdir() if "tmp" in entry.name) == []


def test_more_rounds_may_be_asked_for_later(pool: Pool, tmp_path: Path) -> None:
    """A config with more rounds goes on, and ends as one that had them from the start."""
    fields = {**FIELDS, "pool": str(pool.path)}
    out = tmp_path / "run"
    run(parse_config({**fields, "rounds": {**FIELDS["rounds"], "count": 1}}), out)
    grown = run(parse_config(fields), out)
    whole = run(parse_config(fields), tmp_path / "whole")
    assert (grown.rounds, grown.labels, grown.accuracy) == (whole.rounds, whole.labels, whole.accuracy)
    assert trace(out) == trace(tmp_path / "whole")


def test_a_lost_last_round_is_noticed(pool: Pool, tmp_path: Path) -> None:
    with start(pool, tmp_path / "run") as session:
        session.query()
        session.query()
    shutil.rmtree(tmp_path / "run" / "rounds" / "0001")
    with pytest.raises(Damaged, match="0001"):
        Session(tmp_path / "run")


def test_one_process_at_a_time_and_readers_change_nothing(pool: Pool, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with start(pool, out) as session, locked(out, "run"):
        with pytest.raises(RunError, match="another process"):
            session.query()
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
        with Session.open(out, read_only=True) as reader:
            assert reader.status().rounds == 0
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_files_oracle_waits_and_goes_on(pool: Pool, tmp_path: Path) -> None:
    truth = truth_of(pool)
    fields = {**FIELDS, "oracle": {"name": "files"}, "rounds": {"count": 2, "k": 5}, "pool": str(pool.path)}
    out = tmp_path / "run"
    first = run(parse_config(fields), out)
    assert (first.waiting, first.finished) == (5, False)
    assert resume(out) == first, "nothing was told, nothing happens"
    for expected_rounds, finished in ((2, False), (2, True)):
        with Session(out) as session:
            session.tell({key: truth[key] for _, key in session.ledger.outstanding()})
        result = resume(out)
        assert (result.rounds, result.finished) == (expected_rounds, finished)
    assert result.labels == 10
