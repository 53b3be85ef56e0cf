"""Rankings: the order of a full sort, the same bytes however they were made, nothing lost, every page by itself."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pools import make_pool, mixture
from programs import local, random_head
from tiers import deep
from warm import python

import raysal
from raysal.config import choice
from raysal.errors import ConfigError, Damaged, FingerprintMismatch, PoolError, RaysalError, RunError, UnknownName
from raysal.features import HiddenLayer
from raysal.fleet import LocalFleet, plan_partitions
from raysal.labels.records import KnownItem
from raysal.models.head import Head
from raysal.models.trainers import TRAINERS
from raysal.models.trainers.base import TrainingData
from raysal.pool import Pool
from raysal.ranking import Options, Ranking, rank_pool
from raysal.ranking.hashing import text_hashes
from raysal.ranking.layout import TIES
from raysal.ranking.partition import best_first, places_of
from raysal.ranking.reading import versions
from raysal.rng import derive, item_order, item_uniform
from raysal.rounds.held_out import HeldOut
from raysal.rounds.session import Session
from raysal.scoring.novelty.registry import NOVELTIES

N, DIM = 1500, 6
TARGET = ("class-1", "class-3")
SMALL = {"page_rows": 64, "run_rows": 200}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    x, names = mixture(N, DIM)
    keys = [f"{'é' * (i % 3)}/{i * 7919 % N}.jpg" for i in range(N)]
    where = tmp_path_factory.mktemp("ranking") / "pool"
    return make_pool(where, x, chunk_rows=90, labels=names, keys=keys, missing=[3, 4, *range(180, 270)])


@pytest.fixture(scope="module")
def head() -> Head:
    return random_head(DIM, classes=4, scale=1.5)


def vectors_of(pool: Pool) -> np.ndarray:
    return np.concatenate([chunk.vectors() for chunk in pool.chunks]).astype(np.float64)


def ids_of(pool: Pool) -> np.ndarray:
    return np.concatenate([chunk.ids() for chunk in pool.chunks])


def of_pool(head: Head, pool: Pool) -> Head:
    return replace(head, encoder=pool.vector_space)


def ranked(pool: Pool, head: Head, out: Path, partitions: int = 1, **options: object) -> Ranking:
    more = {name: options.pop(name) for name in ("states", "held_out", "page_rows", "run_rows") if name in options}
    with local(pool, partitions) as fleet:
        made = Options(**{"target": TARGET, **options})  # type: ignore[arg-type]
        report = rank_pool(pool, fleet, of_pool(head, pool), out, made, **{**SMALL, **more})  # type: ignore[arg-type]
    return Ranking.open(out, report.version)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def whole(ranking: Ranking) -> pa.Table:
    return ranking.page(0, len(ranking))


def test_the_order_is_that_of_a_full_sort(pool: Pool, head: Head, tmp_path: Path) -> None:
    found = whole(ranked(pool, head, tmp_path / "r", 2))
    ids = ids_of(pool)
    odds = dict(zip(found["id"].to_pylist(), found["score"].to_pylist(), strict=True))
    scores = np.array([odds[id] for id in ids.tolist()], np.float32)
    expected = np.lexsort((item_order(TIES, ids), -scores))
    assert found["id"].to_pylist() == ids[expected].tolist()
    p = of_pool(head, pool).probabilities(vectors_of(pool))
    own = p[:, [head.classes.index(name) for name in TARGET]].sum(1)[expected]
    np.testing.assert_allclose(found["probability"].to_numpy(), own, atol=2e-6)
    np.testing.assert_allclose(found["score"].to_numpy(), np.log(own / (1 - own)), atol=2e-3)
    assert found["class"].to_pylist() == [head.classes[c] for c in p[expected].argmax(1)]
    assert found["rank"].to_pylist() == list(range(1, len(ids) + 1))
    keys = dict(
        zip(*(pa.concat_tables(pool.items(["id", "key"]))[name].to_pylist() for name in ("id", "key")), strict=True)
    )
    assert found["key"].to_pylist() == [keys[id] for id in found["id"].to_pylist()]


@pytest.mark.parametrize("options", [{}, {"score": "margin"}, {"top": 150}])
def test_the_bytes_do_not_depend_on_partitions(options, pool, head, tmp_path) -> None:
    for partitions in (1, 5, 23):
        ranked(pool, head, tmp_path / str(partitions), partitions, **options)
    first = content(tmp_path / "1")
    assert all(content(tmp_path / str(partitions)) == first for partitions in (5, 23))


def test_pages_do_not_depend_on_chunks_and_runs(pool, head, tmp_path) -> None:
    x = vectors_of(pool)
    tables = []
    for rows, run_rows in ((100, 100), (333, 700), (2000, 150)):
        other = make_pool(tmp_path / f"pool-{rows}", x, chunk_rows=rows)
        tables.append(
            content(ranked(other, head, tmp_path / f"{rows}", 2, run_rows=run_rows).path / "versions/0000/pages")
        )
    assert tables[0] == tables[1] == tables[2]


@deep
def test_ray_writes_the_same_bytes(pool, head, tmp_path, ray_session) -> None:
    from raysal.fleet.ray_fleet import RayFleet

    ranked(pool, head, tmp_path / "here")
    with RayFleet(plan_partitions(pool, 2, threads=1)) as fleet:
        rank_pool(pool, fleet, of_pool(head, pool), tmp_path / "ray", Options(target=TARGET), **SMALL)
    assert content(tmp_path / "ray") == content(tmp_path / "here")


@pytest.fixture(scope="module")
def every(pool: Pool, head: Head, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    return whole(ranked(pool, head, tmp_path_factory.mktemp("every") / "r"))


@pytest.mark.parametrize("top", [1, 63, 64, 65, 500, 10**9])
def test_the_best_few_are_the_beginning_of_all(top, every, pool, head, tmp_path) -> None:
    found = ranked(pool, head, tmp_path / "few", 3, top=top)
    assert len(found) == min(top, len(every))
    assert whole(found) == every.slice(0, top)
    last = every["id"][len(found) - 1].as_py()
    assert found.find(last) == len(found) - 1
    if top < len(every):
        assert found.find(every["id"][top].as_py()) is None
        assert found.find(every["key"][top].as_py()) is None


def test_every_page_is_read_by_itself(pool, head, tmp_path) -> None:
    found = ranked(pool, head, tmp_path / "r")
    every = whole(found)
    for start, n in ((0, 0), (0, 1), (63, 2), (64, 64), (100, 700), (len(every) - 1, 5), (len(every), 3), (10**12, 1)):
        assert found.page(start, n) == every.slice(start, n)
    for broken in (found.path / "versions/0000/pages").iterdir():
        if broken.name != "00005.arrow":
            broken.unlink()
    assert Ranking.open(found.path).page(5 * 64 + 3, 9) == every.slice(5 * 64 + 3, 9)
    with pytest.raises(Damaged, match=r"00004\.arrow"):
        Ranking.open(found.path).page(5 * 64 - 1, 3)
    with pytest.raises(ConfigError, match="start: -1"):
        found.page(-1, 3)


def test_an_item_is_found_by_key_and_id(pool, head, tmp_path) -> None:
    found = ranked(pool, head, tmp_path / "r", 3)
    every = whole(found)
    for place in (0, 1, 63, 64, 700, len(every) - 1):
        assert found.find(every["id"][place].as_py()) == place
        assert found.find(every["key"][place].as_py()) == place
    for absent in (3, 200, -1, 10**15, "nothing", "", "\ud800", str(every["id"][0].as_py())):
        assert found.find(absent) is None


def test_hashes_of_keys_are_of_the_text_alone() -> None:
    texts = ["", "a", "b", "ab", "ba", "é", "a" * 1000, "\0", "\0\0"]
    alone = [text_hashes(pa.array([text]))[0] for text in texts]
    assert len(set(alone)) == len(texts)
    column = pa.array(["x", *texts, "y"])
    assert text_hashes(column)[1:-1].tolist() == alone
    assert text_hashes(column.slice(1, len(texts))).tolist() == alone
    assert text_hashes(column.cast(pa.large_string()).slice(1, len(texts))).tolist() == alone


def test_keys_that_share_a_hash_are_told_apart(pool, head, tmp_path, monkeypatch) -> None:
    def same(column: pa.Array) -> np.ndarray:
        return np.full(len(column), 7, np.uint64)

    for module in ("partition", "reading"):
        monkeypatch.setattr(f"raysal.ranking.{module}.text_hashes", same)
    found = ranked(pool, head, tmp_path / "r", 2)
    keys = whole(found)["key"].to_pylist()
    assert [found.find(keys[place]) for place in (0, 63, 64, 900)] == [0, 63, 64, 900]
    assert found.find("nothing") is None


@pytest.mark.parametrize("name", ["knn", "mahalanobis"])
def test_without_a_head_items_are_ranked_by_novelty(name, pool, head, tmp_path) -> None:
    part = choice(name, "novelty").build_named("novelty", NOVELTIES)
    found = {}
    for partitions in (1, 3):
        with local(pool, partitions) as fleet:
            options = Options(novelty=part, seed=3)
            rank_pool(pool, fleet, None, tmp_path / f"{partitions}", options, **SMALL)
        found[partitions] = content(tmp_path / f"{partitions}")
    assert found[1] == found[3]
    ranking = Ranking.open(tmp_path / "3")
    table = whole(ranking)
    assert table.column_names == ["rank", "id", "key", "score", "state", "known_label", "held_out"]
    with local(pool) as fleet:
        fitted = part.part.fit(fleet, derive(3, "novelty"))
        scores = fleet.each(lambda partition: fitted.scores(partition, np.arange(len(partition))))[0]
    ids = ids_of(pool)
    expected = np.lexsort((item_order(TIES, ids), -scores))
    assert table["id"].to_pylist() == ids[expected].tolist()
    np.testing.assert_array_equal(table["score"].to_numpy(), scores[expected])
    assert (ranking.info.score, ranking.info.novelty, ranking.info.head) == ("novelty", name, None)
    with local(pool) as fleet:
        with pytest.raises(ConfigError, match="give a head, or a novelty"):
            rank_pool(pool, fleet, of_pool(head, pool), tmp_path / "3", Options(novelty=part))
        with pytest.raises(ConfigError, match="give a head, or a novelty"):
            rank_pool(pool, fleet, None, tmp_path / "3", Options())
        assert rank_pool(pool, fleet, None, tmp_path / "3", Options(novelty=part, seed=4), **SMALL).version == "0001"


def test_a_run_without_labels_is_ranked_by_novelty(pool, tmp_path) -> None:
    with Session(tmp_path / "run", pool):
        pass
    found = raysal.rank(tmp_path / "run", out=tmp_path / "r", novelty="knn")
    assert len(whole(found)) == len(pool)
    for more, field in (({"target": "a"}, "target"), ({"round": 0}, "round"), ({"score": "margin"}, "score")):
        with pytest.raises(ConfigError, match=f"{field}: is of a head"):
            raysal.rank(tmp_path / "run", out=tmp_path / "r", novelty="knn", **more)
    with pytest.raises(UnknownName, match="knn"):
        raysal.rank(tmp_path / "run", out=tmp_path / "r", novelty="knnn")


def test_a_test_draw_stays_held_out(pool, tmp_path) -> None:
    fields = {"select": "random", "start": "random", "rounds": {"holdout": 0.3, "tests": 0.5}}
    with Session(tmp_path / "run", pool, **fields) as session:
        asked = session.query(20).keys
        ids = pool.ids_of(asked)
        drawn = session.ledger.drawn(np.array([ids[key] for key in asked]))
        assert 0 < drawn.sum() < len(asked)
        session.tell({key: "ab"[i // 2 % 2] for i, key in enumerate(asked)})
    table = whole(raysal.rank(tmp_path / "run", out=tmp_path / "r", target="a"))
    held = dict(zip(table["key"].to_pylist(), table["held_out"].to_pylist(), strict=True))
    assert [held[key] for key in asked] == drawn.tolist()


def test_a_head_with_a_hidden_layer_sees_through_it(pool, tmp_path) -> None:
    rng = np.random.default_rng(0)
    layer = HiddenLayer(weight=rng.normal(size=(9, DIM)), bias=rng.normal(size=9))
    seeing = of_pool(replace(Head.of_weights(rng.normal(size=(4, 9)), np.zeros(4)), hidden_layer=layer), pool)
    for partitions in (1, 4):
        found = whole(ranked(pool, seeing, tmp_path / str(partitions), partitions))
    p = seeing.probabilities(seeing.see(vectors_of(pool)))[:, [1, 3]].sum(1)
    order = np.argsort(found["id"].to_numpy())
    np.testing.assert_allclose(found["probability"].to_numpy()[order], p, atol=1e-4)
    assert content(tmp_path / "1") == content(tmp_path / "4")


def test_no_process_holds_the_files_that_were_deleted(pool, head, tmp_path) -> None:
    """A mapped file keeps its room on the disk after it was deleted."""
    with local(pool, 2) as fleet:
        rank_pool(pool, fleet, of_pool(head, pool), tmp_path / "r", Options(target=TARGET), **SMALL)
        assert str(tmp_path) not in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_equal_scores_go_by_a_hash_and_not_by_the_order_of_files(pool, tmp_path) -> None:
    flat = Head.of_weights(np.zeros((4, DIM)), np.zeros(4))
    ids = ids_of(pool)
    found = whole(ranked(pool, flat, tmp_path / "r", 2))
    assert found["id"].to_pylist() == ids[np.argsort(item_order(TIES, ids))].tolist()
    again = ranked(pool, flat, tmp_path / "few", 2, top=200)
    assert whole(again) == found.slice(0, 200)


def test_a_place_orders_as_the_score_and_then_the_hash() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=500), [0.0, -0.0, np.inf, -np.inf, 1e-45, -1e-45, 3e38]]).astype(
        np.float32
    )
    values = np.concatenate([values, values])
    ids = rng.permutation(10**6)[: len(values)].astype(np.int64)
    expected = np.lexsort((item_order(TIES, ids), -values))
    np.testing.assert_array_equal(best_first(places_of(values, ids), ids), expected)
    # Items that share a place go by the rest of the hash.
    np.testing.assert_array_equal(best_first(np.zeros(len(ids), np.uint64), ids), np.argsort(item_order(TIES, ids)))


@pytest.mark.parametrize("rows", [1, 2])
def test_the_smallest_pools(rows, head, tmp_path) -> None:
    small = make_pool(tmp_path / "pool", mixture(rows, DIM)[0])
    found = ranked(small, head, tmp_path / "r", 3, top=5)
    assert sorted(whole(found)["id"].to_pylist()) == list(range(rows))
    assert found.find("item-000000") in range(rows)


def test_a_pool_without_items_has_an_empty_ranking(head, tmp_path) -> None:
    empty = make_pool(tmp_path / "pool", np.ones((3, DIM)), missing=[0, 1, 2])
    found = ranked(empty, head, tmp_path / "r")
    assert len(found) == 0
    assert whole(found).num_rows == 0
    assert found.find(0) is None
    assert found.find("item-000000") is None


def test_states_are_those_when_the_version_was_begun(pool, head, tmp_path) -> None:
    held = HeldOut(12347, 0.3)
    now = {5: "labeled", 7: "disputed", 9: "leased", 400: "skipped"}
    asked = {id: state == "leased" for id, state in now.items()}

    def known() -> dict[int, KnownItem]:
        return {id: KnownItem(state, asked[id], "no" if id == 5 else None) for id, state in now.items()}

    found = whole(ranked(pool, head, tmp_path / "r", 3, states=known, held_out=held))
    states = dict(zip(found["id"].to_pylist(), found["state"].to_pylist(), strict=True))
    assert {id: state for id, state in states.items() if state != "unlabeled"} == now
    labels = dict(zip(found["id"].to_pylist(), found["known_label"].to_pylist(), strict=True))
    assert {id: label for id, label in labels.items() if label is not None} == {5: "no"}
    ids = found["id"].to_numpy()
    assert item_uniform(held.key, np.array([9])) < 0.3, "of an item that was asked for the hash would say so"
    expected = (item_uniform(held.key, ids) < 0.3) & ~np.isin(ids, [id for id, was in asked.items() if was])
    np.testing.assert_array_equal(found["held_out"].to_numpy(zero_copy_only=False), expected)
    again = ranked(pool, head, tmp_path / "r", 1, states=lambda: {6: KnownItem("labeled", True)}, held_out=held)
    assert whole(again) == found, "the same head, score and options: it is there"


def test_versions_lie_beside_each_other_and_never_change(pool, head, tmp_path) -> None:
    out = tmp_path / "r"
    first = ranked(pool, head, out)
    before = content(out)
    assert ranked(pool, head, out, 2).version == "0000"
    assert ranked(pool, head, out, score="log_odds").version == "0000", "probability ranks by log odds"
    assert ranked(pool, head, out, target=TARGET[::-1]).version == "0000"
    assert content(out) == before
    other = random_head(DIM, classes=4, seed=9)
    assert ranked(pool, other, out).version == "0001"
    assert ranked(pool, head, out, score="margin").version == "0002"
    assert ranked(pool, head, out, top=10).version == "0003"
    assert ranked(pool, head, out, target=("class-2",)).version == "0004"
    assert {name: now for name, now in content(out).items() if name in before} == before
    assert [one.name for one in versions(out)] == [f"{i:04d}" for i in range(5)]
    assert Ranking.open(out).version == "0004"
    assert Ranking.open(out, score="margin").version == "0002"
    assert Ranking.open(out, "0000").plan == first.plan
    with pytest.raises(RunError, match="no finished version 0007"):
        Ranking.open(out, "0007")
    with pytest.raises(RunError, match="no finished version entropy"):
        Ranking.open(out, score="entropy")


def test_scores_of_different_pools_and_models_are_never_mixed(pool, head, tmp_path) -> None:
    out = tmp_path / "r"
    before = content(ranked(pool, head, out).path)
    other = make_pool(tmp_path / "other", vectors_of(pool)[:50])
    with pytest.raises(FingerprintMismatch, match="the pool's fingerprint"):
        ranked(other, head, out)
    wide = make_pool(tmp_path / "wide", np.ones((5, DIM + 1)))
    with pytest.raises(FingerprintMismatch, match="the encoder of its pool"):
        ranked(wide, random_head(DIM + 1, classes=4), out)
    with pytest.raises(FingerprintMismatch, match="the head's encoder"), local(wide) as fleet:
        rank_pool(wide, fleet, of_pool(head, pool), tmp_path / "new", Options(target=TARGET))
    assert not (tmp_path / "new").exists()
    assert content(out) == before


def test_a_ranking_is_not_put_among_other_files(pool, head, tmp_path) -> None:
    before = content(pool.path)
    with pytest.raises(RunError, match="is the directory of a pool"):
        ranked(pool, head, pool.path)
    assert content(pool.path) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(PoolError, match=r"holds something else \(thesis.tex\)"):
        ranked(pool, head, tmp_path / "mine")
    with pytest.raises(PoolError, match="holds no ranking"):
        Ranking.open(tmp_path / "mine")


def test_an_item_without_a_score_is_named(pool, tmp_path) -> None:
    huge = Head.of_weights(np.full((4, DIM), 3e38), np.zeros(4))
    with pytest.raises(PoolError, match="item 0"):
        ranked(pool, huge, tmp_path / "r")
    with pytest.raises(RunError, match="no finished version"):
        Ranking.open(tmp_path / "r")


def test_what_cannot_be_done_says_why(pool, head, tmp_path) -> None:
    with pytest.raises(ConfigError, match="target"):
        ranked(pool, head, tmp_path / "r", target=())
    with pytest.raises(ConfigError, match="label some items that are none of it"):
        ranked(pool, head, tmp_path / "r", target=head.classes)
    with pytest.raises(ConfigError, match="earlier round"):
        ranked(pool, head, tmp_path / "r", score="tod")
    with pytest.raises(UnknownName, match="probability"):
        Options(score="probabilty")
    with pytest.raises(ConfigError, match="top: 0"):
        Options(top=0)
    assert not (tmp_path / "r").exists()


def test_numbers_are_ranked_by_what_is_known_of_them(pool, tmp_path) -> None:
    rng = np.random.default_rng(1)
    x = vectors_of(pool)[:60]
    labels = [f"{value:.3f}" for value in x @ rng.normal(size=DIM)]
    data = TrainingData(features=x, labels=labels, classes=["value"], encoder=pool.vector_space)
    numbers = TRAINERS["regression"]().fit(data)
    found = whole(ranked(pool, numbers, tmp_path / "r", 2, score="epistemic_variance", target=()))
    assert found.column_names == ["rank", "id", "key", "score", "value", "state", "known_label", "held_out"]
    values = found["value"].to_numpy()[np.argsort(found["id"].to_numpy())]
    np.testing.assert_allclose(values, numbers.logits(vectors_of(pool))[:, 0], atol=1e-4)


PROGRAM = """
import sys
from pathlib import Path
import torch  # once, not in every child
from killing import KILLED, exit_code_of, kill_before
from raysal.config import FleetConfig
from raysal.fleet import open_fleet
from raysal.pool import Pool
from raysal.ranking import Options, rank_pool
from raysal.models.head import Head

