"""BAIT in all its forms: the authors' formulas over a pool, what may have a part in it, and where little is left."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import reference
import reference_dense as slow
import torch
from cases import make_case
from every_row import DIM, N, task
from pools import make_pool, mixture
from programs import context_of, local, make_head, random_head
from scenes import scene
from tiers import deep_unless, one_of_each

from raysal.config import choice
from raysal.errors import ConfigError, UserError
from raysal.fleet import exclude, keep
from raysal.models.likelihood import IDENTITY, SIGMOID
from raysal.rng import derive, item_uniform
from raysal.scoring.linear import Linear
from raysal.strategies import SELECTORS
from raysal.strategies.base import select
from raysal.strategies.information import bait, fisher_forms
from raysal.strategies.information.bait import pool_fisher
from raysal.strategies.information.fisher import bait_of_rows
from raysal.strategies.information.fisher_forms import Form

rows, fleet, candidates = scene(mixture(N, DIM, seed=3)[0])
FORMS = [
    {"fisher": "binary"},
    {"fisher": "top_c", "top_classes": 1},
    {"fisher": "top_c", "top_classes": 3},
    {"fisher": "exact"},
]
every_form = pytest.mark.parametrize("fields", FORMS, ids=lambda fields: "-".join(map(str, fields.values())))


def small_pool(n=60, d=4, classes=3, seed=0):
    """(rows float16 [n, d], head): small enough for inverses of C d x C d matrices, again and again."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(n, d)) * np.logspace(0, -0.7, d)).astype(np.float16).astype(np.float64)
    return x, random_head(d, classes, seed=seed + 1, scale=1.5)


def rows_of(x, head, fields):
    """V of rows by the papers' formulas, in C d coordinates."""
    p = reference.probabilities(x, head.weight / head.temperature, head.bias / head.temperature)
    return slow.bait_rows(p, x, fields["fisher"], fields.get("top_classes", 0))


def in_partitions(monkeypatch):
    """Leave candidates of rank one where they are, as if they were too many for the driver."""
    monkeypatch.setattr(bait, "DRIVER_NUMBERS", 0)


def directions(head, fields):
    """Directions in which there may be information, for each feature."""
    return 1 if fields["fisher"] in ("binary", "numbers") else len(head.bias) - 1


@pytest.mark.parametrize(("fields", "oversample", "labelled"), one_of_each(product(FORMS, [1.0, 2.0], [0, 9])))
def test_bait_is_the_rule_of_the_paper(fields, oversample, labelled, tmp_path):
    """Inverses of C d x C d matrices for each candidate, F over what is available."""
    x, head = small_pool()
    known, offered = np.arange(labelled), np.arange(labelled, len(x))
    pool = local(make_pool(tmp_path / "pool", x, chunk_rows=13), 3)
    pool.each(exclude, known)
    given = context_of(head=head, labelled=x[known], key=5)
    picks = select(pool, SELECTORS["bait"](**fields, oversample=oversample), given, 7)
    v = rows_of(x, head, fields)
    fisher = slow.information(v[offered]) / len(offered)
    prior = np.trace(fisher) / x.shape[1] / directions(head, fields)
    precision = prior * np.eye(len(fisher)) + slow.information(v[known])
    wanted, falls = slow.bait(v[offered], precision, fisher, 7, oversample=oversample)
    assert picks.ids.tolist() == offered[wanted].tolist()
    np.testing.assert_allclose(picks.scores, falls, rtol=1e-3)


@pytest.mark.parametrize(("fields", "labelled", "ridge"), one_of_each(product(FORMS, [0, 9], [1.0, 0.01])))
def test_published_weights_are_the_authors_code(fields, labelled, ridge, tmp_path):
    x, head = small_pool(seed=6)
    known, offered = np.arange(labelled), np.arange(labelled, len(x))
    pool = local(make_pool(tmp_path / "pool", x, chunk_rows=13), 2)
    pool.each(exclude, known)
    given = context_of(head=head, labelled=x[known], key=5)
    picks = select(pool, SELECTORS["bait"](**fields, weights="published", ridge=ridge), given, 6)
    v = rows_of(x, head, fields)
    fisher = slow.information(v[offered]) / len(offered)
    wanted = slow.bait_as_the_authors_code(v[offered], v[known], fisher, 6, lamb=ridge)
    assert picks.ids.tolist() == offered[wanted].tolist()


