"""BatchBALD, EPIG and LDM-S against slow versions of themselves, and where there is little to select by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference_information as slow
from pools import make_pool, mixture
from programs import context_of, local, make_head, random_head
from threadpoolctl import threadpool_limits

from raysal.errors import ConfigError, PoolError
from raysal.fleet import exclude, keep
from raysal.fleet.partition import Partition
from raysal.models.likelihood import IDENTITY, LIKELIHOODS
from raysal.models.posterior import Diagonal, Full, Kronecker, Members, Shared
from raysal.rng import derive, item_uniform
from raysal.strategies import SELECTORS
from raysal.strategies.base import select
from raysal.strategies.information import mutual_information as joint
from raysal.strategies.information.batch_bald import BatchBald
from raysal.strategies.information.epig import Epig
from raysal.strategies.information.mutual_information import OfClasses, greedy
from raysal.strategies.information.posterior_samples import PosteriorSamples
from raysal.strategies.uncertainty import ldm
from raysal.strategies.uncertainty.ldm import Ldm

N, DIM, CLASSES = 300, 7, 3
NAMES = ("batch_bald", "epig", "ldm")


@pytest.fixture(scope="module")
def rows():
    return (mixture(N, DIM, seed=3)[0] * 0.6).astype(np.float16).astype(np.float32)


@pytest.fixture(scope="module")
def fleet(rows, tmp_path_factory):
    return local(make_pool(tmp_path_factory.mktemp("pool") / "pool", rows, chunk_rows=130), 3)


@pytest.fixture
def candidates(fleet):
    """Ids that may be picked: the pool but every 17th."""
    fleet.reset()
    fleet.each(exclude, np.arange(0, N, 17))
    return np.setdiff1d(np.arange(N), np.arange(0, N, 17))


def posterior_of(structure, width=DIM + 1, classes=CLASSES, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(width, width)) * np.logspace(0, -1, width) / 2
    if structure == "shared":
        return Shared(root=root)
    if structure == "diagonal":
        return Diagonal(precision=rng.uniform(2, 30, (classes, width)), prior=1.0)
    if structure == "kronecker":
        outputs = np.cov(rng.normal(size=(classes, 40))).reshape(classes, classes)
        return Kronecker(inputs=root @ root.T * 200, outputs=outputs, count=40.0, prior=3.0)
    if structure == "full":
        wide = rng.normal(size=(classes * width, classes * width)) / 9
        return Full(root=wide, classes=classes, prior=1.0)
    return Members(weights=rng.normal(size=(9, classes, width)) * 0.5)


every_structure = pytest.mark.parametrize("structure", ["shared", "diagonal", "kronecker", "full", "members"])


def head_of(structure="shared", link="softmax", **fields):
    return replace(random_head(DIM, CLASSES), posterior=posterior_of(structure), likelihood=LIKELIHOODS[link], **fields)


every_kind = pytest.mark.parametrize("link", ["softmax", "sigmoid"])


def questions(x, draws, link):
    return slow.drawn_labels(x, draws) if link == "sigmoid" else [slow.drawn_probabilities(x, draws)]


def number_head(structure="shared", noise=0.5):
    """One output that is a number."""
    head = make_head(np.random.default_rng(1).normal(size=(1, DIM)), np.zeros(1))
    return replace(head, posterior=posterior_of(structure, classes=1), likelihood=IDENTITY, noise=noise)


def task(head, key=5):
    return context_of(head=head, labelled=np.empty((0, DIM), np.float32), key=key)


def covariance_of(x, head):
    """[n, n] of the output, from what the structure says of sums of rows: all that it offers are variances."""
    rows = np.column_stack([x.astype(np.float64), np.ones(len(x))])
    of = head.posterior.variance().of
    own = of(rows)[:, 0]
    sums = of((rows[:, None] + rows[None]).reshape(-1, DIM + 1))[:, 0]
    return (sums.reshape(len(x), len(x)) - own[:, None] - own) / 2


# -- BatchBALD -----------------------------------------------------------------------------------------------


@every_structure
@every_kind
def test_batch_bald_is_the_greedy_joint_information(structure, link, rows, fleet, candidates):
    given = task(head_of(structure, link, temperature=1.3))
    few = candidates[::9]
    fleet.each(keep, few)
    selector = BatchBald(draws=20, configurations=81, fewest=0)
    picks = select(fleet, selector, given, 4)
    wanted, gains = slow.batch_bald(questions(rows[few], slow.posterior_draws(given.head, 20, 5), link), 4)
    assert np.array_equal(picks.ids, few[wanted])
    np.testing.assert_allclose(picks.scores, gains, rtol=1e-8)


def test_sampled_configurations_estimate_the_sum_over_all():
    """Six items of 3 classes: 729 configurations, or 4,000 sampled with ten at most enumerated."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, DIM)).astype(np.float32)
    head = head_of()
    draws = slow.posterior_draws(head, 40, 1)
    p = slow.drawn_probabilities(x, draws)
    batch = [3, 8, 1, 22, 14]
    exact = [slow.joint_information(p, [*batch, row]) - slow.joint_information(p, batch) for row in (0, 5, 9)]
    found = OfClasses(x, head, PosteriorSamples(draws, head.likelihood), 4000, 0, 7)
    few = OfClasses(x, head, PosteriorSamples(draws, head.likelihood), 9, 0, 7)
    for row in batch:
        found.add(row)
        few.add(row)
    assert not found.questions[0].sampled
    np.testing.assert_allclose(found.gains(np.array([0, 5, 9])), exact, rtol=1e-9)
    assert few.questions[0].sampled
    assert len(few.questions[0]) == 40  # one of each draw
    estimates = []
    for key in range(60):
        sampled = OfClasses(x, head, PosteriorSamples(draws, head.likelihood), 200, 0, key)
        for row in batch:
            sampled.add(row)
        assert sampled.questions[0].sampled
        assert len(sampled.questions[0]) == 200
        estimates.append(sampled.gains(np.array([0, 5, 9])))
    spread = np.std(estimates, axis=0) / np.sqrt(60)
    assert (spread < 0.05 * np.array(exact)).all()
    assert (np.abs(np.mean(estimates, axis=0) - exact) < 5 * spread).all()


