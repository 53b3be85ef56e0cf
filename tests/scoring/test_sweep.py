"""The pass over a pool: parts merged in any order are the whole, every number is that of the slow version."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
import torch
from pools import make_pool, mixture
from programs import TARGET, local, make_head, random_head

from raysal.fleet import exclude
from raysal.models.evidence import gather_evidence
from raysal.numerics import BLOCK_ROWS, in_threads
from raysal.rng import derive
from raysal.scoring.inputs import score_inputs
from raysal.scoring.registry import SCORES
from raysal.scoring.similarity import unit_rows
from raysal.scoring.sweep import BINS, Search, Sweep, SweepRequest, merge_sweeps, sweep, sweep_partition

N, DIM = 500, 19
OUT = np.arange(3, N, 7)
OPEN = np.setdiff1d(np.arange(N), OUT)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    x = mixture(N, DIM)[0]
    x[40:60] = x[0]  # ties
    x[70] = 0
    return x


@pytest.fixture
def fleets(x, tmp_path):
    pool = make_pool(tmp_path / "pool", x, chunk_rows=90)
    fleets = [local(pool, parts) for parts in (1, 4)]
    for fleet in fleets:
        fleet.each(exclude, OUT)
    return fleets


@pytest.fixture
def request_all(x) -> SweepRequest:
    return SweepRequest(scores=tuple(SCORES), top=30, searches=(Search(anchors=x[:6], each=25),), sample=20, key=5)


@pytest.fixture
def known(x) -> dict[str, Any]:
    """What scores ask for beside the head."""
    answers = [f"class-{i % 5}" for i in range(12)]
    sample = gather_evidence(x[OUT[:12]], answers, None, random_head(DIM).classes)
    return {"previous": random_head(DIM, seed=1), "reference": sample, "target": TARGET}


def assert_equal(a: Sweep, b: Sweep) -> None:
    assert a.rows == b.rows
    assert np.array_equal(a.class_counts, b.class_counts)
    for name in SCORES:
        assert np.array_equal(a.histograms[name], b.histograms[name])
        assert all(np.array_equal(p, q) for p, q in zip(a.top[name], b.top[name], strict=True))
    for mine, theirs in zip(a.searches[0].of_each, b.searches[0].of_each, strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(mine, theirs, strict=True))
    assert all(np.array_equal(p, q) for p, q in zip(a.sample, b.sample, strict=True))


def test_parts_merged_in_any_order_are_one_partition(fleets, request_all, known):
    head = random_head(DIM)
    whole = sweep(fleets[0], head, request_all, **known)
    inputs = score_inputs(head, request_all.scores, **known, key=derive(request_all.key, "scores"))
    parts = fleets[1].each(sweep_partition, inputs, request_all)
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]):
        assert_equal(merge_sweeps([parts[i] for i in order], request_all), whole)


def test_the_sweep_agrees_with_the_slow_version(fleets, request_all, x, known):
    head = random_head(DIM)
    found = sweep(fleets[1], head, request_all, **known)
    drawn = score_inputs(head, ("bald",), key=derive(request_all.key, "scores")).samples
    p = reference.probabilities(x[OPEN], head.weight, head.bias)
    assert found.rows == len(OPEN)
    assert np.array_equal(found.class_counts, reference.class_counts(p))
    assert np.array_equal(found.sample[0], reference.uniform_sample(5, OPEN, 20))
    for name in SCORES:
        values = reference.head_score(
            name,
            x[OPEN],
            head,
            drawn=drawn,
            previous=known["previous"],
            referred=known["reference"].features,
            targets=known["reference"].targets,
        )
        expected, _ = np.histogram(values.clip(0, 1), bins=BINS, range=(0, 1))
        assert found.histograms[name].sum() == len(OPEN)
        if name == "variation_ratio":  # many share a value, at an edge
            continue
        # A value at an edge may fall to either side: the running counts differ by few, and nowhere for long.
        assert np.abs(np.cumsum(found.histograms[name]) - np.cumsum(expected)).max() <= 2
        place = dict(zip(OPEN.tolist(), values.tolist(), strict=True))
        ids, kept = found.top[name]
        np.testing.assert_allclose(kept, np.sort(values)[::-1][:30], rtol=2e-6, atol=2e-6)
        np.testing.assert_allclose(kept, [place[id] for id in ids.tolist()], rtol=2e-6, atol=2e-6)
        assert [(-v, i) for v, i in zip(kept.tolist(), ids.tolist(), strict=True)] == sorted(
            (-v, i) for v, i in zip(kept.tolist(), ids.tolist(), strict=True)
        )
        for q in (0.0, 0.1, 0.5, 0.9, 1.0):
            exact = np.clip(np.quantile(values, q, method="inverted_cdf"), 0, 1)
            assert found.quantile(name, q) == pytest.approx(exact, abs=1.5 / BINS)
    for anchor, (ids, kept) in zip(x[:6], found.searches[0].of_each, strict=True):
        similarity = reference.cosine(x[OPEN], anchor)
        np.testing.assert_allclose(kept, np.sort(similarity)[::-1][:25], atol=2e-6)
        np.testing.assert_allclose(kept, similarity[np.searchsorted(OPEN, ids)], atol=2e-6)


@pytest.mark.parametrize("ties", [None, 3, 4])
def test_ties_are_settled_alike_across_partitions(ties, fleets, x):
    """By a hash in a round, by the lower id in what people look up: of neighbours, and of scores that are all equal."""
    copies = [i for i in (0, *range(40, 60)) if i not in OUT]
    wanted = sorted(copies, key=lambda id: reference.tie_of(ties, id))
    every = sorted(OPEN.tolist(), key=lambda id: reference.tie_of(ties, id))
    one = make_head(np.ones((1, DIM)), np.zeros(1))
    for fleet in fleets:
        search = Search(anchors=x[:1], each=5, nearest=5)
        found = sweep(fleet, one, SweepRequest(searches=(search,), scores=("margin",), top=30, ties=ties))
        assert found.searches[0].of_each[0][0].tolist() == wanted[:5]
        assert found.searches[0].nearest[0].tolist() == wanted[:5]
        assert found.top["margin"][0].tolist() == every[:30]
    assert (wanted[:5] == copies[:5]) == (ties is None)


def test_excluded_items_are_nowhere(fleets, request_all, known):
    found = sweep(fleets[1], random_head(DIM), request_all, **known)
    seen = [*(ids for ids, _ in found.top.values()), *(ids for ids, _ in found.searches[0].of_each), found.sample[0]]
    assert not np.isin(np.concatenate(seen), OUT).any()


def test_without_a_head_there_are_only_neighbours_and_a_sample(fleets, request_all):
    found = sweep(fleets[1], None, request_all)
    assert (found.rows, len(found.class_counts), found.top, found.histograms) == (len(OPEN), 0, {}, {})
    assert [len(ids) for ids, _ in found.searches[0].of_each] == [25] * 6
    assert len(found.sample[0]) == 20


def test_more_is_asked_for_than_there_is(fleets, x):
    for fleet in fleets:
        found = sweep(
            fleet,
            random_head(DIM),
            SweepRequest(scores=("margin",), top=900, searches=(Search(anchors=x[:2], each=900),), sample=900),
        )
        for ids in (found.top["margin"][0], found.sample[0], *(ids for ids, _ in found.searches[0].of_each)):
            assert np.array_equal(np.sort(ids), OPEN)


def test_nothing_is_asked_of_nothing(fleets):
    for fleet in fleets:
        fleet.each(exclude, np.arange(N))
        found = sweep(fleet, random_head(DIM), SweepRequest(scores=("entropy",), top=3, sample=3))
        assert (found.rows, found.class_counts.sum(), len(found.top["entropy"][0])) == (0, 0, 0)
        assert np.isnan(found.quantile("entropy", 0.5))


def test_a_quantile_lies_in_a_bin_that_holds_something():
    histogram = np.zeros(BINS, np.int64)
    histogram[[700, 900]] = 1, 3
    found = Sweep(rows=4, class_counts=np.empty(0, np.int64), histograms={"margin": histogram})
    assert [found.quantile("margin", q) * BINS for q in (0.0, 0.25, 0.26, 1.0)] == [701, 701, 901, 901]


def test_equal_probabilities_count_for_the_first_class(fleets):
    head = make_head(np.zeros((3, DIM)), np.zeros(3))
    assert sweep(fleets[1], head, SweepRequest()).class_counts.tolist() == [len(OPEN), 0, 0]


def test_a_zero_vector_has_no_direction(fleets, x):
    found = sweep(fleets[0], None, SweepRequest(searches=(Search(anchors=np.zeros((1, DIM), np.float32), each=N),)))
    assert not found.searches[0].of_each[0][1].any()
    ids, values = sweep(fleets[0], None, SweepRequest(searches=(Search(anchors=x[:1], each=N),))).searches[0].of_each[0]
    assert values[ids == 70].tolist() == [0.0]
    assert np.isfinite(values).all()
    assert np.array_equal(unit_rows(np.zeros((2, 3), np.float32)), np.zeros((2, 3)))


def test_the_size_of_the_reply_does_not_grow_with_the_pool(tmp_path):
    """What leaves a partition is bounded by what was asked for."""
    search = Search(anchors=np.ones((3, 4), np.float32), each=5)
    request = SweepRequest(scores=("margin",), top=7, searches=(search,), sample=6)
    sizes = []
    for n in (50, 5000):
        fleet = local(make_pool(tmp_path / str(n), mixture(n, 4)[0], chunk_rows=n))
        part = fleet.each(sweep_partition, score_inputs(random_head(4)), request)[0]
        lists = (part.top["margin"], *part.searches[0].of_each, part.sample)
        sizes.append([len(ids) for ids, _ in lists])
    assert sizes[0] == sizes[1] == [7, 5, 5, 5, 6]


@pytest.mark.parametrize("each", [3, 200])
def test_no_neighbour_is_missed_over_many_blocks(each, tmp_path):
    """Once the lists are full, only rows that can change one are looked at: similarities rise over the pool, so that
    they change to its end."""
    rng = np.random.default_rng(3)
    n = 5 * BLOCK_ROWS + 77
    anchors = rng.normal(size=(7, 12)).astype(np.float32)
    x = rng.normal(size=(n, 12)) + np.linspace(0, 2, n)[:, None] * anchors[rng.integers(7, size=n)]
    pool = make_pool(tmp_path / "pool", x, chunk_rows=n)
    own = x.astype(np.float16)
    out = np.arange(0, n, 3)
    search = SweepRequest(searches=(Search(anchors=anchors, each=each),))
    for partitions in (1, 3):
        fleet = local(pool, partitions)
        fleet.each(exclude, out)
        found = sweep(fleet, None, search).searches[0]
        for anchor, (ids, values) in zip(anchors, found.of_each, strict=True):
            similarity = reference.cosine(own, anchor)
            similarity[out] = -np.inf
            np.testing.assert_allclose(values, np.sort(similarity)[::-1][:each], atol=2e-6)
            np.testing.assert_allclose(values, similarity[ids], atol=2e-6)


@pytest.mark.parametrize("classes", [3, 20, 70])
def test_scores_that_are_taken_together_are_those_of_their_rows(classes, tmp_path):
    """With 3 classes all rows are scored at once, with 20 in two goes, with 70 block by block."""
    x = mixture(5 * BLOCK_ROWS + 77, 7)[0]
    pool = make_pool(tmp_path / "pool", x, chunk_rows=len(x))
    head, out = random_head(7, classes=classes), np.arange(1, len(x), 5)
    left = np.setdiff1d(np.arange(len(x)), out)
    p = reference.probabilities(x[left], head.weight, head.bias)
    margin = reference.score("margin", p)
    for partitions in (1, 3):
        fleet = local(pool, partitions)
        fleet.each(exclude, out)
        found = sweep(fleet, head, SweepRequest(scores=("margin",), top=400))
        ids, values = found.top["margin"]
        np.testing.assert_allclose(values, np.sort(margin)[::-1][:400], atol=2e-6)
        np.testing.assert_allclose(values, margin[np.searchsorted(left, ids)], atol=2e-6)
        assert np.abs(found.class_counts - reference.class_counts(p)).sum() <= 2, "float32 may settle a tie otherwise"
        assert found.histograms["margin"].sum() == found.class_counts.sum() == len(left)


@pytest.mark.parametrize("open_rows", [False, True], ids=["some excluded", "all open"])
def test_runs_shared_out_among_threads_are_one_pass(open_rows, tmp_path, monkeypatch):
    # As in a pool of hundreds of runs, of which a thread takes the next when it is done with the last.
    monkeypatch.setattr("raysal.scoring.sweep.NUMBERS_SCORED_TOGETHER", 1)
    monkeypatch.setattr("raysal.scoring.sweep.BLOCK_ROWS", 192)
    monkeypatch.setattr("raysal.scoring.sweep.block_rows_for", lambda columns, device: 64)
    x = mixture(1900, DIM)[0]
    fleet = local(make_pool(tmp_path / "pool", x, chunk_rows=300), 1)
    if not open_rows:
        fleet.each(exclude, np.arange(0, len(x), 3))
    searches = (Search(anchors=x[:6], each=25), Search(anchors=x[6:9], nearest=40))
    request = SweepRequest(scores=("bald", "margin", "entropy"), top=30, searches=searches, sample=20, key=5, ties=8)
    before, passes, shares = torch.get_num_threads(), [], []
    monkeypatch.setattr(
        "raysal.scoring.sweep.in_threads", lambda work, count: (shares.append(count), in_threads(work, count))
    )
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            passes.append(sweep(fleet, random_head(DIM), request))
    finally:
        torch.set_num_threads(before)
    assert shares == [1, 2, 3]
    for other in passes[1:]:
        assert np.array_equal(other.class_counts, passes[0].class_counts)
        assert all(np.array_equal(other.histograms[name], passes[0].histograms[name]) for name in request.scores)
        for mine, theirs in zip(best_items(other, request), best_items(passes[0], request), strict=True):
            assert all(np.array_equal(p, q) for p, q in zip(mine, theirs, strict=True))


def best_items(found: Sweep, request: SweepRequest) -> list[Any]:
    """Every list of best items of a pass."""
    each = [items for search in found.searches for items in search.of_each]
    return [*(found.top[name] for name in request.scores), *each, *(s.nearest for s in found.searches), found.sample]


def test_a_sweep_for_nothing_reads_nothing(fleets, monkeypatch):
    """The sweep of a round without a head and without anchors: it makes no block, which takes as long as the rest."""

    def refuse(*_: object) -> None:
        raise AssertionError("a block was asked for")

    for fleet in fleets:
        for partition in fleet._partitions:
            monkeypatch.setattr(partition, "blocks", refuse)
        found = sweep(fleet, None, SweepRequest(sample=20, key=5))
        assert found.rows == len(OPEN)
        assert len(found.sample[0]) == 20