pool, head = Pool(sys.argv[1]), Head.load(Path(sys.argv[2]))

def job(step, out):
    kill_before(step)
    options = Options(target=("class-1", "class-3"))
    with open_fleet(pool, FleetConfig(backend="local", partitions=3)) as fleet:
        rank_pool(pool, fleet, head, Path(out), options, page_rows=500, run_rows=800)
    return 0

for word in sys.argv[4:]:
    step, _, name = word.partition(":")
    step, out = int(step), sys.argv[3] + "/" + name
    code = exit_code_of(lambda: job(step, out))
    print(code)
    if code == 0:
        break
    assert code == KILLED, (step, code)
"""
LARGER = {"page_rows": 500, "run_rows": 800}


def killed(pool: Pool, head: Head, folder: Path, steps: Iterable[tuple[int, str]]) -> list[int]:
    """Kill a job at each of these system calls, in the folder of this name; return the exit codes."""
    of_pool(head, pool).save(folder / "head")
    done = python(PROGRAM, pool.path, folder / "head", folder, *(f"{step}:{name}" for step, name in steps))
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


@pytest.fixture(scope="module")
def interrupted(pool: Pool, head: Head, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Jobs that were killed: several times in one folder, and once in each of others."""
    folder = tmp_path_factory.mktemp("killed")
    steps = [(3, "killed"), (17, "killed"), (31, "killed"), (50, "at-50"), (80, "at-80")]
    assert killed(pool, head, folder, steps) == [-9] * 5
    return folder