def test_what_is_sampled_does_not_depend_on_when_the_sampling_began():
    x = np.random.default_rng(0).normal(size=(9, DIM)).astype(np.float32)
    head = head_of()
    draws = slow.posterior_draws(head, 40, 1)
    early, late = (
        OfClasses(x, head, PosteriorSamples(draws, head.likelihood), 50, 0, 7),
        OfClasses(x, head, PosteriorSamples(draws, head.likelihood), 80, 0, 7),
    )
    for row in (1, 4, 0, 5):
        early.add(row)
        late.add(row)
    assert len(early.questions[0]) == len(late.questions[0]) == 80
    assert np.array_equal(early.gains(np.arange(9)), late.gains(np.arange(9)))


def test_a_gain_does_not_depend_on_what_it_is_computed_with(monkeypatch):
    x = np.random.default_rng(0).normal(size=(100, DIM)).astype(np.float32)
    head = head_of()
    draws = slow.posterior_draws(head, 40, 1)

    def run():
        found = OfClasses(x, head, PosteriorSamples(draws, head.likelihood), 400, 4, 7)
        return greedy(found, 100, 30)

    picks, gains = run()
    found = OfClasses(x, head, PosteriorSamples(draws, head.likelihood), 400, 4, 7)
    found.add(4)
    whole = found.gains(np.arange(48))
    assert np.array_equal(whole, np.concatenate([found.gains(np.array([row])) for row in range(48)]))
    monkeypatch.setattr(joint, "HELD_BYTES", 1)  # one tile of configurations at a time
    assert run()[0] == picks
    np.testing.assert_allclose(run()[1], gains, rtol=1e-9)