@pytest.mark.parametrize("oversample", [1, 2])
@pytest.mark.parametrize("numbers", [False, True])
def test_the_driver_picks_what_partitions_propose(oversample, numbers, rows, fleet, candidates, monkeypatch):
    """Copies too: of equal items both take the one of lowest hash."""
    head = number_head(DIM) if numbers else random_head(DIM)
    fleet.each(keep, candidates)
    given, selector = task(rows, head=head), SELECTORS["bait"](oversample=oversample)
    driver = select(fleet, selector, given, 90)
    in_partitions(monkeypatch)
    partitions = select(fleet, selector, given, 90)
    assert np.array_equal(driver.ids, partitions.ids)
    np.testing.assert_allclose(driver.scores, partitions.scores, rtol=1e-8)


def test_with_two_classes_all_forms_are_one(rows, fleet, candidates):
    given = task(rows, head=random_head(DIM, 2))
    found = [
        select(fleet, SELECTORS["bait"](fisher=name, top_classes=2), given, 30).ids.tolist()
        for name in ("binary", "top_c", "exact")
    ]
    assert found[0] == found[1] == found[2]


@every_form
def test_an_item_alone_has_the_published_fisher_matrix(fields, rows):
    """In the directions of the classes that V is written in, of which nothing is lost."""
    head = random_head(DIM)
    form = Form.of(fields["fisher"], Linear.of(head), fields.get("top_classes", 0))
    wanted = slow.information(rows_of(rows[:3], head, fields))
    found = form.of_items(rows[:3]).total()
    np.testing.assert_allclose(np.trace(found), np.trace(wanted), rtol=1e-6)
    strongest = [np.linalg.eigvalsh(matrix)[-5:] for matrix in (found, wanted)]
    np.testing.assert_allclose(strongest[0], strongest[1], rtol=1e-5, atol=1e-9)


# -- numbers ----------------------------------------------------------------------------------------------------------


def number_head(dim, noise=0.3, seed=3):
    head = make_head(np.random.default_rng(seed).normal(size=(1, dim)), np.zeros(1))
    return replace(head, likelihood=IDENTITY, noise=noise)


@pytest.mark.parametrize("oversample", [1.0, 2.0])
def test_bait_for_numbers_lowers_the_mean_variance_of_predictions(oversample, tmp_path):
    """The Fisher matrix of a Gaussian label is h h' / noise: the noise cancels."""
    x, _ = small_pool(seed=11)
    known, offered = np.arange(8), np.arange(8, len(x))
    pool = local(make_pool(tmp_path / "pool", x, chunk_rows=13), 3)
    pool.each(exclude, known)
    for noise in (0.3, 7.0):
        given = context_of(head=number_head(4, noise), labelled=x[known], key=5)
        picks = select(pool, SELECTORS["bait"](oversample=oversample), given, 7)
        v = slow.bait_rows(np.empty(0), x, "numbers")
        fisher = slow.information(v[offered]) / len(offered)
        precision = np.trace(fisher) / 4 * np.eye(4) + slow.information(v[known])
        wanted, falls = slow.bait(v[offered], precision, fisher, 7, oversample=oversample)
        assert picks.ids.tolist() == offered[wanted].tolist()
        np.testing.assert_allclose(picks.scores, falls, rtol=1e-3)


def test_two_numbers_by_hand(tmp_path):
    """One feature, nothing labelled: F = (1 + 4 + 16) / 3 = 7 = lambda, and the largest lowers 1 by 16 / 23."""
    pool = local(make_pool(tmp_path / "pool", np.array([[1.0], [2.0], [4.0]])))
    given = context_of(head=number_head(1), labelled=np.empty((0, 1), np.float32), key=1)
    picks = select(pool, SELECTORS["bait"](oversample=1), given, 2)
    assert picks.ids.tolist() == [2, 1]
    np.testing.assert_allclose(picks.scores, [1 - 7 / 23, 7 / 23 - 7 / 27], rtol=1e-4)


