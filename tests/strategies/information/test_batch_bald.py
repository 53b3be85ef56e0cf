"""BatchBALD: the greedy joint information, against the slow version."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference_information as slow
from pools import make_pool, mixture
from posteriors import (
    DIM,
    N,
    covariance_of,
    every_kind,
    every_structure,
    head_of,
    number_head,
    questions,
    task,
)
from programs import context_of, local, make_head
from scenes import scene

from raysal.fleet import keep
from raysal.models.posterior import Shared
from raysal.strategies.base import select
from raysal.strategies.information import mutual_information as joint
from raysal.strategies.information.batch_bald import BatchBald
from raysal.strategies.information.mutual_information import AnswerInformation, greedy_batch
from raysal.strategies.information.posterior_samples import PosteriorSamples

rows, fleet, candidates = scene((mixture(N, DIM, seed=3)[0] * 0.6).astype(np.float16).astype(np.float32))


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
    found = AnswerInformation(x, head, PosteriorSamples(draws, head.likelihood), configurations=4000, fewest=0, key=7)
    few = AnswerInformation(x, head, PosteriorSamples(draws, head.likelihood), configurations=9, fewest=0, key=7)
    for row in batch:
        found.add(row)
        few.add(row)
    assert not found.questions[0].sampled
    np.testing.assert_allclose(found.gains(np.array([0, 5, 9])), exact, rtol=1e-9)
    assert few.questions[0].sampled
    assert len(few.questions[0]) == 40  # one of each draw
    estimates = []
    for key in range(60):
        sampled = AnswerInformation(
            x, head, PosteriorSamples(draws, head.likelihood), configurations=200, fewest=0, key=key
        )
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
        AnswerInformation(x, head, PosteriorSamples(draws, head.likelihood), configurations=50, fewest=0, key=7),
        AnswerInformation(x, head, PosteriorSamples(draws, head.likelihood), configurations=80, fewest=0, key=7),
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
        found = AnswerInformation(
            x, head, PosteriorSamples(draws, head.likelihood), configurations=400, fewest=4, key=7
        )
        return greedy_batch(found, 100, 30)

    picks, gains = run()
    found = AnswerInformation(x, head, PosteriorSamples(draws, head.likelihood), configurations=400, fewest=4, key=7)
    found.add(4)
    whole = found.gains(np.arange(48))
    assert np.array_equal(whole, np.concatenate([found.gains(np.array([row])) for row in range(48)]))
    monkeypatch.setattr(joint, "TILE_BYTES", 1)  # one tile of configurations at a time
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
    assert greedy_batch(Told(), 4, 4) == ([0, 1, 3, 2], [5.0, 0.5, 2.0, 0.8])
    assert greedy_batch(Told(), 4, 3) == ([0, 1, 3], [5.0, 0.5, 2.0])


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
    found = AnswerInformation(
        rows,
        head,
        PosteriorSamples(slow.posterior_draws(head, 30, 1), head.likelihood),
        configurations=200,
        fewest=31,
        key=7,
    )
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
        samples = PosteriorSamples(slow.posterior_draws(head, 30, 1), head.likelihood)
        again = AnswerInformation(rows, head, samples, configurations=200, fewest=31, key=key)
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
    picks = select(fleet, BatchBald(max_candidates=20, draws=30), given, 60)
    p = slow.drawn_probabilities(rows[candidates], slow.posterior_draws(given.head, 30, 5))
    own = [slow.joint_information(p, [row]) for row in range(len(p))]
    order = candidates[np.argsort(-np.array(own), kind="stable")]
    assert sorted(picks.ids[:20].tolist()) == sorted(order[:20].tolist())
    assert np.array_equal(picks.ids[20:], order[20:60])
    assert all("of the 20 best by BALD" in reason for reason in picks.reasons[:20])
    assert set(picks.reasons[20:]) == {"adds nothing to the batch, first by its own information"}