class Told:
    """Gains by a table: a row for each number of picks. After the second pick they are of a new start."""

    table = np.array([[5.0, 4.0, 3.0, 2.9], [5.0, 0.5, 0.4, 0.3], [5.0, 5.0, 0.9, 2.0], [5.0, 5.0, 0.8, 2.0]])

    def __init__(self):
        self.picks = 0

    def gains(self, rows):
        return self.table[self.picks, rows]

    def add(self, row):
        self.picks += 1
        return self.picks == 2


def test_gains_may_rise_again_when_the_picks_are_known_from_the_start():
    assert greedy(Told(), 4, 4) == ([0, 1, 3, 2], [5.0, 0.5, 2.0, 0.8])
    assert greedy(Told(), 4, 3) == ([0, 1, 3], [5.0, 0.5, 2.0])


def test_copies_add_little_and_neighbours_are_not_picked_together(tmp_path):
    """Ten directions, thirty copies each, the first of them the most informative: top-BALD takes its copies."""
    x = np.repeat(np.eye(10) * np.linspace(3, 2, 10)[:, None], 30, axis=0)
    head = replace(make_head(np.zeros((2, 10)), np.zeros(2)), posterior=Shared(root=np.eye(11)))
    fleet = local(make_pool(tmp_path / "pool", x), 3)
    given = context_of(head=head, labelled=np.empty((0, 10), np.float32), key=2)
    picks = select(fleet, BatchBald(draws=256), given, 10)
    assert len(set((picks.ids // 30).tolist())) >= 9
    other = slow.posterior_draws(head, 500, 77)
    together, copies = (
        slow.joint_information(slow.drawn_probabilities(x[ids], other), list(range(7)))
        for ids in (picks.ids[:7], range(7))
    )
    assert together > 2 * copies


def test_new_draws_go_on_where_the_first_have_nothing_left_to_say(rows, fleet, candidates):
    given = task(head_of())
    whole = select(fleet, BatchBald(draws=30, configurations=200), given, 40)
    part = select(fleet, BatchBald(draws=30, configurations=200), given, 13)
    assert np.array_equal(part.ids, whole.ids[:13])
    assert np.array_equal(part.scores, whole.scores[:13])
    published = select(fleet, BatchBald(draws=30, configurations=200, fewest=0), given, 40)
    assert np.array_equal(published.ids[:2], whole.ids[:2])
    assert whole.scores.sum() > np.log(30) > 0.97 * published.scores.sum()


@every_kind
def test_new_draws_are_of_the_posterior_that_knows_the_picks(link, rows):
    head = head_of(link=link)
    found = OfClasses(rows, head, PosteriorSamples(slow.posterior_draws(head, 30, 1), head.likelihood), 200, 31, 7)
    assert found.add(5)
    assert found.add(9)
    known = np.array([*rows[5].astype(np.float64), 1.0]), np.array([*rows[9].astype(np.float64), 1.0])
    precision = np.linalg.inv(head.posterior.covariance) + sum(np.outer(row, row) for row in known)
    root = np.linalg.cholesky(np.linalg.inv(precision))
    told = replace(head, posterior=Shared(root=root))

    def own(head, draws, key):
        return sum(
            slow.joint_information(p, [0]) for p in questions(rows[[40]], slow.posterior_draws(head, draws, key), link)
        )

    many = [own(told, 30, key) for key in range(60)]
    mine = []
    for key in range(60):
        again = OfClasses(
            rows, head, PosteriorSamples(slow.posterior_draws(head, 30, 1), head.likelihood), 200, 31, key
        )
        again.add(5)
        again.add(9)
        mine.append(again.gains(np.array([40]))[0])
    assert abs(np.mean(mine) - np.mean(many)) < 5 * np.std(mine) / np.sqrt(30)
    assert np.mean(many) < 0.95 * own(head, 4000, 1)


@every_structure
def test_batch_bald_of_numbers_is_the_greedy_determinant(structure, rows, fleet, candidates):
    given = task(number_head(structure))
    candidates = candidates[::4]
    fleet.each(keep, candidates)
    picks = select(fleet, BatchBald(), given, 8)
    covariance = covariance_of(rows[candidates], given.head)
    chosen: list[int] = []
    for id, score in zip(picks.ids, picks.scores, strict=True):
        left = [row for row in range(len(candidates)) if row not in chosen]
        before = slow.gaussian_information(covariance, 0.5, chosen)
        gains = {row: slow.gaussian_information(covariance, 0.5, [*chosen, row]) - before for row in left}
        best = max(left, key=lambda row: (gains[row], -row))
        assert candidates[best] == id
        assert score == pytest.approx(gains[best], rel=1e-6)
        chosen.append(best)


def test_beyond_the_limit_items_follow_by_their_own_information(rows, fleet, candidates):
    given = task(head_of())
    picks = select(fleet, BatchBald(limit=20, draws=30), given, 60)
    p = slow.drawn_probabilities(rows[candidates], slow.posterior_draws(given.head, 30, 5))
    own = [slow.joint_information(p, [row]) for row in range(len(p))]
    order = candidates[np.argsort(-np.array(own), kind="stable")]
    assert sorted(picks.ids[:20].tolist()) == sorted(order[:20].tolist())
    assert np.array_equal(picks.ids[20:], order[20:60])
    assert all("of the 20 best by BALD" in reason for reason in picks.reasons[:20])
    assert set(picks.reasons[20:]) == {"adds nothing to the batch, first by its own information"}


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "identity"])
def test_power_bald_draws_by_what_a_label_says_alone(link, rows, fleet, candidates):
    head = number_head("diagonal") if link == "identity" else head_of("diagonal", link, temperature=1.3)
    picks = select(fleet, SELECTORS["power_bald"](draws=12), task(head), 40)
    x = rows[picks.ids]
    if link == "identity":
        wanted = np.log1p(head.variance(x)[:, 0] / head.noise) / 2
    else:
        several = questions(x, slow.posterior_draws(head, 12, 5), link)
        wanted = [sum(slow.joint_information(p, [row]) for p in several) for row in range(40)]
    found = np.exp(picks.scores + np.log(-np.log(item_uniform(5, picks.ids))))
    np.testing.assert_allclose(found, wanted, rtol=1e-7)


# -- EPIG ----------------------------------------------------------------------------------------------------


@every_structure
@every_kind
def test_epig_is_the_information_on_the_labels_of_targets(structure, link, rows, fleet, candidates):
    given = task(head_of(structure, link, temperature=1.3))
    picks = select(fleet, Epig(targets=20, draws=12), given, 30)
    draws = slow.posterior_draws(given.head, 12, 5)
    targets = candidates[np.argsort(item_uniform(derive(5, "targets"), candidates))[:20]]
    both = zip(questions(rows[candidates], draws, link), questions(rows[targets], draws, link), strict=True)
    wanted = sum(slow.epig(*pair) for pair in both)
    noisy = 2 * np.log(wanted) - np.log(-np.log(item_uniform(5, candidates)))
    np.testing.assert_allclose(picks.scores, noisy[np.searchsorted(candidates, picks.ids)], atol=2e-4)
    np.testing.assert_allclose(picks.scores, np.sort(noisy)[::-1][:30], atol=2e-4)
    part = select(fleet, Epig(targets=20, draws=12), given, 11)
    assert np.array_equal(part.ids, picks.ids[:11])
    assert np.array_equal(part.scores, picks.scores[:11])


@every_structure
def test_epig_of_numbers_is_exact(structure, rows, fleet, candidates):
    given = task(number_head(structure))
    picks = select(fleet, Epig(targets=15), given, 30)
    targets = candidates[np.argsort(item_uniform(derive(5, "targets"), candidates))[:15]]
    both = np.concatenate([rows[picks.ids], rows[targets]])
    covariance = covariance_of(both, given.head)
    variance = np.diag(covariance) + 0.5
    correlation = covariance[:30, 30:] / np.sqrt(np.outer(variance[:30], variance[30:]))
    noise = -np.log(-np.log(item_uniform(5, picks.ids)))
    gains = np.exp((picks.scores - noise) / 2)
    np.testing.assert_allclose(gains, (-np.log(1 - correlation**2) / 2).mean(1), rtol=1e-6)


@pytest.mark.parametrize("name", ["batch_bald", "epig", "power_bald"])
def test_the_information_of_numbers_does_not_depend_on_the_threads_of_numpy(name, tmp_path):
    """Partitions in this process may have several, those in actors have one."""
    x = mixture(120, 128)[0]
    head = make_head(np.ones((1, 128)), np.zeros(1))
    root = np.linalg.qr(np.random.default_rng(0).normal(size=(129, 129)))[0]
    head = replace(head, classes=("value",), posterior=Shared(root=root), likelihood=IDENTITY)
    fleet, found = local(make_pool(tmp_path / "pool", x), 1), []
    for threads in (1, 2, 4):
        with threadpool_limits(threads, user_api="blas"):
            fleet.reset()
            found.append(select(fleet, SELECTORS[name](), task(head), 20))
    for other in found[1:]:
        assert np.array_equal(found[0].ids, other.ids)
        assert np.array_equal(found[0].scores, other.scores)


def test_what_is_unlike_the_pool_is_worth_little_to_epig(rows, tmp_path):
    """One far item, of which the weights alone could be learned: BALD's first pick, not EPIG's."""
    x = np.zeros((200, DIM))
    x[:, :2] = rows[:200, :2]
    x[77] = 0
    x[77, 5] = 20
    head = replace(make_head(np.eye(2, DIM) * 0.01, np.zeros(2)), posterior=Shared(root=np.eye(DIM + 1) * 0.5))
    fleet = local(make_pool(tmp_path / "pool", x))
    assert select(fleet, BatchBald(), task(head), 1).ids.tolist() == [77]
    assert 77 not in select(fleet, Epig(beta=100), task(head), 150).ids


# -- LDM -----------------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize(("patience", "tile"), [(10, 320), (1, 320), (1, 1)])
def test_ldm_is_the_least_over_disturbed_heads(link, patience, tile, rows, fleet, candidates, monkeypatch):
    monkeypatch.setattr(ldm, "COLUMNS", tile)
    few = candidates[::6]
    fleet.each(keep, few)
    given = task(replace(random_head(DIM, CLASSES), likelihood=LIKELIHOODS[link]))
    directions = ldm.directions_of(given.linear(several=True), derive(5, "directions"), 0, 60)
    sizes = 10.0 ** np.linspace(-5, 3, 81)
    several = link == "sigmoid"
    metric, tried = slow.least_disagree_metric(rows[few], given.head.mean, sizes, directions, patience, several)
    assert (tried < 60) == (patience == 1)
    picks = select(fleet, Ldm(directions=60, patience=patience), given, 9)
    place = np.searchsorted(few, picks.ids)
    np.testing.assert_allclose(picks.scores * len(few), metric[place], rtol=1e-12)
    assert picks.ids.tolist() == slow.ldm_seeding(rows[few], few, metric, 9, 5).tolist()


@pytest.mark.parametrize("k", [40, 150])
def test_ldm_weighs_all_others_as_much_as_the_least(k, rows, fleet, candidates):
    given = task(random_head(DIM, CLASSES), key=6)
    directions = ldm.directions_of(given.linear(), derive(6, "directions"), 0, 4)
    metric, _ = slow.least_disagree_metric(
        rows[candidates], given.head.mean, 10.0 ** np.linspace(-5, 3, 81), directions, 9
    )
    picks = select(fleet, Ldm(directions=4), given, k)
    assert picks.ids.tolist() == slow.ldm_seeding(rows[candidates], candidates, metric, k, 6).tolist()
    order = np.lexsort((candidates, metric))
    assert len(np.setdiff1d(picks.ids, candidates[order[:k]])) > 3


def test_directions_are_as_long_as_the_weights_and_a_function_of_their_number():
    linear = task(random_head(DIM, CLASSES)).linear()
    whole = ldm.directions_of(linear, 3, 0, 400)
    assert np.array_equal(whole[7:9], ldm.directions_of(linear, 3, 7, 2))
    size = np.sqrt((random_head(DIM, CLASSES).mean ** 2).mean())
    assert whole.std() == pytest.approx(size, rel=0.05)


def test_ldm_does_not_see_the_scale_of_the_features(rows, fleet, candidates, tmp_path):
    head = random_head(DIM, CLASSES)
    given = task(make_head(head.weight, np.zeros(CLASSES)))
    eight = local(make_pool(tmp_path / "pool", rows[candidates] * 8))
    scaled = task(make_head(head.weight / 8, np.zeros(CLASSES)))
    one = local(make_pool(tmp_path / "one", rows[candidates]))
    picks = select(one, Ldm(directions=20), given, 15)
    again = select(eight, Ldm(directions=20), scaled, 15)
    # The constant feature is not scaled, so the heads differ by what it disturbs.
    assert len(np.intersect1d(picks.ids, again.ids)) > 7


def test_copies_of_picks_come_last_to_ldm(tmp_path):
    x = np.repeat(np.random.default_rng(0).normal(size=(10, DIM)), 4, axis=0)
    picks = select(local(make_pool(tmp_path / "pool", x), 2), Ldm(directions=20), task(random_head(DIM, CLASSES)), 25)
    assert len(set((picks.ids[:10] // 4).tolist())) == 10
    assert all("flips with" in reason for reason in picks.reasons[:10])
    assert set(picks.reasons[10:]) == {"like a pick, or of no weight; uniform"}


# -- all of them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["nothing to learn", "one class", "two candidates"])
def test_heads_that_leave_nothing_to_choose_by(name, kind, rows, fleet, candidates):
    head = head_of()
    if kind == "nothing to learn":
        head = replace(head, posterior=Members(weights=np.repeat(head.mean[None], 5, axis=0)))
    elif kind == "one class":
        head = replace(make_head(np.ones((1, DIM)), np.zeros(1)), posterior=posterior_of("shared"))
    else:
        fleet.each(exclude, candidates[2:])
    count = 2 if kind == "two candidates" else 20
    picks = select(fleet, SELECTORS[name](), task(head), count)
    assert len(set(picks.ids.tolist())) == count
    assert np.isfinite(picks.scores).all()
    if name != "ldm" and kind != "two candidates":
        assert picks.scores.tolist() == [0.0] * 20
        assert all("uniform" in reason for reason in picks.reasons)
        key = derive(5, "spare") if name == "batch_bald" else 5
        assert np.array_equal(picks.ids, candidates[np.argsort(item_uniform(key, candidates))[:20]])


def test_numbers_have_no_class_to_change(fleet, candidates):
    with pytest.raises(ConfigError, match="predicts numbers"):
        select(fleet, Ldm(), task(number_head()), 3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("link", ["softmax", "sigmoid", "identity"])
def test_a_vector_that_is_not_finite_is_named(name, link, fleet, candidates, monkeypatch):
    whole = Partition._fill

    def spoilt(self, out, wanted):
        whole(self, out, wanted)
        out[np.flatnonzero(self.ids[wanted] == 77)] = np.nan

    monkeypatch.setattr(Partition, "_fill", spoilt)
    if (name, link) != ("ldm", "identity"):
        with pytest.raises(PoolError, match="item 77: its vector is not finite"):
            select(fleet, SELECTORS[name](), task(number_head() if link == "identity" else head_of(link=link)), 3)
