"""The frame of a head: an affine map, its inverse and its adjoint, against the matrix T written out; and its sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from frames import matrix_of
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_update import frame_reference

from raysal.errors import UserError
from raysal.models.evidence import Evidence, gather_evidence
from raysal.models.frame import Frame

C, D = 3, 5


def labelled(n: int = 12, seed: int = 0) -> Evidence:
    """Weighted labels of features of different size, far from the origin."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, D - 1)) * [1, 3, 0.3, 1] + [5, -2, 0, 40]
    labels = [f"c{k}" for k in rng.integers(3, size=n)]
    return gather_evidence(x, labels, rng.uniform(0.2, 3, size=n), ("c0", "c1", "c2"))


def unlabelled(features: np.ndarray, weights: np.ndarray | None = None) -> Evidence:
    """Features whose labels do not matter."""
    weights = np.ones(len(features)) if weights is None else weights
    return Evidence(features=features, targets=np.ones((len(features), 1)), weights=weights)


def standardised(evidence: Evidence) -> Frame:
    return Frame.isotropic(evidence).standardised(evidence)


FRAMES = (
    standardised(labelled()),
    standardised(labelled()).with_constant(0.2),
    standardised(labelled(seed=1)).with_constant(30.0),
    Frame.isotropic(labelled()),
)
every_rule = pytest.mark.parametrize("rule", [Frame.isotropic, standardised], ids=["isotropic", "standardised"])
every_frame = pytest.mark.parametrize("frame", FRAMES)


