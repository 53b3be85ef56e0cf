"""What a label says of the posterior: what BatchBALD, EPIG, LDM-S and power_bald share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference_information as slow
from pools import make_pool, mixture
from posteriors import (
    DIM,
    N,
    head_of,
    number_head,
    posterior_of,
    questions,
    task,
)
from programs import local, make_head
from scenes import scene
from threadpoolctl import threadpool_limits

from raysal.errors import PoolError
from raysal.fleet import exclude
from raysal.fleet.partition import Partition
from raysal.models.likelihood import IDENTITY
from raysal.models.posterior import Members, Shared
from raysal.rng import derive, item_uniform
from raysal.strategies import SELECTORS
from raysal.strategies.base import select

rows, fleet, candidates = scene((mixture(N, DIM, seed=3)[0] * 0.6).astype(np.float16).astype(np.float32))
NAMES = ("batch_bald", "epig", "ldm")


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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("link", ["softmax", "sigmoid", "identity"])
def test_a_vector_that_is_not_finite_is_named(name, link, fleet, candidates, monkeypatch):
    whole = Partition.fill

    def spoilt(self, out, wanted):
        whole(self, out, wanted)
        out[np.flatnonzero(self.ids[wanted] == 77)] = np.nan

    monkeypatch.setattr(Partition, "fill", spoilt)
    if (name, link) != ("ldm", "identity"):
        with pytest.raises(PoolError, match="item 77: its vector is not finite"):
            select(fleet, SELECTORS[name](), task(number_head() if link == "identity" else head_of(link=link)), 3)