def test_the_fields_of_classes_change_nothing_for_numbers(rows, fleet, candidates):
    given = context_of(head=number_head(DIM), labelled=rows[:9], key=2)
    found = [select(fleet, SELECTORS["bait"](fisher=name), given, 9).ids.tolist() for name in ("binary", "exact")]
    assert found[0] == found[1]


def test_bait_says_what_it_cannot_work_with(rows, fleet, candidates):
    head = replace(random_head(DIM), likelihood=SIGMOID)
    with pytest.raises(ConfigError, match="this strategy compares classes, and the head predicts"):
        select(fleet, SELECTORS["bait"](), task(rows, head=head), 3)


# -- what has a part in it --------------------------------------------------------------------------------------------


@every_form
def test_what_is_taken_out_has_no_part_in_it(fields, rows, tmp_path):
    """Held-out items are taken out of the pool: whatever their vectors are, the picks are the same."""
    out = np.arange(0, N, 3)
    found = []
    for times in (1.0, -37.0):
        x = rows.copy()
        x[out] *= times
        pool = local(make_pool(tmp_path / str(times), x), 2)
        pool.each(exclude, out)
        found.append(select(pool, SELECTORS["bait"](**fields), task(rows), 12))
    assert np.array_equal(found[0].ids, found[1].ids)
    assert np.array_equal(found[0].scores, found[1].scores)


@pytest.mark.parametrize("represented", [100, 200, 1000])
def test_narrowed_candidates_are_judged_by_a_sample_of_all_that_is_available(represented, rows, fleet, candidates):
    few = candidates[::5]
    fleet.each(keep, few)
    given = task(rows)
    picks = select(fleet, SELECTORS["bait"](represented=represented, oversample=1), given, 9)
    share = represented / len(candidates)
    sample = candidates[item_uniform(derive(5, "represented"), candidates) < share]
    assert (len(sample) < len(candidates)) == (share < 1)
    v = rows_of(rows.astype(np.float64), given.head, {"fisher": "binary"})
    fisher = slow.information(v[sample]) / len(sample)
    labelled = rows_of(given.labelled.vectors.astype(np.float64), given.head, {"fisher": "binary"})
    precision = np.trace(fisher) / DIM * np.eye(DIM) + slow.information(labelled)
    wanted, falls = slow.bait(v[few], precision, fisher, 9)
    assert picks.ids.tolist() == few[wanted].tolist()
    np.testing.assert_allclose(picks.scores, falls, rtol=1e-3)


def test_as_many_items_are_represented_as_there_are_candidates(rows, fleet, candidates):
    """A pool from which a few are withheld is judged by nearly all of it, not by `represented`."""
    fleet.each(keep, candidates[3:])
    few, all_ = (SELECTORS["bait"](represented=size, oversample=1) for size in (100, 1000))
    share = (len(candidates) - 3) / len(candidates)
    assert (item_uniform(derive(5, "represented"), candidates) < share).all()
    one, other = (select(fleet, selector, task(rows), 9) for selector in (few, all_))
    assert np.array_equal(one.scores, other.scores)


# -- laws -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def case():
    return make_case(500, 33)


@pytest.fixture(scope="module")
def pools(case, tmp_path_factory):
    root = tmp_path_factory.mktemp("layouts")
    return {chunk_rows: case.pool(root / str(chunk_rows), chunk_rows) for chunk_rows in (64, 480, 500)}