@pytest.fixture(scope="module")
def uninterrupted(pool: Pool, head: Head, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return content(ranked(pool, head, tmp_path_factory.mktemp("whole") / "r", **LARGER).path)


@pytest.mark.parametrize("name", ["killed", "at-50", "at-80"])
def test_killed_and_run_again_it_has_the_same_bytes(name, interrupted, uninterrupted, pool, head, tmp_path) -> None:
    out = tmp_path / "r"
    shutil.copytree(interrupted / name, out)
    with pytest.raises(RunError, match="no finished version"):
        Ranking.open(out)
    before = {path: path.stat().st_ino for path in out.glob("versions/0000/commits/*/*.json")}
    ranked(pool, head, out, 2, **LARGER)
    assert content(out) == uninterrupted
    assert before or name == "killed"
    assert {path: path.stat().st_ino for path in before} == before, "what was there is not made again"


@deep
def test_killed_at_every_step_and_run_again_it_has_the_same_bytes(uninterrupted, pool, head, tmp_path) -> None:
    codes = killed(pool, head, tmp_path, [(step, f"at-{step}") for step in range(1, 1000)])
    assert codes[-1] == 0
    assert len(codes) > 60
    for step in range(1, len(codes) + 1):
        ranked(pool, head, tmp_path / f"at-{step}", 2, **LARGER)
        assert content(tmp_path / f"at-{step}") == uninterrupted, step


def test_an_unfinished_version_is_no_ranking_and_makes_room(interrupted, pool, head, tmp_path) -> None:
    out = tmp_path / "r"
    shutil.copytree(interrupted / "at-50", out)
    assert len(list((out / "versions" / "0000" / "runs").iterdir())) > 0
    assert ranked(pool, random_head(DIM, classes=4, seed=3), out).version == "0000"
    assert len(versions(out)) == 1
    assert not (out / "versions" / "0000" / "runs").exists()


def flipped(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


def read_all(out: Path) -> None:
    found = Ranking.open(out)
    whole(found)
    found.verify()


def test_a_flipped_byte_is_named(pool, head, tmp_path) -> None:
    out = ranked(pool, head, tmp_path / "r").path
    names = {"ranking.json", "version.json", "cuts.json", "00001.arrow", "00001.json"}
    files = [path for path in sorted(out.rglob("*")) if path.name in names]
    assert len(files) == 3 + 3 + 3
    for path in files:
        before = path.read_bytes()
        for place in (0, len(before) // 2, len(before) - 1):
            flipped(path, place)
            with pytest.raises(RaysalError) as caught:
                read_all(out)
            assert path.name in str(caught.value), path
            path.write_bytes(before)
        path.unlink()
        with pytest.raises(RaysalError):
            read_all(out)
        path.write_bytes(before)
    read_all(out)


def test_while_it_is_made_a_flipped_byte_is_named(interrupted, uninterrupted, pool, head, tmp_path) -> None:
    out = tmp_path / "r"
    shutil.copytree(interrupted / "at-80", out)
    version = out / "versions" / "0000"
    records = sorted(version.glob("commits/*/*.json"))
    kept = [version / name for record in records for name in json.loads(record.read_bytes())["files"]]
    assert len(kept) > 4
    files = [*kept[:4], records[0], version / "version.json", version / "states.arrow"]
    for path in files:
        before = path.read_bytes()
        flipped(path, len(before) // 2)
        with pytest.raises(RaysalError) as caught:
            ranked(pool, head, out, **LARGER)
        assert path.name in str(caught.value)
        path.write_bytes(before)
    ranked(pool, head, out, **LARGER)
    assert content(out) == uninterrupted


def test_two_at_once_do_not_disturb_each_other(pool, head, tmp_path) -> None:
    """The second is refused while the first is at work, and finds the ranking afterwards."""
    out, refused = tmp_path / "r", []

    def meanwhile(stage: str, done: int, total: int) -> None:
        with pytest.raises(RunError, match="another process is at work on this ranking") as caught:
            ranked(pool, random_head(DIM, classes=4, seed=5), out)
        refused.append(caught)

    with local(pool, 2) as fleet:
        rank_pool(pool, fleet, of_pool(head, pool), out, Options(target=TARGET), report=meanwhile, **SMALL)
    assert len(refused) > 10
    assert content(out) == content(ranked(pool, head, tmp_path / "alone").path)


def test_a_full_disk_is_an_error_that_loses_nothing(pool, head, tmp_path, monkeypatch) -> None:
    import raysal.ranking.partition as beside
    from raysal.ranking.layout import write_batch

    left = [5]

    def full(path: Path, columns: dict[str, pa.Array]) -> None:
        left[0] -= 1
        if left[0] < 0:
            path.write_bytes(b"part of it")
            raise OSError(28, "No space left on device")
        write_batch(path, columns)

    out = tmp_path / "r"
    with monkeypatch.context() as patched:
        patched.setattr(beside, "write_batch", full)
        for room in (3, 9, 20):
            left[0] = room
            with pytest.raises(OSError, match="No space left"):
                ranked(pool, head, out, 2)
            assert not list(out.rglob(".tmp-*"))
    ranked(pool, head, out, 2)
    assert content(out) == content(ranked(pool, head, tmp_path / "whole").path)


def test_threads_share_a_ranking(pool, head, tmp_path) -> None:
    found, wrong = ranked(pool, head, tmp_path / "r"), []
    every = whole(found)

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(60):
            start, n = int(rng.integers(len(every))), int(rng.integers(200))
            if found.page(start, n) != every.slice(start, n) or found.find(every["id"][start].as_py()) != start:
                wrong.append((start, n))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_reaches_the_driver_does_not_grow_with_the_rows(pool, head, tmp_path) -> None:
    weights = []

    class Weighed:
        def __init__(self, inner: LocalFleet) -> None:
            self.inner, self.size = inner, inner.size

        def reset(self) -> None:
            self.inner.reset()

        def each(self, fn, *args):
            found = self.inner.each(fn, *args)
            weights[-1] = max(weights[-1], *(len(repr(one)) for one in found))
            return found

    for rows in (200, 4000):
        weights.append(0)
        small = make_pool(tmp_path / f"pool-{rows}", mixture(rows, DIM)[0], chunk_rows=rows)
        rank_pool(small, Weighed(local(small)), of_pool(head, small), tmp_path / f"r-{rows}", Options(target=TARGET))
    assert weights[1] <= weights[0] + 24


def test_a_run_is_ranked_by_the_head_that_its_labels_make(pool, tmp_path) -> None:
    """Also where no round has a head yet; the run is left as it is. Labels told later make another version."""
    run, out = tmp_path / "run", tmp_path / "r"
    keys = [key for table in pool.items(["key"]) for key in table["key"].to_pylist()]
    fields = {"select": "random", "start": "random", "target": ["a"], "rounds": {"holdout": 0.2}}
    with Session(run, pool, **fields) as session:
        leased = session.query(5).keys
        with pytest.raises(RunError, match="no head and no labels yet"):
            raysal.rank(run, out=out)
        told = {key: "a" if i % 3 else "b" for i, key in enumerate(keys[:40])}
        session.tell(told)
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        found = raysal.rank(run, out=out, partitions=2)
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
        head = session.current_head()
        assert head is not None
        assert found.plan.head == head.digest()
        assert found.plan.target == ("a",)
        table = whole(found)
        states = dict(zip(table["key"].to_pylist(), table["state"].to_pylist(), strict=True))
        assert {key for key, state in states.items() if state == "labeled"} == set(told)
        assert {key for key, state in states.items() if state == "leased"} == set(leased) - set(told)
        assert 0.1 < np.mean(table["held_out"].to_pylist()) < 0.3
        session.tell({keys[100]: "b"})
        assert raysal.rank(run, out=out).version == "0001"
        session.query(5)
        assert raysal.rank(run, out=out).version == "0001", "a new round changes no label"
        assert raysal.rank(run, out=out, round=1).version == "0001"
        assert raysal.rank(run, out=out, target="b").plan.target == ("b",)
        with pytest.raises(ConfigError, match="'c' is none of the classes"):
            raysal.rank(run, out=out, target="c")
        with pytest.raises(RunError, match="round 0 had no head"):
            raysal.rank(run, out=out, round=0)
        session.finish()
        assert raysal.rank(run, out=out).version == "0001", "the closing head knows no other label"
