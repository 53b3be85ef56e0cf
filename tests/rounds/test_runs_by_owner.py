"""Runs by owner: what a run asks for is what `raysal.select` would, and all laws of runs hold of owners."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from killed_runs import kill_run, trace
from part_pools import make_part_pool, owners_by_size
from pools import make_pool, mixture
from tiers import deep, deep_unless

import raysal
from raysal.config import parse_config
from raysal.errors import ConfigError, FingerprintMismatch, LabelError, PoolExhausted
from raysal.pool import Pool, open_pool
from raysal.pool.chunk import Chunk
from raysal.pool.compacting import compact
from raysal.pool.key_index import OWNERS_FOLDER, KeyIndex, extend
from raysal.pool.owner_chunk import OwnersChunk
from raysal.pool.owners import OwnerOf, OwnersOf, parts_of
from raysal.pool.removing import remove_items
from raysal.rounds.held_out import HeldOut
from raysal.rounds.loop import resume, run
from raysal.rounds.plan import plan_run
from raysal.rounds.status import read_status
from raysal.sources.table import Table

SIZES = [1, 4, 2, 7, 1, 3] * 20
OWNERS = owners_by_size(SIZES)
X, NAMES = mixture(len(OWNERS), 16, seed=3)
GONE = (0, 5, 6, 30)
"""Quarantined parts: the only one of an owner, the first and the last of others."""
TRUTH = {owner: NAMES[OWNERS.index(owner)] for owner in OWNERS}
LIVING = [owner for owner in dict.fromkeys(OWNERS) if any(o == owner and r not in GONE for r, o in enumerate(OWNERS))]
FIELDS: dict[str, Any] = {
    "select": {"name": "margin"},
    "start": {"name": "random"},
    "oracle": {"name": "simulated"},
    "rounds": {"count": 3, "k": 8, "holdout": 0.2},
    "update": {"mode": "laplace", "retrain_every": 2},
    "parts": {"by": "owner", "aggregate_features": "best_part", "aggregate_scores": "max"},
    "fleet": {"backend": "local"},
}
EVERY_FIELD = [
    {"by": "owner"},
    {"by": "owner", "aggregate_scores": "top_mean:2", "score": "entropy"},
    {"by": "owner", "aggregate_features": "weighted_mean"},
    {"by": "owner", "aggregate_features": "best_part", "aggregate_scores": "max"},
    {"by": "owner", "labels_of": "part", "aggregate_scores": "sum"},
]


def part(row: int) -> str:
    return f"part-{row:06d}"


def parts_named(owner: str) -> list[str]:
    return [part(row) for row, name in enumerate(OWNERS) if name == owner and row not in GONE]


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Pool]:
    root = tmp_path_factory.mktemp("owners")
    carried = {"label": [TRUTH[owner] for owner in OWNERS], "own": NAMES}
    return {
        rows: make_part_pool(root / str(rows), X, OWNERS, chunk_rows=rows, missing=GONE, carried=carried)
        for rows in (9, 100)
    }


def begin(pool: Pool, out: Path, **fields: Any) -> raysal.Session:
    return raysal.Session(out, pool=pool.path, **{**FIELDS, "oracle": "files", **fields})


# A run picks as `raysal.select` does.


@pytest.mark.parametrize("parts", deep_unless([EVERY_FIELD[2], EVERY_FIELD[3], EVERY_FIELD[4]], EVERY_FIELD))
def test_each_batch_is_that_of_select_with_the_same_labels(parts, pools, tmp_path):
    told: dict[str, str] = {}
    by_part = parts.get("labels_of") == "part"
    fields = {"parts": parts, "rounds": {"k": 8}, "update": {"mode": "retrain"}}
    with begin(pools[9], tmp_path / "run", **fields, fleet={"backend": "local", "partitions": 3}) as session:
        for _ in range(3):
            wanted = raysal.select(
                pools[100], k=8, strategy="margin" if told else "random", labels=told or None, parts=parts
            )
            batch = session.query()
            if by_part:
                left = [[key for key in parts_named(owner) if key not in told] for owner in wanted["key"].to_pylist()]
                assert batch.keys == [key for own in left for key in own]
                owners = [OWNERS[int(key[5:])] for key in batch.keys]
                assert batch.table["owner_key"].to_pylist() == owners
                assert list(dict.fromkeys(owners)) == wanted["key"].to_pylist()
            else:
                assert batch.table.select(["id", "key", "score"]).equals(wanted.select(["id", "key", "score"]))
            new = {key: NAMES[int(key[5:])] if by_part else TRUTH[key] for key in batch.keys}
            session.tell(new)
            told |= new
        following = raysal.select(pools[100], k=5, strategy="margin", labels=tmp_path / "run", parts=parts)
    again = raysal.select(pools[100], k=5, strategy="margin", labels=told, parts=parts)
    assert following["key"].equals(again["key"])


@pytest.mark.parametrize("parts", deep_unless([EVERY_FIELD[3], EVERY_FIELD[4]], EVERY_FIELD))
def test_heads_are_measured_by_what_they_learn_from_whatever_a_batch_was_chosen_by(parts, pools, tmp_path):
    own = {**FIELDS, "parts": parts, "update": {"mode": "laplace"}, "rounds": {"k": 8, "holdout": 0.3}}
    with raysal.Session(tmp_path / "run", pool=pools[9].path, **own) as session:
        session.ask_oracle(session.query())
        session.query()
        evaluation = session.record(1)["evaluation"]
        assert session.finish()["evaluation"] == evaluation


# Law 1 and 5.


@pytest.mark.parametrize("parts", deep_unless([EVERY_FIELD[3]], EVERY_FIELD))
def test_a_run_depends_neither_on_partitions_nor_on_stops(parts, pools, tmp_path):
    own = {**FIELDS, "parts": parts, "oracle": {"name": "simulated", "column": "label"}}
    run(parse_config({**own, "pool": str(pools[9].path)}), tmp_path / "whole")
    whole = trace(tmp_path / "whole")
    assert whole["final"]
    for count in (2, 5):
        out, fleet = tmp_path / str(count), {"backend": "local", "partitions": count}
        for _ in range(3):
            with raysal.Session(out, pool=pools[9].path, **{**own, "fleet": fleet}) as session:
                batch = session.query()
                session.ask_oracle(batch)
        resume(out)
        assert trace(out) == whole


@deep
def test_on_ray_it_is_the_same(pools, ray_session, tmp_path):
    found = []
    for backend in ("local", "ray"):
        fleet = {"backend": backend, "partitions": 3}
        config = parse_config({**FIELDS, "pool": str(pools[9].path), "fleet": fleet})
        run(config, tmp_path / backend)
        found.append(trace(tmp_path / backend))
    assert found[0] == found[1]


@deep
@pytest.mark.parametrize("point", ["rename:5", "rename:8", "lease:2", "tell:2"])
def test_killed_and_resumed_it_is_as_if_nothing_had_been(point, pools, tmp_path):
    config = {**FIELDS, "pool": str(pools[100].path)}
    run(parse_config(config), tmp_path / "whole")
    kill_run(point, config, tmp_path / "run")
    resume(tmp_path / "run")
    assert trace(tmp_path / "run") == trace(tmp_path / "whole")


# Law 2: an owner of one part is an item.


@pytest.mark.parametrize("parts", deep_unless([EVERY_FIELD[3], EVERY_FIELD[4]], EVERY_FIELD))
def test_a_pool_whose_owners_have_one_part_each_runs_as_one_without(parts, tmp_path):
    n = 150
    x, names = mixture(n, 9, seed=1)
    keys = [f"item-{i:06d}" for i in range(n)]
    by_part = parts.get("labels_of") == "part"
    single = make_part_pool(
        tmp_path / "parts", x, keys, keys=keys if by_part else None, chunk_rows=64, carried={"label": names}
    )
    plain = make_pool(tmp_path / "plain", x, labels=names, chunk_rows=40)
    rounds = {"count": 3, "k": 10, "holdout": 0.2, **({} if by_part else {"tests": 0.2})}
    target = {"target": ["class-1"]}
    found = []
    for pool, own in ((single, parts), (plain, {})):
        fields = {**FIELDS, "pool": str(pool.path), "rounds": rounds, "parts": own, **target, "select": "probability"}
        run(parse_config(fields), tmp_path / f"run-{pool.path.name}")
        found.append(trace(tmp_path / f"run-{pool.path.name}"))
        with raysal.Session.open(tmp_path / f"run-{pool.path.name}") as session:
            found[-1]["evaluation"] = session.final()["evaluation"]
        for batch in found[-1]["batches"]:
            batch.pop("owner_key", None)
    assert found[0] == found[1]
    assert found[0]["evaluation"]["measures"]


# Law 3: what is held out, labelled or skipped is not offered.


def test_an_owner_is_held_out_whole_and_measures(pools, tmp_path):
    out = tmp_path / "run"
    with begin(pools[9], out, rounds={"k": 100, "holdout": 0.3}) as session:
        held = HeldOut.of(session.config, None)
        ids = OwnersOf(pools[9]).ids_of(LIVING)
        out_of_it = {owner for owner, id in ids.items() if held.among(np.array([id]))[0]}
        with pytest.raises(PoolExhausted) as refused:
            session.query()
        assert refused.value.available == len(LIVING) - len(out_of_it)
        batch = session.query(refused.value.available)
        assert set(batch.keys) == set(LIVING) - out_of_it
        session.tell({key: TRUTH[key] for key in batch.keys})
        named = session.held_out(10)
        assert set(named) <= out_of_it
        assert len(named) == 10
        session.tell({key: TRUTH[key] for key in named})
        record = session.finish()
        assert record["labels"] == len(batch)
        assert record["evaluation"]["items"] == 10
    assert read_status(out).tested == 10


def test_answers_of_every_kind_are_of_owners(pools, tmp_path):
    with begin(pools[100], tmp_path / "run", rounds={"k": 6}) as session:
        first = session.query()
        session.skip(first.keys[:1])
        session.tell({key: TRUTH[key] for key in first.keys[1:]})
        session.withdraw(first.keys[1:2])
        head = session.current_head()
        session.tell({first.keys[1]: TRUTH[first.keys[1]]})
        assert session.current_head().labels_seen == head.labels_seen + 1
        status = session.status()
        assert (status.items, status.labeled, status.skipped) == (len(LIVING), 5, 1)
        with raysal.Session.open(tmp_path / "run", read_only=True) as beside:
            assert beside.status().labeled == 5
        assert not set(session.query().keys) & set(first.keys)
        with pytest.raises(LabelError, match="the key of a part, not of an owner"):
            session.tell({part(100): "x"})
        with pytest.raises(LabelError, match="1 key is not in the pool"):
            session.skip(["owner-99999"])


def test_an_oracle_answers_for_owners_by_file_or_by_a_column_of_theirs(pools, tmp_path):
    file = tmp_path / "truth.csv"
    file.write_text("key,label\n" + "".join(f"{key},{label}\n" for key, label in TRUTH.items()))
    ends = []
    for number, oracle in enumerate(({"labels": str(file)}, {"column": "label"})):
        config = {**FIELDS, "pool": str(pools[100].path), "oracle": {"name": "simulated", **oracle}}
        assert plan_run(parse_config(config), tmp_path / "planned").items == len(LIVING)
        result = run(parse_config(config), tmp_path / str(number))
        assert result.finished
        assert result.labels == 24
        ends.append(trace(tmp_path / str(number)))
        assert {label for _, label, *_ in ends[-1]["labels"]} <= set(NAMES)
    assert ends[0] == ends[1]
    with pytest.raises(ConfigError, match=r"the parts of 'owner-\d+' differ in 'own'"):
        begin(pools[100], tmp_path / "other", oracle={"name": "simulated", "column": "own"})


@pytest.mark.parametrize("labels_of", ["owner", "part"])
def test_the_control_arm_labels_what_the_run_labels(labels_of, pools, tmp_path):
    parts = {"by": "owner", "labels_of": labels_of}
    config = {**FIELDS, "pool": str(pools[100].path), "rounds": {**FIELDS["rounds"], "control": True}, "parts": parts}
    result = run(parse_config(config), tmp_path / "run")
    assert result.control_accuracy is not None
    for arm in (tmp_path / "run", tmp_path / "run" / "control"):
        with raysal.Session.open(arm) as session:
            table = session.batch(0).table
        of_owners = table["key"] if labels_of == "owner" else table["owner_key"]
        assert len(set(of_owners.to_pylist())) == FIELDS["rounds"]["k"]
        assert set(of_owners.to_pylist()) <= set(LIVING)
        assert len(table) > FIELDS["rounds"]["k"] or labels_of == "owner"


# Labels of parts of the owners that were picked.


def test_an_owner_is_asked_for_until_all_its_parts_have_an_answer(pools, tmp_path):
    fields = {"parts": {"by": "owner", "labels_of": "part"}, "rounds": {"k": 5}}
    with begin(pools[9], tmp_path / "run", **fields) as session:
        session.tell(dict.fromkeys(parts_named("owner-00003")[:-1], "x"))
        session.tell(dict.fromkeys(parts_named("owner-00009"), "y"))
        asked = session.query(len(LIVING) - 1)
        wanted = {part(row) for row in range(len(OWNERS)) if row not in GONE}
        wanted -= {*parts_named("owner-00003")[:-1], *parts_named("owner-00009")}
        assert set(asked.keys) == wanted
        assert len(asked) == len(wanted)
        with pytest.raises(PoolExhausted):
            session.query(1)


def test_a_plan_counts_what_labels_are_of(pools, tmp_path):
    write(tmp_path, "a", {"a": 3, "b": 1, "c": 4}, 0)
    source = {"source": {"name": "table", "path": str(tmp_path / "items"), "owner": "page"}, "encoder": "precomputed"}
    for fields, owners, parts in (
        ({"pool": str(pools[100].path)}, len(LIVING), len(OWNERS) - len(GONE)),
        ({"pool": str(tmp_path / "to-be"), **source}, 3, 8),
    ):
        own = {**FIELDS, "oracle": "files", "rounds": {"count": 2, "k": 1}, **fields}
        plan = plan_run(parse_config({**own, "parts": {"by": "owner"}}), tmp_path / "run")
        assert (plan.items, plan.arms[0].labels) == (owners, 2)
        plan = plan_run(parse_config({**own, "parts": {"by": "owner", "labels_of": "part"}}), tmp_path / "run")
        assert (plan.items, plan.arms[0].labels) == (parts, round(2 * parts / owners))
        own["rounds"] = {"count": 1, "k": owners + 1}
        assert plan_run(parse_config({**own, "parts": {"by": "owner", "labels_of": "part"}}), tmp_path / "r").exhausted


def test_an_owner_is_held_out_with_all_its_parts(pools, tmp_path):
    """No part of it is asked for, and none trains, also where somebody tells its label."""
    out = tmp_path / "run"
    fields = {"parts": {"by": "owner", "labels_of": "part"}, "rounds": {"k": 6, "holdout": 0.3}}
    with begin(pools[9], out, **fields, fleet={"backend": "local", "partitions": 3}) as session:
        ids = OwnersOf(pools[9]).ids_of(LIVING)
        hashed = HeldOut.of(session.config, None).among(np.array([ids[owner] for owner in LIVING]))
        held = {owner for owner, one in zip(LIVING, hashed.tolist(), strict=True) if one}
        measuring = {key for owner in held for key in parts_named(owner)}
        with pytest.raises(PoolExhausted) as refused:
            session.query(len(LIVING))
        assert refused.value.available == len(LIVING) - len(held)
        batch = session.query(refused.value.available)
        assert set(batch.keys) == {part(row) for row in range(len(OWNERS)) if row not in GONE} - measuring
        session.tell({key: NAMES[int(key[5:])] for key in batch.keys})
        named = session.held_out(len(measuring))
        assert set(named) == measuring
        firsts = {parts_named(owner)[0] for owner in held if len(parts_named(owner)) > 1}
        places = [place / len(named) for place, key in enumerate(named) if key in firsts]
        assert 0.35 < np.mean(places) < 0.65, "first parts are not given before others"
        session.tell({key: NAMES[int(key[5:])] for key in measuring})
        record = session.finish()
        assert record["labels"] == len(batch)
        assert record["evaluation"]["items"] == len(measuring)
        assert session.status().tested == len(measuring)
    page = raysal.rank(out, out=tmp_path / "ranking", target=NAMES[0]).page(0, len(OWNERS))
    of_key = dict(zip(page["key"].to_pylist(), page["held_out"].to_pylist(), strict=True))
    assert {key for key, one in of_key.items() if one} == measuring


def test_the_owner_of_an_item_is_found_by_id(pools, tmp_path):
    path = tmp_path / "pool"
    shutil.copytree(pools[9].path, path)
    remove_items(path, parts_named("owner-00003")[:2])
    pool = open_pool(path)
    ids = np.random.default_rng(0).permutation(len(OWNERS) + 5)
    wanted = [OWNERS.index(OWNERS[id]) if id < len(OWNERS) and id not in GONE else id for id in ids.tolist()]
    finder = OwnerOf(pool.place, pool.generation)
    assert finder.of(ids).tolist() == OwnerOf.in_pool(pool).of(ids).tolist() == wanted
    assert pickle.loads(pickle.dumps(finder)).of(ids[:7]).tolist() == wanted[:7]
    assert finder.of(ids[:0]).tolist() == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rounds": {"tests": 0.2, "holdout": 0.2}, "parts": {"by": "owner", "labels_of": "part"}}, "rounds.tests"),
        ({"narrow": {"name": "anchoral", "search": "index"}}, "index is of parts"),
        ({"probabilities": "given.csv", "start": "typiclust"}, "probabilities"),
        ({"select": "reveal:margin", "parts": {"by": "owner", "labels_of": "part"}}, "nobody here reveals"),
    ],
)
def test_what_has_no_meaning_by_owner_is_refused_by_name(fields, words, pools, tmp_path):
    def whole() -> None:
        with begin(pools[100], tmp_path / "run", **fields) as session:
            session.tell({part(row): NAMES[row] for row in range(60, 90)})
            session.query(3)

    with pytest.raises(ConfigError, match=words):
        whole()


# Law 9.


def test_labels_of_one_kind_are_refused_where_the_other_is_asked_for(pools, tmp_path):
    pool, parts = pools[100], {"by": "owner"}
    with begin(pool, tmp_path / "owners", rounds={"k": 12}) as session:
        session.tell({key: TRUTH[key] for key in session.query().keys})
    with begin(pool, tmp_path / "parts", parts={}, rounds={"k": 12}) as session:
        session.tell({key: NAMES[int(key[5:])] for key in session.query().keys})
    before = (tmp_path / "owners" / "ledger.sqlite").read_bytes()
    for refused in (
        lambda: raysal.select(pool, k=3, labels=tmp_path / "owners"),
        lambda: raysal.select(pool, k=3, labels=tmp_path / "owners", parts={**parts, "labels_of": "part"}),
        lambda: raysal.select(pool, k=3, labels=tmp_path / "parts", parts=parts),
        lambda: raysal.predict(pool, run=tmp_path / "owners", out=tmp_path / "predictions"),
        lambda: raysal.rank(tmp_path / "owners", out=tmp_path / "ranking", target=NAMES[0]),
    ):
        with pytest.raises(ConfigError, match="owners"):
            refused()
    assert (tmp_path / "owners" / "ledger.sqlite").read_bytes() == before


def write(place: Path, name: str, owners: Mapping[str, int], first: int) -> dict[str, list[str]]:
    """A table of parts of these owners; returns their keys."""
    names = [owner for owner, count in owners.items() for _ in range(count)]
    keys = [f"k{first + row}" for row in range(len(names))]
    vectors = np.random.default_rng(first).normal(size=(len(names), 6)).astype(np.float32)
    (place / "items").mkdir(exist_ok=True)
    table = pa.table({"key": keys, "page": names, "vector": list(vectors)})
    pq.write_table(table, place / "items" / f"{name}.parquet")
    return {owner: [key for key, name in zip(keys, names, strict=True) if name == owner] for owner in owners}


def embedded(place: Path, out: str = "pool", chunk_rows: int = 20) -> Pool:
    return raysal.embed(Table(path=place / "items", owner="page"), out=place / out, chunk_rows=chunk_rows)


def scores(batch: pa.Table) -> dict[str, float]:
    return dict(zip(batch["key"].to_pylist(), batch["score"].to_pylist(), strict=True))


def label(key: str) -> str:
    return "xy"[int(key[1:]) % 2]


def test_a_run_goes_on_over_a_pool_that_grows_and_shrinks(tmp_path):
    parts = write(tmp_path, "a", {f"p{number}": 1 + number % 4 for number in range(40)}, 0)
    embedded(tmp_path)
    by = {"by": "owner", "aggregate_scores": "sum"}
    fields = {"select": "margin", "start": "random", "parts": by}
    with raysal.Session(tmp_path / "run", tmp_path / "pool", **fields) as session:
        first = session.query(6).keys
        session.tell({key: label(key) for key in first})
    before = scores(raysal.select(tmp_path / "pool", k=34, strategy="margin", labels=tmp_path / "run", parts=by))
    write(tmp_path, "b", {f"p{number}": 2 for number in range(50, 60)}, 500)
    embedded(tmp_path)
    rest = [owner for owner in parts if owner not in first]
    gone, smaller = next(o for o in rest if len(parts[o]) == 2), next(o for o in rest if len(parts[o]) == 4)
    remove_items(tmp_path / "pool", [*parts[gone], parts[smaller][0]])
    with raysal.Session(tmp_path / "run") as session:
        assert session.rebound.matched == 6
        assert session.status().items == 49
        everything = session.query(43)
        assert set(everything.keys) == {*rest, *(f"p{number}" for number in range(50, 60))} - {gone}
        now = scores(everything.table)
        changed = {owner for owner in before if owner in now and now[owner] != before[owner]}
        assert changed == {smaller}, "the labels are the same, and so is the head"
        with pytest.raises(LabelError, match="keys of owners"):
            session.tell({gone: "x"})
    remove_items(tmp_path / "pool", parts[first[0]])
    compact(tmp_path / "pool")
    with raysal.Session(tmp_path / "run") as session:
        assert session.status().absent == 1
        kept = {one.key: one.label for one in session.ledger.answers()}
        assert kept == {key: label(key) for key in first}, "labels of removed owners stay"
        session.tell(dict.fromkeys(everything.keys[:3], "x"))
        assert session.finish()["labels"] == 8


def test_rebind_matches_owners_by_key(tmp_path):
    sizes = {f"p{number}": 1 + number % 3 for number in range(30)}
    write(tmp_path, "a", sizes, 0)
    embedded(tmp_path)
    fields = {"select": "margin", "start": "random", "parts": {"by": "owner"}}
    with raysal.Session(tmp_path / "run", tmp_path / "pool", **fields) as session:
        keys = session.query(9).keys
        session.tell({key: label(key) for key in keys})
    shutil.rmtree(tmp_path / "items")
    write(tmp_path, "a", dict(reversed([*sizes.items()][:-1])), 0)
    other = embedded(tmp_path, "other")
    with pytest.raises(FingerprintMismatch):
        raysal.Session(tmp_path / "run", other.path)
    with raysal.Session(tmp_path / "run", other.path, rebind=True) as session:
        there = [key for key in keys if key != "p29"]
        assert session.rebound.matched == len(there)
        ids = OwnersOf(other).ids_of(there)
        assert {item.key: item.id for item in session.ledger.labels()} == ids
        assert not set(session.query(10).keys) & set(keys)


# The pool of owners.


def test_a_pool_of_owners_says_of_each_what_all_its_parts_say(tmp_path):
    owners = ["a", "a", None, "b", "b", "c"]
    carried = {"same": ["1", "1", "2", None, None, "3"], "other": [1.0, 2.0, 3.0, 4.0, None, 5.0]}
    carried["lists"] = [[1], [1], [2], [3], [4], None]
    carried["nan"] = [float("nan")] * 6
    pool = OwnersOf(make_part_pool(tmp_path / "pool", X[:6], owners, carried=carried))
    (table,) = pool.items()
    assert table["key"].to_pylist() == ["a", "part-000002", "b", "c"]
    assert table["id"].to_pylist() == [0, 2, 3, 5]
    assert table["owner"].to_pylist() == [None] * 4
    assert table["owner_key"].to_pylist() == ["a", None, "b", "c"]
    assert table["same"].to_pylist() == ["1", "2", None, "3"]
    assert table["other"].to_pylist() == [None, 3.0, None, 5.0]
    assert table["lists"].to_pylist() == [[1], [2], None, None]
    assert np.isnan(table["nan"].to_numpy()).all()
    assert pool.rows_where("key", ["b", "nothing"], ["id", "same"]).to_pydict() == {"id": [3], "same": [None]}
    assert pool.rows_where("other", [3.0], ["key"])["key"].to_pylist() == ["part-000002"]
    assert parts_of(pool, [0, 5, 1]) == {0: {0: "part-000000", 1: "part-000001"}, 5: {5: "part-000005"}}
    assert parts_of(pool.stored, [0, 1]) == {0: {0: "part-000000"}, 1: {1: "part-000001"}}
    (chunk,) = pool.chunks
    means = [X[:2], X[2:3], X[3:5], X[5:6]]
    wanted = [x.astype(np.float16).astype(np.float64).mean(0).astype(np.float32).astype(np.float16) for x in means]
    assert np.array_equal(chunk.vectors(), wanted)


def test_owners_are_found_without_a_reading_of_the_items(pools, tmp_path, monkeypatch):
    path = tmp_path / "pool"
    shutil.copytree(pools[9].path, path)
    slow = OwnersOf(open_pool(path)).ids_of(LIVING)
    assert extend(path, OwnersOf(open_pool(path)).chunks, least=1, folder=OWNERS_FOLDER) == 1
    gone, smaller = "owner-00003", "owner-00009"
    remove_items(path, [*parts_named(gone), parts_named(smaller)[0]])
    pool = OwnersOf(open_pool(path))
    assert KeyIndex(path, pool.chunks, OWNERS_FOLDER).covered == {chunk.index for chunk in pool.chunks}
    again = OwnersOf(open_pool(path))
    assert again.ids_there([gone, smaller]) == {smaller: slow[smaller]}
    read: list[int] = []
    original = Chunk._table
    monkeypatch.setattr(Chunk, "_table", lambda *args: read.append(args[0].index) or original(*args))
    assert again.ids_of(LIVING[5:]) == {key: slow[key] for key in LIVING[5:]}
    assert smaller in LIVING[5:]
    assert again.keys_of(np.array([slow[key] for key in LIVING[5:9]])) == {slow[key]: key for key in LIVING[5:9]}
    assert read == []
    shutil.rmtree(path / OWNERS_FOLDER)
    assert OwnersOf(open_pool(path)).ids_of(LIVING[5:]) == {key: slow[key] for key in LIVING[5:]}
    assert set(read) == {chunk.index for chunk in pool.chunks}


def test_few_owners_of_many_parts_have_an_index(pools, tmp_path, monkeypatch):
    """Without one, all parts are read to find an owner; and nothing is read to see that there are too few."""
    path = tmp_path / "pool"
    shutil.copytree(pools[9].path, path)
    chunks = OwnersOf(open_pool(path)).chunks
    parts = sum(chunk.stored for chunk in chunks)
    assert len(LIVING) < parts // 2
    read: list[int] = []
    original = Chunk._table
    monkeypatch.setattr(Chunk, "_table", lambda *args: read.append(args[0].index) or original(*args))
    assert extend(path, chunks, least=parts + 1, folder=OWNERS_FOLDER) == 0
    assert read == []
    assert extend(path, chunks, least=parts, folder=OWNERS_FOLDER) == 1
    read.clear()
    assert extend(path, chunks, least=1, folder=OWNERS_FOLDER) == 0
    assert read == []


def test_a_growth_puts_new_owners_into_their_index(tmp_path, monkeypatch):
    monkeypatch.setattr("raysal.pool.key_index.LEAST", 1)
    monkeypatch.setattr(extend, "__kwdefaults__", {**extend.__kwdefaults__, "least": 1})
    write(tmp_path, "a", {"a": 3, "b": 1}, 0)
    embedded(tmp_path, chunk_rows=4)
    write(tmp_path, "b", {"c": 2, "d": 2}, 100)
    pool = embedded(tmp_path, chunk_rows=4)
    index = KeyIndex(pool.path, list(map(OwnersChunk.of_parts, pool.chunks)), OWNERS_FOLDER)
    assert index.covered == {chunk.index for chunk in pool.chunks}
    assert [item.key for item in index.find(["a", "b", "c", "d", "k0"])[0]] == ["a", "b", "c", "d"]
