"""The laws of the posterior: what is additive, what can be taken back, and that every structure is the explicit matrix
that it says it is; in float64, against dense inverses."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from functools import partial
from typing import Any

import frames
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysal.errors import ConfigError, LabelError
from raysal.models.frame import Frame
from raysal.models.likelihood import LIKELIHOODS, Curvature
from raysal.models.posterior import Diagonal, Full, Kronecker, Shared, posterior_of, square_root
from raysal.models.posterior.square_root import root_of_inverse

C, D, N = 3, 5, 14
PRIOR = 0.7
LINKS = ("softmax", "sigmoid", "identity")


def spanned(fit: Any, rows: np.ndarray, curvature: Curvature, *args: Any, frame: Frame | None = None) -> Any:
    """A fit in the span of two labels, which has to grow for the others."""
    halves = [
        (rows[own], Curvature(curvature.likelihood, curvature.responses[own], curvature.weights[own]))
        for own in (slice(2), slice(2, None))
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raysal.models.posterior.span.few_rows", lambda n, dim: True)
        first = fit(*halves[0], *args)
    assert first.span.width == min(len(rows), 2) + 1
    whole = first.absorb(*halves[1]) if len(rows) > 2 else first
    assert whole.span.width == min(len(rows), D - 1) + 1
    return dataclasses.replace(whole, frame=frame)


FITS: dict[str, Any] = {
    "shared": Shared.fit,
    "categorical": partial(Shared.fit, weighting="categorical"),
    "diagonal": Diagonal.fit,
    "kronecker": Kronecker.fit,
    "full": Full.fit,
}
FITS |= {f"{kind}, spanned": partial(spanned, fit) for kind, fit in FITS.items() if kind != "diagonal"}
FRAME = Frame(centre=np.array([3.0, -20.0, 0.5, 4.0]), size=np.array([2.5, 4.0, 0.3, 1.1]), constant=0.4)
every_kind = pytest.mark.parametrize("kind", FITS)
every_link = pytest.mark.parametrize("link", LINKS)
every_frame = pytest.mark.parametrize("frame", [None, FRAME], ids=["as they are", "framed"])


def rows_of(n: int, seed: int = 0) -> np.ndarray:
    return np.column_stack([np.random.default_rng(seed).normal(size=(n, D - 1)) * [1, 3, 0.3, 1], np.ones(n)])


def curvature_of(rows: np.ndarray, link: str, weights: np.ndarray | None = None, classes: int = C) -> Curvature:
    """At one mean, whatever the rows."""
    mean = np.random.default_rng(7).normal(size=(classes, D))
    likelihood = LIKELIHOODS[link]
    return Curvature(
        likelihood, likelihood.responses(rows @ mean.T), np.ones(len(rows)) if weights is None else weights
    )


def weights_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + 50).uniform(0.2, 3, size=n)


def matrix_of(frame: Frame | None) -> np.ndarray:
    """T [D, D] of a frame."""
    return frames.matrix_of(frame, D - 1)


def fitted(
    kind: str, link: str, rows: np.ndarray, weights: np.ndarray | None = None, frame: Frame | None = None
) -> Any:
    inside = rows @ matrix_of(frame).T
    return FITS[kind](inside, curvature_of(rows, link, weights), PRIOR, C, frame=frame)


def dense_precision(
    kind: str, link: str, rows: np.ndarray, weights: np.ndarray, frame: Frame | None = None
) -> np.ndarray:
    """[C D, C D] in the frame, label by label, as the docstrings have it; the weights of an output lie together."""
    p = curvature_of(rows, link).responses
    outer = [np.outer(h, h) for h in rows @ matrix_of(frame).T]
    hessians = []
    for q in p:
        if link == "softmax":
            hessians.append(np.diag(q) - np.outer(q, q))
        else:
            hessians.append(np.diag(q * (1 - q)) if link == "sigmoid" else np.eye(C))
    start = PRIOR * np.eye(C * D)
    if kind.startswith(("shared", "categorical")):
        for h, q, m in zip(outer, p, weights, strict=True):
            count = 1.0
            if kind.startswith("categorical") and link != "identity":
                count = max(q) * (1 - max(q)) if link == "softmax" else max(q * (1 - q))
            start = start + m * count * np.kron(np.eye(C), h)
        return start
    if kind.startswith("kronecker"):
        inputs = sum(m * h for m, h in zip(weights, outer, strict=True))
        outputs = sum(m * s for m, s in zip(weights, hessians, strict=True))
        return start + np.kron(outputs, inputs) / weights.sum()
    for h, s, m in zip(outer, hessians, weights, strict=True):
        start = start + m * np.kron(s, h)
    return np.diag(np.diag(start)) if kind == "diagonal" else start


def outside(sigma: np.ndarray, frame: Frame | None, outputs: int = C) -> np.ndarray:
    """A covariance [C D, C D] of weights W over features of the frame, as that of W T, over rows as they are."""
    carry = np.kron(np.eye(outputs), matrix_of(frame))
    return carry.T @ sigma @ carry


def dense_covariance(posterior: Any, outputs: int = C) -> np.ndarray:
    """What `solve` multiplies with."""
    units = np.eye(outputs * D).reshape(-1, outputs, D)
    return np.array([posterior.solve(unit).reshape(-1) for unit in units])


def close(a: np.ndarray, b: np.ndarray, tolerance: float = 1e-9) -> bool:
    return bool(np.abs(a - b).max() <= tolerance * np.abs(b).max())


def alike(a: Any, b: Any, tolerance: float = 1e-9) -> bool:
    return close(dense_covariance(a), dense_covariance(b), tolerance)


# -- every structure is the explicit matrix ---------------------------------------------------------------------------


@every_kind
@every_link
@every_frame
def test_covariance_variance_and_draws_are_those_of_the_explicit_matrix(kind, link, frame):
    rows, weights, probes = rows_of(N), weights_of(N), rows_of(6, seed=3)
    posterior = fitted(kind, link, rows, weights, frame)
    sigma = outside(np.linalg.inv(dense_precision(kind, link, rows, weights, frame)), frame)
    assert close(dense_covariance(posterior), sigma)
    blocks = sigma.reshape(C, D, C, D)
    expected = [[h @ blocks[c, :, c] @ h for c in range(C)] for h in probes]
    assert close(np.broadcast_to(posterior.variance().of(probes), (6, C)), np.array(expected))
    # Draws of unit noise are the columns of a root of the covariance, whatever the noise is.
    mean = np.random.default_rng(1).normal(size=(C, D))
    pushed = (posterior.samples(mean, np.eye(C * D).reshape(-1, C, D)) - mean).reshape(C * D, C * D)
    assert close(pushed.T @ pushed, sigma)
    residual = np.array([0.3, -1.0, 0.7])
    assert close(posterior.row_solver(probes)(2, residual).reshape(-1), sigma @ np.kron(residual, probes[2]))


@every_kind
@every_frame
def test_what_outputs_share_and_the_length_of_a_step_are_of_the_explicit_matrix(kind, frame):
    rows, weights, probes = rows_of(N), weights_of(N), rows_of(6, seed=3)
    posterior = fitted(kind, "softmax", rows, weights, frame)
    if not kind.startswith(("shared", "categorical")):
        assert posterior.covariance is None
        assert posterior.step() is None
        return
    inside = np.linalg.inv(dense_precision(kind, "softmax", rows, weights, frame))
    assert close(posterior.covariance, outside(inside, frame)[:D, :D])
    assert np.array_equal(posterior.covariance, posterior.covariance.T)
    lengths = [np.square(inside[:D, :D] @ matrix_of(frame) @ h).sum() for h in probes]
    assert close(posterior.step().of(probes)[:, 0], np.array(lengths))


@every_kind
@every_frame
def test_a_preconditioner_stays_in_the_frame(kind, frame):
    rows, weights = rows_of(N), weights_of(N)
    posterior = fitted(kind, "softmax", rows, weights, frame)
    gradient = np.random.default_rng(2).normal(size=(C, D))
    inside = np.linalg.inv(dense_precision(kind, "softmax", rows, weights, frame))
    assert close(posterior.preconditioner()(gradient).reshape(-1), inside @ gradient.reshape(-1))


@every_kind
def test_a_frame_survives_every_step(kind):
    posterior, new = fitted(kind, "softmax", rows_of(N), frame=FRAME), rows_of(3, seed=5)
    curvature = curvature_of(new, "softmax")
    wide = posterior.add_classes(1)
    for one in (posterior, posterior.absorb(new, curvature), wide):
        assert one.frame is FRAME
    assert posterior.absorb(new, curvature).retract(new, curvature).frame is FRAME
    again = posterior_of({**posterior.record(), **posterior.arrays()})
    assert matrix_of(again.frame).tolist() == matrix_of(FRAME).tolist()
    assert np.array_equal(dense_covariance(again), dense_covariance(posterior))
    assert "centre" not in fitted(kind, "softmax", rows_of(N)).arrays()


# -- evidence is additive, and can be taken back ----------------------------------------------------------------------


@settings(max_examples=6)
@given(data=st.data(), n=st.integers(1, 9), seed=st.integers(0, 9), frame=st.sampled_from([None, FRAME]))
@every_kind
@every_link
def test_no_split_and_no_order_matters_and_a_fit_of_everything_is_the_same(kind, link, data, n, seed, frame):
    old, new = rows_of(N), rows_of(n, seed + 100)
    weights = weights_of(n, seed)
    order = np.array(data.draw(st.permutations(range(n))))
    parts = np.split(order, sorted(data.draw(st.lists(st.integers(0, n), max_size=3))))
    posterior = fitted(kind, link, old, frame=frame)
    for part in [part for part in parts if len(part)]:
        posterior = posterior.absorb(new[part], curvature_of(new[part], link, weights[part]))
    everything = np.vstack([old, new])
    assert alike(posterior, fitted(kind, link, everything, np.concatenate([np.ones(N), weights]), frame))
    # Back to where it was, in another order.
    for i in np.random.default_rng(seed).permutation(n):
        posterior = posterior.retract(new[[i]], curvature_of(new[[i]], link, weights[[i]]))
    assert alike(posterior, fitted(kind, link, old, frame=frame), 1e-8)


@every_kind
@every_link
def test_absorbing_only_lowers_variances_and_retracting_only_raises_them(kind, link):
    probes, new = rows_of(40, seed=5), rows_of(4, seed=6)
    curvature = curvature_of(new, link)
    before = fitted(kind, link, rows_of(N))
    after = before.absorb(new, curvature)
    if kind.startswith(
        "kronecker"
    ):  # a product of means: what one label adds to one factor, another takes from the other
        after = before.absorb(np.repeat(new, 500, axis=0), curvature_of(np.repeat(new, 500, axis=0), link))
        assert after.variance().of(probes).mean() < before.variance().of(probes).mean()
        return
    assert (after.variance().of(probes) <= before.variance().of(probes) * (1 + 1e-12)).all()
    back = after.retract(new, curvature)
    assert (back.variance().of(probes) >= after.variance().of(probes) * (1 - 1e-12)).all()


@every_kind
@every_link
def test_what_was_never_absorbed_cannot_be_taken_back_and_nothing_changes(kind, link):
    rows = rows_of(N)
    posterior = fitted(kind, link, rows)
    arrays = {f.name: getattr(posterior, f.name) for f in dataclasses.fields(posterior)}
    copies = {name: np.copy(value) for name, value in arrays.items() if isinstance(value, np.ndarray)}
    with pytest.raises(LabelError, match="more evidence is taken back than was absorbed"):
        posterior.retract(rows, curvature_of(rows, link, np.full(N, 30.0)))
    assert all(np.array_equal(getattr(posterior, name), copy) for name, copy in copies.items())


@pytest.mark.parametrize("kind", ["diagonal", "shared", "full", "shared, spanned", "full, spanned"])
@pytest.mark.parametrize("size", [30.0, 1000.0])
def test_an_outlier_can_be_taken_back(kind, size):
    outlier = rows_of(1, seed=8) * size
    before = fitted(kind, "identity", rows_of(N))
    after = before.absorb(outlier, curvature_of(outlier, "identity"))
    assert alike(after.retract(outlier, curvature_of(outlier, "identity")), before, 1e-6)


@every_kind
@every_link
@every_frame
def test_a_new_output_knows_the_prior_and_leaves_the_others_alone(kind, link, frame):
    posterior, probes = fitted(kind, link, rows_of(N), frame=frame), rows_of(6, seed=3)
    wide = posterior.add_classes(2)
    before = np.broadcast_to(posterior.variance().of(probes), (6, C))
    after = np.broadcast_to(wide.variance().of(probes), (6, C + 2))
    assert close(after[:, :C], before)
    if kind.startswith(("shared", "categorical")):
        assert wide is posterior
    else:
        squares = np.square(probes @ matrix_of(frame).T).sum(1)
        assert close(after[:, C:], np.repeat(squares[:, None] / PRIOR, 2, axis=1))
        covariance = dense_covariance(wide, C + 2)
        assert not covariance[: C * D, C * D :].any()


@every_kind
@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_widening_is_a_fit_with_the_class_from_the_start_where_no_label_gave_it_a_chance(kind, link):
    """A class of probability 0 at the mean has no evidence: then to join late is to have been there."""
    rows = rows_of(N)
    narrow = curvature_of(rows, link)
    with_class = Curvature(LIKELIHOODS[link], np.column_stack([narrow.responses, np.zeros(N)]), narrow.weights)
    wide = FITS[kind](rows, narrow, PRIOR, C).add_classes(1)
    whole = FITS[kind](rows, with_class, PRIOR, C + 1)
    assert close(dense_covariance(wide, C + 1), dense_covariance(whole, C + 1))
    # And from there on they stay the same.
    more = rows_of(4, seed=9)
    seen = curvature_of(more, link, classes=C + 1)
    assert close(dense_covariance(wide.absorb(more, seen), C + 1), dense_covariance(whole.absorb(more, seen), C + 1))
    # And what came before is taken back after.
    back = Curvature(LIKELIHOODS[link], with_class.responses[:4], with_class.weights[:4])
    never = FITS[kind](rows[4:], curvature_of(rows[4:], link), PRIOR, C).add_classes(1)
    assert close(dense_covariance(wide.retract(rows[:4], back), C + 1), dense_covariance(never, C + 1))


# -- roots ------------------------------------------------------------------------------------------------------------


def exact_inverse(matrix: list[list[Fraction]]) -> np.ndarray:
    """By Gauss-Jordan over the rationals, as an array of them."""
    n = len(matrix)
    rows = [[*row, *(Fraction(int(i == j)) for j in range(n))] for i, row in enumerate(matrix)]
    for i in range(n):
        pivot = next(j for j in range(i, n) if rows[j][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for j in range(n):
            if j != i and rows[j][i]:
                rows[j] = [a - rows[j][i] * b for a, b in zip(rows[j], rows[i], strict=True)]
    return np.array([row[n:] for row in rows], object)


def exact_covariance(groups: list[tuple[np.ndarray, np.ndarray]], prior: float) -> np.ndarray:
    """(prior I + Σ evidence h hᵀ)⁻¹ without any rounding, over groups of (rows, evidence)."""
    size = groups[0][0].shape[1]
    total = [[Fraction(prior) * int(i == j) for j in range(size)] for i in range(size)]
    for rows, evidence in groups:
        for h, e in zip(rows.tolist(), evidence.tolist(), strict=True):
            for i in range(size):
                for j in range(size):
                    total[i][j] += Fraction(e) * Fraction(h[i]) * Fraction(h[j])
    return exact_inverse(total)


def graded(n: int, size: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, size)) * 10.0 ** rng.integers(-5, 5, size=(n, 1))


NEW = {
    "one": lambda: rows_of(1, 2)[:, :4],
    "more rows than features": lambda: rows_of(11, 2)[:, :4],
    "copies": lambda: np.repeat(rows_of(2, 2)[:, :4], 4, axis=0),
    "graded": lambda: graded(3, 4),
    "graded copies of many": lambda: np.vstack([graded(5, 4, 3), graded(5, 4, 3)]),
    "huge": lambda: rows_of(3, 2)[:, :4] * 1e7,
    "tiny": lambda: rows_of(3, 2)[:, :4] * 1e-9,
    "zero": lambda: np.zeros((2, 4)),
}


@pytest.mark.parametrize("name", NEW)
def test_shrinking_is_the_exact_inverse(name):
    old, new = rows_of(6)[:, :4], NEW[name]()
    evidence = np.random.default_rng(4).uniform(0.5, 2, size=len(new))
    root = root_of_inverse(old, np.ones(6), PRIOR)
    assert close(root @ root.T, exact_covariance([(old, np.ones(6))], PRIOR).astype(float), 1e-12)
    after = square_root.update(root, new, evidence)
    exact = exact_covariance([(old, np.ones(6)), (new, evidence)], PRIOR)
    assert close(after @ after.T, exact.astype(float), 1e-9)
    # Also along the new rows, where next to nothing is left of a huge variance.
    for h in new:
        precise = np.array([Fraction(value) for value in h.tolist()], object)
        assert np.square(after.T @ h).sum() == pytest.approx(float(precise @ exact @ precise), rel=1e-7, abs=1e-300)


def test_rows_out_of_all_proportion_are_absorbed_one_by_one():
    """Their squares differ by more than float64 has digits: together they would not be positive definite."""
    old, new = rows_of(6)[:, :4], rows_of(3, 2)[:, :4] * np.array([[1e12], [1e8], [1.0]])
    twins = np.vstack([new, new])
    after = square_root.update(root_of_inverse(old, np.ones(6), PRIOR), twins, np.ones(6))
    exact = exact_covariance([(old, np.ones(6)), (twins, np.ones(6))], PRIOR)
    assert close(after @ after.T, exact.astype(float), 1e-9)


@pytest.mark.parametrize("name", ["one", "more rows than features", "copies", "tiny", "zero"])
def test_growing_undoes_shrinking(name):
    old, new = rows_of(6)[:, :4], NEW[name]()
    root = root_of_inverse(old, np.ones(6), PRIOR)
    again = square_root.downdate(square_root.update(root, new, np.ones(len(new))), new, np.ones(len(new)))
    assert close(again @ again.T, root @ root.T, 1e-9)


def test_taking_out_nearly_all_there_is_says_so():
    old, new = rows_of(6)[:, :4], rows_of(1, 2)[:, :4] * 1e6
    after = square_root.update(root_of_inverse(old, np.ones(6), PRIOR), new, np.ones(1))
    with pytest.raises(LabelError, match=r"nearly all that is known .* fit anew"):
        square_root.downdate(after, new, np.ones(1))
    with pytest.raises(LabelError, match="more evidence is taken back"):
        square_root.downdate(after, new, np.full(1, 2.0))


@pytest.mark.parametrize("prior", [1e-13, 1e-17, 1e-300])
def test_a_prior_too_weak_for_features_that_repeat_is_refused(prior):
    rows = rows_of(20)
    twins = np.column_stack([rows[:, :2], rows[:, :2], np.zeros(20), np.ones(20)])
    with pytest.raises(ConfigError, match=r"l2.*too weak"):
        root_of_inverse(twins, np.ones(20), prior)
    root = root_of_inverse(twins, np.ones(20), 1e-6)
    precision = twins.T @ twins + 1e-6 * np.eye(6)
    assert close(precision @ (root @ root.T), np.eye(6), 1e-7)