@pytest.mark.parametrize("fields", deep_unless(FORMS[2:3], FORMS))
def test_no_form_depends_on_where_rows_lie_or_on_threads(fields, case, pools):
    selector, before, outcomes = SELECTORS["bait"](**fields, represented=100), torch.get_num_threads(), []
    try:
        for chunk_rows, partitions, threads in ((500, 1, 1), (64, 2, 2), (480, 5, 3)):
            torch.set_num_threads(threads)
            for narrower in ("none", "uniform"):
                outcomes.append(case.run(local(pools[chunk_rows], partitions), selector, narrower))
    finally:
        torch.set_num_threads(before)
    for place in (0, 1):
        assert all(other.same_as(outcomes[place]) for other in outcomes[place::2])
        assert len(set(outcomes[place].picks.ids.tolist())) == 12


@every_form
def test_without_pruning_a_smaller_batch_is_the_beginning_of_a_larger_one(fields, case, pools):
    fleet, selector = local(pools[64], 2), SELECTORS["bait"](**fields, oversample=1)
    whole = case.run(fleet, selector, "none").picks
    for k in (1, 5, 11):
        part = case.run(fleet, selector, "none", k=k).picks
        assert np.array_equal(part.ids, whole.ids[:k])
        assert np.array_equal(part.scores, whole.scores[:k])


def test_pruning_drops_some_of_what_was_picked_first(rows, fleet, candidates):
    """So picks(k) is no prefix of picks(k + 1): the contract of greedy rules does not name bait."""
    first = select(fleet, SELECTORS["bait"](oversample=1), task(rows), 30)
    pruned = select(fleet, SELECTORS["bait"](), task(rows), 15)
    places = [first.ids.tolist().index(id) for id in pruned.ids.tolist()]
    assert places == sorted(places)
    assert places != list(range(15))
    assert np.array_equal(pruned.scores, first.scores[places])
    whole = select(fleet, SELECTORS["bait"](), task(rows), len(candidates) - 3)
    assert len(set(whole.ids.tolist())) == len(candidates) - 3


def test_the_fisher_matrix_of_the_pool_is_a_sum_in_any_order(rows, fleet, tmp_path):
    form = Form.of("exact", Linear.of(random_head(DIM)), 0)
    fleet.reset()
    wanted = form.of_items(rows).total() / N
    found = pool_fisher(fleet, form, 1.0, 0)
    np.testing.assert_allclose(found, wanted, atol=1e-5 * wanted.max())
    turned = local(make_pool(tmp_path / "turned", rows[::-1], chunk_rows=37), 7)
    assert np.array_equal(pool_fisher(turned, form, 1.0, 0), found)


@every_form
def test_bait_does_not_see_the_scale_of_the_features(fields, rows, fleet, candidates, tmp_path):
    given = task(rows)
    picks = select(fleet, SELECTORS["bait"](**fields), given, 20)
    head = given.head
    eight = local(make_pool(tmp_path / "pool", rows * 8))
    eight.each(keep, candidates)
    eight.each(exclude, np.arange(0, N, 17))
    scaled = context_of(head=make_head(head.weight / 8, head.bias), labelled=given.labelled.vectors * 8, key=5)
    assert np.array_equal(select(eight, SELECTORS["bait"](**fields), scaled, 20).ids, picks.ids)


# -- where little is left ---------------------------------------------------------------------------------------------


@every_form
def test_bait_of_a_sure_head_is_a_uniform_draw(fields, rows, fleet, candidates):
    head = make_head(np.zeros((2, DIM)), np.array([1e6, 0.0]))
    picks = select(fleet, SELECTORS["bait"](**fields), task(rows, head=head, key=8), 30)
    order = np.argsort(item_uniform(derive(8, "spare"), candidates))
    assert np.array_equal(picks.ids, candidates[order[:30]])
    assert set(picks.reasons) == {"no information left, uniform"}


@pytest.mark.parametrize(
    ("name", "top", "entry"),
    [
        ("binary", 0, np.exp(-40)),
        ("top_c", 1, 2 * np.exp(-80)),
        ("top_c", 2, 2 * np.exp(-40)),
        ("exact", 0, 2 * np.exp(-40)),
    ],
)
def test_what_a_sure_head_leaves_is_not_rounded_away(name, top, entry):
    """Two outputs 40 apart: 1 - p is e^-40, which is 0 where 1 has been taken from it."""
    roots = Form.of(name, Linear(np.zeros((2, 3)), np.zeros(2)), top).roots(torch.tensor([[40.0], [0.0]]).double())
    np.testing.assert_allclose(float((roots**2).sum()), entry, rtol=1e-12)