@every_frame
def test_every_map_is_the_matrix_or_its_inverse(frame):
    rng, matrix = np.random.default_rng(3), matrix_of(frame, D - 1)
    rows, weights = rng.normal(size=(6, D)), rng.normal(size=(7, C, D))  # rows whose last number is not 1, too
    np.testing.assert_allclose(frame.rows(rows), rows @ matrix.T, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(frame.outside(weights), weights @ matrix, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(frame.outside(weights[0]), weights[0] @ matrix, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(frame.inside(weights), weights @ np.linalg.inv(matrix), rtol=1e-10, atol=1e-10)
    vectors = rng.normal(size=(6, D - 1))
    extended = np.column_stack([vectors, np.ones(6)]) @ matrix.T
    np.testing.assert_allclose(frame.features(vectors), extended[:, :-1], rtol=1e-12, atol=1e-12)


@every_frame
def test_inside_undoes_outside_and_rows_are_their_adjoint(frame):
    rng = np.random.default_rng(4)
    rows, weights = rng.normal(size=(6, D)), rng.normal(size=(C, D))
    np.testing.assert_allclose(frame.inside(frame.outside(weights)), weights, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(frame.outside(frame.inside(weights)), weights, rtol=1e-10, atol=1e-10)
    # An output is the same product on either side, and so is the pull of a gradient on weights.
    np.testing.assert_allclose(rows @ frame.outside(weights).T, frame.rows(rows) @ weights.T, rtol=1e-10, atol=1e-10)
    gradient = rng.normal(size=(C, D))
    pulled = (frame.outside(weights) * gradient).sum(), (weights * frame.rows(gradient)).sum()
    assert pulled[0] == pytest.approx(pulled[1], rel=1e-10)


@every_rule
def test_labels_in_their_frame_are_centred_and_of_total_variance_one_by_their_weights(rule):
    evidence = labelled()
    frame = rule(evidence).with_constant(0.3)
    inside, shares = frame.evidence(evidence), evidence.weights / evidence.weights.sum()
    np.testing.assert_allclose(shares @ inside.features, 0, atol=1e-12)
    assert shares @ np.square(inside.features).sum(axis=1) == pytest.approx(1, rel=1e-12)
    assert (inside.rows[:, -1] == 0.3).all()
    assert np.array_equal(inside.rows[:, :-1], inside.features)
    assert np.array_equal(inside.targets, evidence.targets)
    assert np.array_equal(inside.weights, evidence.weights)
    some = inside.take(np.array([3, 1]))
    assert np.array_equal(some.rows, inside.rows[[3, 1]])
    slow = frame_reference(evidence.features, evidence.weights, 0.09, 1.0, standardised=rule is standardised)
    np.testing.assert_allclose(matrix_of(frame, D - 1), slow, rtol=1e-12)


# -- the size of each feature -----------------------------------------------------------------------------------------

SIGNS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 1.0
"""Columns of mean 0 and standard deviation 1."""


def sizes_of(deviations: list[float]) -> np.ndarray:
    """Of features with these standard deviations, somewhere, if they are standardised."""
    return standardised(unlabelled(SIGNS * deviations + [5, -2, 0.1])).size


def test_standardised_features_are_over_their_deviation_and_all_over_one_number():
    # Over their deviations the three features have the total variance 3.
    np.testing.assert_allclose(sizes_of([2, 4, 9]), np.array([2, 4, 9]) * np.sqrt(3), rtol=1e-12)


def test_a_size_is_a_third_of_the_farthest_distance_at_least():
    # One item of 100 is 100 away: the mean is 1, the deviation the root of 99, the farthest distance 99.
    x = np.zeros((100, 2))
    x[0, 0], x[:50, 1] = 100, 2.0
    sizes = np.array([0.3 * 99, 1.0])
    whole = np.sqrt(99 / (0.3 * 99) ** 2 + 1)
    np.testing.assert_allclose(standardised(unlabelled(x)).size, sizes * whole, rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -7e9])
@pytest.mark.parametrize("count", [1, 40])
def test_columns_that_no_label_shows_to_vary_have_the_median_size_and_change_no_other(value, count):
    # They are not among those of which there is a median: that of 1, 4 and 9 is 4. Beside 7e9 a tenth is rounded away.
    alike = np.full((4, count), value)
    frame = standardised(unlabelled(np.hstack([alike, SIGNS * [1, 4, 9]])))
    np.testing.assert_allclose(frame.size[count:], np.array([1, 4, 9]) * np.sqrt(3), rtol=1e-9)
    np.testing.assert_allclose(frame.size[:count], 4 * np.sqrt(3), rtol=1e-9)
    # An item that differs there is not arbitrarily far away.
    other = np.append(alike[0] + 3, np.zeros(3))
    assert np.abs(frame.features(other[None])[0, :count] - 3 / frame.size[0]).max() < 1e-6


@pytest.mark.parametrize("wide", range(11))
def test_the_unit_of_no_column_is_seen_in_a_standardised_frame(wide):
    rng = np.random.default_rng(1)
    x, units = rng.normal(size=(30, 10)), np.where(np.arange(10) < wide, 1e6, 1.0)
    here, there = (standardised(unlabelled(rows)).features(rows) for rows in (x, x * units))
    np.testing.assert_allclose(there, here, rtol=1e-9)
    assert Frame.isotropic(unlabelled(x * units)).alike(unlabelled(x * units)) == (wide in (0, 10))


def test_what_rounding_leaves_of_a_column_is_no_variance_beside_others_that_vary():
    evidence = labelled()
    alike = np.tile([0.1, 1 / 3, -7e9, 1e6 / 7] * 5, (12, 1))
    shares = evidence.weights / evidence.weights.sum()
    assert ((alike - shares @ alike) != 0).any()
    more = replace(evidence, features=np.hstack([evidence.features, alike]))
    frame, plain = standardised(more), standardised(evidence)
    np.testing.assert_allclose(frame.size[:4], plain.size, rtol=1e-9)
    np.testing.assert_allclose(frame.size[4:], np.median(plain.size), rtol=1e-9)
    assert Frame.isotropic(more).alike(more) == Frame.isotropic(evidence).alike(evidence)


def test_one_feature_that_varies_is_over_its_deviation():
    for column in range(3):
        some = unlabelled(SIGNS * (np.arange(3) == column) * 7 + 2)
        assert standardised(some).size[column] == pytest.approx(7, rel=1e-12)
        assert Frame.isotropic(some).size.tolist() == pytest.approx([7] * 3, rel=1e-12)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 999),
    n=st.integers(2, 20),
    d=st.integers(1, 9),
    decades=st.floats(0, 4),
    alike=st.integers(0, 3),
)
def test_both_rules_are_those_written_out(seed, n, d, decades, alike):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * 10 ** rng.uniform(-decades, decades, size=d)
    x = np.hstack([x, np.zeros((n, alike))])[:, rng.permutation(d + alike)]
    evidence = unlabelled(x, rng.uniform(0.2, 3, size=n))
    for each in (False, True):
        frame = standardised(evidence) if each else Frame.isotropic(evidence)
        slow = frame_reference(x, evidence.weights, 1.0, 1.0, standardised=each)
        np.testing.assert_allclose(matrix_of(frame, d + alike), slow, rtol=1e-9)
        inside = frame.features(x)
        assert evidence.weights @ (inside**2).sum(axis=1) == pytest.approx(evidence.weights.sum(), rel=1e-9)


def test_an_item_of_weight_three_counts_as_three_items():
    x, counts = labelled().features, np.arange(12) % 3 + 1
    weighted, repeated = unlabelled(x, counts * 1.0), unlabelled(np.repeat(x, counts, axis=0))
    for rule in (Frame.isotropic, standardised):
        one, other = rule(weighted), rule(repeated)
        np.testing.assert_allclose(one.size, other.size, rtol=1e-12)
        np.testing.assert_allclose(one.centre, other.centre, rtol=1e-12)
        assert np.abs(rule(weighted).size / rule(unlabelled(x)).size - 1).min() > 1e-3


@pytest.mark.parametrize(
    ("deviations", "alike"),
    [
        ([1, 1, 1], True),
        ([1, 1, 1e-9], False),
        ([1, 2, 3], True),
        ([1, 1, 3], True),
        ([1, 1, 9], False),
        ([1, 30, 30], False),
        ([0, 1, 1], True),
        ([0, 1, 3], True),
        ([0, 1, 9], False),
    ],
)
def test_features_are_alike_if_their_variances_are_not_far_from_their_geometric_mean(deviations, alike):
    """For 1, 1 and 3 the geometric mean of the variances is 9^(1/3) and their mean 11/3: more than a quarter of it.

    Columns that do not vary are not counted.
    """
    for weights in (None, np.array([5.0, 5, 5, 5])):
        evidence = unlabelled(SIGNS * deviations + 3, weights)
        assert Frame.isotropic(evidence).alike(evidence) is alike
        assert standardised(evidence).alike(evidence)


def test_whether_features_are_alike_goes_by_the_weights():
    """Four items whose third feature is wide, and four where it is not, nearly without weight."""
    x = np.vstack([SIGNS * [1, 1, 9], SIGNS])
    for weights, alike in (([1.0] * 8, False), ([1e-6] * 4 + [1.0] * 4, True), ([1.0] * 4 + [1e-6] * 4, False)):
        evidence = unlabelled(x, np.array(weights))
        assert Frame.isotropic(evidence).alike(evidence) is alike


# -- what does not matter, and what is refused ------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    seed=st.integers(0, 999),
    n=st.integers(2, 30),
    unit=st.floats(-30, 30),
    far=st.sampled_from([0.0, 1.0, 1e3]),
    heavy=st.floats(-9, 9),
)
def test_neither_origin_nor_unit_nor_the_scale_of_weights_is_seen_in_it(seed, n, unit, far, heavy):
    evidence = labelled(n, seed)
    away = np.random.default_rng(seed).normal(size=D - 1) * far * np.sqrt(np.trace(np.cov(evidence.features.T)))
    moved = Evidence(
        features=(evidence.features + away) * 10**unit, targets=evidence.targets, weights=evidence.weights * 10**heavy
    )
    for rule in (Frame.isotropic, standardised):
        here, there = (rule(one).evidence(one).features for one in (evidence, moved))
        np.testing.assert_allclose(there, here, atol=1e-10)
    assert Frame.isotropic(moved).alike(moved) == Frame.isotropic(evidence).alike(evidence)


