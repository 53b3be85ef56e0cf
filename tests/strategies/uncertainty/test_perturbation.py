"""DropQuery and ALFA-Mix: what a disturbed head predicts otherwise is flagged, as written out."""

from __future__ import annotations

import numpy as np
import pytest
import reference_clusters as reference
import torch
from pools import make_pool, mixture
from programs import context_of, local, make_head, random_head

from raysal.rng import derive, item_uniform
from raysal.strategies import SELECTORS
from raysal.strategies.base import select
from raysal.strategies.uncertainty.perturbation import class_means, feature_bits


def task(dim, *, head, labelled=None, classes=(), key=3):
    vectors = np.empty((0, dim), np.float32) if labelled is None else labelled
    return context_of(head=head, labelled=vectors, classes=classes, key=key)


def half(x):
    return x.astype(np.float16).astype(np.float32)


def flags_of(fleet):
    return np.concatenate(fleet.each(lambda part: part.state["flags"][0]))


@pytest.mark.parametrize(("passes", "dropout"), [(3, 0.75), (4, 0.3), (1, 0.5)])
def test_dropquery_flags_as_written_out(passes, dropout, tmp_path):
    x = half(mixture(150, 9)[0])
    head = random_head(9)
    fleet = local(make_pool(tmp_path / "pool", x, chunk_rows=40), 3)
    selector = SELECTORS["drop_query"](passes=passes, dropout=dropout)
    picks = select(fleet, selector, task(9, head=head), 2)
    wanted = reference.mismatches(x, np.arange(150), head.weight, head.bias, derive(3, "dropout", 0), passes, dropout)
    assert np.array_equal(flags_of(fleet), wanted)
    assert 0 < (wanted > 0).mean() < 1
    least = max(passes // 2 + 1, 1)
    while least > 1 and (wanted >= least).sum() < 50:
        least -= 1
    assert (wanted[picks.ids] >= least).all()
    assert all(f"by {least} of {passes}" in reason for reason in picks.reasons)


def test_dropout_hides_its_share_of_the_features():
    bits = feature_bits(5, np.arange(4000), 48, torch.device("cpu")).numpy()
    lanes = np.stack([(bits >> shift) & 0xFFFF for shift in (0, 16, 32, 48)]) / 65536
    assert abs(lanes.mean() - 0.5) < 0.001
    assert abs((lanes < 0.75).mean() - 0.75) < 0.001
    assert abs(np.corrcoef(lanes.reshape(4, -1)) - np.eye(4)).max() < 0.01
    assert abs(np.corrcoef(lanes[0].T) - np.eye(48)).max() < 0.08


def test_more_than_four_passes_draw_more_bits(tmp_path):
    fleet = local(make_pool(tmp_path / "pool", mixture(60, 9)[0]))
    select(fleet, SELECTORS["drop_query"](passes=6), task(9, head=random_head(9)), 2)
    assert flags_of(fleet).max() > 4


@pytest.mark.parametrize("epsilon", [0.05, 0.2, 1.0, 5.0])
def test_alfa_mix_flags_what_the_published_interpolation_flips(epsilon, tmp_path):
    x, names = mixture(200, 9)
    x, head = half(x), random_head(9)
    known = np.array([row for row in range(40) if names[row] != names[0]])  # one class has no labels
    fleet = local(make_pool(tmp_path / "pool", x, chunk_rows=40), 3)
    classes = [names[row] for row in known]
    select(fleet, SELECTORS["alfa_mix"](epsilon=epsilon), task(9, head=head, labelled=x[known], classes=classes), 4)
    anchors = [x[known][np.array(classes) == name].astype(np.float64).mean(0) for name in sorted(set(classes))]
    assert len(anchors) == len(set(names)) - 1
    np.testing.assert_allclose(class_means(x[known], classes), anchors)
    wanted = reference.alfa_flags(x, head.weight, head.bias, anchors, epsilon)
    assert np.array_equal(flags_of(fleet).astype(bool), wanted)
    assert wanted.any()


def test_alfa_mix_takes_what_flips_next_where_too_few_flip(tmp_path):
    x, names = mixture(120, 6)
    x, head = half(x), random_head(6)
    fleet = local(make_pool(tmp_path / "pool", x), 2)
    this = task(6, head=head, labelled=x[:30], classes=names[:30])
    few = select(fleet, SELECTORS["alfa_mix"](epsilon=1e-3), this, 20)
    assert any("next to flip" in reason for reason in few.reasons)
    epsilon = 1e-3
    anchors = class_means(x[:30], names[:30])
    while (wanted := reference.alfa_flags(x, head.weight, head.bias, anchors, epsilon)).sum() < 20:
        epsilon *= 1.1
    assert set(few.ids.tolist()) <= set(np.flatnonzero(wanted).tolist())


@pytest.mark.parametrize("name", ["alfa_mix", "drop_query"])
def test_without_a_flag_the_batch_is_a_uniform_draw_and_says_so(name, tmp_path):
    head = make_head(np.zeros((2, 4)), np.array([1.0, 0.0]))
    fleet = local(make_pool(tmp_path / "pool", mixture(40, 4)[0]), 2)
    picks = select(fleet, SELECTORS[name](), task(4, head=head), 6)
    hashes = item_uniform(derive(3, "spare"), np.arange(40))
    assert picks.ids.tolist() == np.argsort(hashes)[:6].tolist()
    assert all(reason.startswith("not flagged; uniform") for reason in picks.reasons)


def test_with_one_class_nothing_flips_next(tmp_path):
    x, names = mixture(40, 4)
    this = task(4, head=make_head(np.ones((1, 4)), np.zeros(1)), labelled=half(x[:5]), classes=names[:5])
    picks = select(local(make_pool(tmp_path / "pool", x), 2), SELECTORS["alfa_mix"](), this, 6)
    assert all(reason.startswith("not flagged; uniform") for reason in picks.reasons)