@every_form
@pytest.mark.parametrize("weights", ["items", "published"])
def test_a_prior_of_next_to_nothing_leaves_numbers(weights, fields, rows, tmp_path):
    """What a single pick knows: taking it away again divides by what rounding has left of 1 - 1."""
    large = local(make_pool(tmp_path / "pool", rows * 4096))
    given = context_of(head=make_head(random_head(DIM).weight / 4096, np.zeros(5)), labelled=rows[:0], key=1)
    picks = select(large, SELECTORS["bait"](**fields, weights=weights, ridge=1e-9), given, 3)
    assert len(set(picks.ids.tolist())) == 3
    assert np.isfinite(picks.scores).all()
    with pytest.raises(ConfigError, match=r"select.ridge: .* use 1e-09 or more"):
        choice({"name": "bait", "ridge": 1e-12}).build("select", SELECTORS)


@every_form
def test_one_class_leaves_nothing_to_learn(fields, rows, fleet, candidates):
    head = make_head(np.ones((1, DIM)), np.zeros(1))
    picks = select(fleet, SELECTORS["bait"](**fields), task(rows, head=head), 5)
    assert set(picks.reasons) == {"no information left, uniform"}


@pytest.mark.parametrize(
    ("limit", "problem"),
    [
        ("MATRIX_BYTES", r"with 5 classes and 11 features .* 5 matrices of 44 x 44"),
        ("ROW_BYTES", ".* for 376 candidates"),
    ],
)
def test_what_does_not_fit_into_memory_is_refused(limit, problem, rows, fleet, candidates, monkeypatch):
    monkeypatch.setattr(fisher_forms, limit, 2_000)
    with pytest.raises(ConfigError, match=rf"select.fisher: {problem}.*binary"):
        select(fleet, SELECTORS["bait"](fisher="exact"), task(rows), 3)
    assert len(select(fleet, SELECTORS["bait"](), task(rows), 3).ids) == 3


def test_many_classes_of_long_vectors_are_refused_by_themselves():
    head = Linear(np.zeros((100, 2)), np.zeros(100))
    with pytest.raises(ConfigError, match="with 100 classes and 1280 features this takes 5 matrices of 126,720 x"):
        Form.of("exact", head, 0).check_size(1280, 10)
    Form.of("binary", head, 0).check_size(1280, 10**7)
    Form.of("exact", Linear(np.zeros((10, 2)), np.zeros(10)), 0).check_size(1280, 10_000)


def test_arrays_are_picked_from_as_a_pool_is():
    rng = np.random.default_rng(0)
    h = rng.normal(size=(200, 24)) * np.logspace(0, -1, 24)
    p = rng.uniform(0.3, 1, 200)
    v = slow.bait_rows(np.stack([p, np.zeros(200)], 1), h, "binary")
    fisher = slow.information(v) / 200
    precision = np.trace(fisher) / 24 * np.eye(24) + slow.information(v[:20])
    roots = np.sqrt(p * (1 - p))[:, None, None]
    for k, backward in ((1, 0), (20, 0), (5, 20)):
        wanted, _ = slow.bait(v, precision, fisher, k, oversample=(k + backward) / k)
        assert bait_of_rows(roots, h, precision, fisher, k, backward=backward).tolist() == wanted
    with pytest.raises(UserError, match="k: 195 of 200 rows, and 6 to drop"):
        bait_of_rows(roots, h, precision, fisher, 195, backward=6)
    with pytest.raises(UserError, match="not positive definite"):
        bait_of_rows(roots, h, -precision, fisher, 3)
    h[7, 2] = np.nan
    with pytest.raises(UserError, match="item 7: its vector is not finite"):
        bait_of_rows(roots, h, precision, fisher, 2)