@pytest.mark.parametrize("vector", [[0.0, 0.0], [3.0, 4.0], [1e6, -1e-3], [-7e-20, 0.0]])
@every_rule
def test_features_that_are_all_alike_have_the_size_of_their_length(rule, vector):
    """What rounding leaves of their variance is not their size."""
    weights = np.array([0.1, 0.7, 1.3, 0.3, 0.11])
    evidence = Evidence(features=np.tile(vector, (5, 1)), targets=np.ones((5, 1)), weights=weights)
    frame = rule(evidence)
    assert frame.size.tolist() == pytest.approx([np.linalg.norm(vector) or 1.0] * 2, rel=1e-12)
    assert np.abs(frame.evidence(evidence).features).max() < 1e-14


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"size": 0.0}, "head.frame.size"),
        ({"size": -1.0}, "head.frame.size"),
        ({"size": float("inf")}, "head.frame.size"),
        ({"size": float("nan")}, "head.frame.size"),
        ({"size": np.array([1.0, 0.0])}, "head.frame.size"),
        ({"size": np.array([-1e-9, 1.0])}, "head.frame.size"),
        ({"size": np.array([1.0, np.nan])}, "head.frame.size"),
        ({"size": np.array([np.inf, 1.0])}, "head.frame.size"),
        ({"constant": 0.0}, "head.frame.constant"),
        ({"constant": float("nan")}, "head.frame.constant"),
        ({"centre": np.array([1.0, np.nan])}, "head.frame.centre"),
    ],
)
def test_a_frame_that_cannot_be_is_refused(change, named):
    with pytest.raises(UserError, match=named):
        Frame(**{"centre": np.zeros(2), "size": 1.0, **change})


def test_a_number_stands_for_the_size_of_every_feature():
    frame = Frame(centre=np.array([1.0, 2.0, 3.0]), size=2.5)
    assert frame.size.tolist() == [2.5] * 3
    assert frame.features(np.array([[6.0, 2.0, 0.5]])).tolist() == [[2.0, 0.0, -1.0]]


@pytest.mark.parametrize("size", [np.ones(3), np.ones((2, 2))])
def test_sizes_of_other_features_are_refused(size):
    with pytest.raises(UserError, match=r"head\.frame\.size"):
        Frame(centre=np.zeros(2), size=size)


def test_a_frame_is_a_copy_and_read_only():
    centre = np.zeros(2)
    frame = Frame(centre=centre, size=1.0)
    centre[0] = 5
    assert frame.centre[0] == 0
    for array in (frame.centre, frame.size):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert frame.with_constant(2.0).centre is frame.centre
    assert np.array_equal(frame.with_constant(2.0).size, frame.size)


def test_sizes_are_a_copy():
    size = np.ones(2)
    frame = Frame(centre=np.zeros(2), size=size)
    size[0] = 5
    assert frame.size[0] == 1
