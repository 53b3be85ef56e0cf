"""The frame of a head: an affine map, its inverse and its adjoint, against the matrix T written out."""

from __future__ import annotations

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


FRAMES = (Frame.of(labelled()), Frame.of(labelled()).with_constant(0.2), Frame.of(labelled(seed=1)).with_constant(30.0))
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


def test_labels_in_their_frame_are_centred_and_of_total_variance_one_by_their_weights():
    evidence = labelled()
    frame = Frame.of(evidence).with_constant(0.3)
    inside, shares = frame.evidence(evidence), evidence.weights / evidence.weights.sum()
    np.testing.assert_allclose(shares @ inside.features, 0, atol=1e-12)
    assert shares @ np.square(inside.features).sum(axis=1) == pytest.approx(1, rel=1e-12)
    assert (inside.rows[:, -1] == 0.3).all()
    assert np.array_equal(inside.rows[:, :-1], inside.features)
    assert np.array_equal(inside.targets, evidence.targets)
    assert np.array_equal(inside.weights, evidence.weights)
    some = inside.take(np.array([3, 1]))
    assert np.array_equal(some.rows, inside.rows[[3, 1]])
    slow = frame_reference(evidence.features, evidence.weights, 0.09, 1.0)
    np.testing.assert_allclose(matrix_of(frame, D - 1), slow, rtol=1e-12)


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
    here, there = (Frame.of(one).evidence(one).features for one in (evidence, moved))
    np.testing.assert_allclose(there, here, atol=1e-10)


@pytest.mark.parametrize("vector", [[0.0, 0.0], [3.0, 4.0], [1e6, -1e-3], [-7e-20, 0.0]])
def test_features_that_are_all_alike_have_the_size_of_their_length(vector):
    """What rounding leaves of their variance is not their size."""
    weights = np.array([0.1, 0.7, 1.3, 0.3, 0.11])
    evidence = Evidence(features=np.tile(vector, (5, 1)), targets=np.ones((5, 1)), weights=weights)
    frame = Frame.of(evidence)
    assert frame.size == pytest.approx(np.linalg.norm(vector) or 1.0, rel=1e-12)
    assert np.abs(frame.evidence(evidence).features).max() < 1e-14


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"size": 0.0}, "head.frame.size"),
        ({"size": -1.0}, "head.frame.size"),
        ({"size": float("inf")}, "head.frame.size"),
        ({"constant": 0.0}, "head.frame.constant"),
        ({"constant": float("nan")}, "head.frame.constant"),
        ({"centre": np.array([1.0, np.nan])}, "head.frame.centre"),
    ],
)
def test_a_frame_that_cannot_be_is_refused(change, named):
    with pytest.raises(UserError, match=named):
        Frame(**{"centre": np.zeros(2), "size": 1.0, **change})


def test_a_frame_is_a_copy_and_read_only():
    centre = np.zeros(2)
    frame = Frame(centre=centre, size=1.0)
    centre[0] = 5
    assert frame.centre[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        frame.centre[0] = 1
    assert frame.with_constant(2.0).centre is frame.centre
